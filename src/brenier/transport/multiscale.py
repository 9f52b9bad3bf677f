"""From coarse to fine: the transport to groups of targets says where the transport to each of them begins."""

from __future__ import annotations

import torch
from torch import Tensor

from brenier.measures import Discrete, Source
from brenier.transport.cells import cells
from brenier.transport.hierarchy import bisect
from brenier.transport.potential import BrenierPotential
from brenier.transport.rows import Rows

FEW = 256  # targets that need no coarser ones
HALVINGS = 4  # of the targets into groups: sixteen targets become one, or some more


def grouped(target: Discrete) -> tuple[Discrete, Tensor]:
    """The means of groups of targets with their weights, and the group (n,) of each target.

    Example:
        >>> coarse, group = grouped(Discrete(torch.arange(64.0)[:, None]))
        >>> coarse.n, coarse.points[0], group[:2]
        (4, tensor([7.5000]), tensor([0, 0]))
    """
    times = max(0, target.n.bit_length() - 1 - HALVINGS)
    rows, nu = Rows(target.points), target.weights.double()
    group = bisect(rows, times)
    weights = nu.new_zeros(2**times).index_add_(0, group, nu)
    sums = nu.new_zeros(2**times, target.dim)
    for span, y in rows.chunks():
        sums.index_add_(0, group[span], nu[span, None] * y)
    seen = weights > 0
    place = seen.cumsum(0) - 1
    points = (sums[seen] / weights[seen, None]).to(target.points)
    return Discrete(points, weights[seen] / weights.sum()), place.clamp(min=0)[group]


def refined(
    u: BrenierPotential, source: Source, target: Discrete, group: Tensor, generator: torch.Generator | None
) -> BrenierPotential:
    """Where a solve for all targets begins, by the potential u of their groups.

    Group g, of mean Y_g and root mean square radius s_g, takes the cell of u, of centroid c_g and radius r_g, by its
    best isotropic map: h_i = H_g − <c_g, y_i − Y_g> − ½ (r_g/s_g) |y_i − Y_g|².
    """
    found = cells(u, source, generator=generator)
    nu = target.weights.double()
    middles, radii = found.centroids.double().nan_to_num(), found.radii.double().nan_to_num()
    heights, squares = torch.empty_like(nu), torch.empty_like(nu)
    for span, y in Rows(target.points).chunks():
        away = y - u.points[group[span]]
        squares[span] = away.square().sum(1)
        heights[span] = u.heights[group[span]] - (middles[group[span]] * away).sum(1)
    share = nu.new_zeros(len(u.points)).index_add_(0, group, nu)
    size = (nu.new_zeros(len(u.points)).index_add_(0, group, nu * squares) / share).sqrt()
    wide = torch.where(size > 0, radii / size, 0.0)
    return BrenierPotential(target.points, heights - 0.5 * wide[group] * squares)
