"""The cells of a Brenier potential as polygons: in the plane, or where a plane cuts those in space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from brenier.measures import Source, UniformPolytope
from brenier.transport import BrenierPotential, cells
from brenier.transport.domain import Domain

AT_MOST = 5000  # targets: more cells would be finer than the ink between them
RIM = -1  # what is across an edge where the region ends


class Tile(NamedTuple):
    """A cell as a polygon: its target, corners (p, 2) counterclockwise, u there (p,), who is across each edge (p,).

    Edge k runs from corner k to the next one.
    """

    target: int
    corners: np.ndarray
    values: np.ndarray
    across: np.ndarray


def tiles(u: BrenierPotential, source: Source, height: float | None = None) -> list[Tile]:
    """The cells of u in the region of `source`, d = 2, or where the plane x_3 = `height` cuts them, d = 3.

    On that plane u(x) = max_i <x', y'_i> + (h_i + height y_i3) with x' = (x_1, x_2): a potential again. Each cell is
    clipped by the half planes of its neighbours and by the region. Empty cells are left out; one of several equal
    planes stands for all.

    Args:
        u: a potential of at most 5,000 targets in 2 or 3 dimensions.
        source: where to look. Its density doesn't matter: a region is a window on the cells under any other source.
        height: where to cut in space; by default the middle of the region.

    Raises:
        ValueError: other dimensions, too many targets, a source without a region, a height outside it.

    Example:
        >>> from brenier.measures import UniformCube
        >>> u = BrenierPotential(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([0.25, 0.0]))
        >>> tiles(u, UniformCube(2))[0].corners.tolist()
        [[0.0, 0.0], [0.25, 0.0], [0.25, 1.0], [0.0, 1.0]]
    """
    y, h = (part.detach().cpu().double().numpy() for part in (u.points, u.heights))
    n, d = y.shape
    if d not in (2, 3):
        raise ValueError(f"cells are drawn in 2 or 3 dimensions, got {d}")
    if source.dim != d:
        raise ValueError(f"source and potential must share a dimension, got {source.dim} and {d}")
    if n > AT_MOST:
        raise ValueError(f"cells are drawn for at most {AT_MOST:,} targets, got {n:,}")
    domain = Domain.of(source)
    if domain is None:
        raise ValueError(f"cells are drawn in a region, such as a cube, got {type(source).__name__} in {d} dimensions")
    if d == 2 and height is not None:
        raise ValueError(f"height is for cells in 3 dimensions, got {height:g} in 2")
    planes = domain.planes
    if d == 3:
        low, high = domain.low[2], domain.high[2]
        z = (low + high) / 2 if height is None else height
        if not low < z < high:
            raise ValueError(f"height must lie between {low:g} and {high:g}, got {z:g}")
        y, h = y[:, :2], h + z * y[:, 2]
        planes = np.column_stack([planes[:, :2], planes[:, 3] - z * planes[:, 2]])
    (left, low), (right, high) = domain.low[:2], domain.high[:2]
    box, rim = np.array([[left, low], [right, low], [right, high], [left, high]]), np.full(4, RIM)
    # a box around the region knows all neighbours that the region does
    found = cells(BrenierPotential(torch.from_numpy(y), torch.from_numpy(h)), UniformPolytope(torch.from_numpy(box)))
    region = _clipped(box, rim, planes, np.full(len(planes), RIM))
    i, j = found.facets.numpy().T
    made = []
    for k in np.unique(found.facets) if len(i) else [int(found.masses.argmax())]:
        rivals = np.append(j[i == k], i[j == k])
        halves = np.column_stack([y[rivals] - y[k], h[k] - h[rivals]])
        corners, across = _clipped(box, rim, halves, rivals)
        if (corners @ planes[:, :2].T > planes[:, 2]).any():
            corners, across = _clipped(*region, halves, rivals)
        if len(corners):
            made.append(Tile(int(k), corners, corners @ y[k] + h[k], across))
    return made


def _clipped(
    corners: np.ndarray, across: np.ndarray, planes: np.ndarray, names: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The part of a convex polygon where planes[:, :2] x ≤ planes[:, 2]; a new edge gets the name of its plane."""
    for plane, name in zip(planes, names, strict=True):
        side = corners @ plane[:2] - plane[2]
        out, ahead = side > 0, np.append(np.arange(1, len(side)), 0)
        if out.any():
            crossed = np.flatnonzero(out != out[ahead])
            share = side[crossed] / (side[crossed] - side[ahead[crossed]])
            crossings = corners[crossed] + share[:, None] * (corners[ahead[crossed]] - corners[crossed])
            order = np.argsort(np.append(np.flatnonzero(~out), crossed + 0.5))
            corners = np.concatenate([corners[~out], crossings])[order]
            across = np.append(across[~out], np.where(out[crossed], across[crossed], name))[order]
    return corners, across
