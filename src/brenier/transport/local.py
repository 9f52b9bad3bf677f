"""Local Gaussians: every target with the mean and covariance of its neighbourhood, which keep those of all targets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from brenier.transport.neighbours import nearest
from brenier.transport.smoothing import blended, distinct, smoothings

SIZES = (16, 32, 64, 128)  # neighbours of a target, to choose from
SHARE = 4  # beyond a quarter of all targets nothing is local: larger sizes only where no other makes new points
STRENGTHS = tuple(round(0.05 * i, 2) for i in range(4, 21))  # 0.2 to 1
NEW = 0.9  # how new drawn points have to be, against held-out ones; blends of cells make codes newer still
RIDGE = 1e-2  # the share of a covariance that is made round before a likelihood, so that flat ones have a density
HELD_OUT = 512  # held-out points that judge
MIXTURE = 64  # the nearest components that a held-out point hears
NUMBERS = 1 << 24  # numbers of covariances and of neighbours that are at hand at once, 128 MB


@dataclass(frozen=True, eq=False)
class LocalGaussians:
    """For each target y_i the mean m_i and the covariance C_i of its neighbourhood: N(m_i, C_i).

    m_i = Σ_j q_ij y_j, C_i = Σ_j q_ij (y_j − m_i)(y_j − m_i)ᵀ with q = (1 − s) I + s P, P doubly stochastic
    (`smoothing.doubly_stochastic`), s the strength: the mixture Σ_i nu_i N(m_i, C_i) has the mean and the covariance of
    the targets, for every s. s = 0 leaves the targets themselves.

    points (n, d); row i of q has the entries starts[i] to starts[i + 1] (n + 1,) of near (e,) long, the indices of the
    neighbours, and of weights (e,) float64; means (n, d) float64; scores, by the (size, strength) tried, how new drawn
    points are and the mean log density of held-out ones.
    """

    points: Tensor
    starts: Tensor
    near: Tensor
    weights: Tensor
    means: Tensor
    scores: dict[tuple[int, float], tuple[float, float]]

    @classmethod
    def of(cls, points: Tensor, starts: Tensor, near: Tensor, weights: Tensor) -> LocalGaussians:
        """Return the local Gaussians of points (n, d) under the rows of q."""
        q = csr_array((weights.numpy(), near.numpy(), starts.numpy()), shape=(len(points), len(points)))
        means = torch.from_numpy(q @ points.double().cpu().numpy())
        place = points.device
        return cls(points, starts.to(place), near.to(place), weights.to(place), means.to(place), {})

    def axes(self, i: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield, by parts of the targets i (p,): which of them (q,) long, the principal axes of their C_i (q, r, d),
        widest first, r ≤ d, and the standard deviations along them (q, r); float64.
        """
        for some, rows in self._deviations(i):
            if rows.shape[1] < rows.shape[2]:
                _, sizes, axes = torch.linalg.svd(rows, full_matrices=False)
                yield some, axes, sizes
            else:
                values, vectors = torch.linalg.eigh(rows.mT @ rows)
                yield some, vectors.mT.flip(1), values.flip(1).clamp(min=0).sqrt()

    def roots(self, i: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, by parts of the targets i (p,): which of them (q,) long, and lower triangular L (q, d, d) with
        L Lᵀ = C_i, a hundredth of it made round; float64.
        """
        for some, rows in self._deviations(i):
            size = rows.square().sum((1, 2)) / rows.shape[2]
            unit = torch.where(size > 0, size, 1.0)[:, None, None]
            eye = torch.eye(rows.shape[2], dtype=rows.dtype, device=rows.device)
            root = torch.linalg.cholesky((1 - RIDGE) * (rows.mT @ rows) / unit + RIDGE * eye)
            yield some, root * size.sqrt()[:, None, None]

    def draw(self, i: Tensor, xi: Tensor) -> Tensor:
        """Return m_i + C_i^{1/2} ξ (p, d), float64, for targets i (p,) and ξ (p, d) of mean 0 and covariance I."""
        drawn = self.means[i]
        for rows, axes, sizes in self._axes_of_rows(i):
            a = (axes @ xi[rows, :, None])[:, :, 0]
            drawn[rows] += (axes.mT @ (sizes * a)[:, :, None])[:, :, 0]
        return drawn

    def _axes_of_rows(self, i: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield rows of i (p,) with the axes and sizes of their targets, each target's computed once."""
        targets, place = i.unique(return_inverse=True)
        where = torch.empty_like(targets)
        for some, axes, sizes in self.axes(targets):
            where.fill_(-1)
            where[some] = torch.arange(len(some), device=i.device)
            own = where[place]
            rows = (own >= 0).nonzero()[:, 0]
            for part in rows.split(max(1, NUMBERS // max(1, axes[0].numel()))):
                yield part, axes[own[part]], sizes[own[part]]

    def _deviations(self, i: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, by parts of i: which (q,), and R (q, k, d) with Rᵀ R = C_i.

        The number of rows k is the next power of two from 16 on: it depends on a target alone, so that no company of
        other targets shows in the digits.
        """
        d = self.points.shape[1]
        first, degree = self.starts[i], self.starts[i + 1] - self.starts[i]
        width = 2 ** degree.clamp(min=16).double().log2().ceil().long()
        for k in width.unique().tolist():
            for some in (width == k).nonzero()[:, 0].split(max(1, NUMBERS // (d * max(d, k)))):
                step = torch.arange(k, device=i.device)
                inside = step < degree[some, None]
                entry = torch.where(inside, first[some, None] + step, 0)
                away = self.points[self.near[entry]].double() - self.means[i[some], None]
                yield some, away * (self.weights[entry] * inside).sqrt()[:, :, None]


def local_gaussians(points: Tensor, q: csr_array, rows: Tensor, place: Tensor) -> LocalGaussians:
    """Return the local Gaussians of points (n, d) from q over some of them.

    rows (k,) says which points q (k, k) is about, place (n,) which of these stands for each point, −1 for a point that
    has no neighbours and stays by itself.
    """
    rows, place = rows.cpu(), place.cpu()
    counts = torch.from_numpy(np.diff(q.indptr)).long()
    lone = place < 0
    degree = torch.where(lone, 1, counts[place])
    starts = torch.cat([torch.zeros(1, dtype=torch.long), degree.cumsum(0)])
    step = torch.arange(int(starts[-1])) - starts[:-1].repeat_interleave(degree)
    owner = torch.arange(len(place)).repeat_interleave(degree)
    entry = torch.from_numpy(q.indptr).long()[place.clamp(min=0)[owner]] + step
    entry = torch.where(lone[owner], 0, entry)
    near = torch.where(lone[owner], owner, rows[torch.from_numpy(q.indices).long()[entry]])
    weights = torch.where(lone[owner], 1.0, torch.from_numpy(q.data)[entry])
    return LocalGaussians.of(points, starts, near, weights)


def lone(points: Tensor) -> LocalGaussians:
    """Return the local Gaussians of targets (n, d) that have no neighbours: m_i = y_i, C_i = 0."""
    every = torch.arange(len(points) + 1)
    return LocalGaussians.of(points, every, every[:-1], torch.ones(len(points), dtype=torch.float64))


def log_likelihood(local: LocalGaussians, x: Tensor) -> float:
    """Return the mean log density at x (m, d) of Σ_i N(m_i, C_i) / n; each x hears the 64 with the nearest m_i."""
    n, d = local.points.shape
    heard = nearest(x, local.means, min(MIXTURE, n))
    targets, place = heard.unique(return_inverse=True)
    scores = torch.empty(heard.shape, dtype=torch.float64, device=x.device)
    where = torch.empty_like(targets)
    for some, root in local.roots(targets):
        where.fill_(-1)
        where[some] = torch.arange(len(some), device=x.device)
        log_det = root.diagonal(dim1=1, dim2=2).clamp(min=1e-300).log().sum(1)
        row, component = (where[place] >= 0).nonzero(as_tuple=True)
        for r, c in zip(row.split(NUMBERS // d**2 + 1), component.split(NUMBERS // d**2 + 1), strict=True):
            own = where[place[r, c]]
            away = (x[r].double() - local.means[heard[r, c]])[:, :, None]
            distance = torch.linalg.solve_triangular(root[own], away, upper=False).square().sum((1, 2))
            scores[r, c] = -0.5 * distance - log_det[own] - d / 2 * math.log(2 * math.pi)
    return (scores.logsumexp(1) - math.log(n)).mean().item()


def novelty(local: LocalGaussians, x: Tensor) -> float:
    """Return the mean distance of drawn points to the nearest target over that of x (m, d): 1 as new as x, 0 copies."""
    n, d = local.points.shape
    cells = torch.linspace(0, n - 1, len(x), device=x.device).long()
    away = torch.randn(len(x), d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(x.device)
    drawn = local.draw(cells, away)
    new, own = (
        (z - local.points[nearest(z, local.points, 1)[:, 0]].double()).norm(dim=1).mean().item()
        for z in (drawn, x.double())
    )
    return new / max(own, 1e-300)


def choose(
    points: Tensor, nu: Tensor, parts: Tensor, strength: float | None, judges: Tensor | None
) -> tuple[LocalGaussians, float]:
    """Return the local Gaussians and their strength, both chosen by held-out targets.

    For each size the least strength whose points are at least NEW times as far from the nearest target as held-out
    ones are; of the sizes that get there the one under which held-out targets are likeliest; where none does, the one
    whose points are newest. With a `strength` only the size is chosen. Targets with nu = 0 are left out. At most 512
    of the targets `judges` (indices; by default every tenth one) are held out: set aside while choosing.
    """
    alive = (nu > 0).nonzero()[:, 0]
    aside = alive[::10] if judges is None else judges[nu[judges] > 0]
    aside = aside[:: max(1, len(aside) // HELD_OUT)][:HELD_OUT]
    kept = nu > 0
    kept[aside] = False
    size, best, scores = SIZES[0], 1.0 if strength is None else strength, {}
    if int(kept.sum()) >= SIZES[0] and len(aside) and strength != 0:
        scores = _tried(points[kept], nu[kept], parts[kept], points[aside], strength)
        size, best = max(scores, key=lambda one: (min(scores[one][0], NEW), scores[one][1]))
    first, group, weights = distinct(points[alive], nu[alive])
    (p,) = smoothings(points[alive][first], weights, parts[alive][first], [size])
    place = torch.full_like(parts, -1)
    place[alive] = group
    local = local_gaussians(points, blended(p, best), alive[first], place)
    local.scores.update(scores)
    return local, best


def _tried(
    points: Tensor, nu: Tensor, parts: Tensor, judge: Tensor, strength: float | None
) -> dict[tuple[int, float], tuple[float, float]]:
    """How new points are and how likely the judges, by size and its least strength."""
    first, _, weights = distinct(points, nu)
    y = points[first]
    sizes = [size for size in SIZES if size <= max(SIZES[0], len(y) // 2)]
    every = torch.arange(len(y))
    scores: dict[tuple[int, float], tuple[float, float]] = {}
    for size, p in zip(sizes, smoothings(y, weights, parts[first], sizes), strict=True):
        if size > len(y) // SHARE and any(new >= NEW for new, _ in scores.values()):
            break
        options = STRENGTHS if strength is None else (strength,)
        low, high = 0, len(options) - 1
        while low < high:  # novelty grows with the strength
            middle = (low + high) // 2
            new = novelty(local_gaussians(y, blended(p, options[middle]), every, every), judge)
            low, high = (low, middle) if new >= NEW else (middle + 1, high)
        draft = local_gaussians(y, blended(p, options[low]), every, every)
        scores[size, options[low]] = novelty(draft, judge), log_likelihood(draft, judge)
    return scores
