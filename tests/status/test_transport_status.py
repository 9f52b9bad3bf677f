"""Every way that `solve` can end, and one sentence for everything that can't begin."""

from __future__ import annotations

import math
import re
import time

import pytest
import torch

from brenier.measures import Discrete, Gaussian, UniformCube
from brenier.solution import Status
from brenier.transport import BrenierPotential, cells, extend, solve, wasserstein2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def says(error, *parts):
    return pytest.raises(error, match=r"^[^\n]*" + r"[^\n]*".join(re.escape(part) for part in parts) + r"[^\n]*$")


def target(n=50, d=2, dtype=torch.float64):
    return Discrete(torch.randn(n, d, generator=seeded(1), dtype=dtype) ** 3)


def test_converged():
    s = solve(Gaussian(2), target(), generator=seeded())
    assert s.status is Status.CONVERGED
    assert s.converged
    assert s.relrms.mean <= 0.2
    assert str(s).startswith(str(Status.CONVERGED))
    assert f"{s.samples:,} samples" in str(s)


@pytest.mark.parametrize("max_samples", [1, 100, 2000])
@pytest.mark.parametrize("d", [2, 8])
def test_out_of_samples(max_samples, d):
    s = solve(Gaussian(d), target(d=d), tol=0.03 if d == 2 else 0.05, max_samples=max_samples, generator=seeded())
    assert s.status is Status.OUT_OF_SAMPLES
    assert not s.converged
    assert "raise max_samples" in str(s)
    assert max_samples <= s.samples <= max_samples + 128  # paired samples come in blocks of 128
    assert s.potential.heights.isfinite().all()


@pytest.mark.parametrize("budget", [0.5, 1.5])
@pytest.mark.parametrize("d", [2, 8])
def test_out_of_time(budget, d):
    began = time.perf_counter()
    s = solve(Gaussian(d), target(300, d), tol=0.02, max_seconds=budget, generator=seeded())
    seconds = time.perf_counter() - began
    assert s.status is Status.OUT_OF_TIME
    assert "raise max_seconds" in str(s)
    assert s.seconds <= seconds <= 1.1 * budget + 1


def test_max_seconds_holds_whatever_tol_is():
    """The samples of a check grow as 1/tol²: the clock must stop it inside."""
    began = time.perf_counter()
    s = solve(Gaussian(2), target(64), tol=2e-3, max_seconds=0.5, generator=seeded())
    assert s.status is Status.OUT_OF_TIME
    assert time.perf_counter() - began <= 1.1 * 0.5 + 1


def test_out_of_precision():
    """Pairs of float32 targets as close as float32 tells apart: their heights can't part them."""
    y = torch.randn(20, 1, generator=seeded(2)).float()
    pairs = torch.cat([y, torch.nextafter(y, torch.full_like(y, math.inf))])
    s = solve(Gaussian(1), Discrete(pairs), tol=0.3, max_samples=4 * 10**7, generator=seeded())
    assert s.status is Status.OUT_OF_PRECISION
    assert "pass float64 points" in str(s)
    assert not s.converged


def test_not_converged_answers_keep_the_best_check():
    s = solve(Gaussian(2), target(), tol=0.03, max_samples=30_000, generator=seeded())
    errors = [check["chi2"] for check in s.history[1:]]
    assert s.relrms.mean == math.sqrt(max(min(errors), 0))


def test_a_budget_that_is_used_up_still_converges_when_the_answer_is_right():
    s = solve(Gaussian(2), target(), tol=2.0, max_samples=1, generator=seeded())
    assert s.converged


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"method": "fast"}, ValueError, ["method", "'fast'"]),
        ({"tol": 0}, ValueError, ["tol", "positive", "got 0"]),
        ({"tol": -0.1}, ValueError, ["tol", "-0.1"]),
        ({"tol": math.nan}, ValueError, ["tol", "nan"]),
        ({"tol": math.inf}, ValueError, ["tol", "inf"]),
        ({"max_seconds": 0}, ValueError, ["max_seconds", "got 0"]),
        ({"max_seconds": -3}, ValueError, ["max_seconds", "-3"]),
        ({"max_samples": 0}, ValueError, ["max_samples", "got 0"]),
        ({"max_samples": -5}, ValueError, ["max_samples", "-5"]),
        ({"tol": "small"}, TypeError, ["tol", "'small'"]),
        ({"max_samples": "many"}, TypeError, ["max_samples", "'many'"]),
        ({"max_samples": 0.5}, ValueError, ["max_samples", "0.5"]),
        ({"device": "cuda:77"}, ValueError, ["device", "cuda:77"]),
        ({"device": "toaster"}, ValueError, ["device", "toaster"]),
        (
            {"start": BrenierPotential(torch.zeros(3, 2), torch.zeros(3))},
            ValueError,
            ["start", "one height per target", "3 for 50"],
        ),
        (
            {"start": BrenierPotential(torch.zeros(50, 2), torch.full((50,), math.nan))},
            ValueError,
            ["start", "finite"],
        ),
    ],
    ids=lambda part: next(iter(part)) + "=" + str(next(iter(part.values())))[:8] if isinstance(part, dict) else "",
)
def test_a_bad_option_is_refused(options, error, parts):
    with says(error, *parts):
        solve(Gaussian(2), target(), **options)


def test_dimensions_must_agree():
    with says(ValueError, "source and target", "3 and 2"):
        solve(Gaussian(3), target())
    u = BrenierPotential(torch.zeros(2, 2), torch.zeros(2))
    with says(ValueError, "source and potential", "3 and 2"):
        cells(u, Gaussian(3))
    with says(ValueError, "source and potential", "3 and 2"):
        extend(u, Gaussian(3))
    with says(ValueError, "a and b", "2 and 3"):
        wasserstein2(Discrete(torch.zeros(1, 2)), Discrete(torch.zeros(1, 3)))


def test_a_target_is_a_discrete_measure():
    with says(TypeError, "target", "Discrete", "Tensor"):
        solve(Gaussian(2), torch.zeros(3, 2))


def test_a_source_has_a_dimension_and_a_verb():
    with says(TypeError, "source", "str"):
        solve("gaussian", target())


@pytest.mark.parametrize("shape", [(3,), (3, 1), (4, 3), (2, 2, 2)])
def test_x_must_fit_the_potential(shape):
    u = BrenierPotential(torch.zeros(5, 2), torch.zeros(5))
    for f in (u, u.cell, u.gradient):
        with says(ValueError, "x must have shape (m, 2)", str(shape)):
            f(torch.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("d", [2, 9])
def test_x_must_be_finite(value, d):
    y = torch.randn(40, d, generator=seeded())
    u = BrenierPotential(y, -0.5 * y.square().sum(1))
    x = torch.zeros(5, d)
    x[3, 1] = value
    for f in (u, u.cell, u.gradient, extend(u, Gaussian(d), generator=seeded())):
        with says(ValueError, "x must be finite", "row 3"):
            f(x)


@pytest.mark.parametrize(("y", "h"), [((3,), (3,)), ((3, 2), (2,)), ((3, 2), (3, 1)), ((2, 3, 2), (2,))])
def test_a_potential_needs_a_height_per_point(y, h):
    with says(ValueError, "points (n, d) and heights (n,)", str(y), str(h)):
        BrenierPotential(torch.zeros(y), torch.zeros(h))


@pytest.mark.parametrize("samples", [-1, 0, 31])
def test_cells_need_samples(samples):
    with says(ValueError, "samples", "32", str(samples)):
        cells(BrenierPotential(torch.zeros(2, 2), torch.zeros(2)), UniformCube(2), samples=samples)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"kind": "linear"}, ["kind", "'linear'"]),
        ({"strength": 1.5}, ["strength", "0 to 1", "1.5"]),
        ({"strength": -0.1}, ["strength", "-0.1"]),
        ({"strength": math.nan}, ["strength", "nan"]),
        ({"judges": torch.tensor([3, 40])}, ["judges", "40"]),
    ],
)
def test_a_bad_extension_is_refused(options, parts):
    y = torch.randn(40, 2, generator=seeded())
    with says(ValueError, *parts):
        extend(BrenierPotential(y, -0.5 * y.square().sum(1)), Gaussian(2), generator=seeded(), **options)


def test_progress_prints_the_error_of_every_check(capsys):
    s = solve(Gaussian(2), target(), tol=0.1, generator=seeded(), progress=True)
    assert capsys.readouterr().out.count("relrms") == len(s.history) - 1
