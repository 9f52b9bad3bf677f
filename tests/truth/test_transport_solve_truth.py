"""Transports known in closed form: two targets, the line, boxes, the best affine map; the error bars of chi2."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm

from brenier.measures import Discrete, Gaussian, UniformBall, UniformCube
from brenier.transport import solve
from brenier.transport.planes import Planes
from brenier.transport.problem import SemiDiscrete
from brenier.transport.rows import Rows


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def wide(*rows):
    return torch.tensor(rows, dtype=torch.float64)


class Line:
    """The uniform measure on [low, high] to sorted targets y (n,): cells are intervals."""

    def __init__(self, low, high, y):
        self.low, self.high, self.y = low, high, y

    def ends(self, heights):
        inner = -(heights[1:] - heights[:-1]) / (self.y[1:] - self.y[:-1])
        one = torch.ones(1, dtype=torch.float64)
        return torch.cat([self.low * one, inner.clamp(self.low, self.high), self.high * one])

    def masses(self, heights):
        return self.ends(heights).diff() / (self.high - self.low)

    def cost(self, ends):
        """∫ |x − T(x)|² dmu with cell i between ends i and i + 1."""
        cubes = (ends[1:] - self.y) ** 3 - (ends[:-1] - self.y) ** 3
        return (cubes.sum() / 3 / (self.high - self.low)).item()


@pytest.mark.parametrize("source", [Gaussian(3), UniformCube(3), UniformBall(3)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_target_takes_all(source, dtype):
    """T = y everywhere: no error, no step, W2² = E|x − y|² = |E x − y|² + trace Cov."""
    y = torch.tensor([[3.0, -1.0, 2.0]], dtype=dtype)
    s = solve(source, Discrete(y), generator=seeded())
    mean, covariance = source.moments()
    assert s.converged
    assert s.samples == 0
    assert s.relrms.mean <= 1e-12
    assert s.relrms.sem == 0
    assert torch.equal(s.potential.gradient(source.sample(9)), y.expand(9, 3))
    truth = ((y[0] - mean).square().sum() + covariance.trace()).item()
    assert abs(s.cost.mean - truth) <= 5 * s.cost.sem + 1e-12


def test_all_targets_equal_are_one_target():
    s = solve(Gaussian(2), Discrete(wide([1, 2], [1, 2], [1, 2]), [0.2, 0.3, 0.5]), generator=seeded())
    assert s.converged
    assert s.samples == 0
    assert s.potential.heights.unique().numel() == 1


@pytest.mark.parametrize("share", [0.5, 0.25, 0.9])
@pytest.mark.parametrize("rows", [([-3.0], [1.0]), ([1.0, 2.0], [4.0, -2.0])])
def test_two_targets_of_a_gaussian(rows, share):
    """h_1 − h_2 = |y_1 − y_2| Φ⁻¹(nu_1); W2² = d + Σ nu_i |y_i|² − 2 |y_1 − y_2| φ(Φ⁻¹(nu_1))."""
    y, nu, tol = wide(*rows), torch.tensor([share, 1 - share], dtype=torch.float64), 0.03
    s = solve(Gaussian(y.shape[1]), Discrete(y, nu), tol=tol, generator=seeded())
    jump, z = (y[0] - y[1]).norm().item(), norm.ppf(share)
    mass = norm.cdf(((s.potential.heights[0] - s.potential.heights[1]) / jump).item())
    assert s.converged
    assert abs(mass - share) / math.sqrt(share * (1 - share)) <= tol
    cost = y.shape[1] + (nu @ y.square().sum(1)).item() - 2 * jump * norm.pdf(z)
    assert abs(s.cost.mean - cost) <= 5 * s.cost.sem + jump * abs(z) * tol


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 5.0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_line_is_solved_by_quantiles(low, high, weighted):
    """Converged is true: the exact chi2 is within tol² and near the one reported, the cost near the exact one."""
    y = torch.rand(40, dtype=torch.float64, generator=seeded(1)).sort().values * 7 - 2
    nu = torch.linspace(1, 3, 40, dtype=torch.float64) if weighted else torch.ones(40, dtype=torch.float64)
    nu, line, tol = nu / nu.sum(), Line(low, high, y), 0.1
    s = solve(UniformCube(1, low, high), Discrete(y[:, None], nu), "stochastic", tol, generator=seeded())
    relrms = ((line.masses(s.potential.heights) - nu).square() / nu).sum().sqrt().item()
    assert s.converged
    assert relrms <= tol
    assert abs(relrms**2 - s.relrms.mean**2) <= 4 * ((s.relrms.mean + s.relrms.sem) ** 2 - s.relrms.mean**2)
    assert abs(s.cost.mean - line.cost(line.ends(s.potential.heights))) <= 5 * s.cost.sem


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 5.0)])
def test_the_dual_value_is_at_most_the_cost_and_meets_it(low, high):
    """∫(|x|² − 2u) dmu + Σ nu_i (|y_i|² + 2 h_i) ≤ W2², with equality at the optimum, to second order in the error."""
    y = torch.rand(30, dtype=torch.float64, generator=seeded(1)).sort().values * 7 - 2
    nu = torch.linspace(1, 3, 30, dtype=torch.float64) / 60
    line = Line(low, high, y)
    s = solve(UniformCube(1, low, high), Discrete(y[:, None], nu), "stochastic", 0.05, generator=seeded())
    h = s.potential.heights
    ends = line.ends(h)
    planes = (ends[1:] ** 2 - ends[:-1] ** 2) / 2 * y + (ends[1:] - ends[:-1]) * h
    norms = (high**3 - low**3) / 3 / (high - low)
    dual = norms - 2 * planes.sum() / (high - low) + nu @ (y**2 + 2 * h)
    exact = line.cost(low + (high - low) * torch.cat([nu.new_zeros(1), nu.cumsum(0)]))
    assert -1e-12 <= exact - dual.item() <= 5e-3 * exact


def test_the_potential_is_the_integral_of_the_quantile_function():
    """Brenier on [0, 1]: h_(i+1) − h_i = −F_i (y_(i+1) − y_i), F_i the mass up to i; F_i ± the mass that tol allows."""
    y = wide([-2.0], [-1.0], [0.5], [3.0], [3.5])
    nu = torch.tensor([0.1, 0.3, 0.2, 0.3, 0.1], dtype=torch.float64)
    s = solve(UniformCube(1), Discrete(y, nu), "stochastic", 0.03, generator=seeded())
    ends = -s.potential.heights.diff() / y[:, 0].diff()
    assert torch.allclose(ends, nu.cumsum(0)[:-1], atol=0.03)


@pytest.mark.parametrize("dim", [1, 2, 3, 9])
def test_a_box_of_corners_is_solved_by_its_start(dim):
    """Orthants have equal mass, so the best affine map is the optimum for corners of any box, moved, turned."""
    corners = torch.cartesian_prod(*[wide(-1.0, 1.0)] * dim).view(-1, dim)
    turn = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=seeded(2))).Q
    y = corners * torch.linspace(1, 5, dim) @ turn.T + 7
    s = solve(Gaussian(dim), Discrete(y), generator=seeded())
    assert s.converged
    assert s.samples == 0
    assert s.potential.heights.abs().amax() <= 1e-8


def test_an_even_grid_is_solved_by_its_start_from_a_cube():
    tick = (torch.arange(12, dtype=torch.float64) + 0.5) / 12
    y = torch.cartesian_prod(3 * tick, 0.1 * tick) - 4
    s = solve(UniformCube(2, -1.0, 1.0), Discrete(y), "stochastic", generator=seeded())
    assert s.converged
    assert s.samples == 0


class Skew:
    """N(m, S) with a full covariance, in closed form."""

    def __init__(self, dim, seed=0):
        self.dim = dim
        self.root = torch.randn(dim, dim, dtype=torch.float64, generator=seeded(seed))
        self.mean = torch.arange(dim, dtype=torch.float64)

    def sample(self, m, generator=None):
        return self.mean + torch.randn(m, self.dim, dtype=torch.float64, generator=generator) @ self.root.T

    def moments(self):
        return self.mean, self.root @ self.root.T


@pytest.mark.parametrize("dim", [1, 2, 6])
def test_the_start_is_the_potential_of_the_best_affine_map(dim):
    """h = −½ yᵀ Q y with Q = A⁻¹ symmetric positive definite and A S A = C (Bures), in the problem's coordinates."""
    y = torch.randn(300, dim, dtype=torch.float64, generator=seeded(3)) ** 3 @ torch.randn(
        dim, dim, dtype=torch.float64, generator=seeded(4)
    )
    problem = SemiDiscrete(Skew(dim), Discrete(y), seeded())
    i, j = torch.triu_indices(dim, dim)
    rows = problem.y[:]
    monomials = rows[:, i] * rows[:, j]
    fit = torch.linalg.lstsq(monomials, problem.bures()[:, None]).solution[:, 0]
    assert torch.allclose(monomials @ fit, problem.bures(), rtol=1e-9, atol=1e-9)
    half = torch.zeros(dim, dim, dtype=torch.float64).index_put_((i, j), -fit)
    affine = torch.linalg.inv(half + half.T)
    covariance = (rows.T * problem.nu) @ rows
    assert (torch.linalg.eigvalsh(affine) > 0).all()
    assert torch.allclose(affine @ problem.sampler.covariance @ affine, covariance, rtol=1e-8, atol=1e-8)


def test_targets_in_a_plane_of_space_are_solved():
    """C is singular: the pseudo-inverse gives the start in the plane."""
    flat = torch.randn(60, 2, dtype=torch.float64, generator=seeded(5))
    y = flat @ torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64, generator=seeded(6))).Q.T + 3
    s = solve(Gaussian(5), Discrete(y), tol=0.2, generator=seeded())
    assert s.converged
    assert s.potential.heights.isfinite().all()


# sources, a place on the first axis and the mass below it; dimension 9 of a Gaussian is sampled in pairs, whose signs
# would halve every block exactly at 0
CUT = [
    (Gaussian(2), 0.0, 0.5),
    (Gaussian(9), 0.3, 0.6179114),
    (UniformCube(9, -1.0, 1.0), 0.0, 0.5),
    (UniformBall(9), 0.0, 0.5),
]


@pytest.mark.parametrize(("source", "place", "below"), CUT, ids=lambda s: f"{type(s).__name__}-{getattr(s, 'dim', s)}")
@pytest.mark.parametrize("off", [0.0, 0.05])
def test_chi2_is_unbiased_and_its_error_bar_is_calibrated(source, place, below, off):
    """Half spaces of mass p and 1 − p against weights (s, 1 − s): chi2 = (p − s)²/(s (1 − s)), over many checks."""
    y, share = torch.zeros(2, source.dim, dtype=torch.float64), below - off
    y[:, 0] = torch.tensor([-1.0, 1.0])
    h = torch.tensor([2 * place, 0.0], dtype=torch.float64)
    problem = SemiDiscrete(source, Discrete(y, [share, 1 - share]), seeded())
    # its own coordinates are centred by the weights: these put the facet at the place
    problem.y, problem.planes = Rows(y), Planes(y, h)
    checks = [problem.check(h, 4096).chi2 for _ in range(50 if source.dim > 8 else 120)]
    means, sems = torch.tensor(checks, dtype=torch.float64).T
    truth = off**2 / (share * (1 - share))
    spread = means.std().item()
    assert abs(means.mean().item() - truth) <= 4 * spread / math.sqrt(len(checks))
    # at chi2 = 0 the statistic is degenerate and the jackknife errs on the safe side, by about √2
    assert 0.75 <= sems.square().mean().sqrt().item() / spread <= (2.3 if truth == 0 else 1.5)
    assert (truth <= means + 2 * sems).double().mean() >= 0.65


def test_the_error_of_many_cells_is_unbiased():
    """40 equal intervals against weights 1 ± 0.3: chi2 = Σ (1/40 − nu_i)²/nu_i."""
    y = torch.arange(40, dtype=torch.float64)[:, None]
    nu = (1 + 0.3 * (-1.0) ** torch.arange(40, dtype=torch.float64)) / 40
    problem = SemiDiscrete(UniformCube(1, -20.0, 20.0), Discrete(y, nu), seeded())
    problem.y, h = Rows(y - 19.5), -0.5 * (y[:, 0] - 19.5) ** 2 / problem.sampler.scale
    problem.planes = Planes(problem.y[:], h)
    checks = [problem.check(h, 8192) for _ in range(100)]
    means, sems = torch.tensor([c.chi2 for c in checks], dtype=torch.float64).T
    truth = ((1 / 40 - nu).square() / nu).sum().item()
    assert abs(means.mean().item() - truth) <= 4 * means.std().item() / 10
    assert 0.75 <= sems.mean().item() / means.std().item() <= 1.6
