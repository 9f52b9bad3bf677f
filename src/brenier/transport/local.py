"""Local Gaussians: every target with the mean and covariance of its nearest targets, and how strongly to use them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from brenier.transport.neighbours import nearest

SIZES = (16, 32, 64)  # how many targets make a local Gaussian, to choose from
STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RIDGE = 1e-2  # the share of a local covariance that is made round, so that flat neighbourhoods have a density
HELD_OUT = 512  # held-out points that judge
NEW = 0.9  # how new drawn points have to be, against held-out ones
MIXTURE = 64  # the nearest components that a held-out point hears


@dataclass(frozen=True, eq=False)
class LocalGaussians:
    """For each target y_i the mean m_i and the covariance C_i of y_i and its nearest targets of the same mode.

    points (n, d); near (n, k) indices, nearest first, the target itself in column 0 and in the place of every neighbour
    that its mode can't offer; scores holds the
    mean log density of held-out points for every (size, strength) tried.
    """

    points: Tensor
    near: Tensor
    scores: dict[tuple[int, float], float]

    @property
    def chunk(self) -> int:
        """How many covariances are at hand at once: at most 128 MB of them, and of the neighbours that make them."""
        d = self.points.shape[1]
        return max(1, (1 << 24) // (d * max(d, self.near.shape[1])))

    def moments(self, i: Tensor) -> tuple[Tensor, Tensor]:
        """m_i (p, d) and a lower triangular L_i (p, d, d) with L_i L_iᵀ = C_i, float64."""
        near = self.near[i]
        y = self.points[near].double()
        offered = torch.cat([torch.ones_like(near[:, :1], dtype=torch.bool), near[:, 1:] != i[:, None]], 1).double()
        weight = (offered / offered.sum(1, keepdim=True))[:, :, None]
        mean = (weight * y).sum(1)
        root = weight.sqrt() * (y - mean[:, None])
        covariance = root.mT @ root
        size = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        unit = torch.where(size > 0, size, 1.0)
        eye = torch.eye(y.shape[2], dtype=y.dtype, device=y.device)
        round_off = torch.linalg.cholesky((1 - RIDGE) * covariance / unit + RIDGE * eye)
        return mean, round_off * size.sqrt()

    def draw(self, i: Tensor, place: Tensor, strength: float) -> Tensor:
        """m_i + √(1 − s²)(y_i − m_i) + s L_i place, (p, d), float64."""
        drawn = []
        for some, places in zip(i.split(self.chunk), place.split(self.chunk), strict=True):
            mean, root = self.moments(some)
            away = math.sqrt(1 - strength**2) * (self.points[some].double() - mean)
            drawn.append(mean + away + strength * (root @ places[:, :, None])[:, :, 0])
        return torch.cat(drawn)


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


def log_likelihood(local: LocalGaussians, x: Tensor, strengths: tuple[float, ...]) -> Tensor:
    """Mean log density (len(strengths),) at x (m, d) of Σ_i N(m_i + √(1−s²)(y_i − m_i), s² C_i) / n.

    Each x hears the 64 components whose targets are nearest.
    """
    n, d = local.points.shape
    heard = nearest(x, local.points, min(MIXTURE, n))
    scores = []
    size = max(1, local.chunk // heard.shape[1])
    for rows, components in zip(x.double().split(size), heard.split(size), strict=True):
        mean, root = local.moments(components.flatten())
        y = local.points[components.flatten()].double()
        from_mean = (rows[:, None] - mean.view(*components.shape, d)).flatten(0, 1)
        log_det = root.diagonal(dim1=1, dim2=2).log().sum(1)
        solved = torch.linalg.solve_triangular(root, torch.stack([from_mean, y - mean], 2), upper=False)
        per_strength = []
        for s in strengths:
            distance = (solved[:, :, 0] - math.sqrt(1 - s * s) * solved[:, :, 1]).square().sum(1) / s**2
            each = -0.5 * distance - log_det - d * math.log(s * math.sqrt(2 * math.pi))
            per_strength.append(each.view(components.shape).logsumexp(1) - math.log(n))
        scores.append(torch.stack(per_strength))
    return torch.cat(scores, 1).mean(1)


def novelty(local: LocalGaussians, x: Tensor, strength: float) -> float:
    """Mean distance of drawn points to the nearest target, over the same of x (m, d): 1 as new as x, 0 copies."""
    n, d = local.points.shape
    cells = torch.linspace(0, n - 1, len(x), device=x.device).long()
    place = torch.randn(len(x), d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(x.device)
    drawn = local.draw(cells, place, strength)
    near = [(z.double() - local.points[nearest(z, local.points, 1)[:, 0]].double()).norm(dim=1) for z in (drawn, x)]
    return (near[0].mean() / near[1].mean()).item()


def choose(
    points: Tensor, modes: Tensor, alive: Tensor, strength: float | None, judges: Tensor | None
) -> tuple[LocalGaussians, float]:
    """The local Gaussians and the strength under which held-out points are most likely, among those that are new.

    New are choices whose points are at least NEW times as far from the nearest target as held-out points are. At most
    512 of the targets `judges` (indices; by default every tenth one) are held out: set aside while choosing. With a
    `strength` only the size is chosen.
    """
    rows = alive.nonzero()[:, 0]
    strengths = STRENGTHS if strength is None else (strength,)
    aside = rows[::10] if judges is None else judges[alive[judges]]
    aside = aside[:: max(1, len(aside) // HELD_OUT)][:HELD_OUT]
    if len(rows) - len(aside) < SIZES[0] or len(aside) == 0 or strength == 0:
        return local_gaussians(points, modes, alive, SIZES[0]), 1.0 if strength is None else strength
    kept = alive.clone()
    kept[aside] = False
    judge = points[aside]
    scores: dict[tuple[int, float], float] = {}
    new: dict[tuple[int, float], float] = {}
    for size in SIZES:
        draft = local_gaussians(points[kept], modes[kept], alive[kept], size)
        scores |= {
            (size, s): v for s, v in zip(strengths, log_likelihood(draft, judge, strengths).tolist(), strict=True)
        }
        new |= {(size, s): novelty(draft, judge, s) for s in strengths}
    enough = min(NEW, max(new.values()))
    size, best = max((choice for choice in scores if new[choice] >= enough), key=lambda choice: scores[choice])
    local = local_gaussians(points, modes, alive, size)
    return LocalGaussians(points, local.near, scores), best
