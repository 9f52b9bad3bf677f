"""Stochastic variance-reduced gradients on a manifold, for costs that are means over many samples."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import geoopt
import torch
from torch import Tensor

from brenier.checks import whole
from brenier.device import seeded
from brenier.riemannian.problem import Optimum, Problem, as_points
from brenier.solution import Status


def svrg(
    cost: Callable[[Tensor, Tensor], Tensor],
    manifold: geoopt.Manifold,
    start: Any,
    n: int,
    lr: float,
    tol: float = 1e-6,
    epochs: int = 100,
    batch_size: int = 32,
    generator: torch.Generator | int = 0,
) -> Optimum:
    """Minimise the mean of n costs by steps on a few of them: x ← retr(x, −lr (g_B(x) − T(g_B(y) − g(y)))).

    y is the point at the begin of an epoch, g its full gradient, g_B that of the rows of a batch, T the transport from
    y to x. The variance of a step vanishes at the optimum, so a constant lr converges linearly where plain stochastic
    descent stays at a distance.

    Args:
        cost: (x (..., *point), rows (b,) long) -> (...), the mean cost of these rows.
        manifold: where x lives.
        start: a point, or many with leading axes.
        n: how many costs there are.
        lr: the size of the steps.
        tol: on the norm of the full gradient, looked at once an epoch.
        epochs: each of n / batch_size steps.
        batch_size: rows of a step.
        generator: of the rows: a generator or a seed.

    Raises:
        ValueError: a number out of range, a start off the manifold. ArithmeticError: the cost is not finite.

    Source: Zhang, Reddi and Sra, Riemannian SVRG, NeurIPS 2016.

    Example:
        >>> from brenier.riemannian import Sphere
        >>> a = torch.tensor([[1.0, 0.0], [1.0, 0.2], [1.0, -0.2]], dtype=torch.float64)
        >>> start = torch.tensor([0.6, 0.8], dtype=torch.float64)
        >>> cost = lambda x, rows: -(a[rows] @ x).square().mean()
        >>> svrg(cost, Sphere(), start, n=3, lr=0.2, batch_size=1).converged
        True
    """
    began = time.perf_counter()
    for name, value in (("lr", lr), ("tol", tol)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    for name, number, least in (("n", n, 1), ("epochs", epochs, 0), ("batch_size", batch_size, 1)):
        whole(name, number, least)
    order = seeded(generator)
    x, back = as_points(manifold, "start", start)
    lead = tuple(x.shape[: x.ndim - manifold.ndim])
    history: list[dict[str, Any]] = []
    everything = torch.arange(n)

    def part(rows: Tensor) -> Problem:
        return Problem(lambda p: cost(p, rows), manifold, lead)

    status = Status.OUT_OF_STEPS
    with torch.no_grad():
        for epoch in range(epochs + 1):
            y, (f, g) = x, part(everything).slope(x)
            norm = manifold.inner(y, g, g, keepdim=True).clamp_min(0).sqrt()
            history.append({"cost": float(f.mean()), "gradient_norm": float(norm.amax())})
            if not bool(f.isfinite().all() and norm.isfinite().all()):
                raise ArithmeticError(f"the cost became {float(f.mean())} in epoch {epoch}; lower lr, got {lr}")
            if bool((norm <= tol).all()):
                status = Status.STATIONARY
                break
            if epoch == epochs:
                break
            for rows in torch.randperm(n, generator=order).split(batch_size):
                some = part(rows)
                change = some.slope(y)[1] - g
                x = manifold.retr(x, -lr * (some.slope(x)[1] - manifold.transp(y, x, change)))
            x = manifold.projx(x)
    answers = (x, f.reshape(lead), norm.reshape(lead))
    return Optimum(status, time.perf_counter() - began, history, *map(back, answers))
