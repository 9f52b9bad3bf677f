"""Manifolds of vectors, the last axis: the sphere and hyperbolic space."""

from __future__ import annotations

import math

import geoopt
import torch
from torch import Tensor

from brenier import hyperbolic
from brenier.riemannian.base import Checked, Reason
from brenier.smooth import asin_root, asin_slope, cos_root, length, root, sinc_root


class Sphere(Checked):
    """Unit vectors (..., n): geodesics are great circles.

        exp_x(u) = cos|u| x + sin|u| u/|u|,   d(x, y) = 2 atan(|x − y| / |x + y|)

    The distance is exact for close and for far points, where arccos <x, y> loses half of the digits. `retr` divides
    x + u by its norm (second order). `logmap` raises ValueError for antipodes, which no single shortest geodesic joins.

    Example:
        >>> x, y = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])
        >>> sphere = Sphere()
        >>> sphere.dist(x, sphere.projx(y))
        tensor(1.5708)
    """

    name, ndim, regular = "Sphere", 1, math.pi / 2

    def error(self, x: Tensor) -> Tensor:
        """||x| − 1|."""
        return (x.norm(dim=-1) - 1).abs()

    def projx(self, x: Tensor) -> Tensor:
        """x / |x|; the zero vector has no nearest point and becomes NaN."""
        most = x.detach().abs().amax(-1, keepdim=True)  # squares of numbers like 1e200 are no numbers
        x = x / torch.where(most > 0, most, 1.0)
        return x / x.norm(dim=-1, keepdim=True)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """u − <x, u> x."""
        return u - (x * u).sum(-1, keepdim=True) * x

    egrad2rgrad = proju

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """<u, v>."""
        return (u * (u if v is None else v)).sum(-1, keepdim=keepdim)

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """(x + u) / |x + u|."""
        return self.projx(x + u)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """The point at length |u| on the great circle from x along u."""
        square = (u * u).sum(-1, keepdim=True)
        return self.projx(cos_root(square) * x + sinc_root(square) * u)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """The angle between x and y."""
        angle = 2 * torch.atan2(length(x - y), length(x + y))
        return angle if keepdim else angle[..., 0]

    def dist2(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """The squared angle."""
        q, near = self._half(x, y)
        close = 4 * q * asin_root(q) ** 2
        square = torch.where(near, close, self.dist(x, y, keepdim=True) ** 2)
        return square if keepdim else square[..., 0]

    def _half(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """sin²(θ/2), θ the angle, where that is below 1/4, and where it is."""
        q = (x - y).square().sum(-1, keepdim=True) / 4
        near = q < 0.25
        return torch.where(near, q, 0.0), near

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The tangent vector at x of length d(x, y) that points to y."""
        if bool(((x + y).detach().norm(dim=-1) < 8 * torch.finfo(x.dtype).eps).any()):
            most = float(self.dist(x.detach(), y.detach()).amax())
            raise ValueError(f"antipodes have no single logarithm, got an angle of {most:.17g}")
        q, near = self._half(x, y)
        angle = self.dist(x, y, keepdim=True)
        sine = length(x - y) * length(x + y) / 2
        return torch.where(near, asin_slope(q), angle / torch.where(near, 1.0, sine)) * self.proju(x, y - x)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport: v − <y, v> / (1 + <x, y>) (x + y); NaN to an antipode."""
        both = x + y
        square = (both * both).sum(-1, keepdim=True)
        square = torch.where(square < (8 * torch.finfo(square.dtype).eps) ** 2, torch.nan, square)
        return v - 2 * (y * v).sum(-1, keepdim=True) / square * both

    def _dim(self, shape: tuple[int, ...]) -> int:
        return shape[-1] - 1

    def _origin(self, zero: Tensor) -> Tensor:
        zero[..., 0] = 1
        return zero


class PoincareBall(Checked, geoopt.PoincareBall):
    """Hyperbolic space of curvature −1 on the unit ball, points (..., n): G = λ² I, λ = 2/(1 − |x|²).

    exp, log, distance, parallel transport and Möbius addition are those of `brenier.hyperbolic`, right to the dtype's
    digits up to the border; so are `expmap0`, `logmap0`, `dist0` and `transp0` at the origin. The other Möbius
    operations are geoopt's, and lose digits beyond a radius of 0.99. Points nearer to the border than 8 eps are moved
    to there, so distances to the origin end at 34.7 (float32: 14.6). `retr` is x + u, of first order.

    Example:
        >>> ball = PoincareBall()
        >>> ball.dist(torch.tensor([0.0, 0.0]), torch.tensor([0.5, 0.0]))
        tensor(1.0986)
    """

    regular = math.inf

    def __init__(self) -> None:
        super().__init__(c=1.0)

    def error(self, x: Tensor) -> Tensor:
        """How far x is out of the open ball; NaN stays NaN."""
        return (x.norm(dim=-1) - (1 - torch.finfo(x.dtype).eps)).clamp_min(0)

    def _check_point_on_manifold(self, x: Tensor, *, atol: float = 0.0, rtol: float = 0.0) -> Reason:
        norm = x.norm(dim=-1).reshape(-1)
        if norm.numel() == 0:
            return True, None
        worst = int(norm.nan_to_num(torch.inf).argmax())
        return bool(norm[worst] < 1), f"point {worst} has norm {float(norm[worst]):.6g}, the ball ends at 1"

    def lambda_x(self, x: Tensor, *, keepdim: bool = False) -> Tensor:
        """2 / (1 − |x|²)."""
        scale = 2 / hyperbolic.gap(x)
        return scale if keepdim else scale[..., 0]

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """λ² <u, v>."""
        scale = self.lambda_x(x, keepdim=True)
        product = (scale * u * (scale * (u if v is None else v))).sum(-1, keepdim=keepdim)
        return product

    def component_inner(self, x: Tensor, u: Tensor, v: Tensor | None = None) -> Tensor:
        """λ² <u, v>, for every component."""
        return self.inner(x, u, v, keepdim=True).expand_as(u)

    def norm(self, x: Tensor, u: Tensor, *, keepdim: bool = False) -> Tensor:
        """λ |u|."""
        return root(self.inner(x, u, keepdim=keepdim))

    def projx(self, x: Tensor) -> Tensor:
        """Points of the ball as they are, others at 1 − 8 eps."""
        return hyperbolic.inside(x)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """The vector itself."""
        return u.expand(torch.broadcast_shapes(x.shape, u.shape))

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """u / λ²."""
        return u / self.lambda_x(x, keepdim=True) ** 2

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """x + u, inside the ball."""
        return self.projx(x + u)

    def expmap(self, x: Tensor, u: Tensor, *, project: bool = True) -> Tensor:
        """The geodesic's end; it may be rounded onto the border where it is not to be projected."""
        end = hyperbolic.ball_exp(x, u)
        return self.projx(end) if project else end

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity at x of the geodesic to y."""
        return hyperbolic.ball_log(x, y)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport from x to y."""
        return hyperbolic.ball_transport(x, y, v)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """2 arsinh(|x − y| / √((1 − |x|²)(1 − |y|²)))."""
        found = hyperbolic.ball_distance(x, y)
        return found if keepdim else found[..., 0]

    def dist2(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """The squared distance."""
        found = hyperbolic.ball_distance2(x, y)
        return found if keepdim else found[..., 0]

    def mobius_add(self, x: Tensor, y: Tensor, *, project: bool = True) -> Tensor:
        """Möbius addition x ⊕ y."""
        found = hyperbolic.ball_add(x, y)
        return self.projx(found) if project else found

    def geodesic(self, t: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The point at the share t (..., 1) of the way from x to y."""
        return self.expmap(x, t * self.logmap(x, y))

    def geodesic_unit(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        """The point at the distance t (..., 1) from x along u."""
        return self.expmap(x, t * u / self.norm(x, u, keepdim=True))

    def expmap0(self, u: Tensor, *, project: bool = True) -> Tensor:
        """`expmap` at the origin."""
        return self.expmap(torch.zeros_like(u), u, project=project)

    def logmap0(self, y: Tensor) -> Tensor:
        """`logmap` at the origin."""
        return self.logmap(torch.zeros_like(y), y)

    def dist0(self, x: Tensor, *, keepdim: bool = False) -> Tensor:
        """The distance to the origin."""
        return self.dist(torch.zeros_like(x), x, keepdim=keepdim)

    def transp0(self, y: Tensor, u: Tensor) -> Tensor:
        """Parallel transport from the origin to y."""
        return hyperbolic.gap(y) * u

    def transp0back(self, y: Tensor, u: Tensor) -> Tensor:
        """Parallel transport from y to the origin."""
        return u / hyperbolic.gap(y)

    def _dim(self, shape: tuple[int, ...]) -> int:
        return shape[-1]

    def _random(self, normal: Tensor) -> Tensor:
        return self.expmap0(normal / normal.shape[-1] ** 0.5)

    def _tangent(self, x: Tensor, normal: Tensor) -> Tensor:
        return normal / self.lambda_x(x, keepdim=True)
