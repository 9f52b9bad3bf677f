"""Hyperbolic space of curvature −1 without loss of digits: the unit ball and the half-space, points (..., n).

The formulas of the ball are written with the differences d = y − x and the gaps a = 1 − |x|², b = 1 − |y|², which near
the border are tiny, and computed to all digits; none subtracts numbers that are nearly equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from brenier.smooth import asinh_root, asinh_slope, cosh_root, length, root, sinhc_root

SPLIT = 2.0**27 + 1
GRID = 24.0  # p + 24 − 24 rounds p < 8 to a multiple of 2⁻⁴⁸


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).sum(-1, keepdim=True)


def gap(x: Tensor) -> Tensor:
    """1 − |x|², (..., 1), to all digits of the dtype however near x is to the border."""
    plain = 1 - _dot(x, x)
    return plain + (_gap(x.detach()) - plain.detach()).to(x.dtype)


def _gap(x: Tensor) -> Tensor:
    """1 − |x|² in float64; of float64 points the squares are taken without rounding (Dekker 1971)."""
    if x.dtype != torch.float64:
        x = x.double()
        return 1 - _dot(x, x)
    square, (high, low) = x * x, _split(x)
    error = ((high * high - square) + 2 * high * low) + low * low
    coarse = (square + GRID) - GRID
    whole = 1 - coarse.sum(-1, keepdim=True)
    return torch.where(whole > -1, whole - (error + (square - coarse)).sum(-1, keepdim=True), whole)


def _error(x: Tensor, y: Tensor, product: Tensor) -> Tensor:
    """x y − product in float64, without rounding, where product is x y rounded (Dekker 1971)."""
    (x_high, x_low), (y_high, y_low) = _split(x), _split(y)
    return ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    big = SPLIT * x
    high = big - (big - x)
    return high, x - high


def inside(x: Tensor) -> Tensor:
    """Points of the open ball, as they are; those outside, and within 8 eps of the border, at 1 − 8 eps."""
    eps = torch.finfo(x.dtype).eps
    out = ~(gap(x) >= 16 * eps)
    return x * torch.where(out, (1 - 8 * eps) * torch.where(out, _dot(x, x), 1.0).rsqrt(), 1.0)


def ball_distance2(x: Tensor, y: Tensor) -> Tensor:
    """The squared distance (..., 1), smooth at x = y."""
    d = y - x
    q = _dot(d, d) / gap(x) / gap(y)
    return 4 * q * asinh_root(q) ** 2


def ball_distance(x: Tensor, y: Tensor) -> Tensor:
    """2 arsinh(|x − y| / √(a b)), (..., 1).

    Example:
        >>> x = torch.tensor([1 - 1e-8, 0.0], dtype=torch.float64)
        >>> round(float(ball_distance(x, -x)), 2)
        38.23
    """
    return 2 * torch.asinh(length(y - x) / root(gap(x)) / root(gap(y)))


def ball_log(x: Tensor, y: Tensor) -> Tensor:
    """(s / sinh s) (a d − |d|² x) / b with s = d(x, y): the velocity at x of the geodesic to y in time 1."""
    a, b, d = gap(x), gap(y), y - x
    dd = _dot(d, d)
    return asinh_slope(dd / a / b) / b * (a * d - dd * x)


def ball_exp(x: Tensor, u: Tensor) -> Tensor:
    """Where the geodesic from x with velocity u is at time 1.

    With s = |u|/a and û = u/|u|:  x + a sinh s (cosh s û + sinh s x) / (|cosh s x + sinh s û|² + a).
    Computed in float64, x + û without rounding of û: across the ball errors grow as 1/a.
    """
    dtype, x, u = x.dtype, x.double(), u.double()
    a = gap(x)
    q = _dot(u, u) / a / a
    near = q < 1
    q, small = torch.where(near, q, 0.0), torch.where(near, u, 0.0)
    cosh, sinh = cosh_root(q), sinhc_root(q) * small / a
    ahead = cosh * x + sinh
    step = a * (cosh * sinh + _dot(sinh, sinh) * x) / (_dot(ahead, ahead) + a)
    large = torch.where(near, torch.ones_like(u), u)
    size = length(large)
    unit = large / size
    fall = torch.exp(-2 * size / a)  # the fraction below is that above, divided by e^(2s)
    with torch.no_grad():  # what rounding has taken from û, across it and along it
        whole = size * unit
        across = ((large - whole) - _error(size, unit, whole)) / size
        ahead = x + unit + across
        along = ((_dot(ahead, ahead) + a) / 2 - _dot(ahead, unit)) * unit
    ahead = x + unit + (across + along).detach()
    behind = fall * (x - unit)
    way = ahead + behind
    far = a * -torch.expm1(-2 * size / a) * (ahead - behind) / (_dot(way, way) + 4 * a * fall)
    return (x + torch.where(near, step, far)).to(dtype)


def ball_add(x: Tensor, y: Tensor) -> Tensor:
    """Möbius addition: x + a (x + y − b x) / (|x + y|² + a b)."""
    a, b, both = gap(x), gap(y), x + y
    return x + a * (both - b * x) / (_dot(both, both) + a * b)


def ball_transport(x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    """Parallel transport of v from x to y: (b/a)(v + 2 (ρ W v + W² v) / (|d|² + a b)).

    W v = x <d, v> − d <x, v> and ρ = 1 − <x, y> = (a + b + |d|²)/2: a rotation in the plane of x and y.
    """
    a, b, d = gap(x), gap(y), y - x
    dd = _dot(d, d)

    def turn(w: Tensor) -> Tensor:
        return x * _dot(d, w) - d * _dot(x, w)

    once = turn(v)
    return b / a * (v + ((a + b + dd) * once + 2 * turn(once)) / (dd + a * b))


def half_distance(x: Tensor, y: Tensor) -> Tensor:
    """2 arsinh(|x − y| / (2 √(x_n y_n))) of points with x_n > 0, (..., 1)."""
    return 2 * torch.asinh(length(y - x) / (2 * x[..., -1:].sqrt() * y[..., -1:].sqrt()))


def half_log(x: Tensor, y: Tensor) -> Tensor:
    """(s / sinh s)(x_n/y_n)(δ, (|δ|² + y_n² − x_n²) / (2 x_n)) with s = d(x, y) and δ the first n − 1 of y − x."""
    d, height, there = y - x, x[..., -1:], y[..., -1:]
    q = _dot(d, d) / (4 * height) / there
    side = d[..., :-1]
    up = (_dot(side, side) / height + d[..., -1:] * (there / height + 1)) / 2
    return asinh_slope(q) * height / there * torch.cat([side, up], -1)


def half_exp(x: Tensor, u: Tensor) -> Tensor:
    """With ω = |u|/x_n: the height x_n / (cosh ω − sinh ω u_n/|u|), and aside by that height times sinh ω η/|u|.

    η is the first n − 1 of u; upwards the difference is e^(−ω) + sinh ω |η|²/(|u|(|u| + u_n)).
    """
    height, side, up = x[..., -1:], u[..., :-1] / x[..., -1:], u[..., -1:] / x[..., -1:]
    q = _dot(side, side) + up * up
    sinhc, rises = sinhc_root(q), up > 0
    size = root(torch.where(rises, q, 1.0))
    climb = torch.exp(-size) + sinhc * _dot(side, side) / (size + torch.where(rises, up, 0.0))
    fraction = 1 / torch.where(rises, climb, cosh_root(q) - sinhc * up)
    return torch.cat([x[..., :-1] + height * fraction * sinhc * side, height * fraction], -1)
