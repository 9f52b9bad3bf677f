"""Starts from coarse to fine reach the same answer; W2² lies between its bounds; the clock rules where asked to."""

from __future__ import annotations

import itertools
import math
import threading
import time

import pytest
import torch

from brenier.measures import Discrete, Gaussian, UniformCube
from brenier.solution import Status
from brenier.transport import BrenierPotential, compiling, solve
from brenier.transport.compiling import within
from brenier.transport.hierarchy import bisect, spreads
from brenier.transport.multiscale import grouped
from brenier.transport.problem import SemiDiscrete


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clusters(n, d, apart=100.0):
    centres = apart * torch.randn(10, d, dtype=torch.float64, generator=seeded(3))
    place = torch.randint(10, (n,), generator=seeded(4))
    return centres[place] + torch.randn(n, d, dtype=torch.float64, generator=seeded(5))


def test_groups_keep_weight_and_mean():
    y, nu = clusters(500, 3), torch.linspace(0, 2, 500, dtype=torch.float64) / 500
    coarse, group = grouped(Discrete(y, nu))
    assert coarse.n == 16
    assert torch.allclose(coarse.weights, torch.zeros(16).double().index_add_(0, group, nu), atol=1e-12)
    assert torch.allclose(coarse.weights @ coarse.points, nu @ y, atol=1e-9)


def test_spreads_add_up():
    """The squares of a whole are those of its parts about their means and of the means about theirs."""
    y, nu = torch.randn(640, 4, generator=seeded()), torch.full((640,), 1 / 640)
    whole, parts = spreads(y, nu, bisect(y, 3), 8)
    means = torch.stack([y[bisect(y, 3) == k].mean(0) for k in range(8)])
    between = (means - y.mean(0)).square().sum(1).mean()
    assert (parts.square().mean() + between).sqrt() == pytest.approx(whole.item(), rel=1e-5)


def test_from_coarse_to_fine_newton_ends_where_it_always_does():
    y = clusters(600, 2)
    a, b = (solve(UniformCube(2), Discrete(y), method, generator=seeded()) for method in ("newton", "multiscale"))
    assert a.status is b.status is Status.SOLVED
    assert b.cost.mean == pytest.approx(a.cost.mean, rel=1e-9)
    assert [entry["targets"] for entry in b.history if "coarse" in entry] == [32]


def test_from_coarse_to_fine_samples_of_all_scales_count():
    s = solve(Gaussian(4), Discrete(clusters(600, 4)), "multiscale", generator=seeded())
    coarse = next(entry["coarse"] for entry in s.history if "coarse" in entry)
    own = [entry["samples"] for entry in s.history if "chi2" in entry]
    assert s.converged
    assert s.samples == own[-1] + coarse[-1]["samples"]


@pytest.mark.parametrize("tol", [0.05, 0.3])
@pytest.mark.parametrize("method", ["newton", "stochastic"])
def test_the_distance_lies_between_its_bounds(method, tol):
    """Of a rough answer, too: lower ≤ W2² ≤ upper, W2² by the exact solve, up to three standard errors."""
    target = Discrete(torch.randn(200, 2, dtype=torch.float64, generator=seeded(1)))
    truth = solve(UniformCube(2), target).cost.mean
    s = solve(UniformCube(2), target, method, tol, generator=seeded())
    assert s.lower.mean - 3 * s.lower.sem <= truth * (1 + 1e-9)
    assert truth <= (s.upper.mean + 3 * s.upper.sem) * (1 + 1e-9)
    assert s.upper.mean - s.lower.mean <= 0.05 * truth


def test_beyond_two_thousand_targets_there_is_no_plan():
    s = solve(UniformCube(2), Discrete(torch.rand(2001, 2, dtype=torch.float64, generator=seeded())))
    assert s.upper is None
    assert s.lower.mean == pytest.approx(s.cost.mean, rel=1e-9)


@pytest.mark.parametrize("d", [2, 5])
def test_the_orthants_have_equal_masses_at_once(d):
    """{±1}^d under a Gaussian: h = 0 by symmetry, W2² = d (2 − 2 E|g|) = 2 d (1 − √(2/π))."""
    y = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d)))
    problem = SemiDiscrete(Gaussian(d), Discrete(y), seeded())
    check = problem.check(torch.zeros(len(y)), 200_000)
    assert abs(check.chi2.mean) <= 4 * check.chi2.sem
    assert abs(check.cost.mean - 2 * d * (1 - math.sqrt(2 / math.pi))) <= 4 * check.cost.sem
    potential = solve(Gaussian(d), Discrete(y), generator=seeded()).potential
    x = torch.randn(1000, d, generator=seeded(1))
    assert (potential.cell(x) == BrenierPotential(y, torch.zeros(len(y))).cell(x)).double().mean() >= 0.97


def test_a_descent_in_time_is_shaped_by_the_clock():
    """tol far out of reach: samples are drawn all the same, the error falls, and the time is kept."""
    target = Discrete(torch.randn(500, 8, generator=seeded()))
    compiling.highest(torch.float32)  # in a fresh environment that alone would take all of the time
    s = solve(Gaussian(8), target, tol=1e-3, max_seconds=4, generator=seeded())
    errors = [entry["chi2"] for entry in s.history if "chi2" in entry]
    assert s.samples > 0
    assert errors[-1] <= errors[0] / 4
    assert s.seconds <= 1.1 * 4 + 1


def test_waiting_ends_with_the_deadline():
    release, said = threading.Event(), []
    assert not within(time.perf_counter() + 1.2, release.wait, said.append)
    release.set()
    assert len(said) == 1
