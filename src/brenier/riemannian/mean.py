"""The Fréchet mean of points on a manifold."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import geoopt
import torch
from torch import Tensor

from brenier.checks import whole
from brenier.riemannian.base import Checked
from brenier.riemannian.composed import Product
from brenier.riemannian.problem import as_points
from brenier.riemannian.vectors import Sphere
from brenier.solution import Solution, Status

STARTS = 8  # more points to start from, where a mean is perhaps not the best
Found = tuple[Tensor, Tensor, Tensor]
History = list[dict[str, Any]]


@dataclass(frozen=True)
class FrechetMean(Solution):
    """Means (..., *point), their variance Σ w_i d(mean, x_i)² (...), and |Σ w_i log(mean, x_i)| (...)."""

    point: Any
    variance: Any = field(repr=False)
    residual: Any = field(repr=False)


def frechet_mean(
    manifold: geoopt.Manifold, x: Any, weights: Any = None, tol: float = 1e-8, max_steps: int = 200
) -> FrechetMean:
    """The point that minimises Σ w_i d(·, x_i)²/2: of matrices in `SPD`, their Karcher mean.

    Steps along Σ w_i log(mean, x_i), their sizes by Barzilai and Borwein and halved until the sum of squares falls.
    It is the only minimum where curvature is not positive (ball, SPD), or all points are nearer to it than
    `manifold.regular`. Elsewhere, saddles and worse minima are left: the descent starts once more from beside the point
    found, and from up to 8 of the points, and the least variance counts. On the circle, where every way to cut it has a
    mean (m of them), all are compared. On a product the mean is that of each part.

    Args:
        manifold: with `logmap` and `expmap`.
        x: points (..., m, *point); leading axes are means sought side by side.
        weights: (m,) or (..., m), not negative, made to sum to 1; equal by default.
        tol: on |Σ w_i log(mean, x_i)|, relative to the points' spread √variance.
        max_steps: after so many the status says that it isn't converged.

    Raises:
        ValueError: points off the manifold, wrong weights.

    Source: Pennec, Intrinsic statistics on Riemannian manifolds, JMIV 2006.

    Example:
        >>> from brenier.riemannian import SPD
        >>> x = torch.stack([torch.eye(2), 16 * torch.eye(2)])
        >>> torch.allclose(frechet_mean(SPD(), x).point, 4 * torch.eye(2))
        True
    """
    began = time.perf_counter()
    x, back = as_points(manifold, "x", x)
    if x.ndim < manifold.ndim + 1:
        raise ValueError(f"x must be points (..., m, *point) of {manifold.name}, got shape {tuple(x.shape)}")
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}")
    whole("max_steps", max_steps, 0)
    history: History = []
    with torch.no_grad():
        share = _shares(weights, x, manifold.ndim)
        found, status = _mean(manifold, x, share, tol, max_steps, history)
    return FrechetMean(status, time.perf_counter() - began, history, *map(back, found))


def _shares(weights: Any, x: Tensor, ndim: int) -> Tensor:
    """Weights as shares of 1, (..., m)."""
    shape = x.shape[: x.ndim - ndim]
    if weights is None:
        return x.new_full(shape, 1 / shape[-1])
    given = torch.as_tensor(weights).to(x)
    if given.shape not in (shape, shape[-1:]):
        raise ValueError(f"weights must be {tuple(shape)} or ({shape[-1]},), got {tuple(given.shape)}")
    if not bool((given >= 0).all()) or not bool((given.sum(-1) > 0).all()):
        least = f"{float(given.min()):g}"
        raise ValueError(f"weights must not be negative and must have a positive sum, got one of {least}")
    return (given / given.sum(-1, keepdim=True)).expand(shape)


def _mean(
    manifold: geoopt.Manifold, x: Tensor, share: Tensor, tol: float, max_steps: int, history: History
) -> tuple[Found, Status]:
    """The best means, variances and residuals of points (..., m, *point) that the starts lead to."""
    if isinstance(manifold, Product):
        return _mean_of_parts(manifold, x, share, tol, max_steps, history)
    axis = x.ndim - manifold.ndim - 1
    ones = (1,) * manifold.ndim

    def sample(rows: Tensor) -> Tensor:
        index = rows.reshape(*rows.shape, 1, *ones).expand(*rows.shape, 1, *x.shape[axis + 1 :])
        return x.gather(axis, index).squeeze(axis)

    if isinstance(manifold, Sphere) and x.shape[-1] == 2:
        return _descend(manifold, x, share, _circle(x, share), tol, max_steps, history)
    best, status = _descend(manifold, x, share, sample(share.argmax(-1)), tol, max_steps, history)
    doubtful = _doubtful(manifold, x, share, best[0])
    if not bool(doubtful.any()):
        return best, status
    order = share.argsort(dim=-1, descending=True, stable=True)
    count = min(STARTS, order.shape[-1])
    spread = torch.linspace(0, order.shape[-1] - 1, count).long()
    generator = torch.Generator(x.device).manual_seed(0)
    for start in [None, None, *(order[..., k] for k in spread)]:
        p = best[0] if start is None else sample(start)
        side = manifold.proju(p, torch.randn(p.shape, generator=generator, dtype=p.dtype, device=p.device))
        size = manifold.inner(p, side, side, keepdim=True).sqrt().clamp_min(torch.finfo(p.dtype).tiny)
        begin = manifold.projx(manifold.expmap(p, 0.02 * side / size))  # beside it: there is no way down from a saddle
        try:
            found, ended = _descend(manifold, x, share, begin, tol, max_steps, history)
        except (ValueError, ArithmeticError):  # from there some point has no logarithm
            continue
        better = doubtful & (found[1] < best[1] * (1 - 1e3 * torch.finfo(p.dtype).eps))
        if bool(better.any()):
            status = ended if bool(better.all()) else max(status, ended, key=lambda s: s is not Status.MEAN)
            wide = better.reshape(*better.shape, *ones)
            best = (
                torch.where(wide, found[0], best[0]),
                torch.where(better, found[1], best[1]),
                torch.where(better, found[2], best[2]),
            )
    return best, status


def _doubtful(manifold: geoopt.Manifold, x: Tensor, share: Tensor, p: Tensor) -> Tensor:
    """Whether a point with a weight is so far from the mean (...) that the mean is perhaps not the only one."""
    axis = x.ndim - manifold.ndim - 1
    distance = manifold.dist(p.unsqueeze(axis).expand_as(x), x).reshape(share.shape)
    regular = manifold.regular if isinstance(manifold, Checked) else 0.0
    return (torch.where(share > 0, distance, 0.0).amax(-1) >= regular) & (distance.amax(-1) > 0)


def _mean_of_parts(
    manifold: Product, x: Tensor, share: Tensor, tol: float, max_steps: int, history: History
) -> tuple[Found, Status]:
    """The means of all parts, side by side; variances add up, and squares of residuals."""
    points, status, lead = [], Status.MEAN, x.shape[:-2]
    variance, square = x.new_zeros(lead), x.new_zeros(lead)
    for i, part in enumerate(manifold.manifolds):
        (p, v, residual), ended = _mean(part, manifold.part(x, i), share, tol, max_steps, history)
        points.append(p.reshape(*lead, -1))
        variance, square = variance + v, square + residual**2
        status = status if ended is Status.MEAN else ended
    return (torch.cat(points, -1), variance, square.sqrt()), status


def _circle(x: Tensor, share: Tensor) -> Tensor:
    """The mean (..., 2) of points (..., m, 2) on the circle: the best of the m that it has when it is cut between two.

    With angles θ in order and the first k moved on by 2π, it is Σ w_i θ_i + 2π Σ_(i<k) w_i. Of means that are equally
    good the first counts, whatever the order of the points.

    Source: Hotz and Huckemann, Intrinsic means on the circle, Annals of the Institute of Statistical Mathematics 2015.
    """
    angle, order = torch.atan2(x[..., 1], x[..., 0]).double().sort(-1)
    w = share.double().gather(-1, order)
    turned = w.cumsum(-1) - w
    centre = (w * angle).sum(-1, keepdim=True)
    square = (w * (angle - centre) ** 2).sum(-1, keepdim=True)
    carried = (w * (angle - centre)).cumsum(-1) - w * (angle - centre)
    variance = square + 4 * torch.pi * carried + 4 * torch.pi**2 * turned * (1 - turned)
    least = variance.amin(-1, keepdim=True)
    first = (variance <= least + 1e-12 * (1 + least)).int().argmax(-1, keepdim=True)
    best = (centre + 2 * torch.pi * turned.gather(-1, first))[..., 0]
    return torch.stack([best.cos(), best.sin()], -1).to(x.dtype)


def _descend(
    manifold: geoopt.Manifold, x: Tensor, share: Tensor, p: Tensor, tol: float, max_steps: int, history: History
) -> tuple[Found, Status]:
    """Means, variances and residuals of points (..., m, *point), from p on."""
    axis = x.ndim - manifold.ndim - 1
    lead = x.shape[:axis]
    wide = share.reshape(share.shape + (1,) * manifold.ndim)
    ones = (1,) * manifold.ndim

    def pull(p: Tensor) -> tuple[Tensor, Tensor]:
        logs = manifold.logmap(p.unsqueeze(axis), x)
        squares = manifold.inner(p.unsqueeze(axis), logs, logs).reshape(share.shape)
        return (wide * logs).sum(axis), (share * squares).sum(-1)

    v, variance = pull(p)
    step = torch.ones_like(variance)
    eps = torch.finfo(x.dtype).eps
    for count in range(max_steps + 1):
        residual = manifold.inner(p, v, v).reshape(lead).clamp_min(0).sqrt()
        live = (residual > max(tol, 50 * eps) * variance.sqrt()) & (residual > 50 * eps) & (step > 1e-6)
        history.append(
            {"variance": float(variance.mean()), "residual": float(residual.amax()), "live": int(live.sum())}
        )
        if not bool(live.any()) or count == max_steps:
            break
        move = torch.where(live, step, 0.0).reshape(*lead, *ones) * v
        y = manifold.projx(manifold.expmap(p, move))
        vy, there = pull(y)
        good = live & (there <= variance * (1 + 10 * eps))
        carried, moved = manifold.transp(p, y, v), manifold.transp(p, y, move)
        change = carried - vy
        ahead = manifold.inner(y, moved, moved).reshape(lead) / manifold.inner(y, moved, change).reshape(lead)
        ahead = torch.where(ahead > 0, ahead, 1.0).clamp(0.1, 4.0).nan_to_num(1.0)
        step = torch.where(good, ahead, torch.where(live, step / 2, step))
        keep = good.reshape(*lead, *ones)
        p, v, variance = torch.where(keep, y, p), torch.where(keep, vy, v), torch.where(good, there, variance)
    arrived = residual <= torch.maximum(max(tol, 50 * eps) * variance.sqrt(), torch.full_like(residual, 50 * eps))
    if bool(arrived.all()):
        return (p, variance, residual), Status.MEAN
    return (p, variance, residual), Status.OUT_OF_STEPS if bool(live.any()) else Status.STUCK
