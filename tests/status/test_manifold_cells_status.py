"""What wrong networks and wrong points get: one sentence with the name and the number."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from brenier.manifold import counting
from brenier.manifold.activation import activation_codes, affine_maps
from brenier.manifold.cells import relu_cells, surface_cells
from brenier.manifold.counting import cells_bound, count_cells
from brenier.manifold.crossings import cells_between, crossings, local_complexity

SQUARE = [[-1.0, -1.0], [1.0, 1.0]]
PLAIN = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
DEEP = nn.Sequential(nn.Linear(3, 6), nn.ReLU())
ZERO, ONE, TWO = torch.zeros(3), torch.eye(3)[0], torch.eye(3)[1]
X = torch.zeros(4, 2)


def refused(error, message, call, *arguments, **options):
    with pytest.raises(error, match=re.escape(message)):
        call(*arguments, **options)


class Forward(nn.Module):
    """A network of one function."""

    def __init__(self, function):
        super().__init__()
        self.first, self.function = nn.Linear(2, 6), function

    def forward(self, x):
        return F.relu(self.function(self.first(x)))


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (nn.SiLU(), "silu"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.Tanh(), "tanh"),
        (nn.GELU(), "gelu"),
        (nn.Softmax(1), "softmax"),
        (nn.LayerNorm(6), "layer_norm"),
        (nn.ELU(), "elu"),
        (nn.Hardswish(), "hardswish"),
        (nn.Threshold(0.1, 20.0), "_threshold"),
        (nn.Softshrink(), "softshrink"),
    ],
    ids=lambda a: a if isinstance(a, str) else "",
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_that_is_not_piecewise_linear_is_named(layer, function, dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(2, 6), nn.LeakyReLU(0.5), layer, nn.Linear(6, 2), nn.ReLU()).to(dtype)
    message = f"layer 2 ({type(layer).__name__}) is not piecewise linear: it calls {function}, which is neither affine"
    refused(ValueError, message, activation_codes, network, X.to(dtype))
    refused(ValueError, message, relu_cells, network, SQUARE)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda z: z * z, "mul"),
        (lambda z: torch.where(z > 0, z, 0.1 * z), "where"),
        (lambda z: torch.maximum(z, -z), "maximum"),
        (lambda z: z / z.norm(), "norm"),
        (lambda z: z.sort(1).values, "sort"),
    ],
)
def test_so_is_a_function_called_inside(function, name):
    with pytest.raises(ValueError, match=r"the network is not piecewise linear: it calls \w*" + name):
        activation_codes(Forward(function), X)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(6), nn.Dropout(0.5)])
def test_training_mode_is_named(layer):
    network = nn.Sequential(nn.Linear(2, 6), layer, nn.ReLU())
    message = f"layer 1 ({type(layer).__name__}) is in training mode"
    refused(ValueError, message, activation_codes, network, X)
    refused(ValueError, message, relu_cells, network, SQUARE)
    assert len(relu_cells(network.eval(), SQUARE)) > 1


@pytest.mark.parametrize(
    "function", [lambda z: z - z.mean(0), lambda z: F.dropout(z, 0.5, True), lambda z: F.rrelu(z, training=True)]
)
def test_chance_and_company_are_found(function):
    with torch.random.fork_rng(), pytest.raises(ValueError, match=r"other rows, nor on chance|not piecewise linear"):
        activation_codes(Forward(function), torch.randn(20, 2))


def test_weights_must_be_finite_and_of_the_points_dtype():
    broken = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    broken[0].bias.data[1] = torch.nan
    refused(ValueError, "the network's weights must be finite, got NaN or Inf in 0.bias", relu_cells, broken, SQUARE)
    message = "x must have the network's dtype and device, got torch.float64 on cpu for torch.float32 on cpu"
    refused(ValueError, message, affine_maps, PLAIN, X.double())
    refused(ValueError, message, activation_codes, PLAIN, np.zeros((3, 2)))
    refused(ValueError, "a must have the network's dtype", crossings, PLAIN, X.double(), X.double())
    refused(
        ValueError,
        "the slice must have the network's",
        relu_cells,
        DEEP,
        SQUARE,
        *(a.double() for a in (ZERO, ONE, TWO)),
    )
    refused(ValueError, "a point of the space must have the network's dtype", count_cells, PLAIN, 2)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[0.0, 1.0]], TypeError, "x must be a tensor or an array, got list"),
        (torch.zeros(2), ValueError, "x must have shape (m, ...), one row per point, got (2,)"),
        (torch.zeros(3, 2).long(), ValueError, "x must be float, got torch.int64"),
        (torch.tensor([[0.0, 0.0], [0.0, torch.inf]]), ValueError, "x must be finite, got NaN or Inf in row 1"),
        (torch.zeros(3, 5), ValueError, "the network can't read x of shape (3, 5): mat1 and mat2 shapes"),
    ],
)
def test_points(x, error, message):
    for call in (activation_codes, affine_maps):
        refused(error, message, call, PLAIN, x)
    refused(error, message, local_complexity, PLAIN, x, 1.0)


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ([0.0, 1.0], "domain must be low and high (2, 2) or corners (k, 2), got (2,)"),
        ([[0.0, 0.0, 0.0]] * 3, "domain must be low and high (2, 2) or corners (k, 2), got (3, 3)"),
        ([[0.0, 0.0], [1.0, np.nan]], "domain must be finite, got NaN or Inf"),
        ([[0.0, 1.0], [1.0, 0.0]], "domain must have low < high, got [0.0, 1.0] and [1.0, 0.0]"),
        ([[0, 0], [1, 1], [2, 2]], "domain must be a convex polygon of positive area"),
        ([[0, 0], [2, 0], [0.1, 0.1], [0, 2]], "domain must be a convex polygon of positive area"),
        ([[0, 0], [1, 1], [1, 0], [0, 1]], "domain must be a convex polygon of positive area"),
        ([[np.cos(4 * np.pi * k / 5), np.sin(4 * np.pi * k / 5)] for k in range(5)], "domain must be a convex polygon"),
    ],
)
def test_domains(domain, message):
    refused(ValueError, message, relu_cells, PLAIN, domain)


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        ((ZERO, ONE, 2 * ONE), "u and v must not be zero nor parallel, got lengths 1 and 2"),
        ((ZERO, ONE, ONE + 1e-7 * TWO), "u and v must not be zero nor parallel, got lengths 1 and 1"),
        ((ZERO, ZERO, TWO), "u and v must not be zero nor parallel, got lengths 0 and 1"),
        ((ZERO, ONE, TWO[:2]), "origin, u and v must have the shape of one input each, got (3,), (3,), (2,)"),
        ((ZERO, ONE), "a slice needs origin, u and v, or none of them for the plane of two inputs"),
        ((ZERO, ONE, torch.tensor([0.0, torch.nan, 0.0])), "the slice must be finite, got NaN or Inf in row 0"),
        ((ZERO + torch.inf, ONE, TWO), "the slice must be finite, got NaN or Inf in row 0"),
        ((ZERO.long(), ONE.long(), TWO.long()), "the slice must be float, got torch.int64"),
        ((ZERO[:2], ONE[:2], TWO[:2]), "the network can't read the slice of shape (1, 2)"),
        ((), "the network can't read the slice of shape (1, 2)"),
    ],
)
def test_slices(plane, message):
    refused(ValueError, message, relu_cells, DEEP, SQUARE, *plane)


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (torch.eye(3), torch.tensor([[0, 1, 3]]), "faces must name vertices 0..2, got 0..3"),
        (torch.eye(3), torch.tensor([[0, 1, -1]]), "faces must name vertices 0..2, got -1..1"),
        (torch.eye(3), torch.tensor([[0.0, 1.0, 2.0]]), "a surface has vertices (n, d) and whole faces (f, 3)"),
        (
            torch.eye(3),
            torch.tensor([0, 1, 2]),
            "a surface has vertices (n, d) and whole faces (f, 3), got (3, 3) and (3,)",
        ),
        (torch.eye(3), torch.zeros(0, 3).long(), "a surface must have a face at least, got none"),
        (torch.eye(3), torch.tensor([[0, 1, 2], [0, 1, 1]]), "u and v of triangle 1 must not be zero nor parallel"),
    ],
)
def test_surfaces(vertices, faces, message):
    refused(ValueError, message, surface_cells, DEEP, vertices, faces)


def test_more_cells_than_the_limit_are_counted_in_the_sentence():
    found = len(relu_cells(PLAIN, SQUARE))
    assert len(relu_cells(PLAIN, SQUARE, limit=found)) == found
    with pytest.raises(ValueError, match=rf"limit is {found - 1} cells, got {found} by bend [12] of 2: raise limit or"):
        relu_cells(PLAIN, SQUARE, limit=found - 1)
    refused(ValueError, "limit is 3 cells, got 4 by bend 1 of 2", relu_cells, PLAIN, SQUARE, limit=3)
    refused(ValueError, "limit must be at least 1, got 0", relu_cells, PLAIN, SQUARE, limit=0)
    refused(TypeError, "limit must be a whole number, got 2.5", relu_cells, PLAIN, SQUARE, limit=2.5)
    double = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).double()
    refused(ValueError, "limit is 2 cells, got 7 by bend 1 of 1: raise limit", count_cells, double, 2, limit=2)


def test_crossings_and_complexity():
    refused(ValueError, "a and b must have one shape, got (4, 2) and (3, 2)", crossings, PLAIN, X, X[:3])
    refused(ValueError, "pairs must have shape (k, 2, ...), got (4, 2)", cells_between, PLAIN, X)
    refused(TypeError, "pairs must be a tensor or an array, got list", cells_between, PLAIN, [[[0.0, 1.0]] * 2])
    assert cells_between(PLAIN, torch.zeros(0, 2, 2)).tolist() == []  # a transport without ridges
    for radius in (0.0, -1.0, np.inf, np.nan):
        message = f"radius must be positive and finite, got {radius}"
        refused(ValueError, message, local_complexity, PLAIN, X, radius)
    refused(ValueError, "chords must be at least 2, got 1", local_complexity, PLAIN, X, 1.0, chords=1)


def test_counting(monkeypatch):
    double = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).double()
    refused(ValueError, "dim must be at least 1, got 0", count_cells, double, 0)
    refused(ValueError, "the network can't read a point of the space of shape (1, 5)", count_cells, double, 5)
    refused(ValueError, "box must be finite low < high, got 1.0 and 1.0", count_cells, double, 2, (1.0, 1.0))
    refused(ValueError, "box must be finite low < high, got 0.0 and inf", count_cells, double, 2, (0.0, np.inf))
    refused(ValueError, "widths must name the input and a layer at least, got [3]", cells_bound, [3])
    refused(ValueError, "a width must be at least 1, got 0", cells_bound, [3, 0])
    monkeypatch.setattr(counting, "linprog", lambda *_, **__: type("Answer", (), {"status": 4, "message": "trouble"}))
    refused(
        ArithmeticError, "a linear program for the interior of a cell was not solved: trouble", count_cells, double, 2
    )


def test_a_pooling_window_may_be_as_large_as_a_byte_counts():
    pool = nn.Sequential(nn.Unflatten(1, (1, 256)), nn.MaxPool1d(256))
    refused(
        ValueError,
        "a pooling window may have at most 254 entries, got 256",
        activation_codes,
        pool,
        torch.zeros(1, 256),
    )
