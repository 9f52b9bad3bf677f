"""Bad measures get one sentence with the value and the place."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from brenier.measures import Discrete, Gaussian, UniformBall, UniformCube
from brenier.solution import Estimate, Solution, Status

HOLES = np.ones((4, 2))
HOLES[2, 1], HOLES[3, 0] = np.nan, np.inf


def says(error, *parts):
    return pytest.raises(error, match=r"^[^\n]*" + r"[^\n]*".join(re.escape(part) for part in parts) + r"[^\n]*$")


@pytest.mark.parametrize(
    ("points", "weights", "error", "parts"),
    [
        (np.zeros(3), None, ValueError, ["points", "(n, d)", "(3,)"]),
        (np.zeros((2, 2, 2)), None, ValueError, ["(2, 2, 2)"]),
        (np.zeros((0, 2)), None, ValueError, ["at least 1", "(0, 2)"]),
        (np.zeros((2, 0)), None, ValueError, ["(2, 0)"]),
        (3.0, None, ValueError, ["(n, d)", "()"]),
        (HOLES, None, ValueError, ["points", "finite", "2 NaN or Inf", "row 2"]),
        (np.zeros((2, 2), complex), None, TypeError, ["points", "real numbers", "complex128"]),
        (torch.zeros(2, 2, dtype=torch.complex64), None, TypeError, ["points", "complex64"]),
        (np.array([["a", "b"]]), None, TypeError, ["points", "real numbers", "<U1"]),
        (np.array([[1, None]]), None, TypeError, ["points", "object"]),
        (None, None, TypeError, ["points", "object"]),
        (np.zeros((3, 2)), [0.5, 0.5], ValueError, ["weights", "one entry per point", "(2,)", "3 points"]),
        (np.zeros((3, 2)), np.full((3, 1), 1 / 3), ValueError, ["weights", "(3, 1)"]),
        (np.zeros((3, 2)), [0.5, np.nan, 0.5], ValueError, ["weights", "1 NaN", "row 1"]),
        (np.zeros((3, 2)), [0.7, -0.2, 0.5], ValueError, ["negative", "-0.2", "point 1"]),
        (np.zeros((4, 2)), [0.3, 0.2, 0.13, 0.3], ValueError, ["sum to 1", "0.93", "4 points"]),
        (np.zeros((2, 2)), [0, 0], ValueError, ["sum to 1", "got 0 over 2"]),
        (np.zeros((2, 2)), ["a", "b"], TypeError, ["weights", "<U1"]),
        (np.zeros((2, 2)), [0.5j, 0.5j], TypeError, ["weights", "complex128"]),
    ],
)
def test_a_bad_target_is_refused(points, weights, error, parts):
    with says(error, *parts):
        Discrete(points, weights)


def test_ragged_points_are_refused_in_one_sentence():
    with pytest.raises((TypeError, ValueError), match="points"):
        Discrete([[1.0, 2.0], [3.0]])


@pytest.mark.parametrize("source", [Gaussian, UniformCube, UniformBall])
@pytest.mark.parametrize(
    ("dim", "error", "value"),
    [(0, ValueError, "0"), (-2, ValueError, "-2"), (2.5, TypeError, "2.5"), ("3", TypeError, "'3'")],
)
def test_a_bad_dimension_is_refused(source, dim, error, value):
    with says(error, "dim", "got " + value):
        source(dim)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (-math.inf, 0.0), (0.0, math.nan)])
def test_a_cube_needs_an_interval(low, high):
    with says(ValueError, "low < high", str(low), str(high)):
        UniformCube(2, low, high)


@pytest.mark.parametrize("radius", [0.0, -1.0, math.inf, math.nan])
def test_a_ball_needs_a_radius(radius):
    with says(ValueError, "radius", "positive", str(radius)):
        UniformBall(2, radius)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: UniformBall(2, "wide"), "radius"),
        (lambda: UniformCube(2, "a", "b"), "low"),
        (lambda: UniformCube(2, None, 1.0), "low"),
    ],
)
def test_words_for_numbers_are_a_type_error_that_names_the_place(make, named):
    with pytest.raises(TypeError, match=named):
        make()


def test_an_estimate_is_two_floats_and_reads_well():
    mean, sem = Estimate(0.123456, 0.0123)
    assert (mean, sem) == (0.123456, 0.0123)
    assert str(Estimate(mean, sem)) == "0.1235 ± 0.012"


@pytest.mark.parametrize("status", list(Status))
def test_a_status_is_its_sentence(status):
    assert str(status) == status.value
    assert re.match(r"^(converged|not converged|done): [^\n.]+$", str(status))
    assert ("not converged" in str(status)) <= ("raise" in str(status) or "pass" in str(status))
    assert Solution(status, 0.0, []).converged is str(status).startswith("converged")
