"""Flat space, and several manifolds side by side."""

from __future__ import annotations

import math
from typing import Any

import geoopt
import torch
from torch import Tensor

from brenier.riemannian.base import Checked, Reason


class Euclidean(Checked, geoopt.Euclidean):
    """Flat space: points are the last `ndim` axes, vectors with 1, matrices with 2, numbers with 0.

    Example:
        >>> Euclidean(1).dist(torch.tensor([0.0, 0.0]), torch.tensor([3.0, 4.0]))
        tensor(5.)
    """

    name, reversible, regular = "Euclidean", True, math.inf

    def inside(self, x: Tensor) -> Tensor:
        """Whether all numbers of each point are finite."""
        return x.isfinite() if self.ndim == 0 else super().inside(x)

    def error(self, x: Tensor) -> Tensor:
        """0."""
        return x.new_zeros(x.shape[: x.ndim - self.ndim])

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """The vector itself."""
        return u.expand(torch.broadcast_shapes(x.shape, u.shape))

    egrad2rgrad = proju

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """<u, v>."""
        product = self.proju(x, u * (u if v is None else v))
        return product.sum(tuple(range(-self.ndim, 0)), keepdim=keepdim) if self.ndim else product

    def component_inner(self, x: Tensor, u: Tensor, v: Tensor | None = None) -> Tensor:
        """u v, number by number."""
        return self.proju(x, u * (u if v is None else v))

    def dist2(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """|x − y|²."""
        return self.inner(x, y - x, keepdim=keepdim)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """The vector itself."""
        return v.expand(torch.broadcast_shapes(x.shape, y.shape, v.shape))

    def _dim(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape[len(shape) - self.ndim :])


class Product(Checked, geoopt.ProductManifold):
    """Several manifolds side by side, Product((manifold, shape of its points), ...): d² = Σ d_i².

    Points are vectors (..., n), the parts flattened one behind the other; `take_submanifold_value(x, i)` is a part.

    Example:
        >>> from brenier.riemannian import Sphere
        >>> Product((Sphere(), 3), (Euclidean(1), 2)).random(5, 5, generator=0).shape
        torch.Size([5, 5])
    """

    ndim = 1

    def _check_shape(self, shape: tuple[int, ...], name: str) -> Reason:
        if len(shape) < 1 or shape[-1] != self.n_elements:
            return False, f"{name} must be (..., {self.n_elements}) for {self.name}, got {tuple(shape)}"
        return True, None

    def _check_point_on_manifold(self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5) -> Reason:
        for i, manifold in enumerate(self.manifolds):
            good, reason = manifold.check_point_on_manifold(self.part(x, i), explain=True, atol=atol, rtol=rtol)
            if not good:
                return False, f"part {i}, {manifold.name}: {reason}"
        return True, None

    def part(self, x: Tensor, i: int) -> Tensor:
        """The points of the i-th manifold."""
        return x[..., self.slices[i]].reshape(*x.shape[:-1], *self.shapes[i])

    def _each(self, verb: str, *tensors: Tensor, **options: Any) -> list[Tensor]:
        """The answers of every manifold, (..., n_i)."""
        tensors = torch.broadcast_tensors(*tensors)
        lead = tensors[0].shape[:-1]
        found = []
        for i, manifold in enumerate(self.manifolds):
            answer = getattr(manifold, verb)(*(self.part(t, i) for t in tensors), **options)
            found.append(answer.reshape(*lead, math.prod(answer.shape[len(lead) :])))
        return found

    def error(self, x: Tensor) -> Tensor:
        """The largest of its parts' errors."""
        return torch.cat(self._each("error", x), -1).amax(-1)

    def inside(self, x: Tensor) -> Tensor:
        """Whether every part is a point."""
        return torch.cat(self._each("inside", x), -1).all(-1)

    def projx(self, x: Tensor) -> Tensor:
        """The nearest points."""
        return torch.cat(self._each("projx", x), -1)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """The nearest tangent vectors."""
        return torch.cat(self._each("proju", x, u), -1)

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """The gradients."""
        return torch.cat(self._each("egrad2rgrad", x, u), -1)

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """Σ <u_i, v_i>."""
        return torch.cat(self._each("inner", x, u, u if v is None else v), -1).sum(-1, keepdim=keepdim)

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """Cheap steps."""
        return torch.cat(self._each("retr", x, u), -1)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """The geodesics' ends."""
        return torch.cat(self._each("expmap", x, u), -1)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """Their inverse."""
        return torch.cat(self._each("logmap", x, y), -1)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """The transport of every part."""
        return torch.cat(self._each("transp", x, y, v), -1)

    def dist2(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """Σ d_i²."""
        return torch.cat(self._each("dist2", x, y), -1).sum(-1, keepdim=keepdim)

    def _dim(self, shape: tuple[int, ...]) -> int:
        return sum(m.dim(*own) for m, own in zip(self.manifolds, self.shapes, strict=True))

    def dim(self, *shape: Any) -> int:
        """The sum of the dimensions; the shape is known and needn't be given."""
        return self._dim(self.sizes(shape or (self.n_elements,)))

    def _origin(self, zero: Tensor) -> Tensor:
        return torch.cat(self._each("_origin", zero), -1)

    def _random(self, normal: Tensor) -> Tensor:
        return torch.cat(self._each("_random", normal), -1)

    def _tangent(self, x: Tensor, normal: Tensor) -> Tensor:
        return torch.cat(self._each("_tangent", x, normal), -1)
