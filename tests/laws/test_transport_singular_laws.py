"""The singular set finds the gaps, and knows neither unit, place, turn nor order."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from brenier import data
from brenier.measures import Discrete, Gaussian
from brenier.transport import BrenierPotential, cells, singular_set, solve
from brenier.transport.neighbours import neighbours


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


SETS = {
    "ring": (data.ring, 400),
    "grid": (data.grid, 1000),
    "eleven_blobs": (data.eleven_blobs, 800),
    "spiral": (data.spiral, 3000),
}


@functools.cache
def potential(name):
    make, n = SETS[name]
    samples = make(n, generator=seeded(1))
    y = torch.as_tensor(samples.values)
    u = solve(Gaussian(y.shape[1]), Discrete(y), tol=0.2, max_samples=100_000, generator=seeded()).potential
    return u, samples.labels


def verdict(u, source=None, seed=2):
    source = source or Gaussian(u.dim)
    return singular_set(u, source, cells(u, source, 40_000, seeded(seed)), seeded(seed))


@functools.cache
def singular(name):
    return verdict(potential(name)[0])


def facets(s):
    return {tuple(sorted(pair)) for pair in s.facets.tolist()}


class Turned:
    """The standard Gaussian, turned sample by sample."""

    def __init__(self, turn):
        self.turn, self.dim = turn, len(turn)

    def sample(self, m, generator=None):
        return Gaussian(self.dim).sample(m, generator).double() @ self.turn.T

    def moments(self):
        return Gaussian(self.dim).moments()


@pytest.mark.parametrize(("name", "modes"), [("ring", 8), ("grid", 25), ("eleven_blobs", 11), ("spiral", 1)])
def test_modes_are_those_that_made_the_set(name, modes):
    """As many modes as were drawn, each pure, the heaviest first."""
    s, (_, labels) = singular(name), potential(name)
    found = s.modes.numpy()
    assert found.max() + 1 == modes
    if modes > 1:
        assert len(set(zip(found, labels, strict=True))) == modes
    sizes = np.bincount(found)
    assert sizes.min() > 0
    assert sizes.argmax() == 0 or sizes[0] >= 0.8 * sizes.max()


@pytest.mark.parametrize("name", ["ring", "grid", "eleven_blobs"])
def test_facets_between_modes_are_singular_and_hardly_any_within(name):
    s, (u, labels) = singular(name), potential(name)
    found = cells(u, Gaussian(u.dim), 40_000, seeded(2))
    i, j = found.facets.T
    labels = torch.as_tensor(labels)
    cut = torch.tensor([tuple(sorted(pair)) in facets(s) for pair in found.facets.tolist()])
    across = labels[i] != labels[j]
    assert cut[across].all()
    assert cut[~across].double().mean() <= 0.02


def test_a_spiral_is_one_mode_with_cuts_between_its_arms():
    """Singular facets inside one mode: they join points that are far apart along the curve, near in the plane."""
    s, u = singular("spiral"), potential("spiral")[0]
    make, n = SETS["spiral"]
    arc = torch.as_tensor(make(n, generator=seeded(1)).truth["coordinates"])[:, 0]
    assert len(s.facets) > 20
    found = cells(u, Gaussian(2), 40_000, seeded(2))
    far = (arc[found.facets[:, 0]] - arc[found.facets[:, 1]]).abs() >= 3
    cut = torch.tensor([tuple(sorted(pair)) in facets(s) for pair in found.facets.tolist()])
    assert cut[far].double().mean() >= 0.95


@pytest.mark.parametrize("name", list(SETS))
@pytest.mark.parametrize(("scale", "shift"), [(0.1, 0.0), (1000.0, -20000.0)])
def test_units_and_place_change_no_verdict(name, scale, shift):
    u, _ = potential(name)
    a = singular(name)
    moved = BrenierPotential(scale * u.points + shift, scale * u.heights)
    b = verdict(moved)
    assert facets(b) == facets(a)
    assert torch.equal(b.modes, a.modes)
    assert b.threshold == pytest.approx(a.threshold)
    assert torch.allclose(b.spacing, scale * a.spacing)
    assert b.mass == pytest.approx(a.mass, abs=1e-3)


@pytest.mark.parametrize("name", ["ring", "eleven_blobs"])
def test_a_turn_changes_no_verdict(name):
    u, _ = potential(name)
    turn = torch.linalg.qr(torch.randn(u.dim, u.dim, dtype=torch.float64, generator=seeded(7))).Q
    a = verdict(u, Turned(torch.eye(u.dim, dtype=torch.float64)))
    b = verdict(BrenierPotential(u.points @ turn.T, u.heights), Turned(turn))
    assert facets(b) == facets(a)
    assert len(set(zip(a.modes.tolist(), b.modes.tolist(), strict=True))) == a.modes.max() + 1 == b.modes.max() + 1


def test_order_changes_no_verdict():
    u, _ = potential("ring")
    a, order = singular("ring"), torch.randperm(400, generator=seeded(3))
    b = verdict(BrenierPotential(u.points[order], u.heights[order]))
    assert {tuple(sorted(order[list(pair)].tolist())) for pair in facets(b)} == facets(a)
    assert torch.equal(b.modes, a.modes[order])


@pytest.mark.parametrize("seed", range(3))
def test_cells_that_no_sample_enters_break_nothing(seed):
    """Their planes may still be second highest: verdicts stay scale-free, their mode is that of what is near."""
    y = torch.randn(200, 2, dtype=torch.float64, generator=seeded(seed))
    h, right = -0.5 * y.square().sum(1), y[:, 0].argsort(descending=True)[1:12]
    h[right] -= 0.3 * torch.rand(11, dtype=torch.float64, generator=seeded(seed))
    u = BrenierPotential(y, h)
    a, b = verdict(u), verdict(BrenierPotential(1000 * y, 1000 * h))
    assert (cells(u, Gaussian(2), 40_000, seeded(2)).masses == 0).any()
    assert facets(a) == facets(b)
    assert a.modes.tolist() == b.modes.tolist() == [0] * 200
    assert torch.allclose(b.spacing, 1000 * a.spacing)


def test_weight_zero_and_duplicates_belong_to_the_mode_they_lie_in():
    samples = data.ring(300, generator=seeded(1))
    y = torch.as_tensor(samples.values)
    labels = torch.as_tensor(samples.labels)
    extra = torch.arange(0, 300, 10)
    every = torch.cat([y, y[extra], y[extra] + 0.001])
    weights = torch.full((360,), 1 / 330, dtype=torch.float64)
    weights[330:] = 0
    u = solve(Gaussian(2), Discrete(every, weights), max_samples=100_000, generator=seeded()).potential
    s = singular_set(u, Gaussian(2), generator=seeded(2))
    pairs = set(zip(s.modes.tolist(), torch.cat([labels, labels[extra], labels[extra]]).tolist(), strict=True))
    assert len(pairs) == 8
    assert torch.equal(s.modes[300:330], s.modes[extra])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_targets_are_one_mode(n, dtype):
    y = torch.randn(n, 2, generator=seeded(n), dtype=torch.float64).to(dtype)
    s = singular_set(BrenierPotential(y, -0.5 * y.square().sum(1)), Gaussian(2), generator=seeded())
    assert s.modes.tolist() == [0] * n
    assert s.facets.shape[1] == 2


def test_all_targets_equal_are_one_mode():
    s = singular_set(BrenierPotential(torch.ones(9, 2), torch.zeros(9)), Gaussian(2), generator=seeded())
    assert s.modes.tolist() == [0] * 9
    assert s.facets.shape == (0, 2)
    assert s.mass == (0.0, 0.0)


def test_one_gaussian_has_no_gap():
    y = torch.randn(500, 2, dtype=torch.float64, generator=seeded(1))
    u = solve(Gaussian(2), Discrete(y), generator=seeded()).potential
    s = singular_set(u, Gaussian(2), generator=seeded(2))
    assert s.modes.unique().tolist() == [0]
    assert s.mass.mean <= 0.03


@pytest.mark.parametrize("n", [2, 30, 700])
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_neighbours_are_the_nearest(n, offset):
    y = torch.randn(n, 3, dtype=torch.float64, generator=seeded(n)) + offset
    near, distance = neighbours(y, 5)
    k = min(5, n - 1)
    every = torch.cdist(y, y, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    expected = every.topk(k, largest=False)
    assert torch.equal(near, expected.indices)
    assert torch.allclose(distance, expected.values)
