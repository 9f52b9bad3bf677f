"""Manifolds of vectors, the last axis: the sphere and hyperbolic space; what all manifolds here share."""

from __future__ import annotations

from typing import Any

import geoopt
import torch
from torch import Tensor


class Checked(geoopt.Manifold):
    """A geoopt manifold that says how far points are from it, `error(x)`, and names the worst of them.

    All verbs are batched over leading axes and keep dtype and device:

        projx(x)            the nearest point                proju(x, u)      the nearest tangent vector
        inner(x, u, v)      the metric                       egrad2rgrad      the gradient, of the ambient gradient
        retr(x, u)          a cheap step                     expmap(x, u)     the geodesic's end
        logmap(x, y)        its inverse                      transp(x, y, v)  along the shortest geodesic
        dist(x, y)          the geodesic's length            error(x) (...)   how far x is off
    """

    reversible = False

    def error(self, x: Tensor) -> Tensor:
        """How far each point is from the manifold, (...); 0 is on it."""
        raise NotImplementedError

    def _check_point_on_manifold(self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5) -> tuple[bool, str | None]:
        error = self.error(x).reshape(-1)
        worst = int(error.nan_to_num(torch.inf).argmax())
        if bool(error[worst] <= atol):
            return True, None
        return False, f"point {worst} is off by {float(error[worst]):.3g}"

    def _check_vector_on_tangent(
        self, x: Tensor, u: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        off = float((self.proju(x, u) - u).abs().amax())
        return off <= atol + rtol * float(u.abs().amax()), f"the vector is off the tangent space by {off:.3g}"

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """d(x, y), the length of the shortest geodesic."""
        return self.norm(x, self.logmap(x, y), keepdim=keepdim)

    def transp_follow_retr(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """The vector v, carried from x to retr(x, u)."""
        return self.transp(x, self.retr(x, u), v)

    def retr_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """y = retr(x, u), and the vector v carried there."""
        y = self.retr(x, u)
        return y, self.transp(x, y, v)

    def transp_follow_expmap(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """The vector v, carried from x to expmap(x, u)."""
        return self.transp(x, self.expmap(x, u), v)

    def random(self, *size: int, dtype: Any = None, device: Any = None, generator: Any = None) -> Tensor:
        """Points: a normal draw of that size, projected."""
        return self.projx(torch.randn(*size, dtype=dtype, device=device, generator=generator))


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

    name, ndim = "Sphere", 1

    def error(self, x: Tensor) -> Tensor:
        """||x| − 1|."""
        return (x.norm(dim=-1) - 1).abs()

    def projx(self, x: Tensor) -> Tensor:
        """x / |x|; the zero vector has no nearest point and becomes NaN."""
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
        size = u.norm(dim=-1, keepdim=True)
        return self.projx(size.cos() * x + torch.sinc(size / torch.pi) * u)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """The angle between x and y."""
        return 2 * torch.atan2((x - y).norm(dim=-1, keepdim=keepdim), (x + y).norm(dim=-1, keepdim=keepdim))

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The tangent vector at x of length d(x, y) that points to y."""
        angle = self.dist(x, y, keepdim=True)
        if bool((torch.pi - angle < 8 * torch.finfo(x.dtype).eps).any()):
            raise ValueError(f"antipodes have no single logarithm, got an angle of {float(angle.amax()):.17g}")
        toward = self.proju(x, y - x)
        return toward / torch.sinc(angle / torch.pi)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport: v − <y, v> / (1 + <x, y>) (x + y)."""
        return v - (y * v).sum(-1, keepdim=True) / (1 + (x * y).sum(-1, keepdim=True)) * (x + y)


class PoincareBall(geoopt.PoincareBall):
    """Hyperbolic space of curvature −1 on the unit ball, points (..., n): G = λ² I, λ = 2/(1 − |x|²).

    exp, log, distance and parallel transport are geoopt's (Möbius addition and gyration), as are `expmap0` and
    `logmap0` at the origin. Points nearer to the border than 1e-5 (float32: 4e-3) are moved to there, so distances to
    the origin end at 12.2 (6.2). `retr` is x + u, of first order.

    Example:
        >>> ball = PoincareBall()
        >>> ball.dist(torch.tensor([0.0, 0.0]), torch.tensor([0.5, 0.0]))
        tensor(1.0986)
    """

    def __init__(self) -> None:
        super().__init__(c=1.0)

    def error(self, x: Tensor) -> Tensor:
        """How far x is out of the open ball; NaN stays NaN."""
        return (x.norm(dim=-1) - (1 - torch.finfo(x.dtype).eps)).clamp_min(0)

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False, dim: int = -1) -> Tensor:
        """λ² <u, v>."""
        product = (u * (u if v is None else v)).sum(dim, keepdim=keepdim)
        return self.lambda_x(x, dim=dim, keepdim=keepdim) ** 2 * product

    def component_inner(self, x: Tensor, u: Tensor, v: Tensor | None = None) -> Tensor:
        """λ² <u, v>, for every component."""
        return self.inner(x, u, v, keepdim=True).expand_as(u)

    def _check_point_on_manifold(self, x: Tensor, *, atol: float = 0.0, rtol: float = 0.0) -> tuple[bool, str | None]:
        norm = x.norm(dim=-1).reshape(-1)
        worst = int(norm.nan_to_num(torch.inf).argmax())
        return bool(norm[worst] < 1), f"point {worst} has norm {float(norm[worst]):.6g}, the ball ends at 1"
