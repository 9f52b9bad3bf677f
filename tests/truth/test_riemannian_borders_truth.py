"""Gradients of every verb of every manifold at zero vectors, equal points and eigenvalues; answers for no points."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from brenier.riemannian import SPD, Euclidean, Grassmann, PoincareBall, Product, Sphere, Stiefel, minimize

F64 = torch.float64
MANIFOLDS = {
    "Sphere": (Sphere(), (4,)),
    "PoincareBall": (PoincareBall(), (3,)),
    "SPD": (SPD(), (3, 3)),
    "Stiefel": (Stiefel(), (5, 2)),
    "Stiefel-square": (Stiefel(), (2, 2)),
    "Stiefel-wide-span": (Stiefel(), (3, 2)),
    "Grassmann": (Grassmann(), (5, 2)),
    "Grassmann-wide-span": (Grassmann(), (3, 2)),
    "Euclidean": (Euclidean(1), (3,)),
    "Euclidean-matrices": (Euclidean(2), (2, 3)),
    "Euclidean-numbers": (Euclidean(0), ()),
    "Product": (Product((Sphere(), 3), (SPD(), (2, 2)), (PoincareBall(), 2)), (9,)),
}
ONCE = ("Stiefel", "Stiefel-square", "Stiefel-wide-span")  # their logarithm has one derivative
PLACES = ["at the origin, nothing", "at the origin", "anywhere, nothing", "anywhere"]


@pytest.fixture(params=MANIFOLDS, ids=str)
def name(request):
    return request.param


def placed(name, place, generator):
    """A point, a tangent vector, a second point and tangent vector."""
    manifold, shape = MANIFOLDS[name]
    x = manifold.random(*shape, dtype=F64, generator=generator)
    if place.startswith("at the origin"):
        x = manifold.origin(*shape, dtype=F64)
    u = 0.1 * manifold.random_tangent(x, generator=generator)
    if place.endswith("nothing"):
        u = torch.zeros_like(u)
    y = manifold.projx(manifold.expmap(x, u))
    return x, u, y, manifold.random_tangent(x, generator=generator)


def verbs(manifold):
    """Smooth verbs as functions of (x, u, y, v) in the space around."""
    on, to = manifold.projx, manifold.proju
    return {
        "projx": lambda x, u, y, v: on(x),
        "proju": lambda x, u, y, v: to(on(x), v),
        "egrad2rgrad": lambda x, u, y, v: manifold.egrad2rgrad(on(x), v),
        "inner": lambda x, u, y, v: manifold.inner(on(x), to(on(x), u), to(on(x), v)),
        "retr": lambda x, u, y, v: manifold.retr(on(x), to(on(x), u)),
        "expmap": lambda x, u, y, v: manifold.expmap(on(x), to(on(x), u)),
        "transp": lambda x, u, y, v: manifold.transp(on(x), on(y), to(on(x), v)),
        "logmap": lambda x, u, y, v: manifold.logmap(on(x), on(y)),
        "dist2": lambda x, u, y, v: manifold.dist2(on(x), on(y)),
    }


@pytest.mark.parametrize("place", PLACES)
def test_verbs_have_the_gradient_of_finite_differences(name, place, generator):
    inputs = tuple(t.clone().requires_grad_() for t in placed(name, place, generator))
    for verb, call in verbs(MANIFOLDS[name][0]).items():
        assert gradcheck(call, inputs, atol=2e-6, rtol=1e-4), verb


@pytest.mark.parametrize("place", PLACES)
def test_steps_and_squared_distances_have_second_derivatives(name, place, generator):
    manifold = MANIFOLDS[name][0]
    x, u, y, _ = placed(name, place, generator)
    moved = u.clone().requires_grad_()
    assert gradgradcheck(lambda u: manifold.retr(x, manifold.proju(x, u)), moved, atol=1e-5, rtol=1e-3)
    assert gradgradcheck(lambda u: manifold.expmap(x, manifold.proju(x, u)), moved, atol=1e-5, rtol=1e-3)
    if name not in ONCE:
        other = y.clone().requires_grad_()
        assert gradgradcheck(lambda y: manifold.dist2(x, manifold.projx(y)), other, atol=1e-5, rtol=1e-3)


def test_lengths_at_zero_have_the_gradient_zero_and_distances_apart_that_of_finite_differences(name, generator):
    manifold, shape = MANIFOLDS[name]
    x, u, y, _ = placed(name, "anywhere", generator)
    zero, same = torch.zeros_like(u).requires_grad_(), x.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(manifold.norm(x, zero), zero)[0], torch.zeros_like(u))
    assert torch.autograd.grad(manifold.dist(same, x), same)[0].isfinite().all()
    origin = manifold.origin(*shape, dtype=F64)
    same = origin.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(manifold.dist(same, origin), same)[0], torch.zeros_like(x))
    apart = y.clone().requires_grad_()
    assert gradcheck(lambda y: manifold.dist(x, manifold.projx(y)), apart, atol=2e-6, rtol=1e-4)
    assert gradcheck(lambda u: manifold.norm(x, u), u.clone().requires_grad_())


def test_eigenvalues_that_are_equal_or_nearly_so_have_gradients(generator):
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=F64, generator=generator)).Q
    for gap in (0.0, 1e-9, 1e-4):
        y = turn @ torch.diag(torch.tensor([2.0, 2.0 + gap, 0.5], dtype=F64)) @ turn.mT
        for start in (torch.eye(3, dtype=F64), y):
            x = start.clone().requires_grad_()
            assert gradcheck(lambda x, y=y: SPD().logmap(x, y), x)
            assert gradcheck(lambda x, y=y: SPD().dist2(x, y), x)
            assert gradcheck(lambda x, y=y: SPD().transp(x, y, y), x)


def test_the_second_derivative_of_the_squared_distance_is_the_metric(name, generator):
    if name in ONCE:
        pytest.skip("the logarithm on Stiefel has one derivative")
    manifold = MANIFOLDS[name][0]
    x, _, _, v = placed(name, "anywhere", generator)
    t = torch.zeros((), dtype=F64, requires_grad=True)
    square = manifold.dist2(x, manifold.expmap(x, t * v))
    (slope,) = torch.autograd.grad(square, t, create_graph=True)
    (bend,) = torch.autograd.grad(slope, t)
    torch.testing.assert_close(bend, 2 * manifold.inner(x, v, v), rtol=1e-9, atol=1e-9)


def test_newton_finds_a_mean_from_one_of_its_points(name, generator):
    if name in ONCE:
        pytest.skip("the logarithm on Stiefel has one derivative")
    manifold, shape = MANIFOLDS[name]
    start = manifold.random(*shape, dtype=F64, generator=generator)
    near = [manifold.expmap(start, 0.3 * manifold.random_tangent(start, generator=generator)) for _ in range(3)]
    points = torch.stack([start, *near])

    def cost(x):
        return manifold.dist2(x.expand_as(points), points).mean()

    found = minimize(cost, manifold, start, "trust", tol=1e-8)
    assert found.converged, str(found.status)
    logs = manifold.logmap(found.point.expand_as(points), points)
    assert logs.mean(0).abs().max() < 1e-7


@pytest.mark.parametrize("lead", [(0,), (2, 0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_no_points_give_no_answers(name, lead, dtype):
    manifold, shape = MANIFOLDS[name]
    x = manifold.random(*lead, *shape, dtype=dtype, generator=0)
    assert x.shape == (*lead, *shape)
    assert manifold.origin(*lead, *shape, dtype=dtype).shape == x.shape
    assert manifold.random_tangent(x, generator=0).shape == x.shape
    for verb in ("projx", "proju", "egrad2rgrad", "retr", "expmap", "logmap", "transp"):
        count = {"projx": 1, "transp": 3}.get(verb, 2)
        answer = getattr(manifold, verb)(*[x] * count)
        assert answer.shape == x.shape, verb
        assert answer.dtype == dtype
    for verb in ("inner", "norm", "dist", "dist2"):
        assert getattr(manifold, verb)(x, x).shape == lead
        assert getattr(manifold, verb)(x, x, keepdim=True).shape == (*lead, *[1] * manifold.ndim)
    assert manifold.error(x).shape == manifold.inside(x).shape == lead
    assert manifold.check_point_on_manifold(x)
    assert manifold.check_vector_on_tangent(x, x)
