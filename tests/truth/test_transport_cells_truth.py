"""Cells in closed form: half spaces, quadrants, a grid; the coverage of their error bars; W2 of discrete measures."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm

from brenier.measures import Discrete, Gaussian, UniformBall, UniformCube
from brenier.transport import BrenierPotential, cells, wasserstein2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def voronoi(y):
    return BrenierPotential(y, -0.5 * y.square().sum(1))


def by_pair(c):
    """Facet masses and shares by the unordered pair of their cells."""
    pairs = [tuple(sorted(pair)) for pair in c.facets.tolist()]
    assert len(set(pairs)) == len(pairs)
    return dict(zip(pairs, zip(c.facet_masses.tolist(), c.facet_shares.tolist(), strict=True), strict=True))


@pytest.mark.parametrize("dim", [1, 2, 5, 9])
@pytest.mark.parametrize("level", [0.0, 0.8])
def test_half_spaces_of_a_gaussian(dim, level):
    """{x_1 > z} has mass Φ(−z), centroid λ e_1, radius² d + zλ − λ², its facet mass φ(z), with λ = φ(z)/Φ(−z)."""
    y = torch.zeros(2, dim, dtype=torch.float64)
    y[:, 0] = torch.tensor([3.0, 1.0])
    u = BrenierPotential(y, torch.tensor([-2 * level, 0.0], dtype=torch.float64))
    c = cells(u, Gaussian(dim), generator=seeded())
    mass, mills = norm.cdf(-level), norm.pdf(level) / norm.cdf(-level)
    assert abs(c.masses[0].item() - mass) <= 5 * c.masses_sem[0].item()
    assert c.masses.sum().item() == pytest.approx(1, abs=1e-12)
    error = 1 / math.sqrt(c.samples / (8 if dim >= 8 else 1) * mass)
    assert abs(c.centroids[0, 0].item() - mills) <= 5 * error
    assert c.centroids[0, 1:].abs().sum() <= 5 * error * dim
    assert c.radii[0].item() == pytest.approx(math.sqrt(dim + level * mills - mills**2), rel=0.03)
    (facet, share) = by_pair(c)[0, 1]
    assert facet == pytest.approx(norm.pdf(level), rel=0.1)
    assert share == 1


@pytest.mark.parametrize("radius", [1.0, 4.0])
def test_half_disks(radius):
    """The diameter has mass 2r/(πr²), a half disk the centroid 4r/3π and the radius² r²/2 − (4r/3π)²."""
    u = voronoi(torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64))
    c = cells(u, UniformBall(2, radius), generator=seeded())
    arm = 4 * radius / (3 * math.pi)
    assert c.centroids[:, 0].tolist() == pytest.approx([-arm, arm], rel=0.01)
    assert c.radii.tolist() == pytest.approx([math.sqrt(radius**2 / 2 - arm**2)] * 2, rel=0.01)
    assert by_pair(c)[0, 1][0] == pytest.approx(2 / (math.pi * radius), rel=0.05)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (10.0, 14.0)])
def test_quadrants_of_a_square(low, high):
    """Masses ¼, centroids at the middles; arms of length ½ side have mass 1/(2 side), diagonals meet in a point: 0."""
    side, middle = high - low, (low + high) / 2
    y = middle + torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    c = cells(voronoi(y), UniformCube(2, low, high), 300_000, seeded())
    assert ((c.masses - 0.25).abs() <= 5 * c.masses_sem).all()
    assert torch.allclose(c.centroids, middle + (y - middle) * side / 4, atol=0.01 * side)
    found = by_pair(c)
    for pair in [(0, 1), (0, 2), (1, 3), (2, 3)]:
        assert found[pair][0] == pytest.approx(1 / (2 * side), rel=0.1)
    for pair in [(0, 3), (1, 2)]:
        assert found.get(pair, (0, 0))[0] <= 0.05 / side


def test_a_grid_of_squares():
    """Of 5 × 5 squares in the unit square each has mass 1/25, and each of the 40 inner edges mass 1/5."""
    tick = (torch.arange(5, dtype=torch.float64) + 0.5) / 5
    y = torch.cartesian_prod(tick, tick)
    c = cells(voronoi(y), UniformCube(2), samples=400_000, generator=seeded())
    edges = {(i, j) for i in range(25) for j in (i + 1, i + 5) if j < 25 and (j == i + 5 or j % 5)}
    found = {pair: mass for pair, (mass, _) in by_pair(c).items()}
    assert edges <= set(found)
    assert all(found[pair] == pytest.approx(0.2, rel=0.25) for pair in edges)
    assert sum(found[pair] for pair in edges) == pytest.approx(8, rel=0.03)
    assert sum(mass for pair, mass in found.items() if pair not in edges) <= 0.5
    assert torch.allclose(c.centroids, y, atol=0.003)
    assert c.facet_shares.sum().item() == pytest.approx(1, abs=1e-12)


def test_facets_are_pairs_in_order():
    """facets hold i < j, whatever the order of the targets."""
    y = torch.randn(30, 2, dtype=torch.float64, generator=seeded(1)) * 0.5
    c = cells(voronoi(y), Gaussian(2), samples=20_000, generator=seeded())
    assert (c.facets[:, 0] < c.facets[:, 1]).all()


@pytest.mark.parametrize("dim", [2, 9])
def test_error_bars_of_masses_cover(dim):
    """Quadrants of two coordinates have mass ¼: two error bars cover it about 19 times in 20, paired or not."""
    y = torch.zeros(4, dim, dtype=torch.float64)
    y[:, :2] = torch.tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    u, generator, z = BrenierPotential(y, torch.zeros(4, dtype=torch.float64)), seeded(), []
    for _ in range(30):
        c = cells(u, Gaussian(dim), samples=8192, generator=generator)
        z.append((c.masses - 0.25) / c.masses_sem)
    z = torch.cat(z)
    assert 0.87 <= (z.abs() <= 2).double().mean() <= 0.995
    assert 0.8 <= z.std() <= 1.3


def test_at_least_as_many_samples_are_drawn_as_asked_for():
    for asked in (1000, 50_001):
        c = cells(voronoi(torch.randn(5, 3, generator=seeded())), Gaussian(3), samples=asked, generator=seeded())
        assert asked <= c.samples <= asked + 32 * 256  # blocks are made of whole batches of pairs


def test_one_cell_is_everything():
    c = cells(BrenierPotential(torch.ones(1, 2), torch.ones(1)), UniformCube(2), samples=4096, generator=seeded())
    assert c.masses.tolist() == [1]
    assert c.masses_sem.tolist() == [0]
    assert c.facets.shape == (0, 2)
    assert c.facet_masses.shape == c.facet_shares.shape == (0,)
    assert torch.allclose(c.centroids, torch.full((1, 2), 0.5), atol=0.03)


@pytest.mark.parametrize("kind", ["moved", "line", "split"])
def test_wasserstein_distances_of_points(kind):
    """W2(a, a + v) = |v|; sorted points match on a line; splitting an atom changes nothing."""
    y = torch.randn(40, 1 if kind == "line" else 3, dtype=torch.float64, generator=seeded())
    a = Discrete(y)
    if kind == "moved":
        assert wasserstein2(a, Discrete(y + torch.tensor([2.0, -1.0, 2.0]))) == pytest.approx(3)
    elif kind == "line":
        z = torch.randn(40, 1, dtype=torch.float64, generator=seeded(1)) * 2
        gap = y.sort(0).values - z.sort(0).values
        assert wasserstein2(a, Discrete(z)) == pytest.approx(gap.square().mean().sqrt().item())
    else:
        halves = Discrete(torch.cat([y, y]), torch.full((80,), 1 / 80))
        assert wasserstein2(a, halves) == pytest.approx(0, abs=1e-6)


def test_wasserstein_is_a_distance():
    a, b, c = (Discrete(torch.randn(m, 2, generator=seeded(m))) for m in (10, 15, 20))
    assert wasserstein2(a, a) == pytest.approx(0, abs=1e-6)
    assert wasserstein2(a, b) == pytest.approx(wasserstein2(b, a))
    assert wasserstein2(a, c) <= wasserstein2(a, b) + wasserstein2(b, c)


def test_wasserstein_to_one_point_is_the_root_mean_square_distance():
    y = torch.randn(10, 2, dtype=torch.float64, generator=seeded())
    weights = torch.linspace(0, 1, 10, dtype=torch.float64) / 5
    expected = (weights @ (y - 4).square().sum(1)).sqrt().item()
    assert wasserstein2(Discrete(y, weights), Discrete([[4.0, 4.0]])) == pytest.approx(expected)
