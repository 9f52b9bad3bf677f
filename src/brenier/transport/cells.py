"""The cells of a potential: masses, centroids, neighbouring pairs and the mass of their facets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import triu
from torch import Tensor

from brenier.measures import Source
from brenier.transport.diagram import diagram, second_shares
from brenier.transport.domain import Domain
from brenier.transport.mirror import both_ways
from brenier.transport.planes import laid_out
from brenier.transport.potential import BrenierPotential
from brenier.transport.problem import Sampler
from brenier.transport.rows import Rows, merged

BLOCKS = 32
CHUNK = 1 << 14  # samples that are drawn together


@dataclass(frozen=True, eq=False)
class Cells:
    """What a source measure sees of the cells W_i of a potential with n targets in d dimensions.

    masses (n,) = mu(W_i) with standard errors masses_sem (n,); centroids (n, d) = E[x | W_i] and radii (n,), the root
    mean square distance to them, NaN where a cell is empty;
    facets (k, 2) long, i < j, the pairs of cells seen side by side; facet_masses (k,) = ∫_{W_i ∩ W_j} mu dS;
    facet_shares (k,) the share of the source whose two highest planes they are (where exact: among those with a cell).
    `samples` says how many were drawn; infinitely many stand for exact numbers, whose errors are 0.
    Targets with one and the same plane share its cell in equal parts, and the first of them stands for it in facets.
    """

    masses: Tensor
    masses_sem: Tensor
    centroids: Tensor
    radii: Tensor
    facets: Tensor
    facet_masses: Tensor
    facet_shares: Tensor
    samples: float


def cells(
    u: BrenierPotential, source: Source, samples: int | None = None, generator: torch.Generator | int | None = None
) -> Cells:
    """Masses, centroids and facets of the cells of u under `source`.

    Exact where the source has a `Domain`, a convex region of at most three dimensions, and no number of samples is
    asked for: the cells are clipped to it (`diagram.py`). Elsewhere from `samples` draws (16 n, at least 2^17). A
    sample x in W_i whose second highest plane is j lies at δ = (score_i − score_j)/|y_i − y_j| from their common facet.
    With F(ε) the share of samples of the pair with δ < ε, the facet's mass is the density of δ at 0, both sides
    together, which is F(ε)/ε − F(2ε)/(4ε) (Richardson's extrapolation), ε the lower quartile of all δ. Memory: that of
    the centroids and O(n + samples).

    Raises:
        ValueError: a source of another dimension, or fewer samples than the 32 blocks of the error bars.

    Example:
        >>> from brenier.measures import Gaussian
        >>> u = BrenierPotential(torch.tensor([[-1.0], [1.0]]), torch.zeros(2))
        >>> c = cells(u, Gaussian(1), generator=0)  # a seed, or a torch.Generator
        >>> c.facets, c.masses.round(decimals=1)
        (tensor([[0, 1]]), tensor([0.5000, 0.5000]))
    """
    if source.dim != u.dim:
        raise ValueError(f"source and potential must share a dimension, got {source.dim} and {u.dim}")
    domain = Domain.of(source) if samples is None else None
    if domain is not None:
        return _exact(u, source, domain)
    drawn = max(16 * len(u.points), 1 << 17) if samples is None else samples
    if drawn < BLOCKS:
        raise ValueError(f"samples must be at least {BLOCKS}, got {drawn}")
    view = NoiseView(u, source, generator)
    n, size = view.n, Sampler.BLOCK * -(-drawn // (BLOCKS * Sampler.BLOCK))
    counts, squares, around = torch.zeros(3, n, dtype=torch.float64, device=u.points.device)
    middle = torch.zeros(n, u.dim, dtype=u.points.dtype, device=u.points.device)
    pairs, gaps, total = [], [], BLOCKS * size
    for _ in range(BLOCKS):
        before = counts.clone()
        for first in range(0, size, CHUNK):
            x, values, indices = view.top(min(CHUNK, size - first), min(2, n))
            around += _gathered(middle, counts, x.double(), indices[:, 0])
            if n > 1:
                pairs.append(indices.amin(1) * n + indices.amax(1))
                jump = (view.y[indices[:, 0]] - view.y[indices[:, 1]]).norm(dim=1)
                gaps.append(((values[:, 0] - values[:, 1]) / jump).float())
        squares += (counts - before).square_()
    share = counts / total
    sem = ((squares / BLOCKS - (counts / BLOCKS).square()).clamp(min=0) / (BLOCKS - 1)).sqrt() * BLOCKS / total
    facets, facet_masses, facet_shares = _facets(pairs, gaps, n, total) if n > 1 else view.no_facets()
    parts = view.multiplicity.double()
    middle[counts == 0] = math.nan
    radii = (around / counts).sqrt() * view.scale
    return Cells(
        masses=(share / parts)[view.index].to(u.points),
        masses_sem=(sem / parts)[view.index].to(u.points),
        centroids=view.of_targets(middle.mul_(view.scale).add_(view.mean.to(middle))),
        radii=radii[view.index].to(u.points),
        facets=view.first[facets].sort(1).values,
        facet_masses=(facet_masses / view.scale).to(u.points),
        facet_shares=facet_shares.to(u.points),
        samples=total,
    )


def _exact(u: BrenierPotential, source: Source, domain: Domain) -> Cells:
    view = NoiseView(u, source, None)
    domain = domain.moved(view.mean.cpu().numpy(), view.scale)
    y, h = view.y[:].cpu().numpy(), view.heights.cpu().numpy()
    found = diagram(y, h, domain)
    second = second_shares(y, h, domain, both_ways(found.facets))
    place, whole = u.points.device, domain.mass
    masses, sums, norms = (
        torch.from_numpy(part).to(place) / whole for part in (found.masses, found.first, found.second)
    )
    middle = sums / masses[:, None]
    radii = (norms / masses - middle.square().sum(1)).clamp(min=0).sqrt() * view.scale
    sides = triu(found.facets, 1).tocoo()
    seen = sides.data > 0
    i, j = (side[seen] for side in sides.coords)
    lengths, shares = sides.data[seen], (second + second.T)[i, j] if len(i) else np.zeros(0)
    each = masses / view.multiplicity
    return Cells(
        masses=each[view.index].to(u.points),
        masses_sem=torch.zeros_like(u.heights),
        centroids=view.back(middle)[view.index].to(u.points),
        radii=radii[view.index].to(u.points),
        facets=view.first[torch.from_numpy(np.stack([i, j], 1)).long().to(place)].sort(1).values,
        facet_masses=torch.from_numpy(lengths / whole / view.scale).to(u.points),
        facet_shares=torch.from_numpy(np.asarray(shares) / whole).to(u.points),
        samples=math.inf,
    )


def _gathered(middle: Tensor, counts: Tensor, x: Tensor, cells: Tensor) -> Tensor:
    """Takes samples x (m, d) of `cells` (m,) into the means (n, d) and numbers (n,) of those before, in place; gives
    what the sums of squares about the means grow by, (n,). Source: Chan, Golub and LeVeque 1983.
    """
    seen, place, times = torch.unique(cells, return_inverse=True, return_counts=True)
    fresh = x.new_zeros(len(seen), x.shape[1]).index_add_(0, place, x) / times[:, None]
    own = x.new_zeros(len(seen)).index_add_(0, place, (x - fresh[place]).square_().sum(1))
    step, before = fresh - middle[seen], counts[seen]
    counts[seen] += times
    share = times / counts[seen]
    middle[seen] += (step * share[:, None]).to(middle)
    return torch.zeros_like(counts).index_copy_(0, seen, own + step.square().sum(1) * share * before)


def _facets(pairs: list[Tensor], gaps: list[Tensor], n: int, total: int) -> tuple[Tensor, Tensor, Tensor]:
    pair, gap = torch.cat(pairs), torch.cat(gaps)
    found, where, times = torch.unique(pair, return_inverse=True, return_counts=True)
    width = gap.kthvalue(max(1, len(gap) // 4)).values.item()
    near, nearer = (
        torch.zeros(len(found), dtype=torch.float64, device=pair.device).index_add_(0, where, (gap < w).double())
        for w in (2 * width, width)
    )
    density = (nearer / width - near / (4 * width)).clamp(min=0) / total
    return torch.stack([found // n, found % n], 1), density, times.double() / total


class NoiseView:
    """A potential seen from the source's own coordinates x' = (x − E x)/rms, identical planes merged."""

    def __init__(self, u: BrenierPotential, source: Source, generator: torch.Generator | int | None) -> None:
        self.sampler = Sampler(source, u.points, generator)
        self.scale, self.mean = self.sampler.scale, self.sampler.mean
        kept, self.index = merged(Rows(u.points), u.heights)
        self.n, self.as_given = len(kept), kept.chosen is None
        self.first = self.index if kept.chosen is None else kept.chosen
        self.multiplicity = torch.bincount(self.index, minlength=self.n)
        self.y = replace(kept, centre=u.centre.double())
        tilt = self.y.each(lambda y: y @ self.mean)
        self.heights = (u.heights[self.first].double() + tilt) / self.scale
        self.planes = laid_out(self.y, self.heights.to(u.points))

    def top(self, m: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """m samples x', and the values and indices of their k highest planes."""
        return self.sampler.top(self.planes, m, k)

    def back(self, x: Tensor) -> Tensor:
        """From x' to x, in float64."""
        return self.mean + self.scale * x.double()

    def of_targets(self, rows: Tensor) -> Tensor:
        """Of every target the row that its plane has."""
        return rows if self.as_given else rows[self.index]

    def no_facets(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a single cell has."""
        none = torch.zeros(0, dtype=torch.float64, device=self.heights.device)
        return torch.zeros(0, 2, dtype=torch.long, device=self.heights.device), none, none
