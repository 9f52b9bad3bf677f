"""Geodesics, exp, log, distance, transport and means of spaces whose closed form is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import ellipeinc

from brenier import geometry
from brenier.geometry import spaces

CLOSED = [
    *((space, d) for d in (2, 3, 4, 5) for space in (spaces.Sphere(1.5), spaces.PoincareBall(), spaces.HalfSpace())),
    (spaces.GaussianFamily(), 2),
]


def pairs(d, generator, m=4):
    x, y = torch.randn(2, m, d, dtype=torch.float64, generator=generator)
    x, y = (
        0.9 * torch.rand(m, 1, dtype=x.dtype, generator=generator) * p / p.norm(dim=1, keepdim=True) for p in (x, y)
    )
    return x, y


def in_chart(space, d, generator):
    x, y = pairs(d, generator)
    if isinstance(space, (spaces.HalfSpace, spaces.GaussianFamily)):
        x, y = (torch.cat([3 * p[:, :-1], (2 * p[:, -1:]).exp()], 1) for p in (x, y))
    return x, y


def far(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize(("space", "d"), CLOSED, ids=str)
def test_distance_log_exp_and_path(space, d, generator):
    x, y = in_chart(space, d, generator)
    v = space.log(x, y)
    assert far(space.exp(x, v), y) < 1e-10
    speed = torch.einsum("mi,mij,mj->m", v, torch.func.vmap(space)(x), v).sqrt()
    assert far(speed, space.distance(x, y)) < 1e-10

    assert far(geometry.distance(space, x, y), space.distance(x, y)) < 1e-6
    ours = geometry.log(space, x, y)
    assert far(ours, v) < 1e-8
    assert far(geometry.exp(space, torch.stack([x, x]), torch.stack([ours, v])), torch.stack([y, y])) < 1e-8
    found = geometry.geodesic(space, x, y, n=5)
    at = torch.linspace(0, 1, 5, dtype=x.dtype)[:, None]
    truth = space.exp(x[:, None].expand(-1, 5, -1), at * v[:, None])
    assert far(found.path, truth) < 1e-6
    assert far(found.length, space.distance(x, y)) < 1e-6
    assert found.converged
    assert found.residual.max() < 1e-2


def test_the_inner_arc_of_an_ellipse_is_the_short_way_on_an_ellipsoid():
    """From pole to equator in the plane of the axes a and c, whose arc is an elliptic integral."""
    a, c = 2.0, 1.0
    x, y = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    space = spaces.Ellipsoid((a, 3.0, c))
    assert abs(geometry.distance(space, x, y) - a * ellipeinc(math.pi / 2, 1 - c**2 / a**2)) < 1e-8


@pytest.mark.parametrize("d", [2, 3, 4, 5])
def test_a_half_meridian_of_a_spheroid(d):
    axes = torch.ones(d + 1, dtype=torch.float64)
    axes[-1] = 1.7  # the axis of rotation
    x, y = torch.zeros(2, d, dtype=torch.float64)
    y[0] = math.tan(0.5)  # stereographic: polar angle 1 on the sphere
    truth = ellipeinc(1.0, 1 - 1.7**2)  # ∫ sqrt(cos² + 1.7² sin²)
    space = spaces.Ellipsoid(tuple(axes.tolist()))
    assert abs(geometry.distance(space, x, y) - truth) < 1e-8


def test_the_torus_along_its_equator_and_its_tube():
    torus = spaces.Torus(2.0, 0.7)
    x, y = (
        torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[0.0, math.pi], [2.0, math.pi]], [[0.5, 0.3], [0.5, 2.0]]])
        .double()
        .unbind(1)
    )
    truth = torch.tensor([2.7, 2.6, 0.7 * 1.7], dtype=torch.float64)
    assert far(geometry.distance(torus, x, y), truth) < 1e-6


def test_a_torus_geodesic_keeps_its_clairaut_constant():
    torus = spaces.Torus(2.0, 0.7)
    x, y = torch.tensor([[0.1, 0.4], [1.3, 1.9]], dtype=torch.float64)
    path = geometry.geodesic(torus, x, y, n=9).path
    v = geometry.log(torus, path[:-1], y.expand(8, 2))
    turning = (2 + 0.7 * path[:-1, 1].cos()) ** 2 * v[:, 0] / torch.linspace(1, 1 / 8, 8, dtype=x.dtype)
    assert turning.std() < 1e-6 * turning.mean()


@pytest.mark.parametrize("d", [2, 3, 4, 5])
def test_the_meridian_of_a_paraboloid(d, generator):
    direction = torch.randn(d, dtype=torch.float64, generator=generator)
    direction /= direction.norm()
    truth = sum((2 * r * math.hypot(1, 2 * r) + math.asinh(2 * r)) / 4 for r in (0.4, 1.5))
    assert abs(geometry.distance(spaces.Paraboloid(), -0.4 * direction, 1.5 * direction) - truth) < 1e-8


def test_the_distance_of_a_product_is_pythagorean(generator):
    factors = ((spaces.Sphere(), 2), (spaces.PoincareBall(), 2))
    x, y = pairs(4, generator)
    truth = torch.hypot(
        *(space.distance(x[:, a:b], y[:, a:b]) for (space, _), a, b in zip(factors, (0, 2), (2, 4), strict=True))
    )
    assert far(geometry.distance(spaces.product(*factors), x, y), truth) < 1e-6


def test_a_conformal_factor_makes_the_half_plane(generator):
    space = spaces.conformal(lambda x: torch.eye(2, dtype=x.dtype), lambda x: -x[1].log())
    x, y = in_chart(spaces.HalfSpace(), 2, generator)
    assert far(geometry.log(space, x, y), spaces.HalfSpace().log(x, y)) < 1e-8


def test_straight_lines_in_polar_coordinates(generator):
    def polar(x):
        return torch.diag(torch.stack([torch.ones_like(x[0]), x[0] ** 2]))

    def plane(x):
        return x[..., :1] * torch.stack([x[..., 1].cos(), x[..., 1].sin()], -1)

    x, y = torch.rand(2, 8, 2, dtype=torch.float64, generator=generator) + 0.3
    found = geometry.geodesic(polar, x, y, n=5)
    at = torch.linspace(0, 1, 5, dtype=x.dtype)[:, None]
    assert far(plane(found.path), (1 - at) * plane(x)[:, None] + at * plane(y)[:, None]) < 1e-8


@pytest.mark.parametrize("angle", [0.4, 1.2])
def test_holonomy_of_a_circle_on_the_sphere(angle):
    """Once around a circle of polar angle θ turns a vector by the area inside, 2π (1 − cos θ)."""
    t = torch.linspace(0, 2 * math.pi, 129, dtype=torch.float64)
    path = math.tan(angle / 2) * torch.stack([t.cos(), t.sin()], 1)
    v = torch.tensor([1.0, 0.0], dtype=torch.float64)
    end = geometry.parallel_transport(spaces.Sphere(), path, v)[-1]
    area = 2 * math.pi * (1 - math.cos(angle))
    assert far(end, torch.tensor([math.cos(area), math.sin(area)], dtype=torch.float64)) < 1e-6


def test_along_a_horocycle_a_vector_turns_by_its_length():
    t = torch.linspace(0, 1, 65, dtype=torch.float64)
    path = torch.stack([t, torch.full_like(t, 0.5)], 1)
    carried = geometry.parallel_transport(spaces.HalfSpace(), path, torch.tensor([1.0, 0.0], dtype=torch.float64))
    truth = torch.stack([(2 * t).cos(), -(2 * t).sin()], 1)
    assert min(far(carried, truth), far(carried, truth * torch.tensor([1.0, -1.0]))) < 1e-7


@pytest.mark.parametrize(("space", "d"), CLOSED[:4] + CLOSED[-1:], ids=str)
def test_the_mean_of_two_points_divides_their_geodesic(space, d, generator):
    x, y = in_chart(space, d, generator)
    found = geometry.frechet_mean(space, torch.stack([x, y], 1), torch.tensor([3.0, 1.0]))
    assert found.converged
    assert far(found.mean, space.exp(x, space.log(x, y) / 4)) < 1e-6
    assert far(found.variance, 3 / 16 * space.distance(x, y) ** 2) < 1e-6


def test_the_mean_of_normal_distributions_that_mirror_each_other():
    points = np.array([[-1.0, 1.0], [1.0, 1.0], [-0.5, 2.0], [0.5, 2.0]])
    mean = geometry.frechet_mean(spaces.GaussianFamily(), points).mean
    assert abs(mean[0]) < 1e-9
    pull = spaces.GaussianFamily().log(torch.as_tensor(mean).expand(4, 2), torch.as_tensor(points)).mean(0)
    assert pull.norm() < 1e-6
