"""Figures of the convex core: the cells of a Brenier potential, and the polytope above them that can be turned."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure

from brenier.measures import Source
from brenier.report.style import GROUPS, HAIR, INK, PAPER, WIDTH, as_numpy, figure, panel
from brenier.report.tiles import RIM, Tile, tiles
from brenier.transport import BrenierPotential

PLACES = ["#1f5aa6", "#cc6677", "#44aa99", "#e0a526"]  # of targets lower left, lower right, upper left, upper right
PALER = 0.2  # the share of white in the colour of a mode
STEEP = 0.3  # how high the polytope is drawn, by its width
ABOVE = 2.3  # how high above its diagram, by its own height
LIFT = 0.003  # of lines from the faces that they bound, by the same: in one plane they would flicker
SUN = np.array([-0.4, 0.3, 1.0]) / np.sqrt(1.25)
LIGHT = {"ambient": 1, "diffuse": 0, "specular": 0, "fresnel": 0}  # faces come shaded: plotly shades their triangles
ZOOM = 1.35  # of a drawing without perspective, where the polytope stands upright on its diagram
CAMERA = {"eye": {"x": 0.4, "y": -1.5, "z": 1.25}, "projection": {"type": "orthographic"}}


def power_diagram(
    u: BrenierPotential, source: Source, modes: Any = None, facets: Any = None, height: float | None = None
) -> Figure:
    """The noise cut into the cells W_i, beside the targets y_i that they go to, in the same colours.

    Args:
        u: a potential of n ≤ 5,000 targets in 2 or 3 dimensions.
        source: its region is drawn; a source without one needs the window of one that has it, such as a disk.
        modes: mode of each target (n,), told by its colour; without modes, or of more than ten, places tell colours.
        facets: singular facets (k, 2), pairs of targets, where T jumps: dark.
        height: of the plane x_3 = height that cuts cells in space, the middle by default; targets are seen along x_3.

    Raises:
        ValueError: what `tiles` raises; modes or facets of another shape.

    Example:
        >>> import torch
        >>> from brenier.measures import UniformCube
        >>> u = BrenierPotential(torch.eye(2), torch.zeros(2))
        >>> power_diagram(u, UniformCube(2), facets=[[0, 1]])
        <Figure size 1440x... with 2 Axes>
    """
    made, y = tiles(u, source, height), as_numpy(u.points).astype(float)
    colours, (ends, singular) = _colours(y, modes), _edges(made, facets, len(y))
    seen, thin = [tile.target for tile in made], min(0.8, 12 / np.sqrt(len(made)))
    drawn = figure(WIDTH, WIDTH * 0.54)
    left, right = drawn.subplots(1, 2, subplot_kw={"aspect": "equal", "adjustable": "datalim", "box_aspect": 1})
    panel(left, f"Noise in {len(made):,} cells" + (", cut where T jumps" if singular.any() else ""), plain=True)
    shapes, cuts = [tile.corners for tile in made], list(ends[singular, :, :2])
    left.add_collection(PolyCollection(shapes, facecolors=colours[seen], edgecolors=PAPER, linewidths=thin))
    left.add_collection(LineCollection(cuts, colors=INK, linewidths=1.6, capstyle="round"))
    left.margins(0.02)
    left.autoscale_view()
    panel(right, "Their targets" + (", seen along the third axis" if u.dim == 3 else ""), plain=True)
    for rows, tint in ((np.setdiff1d(np.arange(len(y)), seen), HAIR), (seen, colours[seen])):
        right.scatter(y[rows, 0], y[rows, 1], s=min(14, 6000 / len(seen)), c=tint, linewidths=0)
    return drawn


def brenier_surface(
    u: BrenierPotential, source: Source, modes: Any = None, facets: Any = None, height: float | None = None
) -> go.Figure:
    """The Brenier potential as a polytope that can be turned, a flat face for each cell, above its power diagram.

    Drawn is u less the affine function nearest to it in the corners of the cells, which would hide the ridges: an
    affine function moves no cell and no ridge. Takes what `power_diagram` takes, and raises what it raises.

    Example:
        >>> import torch
        >>> from brenier.measures import UniformCube
        >>> u = BrenierPotential(torch.eye(2), torch.zeros(2))
        >>> len(brenier_surface(u, UniformCube(2)).data)
        6
    """
    made, y = tiles(u, source, height), as_numpy(u.points).astype(float)
    colours, (ends, singular) = _colours(y, modes), _edges(made, facets, len(y))
    top = np.concatenate([np.column_stack([tile.corners, tile.values]) for tile in made])
    *slope, level = np.linalg.lstsq(np.column_stack([top[:, :2], np.ones(len(top))]), top[:, 2])[0]
    for points in (top, ends):
        points[..., 2] -= points[..., :2] @ slope + level
    wide, rise = np.ptp(top[:, :2], axis=0), np.ptp(top[:, 2]) if len(made) > 1 else 1.0
    floor = top[:, 2].min() - ABOVE * rise
    seen, count = [tile.target for tile in made], np.array([len(tile.corners) for tile in made])
    tilt = np.column_stack([(slope - y[seen, :2]) * (STEEP * wide.max() / rise), np.ones(len(made))])
    shade = 0.75 + 0.25 * (tilt @ SUN / np.linalg.norm(tilt, axis=1)).clip(0)
    first = np.repeat(count.cumsum() - count, count - 2)  # corner of a face, which is a fan of triangles
    after = first + np.concatenate([np.arange(1, size - 1) for size in count])
    drawn, lift = go.Figure(), np.array([0, 0, LIFT * rise])
    below, bottom = (np.concatenate([p[..., :2], np.full_like(p[..., 2:], floor)], -1) for p in (top, ends))
    both, twice = np.concatenate([ends - lift, ends + lift]), np.append(singular, singular)  # seen from either side
    for corners, lines, dark, light in ((below, bottom + lift, singular, 1), (top, both, twice, shade[:, None])):
        paint = np.repeat([to_hex(colour) for colour in colours[seen] * light], count - 2)
        faces = {"i": first, "j": after, "k": after + 1, "facecolor": paint, "lighting": LIGHT}
        drawn.add_mesh3d(**_xyz(corners), **faces, hoverinfo="skip")
        for these, colour, width in ((~dark, PAPER, min(1.5, 36 / np.sqrt(len(made)))), (dark, INK, 5)):
            broken = np.concatenate([lines[these], np.full((these.sum(), 1, 3), np.nan)], 1).reshape(-1, 3)
            style = {"color": colour, "width": width}
            drawn.add_scatter3d(**_xyz(broken), mode="lines", line=style, hoverinfo="skip")
    sides = ZOOM * np.append(wide / wide.max(), STEEP * (1 + ABOVE))
    drawn.update_scenes(aspectmode="manual", aspectratio=dict(zip("xyz", sides, strict=True)), camera=CAMERA)
    drawn.update_scenes(xaxis_visible=False, yaxis_visible=False, zaxis_visible=False)
    margin = {"l": 0, "r": 0, "t": 0, "b": 0}
    return drawn.update_layout(height=560, margin=margin, showlegend=False, paper_bgcolor="rgba(0,0,0,0)")


def _xyz(points: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip("xyz", points.T.astype(np.float32), strict=True))


def _colours(y: np.ndarray, modes: Any) -> np.ndarray:
    """A colour (n, 3) for each target: of its mode, where they are ten at most, or of its own, or its mode's, place."""
    names, group = np.unique(np.arange(len(y)) if modes is None else as_numpy(modes), return_inverse=True)
    if group.shape != (len(y),):
        raise ValueError(f"modes must have one entry per target, got shape {group.shape} for {len(y)} targets")
    if modes is not None and len(names) <= len(GROUPS):
        return to_rgba_array(GROUPS)[group, :3] * (1 - PALER) + PALER
    middle = np.stack([np.bincount(group, column) for column in y.T[:2]], 1) / np.bincount(group)[:, None]
    extent = np.ptp(middle, axis=0)
    a, b = ((middle - middle.min(0)) / np.where(extent > 0, extent, 1)).T
    shares = np.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b], 1)
    pale = 0.35 * (1 - np.hypot(2 * a - 1, 2 * b - 1).clip(0, 1))[:, None]
    return (shares @ to_rgba_array(PLACES)[:, :3] * (1 - pale) + pale)[group]


def _edges(made: list[Tile], facets: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Every edge once, its ends (e, 2, 3) with their values; whether it is one of the facets (e,)."""
    pairs = np.empty((0, 2), int) if facets is None or not len(facets) else as_numpy(facets)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"facets must have shape (k, 2), got {pairs.shape}")
    if len(pairs) and not 0 <= pairs.min() <= pairs.max() < n:
        raise ValueError(f"facets must name targets 0..{n - 1}, got {pairs.min()}..{pairs.max()}")
    corners = [np.column_stack([tile.corners, tile.values]) for tile in made]
    ends = np.concatenate([np.stack([part, np.roll(part, -1, 0)], 1) for part in corners])
    i, j = np.concatenate([[np.full(len(tile.across), tile.target), tile.across] for tile in made], 1)
    once, named = (i < j) | (j == RIM), np.sort(pairs, 1) @ [n, 1]
    return ends[once], ((j != RIM) & np.isin(i * n + j, named))[once]
