"""Every way that exact transport can end, and what it says where targets, weights or numbers are extreme."""

from __future__ import annotations

import math
import re
import time
from importlib import import_module

import numpy as np
import pytest
import torch

from brenier.measures import Discrete, Gaussian, GridDensity, UniformBall, UniformCube
from brenier.solution import Status
from brenier.transport import BrenierPotential, cells, solve
from brenier.transport.diagram import diagram
from brenier.transport.domain import Domain
from brenier.transport.newton import Exact

EXACT = ("newton", "lbfgs")
GREY = GridDensity([[1.0, 2.0, 1.0], [3.0, 1.0, 0.5]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def says(error, *parts):
    return pytest.raises(error, match=r"^[^\n]*" + r"[^\n]*".join(re.escape(part) for part in parts) + r"[^\n]*$")


def uniform(n, d, seed=0):
    return torch.rand(n, d, dtype=torch.float64, generator=seeded(seed))


def along(d, n=100):
    """Targets on a line that leaves the unit cube at both ends."""
    return torch.linspace(-1, 2, n, dtype=torch.float64)[:, None] * torch.arange(1.0, d + 1, dtype=torch.float64)


def noise(n, d):
    return torch.randn(n, d, dtype=torch.float64, generator=seeded(5))


def measured(s, source, target):
    """max_i |mu(W_i)/nu_i − 1| and relrms of the potential as it came back, by cells of its own."""
    u = BrenierPotential(s.potential.points.double(), s.potential.heights)
    nu = target.weights.double() / target.weights.double().sum()
    kept = nu > 0
    away = cells(u, source).masses[kept] / nu[kept] - 1
    return away.abs().max().item(), (nu[kept] @ away.square()).sqrt().item()


def holds(s, source, target, tol=1e-6):
    """Finite heights, and the status is true."""
    error, relrms = measured(s, source, target)
    assert s.potential.heights.isfinite().all()
    assert s.potential.heights.shape == (target.n,)
    assert s.status in (Status.SOLVED, Status.OUT_OF_PRECISION)
    assert (s.status is Status.SOLVED) == (error <= tol)
    return error, relrms


@pytest.fixture(autouse=True, scope="module")
def _compiled():
    """The first call of a loop compiles it: that is not to be on a test's clock."""
    for d in (1, 2, 3):
        solve(UniformCube(d), Discrete(uniform(10, d)))


planes_and_space = pytest.mark.parametrize("d", [2, 3])


# --- few targets, flat ones, close ones


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_one_target_takes_all(d, method):
    y = uniform(1, d)
    s = solve(UniformCube(d), Discrete(y), method)
    assert s.status is Status.SOLVED
    assert s.potential.heights.tolist() == [0.0]
    assert s.cost.mean == pytest.approx(((y - 0.5).square().sum() + d / 12).item())
    assert s.relrms.mean <= 1e-14


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_all_targets_equal_are_one_target(d, method):
    y = uniform(1, d).expand(7, d)
    s = solve(UniformCube(d), Discrete(y, torch.arange(7.0) / 21), method)
    assert s.status is Status.SOLVED
    assert s.potential.heights[1:].tolist() == [0.0] * 6
    assert s.potential.heights[0] < 0  # of weight zero
    assert s.cost.mean == pytest.approx(((y[0] - 0.5).square().sum() + d / 12).item())


@pytest.mark.parametrize("d", [1, 2, 3])
def test_one_cell_is_everything(d):
    found = cells(BrenierPotential(torch.ones(1, d), torch.zeros(1)), UniformCube(d))
    assert found.masses.tolist() == [1.0]
    assert found.facets.shape == (0, 2)
    assert found.facet_masses.shape == found.facet_shares.shape == (0,)
    assert torch.allclose(found.centroids, torch.full((1, d), 0.5))


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("share", [0.5, 0.25, 1e-6])
@planes_and_space
def test_two_targets_cut_the_box_once(d, share, method):
    """The facet is x_1 = s, so h_1 − h_2 = |y_1 − y_2| s for y_2 − y_1 along the first axis."""
    y = torch.zeros(2, d, dtype=torch.float64)
    y[1, 0] = 3.0
    s = solve(UniformCube(d), Discrete(y, [share, 1 - share]), method)
    assert s.status is Status.SOLVED
    assert (s.potential.heights[0] - s.potential.heights[1]).item() == pytest.approx(3 * share, rel=1.1e-6)


@pytest.mark.parametrize("noisy", [0.0, 1e-9, 1e-13])
@planes_and_space
def test_targets_on_a_line_or_nearly(d, noisy):
    y = along(d) + noisy * noise(100, d)
    target = Discrete(y)
    s = solve(UniformCube(d), target)
    holds(s, UniformCube(d), target)
    assert s.status is Status.SOLVED


@pytest.mark.parametrize("noisy", [0.0, 1e-9, 1e-13])
@pytest.mark.parametrize("slope", [[0.0, 0.0], [0.3, 0.1]])
def test_targets_in_a_plane_or_nearly(slope, noisy):
    y = uniform(200, 3)
    y[:, 2] = y[:, :2] @ torch.tensor(slope, dtype=torch.float64) + noisy * noise(200, 1)[:, 0]
    target = Discrete(y)
    s = solve(UniformCube(3), target)
    holds(s, UniformCube(3), target)
    assert s.status is Status.SOLVED


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pairs", [1, 50])
@planes_and_space
def test_targets_a_trillionth_apart(d, pairs, seed):
    """Float64 parts them to about 1e-4 of their masses: relrms is small, whatever the status."""
    y = uniform(100, d, seed)
    y[50 : 50 + pairs] = y[:pairs] + 1e-12 * noise(pairs, d)
    target = Discrete(y)
    s = solve(UniformCube(d), target, max_seconds=3)
    error, _ = holds(s, UniformCube(d), target)
    assert len(s.history) <= 100
    assert s.relrms.mean < (1e-4 if pairs == 1 else 1e-3)
    assert error < 1e-2


@pytest.mark.parametrize("apart", [3e-14, 1e-14])
@planes_and_space
def test_targets_too_close_for_a_descent_are_no_endless_one(d, apart):
    y = uniform(100, d)
    y[1] = y[0] + apart
    s = solve(UniformCube(d), Discrete(y), max_seconds=2)
    assert s.status is Status.OUT_OF_PRECISION
    assert s.potential.heights.isfinite().all()


# --- weights, units, numbers


@pytest.mark.parametrize("least", [0.0, 1e-12, 1e-9])
@planes_and_space
def test_tiny_weights(d, least):
    """A mass of 1e-12 is measured to 1e-5 of itself, and the others to full precision: relrms is tiny."""
    nu = torch.ones(100, dtype=torch.float64)
    nu[:5] = 100 * least
    target = Discrete(uniform(100, d), nu / nu.sum())
    s = solve(UniformCube(d), target)
    error, relrms = holds(s, UniformCube(d), target)
    assert error <= 1e-3
    assert max(relrms, s.relrms.mean) <= 1e-7
    if least != 1e-12:
        assert s.status is Status.SOLVED


@pytest.mark.parametrize(("scale", "shift"), [(1e6, 0.0), (1e-6, 0.0), (1.0, 1e6)])
@pytest.mark.parametrize("source", [UniformCube, lambda d: UniformCube(d, 0.0, 1e6), lambda d: UniformCube(d, 0, 1e-6)])
@planes_and_space
def test_large_and_small_coordinates(d, source, scale, shift):
    target = Discrete(scale * uniform(100, d) + shift)
    s = solve(source(d), target)
    holds(s, source(d), target)
    assert s.status is Status.SOLVED


@pytest.mark.parametrize("moved", [True, False])
@planes_and_space
def test_a_source_far_from_the_origin(d, moved):
    source = UniformCube(d, 1e6, 1e6 + 1)
    target = Discrete(uniform(100, d) + (1e6 if moved else 0))
    s = solve(source, target)
    holds(s, source, target)
    assert s.status is Status.SOLVED


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@planes_and_space
def test_coarse_numbers_are_exact_targets(d, dtype):
    """Targets as they are given, some of them equal, have float64 heights."""
    y = uniform(300, d).to(dtype)
    s = solve(UniformCube(d), Discrete(y))
    assert s.status is Status.SOLVED
    assert s.potential.points.dtype == torch.float32
    assert torch.equal(s.potential.points, y.float())
    assert s.potential.heights.dtype == torch.float64


# --- how it ends


@pytest.mark.parametrize("method", EXACT)
@planes_and_space
def test_solved(d, method):
    s = solve(UniformCube(d), Discrete(uniform(50, d)), method, tol=1e-5)
    assert s.status is Status.SOLVED
    assert s.converged
    assert s.samples == 0
    assert s.relrms.sem == s.cost.sem == 0
    assert s.relrms.mean <= s.history[-1]["error"] <= 1e-5
    assert str(s).startswith("converged: every cell")
    assert s.history[0] == {"method": method, "why": "asked for"}


# --- the clock, and numbers that are too coarse


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("source", [UniformCube(2), UniformCube(3), GREY], ids=["square", "cube", "grey"])
def test_out_of_time(source, method):
    """The error stated is that of the potential, exactly, or by samples where there was no time even for cells."""
    target = Discrete(uniform(300, source.dim) + 3)
    began = time.thread_time()  # its own time: another thread may still compile, on a busy machine
    s = solve(source, target, method, max_seconds=1e-3, generator=seeded())
    assert time.thread_time() - began <= 1
    assert s.status is Status.OUT_OF_TIME
    assert "raise max_seconds" in str(s)
    assert s.potential.heights.isfinite().all()
    error, relrms = measured(s, source, target)
    assert error > 1e-6
    assert abs(s.relrms.mean - relrms) <= (10 * s.relrms.sem + 0.05 * relrms if s.relrms.sem else 1e-6 * relrms)


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("lit", [True, False])
def test_out_of_time_has_the_cells_of_its_heights(method, lit):
    """Under the density given, not under a brighter one on the way."""
    values = uniform(16, 16)
    values[values < (0 if lit else 0.6)] = 0
    y, nu, domain = noise(500, 2).numpy(), np.full(500, 1 / 500), Domain.of(GridDensity(values))
    status, h, found = Exact(y, nu, domain, 1e-6, 0.0, lambda _: None).run(method, None)
    assert status is Status.OUT_OF_TIME
    np.testing.assert_allclose(found.masses, diagram(y, h, domain).masses, atol=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.3, 0.1])
def test_a_facet_in_the_dark_is_left(share):
    """Two targets, two islands: the first facet lies between them, where no step moves mass."""
    values = torch.tensor([[1.0], [0.0], [0.0], [1.0]])
    s = solve(GridDensity(values), Discrete([[0.0, 0.0], [1.0, 0.0]], [share, 1 - share]))
    assert s.status is Status.SOLVED


@pytest.mark.parametrize("method", EXACT)
@planes_and_space
def test_out_of_precision(d, method):
    target = Discrete(uniform(40, d))
    s = solve(UniformCube(d), target, method, tol=1e-17, max_seconds=20)
    assert s.status is Status.OUT_OF_PRECISION
    assert "too coarse" in str(s)
    assert measured(s, UniformCube(d), target)[0] <= (1e-12 if method == "newton" else 1e-5)


@pytest.mark.parametrize("method", EXACT)
def test_on_a_line_the_error_reached_decides(method):
    """Quantiles leave nothing to be done: solved or not is a matter of tol."""
    target, line = Discrete(noise(50, 1)), UniformCube(1, 1.0, 3.0)
    error = solve(line, target, method).history[-1]["error"]
    assert 0 < error <= 1e-9
    assert solve(line, target, method, tol=1.1 * error).status is Status.SOLVED
    assert solve(line, target, method, tol=0.9 * error).status is Status.OUT_OF_PRECISION


@pytest.mark.parametrize("d", [2, 3])
def test_lbfgs_ends_where_its_energy_is_rounded(d):
    """Differences of an energy of 1, known to 1e-16, tell masses to 1e-8: relrms is small, whatever the status."""
    target = Discrete(uniform(100, d))
    s = solve(UniformCube(d), target, "lbfgs", 1e-6)
    holds(s, UniformCube(d), target)
    assert s.relrms.mean <= 1e-5


# --- what is picked, and what is refused


@pytest.mark.parametrize(
    ("source", "method", "why"),
    [
        (UniformCube(2), "newton", "exact cells for UniformCube in 2 dimensions"),
        (UniformCube(1), "newton", "exact cells for UniformCube in 1 dimensions"),
        (GridDensity(np.ones((2, 3))), "newton", "exact cells for GridDensity in 2 dimensions"),
        (UniformBall(2), "newton", "exact cells for UniformBall in 2 dimensions"),
        (UniformBall(3), "stochastic", "no exact cells for UniformBall in 3 dimensions"),
        (Gaussian(2), "stochastic", "no exact cells for Gaussian in 2 dimensions"),
        (UniformCube(4), "stochastic", "no exact cells for UniformCube in 4 dimensions"),
    ],
    ids=lambda part: f"{type(part).__name__}-{part.dim}" if hasattr(part, "dim") else "",
)
def test_auto_picks_and_says_why(source, method, why):
    s = solve(source, Discrete(uniform(20, source.dim)), generator=seeded())
    assert s.converged
    assert s.history[0] == {"method": method, "why": why}


def test_auto_leaves_many_targets_to_samples(monkeypatch):
    monkeypatch.setattr(import_module("brenier.transport.solve"), "EXACT_UP_TO", {1: 10, 2: 10, 3: 10})
    s = solve(UniformCube(2), Discrete(uniform(20, 2)), generator=seeded())
    assert s.history[0]["method"] == "stochastic"
    assert s.history[0]["why"] == "20 targets are more than the 10 for which exact cells are quick"


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("source", [Gaussian(2), UniformCube(4), UniformBall(3)], ids=["Gaussian", "cube", "ball"])
def test_exact_methods_need_a_region(source, method):
    with says(ValueError, f"method '{method}'", "at most 3 dimensions", f"{type(source).__name__} in {source.dim}"):
        solve(source, Discrete(uniform(5, source.dim)), method)


def test_a_method_has_a_name():
    with says(ValueError, "method must be one of auto, newton, lbfgs, stochastic", "'Newton'"):
        solve(UniformCube(2), Discrete(uniform(5, 2)), "Newton")


def test_dimensions_must_agree():
    with says(ValueError, "source and target", "3 and 2"):
        solve(UniformCube(3), Discrete(uniform(5, 2)), "newton")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_targets_must_be_finite(value):
    y = uniform(5, 2)
    y[3, 1] = value
    with says(ValueError, "points must be finite", "row 3"):
        Discrete(y)


@pytest.mark.parametrize("method", EXACT)
def test_a_start_must_fit(method):
    y, short, unknown = uniform(50, 2), torch.zeros(3), torch.full((50,), math.nan)
    for h, parts in ((short, ["one height per target", "3 for 50"]), (unknown, ["finite", "50 NaN"])):
        with says(ValueError, "start", *parts):
            solve(UniformCube(2), Discrete(y), method, start=BrenierPotential(y[: len(h)], h))


@pytest.mark.parametrize("method", EXACT)
def test_progress_prints_every_error(method, capsys):
    s = solve(UniformCube(2), Discrete(uniform(30, 2)), method, progress=True)
    assert capsys.readouterr().out.count("largest relative error") == len(s.history) - 1
