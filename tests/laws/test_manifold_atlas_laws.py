"""What every atlas obeys."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier import data
from brenier.manifold.atlas import atlas, local_linear


@pytest.fixture(scope="module")
def found():
    return atlas(data.torus(900, generator=torch.Generator().manual_seed(0)).values, 2, max_charts=12)


def test_weights_are_a_partition_of_unity_inside_the_charts(found):
    assert found.weights.min() >= 0
    assert found.weights.sum(1) == pytest.approx(np.ones(900))
    for c, chart in enumerate(found.charts):
        assert set(np.flatnonzero(found.weights[:, c])) <= set(chart.samples)


def test_growth_stops_at_the_most_charts_and_says_so(found):
    assert len(found.charts) == 12
    assert not found.verified
    assert "not verified" in str(found)
    assert "raise max_charts" in str(found)


def test_transitions_come_in_pairs(found):
    pairs = {(t.first, t.second): t.shared for t in found.transitions}
    assert all(pairs[b, a] == shared for (a, b), shared in pairs.items())


def test_distances_decide_whatever_the_scale_and_place():
    x = data.sphere(500, generator=torch.Generator().manual_seed(0)).values
    first, second = atlas(x, 2), atlas(64 * x + 8, 2)
    assert len(first.charts) == len(second.charts)
    assert first.error == pytest.approx(second.error, rel=1e-6)


def test_the_error_falls_with_the_square_of_the_gap():
    errors = []
    for n in (300, 2700):
        rng = np.random.default_rng(0)
        z = rng.uniform(-1, 1, (n, 2))
        x = np.concatenate([z, np.square(z).sum(1, keepdims=True)], 1)
        back = local_linear(z, x, 0.8 * z[:300])
        errors.append(np.abs(back[:, 2] - np.square(0.8 * z[:300]).sum(1)).mean())
    assert np.log(errors[0] / errors[1]) / np.log(3) == pytest.approx(2, abs=0.3)


def test_local_fits_are_continuous():
    rng = np.random.default_rng(0)
    a = rng.random((200, 2))
    b = np.sin(5 * a)
    t = np.linspace(0.2, 0.8, 6001)
    path = local_linear(a, b, np.stack([t, 0.3 + 0.4 * t], 1))
    assert np.abs(np.diff(path, axis=0)).max() < 5e-3


def test_tensors_give_tensors():
    x = data.sphere(300, generator=torch.Generator().manual_seed(0)).values
    found = atlas(torch.from_numpy(x).float(), 2)
    chart, codes = found.encode(torch.from_numpy(x[:5]).float())
    assert (chart.dtype, codes.dtype, codes.shape) == (torch.int64, torch.float32, (5, 2))
    assert found.decode(chart, codes).dtype == torch.float32
