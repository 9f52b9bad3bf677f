"""Hyperbolic space against arithmetic of 160 digits, up to the border of the ball and of the half-space."""

from __future__ import annotations

import itertools

import mpmath
import pytest
import torch

from brenier import hyperbolic
from brenier.geometry import spaces
from brenier.riemannian import PoincareBall, minimize

F32, F64 = torch.float32, torch.float64
RADII = {F64: (0.0, 0.5, 0.99, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12), F32: (0.0, 0.5, 0.99, 1 - 1e-4, 1 - 1e-6)}
BOUND = {F64: 5e-15, F32: 3e-6}


def many(x):
    return [mpmath.mpf(float(number)) for number in x]


def dot(x, y):
    return mpmath.fsum(a * b for a, b in zip(x, y, strict=True))


def minus(x):
    return [-a for a in x]


def add(x, y):
    xy, xx, yy = dot(x, y), dot(x, x), dot(y, y)
    below = 1 + 2 * xy + xx * yy
    return [((1 + 2 * xy + yy) * a + (1 - xx) * b) / below for a, b in zip(x, y, strict=True)]


def true_distance(x, y):
    m = add(minus(x), y)
    return 2 * mpmath.atanh(mpmath.sqrt(dot(m, m)))


def true_log(x, y):
    m = add(minus(x), y)
    size = mpmath.sqrt(dot(m, m))
    return [(1 - dot(x, x)) * mpmath.atanh(size) * a / size for a in m]


def true_exp(x, u):
    size = mpmath.sqrt(dot(u, u))
    share = mpmath.tanh(size / (1 - dot(x, x))) / size
    return add(x, [share * a for a in u])


def true_transport(x, y, v):
    """(b/a) gyr[y, −x] v, a gyration being linear."""
    small = mpmath.mpf(10) ** -20
    there = add(minus(add(y, minus(x))), add(y, add(minus(x), [small * a for a in v])))
    share = (1 - dot(y, y)) / (1 - dot(x, x)) / small
    return [share * a for a in there]


def apart(found, true):
    """|found − true| / |true|."""
    off = [a - b for a, b in zip(many(found), true, strict=True)]
    return float(mpmath.sqrt(dot(off, off) / dot(true, true)))


def pairs(dtype, generator):
    """Pairs at all radii: in any direction, opposite, in line, and close."""
    for r, s in itertools.product(RADII[dtype], RADII[dtype]):
        x, y = torch.randn(2, 3, dtype=F64, generator=generator)
        x = x / x.norm()
        for other in (s * y / y.norm(), -s * x, s * x, r * x + 0.01 * (1 - r) * y / y.norm()):
            a, b = (r * x).to(dtype), other.to(dtype)
            if not torch.equal(a, b) and float(hyperbolic.gap(b)) > 0:
                yield a, b


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(160):
        yield


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_the_ball_keeps_its_digits_up_to_the_border(dtype, generator):
    ball, space = PoincareBall(), spaces.PoincareBall()
    for x, y in pairs(dtype, generator):
        exact = many(x), many(y)
        distance = true_distance(*exact)
        for found in (ball.dist(x, y), space.distance(x, y), ball.dist2(x, y).sqrt()):
            assert abs(float(found) / float(distance) - 1) < BOUND[dtype]
        log = true_log(*exact)
        assert apart(ball.logmap(x, y), log) < BOUND[dtype]
        assert apart(space.log(x, y), log) < BOUND[dtype]
        v = torch.randn(3, dtype=F64, generator=generator).to(dtype)
        assert apart(ball.transp(x, y, v), true_transport(*exact, many(v))) < BOUND[dtype]
        u = ball.logmap(x, y)
        if true_distance(exact[0], many(y)) < -mpmath.log(torch.finfo(dtype).eps):
            end = many(ball.expmap(x, u))
            off = [a - b for a, b in zip(end, true_exp(exact[0], many(u)), strict=True)]
            assert float(mpmath.sqrt(dot(off, off))) < BOUND[dtype]


def test_known_numbers_of_the_ball():
    x = torch.tensor([1 - 1e-8, 0.0], dtype=F64)
    assert float(PoincareBall().dist(x, -x)) == pytest.approx(38.2276, abs=1e-4)
    x = torch.tensor([0.99, 0.0])
    y = PoincareBall().expmap(x, torch.tensor([0.0, 0.01]) / PoincareBall().lambda_x(x))
    assert float(PoincareBall().dist(x, y)) == pytest.approx(0.01, rel=1e-4)  # the ends are rounded to float32


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_the_half_space_is_the_ball_seen_from_above(dtype, generator):
    """The inversion y = 2 p/|p|² − e, p = x + e, is an isometry: distances, logs and exps are those of the ball."""
    space = spaces.HalfSpace()

    def invert(x):
        p = [*x[:-1], x[-1] + 1]
        y = [2 * a / dot(p, p) for a in p]
        return [*y[:-1], y[-1] - 1]

    for high, low in itertools.product((1e-9, 1e-3, 1.0, 50.0), (1e-9, 0.5, 20.0)):
        x, y = torch.randn(2, 3, dtype=F64, generator=generator)
        x[-1], y[-1] = high, low
        y[:-1] = x[:-1] + y[:-1] * 10.0 ** float(torch.randint(-8, 1, (), generator=generator))
        x, y = x.to(dtype), y.to(dtype)
        distance = true_distance(invert(many(x)), invert(many(y)))
        assert abs(float(space.distance(x, y)) / float(distance) - 1) < BOUND[dtype]
        log = space.log(x, y)
        assert float(log.norm() / x[-1]) == pytest.approx(float(distance), rel=BOUND[dtype])
        there = space.exp(x.double(), space.log(x.double(), y.double()))
        assert float(space.distance(there, y.double())) < 1e-12 * max(float(distance), 1.0) * max(1.0, high / low)


def test_gradients_are_right_near_the_border_and_points_outside_are_nan():
    x = torch.tensor([0.6, -0.799], dtype=F64, requires_grad=True)
    y = torch.tensor([0.3, 0.9], dtype=F64, requires_grad=True)
    for call in (PoincareBall().dist, PoincareBall().logmap, spaces.PoincareBall().distance):
        assert torch.autograd.gradcheck(call, (x, y), eps=1e-9, atol=1e-4, rtol=1e-4)
    high = torch.tensor([0.1, 0.2], dtype=F64, requires_grad=True)
    for space in (spaces.HalfSpace(), spaces.Sphere(2.0), spaces.PoincareBall()):
        for v in (torch.zeros(2, dtype=F64), torch.tensor([0.03, 0.01], dtype=F64)):
            assert torch.autograd.gradcheck(space.exp, (high, v.clone().requires_grad_()))
            end = space.exp(high, v).detach().requires_grad_()
            assert torch.autograd.gradcheck(space.log, (high, end))
    out = torch.tensor([0.8, 0.7])
    assert spaces.PoincareBall().distance(out, out / 2).isnan()
    assert spaces.PoincareBall().exp(out, out).isnan().all()
    assert spaces.HalfSpace().distance(out, -out).isnan()


def test_a_mean_is_found_near_the_border():
    ball = PoincareBall()
    x = ball.projx(torch.tensor([[1 - 1e-9, 0.0], [0.0, 1 - 1e-9]], dtype=F64))
    found = minimize(lambda p: ball.dist2(p.expand_as(x), x).sum(), ball, torch.zeros(2, dtype=F64))
    assert found.converged
    assert found.point[0] == pytest.approx(float(found.point[1]))
