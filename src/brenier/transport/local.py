"""Local Gaussians: every target with the mean and covariance of its nearest targets, and how strongly to use them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from brenier.transport.neighbours import nearest

SIZES = (16, 32, 64, 128)  # how many targets make a local Gaussian, to choose from
SHARE = 20  # beyond a twentieth of all targets nothing is local: only the least size is larger
STRENGTHS = tuple(round(0.05 * i, 2) for i in range(4, 21))  # 0.2 to 1
NEW = 0.9  # how new drawn points have to be, against held-out ones; the cells' blends make codes newer still
RIDGE = 1e-2  # the share of a local covariance that is made round, so that flat neighbourhoods have a density
HELD_OUT = 512  # held-out points that judge
MIXTURE = 64  # the nearest components that a held-out point hears


@dataclass(frozen=True, eq=False)
class LocalGaussians:
    """For each target y_i the mean m_i and the covariance C_i of y_i and its nearest targets of the same mode.

    points (n, d); near (n, k) indices, nearest first, the target itself in column 0 and in the place of every neighbour
    that its mode can't offer; scores, the mean log density of held-out points by the (size, strength) tried.
    """

    points: Tensor
    near: Tensor
    scores: dict[tuple[int, float], float]

    @property
    def rank(self) -> int:
        """How many principal axes a local covariance has."""
        return min(self.near.shape[1], self.points.shape[1])

    @property
    def chunk(self) -> int:
        """How many covariances are at hand at once: at most 128 MB of them, and of the neighbours that make them."""
        d = self.points.shape[1]
        return max(1, (1 << 24) // (d * max(d, self.near.shape[1])))

    def deviations(self, i: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """m_i (p, d), R_i (p, k, d) with R_iᵀ R_i the covariance before RIDGE, its mean variance (p,); float64."""
        near = self.near[i]
        y = self.points[near].double()
        offered = torch.cat([torch.ones_like(near[:, :1], dtype=torch.bool), near[:, 1:] != i[:, None]], 1).double()
        weight = (offered / offered.sum(1, keepdim=True))[:, :, None]
        mean = (weight * y).sum(1)
        rows = weight.sqrt() * (y - mean[:, None])
        return mean, rows, rows.square().sum((1, 2)) / y.shape[2]

    def moments(self, i: Tensor) -> tuple[Tensor, Tensor]:
        """m_i (p, d) and a lower triangular L_i (p, d, d) with L_i L_iᵀ = C_i, float64."""
        mean, rows, size = self.deviations(i)
        unit = torch.where(size > 0, size, 1.0)[:, None, None]
        eye = torch.eye(rows.shape[2], dtype=rows.dtype, device=rows.device)
        root = torch.linalg.cholesky((1 - RIDGE) * (rows.mT @ rows) / unit + RIDGE * eye)
        return mean, root * size.sqrt()[:, None, None]

    def axes(self, i: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """m_i (p, d); axes of C_i (p, r, d), r = min(k, d), widest first; the standard deviations along them (p, r) and
        across them (p, 1), where r < d; float64.
        """
        mean, rows, size = self.deviations(i)
        if rows.shape[1] < rows.shape[2]:
            _, root, axes = torch.linalg.svd(rows, full_matrices=False)
            values = root.square()
        else:
            values, vectors = torch.linalg.eigh(rows.mT @ rows)
            values, axes = values.flip(1).clamp(min=0), vectors.mT.flip(1)
        across = RIDGE * size[:, None]
        return mean, axes, ((1 - RIDGE) * values + across).sqrt(), across.sqrt()

    def along(self, i: Tensor, away: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (p, r) of `away` (p, d) along the principal axes of C_i, and its length across them (p,)."""
        parts = []
        for some, rows in zip(i.split(self.chunk), away.split(self.chunk), strict=True):
            a, rest = _split(self.axes(some)[1], rows)
            parts.append((a, rest.norm(dim=1)))
        coordinates, lengths = (torch.cat(part) for part in zip(*parts, strict=True))
        return coordinates, lengths

    def draw(self, i: Tensor, away: Tensor, spread: Tensor, strength: float) -> Tensor:
        """m_i + √(1 − s²)(y_i − m_i) + s H_i away, (p, d), float64.

        H_i is symmetric and positive: along the j-th principal axis of C_i it takes the standard deviation of `away`,
        spread_j, to that of C_i; the last entry of `spread` (r + 1,) is for all directions across the axes. `away` in
        units of the spread is cut at the length √d + 1.5, as far as nearly all samples of a Gaussian reach.
        """
        longest, drawn = math.sqrt(self.points.shape[1]) + 1.5, []
        for some, rows in zip(i.split(self.chunk), away.split(self.chunk), strict=True):
            mean, axes, sizes, across = self.axes(some)
            a, rest = _split(axes, rows)
            a, rest = a / spread[:-1], rest / spread[-1]
            length = (a.square().sum(1, keepdim=True) + rest.square().sum(1, keepdim=True)).sqrt()
            moved = (axes.mT @ (sizes * a)[:, :, None])[:, :, 0] + across * rest
            pulled = math.sqrt(1 - strength**2) * (self.points[some].double() - mean)
            drawn.append(mean + pulled + strength * moved * (longest / length).clamp(max=1))
        return torch.cat(drawn)


def _split(axes: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (p, r) of rows (p, d) along orthonormal axes (p, r, d), and the part (p, d) of them across."""
    a = (axes @ rows[:, :, None])[:, :, 0]
    return a, rows - (axes.mT @ a[:, :, None])[:, :, 0]


def local_gaussians(points: Tensor, modes: Tensor, alive: Tensor, size: int) -> LocalGaussians:
    """The `size` nearest targets (itself counted) of every target in its mode, among the `alive` ones."""
    own = torch.arange(len(points), device=points.device)
    near = own[:, None].repeat(1, size)
    for mode in modes.unique():
        members = ((modes == mode) & alive).nonzero()[:, 0]
        asking = (modes == mode).nonzero()[:, 0]
        if len(members) == 0:
            continue
        k = min(size, len(members))
        found = members[nearest(points[asking], points[members], k)]
        # the target itself first: it is its own nearest, but for ties and for targets that are not alive
        found = found.gather(1, torch.argsort((found != asking[:, None]).int(), dim=1, stable=True))
        found[:, 0] = asking
        near[asking, :k] = found
    return LocalGaussians(points, near, {})


def log_likelihood(local: LocalGaussians, x: Tensor, s: float) -> float:
    """Mean log density at x (m, d) of Σ_i N(m_i + √(1−s²)(y_i − m_i), s² C_i) / n.

    Each x hears the 64 components whose targets are nearest.
    """
    n, d = local.points.shape
    heard = nearest(x, local.points, min(MIXTURE, n))
    scores = []
    size = max(1, local.chunk // heard.shape[1])
    for rows, components in zip(x.double().split(size), heard.split(size), strict=True):
        mean, root = local.moments(components.flatten())
        y = local.points[components.flatten()].double()
        middle = (mean + math.sqrt(1 - s * s) * (y - mean)).view(*components.shape, d)
        away = (rows[:, None] - middle).flatten(0, 1)[:, :, None]
        distance = torch.linalg.solve_triangular(root, away, upper=False).square().sum((1, 2)) / s**2
        log_det = root.diagonal(dim1=1, dim2=2).log().sum(1)
        each = -0.5 * distance - log_det - d * math.log(s * math.sqrt(2 * math.pi))
        scores.append(each.view(components.shape).logsumexp(1) - math.log(n))
    return torch.cat(scores).mean().item()


def novelty(local: LocalGaussians, x: Tensor, strengths: tuple[float, ...]) -> list[float]:
    """Mean distance of drawn points to the nearest target, over the same of x (m, d): 1 as new as x, 0 copies."""
    n, d = local.points.shape
    cells = torch.linspace(0, n - 1, len(x), device=x.device).long()
    away = torch.randn(len(x), d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(x.device)
    unit, y = away.new_ones(local.rank + 1), local.points[cells].double()
    mean, full = (local.draw(cells, by, unit, 1.0) for by in (torch.zeros_like(away), away))
    distances = []
    for z in (x.double(), *(mean + math.sqrt(1 - s * s) * (y - mean) + s * (full - mean) for s in strengths)):
        distances.append((z - local.points[nearest(z, local.points, 1)[:, 0]].double()).norm(dim=1).mean().item())
    return [distance / max(distances[0], 1e-300) for distance in distances[1:]]


def choose(
    points: Tensor, modes: Tensor, alive: Tensor, strength: float | None, judges: Tensor | None
) -> tuple[LocalGaussians, float]:
    """The local Gaussians and the strength: the least that makes new points, the size that makes held-out ones likely.

    New are points that are at least NEW times as far from the nearest target as held-out points are. At most 512 of the
    targets `judges` (indices; by default every tenth one) are held out: set aside while choosing. With a `strength`
    only the size is chosen.
    """
    rows = alive.nonzero()[:, 0]
    aside = rows[::10] if judges is None else judges[alive[judges]]
    aside = aside[:: max(1, len(aside) // HELD_OUT)][:HELD_OUT]
    if len(rows) - len(aside) < SIZES[0] or len(aside) == 0 or strength == 0:
        return local_gaussians(points, modes, alive, SIZES[0]), 1.0 if strength is None else strength
    kept = alive.clone()
    kept[aside] = False
    judge = points[aside]
    widest = local_gaussians(points[kept], modes[kept], alive[kept], SIZES[-1])
    scores: dict[tuple[int, float], float] = {}
    for size in (size for size in SIZES if size <= max(SIZES[0], len(widest.points) // SHARE)):
        draft = LocalGaussians(widest.points, widest.near[:, :size], {})
        least = strength
        if least is None:
            new = novelty(draft, judge, STRENGTHS)
            least = next(s for s, value in zip(STRENGTHS, new, strict=True) if value >= min(NEW, max(new)))
        scores[size, least] = log_likelihood(draft, judge, least)
    size, best = max(scores, key=lambda choice: scores[choice])
    local = local_gaussians(points, modes, alive, size)
    return LocalGaussians(points, local.near, scores), best
