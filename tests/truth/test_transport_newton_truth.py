"""Transport by exact cells: quantiles on a line, published costs, lattices, orders of convergence, what samples say."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from brenier.measures import Discrete, GridDensity, UniformBall, UniformCube, UniformPolytope
from brenier.solution import Status
from brenier.transport import BrenierPotential, cells, solve
from brenier.transport.diagram import diagram
from brenier.transport.domain import Domain
from brenier.transport.newton import Exact


def rng(seed=0):
    return np.random.default_rng(seed)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def lattice(m, d):
    """The centres of m^d equal boxes of the unit cube."""
    tick = (np.arange(m) + 0.5) / m
    return np.stack(np.meshgrid(*[tick] * d, indexing="ij"), -1).reshape(-1, d)


def islands():
    """Two squares of light, far apart in the dark."""
    values = np.zeros((9, 9))
    values[:2, :2] = values[6:, 6:] = 1
    return GridDensity(values)


def dark(*shape):
    """Boxes of random density, about half of them dark."""
    values = rng(5).random(shape)
    return GridDensity(np.where(values < 0.5, 0, values), low=-1.0, high=2.0)


DISK, TRIANGLE = UniformBall(2, 2.0), UniformPolytope([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
TETRAHEDRON = UniformPolytope([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
SQUARE, CUBE, GREY = UniformCube(2), UniformCube(3), GridDensity(rng(1).random((5, 4)) + 0.1)
STEPS = GridDensity([0.2, 1.0, 0.0, 3.0, 0.5], low=-1.0, high=4.0)
SHAPES = {"disk": DISK, "triangle": TRIANGLE, "tetrahedron": TETRAHEDRON, "grey": GREY}
PATCHES = {"dark": dark(6, 7), "dark boxes": dark(3, 4, 5), "islands": islands()}


def named(sources):
    return pytest.mark.parametrize("source", list(sources.values()), ids=list(sources))


# --- on a line


def steps(source):
    """The edges (p + 1,) of a line's boxes, and the density (p,) in each."""
    if isinstance(source, UniformCube):
        return np.array([source.low, source.high]), np.array([1 / (source.high - source.low)])
    return np.linspace(source.low.item(), source.high.item(), len(source.values) + 1), source.density.numpy()


def integral(source, f, a, b):
    """∫ f' ρ from a to b, for the antiderivative f, box by box."""
    edges, density = steps(source)
    ends = edges.clip(a, b)
    return float(density @ np.diff(f(ends)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("source", [UniformCube(1), UniformCube(1, -3.0, 5.0), STEPS], ids=["unit", "long", "steps"])
def test_on_a_line_cells_lie_between_quantiles(source, weighted):
    """W_i = [F⁻¹(N_(i−1)), F⁻¹(N_i)], N the sums of nu by rising y; W2² = Σ_i ∫ (x − y_i)² ρ dx over W_i."""
    y = rng(1).normal(size=40)
    nu = rng(2).random(40) + 0.1 if weighted else np.ones(40)
    nu /= nu.sum()
    s = solve(source, Discrete(y[:, None], nu))
    order, (edges, density) = np.argsort(y), steps(source)
    mass = np.append(0, np.cumsum(density * np.diff(edges)))
    ends = np.interp(np.append(0, np.cumsum(nu[order])), mass, edges)
    pairs = list(pairwise(ends))
    cost = sum(integral(source, lambda x, i=i: (x - y[i]) ** 3 / 3, *pairs[k]) for k, i in enumerate(order))
    middle = [integral(source, lambda x: x**2 / 2, *pair) for pair in pairs] / nu[order]
    found = cells(s.potential, source)
    assert s.status is Status.SOLVED
    assert s.cost.mean == pytest.approx(cost, rel=1e-9)
    np.testing.assert_allclose(found.masses, nu, rtol=1e-9)
    np.testing.assert_allclose(found.centroids[order, 0], middle, atol=1e-9)
    np.testing.assert_allclose(np.diff(s.potential.heights[order]), -ends[1:-1] * np.diff(y[order]), atol=1e-9)
    x = source.sample(3000, seeded()).double().numpy()
    away = np.abs(x - ends).min(1) > 1e-6
    assert (s.potential.cell(x)[away] == order[np.searchsorted(ends, x[away, 0]) - 1]).all()


# --- costs that are known


@pytest.mark.parametrize(("n", "d", "cost"), [(1000, 2, 9.568923e-4), (10_000, 2, 1.458241e-4), (1000, 3, 5.023049e-3)])
def test_published_costs(n, d, cost):
    """Of uniform targets in the unit cube, as other programs have them."""
    s = solve(UniformCube(d), Discrete(rng(0).random((n, d))), tol=1e-6)
    assert s.status is Status.SOLVED
    assert s.cost.mean == pytest.approx(cost, rel=1e-6)


@pytest.mark.parametrize(("m", "d"), [(12, 2), (5, 3)])
@pytest.mark.parametrize("warm", [False, True])
def test_a_lattice_has_equal_boxes(m, d, warm):
    """Voronoi cells of centres of boxes are the boxes, at once from h = −|y|²/2; W2² = d/(12 m²)."""
    y = lattice(m, d)
    voronoi = BrenierPotential(torch.from_numpy(y), -0.5 * torch.from_numpy(y).square().sum(1))
    s = solve(UniformCube(d), Discrete(y), tol=1e-9, start=voronoi if warm else None)
    found = cells(s.potential, UniformCube(d))
    assert s.status is Status.SOLVED
    assert len(s.history) == 2 if warm else len(s.history) <= 10
    assert s.cost.mean == pytest.approx(d / (12 * m * m), rel=1e-9)
    np.testing.assert_allclose(found.masses, m**-d, rtol=2e-9)
    np.testing.assert_allclose(found.centroids, y, atol=1e-9)
    np.testing.assert_allclose(found.radii, math.sqrt(d / 12) / m, rtol=1e-6)


@named({"square": SQUARE, "cube": CUBE} | SHAPES | {"dark": PATCHES["dark"]})
def test_the_dual_value_is_the_cost(source):
    """∫ (|x|² − 2u) dmu + Σ nu_i (|y_i|² + 2 h_i) = W2²."""
    y = rng(3).normal(size=(100, source.dim))
    nu = rng(4).random(100) + 0.2
    nu /= nu.sum()
    s = solve(source, Discrete(y, nu), tol=1e-10)
    h, domain = s.potential.heights.numpy(), Domain.of(source)
    found = diagram(y, h, domain)
    u = (found.first * y).sum() + found.masses @ h
    dual = (found.second.sum() - 2 * u) / domain.mass + nu @ (np.square(y).sum(1) + 2 * h)
    assert s.status is Status.SOLVED
    assert dual == pytest.approx(s.cost.mean, rel=1e-9)


@pytest.mark.parametrize("start", ["own", "flat"])
@pytest.mark.parametrize("method", ["newton", "lbfgs"])
@named({"square": SQUARE, "cube": CUBE, "grey": GREY})
def test_rough_answers_have_true_costs(source, method, start):
    """E|x − T(x)|² = Σ_i mu(W_i) (|c_i − y_i|² + r_i²), centroids c and radii r; relrms² = Σ (mu(W_i) − nu_i)²/nu_i;
    W2² lies between the bounds, also where cells are empty.
    """
    y = rng(16).random((50, source.dim)) + 3
    flat = BrenierPotential(torch.from_numpy(y), torch.zeros(50, dtype=torch.float64))
    s = solve(source, Discrete(y), method, tol=60.0, start=flat if start == "flat" else None)
    found = cells(s.potential, source)
    seen, mass = found.masses > 0, found.masses.numpy()
    paid = (found.centroids - torch.from_numpy(y)).square().sum(1) + found.radii.square()
    assert s.status is Status.SOLVED
    assert s.cost.mean == pytest.approx((found.masses[seen] @ paid[seen]).item(), rel=1e-9)
    assert s.relrms.mean == pytest.approx(np.sqrt(50 * np.square(mass - 1 / 50).sum()), rel=1e-9)
    assert s.relrms.mean > 0.1
    exact = solve(source, Discrete(y), tol=1e-9).cost.mean
    assert s.lower.mean <= (1 + 1e-9) * exact
    assert exact <= (1 + 1e-9) * s.upper.mean


# --- derivatives and orders


@named({"square": SQUARE, "cube": CUBE, "grey": GREY, "tetrahedron": TETRAHEDRON, "dark boxes": PATCHES["dark boxes"]})
def test_the_hessian_is_the_derivative_of_masses(source):
    """d mu(W_i) / dh_j by central differences; the Hessian is symmetric and its rows sum to 0."""
    n, domain = 30, Domain.of(source)
    middle = domain.inner[:-1]
    y = middle + 0.6 * (rng(6).random((n, source.dim)) - 0.5) * (domain.high - domain.low)
    h = -0.5 * np.square(y).sum(1) + 3e-3 * rng(7).normal(size=n)
    exact = Exact(y, np.full(n, 1 / n), domain, 1e-6, math.inf, lambda _: None)
    hessian, step = exact.hessian(diagram(y, h, domain), domain).toarray(), 1e-5
    ends = [[diagram(y, h + t * e, domain).masses / domain.mass for e in step * np.eye(n)] for t in (1, -1)]
    slopes = (np.array(ends[0]) - ends[1]) / (2 * step)
    np.testing.assert_allclose(hessian, slopes, atol=1e-4 * np.abs(slopes).max())
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12 * np.abs(slopes).max())
    np.testing.assert_allclose(hessian.sum(1), 0, atol=1e-12 * np.abs(slopes).max())


@named({"square": SQUARE, "cube": CUBE} | SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_newton_converges_quadratically(source, seed):
    """e_(k+1) ≤ C e_k² from e_k ≤ 0.1 on, as long as 0.1 e_k, the residual of a step, is not raised to 1e-4.

    C = ½ where the density is uniform (0.31 at most over sixteen seeds); its jumps cost more, C = 4 (2.1).
    """
    y = rng(seed).normal(size=(100, source.dim))
    s = solve(source, Discrete(y), tol=1e-10)
    error = [check["error"] for check in s.history[1:]]
    falls = [(e, after) for e, after in pairwise(error) if 1e-3 <= e <= 0.1]
    assert s.status is Status.SOLVED
    assert len(falls) >= 1
    assert all(after <= (4 if source is GREY else 0.5) * e**2 for e, after in falls)


A = 0.3  # of the map T: 1 − A > 0 makes it the gradient of a convex function


def warped(x):
    """T = grad u, u = |x|²/2 + A cos(πx_1) cos(πx_2)/π², of the unit square to itself."""
    (cos1, cos2), (sin1, sin2) = np.cos(np.pi * x).T, np.sin(np.pi * x).T
    return x - A / np.pi * np.stack([sin1 * cos2, cos1 * sin2], 1)


def test_the_map_is_the_gradient_of_a_convex_function_and_keeps_the_square():
    """D²u has the eigenvalues 1 − A cos(π(x_1 ± x_2)) ≥ 1 − A, so <T(x) − T(z), x − z> ≥ (1 − A) |x − z|²."""
    x, z = rng(8).random((2, 2000, 2))
    assert (((warped(x) - warped(z)) * (x - z)).sum(1) >= (1 - A) * np.square(x - z).sum(1)).all()
    side = np.linspace(0, 1, 50)
    for k in (0, 1):
        for end in (0.0, 1.0):
            edge = np.insert(side[:, None], k, end, axis=1)
            np.testing.assert_allclose(warped(edge)[:, k], end, atol=1e-15)


def test_smooth_solutions_are_approached_to_second_order():
    """Targets T(centres of m² squares), equal weights: centroids reach the centres, and W2² ∫|x − T|² = A²/(2π²),
    like m⁻².
    """
    away, excess = [], []
    for m in (8, 16, 32):
        x = lattice(m, 2)
        s = solve(SQUARE, Discrete(warped(x)), tol=1e-9)
        away.append(np.sqrt(np.square(cells(s.potential, SQUARE).centroids.numpy() - x).sum(1).mean()))
        excess.append(s.cost.mean - A**2 / (2 * np.pi**2))
    for errors in (away, excess):
        orders = -np.diff(np.log2(errors))
        assert (np.abs(orders - 2) <= 0.05).all()
    assert away[-1] <= 0.05 / 32**2


# --- methods agree


def reach(y, h, nu, source):
    """max |Δh| / relrms: the heights that a mass error δ moves are L⁺δ, and |δ/√nu| = relrms."""
    domain = Domain.of(source)
    exact = Exact(y, nu, domain, 1e-6, math.inf, lambda _: None)
    hessian = exact.hessian(diagram(y, h, domain), domain).toarray()
    return np.linalg.norm(np.linalg.pinv(hessian, hermitian=True) * np.sqrt(nu), 2)


@pytest.mark.parametrize(("method", "tol"), [("lbfgs", 1e-5), ("stochastic", 0.05)])
@pytest.mark.parametrize("n", [12, 40])
def test_other_methods_agree_as_far_as_their_error_allows(method, tol, n):
    """|Δh| ≤ |L⁺ √nu| relrms, to first order."""
    y, nu = rng(n).random((n, 2)), np.full(n, 1 / n)
    newton = solve(SQUARE, Discrete(y), "newton", tol=1e-10).potential.heights.numpy()
    s = solve(SQUARE, Discrete(y), method, tol=tol, generator=seeded())
    most = reach(y, newton, nu, SQUARE) * (s.relrms.mean + 3 * s.relrms.sem)
    assert s.converged
    assert np.linalg.norm(s.potential.heights.numpy() - newton) <= 1.1 * most
    assert most <= (1e-5 if method == "lbfgs" else 0.05)  # of heights that differ by about 0.5


# --- sources with a shape, hard targets


@named(SHAPES | PATCHES)
def test_masses_are_what_samples_count(source):
    """Σ (c_i − m nu_i)²/(m nu_i) of m samples is chi-square with n − 1 degrees of freedom: below its 1e-6 quantile."""
    n, m = 150, 200_000
    nu = rng(9).random(n) + 0.2
    nu /= nu.sum()
    s = solve(source, Discrete(rng(10).normal(size=(n, source.dim)), nu))
    count = np.bincount(s.potential.cell(source.sample(m, seeded()).numpy()), minlength=n)
    assert s.status is Status.SOLVED
    assert (np.square(count - m * nu) / (m * nu)).sum() <= chi2.isf(1e-6, n - 1)
    np.testing.assert_allclose(cells(s.potential, source).masses, nu, rtol=2e-6)


def hard(kind, d, n=300):
    """Targets and weights that are far from the source's."""
    y, nu = rng(11).normal(size=(n, d)), np.full(n, 1 / n)
    if kind == "cauchy":
        y = rng(11).standard_t(1, size=(n, d))
    if kind == "clusters":
        y += 1e4 * rng(12).normal(size=(10, d))[rng(13).integers(10, size=n)]
    if kind == "weights":
        nu = 10 ** -(4 * rng(14).random(n))
    if kind == "scales":
        y *= 10 ** -(4 * rng(14).random((n, 1)))
    if kind == "ring":
        y[:, :2] /= np.linalg.norm(y[:, :2], axis=1)[:, None]
        y *= 1 + 0.01 * rng(15).normal(size=(n, 1))
    return y, nu / nu.sum()


@pytest.mark.parametrize("kind", ["cauchy", "clusters", "weights", "scales", "ring"])
@named({"square": SQUARE, "cube": CUBE, "triangle": TRIANGLE, "tetrahedron": TETRAHEDRON})
def test_hard_targets_converge(kind, source):
    """Every cell has its mass up to 1e-6 of it, as measured anew."""
    y, nu = hard(kind, source.dim)
    s = solve(source, Discrete(y, nu))
    assert s.status is Status.SOLVED
    np.testing.assert_allclose(cells(s.potential, source).masses, nu, rtol=1.1e-6)
