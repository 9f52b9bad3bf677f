"""The modes of weighted points: the basins of their density, the passes between them, and how much of it is noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from brenier.compiled import compiled
from brenier.transport.neighbours import neighbours
from brenier.transport.prominence import coarse_dimension, needed, noise, seen_dimension

NEAREST = 10  # targets that measure the density: fewer are noisier, more blur the valleys of real data
CHUNK = 4_096  # points whose candidates are measured together
SOURCES = 24  # targets whose balls tell the coarse dimension


@dataclass(frozen=True, eq=False)
class ModeTree:
    """The merge tree of the density over n targets: b basins, one for each local maximum on the graph of neighbours.

    Lower a level from the highest density: a basin is born at its peak, and ends at its saddle, the highest pass to a
    basin with a higher peak. Heights are log densities in nats; the last basin of a connected part has no saddle.

    basin (n,) long, the basin of every target; peak (b,) long, the target with the highest density of each basin;
    birth, saddle (b,), its density and that of the pass, −inf without one; parent (b,) long, the basin with the higher
    peak that has absorbed what lies behind the pass, itself without one; joins (b,) long, the basin just behind the
    pass; prominence (b,) = (birth − saddle)/noise, with the standard deviation of the density's estimate; needed (b,),
    the prominence that is significant in this part. No noise in it; mass (b,) = the sum of the targets' weights.
    """

    basin: Tensor
    peak: Tensor
    birth: Tensor
    saddle: Tensor
    parent: Tensor
    joins: Tensor
    prominence: Tensor
    needed: Tensor
    mass: Tensor

    def kept(self, level: float | None = None) -> Tensor:
        """Return the basins that are modes at a level of prominence, heaviest first; None is the significant one."""
        return self._cut(level)[0]

    def modes(self, level: float | None = None) -> Tensor:
        """Return the mode (n,) of every target at a level of prominence; None is the significant one.

        0 is the heaviest. A basin whose prominence is below the level belongs to the one behind its pass. With level
        inf only the parts that gaps part are left, with 0 each local maximum is a mode.
        """
        kept, into = self._cut(level)
        rank = torch.zeros_like(into)
        rank[kept] = torch.arange(len(kept), device=rank.device)
        return rank[into[self.basin]]

    def depth(self, i: Tensor, j: Tensor, level: float | None = None) -> Tensor:
        """Return how deep the valley between the modes of targets i and j is (m,): from the lower peak to the pass.

        In units of the noise; 0 in one mode, inf across a gap. The modes are those at a level, as in `modes`.
        """
        into = self._cut(level)[1]
        a, b = into[self.basin[i]], into[self.basin[j]]
        height = self.birth[a].minimum(self.birth[b])
        unit = (self.birth - self.saddle) / self.prominence  # NaN for a basin without a saddle, which is not asked
        depth = torch.where(a == b, 0.0, math.inf)
        while True:  # the side whose saddle is higher ends first
            first = torch.where(self.saddle[a] >= self.saddle[b], a, b)
            apart = (a != b) & (self.saddle[first] > -math.inf)
            if not apart.any():
                return torch.where(a == b, depth, math.inf)
            depth = torch.where(apart, (height - self.saddle[first]) / unit[first], depth)
            a, b = (torch.where(apart & (side == first), self.parent[first], side) for side in (a, b))

    def _cut(self, level: float | None) -> tuple[Tensor, Tensor]:
        """The basins that are kept, heaviest first, and the kept basin (b,) that each basin belongs to."""
        stays = self.prominence >= (self.needed if level is None else level)
        into = torch.where(stays, torch.arange(len(stays), device=stays.device), self.joins)
        while not torch.equal(further := into[into], into):
            into = further
        kept = stays.nonzero()[:, 0]
        mass = torch.zeros_like(self.mass).index_add_(0, into, self.mass)
        return kept[torch.argsort(mass[kept], descending=True, stable=True)], into


def mode_tree(
    y: Tensor, nu: Tensor, part: Tensor, edges: Tensor, found: tuple[Tensor, Tensor] | None = None
) -> ModeTree:
    """Return the merge tree of distinct points y (n, d) of weights nu (n,), whose connected parts (n,) are known.

    Inside a part every point moves to the weighted mean z_i of itself and its k = 10 nearest (a step of mean shift),
    out of the valleys and onto the ridges of the density. The density at z_i comes from the k + 1 nearest y_j:

        log f_i = log M_i − (m/2) log Σ_j nu_j |y_j − z_i|² / M_i,      M_i = Σ_j nu_j,

    m the dimension that distances to the k nearest show (Levina and Bickel; one for all points of a part). The graph
    has each z_i's k nearest; both are looked for among the neighbours of y_i and theirs. Where the graph falls into
    components, neighbours in y and `edges` (e, 2) join them. An edge is as high as the lower of its ends; one of the
    latter is no higher than the density that k + 1 points in a ball of radius |y_i − y_j|/√2 would have (Chaudhuri and
    Dasgupta). See `noise` and `needed` for what is significant.

    A part of fewer than 2 (k + 1) points is one basin. `found` spares the search for the nearest points where their
    indices and distances (n, k or more) are known; it serves one part only.

    Source: Chazal, Guibas, Oudot, Skraba, Persistence-based clustering in Riemannian manifolds, J. ACM 2013; Fukunaga
    and Hostetler 1975 for mean shift.

    Example:
        >>> y = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        >>> y[100:] += 8
        >>> one = torch.zeros(200, dtype=torch.long)
        >>> tree = mode_tree(y, torch.full((200,), 1 / 200), one, torch.tensor([[0, 199]]))
        >>> tree.modes().bincount(), tree.modes(torch.inf).unique()
        (tensor([100, 100]), tensor([0]))
    """
    y, nu = y.detach().double(), nu.detach().double()
    n, made = len(y), []
    order = torch.argsort(part, stable=True)
    sides = edges[part[edges[:, 0]] == part[edges[:, 1]]]
    sides = sides[torch.argsort(part[sides[:, 0]], stable=True)]
    members = order.split(part.bincount().tolist())
    bridges = sides.split(part[sides[:, 0]].bincount(minlength=len(members)).tolist())
    place = torch.empty_like(order)
    for own, extra in zip(members, bridges, strict=True):
        place[own] = torch.arange(len(own), device=own.device)
        known = None
        if found is not None and len(members) == 1 and found[0].shape[1] >= NEAREST:
            known = found[0][:, :NEAREST], found[1][:, :NEAREST]
        made.append((own, _part(y[own], nu[own], place[extra], n, known)))
    basin, first, columns = torch.empty_like(order), 0, []
    for own, (local, peak, birth, saddle, parent, joins, prominence, least) in made:
        basin[own] = local.to(own) + first
        columns.append((own[peak.to(own)], birth, saddle, parent + first, joins + first, prominence, least))
        first += len(peak)
    peak, birth, saddle, parent, joins, prominence, least = (
        torch.cat([c.to(y.device) for c in column]) for column in zip(*columns, strict=True)
    )
    mass = torch.zeros(first, dtype=nu.dtype, device=y.device).index_add_(0, basin, nu)
    return ModeTree(basin, peak, birth, saddle, parent, joins, prominence, least, mass)


def _part(y: Tensor, nu: Tensor, edges: Tensor, n: int, found: tuple[Tensor, Tensor] | None) -> tuple[Tensor, ...]:
    """Basin of every point; peak, birth, saddle, parent, joins, prominence, needed of every basin of one part."""
    size, k = len(y), NEAREST
    if size < 2 * (k + 1):
        zero, none = torch.zeros(1, dtype=torch.long), torch.full((1,), math.inf, dtype=torch.float64)
        birth = nu.sum().log().cpu()[None]  # there is no density to speak of
        return zero.expand(size), nu.argmax().cpu()[None], birth, -none, zero, zero, none, torch.zeros_like(none)
    near, distance = neighbours(y, k) if found is None else found
    m = seen_dimension(distance)
    z, candidates = _means(y, nu, near), _candidates(near)
    height, unit = _density(z, y, nu, candidates, m)
    sides = torch.cat([_pairs(near), edges])
    every, bridge = _joined(_pairs(_nearest(z, z, candidates, k + 1)[0]), sides, size)
    i, j = every.T
    length = (y[i] - y[j]).norm(dim=1)
    most = ((k + 1) * nu.mean()).log() - m / 2 * (length.square() / 2 * m / (m + 2)).log()
    lower, higher = height[i].minimum(height[j]), height[i].maximum(height[j])
    lower = torch.where(bridge, lower.minimum(most), lower)
    h, levels = height.cpu().numpy(), lower.cpu().numpy()
    order = np.lexsort((-higher.cpu().numpy(), -levels))
    saddle, parent, joins = _merged(h, every.cpu().numpy(), levels, order)
    peaks = np.flatnonzero(saddle < h)
    top = joins.copy()
    top[peaks] = peaks
    while (top[top] != top).any():
        top = top[top]
    rank = np.zeros(size, np.int64)
    rank[peaks] = np.arange(len(peaks))
    sources = np.argsort(h, kind="stable")[np.linspace(0, size - 1, SOURCES).astype(int)]
    lengths = (y[sides[:, 0]] - y[sides[:, 1]]).norm(dim=1).cpu().numpy()
    coarse = coarse_dimension(sides.cpu().numpy(), lengths, sources)
    least = needed(n, k, coarse, m)
    high, ends = h[peaks], saddle[peaks]
    columns = (rank[top], peaks, high, ends, rank[top[parent[peaks]]], rank[top[joins[peaks]]], (high - ends) / unit)
    return *(torch.from_numpy(c) for c in columns), torch.full((len(peaks),), least, dtype=torch.float64)


def _pairs(near: Tensor) -> Tensor:
    own = torch.arange(len(near), device=near.device)[:, None].expand_as(near)
    return torch.stack([own, near], 2).flatten(0, 1)


def _means(z: Tensor, nu: Tensor, near: Tensor) -> Tensor:
    """The weighted mean (n, d) of each point and its neighbours `near` (n, k)."""
    total, mass = z * nu[:, None], nu.clone()
    for column in near.T:
        total = total + z[column] * nu[column, None]
        mass = mass + nu[column]
    return total / mass[:, None]


def _density(z: Tensor, y: Tensor, nu: Tensor, candidates: Tensor, m: float) -> tuple[Tensor, float]:
    """log f (n,) at z from the k + 1 nearest y, and the standard deviation of its noise."""
    near, square = _nearest(z, y, candidates, NEAREST + 1)
    weights = nu[near]
    mass = weights.sum(1)
    spread = (weights * square).sum(1) / mass
    effective = float(1 / (weights.square().sum(1) / mass.square()).mean())
    return mass.log() - m / 2 * spread.log(), noise(m, effective)


def _candidates(near: Tensor) -> Tensor:
    """Each point, its neighbours and theirs (n, 1 + k + k²)."""
    own = torch.arange(len(near), device=near.device)[:, None]
    return torch.cat([own, near, near[near].flatten(1)], 1)


def _nearest(x: Tensor, points: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k of its candidates that are nearest to each x, nearest first, and squared distances (n, k)."""
    parts = []
    for rows, some in zip(x.split(CHUNK), candidates.split(CHUNK), strict=True):
        some = some.sort(1).values
        square = (points[some] - rows[:, None]).square().sum(2)
        square[:, 1:].masked_fill_(some[:, 1:] == some[:, :-1], math.inf)
        least, place = square.topk(k, largest=False)
        parts.append((some.gather(1, place), least))
    near, squares = (torch.cat(part) for part in zip(*parts, strict=True))
    return near, squares


def _joined(edges: Tensor, more: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The edges (e, 2) of a graph of n points with those of `more` that join its components, and which are these."""
    i, j = edges.cpu().numpy().T
    label = connected_components(coo_array((np.ones(len(i), bool), (i, j)), shape=(n, n)), directed=False)[1]
    component = torch.from_numpy(label).to(edges.device)
    bridges = more[component[more[:, 0]] != component[more[:, 1]]]
    return torch.cat([edges, bridges]), torch.arange(len(edges) + len(bridges), device=edges.device) >= len(edges)


@compiled
def _merged(
    h: np.ndarray, edges: np.ndarray, level: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Union by falling level, the component with the lower peak ends: its saddle, who absorbs it, the point it meets.

    Of two equal peaks the one with the larger number ends. A point that ends at its own height is no peak.
    """
    n = len(h)
    root, saddle, parent, joins = np.arange(n), np.full(n, -np.inf), np.arange(n), np.arange(n)
    for e in order:
        i, j = edges[e]
        a, b = i, j
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        if a == b:
            continue
        if h[a] < h[b] or (h[a] == h[b] and a > b):
            a, b, i, j = b, a, j, i
        root[b], saddle[b], parent[b], joins[b] = a, level[e], a, i
    return saddle, parent, joins
