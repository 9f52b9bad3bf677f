"""Lists of convex polygons as padded tensors: clipping all of them at once, and who is whose neighbour."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

DOMAIN = -1  # the label of an edge of the domain
TOUCHING = 1e-8  # the share of a cut below which two edges on it do not count as overlapping


class Polygons(NamedTuple):
    """p convex polygons: corners (p, V, 2) counterclockwise, the first `size` (p,) of each; labels (p, V) of the edges
    from each corner to the next; plane (p,), the slice that a polygon lies in.
    """

    corners: Tensor
    labels: Tensor
    size: Tensor
    plane: Tensor

    def take(self, rows: Tensor) -> Polygons:
        """Some of them, by number or by mask."""
        return Polygons(*(part[rows] for part in self))

    def inside(self) -> Tensor:
        """Which places of a row hold corners, (p, V)."""
        return torch.arange(self.corners.shape[1], device=self.size.device) < self.size[:, None]

    def next(self) -> Tensor:
        """The place of the corner after each, (p, V)."""
        place = torch.arange(self.corners.shape[1], device=self.size.device)
        return torch.where(place + 1 < self.size[:, None], place + 1, 0)

    def centre(self) -> Tensor:
        """The mean of the corners, (p, 2): an interior point."""
        return (self.corners * self.inside()[..., None]).sum(1) / self.size[:, None]

    def area(self) -> Tensor:
        """The areas (p,), of triangles that share the first corner."""
        side = (self.corners - self.corners[:, :1]) * self.inside()[..., None]
        ahead = side.gather(1, self.next()[..., None].expand_as(side))
        return (side[..., 0] * ahead[..., 1] - side[..., 1] * ahead[..., 0]).sum(1) / 2


def gathered(parts: list[Polygons]) -> Polygons:
    """One list of polygons, as wide as its largest."""
    wide = max(int(part.size.max()) if len(part.size) else 0 for part in parts)
    corners, labels = [], []
    for part in parts:
        missing = wide - part.corners.shape[1]
        corners.append(F.pad(part.corners[:, :wide], (0, 0, 0, max(missing, 0))))
        labels.append(F.pad(part.labels[:, :wide], (0, max(missing, 0)), value=DOMAIN))
    return Polygons(
        torch.cat(corners), torch.cat(labels), torch.cat([p.size for p in parts]), torch.cat([p.plane for p in parts])
    )


def clip(polygons: Polygons, side: Tensor, label: Tensor) -> Polygons:
    """The parts where an affine function with values `side` (p, V) at the corners is ≥ 0, of size 0 where it is not.

    New edges get the label (p,).
    """
    p, wide, _ = polygons.corners.shape
    inside, order = polygons.inside(), polygons.next()
    side = torch.where(inside, side, -1.0)
    corner_ahead = polygons.corners.gather(1, order[..., None].expand_as(polygons.corners))
    side_ahead = side.gather(1, order)
    kept, crossed = side >= 0, (side * side_ahead < 0) & inside
    share = torch.where(crossed, side / torch.where(crossed, side - side_ahead, 1.0), 0.0)
    crossing = polygons.corners + share[..., None] * (corner_ahead - polygons.corners)
    leaving = side_ahead < 0
    from_corner = torch.where(leaving & (side == 0), label[:, None], polygons.labels)
    from_crossing = torch.where(leaving, label[:, None], polygons.labels)
    keep = torch.stack([kept & inside, crossed], 2).view(p, 2 * wide)
    corners = torch.stack([polygons.corners, crossing], 2).view(p, 2 * wide, 2)
    labels = torch.stack([from_corner, from_crossing], 2).view(p, 2 * wide)
    size = keep.sum(1)
    size = torch.where(size > 2, size, 0)
    first = keep.byte().argsort(dim=1, descending=True, stable=True)[:, : max(int(size.max()) if p else 0, 3)]
    return Polygons(
        corners.gather(1, first[..., None].expand(*first.shape, 2)), labels.gather(1, first), size, polygons.plane
    )


def shared(polygons: Polygons) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of polygons (e, 2) on two sides of a cut, the ends (e, 2, 2) of the edge they share, and its cut (e,).

    A label is 2 cut + side. The edges of a cut, on either of its sides, are intervals on one segment; neighbours are
    those that overlap.
    """
    following = polygons.corners.gather(1, polygons.next()[..., None].expand_as(polygons.corners))
    real = polygons.inside() & (polygons.labels >= 0)
    ends = torch.stack([polygons.corners[real], following[real]], 1)
    polygon = real.nonzero()[:, 0]
    side = polygons.labels[real] % 2
    cuts, cut = (polygons.labels[real] // 2).unique(return_inverse=True)
    along = ends.new_zeros(len(cuts), 2).index_add(0, cut, (ends[:, 1] - ends[:, 0]) * (1 - 2 * side)[:, None])
    middle = ends.new_zeros(len(cuts), 2).index_add(0, cut, ends.mean(1)) / cut.bincount(minlength=len(cuts))[:, None]
    along = along / along.square().sum(1, keepdim=True)
    place = ((ends - middle[cut][:, None]) * along[cut][:, None]).sum(2).sort(1).values + 2 * cut[:, None]
    order = place[:, 0].argsort()
    one, other = order[side[order] == 0], order[side[order] == 1]
    first = torch.searchsorted(place[other, 1].contiguous(), place[one, 0] + TOUCHING)
    after = torch.searchsorted(place[other, 0].contiguous(), place[one, 1] - TOUCHING)
    count = (after - first).clamp(min=0)
    one, first = one.repeat_interleave(count), first.repeat_interleave(count)
    rank = torch.arange(len(one), device=one.device) - (count.cumsum(0) - count).repeat_interleave(count)
    other = other[first + rank]
    low, high = place[one, 0].maximum(place[other, 0]), place[one, 1].minimum(place[other, 1])
    of = cut[one]
    step = torch.stack([low, high], 1) - 2 * of[:, None]
    borders = middle[of][:, None] + step[..., None] * (along / along.square().sum(1, keepdim=True))[of][:, None]
    return torch.stack([polygon[one], polygon[other]], 1), borders, cuts[of]
