"""Closed forms of the manifolds: exp and log, distances, projections."""

from __future__ import annotations

import math

import pytest
import torch

from brenier.riemannian import SPD, Euclidean, Grassmann, PoincareBall, Product, Sphere, Stiefel

F64 = torch.float64


def points(manifold, shape, generator, dtype=F64):
    x = torch.randn(shape, generator=generator, dtype=dtype)
    if isinstance(manifold, SPD):
        return x @ x.mT + torch.eye(shape[-1], dtype=dtype) / 2
    return manifold.projx(x / 6 if isinstance(manifold, PoincareBall) else x)


def unit_tangents(manifold, x, generator):
    v = manifold.proju(x, torch.randn(x.shape, generator=generator, dtype=x.dtype))
    return v / manifold.norm(x, v, keepdim=True)


SPACES = [
    (Sphere(), (2, 10, 5)),
    (PoincareBall(), (2, 10, 5)),
    (SPD(), (2, 10, 4, 4)),
    (Stiefel(), (2, 10, 7, 2)),
    (Stiefel(), (2, 10, 6, 4)),
    (Stiefel(), (20, 5, 1)),
    (Grassmann(), (2, 10, 7, 2)),
    (Grassmann(), (2, 10, 6, 4)),
    (Product((Sphere(), 3), (SPD(), (2, 2)), (Euclidean(), 2)), (4, 9)),
]
IDS = [f"{type(space).__name__}-{'x'.join(map(str, shape))}" for space, shape in SPACES]


@pytest.fixture(params=SPACES, ids=IDS)
def space(request):
    return request.param


def drawn(space, generator, dtype=F64):
    manifold, shape = space
    if isinstance(manifold, Product):
        parts = [points(Sphere(), (4, 3), generator, dtype), points(SPD(), (4, 2, 2), generator, dtype).flatten(1)]
        return torch.cat([*parts, torch.randn(4, 2, generator=generator, dtype=dtype)], 1)
    return points(manifold, shape, generator, dtype)


@pytest.mark.parametrize("length", [1e-7, 0.3, 1.2])
def test_log_inverts_exp_and_its_length_is_the_distance(space, generator, length):
    manifold = space[0]
    x = drawn(space, generator)
    v = length * unit_tangents(manifold, x, generator)
    y = manifold.expmap(x, v)
    found = manifold.logmap(x, y)
    assert (found - v).abs().max() < 1e-8 * max(length, 1e-5)
    torch.testing.assert_close(manifold.norm(x, v).flatten(), manifold.dist(x, y).flatten(), atol=1e-14, rtol=1e-8)
    assert manifold.check_point_on_manifold(y, atol=1e-12)


def test_float32_stays_float32_and_is_accurate_to_its_digits(space, generator):
    manifold = space[0]
    x = drawn(space, generator, torch.float32)
    v = 0.5 * unit_tangents(manifold, x, generator)
    y = manifold.expmap(x, v)
    assert y.dtype == v.dtype == manifold.transp(x, y, v).dtype == torch.float32
    assert (manifold.logmap(x, y) - v).abs().max() < 2e-5


def test_projections_are_idempotent_and_leave_points_and_tangents(space, generator):
    manifold = space[0]
    x = drawn(space, generator)
    v = unit_tangents(manifold, x, generator)
    torch.testing.assert_close(manifold.projx(x), x, atol=1e-14, rtol=1e-12)
    torch.testing.assert_close(manifold.proju(x, v), v, atol=1e-14, rtol=1e-12)


def test_distances_on_the_sphere_are_angles(generator):
    x, y = points(Sphere(), (2, 50, 4), generator)
    torch.testing.assert_close(Sphere().dist(x, y), torch.arccos((x * y).sum(-1)))


@pytest.mark.parametrize("angle", [1e-9, 1e-4, math.pi - 1e-6])
def test_close_and_far_points_of_the_sphere_keep_their_digits(angle):
    x = torch.tensor([1.0, 0.0], dtype=F64)
    y = torch.tensor([math.cos(angle), math.sin(angle)], dtype=F64)
    assert float(Sphere().dist(x, y)) == pytest.approx(angle, rel=1e-9)


def test_distances_in_the_ball_are_those_of_the_poincare_model(generator):
    x, y = points(PoincareBall(), (2, 50, 3), generator)
    ratio = (x - y).square().sum(-1) / ((1 - x.square().sum(-1)) * (1 - y.square().sum(-1)))
    torch.testing.assert_close(PoincareBall().dist(x, y), torch.arccosh(1 + 2 * ratio))


def test_distances_of_positive_matrices_are_logarithms_of_eigenvalues(generator):
    x, y = points(SPD(), (2, 20, 3, 3), generator)
    values = torch.linalg.eigvals(torch.linalg.solve(x, y)).real
    torch.testing.assert_close(SPD().dist(x, y), values.log().norm(dim=-1))


def test_positive_matrices_that_commute_are_flat():
    a, b = torch.tensor([1.0, 4.0], dtype=F64), torch.tensor([9.0, 1.0], dtype=F64)
    middle = SPD().expmap(torch.diag(a), SPD().logmap(torch.diag(a), torch.diag(b)) / 2)
    torch.testing.assert_close(middle, torch.diag((a * b).sqrt()))


def test_distances_of_subspaces_are_norms_of_principal_angles(generator):
    angles = torch.tensor([0.2, 1.1], dtype=F64)
    x = torch.eye(6, dtype=F64)[:, :2]
    y = torch.cat([torch.diag(angles.cos()), torch.diag(angles.sin()), torch.zeros(2, 2, dtype=F64)])
    turn = torch.linalg.qr(torch.randn(2, 2, dtype=F64, generator=generator)).Q
    torch.testing.assert_close(Grassmann().dist(x, y @ turn), angles.norm())
    torch.testing.assert_close(Grassmann().dist(x, x @ turn), torch.zeros((), dtype=F64), atol=1e-14, rtol=0)


def test_the_stiefel_manifold_of_one_column_is_the_sphere_and_of_all_columns_the_rotations(generator):
    x, y = points(Sphere(), (2, 10, 4), generator)
    as_columns = Stiefel().logmap(x[..., None], y[..., None])[..., 0]
    torch.testing.assert_close(as_columns, Sphere().logmap(x, y), atol=1e-10, rtol=1e-10)
    a = torch.randn(5, 3, 3, dtype=F64, generator=generator) / 3
    rotation = torch.linalg.matrix_exp(a - a.mT)
    eye = torch.eye(3, dtype=F64).expand(5, 3, 3)
    torch.testing.assert_close(Stiefel().logmap(eye, rotation), a - a.mT, atol=1e-10, rtol=1e-10)


def test_the_stiefel_projection_is_the_nearest_point(generator):
    a = torch.randn(8, 5, 3, dtype=F64, generator=generator)
    u, _, v = torch.linalg.svd(a, full_matrices=False)
    torch.testing.assert_close(Stiefel().projx(a), u @ v)
    near = u @ v + 0.05 * a
    u, _, v = torch.linalg.svd(near, full_matrices=False)
    torch.testing.assert_close(Stiefel().projx(near), u @ v, atol=1e-13, rtol=0)
