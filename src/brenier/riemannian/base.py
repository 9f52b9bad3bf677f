"""What the manifolds of this package share: checks, lengths, the way to draw points and tangent vectors."""

from __future__ import annotations

from typing import Any

import geoopt
import torch
from torch import Tensor

from brenier.device import seeded
from brenier.smooth import root

Reason = tuple[bool, str | None]


class Checked(geoopt.Manifold):
    """A geoopt manifold that says how far points are from it, `error(x)`, and names the worst of them.

    All verbs are batched over leading axes, empty ones too, and keep dtype and device:

        projx(x)            the nearest point                proju(x, u)      the nearest tangent vector
        inner(x, u, v)      the metric                       egrad2rgrad      the gradient, of the ambient gradient
        retr(x, u)          a cheap step                     expmap(x, u)     the geodesic's end
        logmap(x, y)        its inverse                      transp(x, y, v)  along the shortest geodesic
        dist(x, y)          the geodesic's length            dist2(x, y)      its square
        norm(x, u)          √inner                           error(x) (...)   how far x is off
        random(*shape)      points drawn at random           origin(*shape)   one point, the same always
        random_tangent(x)   normal tangent vectors at x      dim(*shape)      the dimension

    At u = 0 and x = y the gradients of `norm` and `dist` are 0; `dist2` is smooth there.
    """

    reversible = False
    regular = 0.0  # points all nearer than this to a point where their logarithms add up to 0 have no other mean

    def error(self, x: Tensor) -> Tensor:
        """How far each point is from the manifold, (...); 0 is on it."""
        raise NotImplementedError

    def inside(self, x: Tensor) -> Tensor:
        """Whether the numbers of each point (...) are those of a point; an iteration steps back from one that isn't."""
        return x.isfinite().all(-1) if self.ndim == 1 else x.isfinite().flatten(-self.ndim).all(-1)

    def _check_point_on_manifold(self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5) -> Reason:
        error = self.error(x).reshape(-1)
        if error.numel() == 0:
            return True, None
        worst = int(error.nan_to_num(torch.inf).argmax())
        if bool(error[worst] <= atol):
            return True, None
        return False, f"point {worst} is off by {float(error[worst]):.3g}"

    def _check_vector_on_tangent(self, x: Tensor, u: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5) -> Reason:
        if u.numel() == 0:
            return True, None
        off = float((self.proju(x, u) - u).abs().amax())
        return off <= atol + rtol * float(u.abs().amax()), f"the vector is off the tangent space by {off:.3g}"

    def norm(self, x: Tensor, u: Tensor, *, keepdim: bool = False) -> Tensor:
        """√<u, u>."""
        return root(self.inner(x, u, u, keepdim=keepdim))

    def dist2(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """d(x, y)²."""
        log = self.logmap(x, y)
        return self.inner(x.expand_as(log), log, log, keepdim=keepdim)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """d(x, y), the length of the shortest geodesic."""
        return root(self.dist2(x, y, keepdim=keepdim))

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

    def expmap_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """y = expmap(x, u), and the vector v carried there."""
        y = self.expmap(x, u)
        return y, self.transp(x, y, v)

    def dim(self, *shape: Any) -> int:
        """The dimension of the manifold of points of that shape; leading axes don't count."""
        return self._dim(self.sizes(shape))

    def origin(self, *shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
        """One point, the same always, in every place of that shape."""
        sizes = self.sizes(shape)
        return self._origin(torch.zeros(sizes, dtype=dtype, device=device))

    def random(self, *shape: Any, dtype: Any = None, device: Any = None, generator: Any = None) -> Tensor:
        """Points of that shape: uniform on the compact manifolds, else exp of a normal vector at the origin.

        Args:
            shape: of the answer, (..., *point), as numbers or one tuple.
            dtype: float32 or float64, torch's default where None.
            device: where they are made.
            generator: a generator, a seed, or None for torch's own generator.

        Raises:
            ValueError: a shape that points of this manifold can't have.
        """
        sizes = self.sizes(shape)
        normal = torch.randn(sizes, dtype=dtype, device=device, generator=seeded(generator, device or "cpu"))
        return self._random(normal)

    def random_tangent(self, x: Tensor, *, generator: Any = None) -> Tensor:
        """Tangent vectors at x, normal with the identity as covariance in coordinates that are orthonormal at x."""
        normal = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=seeded(generator, x.device))
        return self._tangent(x, normal)

    def sizes(self, shape: tuple[Any, ...]) -> tuple[int, ...]:
        """A shape given as numbers or as one tuple.

        Raises:
            ValueError: points of this manifold can't have it.
        """
        given = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else tuple(shape)
        good, reason = self._check_shape(given, "shape")
        if not good or any(n < 1 for n in given[len(given) - self.ndim :]):
            raise ValueError(reason or f"shape must be that of points of {self.name}, got {given}")
        return given

    def _check_shape(self, shape: tuple[int, ...], name: str) -> Reason:
        if len(shape) < self.ndim:
            return False, f"{name} must be that of points of {self.name}, got {tuple(shape)}"
        return True, None

    def _dim(self, shape: tuple[int, ...]) -> int:
        """The dimension of points of that shape."""
        raise NotImplementedError

    def _origin(self, zero: Tensor) -> Tensor:
        """The origin, of zeros of the shape sought."""
        return zero

    def _random(self, normal: Tensor) -> Tensor:
        """Points, of standard normal numbers of the shape sought."""
        return self.projx(normal)

    def _tangent(self, x: Tensor, normal: Tensor) -> Tensor:
        """Normal tangent vectors, of standard normal numbers."""
        return self.proju(x, normal)
