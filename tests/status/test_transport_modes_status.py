"""Sets that hardly have a density: few targets, equal ones, a line, one row a mode."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import brenier
from brenier.measures import Gaussian
from brenier.transport import BrenierPotential, cells, singular_set


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def split(y, weights=None):
    u = BrenierPotential(y, -0.5 * y.square().sum(1))
    return singular_set(u, Gaussian(y.shape[1]), cells(u, Gaussian(y.shape[1]), 4096, seeded()), seeded(), weights)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 21, 22])
def test_few_targets_are_one_mode_at_every_level(n):
    s = split(torch.randn(n, 2, generator=seeded(n), dtype=torch.float64) * 0.3)
    for level in (None, math.inf):
        assert s.tree.modes(level).tolist() == [0] * n
    assert s.parts.tolist() == s.modes.tolist() == [0] * n


def test_equal_targets_are_one_basin():
    s = singular_set(BrenierPotential(torch.ones(9, 2), torch.zeros(9)), Gaussian(2), generator=seeded())
    assert s.tree.basin.tolist() == [0] * 9
    assert s.tree.peak.tolist() == [0]
    assert s.tree.prominence.tolist() == [math.inf]


def test_targets_on_a_line_in_space_are_one_mode():
    y = torch.randn(200, 1, generator=seeded(2), dtype=torch.float64) * torch.tensor([[1.0, 2.0, -1.0]])
    assert split(y.double() / 4).modes.max() == 0


def test_rows_far_apart_make_no_modes_of_one():
    """A twentieth of the targets a thousand times as far out: none of them is a mode of its own."""
    y = torch.randn(200, 2, generator=seeded(3), dtype=torch.float64) * 0.3
    y[::20] *= 20
    s = split(y)
    assert s.modes.bincount().min() > 5


def test_duplicates_weigh_as_one():
    """Three copies of each target of one blob: the same tree as with three times the weight."""
    y = torch.randn(300, 2, generator=seeded(4), dtype=torch.float64) * 0.3
    y[150:, 0] += 1.5
    copies = torch.cat([y, y[150:], y[150:]])
    weights = torch.ones(300, dtype=torch.float64)
    weights[150:] = 3
    u, v = (BrenierPotential(p, -0.5 * p.square().sum(1)) for p in (y, copies))
    source = Gaussian(2)
    once = singular_set(u, source, cells(u, source, 1 << 16, seeded()), seeded(), weights / weights.sum())
    found = cells(v, source, 1 << 16, seeded())
    thrice = singular_set(v, source, found, seeded())
    if (found.masses > 0).all():
        assert torch.allclose(thrice.tree.prominence, once.tree.prominence)
        assert torch.equal(thrice.modes[:300], once.modes)
    assert torch.equal(thrice.modes[150:300], thrice.modes[300:450])


def test_a_mode_of_a_level_and_its_bad_values(tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 2))
    x[::2, 0] += 4.5
    model = brenier.AEOT(chart="identity", max_samples=20_000).fit(x)
    assert (model.modes() == model.modes_).all()
    assert model.modes_.max() == 1
    assert (model.modes(np.inf) == model.singular_.parts.numpy()).all()
    assert model.modes(0).max() >= 1
    for level in (-1, float("nan")):
        with pytest.raises(ValueError, match=rf"level must be None or at least 0, got {level}"):
            model.modes(level)
    loaded = brenier.load(model.save(tmp_path / "m"))
    for level in (None, 0, 2.5, np.inf):
        assert (loaded.modes(level) == model.modes(level)).all()
    assert torch.equal(loaded.singular_.parts, model.singular_.parts)
    one = model.draw(200, mode=1)
    assert (model.modes_[model.cells_of(one)] == 1).all()
