"""Laws of transport by exact cells: monotone maps, symmetries, duplicates, precision, starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier.measures import Discrete, GridDensity, UniformBall, UniformCube, UniformPolytope
from brenier.solution import Status
from brenier.transport import BrenierPotential, cells, solve

TOL = 1e-9  # of the masses: heights are known as well, up to the stiffness of the cells


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def wide(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def shares(n=60):
    nu = torch.linspace(1, 4, n, dtype=torch.float64)
    return nu / nu.sum()


def solved(y, nu=None, source=None, **options):
    s = solve(source or UniformCube(y.shape[1]), Discrete(y, nu), **{"tol": TOL, **options})
    assert s.status is Status.SOLVED
    return s


def turn(d):
    return torch.linalg.qr(wide(d, d, seed=7)).Q


CORNERS = {
    2: torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64),
    3: torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64),
}
ROUGH = GridDensity(torch.rand(4, 5, dtype=torch.float64, generator=seeded(2)))
SOURCES = [UniformCube(1), UniformCube(2), UniformCube(3), UniformBall(2), UniformPolytope(CORNERS[3]), ROUGH]
everywhere = pytest.mark.parametrize("source", SOURCES, ids=lambda s: f"{type(s).__name__}-{s.dim}")
in_planes_and_space = pytest.mark.parametrize("d", [2, 3])


# --- what every optimal map is


@everywhere
def test_the_map_is_monotone(source):
    """<T(x) − T(z), x − z> ≥ 0; and <y_i − y_j, c_i − c_j> > 0 for the centroids c of any two cells."""
    y = wide(60, source.dim)
    s = solved(y, shares(), source)
    x = source.sample(400, seeded(3)).double()
    moved = s.potential.gradient(x)
    for a, b, least in ((moved, x, -1e-12), (y, cells(s.potential, source).centroids, 1e-9)):
        product = ((a[:, None] - a) * (b[:, None] - b)).sum(2)
        product.fill_diagonal_(1.0)
        assert product.min() >= least


@everywhere
def test_a_constant_moves_no_cell(source):
    """Up to the rounding of the heights, 4e-15, over the gap between two targets."""
    s = solved(wide(60, source.dim), shares(), source)
    u = s.potential
    a, b = (cells(v, source) for v in (u, BrenierPotential(u.points, u.heights + 17.5)))
    assert torch.allclose(a.masses, b.masses, rtol=0, atol=1e-10)
    assert torch.allclose(a.centroids, b.centroids, rtol=0, atol=1e-9)
    assert torch.equal(a.facets, b.facets)


@everywhere
def test_heights_have_mean_zero_over_the_weights(source):
    s = solved(wide(60, source.dim), shares(), source)
    assert abs((shares() @ s.potential.heights).item()) <= 1e-14


# --- symmetries


@everywhere
def test_permuting_targets_permutes_heights(source):
    y, order = wide(60, source.dim), torch.randperm(60, generator=seeded(3))
    a, b = solved(y, shares(), source), solved(y[order], shares()[order], source)
    assert torch.allclose(b.potential.heights, a.potential.heights[order], rtol=0, atol=1e-8)
    assert b.cost.mean == pytest.approx(a.cost.mean, rel=1e-8)
    found = cells(b.potential, source).centroids
    assert torch.allclose(found, cells(a.potential, source).centroids[order], rtol=0, atol=1e-7)


@in_planes_and_space
@pytest.mark.parametrize("scale", [1e-3, 1000.0])
def test_scaling_targets_scales_heights(d, scale):
    """u'(x) = s u(x)."""
    a, b = solved(wide(60, d), shares()), solved(scale * wide(60, d), shares())
    assert torch.allclose(b.potential.heights, scale * a.potential.heights, rtol=0, atol=1e-8 * scale)


@in_planes_and_space
@pytest.mark.parametrize("scale", [1e-3, 1000.0])
def test_scaling_the_source_scales_heights(d, scale):
    """u'(x) = s u(x/s); with targets scaled, too, W2² scales by s²."""
    y = wide(60, d)
    a, b = solved(y, shares()), solved(y, shares(), UniformCube(d, 0.0, scale))
    both = solved(scale * y, shares(), UniformCube(d, 0.0, scale))
    assert torch.allclose(b.potential.heights, scale * a.potential.heights, rtol=0, atol=1e-8 * scale)
    assert both.cost.mean == pytest.approx(scale**2 * a.cost.mean, rel=1e-8)


@in_planes_and_space
@pytest.mark.parametrize(("there", "here"), [(50.0, 0.0), (0.0, -30.0), (20.0, 20.0)])
def test_moving_targets_or_source_tilts_the_potential(d, there, here):
    """Targets + b, source + a: h'_i = h_i − <a, y_i> + const; W2² grows by 2 <a − b, E x − E T> + |a − b|²."""
    y, nu, ones = wide(60, d), shares(), torch.ones(d, dtype=torch.float64)
    a, b = solved(y, nu), solved(y + there, nu, UniformCube(d, here, 1 + here))
    tilted = a.potential.heights - here * y @ ones
    assert torch.allclose(b.potential.heights, tilted - nu @ tilted, rtol=0, atol=1e-8)
    grown = 2 * (here - there) * (0.5 * ones - nu @ y).sum() + d * (here - there) ** 2
    assert b.cost.mean == pytest.approx(a.cost.mean + grown.item(), rel=1e-9)


@in_planes_and_space
def test_turning_source_and_targets_changes_no_height(d):
    """u'(x) = u(Rᵀx), and cells turn, too."""
    y, r = wide(60, d), turn(d)
    plain, turned = UniformPolytope(CORNERS[d]), UniformPolytope(CORNERS[d] @ r.T)
    a, b = solved(y, shares(), plain), solved(y @ r.T, shares(), turned)
    assert torch.allclose(b.potential.heights, a.potential.heights, rtol=0, atol=1e-8)
    assert b.cost.mean == pytest.approx(a.cost.mean, rel=1e-8)
    found = cells(a.potential, plain).centroids @ r.T
    assert torch.allclose(cells(b.potential, turned).centroids, found, rtol=0, atol=1e-7)


def test_a_disk_turns_freely():
    """Its polygon has so many sides that they are not seen: 1e-6 of its radius."""
    y, r = wide(60, 2), turn(2)
    a, b = solved(y, shares(), UniformBall(2)), solved(y @ r.T, shares(), UniformBall(2))
    assert torch.allclose(b.potential.heights, a.potential.heights, rtol=0, atol=1e-6)


@in_planes_and_space
def test_duplicates_share_one_cell(d):
    """A target split in two, or more, keeps its cell: the parts have one height and equal parts of its mass."""
    y, nu = wide(60, d), shares()
    twice = torch.cat([y, y[:20], y[:5]])
    weights = torch.cat([nu, nu[:20] / 2, nu[:5] / 4])
    weights[:20] /= 2
    weights[:5] /= 2
    a, b = solved(y, nu), solved(twice, weights)
    assert torch.allclose(b.potential.heights[:60], a.potential.heights, rtol=0, atol=1e-9)
    assert torch.equal(b.potential.heights[60:80], b.potential.heights[:20])
    assert torch.equal(b.potential.heights[80:], b.potential.heights[:5])
    assert b.cost.mean == pytest.approx(a.cost.mean, rel=1e-9)
    found = cells(b.potential, UniformCube(d))
    assert torch.equal(found.masses[60:80], found.masses[:20])
    assert torch.equal(found.masses[80:], found.masses[:5])
    assert (found.facets < 60).all()


@in_planes_and_space
def test_targets_of_weight_zero_change_nothing(d):
    """Their cells are empty, wherever they lie."""
    y = torch.cat([wide(60, d), wide(50, d, seed=2), 100 * wide(10, d, seed=3)])
    nu = torch.cat([shares(), torch.zeros(60, dtype=torch.float64)])
    a, b = solved(y[:60], nu[:60]), solved(y, nu)
    assert torch.allclose(b.potential.heights[:60], a.potential.heights, rtol=0, atol=1e-12)
    assert b.cost.mean == pytest.approx(a.cost.mean, rel=1e-12)
    assert b.potential.heights.isfinite().all()
    found = cells(b.potential, UniformCube(d))
    assert (found.masses[60:] == 0).all()
    assert (found.masses[:60] / shares() - 1).abs().max() <= 2 * TOL


# --- numbers


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("n", [100, 1000])
def test_single_precision_targets_get_exact_heights(d, n):
    """Targets stay as they are, bit for bit; float64 heights give masses to 1e-6, as float32 ones could not."""
    y = torch.rand(n, d, generator=seeded(4))
    s = solved(y, tol=1e-6)
    u = s.potential
    exact = cells(BrenierPotential(y.double(), u.heights), UniformCube(d)).masses
    rounded = cells(BrenierPotential(y.double(), u.heights.float().double()), UniformCube(d)).masses
    assert u.points.dtype == torch.float32
    assert torch.equal(u.points, y)
    assert u.heights.dtype == torch.float64
    assert (n * exact - 1).abs().max() <= 1.1e-6
    assert (n * rounded - 1).abs().max() > 1e-6


@everywhere
def test_the_same_question_has_the_same_answer(source):
    """Bit for bit, whatever the state of the random numbers, which is left alone."""
    y, nu = wide(60, source.dim), shares()
    first = solved(y, nu, source)
    torch.rand(3)
    before = torch.random.get_rng_state()
    again = solved(y, nu, source, generator=seeded(9))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(again.potential.heights, first.potential.heights)
    assert (again.cost, again.relrms, again.samples) == (first.cost, first.relrms, 0)
    assert [c["error"] for c in again.history[1:]] == [c["error"] for c in first.history[1:]]


def test_input_is_left_alone():
    y, nu = wide(60, 2), shares()
    target = Discrete(y.clone(), nu.clone())
    solve(UniformCube(2), target)
    assert torch.equal(target.points, y)
    assert torch.equal(target.weights, nu)


# --- starts


@everywhere
@pytest.mark.parametrize("lift", [0.0, 5.0])
def test_a_solution_is_its_own_warm_start(source, lift):
    """One check, no step, and heights that stay, whatever constant was added to them."""
    y, nu = wide(60, source.dim), shares()
    s = solved(y, nu, source, tol=1e-9)
    start = BrenierPotential(y, s.potential.heights + lift)
    again = solved(y, nu, source, tol=1e-6, start=start)
    assert len(again.history) == 2
    assert torch.allclose(again.potential.heights, s.potential.heights, rtol=0, atol=1e-12)


@in_planes_and_space
def test_new_weights_from_an_old_solution(d):
    y = wide(60, d)
    cold = solved(y, shares())
    warm = solved(y, shares(), start=solved(y).potential)
    assert torch.allclose(warm.potential.heights, cold.potential.heights, rtol=0, atol=1e-8)


@in_planes_and_space
@pytest.mark.parametrize("kind", ["flat", "one takes all", "far"])
def test_a_start_with_empty_cells_is_replaced(d, kind):
    y, nu = wide(60, d), shares()
    h = torch.zeros(60, dtype=torch.float64)
    if kind == "one takes all":
        h[7] = 1e6
    if kind == "far":  # Voronoi cells of targets, most of them outside of the cube
        h = -0.5 * y.square().sum(1)
    start = BrenierPotential(y, h)
    assert len(start.cell(UniformCube(d).sample(200_000, seeded())).unique()) < 60
    s = solved(y, nu, start=start)
    assert torch.allclose(s.potential.heights, solved(y, nu).potential.heights, rtol=0, atol=1e-8)


def test_a_start_whose_cells_lie_in_the_dark_is_replaced():
    """The faint light that falls there, so that cells have neighbours, is no mass to start from."""
    values = torch.zeros(9, 9)
    values[:2, :2] = values[6:, 6:] = 1
    y = torch.rand(200, 2, dtype=torch.float64, generator=seeded(4))
    everywhere = solved(y, source=UniformCube(2))
    s = solve(GridDensity(values), Discrete(y), start=everywhere.potential)
    assert s.status is Status.SOLVED


@in_planes_and_space
def test_a_start_with_a_tiny_cell_converges(d):
    """A cell of 1e-9 of its mass: steps stay short until it has grown."""
    y = torch.rand(100, d, dtype=torch.float64, generator=seeded(5))
    h = -0.5 * y.square().sum(1)
    low, high, i = -1.0, 0.0, int((y - 0.5).square().sum(1).argmin())
    for _ in range(60):  # bisects the height at which the cell vanishes
        h[i] = -0.5 * y[i].square().sum() + (low + high) / 2
        mass = cells(BrenierPotential(y, h), UniformCube(d)).masses[i].item()
        if 0 < mass <= 1e-11:
            break
        low, high = (low, (low + high) / 2) if mass > 0 else ((low + high) / 2, high)
    assert 0 < mass <= 1e-11
    s = solved(y, start=BrenierPotential(y, h))
    assert torch.allclose(s.potential.heights, solved(y).potential.heights, rtol=0, atol=1e-8)


def test_history_tells_every_step():
    """Errors, steps and seconds; the last error is the one within tol."""
    s = solved(wide(60, 2), shares(), tol=1e-6)
    assert s.history[0]["method"] == "newton"
    checks = s.history[1:]
    assert all({"error", "step", "seconds"} <= set(check) for check in checks)
    assert all(0 < check["step"] <= 1 for check in checks)
    assert (np.diff([check["seconds"] for check in checks]) >= 0).all()
    errors = [check["error"] for check in checks]
    assert errors[-1] <= 1e-6 < min(errors[:-1])
