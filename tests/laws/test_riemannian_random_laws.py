"""Random points and tangent vectors, origins and dimensions of every manifold."""

from __future__ import annotations

import pytest
import torch

from brenier.riemannian import SPD, Euclidean, Grassmann, PoincareBall, Product, Sphere, Stiefel, minimize

F64 = torch.float64
MANIFOLDS = {
    "Sphere": (Sphere(), (4,), 3),
    "PoincareBall": (PoincareBall(), (3,), 3),
    "SPD": (SPD(), (5, 5), 15),
    "Stiefel": (Stiefel(), (5, 2), 7),
    "Grassmann": (Grassmann(), (5, 2), 6),
    "Euclidean": (Euclidean(2), (3, 2), 6),
    "Euclidean-numbers": (Euclidean(0), (), 1),
    "Product": (Product((Sphere(), 3), (SPD(), (2, 2)), (Euclidean(1), 2)), (9,), 7),
}


@pytest.fixture(params=MANIFOLDS, ids=str)
def space(request):
    return MANIFOLDS[request.param]


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_random_points_lie_on_the_manifold_and_a_seed_gives_them_again(space, dtype):
    manifold, shape, _ = space
    x = manifold.random(7, 3, *shape, dtype=dtype, generator=5)
    assert x.shape == (7, 3, *shape)
    assert x.dtype == dtype
    assert manifold.check_point_on_manifold(x)
    assert torch.equal(x, manifold.random((7, 3, *shape), dtype=dtype, generator=torch.Generator().manual_seed(5)))
    assert not torch.equal(x, manifold.random(7, 3, *shape, dtype=dtype, generator=6))
    assert len(x.reshape(21, -1).unique(dim=0)) == 21


def test_the_origin_is_one_point_everywhere(space):
    manifold, shape, _ = space
    x = manifold.origin(3, *shape, dtype=F64)
    assert manifold.check_point_on_manifold(x, atol=1e-15)
    assert torch.equal(x[0], x[2])
    assert torch.equal(x, manifold.origin((3, *shape), dtype=F64))


def test_tangent_vectors_are_normal_in_as_many_directions_as_the_manifold_has(space):
    manifold, shape, dim = space
    assert manifold.dim(*shape) == manifold.dim(7, *shape) == dim
    x = manifold.random(*shape, dtype=F64, generator=1).expand(20_000, *shape)
    v = manifold.random_tangent(x, generator=2)
    assert manifold.check_vector_on_tangent(x, v)
    squares = manifold.inner(x, v, v).reshape(len(x))  # chi-squared of dim degrees: mean dim, variance 2 dim
    assert float(squares.mean()) == pytest.approx(dim, abs=5 * (2 * dim / len(x)) ** 0.5)
    assert float(squares.var()) == pytest.approx(2 * dim, rel=0.15)
    assert int(torch.linalg.matrix_rank(v[:100].reshape(100, -1))) == dim


@pytest.mark.parametrize("n", [2, 5, 20, 50])
def test_random_positive_matrices_are_well_conditioned_and_have_distances(n):
    x, y = SPD().random(2, 100, n, n, dtype=F64, generator=0)
    assert float(torch.linalg.cond(x).max()) < 1e3
    assert SPD().dist(x, y).isfinite().all()
    assert SPD().dist(*SPD().random(2, 100, n, n, dtype=torch.float32, generator=0)).isfinite().all()


def test_minimising_from_a_random_matrix_finds_the_optimum():
    a = SPD().random(50, 4, 4, dtype=F64, generator=0)
    start = SPD().random(50, 4, 4, dtype=F64, generator=1)
    for method in ("cg", "lbfgs", "trust"):
        found = minimize(
            lambda x: (torch.linalg.inv(x) @ a).diagonal(dim1=-2, dim2=-1).sum(-1) + torch.logdet(x),
            SPD(),
            start,
            method,
        )
        assert found.converged
        torch.testing.assert_close(found.point, a, atol=1e-5, rtol=1e-5)


def test_random_points_of_compact_manifolds_are_uniform():
    """The mean of x xᵀ over points is p/n I where no direction is preferred."""
    for manifold, shape in ((Sphere(), (3,)), (Stiefel(), (4, 2)), (Grassmann(), (4, 2))):
        x = manifold.random(40_000, *shape, dtype=F64, generator=3).reshape(40_000, shape[0], -1)
        mean = (x @ x.mT).mean(0)
        share = x.shape[-1] / shape[0]
        torch.testing.assert_close(mean, share * torch.eye(shape[0], dtype=F64), atol=0.01, rtol=0)
