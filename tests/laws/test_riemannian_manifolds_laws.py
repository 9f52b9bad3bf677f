"""Laws of the manifolds: orders of retractions, isometry of transports, tangency, invariances."""

from __future__ import annotations

import pytest
import torch

from brenier.riemannian import SPD, Grassmann, PoincareBall, Sphere, Stiefel

F64 = torch.float64


def start_and_velocity(manifold, generator):
    """Eight points and unit tangent vectors."""
    shape = (8, 4) if manifold.ndim == 1 else (8, 3, 3) if isinstance(manifold, SPD) else (8, 6, 3)
    x = torch.randn(shape, dtype=F64, generator=generator)
    x = x @ x.mT + torch.eye(3, dtype=F64) if isinstance(manifold, SPD) else manifold.projx(x / 5)
    v = manifold.proju(x, torch.randn(shape, dtype=F64, generator=generator))
    return x, v / manifold.norm(x, v, keepdim=True)


def slope(errors, steps):
    """The order p of errors ~ steps^p."""
    x, y = steps.log(), errors.log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


@pytest.mark.parametrize(
    ("manifold", "retraction", "order"),
    [
        (Sphere(), Sphere().retr, 3),
        (SPD(), SPD().retr, 3),
        (Stiefel(), Stiefel().retr, 2),
        (Stiefel(), lambda x, u: Stiefel().projx(x + u), 3),
        (Grassmann(), Grassmann().retr, 3),
        (PoincareBall(), PoincareBall().retr, 2),
    ],
    ids=["Sphere", "SPD", "Stiefel-Q-factor", "Stiefel-polar", "Grassmann", "PoincareBall"],
)
def test_retractions_leave_the_geodesic_with_their_order(manifold, retraction, order, generator):
    x, v = start_and_velocity(manifold, generator)
    steps = torch.logspace(-2.5, -1.5, 5, dtype=F64)
    errors = torch.stack([manifold.dist(retraction(x, t * v), manifold.expmap(x, t * v)).mean() for t in steps])
    assert slope(errors, steps) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("manifold", [Sphere(), SPD(), Grassmann(), PoincareBall()], ids=lambda m: type(m).__name__)
def test_transport_is_an_isometry_that_carries_the_velocity_along(manifold, generator):
    x, v = start_and_velocity(manifold, generator)
    w = manifold.proju(x, torch.randn(v.shape, dtype=F64, generator=generator))
    y = manifold.expmap(x, v)
    for a, b in ((v, v), (v, w), (w, w)):
        there = manifold.inner(y, manifold.transp(x, y, a), manifold.transp(x, y, b))
        torch.testing.assert_close(there, manifold.inner(x, a, b), atol=1e-12, rtol=1e-9)
    onward = manifold.expmap(x, 1.5 * v)
    beyond = manifold.expmap(y, 0.5 * manifold.transp(x, y, v))
    assert manifold.dist(onward, beyond).max() < 1e-7


@pytest.mark.parametrize(
    "manifold", [Sphere(), SPD(), Stiefel(), Grassmann(), PoincareBall()], ids=lambda m: type(m).__name__
)
def test_gradients_logs_and_transports_are_tangent_and_the_gradient_is_the_derivative(manifold, generator):
    x, v = start_and_velocity(manifold, generator)
    y = manifold.expmap(x, v)
    ambient = torch.randn(x.shape, dtype=F64, generator=generator)
    gradient = manifold.egrad2rgrad(x, ambient)
    for at, u in ((x, gradient), (x, manifold.logmap(x, y)), (y, manifold.transp(x, y, v))):
        torch.testing.assert_close(manifold.proju(at, u), u, atol=1e-12, rtol=1e-10)
    axes = tuple(range(-manifold.ndim, 0))
    torch.testing.assert_close(manifold.inner(x, gradient, v).flatten(), (ambient * v).sum(axes).flatten())


def test_affine_maps_are_isometries_of_positive_matrices(generator):
    x, v = start_and_velocity(SPD(), generator)
    y = SPD().expmap(x, v)
    a = torch.randn(x.shape[-2:], dtype=F64, generator=generator)
    torch.testing.assert_close(SPD().dist(a @ x @ a.mT, a @ y @ a.mT), SPD().dist(x, y))
    torch.testing.assert_close(SPD().dist(x.inverse(), y.inverse()), SPD().dist(x, y))


@pytest.mark.parametrize("manifold", [Stiefel(), Grassmann()], ids=lambda m: type(m).__name__)
def test_rotations_are_isometries(manifold, generator):
    x, v = start_and_velocity(manifold, generator)
    y = manifold.expmap(x, v)
    turn = torch.linalg.qr(torch.randn(x.shape[-2], x.shape[-2], dtype=F64, generator=generator)).Q
    torch.testing.assert_close(manifold.dist(turn @ x, turn @ y), manifold.dist(x, y))
    torch.testing.assert_close(manifold.logmap(turn @ x, turn @ y), turn @ manifold.logmap(x, y), atol=1e-9, rtol=1e-9)
