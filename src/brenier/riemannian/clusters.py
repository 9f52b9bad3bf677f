"""Statistics on manifolds: clusters, principal geodesics."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import geoopt
import torch
from torch import Tensor

from brenier.checks import whole
from brenier.riemannian.mean import frechet_mean
from brenier.riemannian.problem import as_points
from brenier.solution import Solution, Status


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
