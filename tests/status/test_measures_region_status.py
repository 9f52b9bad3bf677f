"""Bad polytopes and grids get one sentence with the value and the place."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from brenier.measures import GridDensity, UniformPolytope

HOLES = np.ones((4, 2))
HOLES[2, 1], HOLES[3, 0] = np.nan, np.inf
LINE = np.linspace(0, 1, 5)[:, None]
TURN = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])


def says(error, *parts):
    return pytest.raises(error, match=r"^[^\n]*" + r"[^\n]*".join(re.escape(part) for part in parts) + r"[^\n]*$")


@pytest.mark.parametrize(
    ("vertices", "error", "parts"),
    [
        (np.zeros(3), ValueError, ["vertices", "(p, d)", "(3,)"]),
        (3.0, ValueError, ["vertices", "(p, d)", "()"]),
        (np.zeros((2, 2, 2)), ValueError, ["(p, d)", "(2, 2, 2)"]),
        (np.zeros((9, 4)), ValueError, ["dimension 1, 2 or 3", "got 4"]),
        (np.zeros((3, 0)), ValueError, ["dimension 1, 2 or 3", "got 0"]),
        (np.zeros((0, 2)), ValueError, ["2 dimensions", "at least 3 vertices", "got 0"]),
        (np.eye(3), ValueError, ["3 dimensions", "at least 4 vertices", "got 3"]),
        (HOLES, ValueError, ["vertices", "finite", "2 NaN or Inf", "row 2"]),
        (np.zeros((5, 2)), ValueError, ["volume", "5 vertices", "span 0 of 2 dimensions"]),
        (np.full((4, 1), 0.1), ValueError, ["volume", "4 vertices", "span 0 of 1 dimensions"]),
        (LINE * [[0.3, 0.7]] + 5, ValueError, ["volume", "5 vertices", "span 1 of 2"]),
        (LINE * [[0.3, 0.7, -0.1]], ValueError, ["volume", "span 1 of 3"]),
        (np.eye(5, 2) @ TURN[:2] @ TURN.T[:, [2, 0, 1]], ValueError, ["volume", "5 vertices", "span 2 of 3"]),
        (np.eye(3, 2) * [1, 1e-11], ValueError, ["volume", "span 1 of 2"]),
        (np.eye(3, 2) * 1e-200, ValueError, ["positive, finite volume", "got 0"]),
        (np.eye(4, 3) * 1e120, ValueError, ["positive, finite volume", "got inf"]),
        (np.array([["a", "b"]]), TypeError, ["vertices", "real numbers", "<U1"]),
        (np.zeros((3, 2), complex), TypeError, ["vertices", "complex128"]),
        (torch.zeros(3, 2, dtype=torch.complex64), TypeError, ["vertices", "complex64"]),
        (None, TypeError, ["vertices", "object"]),
        ([[1.0, 2.0], [3.0]], ValueError, ["vertices", "one length"]),
    ],
)
def test_a_bad_polytope_is_refused(vertices, error, parts):
    with says(error, *parts):
        UniformPolytope(vertices)


@pytest.mark.parametrize(
    ("values", "error", "parts"),
    [
        (3.0, ValueError, ["values", "1, 2 or 3 axes", "()"]),
        (np.ones((2, 1, 2, 3)), ValueError, ["1, 2 or 3 axes", "(2, 1, 2, 3)"]),
        (np.ones((0, 3)), ValueError, ["none of them empty", "(0, 3)"]),
        ([], ValueError, ["none of them empty", "(0,)"]),
        (HOLES, ValueError, ["values", "finite", "2 NaN or Inf", "row 2"]),
        ([[1.0, 2.0], [0.5, -0.25]], ValueError, ["values", "negative", "-0.25", "(1, 1)"]),
        ([3, -1], ValueError, ["negative", "-1", "(1,)"]),
        (np.zeros((2, 3)), ValueError, ["positive, finite sum", "got 0", "6 boxes"]),
        ([1e308, 1e308], ValueError, ["positive, finite sum", "got inf", "2 boxes"]),
        (["a", "b"], TypeError, ["values", "real numbers", "<U1"]),
        ([1j, 1], TypeError, ["values", "complex128"]),
        (torch.ones(2, dtype=torch.complex64), TypeError, ["values", "complex64"]),
        (None, TypeError, ["values", "object"]),
        ([[1.0, 2.0], [3.0]], ValueError, ["values", "one length"]),
    ],
)
def test_a_bad_grid_is_refused(values, error, parts):
    with says(error, *parts):
        GridDensity(values)


@pytest.mark.parametrize(
    ("low", "high", "error", "parts"),
    [
        (1.0, 1.0, ValueError, ["low < high", "low 1 and high 1", "axis 0"]),
        (0.0, [1.0, -2.0], ValueError, ["low < high", "low 0 and high -2", "axis 1"]),
        ([0.0, math.nan], 1.0, ValueError, ["low < high", "low nan", "axis 1"]),
        (-math.inf, 0.0, ValueError, ["finite", "low -inf", "axis 0"]),
        (0.0, math.inf, ValueError, ["finite", "high inf", "axis 0"]),
        (-1e308, 1e308, ValueError, ["finite", "low -1e+308 and high 1e+308", "axis 0"]),
        ([0.0, 0.0, 0.0], 1.0, ValueError, ["low", "each of 2 axes", "(3,)"]),
        (0.0, [[1.0, 1.0]], ValueError, ["high", "each of 2 axes", "(1, 2)"]),
        (0.0, [1.0], ValueError, ["high", "each of 2 axes", "(1,)"]),
        ("a", 1.0, TypeError, ["low", "real numbers", "<U1"]),
        (0.0, None, TypeError, ["high", "real numbers", "object"]),
        (0.0, [1.0, 1j], TypeError, ["high", "complex128"]),
    ],
)
def test_a_grid_needs_a_box(low, high, error, parts):
    with says(error, *parts):
        GridDensity(np.ones((2, 3)), low, high)
