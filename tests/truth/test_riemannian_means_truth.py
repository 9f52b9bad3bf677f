"""Means, clusters and principal geodesics with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from brenier.riemannian import (
    SPD,
    Euclidean,
    Grassmann,
    PoincareBall,
    Product,
    Sphere,
    Stiefel,
    frechet_mean,
    geodesic_kmeans,
    principal_geodesics,
)
from brenier.solution import Status

F64 = torch.float64


def test_the_mean_of_matrices_that_commute_is_their_geometric_mean(generator):
    values = torch.rand(3, 7, 4, dtype=F64, generator=generator) * 5 + 0.1
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=F64, generator=generator)).Q
    found = frechet_mean(SPD(), turn @ torch.diag_embed(values) @ turn.mT, tol=1e-12)
    assert found.status is Status.MEAN
    torch.testing.assert_close(found.point, turn @ torch.diag_embed(values.log().mean(1).exp()) @ turn.mT)


def test_the_mean_of_two_points_is_halfway_and_weights_move_it(generator):
    for manifold, x in (
        (Sphere(), Sphere().projx(torch.randn(2, 4, dtype=F64, generator=generator))),
        (PoincareBall(), 0.3 * torch.randn(2, 2, dtype=F64, generator=generator)),
        (Grassmann(), Grassmann().projx(torch.randn(2, 5, 2, dtype=F64, generator=generator))),
    ):
        found = frechet_mean(manifold, x, weights=[0.25, 0.75])
        want = manifold.expmap(x[0], 0.75 * manifold.logmap(x[0], x[1]))
        assert manifold.dist(found.point, want) < 1e-7
        assert float(found.variance) == pytest.approx(0.1875 * float(manifold.dist(*x)) ** 2)


def test_the_mean_in_flat_space_is_the_mean(generator):
    x = torch.randn(5, 9, 3, dtype=F64, generator=generator)
    found = frechet_mean(Euclidean(1), x)
    torch.testing.assert_close(found.point, x.mean(1))
    torch.testing.assert_close(found.variance, x.var(1, correction=0).sum(-1))


def test_the_karcher_mean_solves_its_equation_and_moves_with_affine_maps(generator):
    x = torch.randn(10, 6, 5, 5, dtype=F64, generator=generator)
    x = x @ x.mT + 0.05 * torch.eye(5, dtype=F64)
    found = frechet_mean(SPD(), x)
    assert found.converged
    logs = SPD().logmap(found.point[:, None], x).mean(1)
    assert SPD().norm(found.point, logs).max() < 1e-7
    a = torch.randn(5, 5, dtype=F64, generator=generator)
    moved = frechet_mean(SPD(), a @ x @ a.mT).point
    torch.testing.assert_close(moved, a @ found.point @ a.mT, atol=1e-6, rtol=1e-6)


def test_three_groups_are_found_on_every_manifold():
    for manifold, shape in ((Sphere(), (3,)), (PoincareBall(), (2,)), (Grassmann(), (4, 1)), (Stiefel(), (3, 1))):
        draw = torch.Generator().manual_seed(1)
        centres = 0.7 * torch.eye(3, *shape[:1], dtype=F64)
        if shape == (2,):
            centres[2] = -0.6
        noisy = centres.repeat_interleave(8, 0) + 0.03 * torch.randn(24, shape[0], dtype=F64, generator=draw)
        found = geodesic_kmeans(manifold, manifold.projx(noisy.reshape(24, *shape)), 3, seed=0)
        assert found.status is Status.CLUSTERED
        assert len(set(map(tuple, found.labels.reshape(3, 8).tolist()))) == 3
        assert all(len(set(group)) == 1 for group in found.labels.reshape(3, 8).tolist())
        assert found.inertia < 2


def test_as_many_clusters_as_points_serve_each_exactly(generator):
    x = Sphere().projx(torch.randn(5, 3, dtype=F64, generator=generator))
    found = geodesic_kmeans(Sphere(), x, 5)
    assert found.inertia < 1e-12
    assert sorted(found.labels.tolist()) == [0, 1, 2, 3, 4]
    same = geodesic_kmeans(Sphere(), x[:1].expand(4, 3), 2)
    assert same.inertia < 1e-12


def test_principal_geodesics_in_flat_space_are_principal_components(generator):
    x = torch.randn(40, 4, dtype=F64, generator=generator) * torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=F64)
    found = principal_geodesics(Euclidean(1), x, 2)
    values, vectors = torch.linalg.eigh(torch.cov(x.mT, correction=0))
    torch.testing.assert_close(found.variances, values.flip(0)[:2])
    torch.testing.assert_close(found.shares, values.flip(0)[:2] / values.sum())
    torch.testing.assert_close((found.directions * vectors.mT.flip(0)[:2]).sum(1).abs(), torch.ones(2, dtype=F64))


@pytest.mark.parametrize("m", [6, 60])
def test_a_geodesic_of_positive_matrices_is_found_with_its_coordinates(m, generator):
    t = torch.linspace(-1, 1, m, dtype=F64)
    a = torch.randn(3, 3, dtype=F64, generator=generator)
    p = a @ a.mT + torch.eye(3, dtype=F64)
    v = SPD().proju(p, torch.randn(3, 3, dtype=F64, generator=generator))
    v = v / SPD().norm(p, v)
    x = SPD().expmap(p, t[:, None, None] * v)
    found = principal_geodesics(SPD(), x, 1)
    torch.testing.assert_close(found.mean, p, atol=1e-6, rtol=1e-6)
    assert float(found.shares[0]) == pytest.approx(1)
    torch.testing.assert_close(found.coordinates[:, 0].abs(), t.abs(), atol=1e-6, rtol=0)
    again = SPD().expmap(found.mean, found.coordinates[:, :1, None] * found.directions)
    torch.testing.assert_close(again, x, atol=1e-6, rtol=1e-6)


def test_arrays_give_arrays():
    x = np.array([[1.0, 0.1], [1.0, -0.1]]) / np.sqrt(1.01)
    assert isinstance(frechet_mean(Sphere(), x).point, np.ndarray)
    assert isinstance(geodesic_kmeans(Sphere(), x, 1).labels, np.ndarray)
    assert isinstance(principal_geodesics(Sphere(), x, 1).directions, np.ndarray)


@pytest.mark.parametrize("shift", [0.0, 1e-9, 0.3])
def test_three_points_around_the_equator_have_a_pole_as_mean(shift):
    angle = 2 * math.pi / 3 * torch.arange(3, dtype=F64) + shift
    x = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    found = frechet_mean(Sphere(), x)
    assert found.converged
    assert abs(float(found.point[2])) == pytest.approx(1)
    assert float(found.variance) == pytest.approx((math.pi / 2) ** 2)


def test_points_around_a_great_circle_have_a_mean_off_it_in_any_dimension(generator):
    for m, n in ((3, 4), (5, 3), (7, 6)):
        angle = 2 * math.pi / m * torch.arange(m, dtype=F64)
        x = torch.zeros(m, n, dtype=F64)
        x[:, 0], x[:, 1] = angle.cos(), angle.sin()
        turn = torch.linalg.qr(torch.randn(n, n, dtype=F64, generator=generator)).Q
        found = frechet_mean(Sphere(), torch.stack([x, x @ turn]))
        assert found.converged
        torch.testing.assert_close(found.variance, torch.full((2,), (math.pi / 2) ** 2, dtype=F64))


@pytest.mark.parametrize("n", [2, 3, 9, 40])
def test_the_mean_on_the_circle_is_the_best_and_knows_no_order(n, generator):
    angle = 2 * math.pi * torch.rand(20, n, dtype=F64, generator=generator)
    x = torch.stack([angle.cos(), angle.sin()], -1)
    weights = torch.rand(20, n, dtype=F64, generator=generator)
    found = frechet_mean(Sphere(), x, weights)
    assert found.converged
    grid = torch.linspace(0, 2 * math.pi, 5001, dtype=F64)[:, None, None]
    squares = ((grid - angle + math.pi) % (2 * math.pi) - math.pi) ** 2
    least = (squares * weights / weights.sum(-1, keepdim=True)).sum(-1).amin(0)
    assert (found.variance <= least + 1e-12).all()
    order = torch.randperm(n, generator=generator)
    torch.testing.assert_close(frechet_mean(Sphere(), x[:, order], weights[:, order]).point, found.point)


def test_equally_good_means_on_the_circle_do_not_depend_on_the_order():
    angle = 2 * math.pi / 5 * torch.arange(5, dtype=F64) + 0.1
    x = torch.stack([angle.cos(), angle.sin()], -1)
    means = [frechet_mean(Sphere(), x.roll(k, 0)).point for k in range(5)]
    torch.testing.assert_close(torch.stack(means), means[0].expand(5, 2))


def test_the_mean_of_a_torus_is_that_of_each_circle(generator):
    angle = 2 * math.pi * torch.rand(11, 2, dtype=F64, generator=generator)
    parts = [torch.stack([a.cos(), a.sin()], -1) for a in angle.unbind(1)]
    torus = Product((Sphere(), 2), (Sphere(), 2))
    found = frechet_mean(torus, torch.cat(parts, -1))
    each = [frechet_mean(Sphere(), part) for part in parts]
    assert found.converged
    torch.testing.assert_close(found.point, torch.cat([e.point for e in each]))
    torch.testing.assert_close(found.variance, sum(e.variance for e in each))


@pytest.mark.parametrize(("space", "shape"), [(Sphere(), (3,)), (Grassmann(), (4, 2))], ids=["Sphere", "Grassmann"])
def test_wide_samples_have_means_that_no_sample_beats(space, shape, generator):
    x = space.random(10, 6, *shape, dtype=F64, generator=generator)
    found = frechet_mean(space, x)
    every = x.unsqueeze(2).expand(10, 6, 6, *shape)
    squares = space.dist2(every, x.unsqueeze(1).expand_as(every)).mean(-1)
    assert (found.variance < squares.amin(-1)).all()
