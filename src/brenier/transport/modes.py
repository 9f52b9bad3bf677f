"""The modes of weighted points: the basins of their density, the passes between them, and how much of it is noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from scipy.special import ndtri
from torch import Tensor

from brenier.transport.neighbours import neighbours

NEAREST = 10  # targets that measure the density: fewer are noisier, more blur the valleys of real data
RISK = 0.05  # the probability that a set with one mode is split
COARSE = 5  # the coarse dimension of a set of n targets is that seen in balls that hold n / 5 of them
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

    def depth(self, i: Tensor, j: Tensor) -> Tensor:
        """Return how deep the valley between the targets i and j is (m,): from the lower of their peaks to the pass.

        In units of the noise; 0 in one basin, inf across a gap.
        """
        a, b = self.basin[i], self.basin[j]
        unit = (self.birth - self.saddle) / self.prominence
        unit = torch.where(torch.isfinite(unit), unit, 1.0)  # the last basin of a part: seen from the other side
        lower = torch.where(self.birth[a] < self.birth[b], a, b)
        height, noise = self.birth[lower], torch.zeros_like(self.birth[a])
        level = torch.full_like(height, math.inf)
        while True:
            apart = (a != b).nonzero()[:, 0]
            first = torch.where(self.saddle[a] >= self.saddle[b], a, b)[apart]
            apart, first = apart[up := self.saddle[first] > -math.inf], first[up]
            if not len(apart):
                break
            level[apart], noise[apart] = self.saddle[first], unit[first]
            a, b = (
                side.index_copy(0, apart, torch.where(side[apart] == first, self.parent[first], side[apart]))
                for side in (a, b)
            )
        inside = torch.where(noise > 0, (height - level) / noise, 0.0)
        return torch.where(a == b, inside, math.inf)

    def _cut(self, level: float | None) -> tuple[Tensor, Tensor]:
        """The basins that are kept, heaviest first, and the kept basin (b,) that each basin belongs to."""
        stays = self.prominence >= (self.needed if level is None else level)
        into = torch.where(stays, torch.arange(len(stays), device=stays.device), self.joins)
        while not torch.equal(further := into[into], into):
            into = further
        kept = stays.nonzero()[:, 0]
        mass = torch.zeros_like(self.mass).index_add_(0, into, self.mass)
        return kept[torch.argsort(mass[kept], descending=True, stable=True)], into


def mode_tree(y: Tensor, nu: Tensor, part: Tensor, edges: Tensor) -> ModeTree:
    """Return the merge tree of distinct points y (n, d) of weights nu (n,), whose connected parts (n,) are known.

    Inside a part with n' points, the density at y_i comes from its k = 10 nearest in the part, of mass M_i with itself:

        log f_i = log M_i − (m/2) log Σ_j nu_j |y_j − y_i|² / Σ_j nu_j,

    m the dimension that the same distances show (Levina and Bickel; one for all points of a part). The graph has each
    point's k nearest and `edges` (e, 2); an edge is as high as the lower of its ends, and no higher than the density
    that k points in a ball of radius |y_i − y_j|/√2 would have (Chaudhuri and Dasgupta). See `noise` and `needed`.

    A part of fewer than 2 (k + 1) points is one basin.

    Source: Chazal, Guibas, Oudot, Skraba, Persistence-based clustering in Riemannian manifolds, J. ACM 2013.

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
        made.append((own, _part(y[own], nu[own], place[extra], n)))
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


def noise(m: float, k: float) -> float:
    """Return the standard deviation of −(m/2) log of the mean squared distance to the k nearest of Poisson points.

    The volume V_k that holds k points is Gamma(k), and the others lie evenly in it, V_j = V_k U_j: the variance of the
    first is about 1/k, and Var (m/2) log Σ_j U_j^{2/m} is about m/((m + 4) k).

    Example:
        >>> round(noise(2, 10), 3)
        0.365
    """
    return math.sqrt((1 + m / (m + 4)) / k)


def needed(n: int, k: float, coarse: float, fine: float) -> float:
    """Return the prominence in units of the noise that one of n targets passes by chance with probability RISK.

    The n/k neighbourhoods are about independent, so that the highest is z = Φ⁻¹((1 − RISK)^{k/n}) above its
    expectation. A path along a curve crosses the lowest as well, 2 z, and the sampling of its noise adds to it. On a
    surface half of all lie higher than the pass (the level at which a random field percolates in the plane is its
    median): about z; with more dimensions there is more room to walk round. So far the factor is 2.4 for a curve, else
    max(0.9, 0.6 + 1.5/coarse). A coarse dimension below 1.7 is a curve's. Where the fine dimension is 1.5 times the
    coarse one, noise in many dimensions may lie around a curve: below 2.2 it's taken for one, below 3 the factor is no
    less than 1.6. Calibrated by `benchmarks/modes.py --null`.

    Example:
        >>> [round(needed(3000, 10, d, d), 1) for d in (1, 2, 8)]
        [8.6, 4.8, 3.2]
    """
    z = float(ndtri((1 - RISK) ** (min(k, n) / n)))
    thick = fine > 1.5 * coarse
    if coarse < (2.2 if thick else 1.7):
        return 2.4 * z
    return z * max(1.6 if thick and coarse < 3 else 0.9, 0.6 + 1.5 / coarse)


def seen_dimension(distance: Tensor) -> float:
    """Return the dimension that sorted distances (q, k) to nearest points show: 1 / mean log(r_k / r_j).

    Source: Levina and Bickel, NIPS 2004; MacKay and Ghahramani, 2005, for the mean of the inverses.
    """
    ratio = (distance[:, -1:] / distance[:, :-1]).log().mean()
    return 1 / max(float(ratio), 1e-3)


def _part(y: Tensor, nu: Tensor, edges: Tensor, n: int) -> tuple[Tensor, ...]:
    """Basin of every point; peak, birth, saddle, parent, joins, prominence, needed of every basin of one part."""
    size, k = len(y), NEAREST
    if size < 2 * (k + 1):
        zero = torch.zeros(1, dtype=torch.long)
        peak = nu.argmax().cpu()[None]
        none = torch.full((1,), math.inf, dtype=torch.float64)
        return torch.zeros(size, dtype=torch.long), peak, 0 * none.sign() - 0, -none, zero, zero, none, none.sign()
    near, distance = neighbours(y, k)
    m = seen_dimension(distance)
    around = nu[near]
    mass = around.sum(1)
    square = (around * distance.square()).sum(1) / mass
    height = (nu + mass).log() - m / 2 * square.log()
    unit = noise(m, float(1 / (around.square().sum(1) / mass.square()).mean()))
    own = torch.arange(size, device=y.device)[:, None].expand_as(near)
    every = torch.cat([torch.stack([own, near], 2).flatten(0, 1), edges])
    i, j = every.T
    length = (y[i] - y[j]).norm(dim=1)
    within = length.square() / 2 * m / (m + 2)
    most = ((nu + mass)[i].minimum((nu + mass)[j])).log() - m / 2 * within.log()
    level = height[i].minimum(height[j]).minimum(most)
    h, low = height.cpu().numpy(), level.cpu().numpy()
    order = np.lexsort((-height[i].maximum(height[j]).cpu().numpy(), -low))
    saddle, parent, joins = _merged(h, every.cpu().numpy(), low, order)
    peaks = np.flatnonzero(saddle < h)
    top = joins.copy()
    top[peaks] = peaks
    while not np.array_equal(further := top[top], top):
        top = further
    rank = np.zeros(size, np.int64)
    rank[peaks] = np.arange(len(peaks))
    sources = np.argsort(h, kind="stable")[np.linspace(0, size - 1, SOURCES).astype(int)]
    coarse = coarse_dimension(every.cpu().numpy(), length.cpu().numpy(), sources)
    least = needed(n, k, coarse, m)
    birth, low = h[peaks], saddle[peaks]
    columns = (rank[top], peaks, birth, low, rank[top[parent[peaks]]], rank[top[joins[peaks]]], (birth - low) / unit)
    return *(torch.from_numpy(c) for c in columns), torch.full((len(peaks),), least, dtype=torch.float64)


def coarse_dimension(edges: np.ndarray, lengths: np.ndarray, sources: np.ndarray) -> float:
    """Return the dimension of a graph seen in balls that hold a fifth of its points, along shortest paths from sources.

    It is 1 of a ring or a spiral, however thick it looks from within. Sources that don't reach so many are left out;
    1, of which most is asked, where none does.
    """
    n = int(edges.max()) + 1
    _, first = np.unique(edges[:, 0] * n + edges[:, 1], return_index=True)
    graph = coo_array((lengths[first], edges[first].T), shape=(n, n)).tocsr()
    away = np.sort(dijkstra(graph, directed=False, indices=sources), axis=1)[:, 1 : max(2, n // COARSE) + 1]
    away = away[np.isfinite(away[:, -1])]
    return 1.0 if not len(away) else seen_dimension(torch.from_numpy(away))


@njit(nogil=True, cache=True)
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
