from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier.measures import UniformCube, UniformPolytope
from brenier.transport import BrenierPotential, cells
from brenier.transport.diagram import both_ways, diagram, second_shares
from brenier.transport.domain import Domain
from brenier.transport.polygons import envelope

CORNERS = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
SQUARE = Domain.box([0.0, 0.0], [1.0, 1.0])
TRIANGLE = Domain.of(UniformPolytope(CORNERS))


def cut(y, h, domain):
    found = diagram(y, h, domain)
    return found, second_shares(y, h, domain, both_ways(found.facets))


def planes(kind, n=300, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.random((n, 2))
    if kind == "clusters":
        y = 0.01 * y + np.where(np.arange(n) % 2 == 0, 0.1, 0.8)[:, None]
    if kind == "on a line":
        y = np.linspace(-0.2, 1.2, n)[:, None] * [1.0, 0.5] + 0.2
    h = -0.5 * np.square(y).sum(1)
    return y, h + 2e-3 * rng.normal(size=n) if kind == "hidden" else h


@pytest.mark.parametrize("domain", [SQUARE, TRIANGLE], ids=["square", "triangle"])
@pytest.mark.parametrize("kind", ["voronoi", "clusters", "on a line", "hidden"])
def test_cells_tile_the_domain_and_hold_what_samples_say(kind, domain):
    y, h = planes(kind)
    found, shares = cut(y, h, domain)
    x = np.random.default_rng(1).dirichlet(np.ones(3), 100_000) @ CORNERS
    area = 1.0
    if domain is SQUARE:
        x = np.random.default_rng(1).random((100_000, 2))
    own = (x @ y.T + h).argmax(1)
    counted = np.bincount(own, minlength=len(y)) / len(x)
    assert found.masses.sum() == pytest.approx(area, abs=1e-13)
    assert np.abs(counted - found.masses).max() <= 5 * np.sqrt(found.masses.max() / len(x))
    assert found.masses[counted > 0].min() > 0
    middle, spread = (1 / 2, 2 / 3) if domain is SQUARE else (np.array([2 / 3, 1 / 3]), 5 / 6)
    np.testing.assert_allclose(found.first.sum(0), middle, atol=1e-13)
    assert found.second.sum() == pytest.approx(spread, abs=1e-13)
    assert abs(found.facets - found.facets.T).max() <= 1e-12
    several = found.facets.sum(1) > 0
    np.testing.assert_allclose(shares.sum(1)[several], found.masses[several], atol=1e-13)


def test_a_lattice_has_equal_cells_and_four_sides():
    side = np.arange(20) / 20 + 1 / 40
    y = np.stack(np.meshgrid(side, side), 2).reshape(-1, 2)
    found = diagram(y, -0.5 * np.square(y).sum(1), SQUARE)
    np.testing.assert_allclose(found.masses, 1 / 400, atol=1e-15)
    np.testing.assert_allclose(found.first * 400, y, atol=1e-12)
    assert found.facets.sum() == pytest.approx(2 * 2 * 19)


def test_facets_are_the_derivative_of_masses():
    y, h = planes("voronoi", 80)
    found, step = diagram(y, h, SQUARE), 1e-6
    for i in (3, 40):
        up, down = (diagram(y, h + sign * step * (np.arange(80) == i), SQUARE).masses for sign in (1, -1))
        slopes = -found.facets[[i]].toarray()[0] / np.linalg.norm(y - y[i], axis=1).clip(min=1e-300)
        slopes[i] = -slopes.sum()
        np.testing.assert_allclose((up - down) / (2 * step), slopes, atol=1e-6)


def test_on_a_line_the_kinks_of_the_envelope_end_the_cells():
    y, h = np.array([[2.0], [-1.0], [0.0], [0.5], [2.0]]), np.array([-1.0, -0.5, 0.0, -9.0, -3.0])
    found, shares = cut(y, h, Domain.box([-2.0], [1.0]))
    np.testing.assert_allclose(found.masses, [0.5, 1.5, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(found.first[:, 0], [0.375, -1.875, 0.0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(found.second.sum(), 3.0)
    np.testing.assert_allclose(found.facets.toarray()[2], [1, 1, 0, 0, 0])
    meet = 1 / 6  # of the first plane and the second
    np.testing.assert_allclose(shares.toarray()[2], [0.5 - meet, 0.5 + meet, 0, 0, 0])
    assert envelope(y[:, 0], h).tolist() == [1, 2, 0]


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_exact_cells_agree_with_sampled_ones(dim, scale):
    y = scale * torch.randn(60, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.cat([y, y[:2]])
    source = UniformCube(dim, -1.0, 3.0)
    u = BrenierPotential(y, -0.5 * y.square().sum(1) / scale)
    exact, sampled = cells(u, source), cells(u, source, 200_000, torch.Generator().manual_seed(1))
    assert exact.samples == np.inf
    assert not exact.masses_sem.any()
    assert exact.masses.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert exact.masses[0] == exact.masses[60]
    assert ((exact.masses - sampled.masses).abs() <= 5 * sampled.masses_sem + 2e-5).all()
    large = exact.masses > 0.01
    assert (exact.centroids - sampled.centroids)[large].abs().max() <= 0.05
    assert (exact.radii - sampled.radii)[large].abs().max() <= 0.05
    if dim == 1:
        np.testing.assert_allclose(exact.facet_masses, 1 / 4)
    assert (exact.facet_masses > 0).all()
    assert exact.facet_shares.sum().item() == pytest.approx(1.0, abs=1e-12)
