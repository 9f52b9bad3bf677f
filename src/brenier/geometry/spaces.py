"""Spaces whose geometry is known: metric functions of a chart, with closed forms of exp, log and distance where known.

Each is called with one point x (d,) and gives G (d, d), NaN where x is outside the chart. The closed forms take leading
axes: points and velocities (..., d).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacfwd

from brenier import hyperbolic
from brenier.geometry.metric import Metric
from brenier.smooth import atan_root, cos_root, length, root, sinc_root


def _positive(**lengths: float) -> None:
    for name, value in lengths.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {value}")


def _coordinates(x: Tensor, d: int, space: str) -> None:
    if x.shape[-1] != d:
        raise ValueError(f"{space} has {d} coordinates, got a point of {x.shape[-1]}")


def _eye(x: Tensor) -> Tensor:
    return torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1, keepdim=True)


@dataclass(frozen=True)
class Sphere:
    """The sphere of any dimension in stereographic coordinates: G = 4/(1 + κ|x|²)² I, curvature κ = 1/r².

    With d = y − x and m = ((1 + κ|x|²) d + κ|d|² x) / (1 + 2κ x·y + κ²|x|²|y|²), the point y as x sees it, the distance
    is 2r atan(|m|/r) (Bachmann, Bécigneul and Ganea, Constant curvature graph convolutional networks, ICML 2020).

    Example:
        >>> Sphere().distance(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))  # from the pole to the equator
        tensor(1.5708)
    """

    radius: float = 1.0

    def __post_init__(self) -> None:
        _positive(radius=self.radius)

    @property
    def curvature(self) -> float:
        """1/r²."""
        return 1 / self.radius**2

    def _inverse(self, x: Tensor) -> Tensor:
        return (1 + self.curvature * _dot(x, x)) / 2

    def __call__(self, x: Tensor) -> Tensor:
        """G (d, d) at x (d,)."""
        return _eye(x) / self._inverse(x) ** 2

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where the geodesic from x (..., d) with velocity v (..., d) is at time 1, (..., d)."""
        k, scale = self.curvature, 2 * self._inverse(x)
        half = k * _dot(v, v) / scale**2
        m = sinc_root(half) / cos_root(half) * v / scale
        xm, mm = _dot(x, m), _dot(m, m)
        return ((1 - 2 * k * xm - k * mm) * x + scale * m) / (1 - 2 * k * xm + k * k * _dot(x, x) * mm)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity at x (..., d) of the shortest geodesic to y (..., d) in time 1, (..., d)."""
        d, k, scale = y - x, self.curvature, 2 * self._inverse(x)
        dd, below = _dot(d, d), self._below(x, y)
        return scale * atan_root(k * dd / below) * (scale * d + k * dd * x) / below

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Length of the shortest geodesic between x and y (..., d), (...)."""
        return 2 * self.radius * torch.atan2(length(y - x) / self.radius, root(self._below(x, y)))[..., 0]

    def _below(self, x: Tensor, y: Tensor) -> Tensor:
        return 1 + 2 * self.curvature * _dot(x, y) + self.curvature**2 * _dot(x, x) * _dot(y, y)


@dataclass(frozen=True)
class PoincareBall:
    """Hyperbolic space of any dimension on the unit ball: G = 4/(1 − |x|²)² I, curvature −1.

    The closed forms are right to the digits of the dtype up to the border, see `brenier.hyperbolic`.

    Example:
        >>> PoincareBall().distance(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 0.5]))
        tensor(1.0986)
    """

    curvature = -1.0

    def __call__(self, x: Tensor) -> Tensor:
        """G (d, d) at x (d,)."""
        return _eye(x) * (2 / hyperbolic.gap(_in_ball(x))) ** 2

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where the geodesic from x (..., d) with velocity v (..., d) is at time 1, (..., d)."""
        return hyperbolic.inside(hyperbolic.ball_exp(_in_ball(x), v))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity at x (..., d) of the geodesic to y (..., d) in time 1, (..., d)."""
        return hyperbolic.ball_log(_in_ball(x), _in_ball(y))

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """2 arsinh(|x − y| / √((1 − |x|²)(1 − |y|²))), (...)."""
        return hyperbolic.ball_distance(_in_ball(x), _in_ball(y))[..., 0]


def _in_ball(x: Tensor) -> Tensor:
    return torch.where(hyperbolic.gap(x) > 0, x, torch.nan)


@dataclass(frozen=True)
class HalfSpace:
    """Hyperbolic space of any dimension above the plane x_d = 0: G = I/x_d², curvature −1.

    Example:
        >>> HalfSpace().distance(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0]))
        tensor(0.6931)
    """

    def __call__(self, x: Tensor) -> Tensor:
        """G (d, d) at x (d,)."""
        return _eye(x) / torch.where(x[-1] > 0, x[-1], torch.nan) ** 2

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where the geodesic from x (..., d) with velocity v (..., d) is at time 1, (..., d)."""
        return hyperbolic.half_exp(_above(x), v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity at x (..., d) of the geodesic to y (..., d) in time 1, (..., d)."""
        return hyperbolic.half_log(_above(x), _above(y))

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """2 arsinh(|x − y| / 2√(x_d y_d)), (...)."""
        return hyperbolic.half_distance(_above(x), _above(y))[..., 0]


def _above(x: Tensor) -> Tensor:
    return torch.where(x[..., -1:] > 0, x, torch.nan)


@dataclass(frozen=True)
class GaussianFamily:
    """The normal distributions N(m, s²) under their Fisher metric, x = (m, s), s > 0: diag(1, 2)/s², curvature −1/2.

    It is √2 times the hyperbolic half-plane of (m/√2, s).

    Source: Costa, Santos and Strapasson, Fisher information distance, Discrete Applied Mathematics 2015.

    Example:
        >>> GaussianFamily().distance(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0]))
        tensor(0.9803)
    """

    def __call__(self, x: Tensor) -> Tensor:
        """G (d, d) at x (d,)."""
        _coordinates(x, 2, "the Gaussian family")
        return 2 * HalfSpace()(_squeeze(x)) * _eye(x).mul(_squeeze(x.new_ones(2))) ** 2

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where the geodesic from x (..., 2) with velocity v (..., 2) is at time 1, (..., 2)."""
        return HalfSpace().exp(_squeeze(x), _squeeze(v)) / _squeeze(torch.ones_like(x))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity at x (..., 2) of the geodesic to y (..., 2) in time 1, (..., 2)."""
        return HalfSpace().log(_squeeze(x), _squeeze(y)) / _squeeze(torch.ones_like(x))

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The Fisher–Rao distance, (...)."""
        return math.sqrt(2) * HalfSpace().distance(_squeeze(x), _squeeze(y))


def _squeeze(x: Tensor) -> Tensor:
    return x * x.new_tensor([0.5**0.5, 1.0])


@dataclass(frozen=True)
class Ellipsoid:
    """The ellipsoid Σ (z_i/a_i)² = 1 of d + 1 half-axes a, in stereographic coordinates x of the sphere z/a.

    Example:
        >>> Ellipsoid((2.0, 1.0, 1.0))(torch.zeros(2))
        tensor([[16.,  0.],
                [ 0.,  4.]])
    """

    axes: tuple[float, ...]

    def __post_init__(self) -> None:
        _positive(**{f"axis {i}": axis for i, axis in enumerate(self.axes)})

    def embed(self, x: Tensor) -> Tensor:
        """The point z (d + 1,) in space of x (d,)."""
        _coordinates(x, len(self.axes) - 1, "this ellipsoid")
        square = x @ x
        return x.new_tensor(self.axes) * torch.cat([2 * x, (1 - square)[None]]) / (1 + square)

    def __call__(self, x: Tensor) -> Tensor:
        """G (d, d) at x (d,)."""
        j = jacfwd(self.embed)(x)
        return j.mT @ j


@dataclass(frozen=True)
class Torus:
    """A tube of radius r = `minor` around a circle of radius R = `major`, x = (angle in the circle, angle in the tube).

    Radians, not wrapped: G = diag((R + r cos x_2)², r²).

    Example:
        >>> Torus(2.0, 1.0)(torch.tensor([0.0, 0.0])).diagonal()
        tensor([9., 1.])
    """

    major: float
    minor: float

    def __post_init__(self) -> None:
        _positive(major=self.major, minor=self.minor)
        if self.minor >= self.major:
            raise ValueError(f"a torus needs minor < major, got {self.minor} and {self.major}")

    def __call__(self, x: Tensor) -> Tensor:
        """G (d, d) at x (d,)."""
        _coordinates(x, 2, "a torus")
        return torch.diag(torch.stack([self.major + self.minor * x[1].cos(), self.minor + 0 * x[1]]) ** 2)


@dataclass(frozen=True)
class Paraboloid:
    """The graph of z = scale |x|² over R^d: G = I + 4 scale² x xᵀ.

    Example:
        >>> Paraboloid()(torch.tensor([1.0, 0.0])).diagonal()
        tensor([5., 1.])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _positive(scale=self.scale)

    def __call__(self, x: Tensor) -> Tensor:
        """G (d, d) at x (d,)."""
        return _eye(x) + 4 * self.scale**2 * torch.outer(x, x)


def product(*factors: tuple[Metric, int]) -> Metric:
    """The product of spaces, each a metric and its dimension: a block for each on the diagonal.

    Example:
        >>> product((Sphere(), 2), (HalfSpace(), 2))(torch.tensor([0.0, 0.0, 0.0, 0.5])).diagonal()
        tensor([4., 4., 4., 4.])
    """
    dims = [dim for _, dim in factors]

    def metric(x: Tensor) -> Tensor:
        _coordinates(x, sum(dims), "this product")
        return torch.block_diag(*(factor(part) for (factor, _), part in zip(factors, x.split(dims), strict=True)))

    return metric


def conformal(metric: Metric, exponent: Metric) -> Metric:
    """e^{2 φ} G for a metric G and an exponent φ, a function (d,) -> ().

    Example:
        >>> conformal(lambda x: torch.eye(2), lambda x: -x[1].log())(torch.tensor([0.0, 2.0]))  # the half-plane
        tensor([[0.2500, 0.0000],
                [0.0000, 0.2500]])
    """
    return lambda x: torch.exp(2 * exponent(x)) * metric(x)
