"""Orders of convergence, and what holds for geodesics, transport and means of any metric."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from brenier import geometry
from brenier.geometry import chain, elements, spaces
from brenier.geometry.paths import minimise


def bump(x):
    """Flat but for a hill around the origin: two ways round it."""
    return torch.eye(2, dtype=x.dtype) * (1 + 20 * torch.exp(-4 * (x @ x)))


def rates(errors):
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


@pytest.mark.parametrize("space", [spaces.HalfSpace(), spaces.Sphere(), spaces.PoincareBall()], ids=str)
def test_the_order_of_the_discrete_geodesic_is_the_declared_one(space):
    """In length, in the momenta at the ends, and in the nodes between elements."""
    x, y = torch.tensor([[[-0.3, 0.2]], [[0.6, 0.3]]], dtype=torch.float64)
    v = space.log(x, y)
    momentum = space(x[0]) @ v[0]
    errors: dict[str, list[float]] = {"length": [], "momentum": [], "middle": []}
    for m in (2, 4, 8, 16):
        straight = x + (y - x) * torch.as_tensor(elements.NODES)[:, None]
        way, state, done, _ = minimise(space, x, elements.resample(straight[None] - x, m), 1e-9)
        assert done.all()
        load = chain.solve(state.hessian, -state.gradient, 2).load[0]
        errors["length"].append(abs(float((2 * state.value).sqrt() - space.distance(x, y))))
        errors["momentum"].append(float((load[:2] - momentum).norm()))
        errors["middle"].append(float((x + way[:, 3 * m // 2] - space.exp(x, v / 2)).norm()))
    for found in errors.values():
        assert all(abs(rate - elements.ORDER) < 0.7 for rate in rates(found)[1:]), (errors, rates(found))


@pytest.mark.parametrize("space", [spaces.HalfSpace(), spaces.Sphere()], ids=str)
def test_parallel_transport_is_of_order_four(space):
    x, y = torch.tensor([[-0.3, 0.2], [0.6, 0.3]], dtype=torch.float64)

    def end(n):
        t = torch.linspace(0, 1, n, dtype=x.dtype)[:, None]
        path = x + t * (y - x) + (math.pi * t).sin() * torch.tensor([0.0, 0.4])
        return geometry.parallel_transport(space, path, torch.tensor([1.0, 0.5], dtype=x.dtype))[-1]

    truth = end(513)
    errors = [float((end(n) - truth).norm()) for n in (17, 33, 65)]
    assert all(3.5 < rate < 5.5 for rate in rates(errors)), (errors, rates(errors))


def test_parallel_transport_is_an_isometry_and_there_and_back_is_nothing(generator):
    path = (0.3 * torch.randn(4, 9, 3, dtype=torch.float64, generator=generator)).cumsum(1)
    path[..., -1] = path[..., -1].exp()
    v, w = torch.randn(2, 4, 3, dtype=torch.float64, generator=generator)
    there = [geometry.parallel_transport(spaces.HalfSpace(), path, a) for a in (v, w)]
    inner = (there[0] * there[1]).sum(2) / path[..., -1] ** 2
    assert torch.allclose(inner, inner[:, :1].expand_as(inner), rtol=1e-12)
    back = geometry.parallel_transport(spaces.HalfSpace(), path.flip(1), there[0][:, -1])
    assert torch.allclose(back[:, -1], v, rtol=1e-10, atol=1e-10)
    summed = geometry.parallel_transport(spaces.HalfSpace(), path, 2 * v - w)
    assert torch.allclose(summed, 2 * there[0] - there[1], rtol=1e-10, atol=1e-10)


def test_the_velocity_of_a_geodesic_is_parallel():
    x, y = torch.tensor([[-0.3, 0.2], [0.6, 0.3]], dtype=torch.float64)
    found = geometry.geodesic(spaces.HalfSpace(), x, y, n=65)
    carried = geometry.parallel_transport(spaces.HalfSpace(), found.path, found.velocity)[-1]
    assert torch.allclose(carried, -geometry.log(spaces.HalfSpace(), y, x), rtol=1e-6)


def test_distance_is_a_metric(generator):
    x, y, z = torch.randn(3, 5, 2, dtype=torch.float64, generator=generator)
    xy, yz, xz, yx = (geometry.distance(bump, a, b) for a, b in ((x, y), (y, z), (x, z), (y, x)))
    short = xz <= xy + yz + 1e-9
    assert torch.allclose(xy, yx, rtol=1e-6)
    assert short.all()
    assert (xy >= (x - y).norm(dim=1)).all()


def test_coincident_points(generator):
    x = torch.rand(3, 2, dtype=torch.float64, generator=generator) + 0.5
    assert torch.equal(geometry.distance(spaces.HalfSpace(), x, x), torch.zeros(3, dtype=x.dtype))
    assert torch.equal(geometry.log(spaces.HalfSpace(), x, x), torch.zeros_like(x))
    assert torch.equal(geometry.exp(spaces.HalfSpace(), x, torch.zeros_like(x)), x)
    found = geometry.geodesic(spaces.HalfSpace(), x, x, n=4)
    assert torch.equal(found.path, x[:, None].expand(-1, 4, -1))
    assert torch.equal(found.residual, torch.zeros(3, dtype=x.dtype))
    assert torch.equal(geometry.frechet_mean(spaces.HalfSpace(), x[:1]).mean, x[0])


@pytest.mark.parametrize("step", [1e-3, 1e-7, 1e-14])
def test_close_points(step):
    x = torch.tensor([0.5, 0.7], dtype=torch.float64)
    y = x + step * torch.tensor([0.6, -0.8], dtype=x.dtype)
    truth = spaces.HalfSpace().distance(x, y)
    assert abs(geometry.distance(spaces.HalfSpace(), x, y) / truth - 1) < 1e-6


def test_nodes_are_spread_evenly_and_the_ends_are_kept():
    x, y = torch.tensor([[-1.0, 0.3], [1.0, -0.2]], dtype=torch.float64)
    for n in (2, 3, 10, 33):
        found = geometry.geodesic(bump, x, y, n=n)
        assert found.path.shape == (n, 2)
        assert torch.equal(found.path[[0, -1]], torch.stack([x, y]))
        sides = geometry.distance(bump, found.path[:-1], found.path[1:])
        assert torch.allclose(sides, found.length / (n - 1), rtol=1e-5)


def test_a_start_chooses_the_way_round():
    x, y = torch.tensor([[-1.5, 0.1], [1.5, 0.1]], dtype=torch.float64)
    over, under = (torch.stack([x, torch.tensor([0.0, h], dtype=x.dtype), y]) for h in (1.0, -1.0))
    first, second = (geometry.geodesic(bump, x, y, n=17, start=start) for start in (over, under))
    assert first.path[8, 1] > 0.3
    assert second.path[8, 1] < -0.3
    assert second.length > first.length > 3
    both = geometry.geodesic(bump, torch.stack([x, x]), torch.stack([y, y]), n=17, start=torch.stack([over, under]))
    assert torch.allclose(both.length, torch.stack([first.length, second.length]))
    free = geometry.distance(bump, x, y)
    assert min(abs(free - first.length), abs(free - second.length)) < 1e-6


def test_the_history_tells_meshes_and_errors():
    x, y = torch.tensor([[-1.0, 0.6], [1.0, 0.5]], dtype=torch.float64)
    found = geometry.geodesic(bump, x, y, n=9, tol=1e-8)
    assert found.history[-1]["error"] <= 1e-8
    assert [record["elements"] for record in found.history][:3] == [4, 8, 16]
    assert str(found.status).startswith("converged")
    finer = geometry.geodesic(bump, x, y, n=65, tol=1e-8)
    assert finer.residual < found.residual / 6  # of order 3
    assert abs(finer.length - found.length) < 1e-7


def test_exp_keeps_speed_and_runs_backwards(generator):
    x, v = torch.randn(2, 5, 2, dtype=torch.float64, generator=generator)
    y = geometry.exp(bump, x, v)
    half = geometry.exp(bump, x, v / 2)
    ahead = geometry.log(bump, half, y)
    speed, later = (
        torch.einsum("mi,mij,mj->m", a, torch.func.vmap(bump)(p), a) for p, a in ((x, v / 2), (half, ahead))
    )
    assert torch.allclose(speed, later, rtol=1e-7)
    assert torch.allclose(geometry.exp(bump, y, 2 * geometry.log(bump, y, half)), x, atol=1e-7)


def test_a_long_geodesic_on_the_sphere_comes_back():
    x, v = torch.tensor([[0.4, 0.0], [0.0, 0.58]], dtype=torch.float64)
    turn = 2 * math.pi / float(v.norm() * 2 / (1 + 0.16))
    assert torch.allclose(geometry.exp(spaces.Sphere(), x, turn * v), x, atol=1e-8)


def test_a_mean_has_no_pull_and_moves_with_an_isometry(generator):
    points = torch.randn(2, 7, 2, dtype=torch.float64, generator=generator)
    points[..., -1] = points[..., -1].exp()
    weights = torch.rand(2, 7, dtype=torch.float64, generator=generator)
    found = geometry.frechet_mean(spaces.HalfSpace(), points, weights)
    assert found.converged
    pull = spaces.HalfSpace().log(found.mean[:, None].expand_as(points), points)
    assert torch.einsum("bk,bkd->bd", weights, pull).abs().max() < 1e-5
    moved = geometry.frechet_mean(spaces.HalfSpace(), 3 * points + torch.tensor([5.0, 0.0]), weights).mean
    assert torch.allclose(moved, 3 * found.mean + torch.tensor([5.0, 0.0]), rtol=1e-6)
    started = geometry.frechet_mean(spaces.HalfSpace(), points, weights, start=points[:, 0]).mean
    assert torch.allclose(started, found.mean, rtol=1e-5)


def test_the_mean_of_flat_space_is_the_weighted_mean(generator):
    points = torch.randn(6, 3, dtype=torch.float64, generator=generator)
    weights = torch.rand(6, dtype=torch.float64, generator=generator)
    found = geometry.frechet_mean(lambda x: torch.eye(3, dtype=x.dtype), points, weights)
    assert torch.allclose(found.mean, (weights / weights.sum()) @ points)
    assert torch.allclose(found.variance, (weights / weights.sum()) @ (points - found.mean).square().sum(1))


def test_a_chain_is_solved_as_a_whole_matrix(generator):
    """Assembled and solved at once, the condensed matrix is the Schur complement."""
    d, m = 2, 5
    half = torch.randn(1, m, 4 * d, 4 * d, dtype=torch.float64, generator=generator)
    matrix, load = half @ half.mT, torch.randn(1, m, 4 * d, dtype=torch.float64, generator=generator)
    size = (3 * m + 1) * d
    full, right = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for e in range(m):
        at = torch.arange(3 * e * d, (3 * e + 4) * d)
        full[at[:, None], at] += matrix[0, e]
        right[at] += load[0, e]
    free, ends = torch.arange(d, size - d), torch.cat([torch.arange(d), torch.arange(size - d, size)])
    inner = full[free[:, None], free]
    solved = chain.solve(matrix, load, d)
    assert solved.definite.all()
    assert torch.allclose(solved.nodes[0, 1:-1].flatten(), torch.linalg.solve(inner, right[free]))
    side = full[ends[:, None], free]
    assert torch.allclose(solved.matrix[0], full[ends[:, None], ends] - side @ torch.linalg.solve(inner, side.mT))
    assert torch.allclose(solved.load[0], right[ends] - side @ torch.linalg.solve(inner, right[free]))
    assert not chain.solve(-matrix, load, d).definite.any()
