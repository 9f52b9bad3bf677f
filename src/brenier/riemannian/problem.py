"""What is minimised: a cost on a manifold, one problem or many at once, and how an answer is reported."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import geoopt
import numpy as np
import torch
from torch import Tensor

from brenier.riemannian.base import Checked
from brenier.riemannian.positive import SPD
from brenier.riemannian.vectors import PoincareBall
from brenier.solution import Solution

Cost = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Optimum(Solution):
    """Points (..., *point), their costs (...), norms of the Riemannian gradient (...)."""

    point: Any
    cost: Any = field(repr=False)
    gradient_norm: Any = field(repr=False)


def as_points(manifold: geoopt.Manifold, name: str, value: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """The points as a detached float tensor that lies on the manifold, and the way back to their kind of array.

    Raises:
        TypeError: no array of real numbers. ValueError: NaN or Inf, a wrong shape, points off the manifold; one
            sentence names the worst.
    """
    if not isinstance(value, (Tensor, np.ndarray)):
        raise TypeError(f"{name} must be a torch tensor or a numpy array, got {type(value).__name__}")
    found = torch.as_tensor(value).detach()
    if not found.is_floating_point() or found.itemsize < 4:
        raise TypeError(f"{name} must be float32 or float64, got {found.dtype}")
    if found.numel() == 0 or found.ndim < manifold.ndim:
        raise ValueError(f"{name} must be points of {manifold.name}, got shape {tuple(found.shape)}")
    if not bool(found.isfinite().all()):
        raise ValueError(f"{name} must be finite, got {int((~found.isfinite()).sum())} NaN or Inf")
    on_it, reason = manifold.check_point_on_manifold(found, explain=True)
    if not on_it:
        raise ValueError(f"{name} must lie on {manifold.name}: {reason}")
    return found, (lambda t: t.cpu().numpy()) if isinstance(value, np.ndarray) else (lambda t: t)


@dataclass(frozen=True)
class Problem:
    """A cost x (..., *point) -> (...) on a manifold; numbers per problem have shape (..., 1, ..., 1), as `wide`."""

    cost: Cost
    manifold: geoopt.Manifold
    lead: tuple[int, ...]

    def wide(self, numbers: Tensor) -> Tensor:
        """Numbers (...) with the axes of a point behind them."""
        return numbers.reshape(self.lead + (1,) * self.manifold.ndim)

    def narrow(self, numbers: Tensor) -> Tensor:
        """Numbers (...) of (..., 1, ..., 1)."""
        return numbers.reshape(self.lead)

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """<u, v>_x, (..., 1, ..., 1)."""
        return self.manifold.inner(x, u, v, keepdim=True)

    def step(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """retr(x, u), and where that is a point; elsewhere it is x."""
        y = self.manifold.retr(x, u)
        good = self.manifold.inside(y) if isinstance(self.manifold, Checked) else self.finite(y)
        good = self.wide(good)
        return torch.where(good, y, x), good

    def finite(self, y: Tensor) -> Tensor:
        """Where all numbers of a point or vector are finite, (...)."""
        return y.isfinite().reshape(*self.lead, -1).all(-1)

    def escaped(self, first: tuple[Tensor, Tensor, Tensor], last: tuple[Tensor, Tensor, Tensor]) -> bool:
        """Whether some problem has left all bounds, of (x, cost, gradient) at the start and in the end.

        Its cost or coordinates are beyond 1/eps^(3/2), or the cost is beyond 1/eps^(3/4) and as steep as at the start,
        or its distance from 0 in the ball, from the start in SPD is above ¾ log(1/eps).
        """
        (start, before, g), (x, f, gx) = first, last
        eps = torch.finfo(f.dtype).eps
        most = eps**-1.5
        steep = self.inner(x, gx, gx) >= self.inner(start, g, g) / 4
        if bool((steep & (f < before - (1 + before.abs()) * eps**-0.75)).any()):
            return True
        far = bool(
            (f < before - (1 + before.abs()) * most).any() or ((x - start).abs() > (1 + start.abs()) * most).any()
        )
        if isinstance(self.manifold, (PoincareBall, SPD)) and not far:
            away = self.manifold.dist(torch.zeros_like(x) if isinstance(self.manifold, PoincareBall) else start, x)
            far = bool((self.wide(away > -0.75 * math.log(eps)) & (f < before)).any())
        return far

    def value(self, x: Tensor) -> Tensor:
        """The costs at x, (..., 1, ..., 1).

        Raises:
            ValueError: not one number a problem.
        """
        costs = self.cost(x)
        if not isinstance(costs, Tensor) or costs.shape != self.lead:
            got = tuple(costs.shape) if isinstance(costs, Tensor) else type(costs).__name__
            raise ValueError(f"cost must give a tensor of shape {self.lead}, one number a problem, got {got}")
        return self.wide(costs)

    def slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The costs at x and their Riemannian gradients."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            costs = self.value(leaf)
            if not costs.requires_grad:
                raise ValueError("cost must be differentiable in the point, got a value without gradient")
            (ambient,) = torch.autograd.grad(costs.sum(), leaf)
        return costs.detach(), self.manifold.egrad2rgrad(x, ambient)

    def model(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """The Hessian at x of the cost pulled back by the retraction, v -> H v, one graph for all products."""
        with torch.enable_grad():
            zero = torch.zeros_like(x).requires_grad_()
            costs = self.value(self.manifold.retr(x, zero))
            (slope,) = torch.autograd.grad(costs.sum(), zero, create_graph=True)

        def product(v: Tensor) -> Tensor:
            (bent,) = torch.autograd.grad(slope, zero, v, retain_graph=True)
            return self.manifold.egrad2rgrad(x, bent)

        return product if slope.requires_grad else torch.zeros_like
