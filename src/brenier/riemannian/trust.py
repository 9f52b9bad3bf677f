"""Newton's method in a trust region, many problems at once: truncated conjugate gradients on the pulled-back cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from brenier.riemannian.problem import Problem
from brenier.solution import Status


@dataclass(frozen=True)
class TrustRegion:
    """Steps that minimise the quadratic model of f(retr(x, u)) in |u| ≤ radius.

    The model's system is solved to min(1/10, |g|) of its right side, so convergence is quadratic in the end, down to
    rounding.

    Source: Absil, Baker and Gallivan, Trust-region methods on Riemannian manifolds, Foundations of Computational
    Mathematics 2007; Steihaug 1983 (the truncated solve).
    """

    problem: Problem
    tol: float
    max_steps: int
    inner_steps: int = 100
    widest: float = 16.0

    def run(
        self, here: tuple[Tensor, Tensor, Tensor], history: list[dict[str, Any]]
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Status]:
        """From (x, cost, gradient) to the last of them, and how it ended."""
        problem = self.problem
        x, f, g = here
        radius = torch.ones_like(f)
        eps = torch.finfo(f.dtype).eps
        for count in range(self.max_steps + 1):
            norm = problem.inner(x, g, g).clamp_min(0).sqrt()
            live = (norm > self.tol) & (radius > 1e3 * eps)
            history.append({"cost": float(f.mean()), "gradient_norm": float(norm.amax()), "live": int(live.sum())})
            if not bool(live.any()) or count == self.max_steps:
                break
            u, fall, at_border = self.solve(x, g, problem.model(x), radius, live)
            broken = ~problem.wide(problem.finite(u))
            if count == 0 and bool(broken.any()):
                raise ValueError('the cost has no finite second derivative at the start; use method="lbfgs"')
            radius = torch.where(broken, 0.0, radius)
            y, there = problem.step(x, u)
            fy, gy = problem.slope(y)
            fy = torch.where(there, fy, torch.inf)
            rounding = 1e3 * eps * f.abs().clamp_min(1)
            ratio = ((f - fy) + rounding) / (fall + rounding)
            ratio = torch.where(ratio.isfinite(), ratio, -torch.inf)
            radius = torch.where(live & (ratio < 0.25), radius / 4, radius)
            radius = torch.where(live & (ratio > 0.75) & at_border, (2 * radius).clamp_max(self.widest), radius)
            good = live & (ratio > 0.1) & problem.inner(y, gy, gy).isfinite()
            x, f, g = (torch.where(good, new, old) for new, old in zip((y, fy, gy), (x, f, g), strict=True))
        if bool((norm <= self.tol).all()):
            return (x, f, g), Status.STATIONARY
        return (x, f, g), Status.OUT_OF_PRECISION if not bool(live.any()) else Status.OUT_OF_STEPS

    def solve(
        self, x: Tensor, g: Tensor, hessian: Callable[[Tensor], Tensor], radius: Tensor, live: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The step u, the model's fall −<g, u> − <u, Hu>/2, and whether u lies at the border."""
        problem, inner = self.problem, self.problem.inner
        g = self.problem.manifold.proju(x, g)  # once more: of a small gradient much of the rounding is normal
        u = torch.zeros_like(g)
        hu = torch.zeros_like(g)
        r, d = g, -g
        rr = inner(x, r, r)
        goal = rr * rr.clamp((1e3 * torch.finfo(rr.dtype).eps) ** 2, 1e-2)
        open_, at_border = live, torch.zeros_like(live)
        for _ in range(self.inner_steps):
            hd = hessian(d)
            broken = open_ & ~problem.wide(problem.finite(hd))
            if bool(broken.any()):
                return torch.where(broken, torch.nan, u), torch.zeros_like(rr), at_border
            bend = inner(x, d, hd)
            alpha = rr / bend
            uu, ud, dd = inner(x, u, u), inner(x, u, d), inner(x, d, d)
            outside = (bend <= 0) | (uu + 2 * alpha * ud + alpha**2 * dd >= radius**2)
            to_border = (-ud + (ud**2 + dd * (radius**2 - uu)).clamp_min(0).sqrt()) / dd
            size = torch.where(open_, torch.where(outside, to_border, alpha), 0.0)
            u, hu, r = u + size * d, hu + size * hd, r + size * hd
            at_border |= open_ & outside
            new = inner(x, r, r)
            open_ = open_ & ~outside & (new > goal)
            if not bool(open_.any()):
                break
            d = torch.where(open_, new / rr * d - r, d)
            rr = torch.where(open_, new, rr)
        return u, -inner(x, g, u) - inner(x, u, hu) / 2, at_border
