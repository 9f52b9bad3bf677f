"""Symmetries of `solve`: units, places, turns, order, duplicates and zero weights change nothing but names."""

from __future__ import annotations

import math

import pytest
import torch

from brenier.measures import Discrete, Gaussian, UniformBall, UniformCube
from brenier.transport import BrenierPotential, cells, solve


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n=60, d=2, seed=1):
    return torch.randn(n, d, dtype=torch.float64, generator=seeded(seed)) * torch.linspace(1, 3, d)


def shares(n=60):
    nu = torch.linspace(1, 4, n, dtype=torch.float64)
    return nu / nu.sum()


def solved(y, nu=None, source=None, **options):
    given = {"method": "stochastic", "tol": 0.2, "generator": seeded(), **options}
    return solve(source or Gaussian(y.shape[1]), Discrete(y, nu), **given)


class Turned:
    """A source turned by an orthogonal matrix, sample by sample."""

    def __init__(self, source, turn):
        self.source, self.turn, self.dim = source, turn, source.dim

    def sample(self, m, generator=None):
        return self.source.sample(m, generator).double() @ self.turn.T

    def moments(self):
        mean, covariance = self.source.moments()
        return self.turn @ mean, self.turn @ covariance @ self.turn.T


@pytest.mark.parametrize(("scale", "shift"), [(1024.0, 0.0), (0.1, 50.0), (1000.0, -3000.0)])
@pytest.mark.parametrize("d", [2, 8])
def test_units_and_place_of_the_targets_change_no_cell(scale, shift, d):
    """u'(x) = scale · u(x) + <x, shift>: heights scale, the sampled course is the same. d = 8 is sampled in pairs."""
    y, nu = points(d=d), shares()
    a, b = solved(y, nu, tol=0.3), solved(scale * y + shift, nu, tol=0.3)
    x = 1.5 * torch.randn(2000, d, dtype=torch.float64, generator=seeded(5))
    assert torch.allclose(b.potential.heights, scale * a.potential.heights, rtol=1e-6, atol=1e-6 * scale)
    assert (a.potential.cell(x) == b.potential.cell(x)).double().mean() >= 0.999
    assert (b.status, b.samples) == (a.status, a.samples)
    assert b.relrms == pytest.approx(a.relrms, abs=1e-6)
    assert b.potential.points.equal(scale * y + shift)


def test_units_and_place_of_the_source_change_no_cell():
    y, x = points(), torch.rand(2000, 2, dtype=torch.float64, generator=seeded(5))
    a = solved(y, source=UniformCube(2)).potential
    b = solved(y, source=UniformCube(2, -40.0, 60.0)).potential
    assert (a.cell(x) == b.cell(100 * x - 40)).double().mean() >= 0.999


@pytest.mark.parametrize(
    "source", [Gaussian(3), UniformCube(3, -1.0, 2.0), UniformBall(3)], ids=lambda s: type(s).__name__
)
def test_turning_source_and_targets_changes_no_height(source):
    y = points(d=3)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=seeded(7))).Q
    plain = torch.eye(3, dtype=torch.float64)
    a, b = solved(y, source=Turned(source, plain)), solved(y @ turn.T, source=Turned(source, turn))
    assert torch.allclose(a.potential.heights, b.potential.heights, atol=1e-6)


def test_permuting_targets_permutes_heights():
    y, nu, order = points(), shares(), torch.randperm(60, generator=seeded(3))
    a, b = solved(y, nu), solved(y[order], nu[order])
    assert torch.allclose(b.potential.heights, a.potential.heights[order], rtol=0, atol=1e-12)


def test_duplicates_share_one_cell():
    """A target split in two, or more, keeps its cell: the parts have one height and equal parts of its mass."""
    y, nu = points(), shares()
    twice = torch.cat([y, y[:20], y[:5]])
    weights = torch.cat([nu, nu[:20] / 2, nu[:5] / 4])
    weights[:20] = weights[:20] / 2
    weights[:5] = nu[:5] / 4
    a, b = solved(y, nu), solved(twice, weights)
    assert torch.allclose(b.potential.heights[:60], a.potential.heights, atol=1e-9)
    assert torch.equal(b.potential.heights[60:80], b.potential.heights[:20])
    assert torch.equal(b.potential.heights[80:], b.potential.heights[:5])
    c = cells(b.potential, Gaussian(2), generator=seeded())
    assert c.masses.sum().item() == pytest.approx(1)
    assert torch.equal(c.masses[60:80], c.masses[:20])
    assert torch.equal(c.centroids[60:80], c.centroids[:20])
    assert (c.facets < 60).all()
    whole = cells(a.potential, Gaussian(2), generator=seeded()).masses
    parts = c.masses.new_zeros(60).index_add_(
        0, torch.cat([torch.arange(60), torch.arange(20), torch.arange(5)]), c.masses
    )
    assert torch.allclose(parts, whole, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("source", [Gaussian(2), UniformCube(2, 5.0, 9.0)], ids=lambda s: type(s).__name__)
def test_weight_zero_is_an_empty_cell_of_finite_height(dtype, source):
    y = torch.cat([points(), 5 * points(seed=2), points()[:3]]).to(dtype)
    nu = torch.cat([shares(), torch.zeros(63, dtype=torch.float64)]).to(dtype)
    a, b = solved(y[:60], nu[:60], source), solved(y, nu, source)
    assert b.potential.heights.shape == (123,)
    assert b.potential.heights.isfinite().all()
    assert b.relrms == pytest.approx(a.relrms, abs=1e-4)
    far = source.moments()[0] + 100 * torch.randn(5000, 2, dtype=torch.float64, generator=seeded(4))
    near = source.sample(5000, seeded(4))
    for x in (near, far):
        assert (b.potential.cell(x) < 60).all()
        assert (a.potential.cell(x) == b.potential.cell(x)).double().mean() >= 0.99
    c = cells(b.potential, source, generator=seeded())
    assert (c.masses[60:] == 0).all()
    assert c.centroids[60:].isnan().all()
    assert (c.facets < 60).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 2, 8])
def test_answers_are_in_the_dtype_given_and_agree(dtype, d):
    y = points(d=d)
    s = solved(y.to(dtype), source=UniformCube(d), tol=0.3)
    assert s.converged
    assert s.potential.heights.dtype == s.potential.points.dtype == dtype
    assert torch.equal(s.potential.points, y.to(dtype))
    c = cells(s.potential, UniformCube(d), generator=seeded(3))
    assert c.masses.dtype == c.centroids.dtype == dtype
    assert ((c.masses - 1 / 60).square() * 60).sum().sqrt() <= 1.5 * 0.3


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_single_precision_keeps_its_digits_far_from_the_origin(offset):
    """The potential that comes back, in the user's coordinates, is as good as the error reported."""
    y = ((points() * 4096).round() / 4096 + offset).float()
    s = solved(y, tol=0.1)
    c = cells(s.potential, Gaussian(2), samples=400_000, generator=seeded(3))
    chi2 = ((c.masses.double() - 1 / 60).square() * 60).sum().item() - 60 / c.samples
    assert s.converged
    assert chi2 <= 0.1**2 + 4 * 60 / c.samples


def test_the_generator_alone_decides():
    y, before = points(), torch.random.get_rng_state()
    first = solved(y)
    assert torch.equal(solved(y).potential.heights, first.potential.heights)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(solved(y, generator=seeded(1)).potential.heights, first.potential.heights)


def test_input_is_left_alone():
    y, nu = points(), shares()
    target = Discrete(y.clone(), nu.clone())
    solve(Gaussian(2), target, generator=seeded())
    assert torch.equal(target.points, y)
    assert torch.equal(target.weights, nu)


def test_heights_have_mean_zero_over_the_weights():
    s = solved(points(), shares(), source=UniformCube(2, 3.0, 4.0))
    assert abs((shares() @ s.potential.heights).item()) <= 1e-9


def test_a_solution_is_its_own_warm_start():
    y = points()
    s = solved(y, tol=0.1)
    again = solved(y, tol=0.2, start=s.potential, generator=seeded(8))
    assert again.converged
    assert again.samples == 0
    assert torch.allclose(again.potential.heights, s.potential.heights, atol=1e-9)
    lifted = BrenierPotential(y, s.potential.heights + 5)
    assert solved(y, tol=0.2, start=lifted, generator=seeded(8)).samples == 0


def test_a_warm_start_is_in_the_users_coordinates():
    y = 1000 * points() + 77
    cube = UniformCube(2, 20.0, 24.0)
    s = solved(y, tol=0.1, source=cube)
    assert solved(y, tol=0.2, source=cube, start=s.potential, generator=seeded(8)).samples == 0


def test_new_weights_from_an_old_solution():
    y, s = points(), solved(points(), tol=0.1)
    nu = shares()
    again = solved(y, nu, tol=0.1, start=s.potential)
    c = cells(again.potential, Gaussian(2), samples=200_000, generator=seeded(3))
    assert again.converged
    assert ((c.masses - nu).square() / nu).sum().sqrt() <= 0.13


@pytest.mark.parametrize("seed", range(6))
def test_converged_is_true_on_samples_that_decided_nothing(seed):
    """relrms ≤ tol as an outsider measures it, for any seed; and it is what was reported."""
    y, tol = points(100, 3, seed), 0.2
    s = solved(y, tol=tol, generator=seeded(seed))
    c = cells(s.potential, Gaussian(3), samples=200_000, generator=seeded(100 + seed))
    chi2 = ((c.masses - 0.01).square() * 100).sum().item() - 100 / c.samples
    assert s.converged
    assert chi2 <= tol**2
    assert abs(chi2 - s.relrms.mean**2) <= 5 * ((s.relrms.mean + s.relrms.sem) ** 2 - s.relrms.mean**2)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_cost_is_in_the_users_units(scale):
    """W2² of N(0, I) to scale · y is E|x|² + scale² Σ nu|y|² − 2 scale (max E<x, T>): a quadratic in scale."""
    y = points()
    one, s = solved(y), solved(scale * y)
    norms = y.square().sum(1).mean().item()
    product = (2 + norms - one.cost.mean) / 2
    expected = 2 + scale**2 * norms - 2 * scale * product
    masses = s.relrms.mean * y.square().sum(1).std().item()  # |Σ (mu(W_i) − nu_i) |y_i|²| by Cauchy and Schwarz
    error = 6 * s.cost.sem + (6 * one.cost.sem + masses) * scale + masses * scale**2
    assert s.cost.mean == pytest.approx(expected, abs=error)
    assert s.cost.sem > 0


def test_history_tells_every_check():
    s = solved(points(), tol=0.1)
    assert s.history[0] == {"method": "stochastic", "why": s.history[0]["why"]}
    checks = s.history[1:]
    assert all({"samples", "checked_on", "seconds", "chi2", "sem"} <= set(check) for check in checks)
    drawn = [check["samples"] for check in checks]
    assert drawn[0] == 0
    assert drawn == sorted(drawn)
    assert drawn[-1] == s.samples
    assert math.sqrt(max(checks[-1]["chi2"], 0)) == s.relrms.mean


@pytest.mark.parametrize(
    "source",
    [UniformCube(1), UniformCube(2), Gaussian(1), Gaussian(3), UniformBall(3)],
    ids=lambda s: f"{type(s).__name__}-{s.dim}",
)
def test_the_default_budget_is_enough_for_few_targets(source):
    """Steps, not samples, are what sixty unequal targets need: defaults must converge."""
    assert solved(points(60, source.dim), source=source).converged
