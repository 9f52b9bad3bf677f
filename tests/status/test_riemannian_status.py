"""Bad points, costs, constraints and numbers get one sentence with the value."""

from __future__ import annotations

import re

import geoopt
import numpy as np
import pytest
import torch
from torch import nn

from brenier.riemannian import (
    SPD,
    Euclidean,
    Grassmann,
    PoincareBall,
    Product,
    Sphere,
    Stiefel,
    constrain,
    frechet_mean,
    geodesic_kmeans,
    latent_heads,
    minimize,
    principal_geodesics,
    svrg,
)
from brenier.solution import Status

F64 = torch.float64
NORTH = torch.tensor([0.0, 0.0, 1.0], dtype=F64)
EYES = torch.eye(3, dtype=F64).repeat(4, 1, 1)


def says(error, *parts):
    return pytest.raises(error, match=r"^[^\n]*" + r"[^\n]*".join(re.escape(part) for part in parts) + r"[^\n]*$")


def first(x):
    return x.flatten(-1)[..., 0] if x.ndim == 1 else x[..., 0]


@pytest.mark.parametrize(
    ("manifold", "start", "error", "parts"),
    [
        (Sphere(), 2 * NORTH, ValueError, ["start", "Sphere", "off by 1"]),
        (Sphere(), NORTH.tolist(), TypeError, ["start", "list"]),
        (Sphere(), torch.tensor([0, 0, 1]), TypeError, ["start", "float32 or float64", "int64"]),
        (Sphere(), NORTH.half(), TypeError, ["float16"]),
        (Sphere(), torch.full((3,), torch.nan), ValueError, ["finite", "3 NaN"]),
        (Sphere(), torch.zeros(0, 3), ValueError, ["(0, 3)"]),
        (Stiefel(), torch.eye(4)[:2], ValueError, ["n ≥ p", "(2, 4)"]),
        (Stiefel(), torch.ones(4), ValueError, ["points of Stiefel", "(4,)"]),
        (Stiefel(), torch.ones(4, 2), ValueError, ["Stiefel", "off by 4"]),
        (Grassmann(), torch.eye(5)[:3], ValueError, ["n ≥ p", "(3, 5)"]),
        (SPD(), torch.diag(torch.tensor([1.0, -2.0])), ValueError, ["SPD", "eigenvalue -2"]),
        (SPD(), torch.ones(2, 3), ValueError, ["(..., n, n)", "(2, 3)"]),
        (SPD(), torch.tensor([[2.0, 1.0], [0.0, 2.0]]), ValueError, ["SPD", "off by 1"]),
        (PoincareBall(), torch.tensor([0.8, 0.8]), ValueError, ["norm 1.13137", "ends at 1"]),
    ],
)
def test_a_bad_start_is_refused(manifold, start, error, parts):
    with says(error, *parts):
        minimize(lambda x: x.sum(), manifold, start)


@pytest.mark.parametrize(
    ("cost", "parts"),
    [
        (lambda x: x * torch.nan, ["shape ()", "(3,)"]),
        (lambda x: x.sum() * torch.nan, ["finite at the start", "nan", "problem 0"]),
        (lambda x: x.log().sum(), ["finite at the start", "-inf"]),
        (lambda x: 1.0, ["shape ()", "float"]),
        (lambda x: torch.ones(()), ["differentiable"]),
    ],
)
@pytest.mark.parametrize("method", ["cg", "trust"])
def test_a_bad_cost_is_refused(cost, parts, method):
    with says(ValueError, *parts):
        minimize(cost, Sphere(), NORTH, method)


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"method": "newton"}, ValueError, ["method", "cg, lbfgs, trust", "'newton'"]),
        ({"tol": 0.0}, ValueError, ["tol", "positive", "0.0"]),
        ({"max_steps": 2.5}, TypeError, ["max_steps", "2.5"]),
        ({"max_steps": -1}, ValueError, ["max_steps", "-1"]),
    ],
)
def test_bad_numbers_are_refused(options, error, parts):
    with says(error, *parts):
        minimize(lambda x: x.sum(), Sphere(), NORTH, **options)


def test_a_cost_of_another_dtype_is_refused_by_torch_with_both_names():
    a = torch.eye(3)
    with pytest.raises(RuntimeError, match="dtype"):
        minimize(lambda x: (a @ x).sum(), Sphere(), NORTH)


@pytest.mark.parametrize("method", ["cg", "lbfgs", "trust"])
def test_every_end_has_its_status(method):
    a = torch.diag(torch.tensor([1.0, 2.0, 10.0], dtype=F64))
    start = Sphere().projx(torch.tensor([1.0, 1.0, 0.1], dtype=F64))

    def cost(x):
        return -(x @ a @ x)

    assert minimize(cost, Sphere(), start, method).status is Status.STATIONARY
    assert minimize(cost, Sphere(), start, method, max_steps=1).status is Status.OUT_OF_STEPS
    assert minimize(cost, Sphere(), start, method, tol=1e-30).status in (Status.OUT_OF_PRECISION, Status.STATIONARY)

    def lies(x):
        return x[0] - 2 * x[0].detach()

    assert minimize(lies, Sphere(), start, method).status is Status.OUT_OF_PRECISION


def test_a_wall_of_nan_is_stepped_back_from():
    def cost(x):
        return torch.where(x[0] < 0.5, -x[0], torch.nan)

    for method in ("cg", "lbfgs", "trust"):
        found = minimize(cost, Sphere(), NORTH, method, max_steps=100)
        assert found.point[0] < 0.5
        assert found.cost.isfinite()
        assert not found.converged


def test_antipodes_have_no_logarithm():
    with says(ValueError, "antipodes", "3.14159"):
        Sphere().logmap(NORTH, -NORTH)
    with says(ValueError, "antipodes"):
        frechet_mean(Sphere(), torch.stack([NORTH, -NORTH]))


def test_matrices_that_are_not_positive_are_named():
    bad = EYES.clone()
    bad[2, 0, 0] = -3
    for call in (
        lambda: SPD().logmap(bad, EYES),
        lambda: SPD().logmap(EYES, bad),
        lambda: SPD().dist(EYES, bad),
        lambda: SPD().inner(bad, EYES),
        lambda: SPD().retr(bad, EYES),
    ):
        with says(ValueError, "positive definite", "-3", "matrix 2"):
            call()


def test_stiefel_points_too_far_apart_have_no_logarithm():
    x = torch.eye(4, dtype=F64)[:, :2]
    with says(ArithmeticError, "no logarithm", "pair 0", "2.83 apart"):
        Stiefel().logmap(x, -x)


@pytest.mark.parametrize(
    ("module", "name", "manifold", "error", "parts"),
    [
        (
            nn.Linear(3, 2),
            "weight",
            "orthogonal",
            ValueError,
            ["stiefel, grassmann, sphere, spd, ball", "'orthogonal'"],
        ),
        (nn.Linear(3, 2), "weight", 3, TypeError, ["name", "int"]),
        (nn.Linear(3, 2), "weight", geoopt.Sphere(), TypeError, ["manifold of this package", "Sphere"]),
        (nn.Linear(3, 2), "weigth", "stiefel", ValueError, ["Linear", "'weigth'"]),
        (nn.Linear(3, 2, bias=False), "bias", "sphere", ValueError, ["Linear", "'bias'"]),
        (nn.Linear(3, 2), "bias", "stiefel", ValueError, ["bias", "(2,)", "Stiefel"]),
        (nn.Linear(3, 2), "weight", "spd", ValueError, ["weight", "(2, 3)", "(..., n, n)"]),
        (nn.BatchNorm1d(3), "running_mean", "sphere", ValueError, ["running_mean", "no parameter"]),
    ],
)
def test_a_bad_constraint_is_refused(module, name, manifold, error, parts):
    with says(error, *parts):
        constrain(module, name, manifold)


def test_a_weight_is_constrained_once():
    layer = constrain(nn.Linear(3, 2), "weight", "stiefel")
    with says(ValueError, "weight of ParametrizedLinear", "already"):
        constrain(layer, "weight", "sphere")


@pytest.mark.parametrize(
    ("call", "error", "parts"),
    [
        (lambda: geodesic_kmeans(Sphere(), EYES[0], 4), ValueError, ["k", "3 points", "got 4"]),
        (lambda: geodesic_kmeans(Sphere(), EYES[0], 0), ValueError, ["k", "0"]),
        (lambda: geodesic_kmeans(Sphere(), NORTH, 1), ValueError, ["(m, *point)", "(3,)"]),
        (lambda: principal_geodesics(Sphere(), EYES[0], 9), ValueError, ["k", "3", "got 9"]),
        (lambda: principal_geodesics(SPD(), EYES, 1), ValueError, ["k", "0 directions", "got 1"]),
        (lambda: principal_geodesics(Sphere(), NORTH, 1), ValueError, ["(m, *point)", "(3,)"]),
        (lambda: frechet_mean(Sphere(), NORTH), ValueError, ["(..., m, *point)", "(3,)"]),
        (lambda: frechet_mean(Sphere(), 2 * EYES), ValueError, ["Sphere", "off by 1"]),
        (lambda: frechet_mean(Sphere(), EYES[0], [1, 2]), ValueError, ["weights", "(3,)", "(2,)"]),
        (lambda: frechet_mean(Sphere(), EYES[0], [1, 2, -1]), ValueError, ["weights", "negative", "-1"]),
        (lambda: frechet_mean(Sphere(), EYES[0], tol=-1), ValueError, ["tol", "-1"]),
        (lambda: latent_heads("torus"), ValueError, ["euclidean, sphere, hyperbolic", "'torus'"]),
        (lambda: svrg(lambda x, rows: x.sum(), Sphere(), NORTH, n=0, lr=1.0), ValueError, ["n", "0"]),
        (lambda: svrg(lambda x, rows: x.sum(), Sphere(), NORTH, n=3, lr=0.0), ValueError, ["lr", "0.0"]),
        (
            lambda: svrg(lambda x, rows: x.sum() / 0, Sphere(), NORTH, n=3, lr=1.0),
            ArithmeticError,
            ["inf", "epoch 0", "lower lr", "1.0"],
        ),
    ],
)
def test_bad_statistics_are_refused(call, error, parts):
    with says(error, *parts):
        call()


def test_statistics_that_run_out_of_steps_say_so():
    x = Sphere().projx(torch.randn(9, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) + NORTH)
    assert frechet_mean(Sphere(), x, max_steps=1).status is Status.OUT_OF_STEPS
    assert geodesic_kmeans(Sphere(), x, 3, max_steps=1).status is Status.OUT_OF_STEPS
    found = svrg(lambda p, rows: (x[rows] @ p).mean(), Sphere(), np.array([0.0, 0.6, 0.8]), n=9, lr=1e-3, epochs=1)
    assert found.status is Status.OUT_OF_STEPS
    assert isinstance(found.point, np.ndarray)


@pytest.mark.parametrize("method", ["cg", "lbfgs", "trust"])
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize(
    ("manifold", "cost"),
    [
        (Euclidean(1), lambda x: -x.exp().sum(-1)),
        (SPD(), lambda x: -torch.logdet(x)),
        (SPD(), lambda x: -x.diagonal(dim1=-2, dim2=-1).sum(-1)),
        (PoincareBall(), lambda x: -PoincareBall().dist2(x, torch.zeros_like(x))),
    ],
    ids=["exp", "logdet", "trace", "ball"],
)
def test_a_cost_without_a_lowest_value_is_named(manifold, cost, dtype, method):
    start = manifold.random(*(3,) * manifold.ndim, dtype=dtype, generator=0)
    found = minimize(cost, manifold, start, method, max_steps=400)
    assert found.status is Status.UNBOUNDED
    assert "unbounded below" in str(found.status)
    assert not found.converged


@pytest.mark.parametrize("method", ["cg", "lbfgs"])
@pytest.mark.parametrize("space", [Euclidean(1), Product((Sphere(), 2), (Euclidean(1), 2))], ids=lambda m: m.name)
def test_a_cost_that_falls_along_a_line_is_named_and_the_other_problems_are_solved(space, method):
    start = space.projx(torch.ones(2, 4, dtype=F64))

    def cost(x):
        return torch.stack([x[0, 2:].sum(), (x[1, 2:] ** 2).sum()])

    found = minimize(cost, space, start, method, max_steps=300)
    assert found.status is Status.UNBOUNDED
    assert found.cost[0] < -1e9
    assert found.cost[1] < 1e-12


@pytest.mark.parametrize("method", ["cg", "lbfgs", "trust"])
def test_a_cost_with_a_kink_is_not_called_unbounded(method):
    start = torch.tensor([1.0, -2.0, 0.3], dtype=F64)
    assert minimize(lambda x: x.abs().sum(-1), Euclidean(1), start, method).status is not Status.UNBOUNDED


def test_a_cost_without_a_second_derivative_is_named_where_it_is_needed():
    with says(ValueError, "second derivative", 'method="lbfgs"'):
        minimize(lambda x: x.abs().pow(1.5).sum(-1) + x[..., 0], Euclidean(1), torch.zeros(2, dtype=F64), "trust")


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: Stiefel().random(2, 5), ["n ≥ p", "(2, 5)"]),
        (lambda: Grassmann().random((4, 2, 5)), ["n ≥ p", "(4, 2, 5)"]),
        (lambda: Stiefel().origin(3), ["n ≥ p", "(3,)"]),
        (lambda: Stiefel().dim(3, 4), ["n ≥ p", "(3, 4)"]),
        (lambda: SPD().random(3, 4), ["(..., n, n)", "(3, 4)"]),
        (lambda: SPD().random(0, 0), ["SPD", "(0, 0)"]),
        (lambda: Sphere().random(), ["Sphere", "()"]),
        (lambda: PoincareBall().random(5, 0), ["Poincare", "(5, 0)"]),
        (lambda: Product((Sphere(), 3), (SPD(), (2, 2))).random(5), ["(..., 7)", "(5,)"]),
    ],
)
def test_shapes_that_points_cannot_have_are_refused(call, parts):
    with says(ValueError, *parts):
        call()


def test_matrices_without_numbers_or_too_far_apart_are_named():
    nothing = torch.stack([torch.full((3, 2), torch.nan), torch.eye(3)[:, :2]])
    assert torch.equal(Stiefel().projx(nothing).isnan(), nothing.isnan())
    assert SPD().expmap(torch.eye(2), nothing[0, :2]).isnan().all()
    with says(ValueError, "positive definite", "nan"):
        SPD().dist(torch.eye(2), nothing[0, :2])
    wide = torch.randn(2, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(0)) * 4
    x, y = torch.linalg.matrix_exp(wide + wide.mT)
    with says(ArithmeticError, "too far apart", "float64"):
        SPD().dist(x, y)
    with says(ValueError, "x must lie on Stiefel", "off by"):
        Stiefel().logmap(torch.ones(4, 2), torch.eye(4)[:, :2])
    with says(TypeError, "generator", "str"):
        Sphere().random(3, generator="0")


def test_the_second_derivative_of_the_logarithm_on_stiefel_is_refused():
    x = Stiefel().random(3, 4, 2, dtype=F64, generator=0)
    near = Stiefel().projx(x[:1] + 0.1 * x[1:2])

    def cost(p):
        return Stiefel().dist2(p, near[0])

    assert minimize(cost, Stiefel(), x[0], tol=1e-7).converged
    with says(NotImplementedError, "logarithm on Stiefel", "one derivative", 'method="lbfgs"'):
        minimize(cost, Stiefel(), x[0], "trust")
