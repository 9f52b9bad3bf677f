"""Minimisers against eigenvalues and closed forms; superlinear convergence; batches."""

from __future__ import annotations

import itertools

import geoopt
import numpy as np
import pytest
import torch

from brenier.riemannian import SPD, Grassmann, PoincareBall, Sphere, Stiefel, frechet_mean, minimize, svrg
from brenier.solution import Status

F64 = torch.float64
METHODS = ["cg", "lbfgs", "trust"]


@pytest.fixture
def matrices(generator):
    a = torch.randn(6, 12, 30, dtype=F64, generator=generator)
    return a @ a.mT / 30


@pytest.mark.parametrize("method", METHODS)
def test_the_first_eigenvector_is_found_on_the_sphere(method, matrices, generator):
    start = Sphere().projx(torch.randn(6, 12, dtype=F64, generator=generator))
    found = minimize(lambda x: -(torch.einsum("bij,bj->bi", matrices, x) * x).sum(-1), Sphere(), start, method)
    assert found.status is Status.STATIONARY
    assert found.converged
    assert found.gradient_norm.max() <= 1e-6
    torch.testing.assert_close(-found.cost, torch.linalg.eigvalsh(matrices)[:, -1], atol=1e-10, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_principal_components_are_found_on_stiefel_and_grassmann(method, matrices, generator):
    start = Stiefel().projx(torch.randn(6, 12, 3, dtype=F64, generator=generator))
    weights = torch.tensor([3.0, 2.0, 1.0], dtype=F64)
    values = torch.linalg.eigvalsh(matrices).flip(-1)[:, :3]
    span = minimize(lambda x: -((matrices @ x) * x).sum((-2, -1)), Grassmann(), start, method)
    torch.testing.assert_close(-span.cost, values.sum(-1), atol=1e-10, rtol=0)
    axes = minimize(lambda x: -((matrices @ x) * x * weights).sum((-2, -1)), Stiefel(), start, method)
    torch.testing.assert_close(-axes.cost, (values * weights).sum(-1), atol=1e-10, rtol=0)
    assert span.converged
    assert axes.converged
    assert Stiefel().error(axes.point).max() < 1e-13


@pytest.mark.parametrize("method", METHODS)
def test_the_cost_of_karcher_leads_to_the_mean(method, generator):
    x = torch.randn(3, 5, 3, 3, dtype=F64, generator=generator)
    x = x @ x.mT + torch.eye(3, dtype=F64) / 5
    low = torch.linalg.cholesky(x)

    def cost(p):
        half = torch.linalg.solve_triangular(low, p[:, None].expand_as(x), upper=False)
        white = torch.linalg.solve_triangular(low, half.mT, upper=False)
        return torch.linalg.eigvalsh((white + white.mT) / 2).log().square().sum((-2, -1)) / 10

    found = minimize(cost, SPD(), x.mean(1), method)
    assert found.converged
    torch.testing.assert_close(found.point, frechet_mean(SPD(), x).point, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_point_between_two_of_the_ball(method):
    ball = PoincareBall()
    ends = torch.tensor([[0.0, 0.6], [0.0, -0.6]], dtype=F64)
    start = torch.tensor([0.5, 0.3], dtype=F64)
    found = minimize(lambda x: ball.dist(x, ends).square().sum(-1), ball, start, method)
    assert found.converged
    assert found.point.abs().max() < 1e-6


@pytest.mark.parametrize("method", ["cg", "lbfgs"])
def test_manifolds_of_geoopt_are_taken(method, matrices, generator):
    start = torch.linalg.qr(torch.randn(6, 12, 2, dtype=F64, generator=generator)).Q
    theirs = geoopt.Stiefel(canonical=False)
    found = minimize(lambda x: -((matrices @ x) * x).sum((-2, -1)), theirs, start, method)
    torch.testing.assert_close(-found.cost, torch.linalg.eigvalsh(matrices)[:, -2:].sum(-1), atol=1e-10, rtol=0)


def test_trust_regions_converge_superlinearly(matrices, generator):
    start = Stiefel().projx(torch.randn(12, 3, dtype=F64, generator=generator))
    weights = torch.tensor([3.0, 2.0, 1.0], dtype=F64)

    def cost(x):
        return -((matrices[0] @ x) * x * weights).sum()

    norms = [step["gradient_norm"] for step in minimize(cost, Stiefel(), start, "trust", tol=1e-11).history]
    late = [(a, b) for a, b in itertools.pairwise(norms) if a < 1e-1 and b > 1e-13]
    assert len(late) >= 2
    assert all(b < 10 * a**1.5 for a, b in late)


@pytest.mark.parametrize("method", METHODS)
def test_problems_side_by_side_have_the_answers_that_they_have_alone(method, matrices, generator):
    start = Sphere().projx(torch.randn(6, 12, dtype=F64, generator=generator))

    def cost(a):
        return lambda x: -(torch.einsum("...ij,...j->...i", a, x) * x).sum(-1)

    together = minimize(cost(matrices), Sphere(), start, method)
    for a, x, point in zip(matrices, start, together.point, strict=True):
        alone = minimize(cost(a), Sphere(), x, method)
        assert Sphere().dist(alone.point, point) < 1e-5


def test_arrays_in_arrays_out_and_float32_stays():
    start = np.array([0.6, 0.8], dtype=np.float32)
    found = minimize(lambda x: -x[..., 0], Sphere(), start, tol=1e-3)
    assert isinstance(found.point, np.ndarray)
    assert found.point.dtype == np.float32
    assert found.point[0] == pytest.approx(1, abs=1e-5)


def test_variance_reduction_converges_where_plain_steps_stall(generator):
    x = torch.randn(64, 5, dtype=F64, generator=generator) * torch.tensor([2.0, 1.0, 1.0, 0.5, 0.5], dtype=F64)
    start = Sphere().projx(torch.ones(5, dtype=F64))

    def cost(p, rows):
        return -(x[rows] @ p).square().mean()

    found = svrg(cost, Sphere(), start, n=64, lr=0.05, batch_size=8, tol=1e-8)
    assert found.status is Status.STATIONARY
    assert -found.cost == pytest.approx(float(torch.linalg.eigvalsh(x.mT @ x / 64)[-1]), abs=1e-12)
    p, order = start, torch.Generator().manual_seed(0)
    for _ in range(len(found.history)):
        for rows in torch.randperm(64, generator=order).split(8):
            p = Sphere().retr(p, Sphere().proju(p, 0.1 * x[rows].mT @ (x[rows] @ p) / len(rows)))
    plain = Sphere().proju(p, 2 * x.mT @ (x @ p) / 64).norm()
    assert plain > 1e4 * found.gradient_norm
