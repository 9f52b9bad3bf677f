"""The singular set: the facets at which the transport jumps over a gap in the target, the parts, and their modes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from brenier.device import seeded
from brenier.measures import Source
from brenier.solution import Estimate
from brenier.transport.cells import Cells, NoiseView, cells
from brenier.transport.modes import ModeTree, mode_tree
from brenier.transport.neighbours import nearest, neighbours
from brenier.transport.potential import BrenierPotential

NEIGHBOURHOOD = 12  # targets that make a neighbourhood, where so many are near
SPACING = 5  # the local spacing is the distance to the fifth nearest target; no smaller group makes a part
SLACK = 1.25  # a jump is singular when it is longer than 99 % of the distances inside neighbourhoods by this factor
BAND = 0.1  # the share of a cell, from facet to vertex level, in which the extension interpolates


@dataclass(frozen=True, eq=False)
class SingularSet:
    """Where the transport map must jump. Scale-free: moving, rotating or scaling the targets changes no verdict.

    A pair of targets is singular when |y_i − y_j| > threshold · sqrt(spacing_i spacing_j).

    facets (k, 2) long, the singular facets; parts (n,) long, the part of every target, of those that gaps leave
    connected, 0 the largest; tree, the basins of the density inside the parts and the passes between them; modes (n,)
    long, the mode of every target, `tree.modes()`: the basins that are significant, 0 the heaviest; mass, the share of
    noise that an extension redraws since it would have to interpolate across; spacing (n,), distance to the fifth
    nearest target; threshold, the largest regular jump in units of spacing.
    """

    facets: Tensor
    modes: Tensor
    mass: Estimate
    spacing: Tensor
    threshold: float
    parts: Tensor
    tree: ModeTree

    def separates(self, distance: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Whether the pairs (i, j) of targets at `distance` lie on two sides of a gap."""
        return _apart(distance, self.spacing[i], self.spacing[j], self.threshold)


def singular_set(
    u: BrenierPotential,
    source: Source,
    found: Cells | None = None,
    generator: torch.Generator | int | None = None,
    weights: Tensor | None = None,
) -> SingularSet:
    """Return the singular facets of u, the parts and modes of its targets, and the share of noise lost to the facets.

    A facet is singular when its jump |y_i − y_j| is long against the targets' own local spacing: longer, by a factor of
    1.25, than 99 % of the distances inside neighbourhoods of 12 targets, each in units of the geometric mean of the two
    spacings. Parts are the targets still connected by regular facets and regular nearest neighbours; fewer than six
    targets alone are no part and join the nearest one. Modes are the significant basins of the density in each part,
    see `mode_tree`.

    Args:
        u: a solved potential of n targets.
        source: the measure it carries.
        found: the cells, where they are known.
        generator: where the randomness comes from.
        weights: of the targets (n,), for their density; equal by default. A target without a cell has none.

    Source: Figalli, Regularity properties of optimal maps between nonconvex domains, 2010, for why T must jump.

    Example:
        >>> from brenier.measures import Gaussian
        >>> y = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) * 0.2
        >>> y += torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).repeat(20, 1)
        >>> u = BrenierPotential(y, -0.5 * y.square().sum(1))
        >>> s = singular_set(u, Gaussian(2), generator=torch.Generator().manual_seed(0))
        >>> s.modes.bincount()
        tensor([20, 20])
    """
    generator = seeded(generator)
    found = cells(u, source, generator=generator) if found is None else found
    alive = (found.masses > 0).nonzero()[:, 0]
    y = (u.points[alive] - u.centre).double()
    distinct, index = torch.unique(y, dim=0, return_inverse=True)
    n = len(distinct)
    near, distance = neighbours(distinct, min(NEIGHBOURHOOD, max(2, n // 10)))
    if near.shape[1] == 0:
        spacing, threshold = torch.ones(n, dtype=torch.float64, device=y.device), math.inf
    else:
        spacing = distance[:, min(SPACING, near.shape[1]) - 1]
        threshold = SLACK * _regular(distinct, near, spacing)
    # a target whose cell no sample entered has the place, spacing and mode of the nearest one that is alive
    place = nearest(u.points - u.centre, distinct, 1)[:, 0]
    place[alive] = index
    i, j = found.facets.T
    jumps = (u.points[i] - u.points[j]).double().norm(dim=1)
    cut = _apart(jumps, spacing[place[i]], spacing[place[j]], threshold)
    edges = torch.cat([place[found.facets[~cut]], _pairs(near)])
    lengths = (distinct[edges[:, 0]] - distinct[edges[:, 1]]).norm(dim=1)
    edges = edges[~_apart(lengths, spacing[edges[:, 0]], spacing[edges[:, 1]], threshold)]
    parts = _parts(distinct, edges)
    nu = torch.ones(len(alive), dtype=torch.float64, device=y.device) if weights is None else weights[alive].double()
    tree = mode_tree(distinct, y.new_zeros(n).index_add_(0, index, nu / nu.sum()), parts, edges, (near, distance))
    peak = alive[_first(index, n)[tree.peak]]
    tree = replace(tree, basin=tree.basin[place], peak=peak)
    none = Estimate(0.0, 0.0)
    result = SingularSet(found.facets[cut], tree.modes(), none, spacing[place], threshold, parts[place], tree)
    return replace(result, mass=_mass(u, source, result, generator))


def _apart(distance: Tensor, spacing_i: Tensor, spacing_j: Tensor, threshold: float) -> Tensor:
    return distance > threshold * (spacing_i * spacing_j).sqrt()


def _first(index: Tensor, n: int) -> Tensor:
    """The first row (n,) that has each of the numbers 0..n − 1 in `index`."""
    rows = torch.arange(len(index), device=index.device)
    return torch.full((n,), len(index), device=index.device).scatter_reduce_(0, index, rows, "amin")


def _pairs(near: Tensor) -> Tensor:
    own = torch.arange(len(near), device=near.device)[:, None].expand_as(near)
    return torch.stack([own, near], 2).flatten(0, 1)


def _regular(y: Tensor, near: Tensor, spacing: Tensor, at_most: int = 2048) -> float:
    """The 99 % quantile of |y_a − y_b| / sqrt(spacing_a spacing_b) over pairs inside neighbourhoods."""
    chosen = torch.linspace(0, len(y) - 1, min(len(y), at_most), device=y.device).long()
    group = torch.cat([chosen[:, None], near[chosen]], 1)
    distance = torch.cdist(y[group], y[group], compute_mode="donot_use_mm_for_euclid_dist")
    scale = spacing[group].sqrt()
    ratio = (distance / (scale[:, :, None] * scale[:, None, :])).flatten()
    ratio = ratio[ratio > 0]
    return ratio.kthvalue(max(1, int(0.99 * len(ratio)))).values.item()


def _parts(y: Tensor, edges: Tensor) -> Tensor:
    """Connected components, the largest first; those of SPACING targets or fewer join the part that is nearest."""
    n = len(y)
    first, second = edges.cpu().numpy().T
    graph = coo_array(([True] * len(edges), (first, second)), shape=(n, n))
    label = torch.as_tensor(connected_components(graph, directed=False)[1], device=y.device).long()
    size = label.bincount()
    lost = size[label] <= min(SPACING, int(size.max()) - 1)
    if lost.any():
        kept = (~lost).nonzero()[:, 0]
        nearest = torch.cdist(y[lost], y[kept]).argmin(1)
        label[lost] = label[kept[nearest]]
    order = torch.argsort(label.bincount(minlength=len(size)), descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=y.device)
    return rank[label]


def interpolation_weights(scores: Tensor, band: float) -> Tensor:
    """Convex weights (m, k − 1) of the best of k scores (m, k), sorted downwards: continuous, local, free of units.

    weight_j ∝ max(0, score_j − score_1 + band (score_1 − score_k)): 1 for the best alone inside its cell, shared near
    facets. In d dimensions the generic vertex joins d + 1 cells, so that with k = d + 2 score_1 > score_k everywhere.
    """
    if scores.shape[1] == 1:
        return torch.ones_like(scores)
    best, last = scores[:, :1], scores[:, -1:]
    weights = (scores[:, :-1] - best + band * (best - last)).clamp(min=0)
    total = weights.sum(1, keepdim=True)
    alone = torch.zeros_like(weights)
    alone[:, 0] = 1
    return torch.where(total > 0, weights / total, alone)


def crossing(y: Tensor, weights: Tensor, indices: Tensor, singular: SingularSet) -> Tensor:
    """Whether interpolating with `weights` (m, k) between targets `indices` (m, k) would join a singular pair, (m,)."""
    some = (weights > 0).sum(1) > 1
    out = torch.zeros(len(weights), dtype=torch.bool, device=weights.device)
    used = int((weights[some] > 0).sum(1).max()) if some.any() else 0
    if used:
        taken = weights[some][:, :used] > 0
        chosen = indices[some][:, :used]
        points = y[chosen].double()
        distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        apart = singular.separates(distance, chosen[:, :, None], chosen[:, None, :])
        out[some] = (apart & taken[:, :, None] & taken[:, None, :]).flatten(1).any(1)
    return out


def _mass(u: BrenierPotential, source: Source, singular: SingularSet, generator: torch.Generator | None) -> Estimate:
    view = NoiseView(u, source, generator)
    if not len(singular.facets):
        return Estimate(0.0, 0.0)
    shares = []
    for _ in range(16):
        _, values, indices = view.top(1024, min(u.dim + 2, view.n))
        lost = crossing(u.points, interpolation_weights(values, BAND), view.first[indices][:, :-1], singular)
        shares.append(lost.double().mean())
    each = torch.stack(shares)
    return Estimate(each.mean().item(), (each.std() / math.sqrt(len(each))).item())
