"""Descent along lines for many problems at once: Wolfe's conditions, conjugate gradients, limited-memory BFGS."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from brenier.riemannian.problem import Problem

TRIALS = 25
DECREASE = 1e-4


def search(
    problem: Problem, here: tuple[Tensor, Tensor, Tensor], d: Tensor, step: Tensor, live: Tensor, curvature: float
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Steps along d that meet Wolfe's conditions: (x, cost, gradient) after them, and their sizes, 0 where none was.

    Slopes are those of the curve retr(x, step d), by a difference quotient. Bracketing by their secant, kept a tenth
    away from the bracket's ends. Near a minimum, where costs
    differ by rounding only, the decrease is judged by the slopes (Hager and Zhang 2005).
    """
    x, f, g = here
    manifold = problem.manifold
    slope = problem.inner(x, g, d)
    low, low_slope, high = torch.zeros_like(step), slope, torch.full_like(step, torch.inf)
    best, size, open_ = here, torch.zeros_like(step), live
    nudge = torch.finfo(f.dtype).eps ** 0.5
    rounding = 10 * torch.finfo(f.dtype).eps * f.abs()
    for _ in range(TRIALS):
        at = torch.where(open_, step, size)
        y, there = problem.step(x, at * d)
        fy, gy = problem.slope(y)
        fy = torch.where(there, fy, torch.inf)
        slope_y = problem.inner(y, gy, manifold.retr(x, (1 + nudge) * at * d) - y) / (nudge * at)
        level = (fy <= f + rounding) & (slope_y <= (2 * DECREASE - 1) * slope)
        falls = ((fy <= f + DECREASE * step * slope) & slope_y.isfinite()) | level
        flat = (slope_y >= curvature * slope) & ((slope_y <= -curvature * slope) | (curvature > 0.5))
        good = open_ & falls
        best = tuple(torch.where(good, new, old) for new, old in zip((y, fy, gy), best, strict=True))  # type: ignore[assignment]
        size = torch.where(good, step, size)
        open_ = open_ & ~(falls & flat)
        if not bool(open_.any()):
            break
        ahead = falls & (slope_y < 0)
        secant = low + (step - low) * low_slope / (low_slope - slope_y)
        low, low_slope, high = (
            torch.where(ahead, step, low),
            torch.where(ahead, slope_y, low_slope),
            torch.where(ahead, high, step),
        )
        width = torch.where(high.isinf(), 9 * low, high - low)
        secant = torch.where(secant.isfinite() & (falls | (slope_y > 0)), secant, low + width / 2)
        step = torch.where(open_, secant.clamp(low + width / 10, torch.minimum(low + width, high - width / 10)), step)
    return best, size


class Conjugate:
    """d = −g + β d, β = max(0, min(Hestenes–Stiefel, Dai–Yuan)) with everything carried to the new point.

    Source: Sato, Riemannian conjugate gradient methods, SIAM Journal on Optimization 2022.
    """

    curvature = 0.3  # a line that is searched further costs more gradients than it saves steps

    def first(self, problem: Problem, x: Tensor, g: Tensor) -> Tensor:
        """The direction −g."""
        return -g

    def next(
        self, problem: Problem, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], d: Tensor, size: Tensor
    ) -> Tensor:
        """The direction at the new (x, g)."""
        (x, g), (y, gy) = old, new
        there = torch.stack([g, d])
        g_there, d_there = problem.manifold.transp(x, y, there)
        slope, slope_there = problem.inner(x, g, d), problem.inner(y, gy, d_there)
        curve = slope_there - slope
        hestenes = problem.inner(y, gy, gy - g_there) / curve
        beta = torch.minimum(hestenes, problem.inner(y, gy, gy) / curve).clamp_min(0)
        return torch.where(beta.isfinite(), beta * d_there, 0.0) - gy

    def guess(self, slope: Tensor, fall: Tensor, size: Tensor) -> Tensor:
        """The first step to try: the one that falls as far as the last did, if the cost is quadratic."""
        return (2.02 * fall / slope.abs()).clamp(size / 20, size * 20)


class LimitedMemory:
    """L-BFGS: the last pairs of steps and changes of the gradient, carried from point to point.

    Source: Huang, Gallivan and Absil, A Broyden class of quasi-Newton methods for Riemannian optimization, SIAM
    Journal on Optimization 2015.
    """

    curvature = 0.9

    def __init__(self, memory: int = 10) -> None:
        self.pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=memory)

    def first(self, problem: Problem, x: Tensor, g: Tensor) -> Tensor:
        """The direction −g, and nothing remembered."""
        self.pairs.clear()
        return -g

    def next(
        self, problem: Problem, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], d: Tensor, size: Tensor
    ) -> Tensor:
        """The direction at the new (x, g), after remembering the last step."""
        (x, g), (y, gy) = old, new
        rows = [size * d, g, *(part for pair in self.pairs for part in pair)]
        step, g_there, *rest = problem.manifold.transp(x, y, torch.stack(rows)).unbind(0)
        pairs = [*zip(rest[::2], rest[1::2], strict=True), (step, gy - g_there)]
        self.pairs.extend(pairs[-(self.pairs.maxlen or 1) :])
        q, trail, scale = gy, [], torch.ones_like(size)
        tiny = torch.finfo(gy.dtype).eps
        for s, change in reversed(self.pairs):
            both, square = problem.inner(y, s, change), problem.inner(y, change, change)
            rho = torch.where(both > tiny * square.sqrt() * problem.inner(y, s, s).sqrt(), 1 / both, 0.0)
            weight = rho * problem.inner(y, s, q)
            q = q - weight * change
            scale = torch.where((rho > 0) & (scale == 1), both / square, scale)
            trail.append((s, change, rho, weight))
        q = scale * q
        for s, change, rho, weight in reversed(trail):
            q = q + (weight - rho * problem.inner(y, change, q)) * s
        return -problem.manifold.proju(y, q)

    def guess(self, slope: Tensor, fall: Tensor, size: Tensor) -> Tensor:
        """The first step to try: 1."""
        return torch.ones_like(size)
