"""Statistics on manifolds: the Fréchet mean, clusters, principal geodesics."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import geoopt
import torch
from torch import Tensor

from brenier.checks import whole
from brenier.riemannian.problem import as_points
from brenier.solution import Solution, Status


@dataclass(frozen=True)
class FrechetMean(Solution):
    """Means (..., *point), their variance Σ w_i d(mean, x_i)² (...), and |Σ w_i log(mean, x_i)| (...)."""

    point: Any
    variance: Any = field(repr=False)
    residual: Any = field(repr=False)


@dataclass(frozen=True)
class Clusters(Solution):
    """Centres (k, *point), the cluster of each point (m,), and Σ d(x_i, its centre)²."""

    centres: Any
    labels: Any = field(repr=False)
    inertia: float


@dataclass(frozen=True)
class PrincipalGeodesics(Solution):
    """Mean (*point), k unit directions there (k, *point), variances (k,), their share of all, coordinates (m, k)."""

    mean: Any
    directions: Any = field(repr=False)
    variances: Any = field(repr=False)
    shares: Any
    coordinates: Any = field(repr=False)


def frechet_mean(
    manifold: geoopt.Manifold, x: Any, weights: Any = None, tol: float = 1e-8, max_steps: int = 200
) -> FrechetMean:
    """The point that minimises Σ w_i d(·, x_i)²/2: of matrices in `SPD`, their Karcher mean.

    Steps along Σ w_i log(mean, x_i), their sizes by Barzilai and Borwein and halved until the sum of squares falls.
    It is the only minimum where curvature is not positive (ball, SPD), or the points lie in a small ball.

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
    with torch.no_grad():
        share = _shares(weights, x, manifold.ndim)
        found, status, history = _descend(manifold, x, share, tol, max_steps)
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


def _descend(
    manifold: geoopt.Manifold, x: Tensor, share: Tensor, tol: float, max_steps: int
) -> tuple[tuple[Tensor, Tensor, Tensor], Status, list[dict[str, Any]]]:
    """Means, variances and residuals of points (..., m, *point)."""
    axis = x.ndim - manifold.ndim - 1
    lead = x.shape[:axis]
    wide = share.reshape(share.shape + (1,) * manifold.ndim)
    ones = (1,) * manifold.ndim

    def pull(p: Tensor) -> tuple[Tensor, Tensor]:
        logs = manifold.logmap(p.unsqueeze(axis), x)
        squares = manifold.inner(p.unsqueeze(axis), logs, logs).reshape(share.shape)
        return (wide * logs).sum(axis), (share * squares).sum(-1)

    heaviest = share.argmax(-1).reshape(*lead, 1, *ones).expand(*lead, 1, *x.shape[axis + 1 :])
    p = x.gather(axis, heaviest).squeeze(axis)
    v, variance = pull(p)
    step = torch.ones_like(variance)
    eps = torch.finfo(x.dtype).eps
    history: list[dict[str, Any]] = []
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
        return (p, variance, residual), Status.MEAN, history
    return (p, variance, residual), Status.OUT_OF_STEPS if bool(live.any()) else Status.STUCK, history


def geodesic_kmeans(manifold: geoopt.Manifold, x: Any, k: int, seed: int = 0, max_steps: int = 100) -> Clusters:
    """k clusters of points (m, *point): Lloyd's algorithm with geodesic distances and Fréchet means.

    Starts from greedy k-means++ (Arthur and Vassilvitskii 2007); an empty cluster takes the point that is worst served.
    Converged when no point changes its cluster.

    Raises:
        ValueError: k above the number of points, points off the manifold.

    Example:
        >>> from brenier.riemannian import Sphere
        >>> x = Sphere().projx(torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]]))
        >>> sorted(geodesic_kmeans(Sphere(), x, 2).labels.bincount().tolist())
        [2, 2]
    """
    began = time.perf_counter()
    x, back = as_points(manifold, "x", x)
    if x.ndim != manifold.ndim + 1:
        raise ValueError(f"x must be points (m, *point) of {manifold.name}, got shape {tuple(x.shape)}")
    if whole("k", k, 1) > len(x):
        raise ValueError(f"k must not exceed the {len(x)} points, got {k}")
    whole("max_steps", max_steps, 1)
    history: list[dict[str, Any]] = []
    status = Status.OUT_OF_STEPS
    with torch.no_grad():
        centres = _spread(manifold, x, k, torch.Generator().manual_seed(seed))
        labels = torch.full((len(x),), -1, device=x.device)
        for _ in range(max_steps):
            squares = _squares(manifold, x, centres)
            least, new = squares.min(1)
            for empty in (torch.bincount(new, minlength=k) == 0).nonzero()[:, 0]:
                worst = least.argmax()
                new[worst], least[worst] = empty, 0
            history.append({"inertia": float(least.sum()), "moved": int((new != labels).sum())})
            if bool((new == labels).all()):
                status = Status.CLUSTERED
                break
            labels = new
            members = [x[labels == j] for j in range(k)]
            centres = torch.stack([frechet_mean(manifold, own).point for own in members])
    inertia = float(_squares(manifold, x, centres).gather(1, labels[:, None]).sum())
    return Clusters(status, time.perf_counter() - began, history, back(centres), back(labels), inertia)


def _squares(manifold: geoopt.Manifold, x: Tensor, centres: Tensor) -> Tensor:
    """d(x_i, c_j)², (m, k)."""
    return torch.stack([manifold.dist(x, c.expand_as(x)).reshape(len(x)).square() for c in centres], 1)


def _spread(manifold: geoopt.Manifold, x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k points: of a few drawn by their squared distance to those before, the one that serves all best."""
    chosen = [int(torch.randint(len(x), (), generator=generator))]
    least = _squares(manifold, x, x[chosen])[:, 0]
    for _ in range(k - 1):
        odds = least.cpu().double()
        odds = odds if bool(odds.sum() > 0) else torch.ones_like(odds)
        drawn = torch.multinomial(odds, 2 + int(math.log(k)), replacement=True, generator=generator).to(x.device)
        served = torch.minimum(least[:, None], _squares(manifold, x, x[drawn]))
        best = served.sum(0).argmin()
        chosen.append(int(drawn[best]))
        least = served[:, best]
    return x[chosen]


def principal_geodesics(manifold: geoopt.Manifold, x: Any, k: int) -> PrincipalGeodesics:
    """The k geodesics through the Fréchet mean along which points (m, *point) vary most.

    Principal components of the logarithms at the mean, in its metric: the linearised principal geodesic analysis
    (Fletcher, Lu, Pizer and Joshi 2004), exact in flat space and close to it where the data are not spread wide.
    A point of a geodesic: `manifold.expmap(mean, t * directions[j])`.

    Raises:
        ValueError: k above the number of points or of coordinates, points off the manifold.

    Example:
        >>> from brenier.riemannian import Sphere
        >>> angle = torch.linspace(-1, 1, 9)
        >>> x = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
        >>> principal_geodesics(Sphere(), x, 1).shares
        tensor([1.])
    """
    began = time.perf_counter()
    points, back = as_points(manifold, "x", x)
    if points.ndim != manifold.ndim + 1:
        raise ValueError(f"x must be points (m, *point) of {manifold.name}, got shape {tuple(points.shape)}")
    most = min(len(points), points[0].numel())
    if whole("k", k, 1) > most:
        raise ValueError(f"k must not exceed {most}, the fewer of points and coordinates, got {k}")
    mean = frechet_mean(manifold, points)
    with torch.no_grad():
        logs = manifold.logmap(mean.point.expand_as(points), points)
        frame = _frame(manifold, mean.point, logs)
        if k > len(frame):
            raise ValueError(f"k must not exceed the {len(frame)} directions in which x varies, got {k}")
        inside = _products(manifold, mean.point, frame, logs).mT
        _, sizes, axes = torch.linalg.svd(inside, full_matrices=False)
        directions = torch.einsum("kr,r...->k...", axes[:k], frame)
        variances = sizes.square() / len(points)
        coordinates = inside @ axes[:k].mT
    parts = mean.point, directions, variances[:k], variances[:k] / variances.sum(), coordinates
    return PrincipalGeodesics(mean.status, time.perf_counter() - began, mean.history, *map(back, parts))


def _products(manifold: geoopt.Manifold, p: Tensor, some: Tensor, others: Tensor) -> Tensor:
    """<s_i, o_j> at p, (len(some), len(others))."""
    at = p.expand_as(others)
    return torch.stack([manifold.inner(at, row.expand_as(others), others).reshape(-1) for row in some])


def _frame(manifold: geoopt.Manifold, p: Tensor, logs: Tensor) -> Tensor:
    """Orthonormal tangent vectors (r, *point) at p that span all of them, or the logs, whichever are fewer."""
    span = logs
    if len(logs) > p.numel():
        span = torch.eye(p.numel(), dtype=p.dtype, device=p.device).reshape(-1, *p.shape)
        span = manifold.proju(p.expand_as(span), span)
    values, vectors = torch.linalg.eigh(_products(manifold, p, span, span))
    kept = values > len(values) * torch.finfo(p.dtype).eps * values.amax()
    return torch.einsum("ir,i...->r...", vectors[:, kept] / values[kept].sqrt(), span)
