"""The Fréchet mean."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from brenier.geometry import metric as of
from brenier.geometry.batch import as_points
from brenier.geometry.geodesic import TOL, all_found, connect
from brenier.geometry.metric import Metric, checked
from brenier.geometry.paths import reachable
from brenier.solution import Solution, Status

STEPS = 50


@dataclass(frozen=True)
class Mean(Solution):
    """Fréchet means (..., d), their variance Σ w_i d(mean, p_i)² (...), residual |Σ w_i log(mean, p_i)| / √variance."""

    mean: Any
    variance: Any = field(repr=False)
    residual: Any = field(repr=False)


def frechet_mean(metric: Metric, points: Any, weights: Any = None, tol: float = TOL, start: Any = None) -> Mean:
    """The point that minimises F = Σ w_i ½ d(·, p_i)² near the mean of the coordinates, or near `start` (..., d).

    points (..., k, d), weights (..., k) or (k,), not negative, made to sum to 1; all equal by default. Newton's method:
    gradient and Hessian of ½ d² come with each geodesic, as the first and second derivatives of its action. Done when
    |Σ w_i log(mean, p_i)| ≤ tol √variance, else the status says so.

    Raises:
        ValueError: wrong shapes or weights, or the metric is not finite, symmetric and positive definite at a point.
        ArithmeticError: no geodesic from the mean so far to a point; the pair is named.

    Source: Pennec, Intrinsic statistics on Riemannian manifolds, Journal of Mathematical Imaging and Vision 2006.

    Example:
        >>> half_plane = lambda x: torch.eye(2, dtype=x.dtype) / x[1] ** 2
        >>> frechet_mean(half_plane, torch.tensor([[0.0, 1.0], [0.0, 4.0]], dtype=torch.float64)).mean
        tensor([0.0000, 2.0000], dtype=torch.float64)
    """
    began = time.perf_counter()
    (points,), back = as_points(points=points)
    if points.ndim < 2:
        raise ValueError(f"points must be (..., k, d), got shape {tuple(points.shape)}")
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}")
    lead, (k, d) = points.shape[:-2], points.shape[-2:]
    if k == 0:
        raise ValueError(f"a mean needs points (..., k, d) with k at least 1, got shape {tuple(points.shape)}")
    share = _shares(weights, points).reshape(-1, k)
    flat = points.reshape(-1, k, d)
    if start is None:
        x = torch.einsum("bk,bkd->bd", share, flat)
    else:
        (given,), _ = as_points(start=start)
        if given.shape != (*lead, d):
            raise ValueError(f"start must be {(*lead, d)}, got {tuple(given.shape)}")
        x = given.to(points).reshape(-1, d).clone()
    history: list[dict[str, Any]] = []
    variance = residual = x.new_zeros(len(x))
    if len(x):
        with torch.no_grad():
            checked(metric, flat.reshape(-1, d))
            x, variance, residual = _descend(metric, flat, share, x, tol, history)
    status = Status.MEAN if bool((residual <= reachable(tol, x)).all()) else Status.STUCK
    parts = (back(a.reshape((*lead, *a.shape[1:]))) for a in (x, variance, residual))
    return Mean(status, time.perf_counter() - began, history, *parts)


def _shares(weights: Any, points: Tensor) -> Tensor:
    """Weights as shares of 1, (..., k)."""
    shape = points.shape[:-1]
    if weights is None:
        return points.new_full(shape, 1 / shape[-1])
    (given,), _ = as_points(weights=weights)
    given = given.to(points)
    if given.shape not in (shape, shape[-1:]):
        raise ValueError(f"weights must be {tuple(shape)} or ({shape[-1]},), got {tuple(given.shape)}")
    if bool((given < 0).any()) or not bool((given.sum(-1) > 0).all()):
        least = f"{float(given.min()):g}"
        raise ValueError(f"weights must not be negative and must have a positive sum, got one of {least}")
    return (given / given.sum(-1, keepdim=True)).expand(shape)


def _forces(metric: Metric, points: Tensor, share: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """F (b,), its gradient (b, d) and Hessian (b, d, d) at x (b, d)."""
    b, k, d = points.shape
    here, there = x[:, None].expand_as(points).reshape(-1, d), points.reshape(-1, d)
    found = all_found(connect(metric, here, there, 2, TOL), here, there, TOL)
    value = (share * found.length.view(b, k).square()).sum(1) / 2
    slope = torch.einsum("bk,bki->bi", share, found.slope.view(b, k, -1)[..., :d])
    bend = torch.einsum("bk,bkij->bij", share, found.bend.view(b, k, 2 * d, -1)[..., :d, :d])
    return value, slope, bend


def _descend(
    metric: Metric, points: Tensor, share: Tensor, x: Tensor, tol: float, history: list[dict[str, Any]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Damped Newton from x (b, d): means, variances, residuals."""
    value, slope, bend = _forces(metric, points, share, x)
    g = checked(metric, x)
    damping = torch.zeros_like(value)
    tiny = torch.finfo(x.dtype).tiny
    for step in range(STEPS + 1):
        dual = torch.linalg.solve(g, slope)
        residual = (slope * dual).sum(1).clamp_min(0).sqrt() / (2 * value).clamp_min(tiny).sqrt()
        live = ((residual > reachable(tol, x)) & (damping < 1e6)).nonzero()[:, 0]
        history.append({"means": len(live), "residual": float(residual.amax())})
        if not len(live) or step == STEPS:
            break
        factor, failed = torch.linalg.cholesky_ex(bend[live] + damping[live, None, None] * g[live])
        trial = x[live] - torch.cholesky_solve(slope[live, :, None], factor)[..., 0]
        good = (failed == 0) & of.proper(of.tensor(metric, trial))
        state = (x, g, value, slope, bend)
        kept = _keep(metric, points, share, trial[good], live[good], state) if good.any() else live[:0]
        damping[live] = torch.where(torch.isin(live, kept), damping[live] / 8, (8 * damping[live]).clamp_min(1e-1))
        damping[damping < 1e-3] = 0
    return x, 2 * value, residual


def _keep(
    metric: Metric, points: Tensor, share: Tensor, trial: Tensor, rows: Tensor, state: tuple[Tensor, ...]
) -> Tensor:
    """Write those trials (r, d) of rows (r,) into the state where F falls; which rows those are."""
    there = trial, of.tensor(metric, trial), *_forces(metric, points[rows], share[rows], trial)
    falls = there[2] <= state[2][rows] * (1 + 10 * torch.finfo(trial.dtype).eps)
    for mine, its in zip(state, there, strict=True):
        mine[rows[falls]] = its[falls]
    return rows[falls]
