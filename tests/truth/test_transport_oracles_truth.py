"""Other libraries as oracles: POT always, sdot and OTT where the extra `bench` is installed."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import ot
import pytest
import torch

from brenier.measures import Discrete, Gaussian, UniformCube
from brenier.transport import BrenierPotential, cells, solve


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def installed(name):
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


@installed("sdot")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("d", "n"), [(2, 50), (2, 2000), (3, 500)])
def test_newton_finds_the_heights_and_the_cost_of_sdot(d, n):
    """Power weights w are heights h = (w − |y|²)/2, up to a constant."""
    import sdot

    y = np.random.default_rng(n).random((n, d))
    plan = sdot.ot_solve(sdot.SumOfDiracs(y), sdot.Box(), tol=1e-9 / n, on_failure="ignore")
    theirs = (np.asarray(plan.weights) - np.square(y).sum(1)) / 2
    found = solve(UniformCube(d), Discrete(torch.from_numpy(y)), "newton", 1e-9)
    assert found.converged
    ours = found.potential.heights.numpy()
    assert ours - ours.mean() == pytest.approx(theirs - theirs.mean(), abs=1e-7)
    assert found.cost.mean == pytest.approx(float(plan.cost), rel=1e-6)


@installed("ott")
@pytest.mark.filterwarnings("ignore")
def test_sampling_finds_the_cells_of_ott():
    """Both on a small problem: the noise goes to the same targets, but for what the errors of both allow."""
    import jax
    import optax
    from ott.geometry.semidiscrete_pointcloud import SemidiscretePointCloud
    from ott.problems.linear.semidiscrete_linear_problem import SemidiscreteLinearProblem
    from ott.solvers.linear.semidiscrete import SemidiscreteSolver

    y = torch.randn(40, 3, generator=seeded(1))
    nu = torch.linspace(1, 3, 40) / 80
    cloud = SemidiscretePointCloud(jax.random.normal, jax.numpy.asarray(y.numpy()), epsilon=0.0)
    problem = SemidiscreteLinearProblem(cloud, jax.numpy.asarray(nu.numpy()))
    steps = 3000
    solver = SemidiscreteSolver(
        num_iterations=steps,
        batch_size=1024,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.2, steps)),
        error_eval_every=steps,
        error_num_repeats=1,
        threshold=-1.0,
    )
    g = torch.from_numpy(np.array(solver(jax.random.key(0), problem).g)).double()
    theirs = BrenierPotential(y, (g - y.double().square().sum(1)) / 2)
    found = solve(Gaussian(3), Discrete(y, nu), tol=0.03, generator=seeded())
    assert found.converged
    masses = cells(theirs, Gaussian(3), samples=1 << 18, generator=seeded(2)).masses
    assert ((masses - nu).square() / nu).sum().sqrt() <= 0.06
    x = torch.randn(20_000, 3, generator=seeded(3))
    assert (found.potential.cell(x) == theirs.cell(x)).double().mean() >= 0.95


def exact(x, y, nu):
    """W2² between m samples of equal weight and the targets."""
    weights = np.asarray(nu, dtype=np.float64)
    return ot.emd2(np.full(len(x), 1 / len(x)), weights / weights.sum(), ot.dist(x, y), numItermax=10_000_000)


@pytest.mark.parametrize(
    ("source", "method", "tol"),
    [(UniformCube(2), "newton", 1e-6), (Gaussian(2), "stochastic", 0.03), (Gaussian(8), "stochastic", 0.05)],
    ids=["square, newton", "Gaussian, d = 2", "Gaussian, d = 8"],
)
def test_exact_transport_of_more_and_more_samples_tends_to_the_cost(source, method, tol):
    """Of m samples, mu_m, W2²(mu_m, nu) ≥ mean_k min_i (|x_k − y_i|² − w_i) + Σ nu_i w_i for all w, whose mean is
    `lower`; what the mean of W2²(mu_m, nu) exceeds W2² by falls as m grows.
    """
    y = torch.randn(30, source.dim, dtype=torch.float64, generator=seeded(1))
    nu = torch.linspace(1, 4, 30, dtype=torch.float64)
    nu /= nu.sum()
    found = solve(source, Discrete(y, nu), method, tol, generator=seeded())
    assert found.converged
    excess, errors, generator = [], [], seeded(2)
    for m in (60, 240, 960, 3840):
        sets = [exact(source.sample(m, generator).double().numpy(), y.numpy(), nu) for _ in range(12)]
        excess.append(np.mean(sets) - found.lower.mean)
        errors.append(math.hypot(np.std(sets, ddof=1) / math.sqrt(len(sets)), found.lower.sem))
    assert all(more >= -4 * error for more, error in zip(excess, errors, strict=True))
    assert abs(excess[-1]) <= 4 * errors[-1] + 0.02 * found.cost.mean
    assert abs(excess[-1]) <= abs(excess[0]) + 4 * errors[-1]
