"""Minimise a cost on a manifold: conjugate gradients, L-BFGS, trust regions; one problem or thousands at once."""

from __future__ import annotations

import time
from typing import Any

import geoopt
import torch
from torch import Tensor

from brenier.checks import whole
from brenier.riemannian.line import Conjugate, LimitedMemory, search
from brenier.riemannian.problem import Cost, Optimum, Problem, as_points
from brenier.riemannian.trust import TrustRegion
from brenier.solution import Status

METHODS = ("cg", "lbfgs", "trust")


def minimize(
    cost: Cost,
    manifold: geoopt.Manifold,
    start: Any,
    method: str = "lbfgs",
    tol: float = 1e-6,
    max_steps: int = 1000,
) -> Optimum:
    """The points that minimise a cost near `start` (..., *point): min f(x), x on the manifold.

    Leading axes are problems solved side by side, each with its own line search, and at rest when it has converged.
    Gradients, and Hessian products for "trust", come from automatic differentiation.

    Args:
        cost: a function of torch operations, x (..., *point) -> (...), one number a problem.
        manifold: one of this package or of geoopt.
        start: points on the manifold, a tensor or array; the answer has its kind, dtype and device.
        method: "cg", conjugate gradients; "lbfgs", limited-memory BFGS; "trust", Newton in a trust region, which
            converges superlinearly and pays where Hessian products are cheap beside many steps.
        tol: on the norm of each problem's Riemannian gradient.
        max_steps: of the outer iteration.

    Returns:
        Optimum: .point, .cost, .gradient_norm, status; history has one dict a step: cost (the mean), gradient_norm (the
        largest), live (problems not yet at rest).

    Raises:
        ValueError: an unknown method, a start off the manifold, a cost that is not one finite number a problem.
        TypeError: start is no array of floats.

    Source: Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, 2008.

    Example:
        >>> from brenier.riemannian import Sphere
        >>> a = torch.diag(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
        >>> start = Sphere().projx(torch.ones(3, dtype=torch.float64))
        >>> found = minimize(lambda x: -((x @ a) * x).sum(-1), Sphere(), start)
        >>> found.converged, round(float(found.cost), 9)
        (True, -5.0)
    """
    began = time.perf_counter()
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}")
    whole("max_steps", max_steps, 0)
    x, back = as_points(manifold, "start", start)
    problem = Problem(cost, manifold, tuple(x.shape[: x.ndim - manifold.ndim]))
    with torch.no_grad():
        here = (x, *problem.slope(x))
        if not bool(here[1].isfinite().all() and here[2].isfinite().all()):
            worst = int((~here[1].reshape(-1).isfinite()).int().argmax())
            value = float(here[1].reshape(-1)[worst])
            raise ValueError(f"cost and gradient must be finite at the start, got cost {value} in problem {worst}")
        history: list[dict[str, Any]] = []
        first = here
        if method == "trust":
            here, status = TrustRegion(problem, tol, max_steps).run(here, history)
        else:
            rule = Conjugate() if method == "cg" else LimitedMemory()
            here, status = _descend(problem, rule, here, tol, max_steps, history)
        x, f, g = here
        if status is not Status.STATIONARY and problem.escaped(first, here):
            status = Status.UNBOUNDED
        answers = (x, problem.narrow(f), problem.narrow(problem.inner(x, g, g).clamp_min(0).sqrt()))
    return Optimum(status, time.perf_counter() - began, history, *map(back, answers))


State = tuple[Tensor, Tensor, Tensor]


def _descend(
    problem: Problem,
    rule: Conjugate | LimitedMemory,
    here: State,
    tol: float,
    max_steps: int,
    history: list[dict[str, Any]],
) -> tuple[State, Status]:
    """Line searches along the rule's directions until every problem's gradient is within tol."""
    x, f, g = here
    d = rule.first(problem, x, g)
    step = 1 / problem.inner(x, g, g).sqrt().clamp_min(torch.finfo(f.dtype).tiny)
    stuck = torch.zeros_like(f, dtype=torch.bool)
    steepest = ~stuck
    for count in range(max_steps + 1):
        norm = problem.inner(x, g, g).clamp_min(0).sqrt()
        live = (norm > tol) & ~stuck & ~f.isneginf()
        history.append({"cost": float(f.mean()), "gradient_norm": float(norm.amax()), "live": int(live.sum())})
        if not bool(live.any()) or count == max_steps:
            break
        (y, fy, gy), size = search(problem, (x, f, g), d, step, live, rule.curvature)
        failed = live & (size == 0)
        stuck |= failed & steepest
        new = rule.next(problem, (x, g), (y, gy), d, size)
        slope = problem.inner(y, gy, new)
        steepest = failed | ~(slope < 0)
        d = torch.where(steepest, -gy, new)
        slope = torch.where(steepest, -problem.inner(y, gy, gy), slope)
        moved = torch.where(size > 0, size, step)
        guess = rule.guess(slope, (f - fy).clamp_min(torch.finfo(f.dtype).eps * f.abs()), moved)
        step = torch.where(steepest, 1 / slope.abs().sqrt().clamp_min(torch.finfo(f.dtype).tiny), guess)
        x, f, g = y, fy, gy
    if bool((norm <= tol).all()):
        return (x, f, g), Status.STATIONARY
    return (x, f, g), Status.OUT_OF_PRECISION if not bool(live.any()) else Status.OUT_OF_STEPS
