"""Figures of a chart and its cells: a surface, its codes in the plane, what comes back, and where each map bends."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure

from brenier.manifold.cells import Cells
from brenier.report.style import INK, PAPER, WIDTH, as_numpy, figure, panel

AROUND = ["#1f5aa6", "#2a9d8f", "#8ab17d", "#e0a526", "#c4512d", "#a23b72"]  # of codes, by their angle
MIDDLE = "#f4ead5"  # of codes in the middle
CHECKED = 0.16  # how much lighter or darker a cell is than its place
SUN = np.array([0.35, 0.45, 1.0]) / np.linalg.norm([0.35, 0.45, 1.0])
SHADE = 0.5  # of a face that is turned away from the sun


def chart_figure(
    vertices: Any, faces: Any, codes: Any, rebuilt: Any, view: tuple[float, float] = (-20.0, 0.0)
) -> Figure:
    """A surface, its codes in the plane, and the surface that the decoder makes of them; one colour, one place.

    Args:
        vertices: (n, 3), the second axis upwards.
        faces: triangles (f, 3), rows of vertices.
        codes: of the vertices (n, 2).
        rebuilt: what the decoder makes of the codes (n, 3).
        view: degrees to the right and upwards from which one looks along the third axis.

    Raises:
        ValueError: another shape.

    Example:
        >>> chart_figure(np.eye(3), [[0, 1, 2]], np.eye(3)[:, :2], np.eye(3))
        <Figure size 1440x...
    """
    x, y, z, f = as_numpy(vertices), as_numpy(rebuilt), as_numpy(codes), as_numpy(faces)
    n = len(x)
    for name, part, shape in (("vertices", x, (n, 3)), ("rebuilt", y, (n, 3)), ("codes", z, (n, 2))):
        if part.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {part.shape}")
    if f.ndim != 2 or f.shape[1] != 3:
        raise ValueError(f"faces must have shape (f, 3), got {f.shape}")
    colours = places(z[f].mean(1), z)
    made = figure(WIDTH, WIDTH * 0.46)
    left, middle, right = made.subplots(1, 3, subplot_kw={"aspect": "equal", "adjustable": "datalim"})
    panel(left, "A surface", plain=True)
    panel(middle, "Its code in the plane", plain=True)
    panel(right, "What the decoder makes of it", plain=True)
    _surface(left, x[f], colours, view)
    _polygons(middle, z[f], colours)
    middle.add_collection(LineCollection(z[_rim(f)], colors=INK, linewidths=0.7, capstyle="round"))
    _surface(right, y[f], colours, view)
    for axes in (left, right):  # at one scale
        axes.update_datalim(np.concatenate([x, y]) @ _turn(view)[:2].T)
        axes.autoscale_view()
    return made


def cell_figure(
    vertices: Any, faces: Any, codes: Any, surface: Cells, plane: Cells, view: tuple[float, float] = (-20.0, 0.0)
) -> Figure:
    """The cells of an encoder on a surface and those of its decoder in the plane of the codes, in colours.

    A colour tells the place of the code; each cell is a little lighter or darker than its neighbours.

    Args:
        vertices: (n, 3), the second axis upwards.
        faces: triangles (f, 3), rows of vertices.
        codes: of the vertices (n, 2): their rim is drawn over the decoder's cells.
        surface: `surface_cells` of the encoder on these vertices and faces.
        plane: `relu_cells` of the decoder.
        view: degrees to the right and upwards from which one looks along the third axis.

    Raises:
        ValueError: cells of another surface, or of a map to other than two codes.

    Example:
        >>> import torch
        >>> from brenier.manifold.cells import relu_cells, surface_cells
        >>> x, f, up = torch.eye(3), torch.tensor([[0, 1, 2]]), torch.nn.Linear(2, 3)
        >>> encoder = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> cell_figure(x, f, x[:, :2], surface_cells(encoder, x, f), relu_cells(up, [[0.0, 0.0], [1.0, 1.0]]))
        <Figure size 1440x...
    """
    x, f, z = as_numpy(vertices), as_numpy(faces), as_numpy(codes)
    if int(surface.plane.max()) >= len(f):
        raise ValueError(f"surface must hold cells of these {len(f)} faces, got one of face {int(surface.plane.max())}")
    if surface.offset.shape[1] != 2:
        raise ValueError(f"surface must hold cells of a map to 2 codes, got {surface.offset.shape[1]}")
    made = figure(WIDTH, WIDTH * 0.6)
    left, right = made.subplots(1, 2, subplot_kw={"aspect": "equal", "adjustable": "datalim"})
    kinds = len(np.unique(as_numpy(surface.codes), axis=0))
    panel(left, f"The encoder's {kinds:,} cells on the surface", plain=True)
    panel(right, f"The decoder's {len(plane):,} cells in the plane", plain=True)

    a, b, c = x[f].transpose(1, 0, 2)
    corners, borders, triangle = as_numpy(surface.corners), as_numpy(surface.borders), as_numpy(surface.plane)
    first = as_numpy(surface.start)[1:-1]
    of = np.repeat(triangle, as_numpy(surface.start.diff()))
    place = a[of] + corners[:, :1] * (b - a)[of] + corners[:, 1:] * (c - a)[of]
    matrix, offset = as_numpy(surface.matrix), as_numpy(surface.offset)
    at = (matrix @ as_numpy(surface.centres)[:, :, None])[..., 0] + offset
    colours = _checked(places(at, z), surface)
    _surface(left, np.split(place, first), colours, view, normals=_normals(x[f])[triangle])
    shared = triangle[as_numpy(surface.neighbours)[:, 0]][:, None]
    ends = a[shared] + borders[..., :1] * (b - a)[shared] + borders[..., 1:] * (c - a)[shared]
    seen = (_normals(x[f])[shared[:, 0]] @ _turn(view)[2]) > 0
    left.add_collection(LineCollection((ends @ _turn(view).T)[seen][..., :2], colors=PAPER, linewidths=0.2, alpha=0.6))

    _polygons(right, [as_numpy(part) for part in plane.polygons], _checked(places(as_numpy(plane.centres), z), plane))
    between = as_numpy(plane.borders)
    right.add_collection(
        LineCollection(list(between), colors=PAPER, linewidths=min(0.5, 20 / np.sqrt(len(plane))), alpha=0.6)
    )
    right.add_collection(LineCollection(z[_rim(f)], colors=INK, linewidths=1.0, capstyle="round"))
    return made


def places(points: np.ndarray, among: np.ndarray) -> np.ndarray:
    """A colour (m, 3) for each point of the plane (m, 2): by the angle around the middle of others, pale there."""
    low, high = among.min(0), among.max(0)
    a, b = ((2 * points - low - high) / np.where(high > low, high - low, 1)).T
    turn = (np.arctan2(b, a) / (2 * np.pi) % 1) * len(AROUND)
    hues = to_rgba_array([*AROUND, AROUND[0]])[:, :3]
    first = np.floor(turn).astype(int) % len(AROUND)
    share, far = (turn % 1)[:, None], np.hypot(a, b).clip(0, 1)[:, None] ** 0.8
    hue = (1 - share) * hues[first] + share * hues[first + 1]
    return far * hue + (1 - far) * to_rgba_array(MIDDLE)[0, :3]


def _checked(colours: np.ndarray, cells: Cells) -> np.ndarray:
    """Colours made lighter or darker by the code of the cell, one shade a code."""
    _, code = np.unique(as_numpy(cells.codes), axis=0, return_inverse=True)
    shade = CHECKED * np.random.default_rng(0).uniform(-1, 1, code.max() + 1)[code, None]
    return np.where(shade > 0, colours + shade * (1 - colours), colours * (1 + shade))


def _rim(faces: np.ndarray) -> np.ndarray:
    """The edges (e, 2) of one face only."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    once, count = np.unique(edges, axis=0, return_counts=True)
    return once[count == 1]


def _turn(view: tuple[float, float]) -> np.ndarray:
    """The rotation whose rows are right, upwards and towards the one who looks."""
    (p, q), (r, s) = ((np.cos(angle), np.sin(angle)) for angle in np.deg2rad(view))
    return np.array([[1, 0, 0], [0, r, -s], [0, s, r]]) @ np.array([[p, 0, -q], [0, 1, 0], [q, 0, p]])


def _normals(triangles: np.ndarray) -> np.ndarray:
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    size = np.linalg.norm(normal, axis=1, keepdims=True)
    return normal / np.where(size > 0, size, 1)


def _surface(
    axes: Axes, shapes: Any, colours: np.ndarray, view: tuple[float, float], normals: np.ndarray | None = None
) -> None:
    """Polygons in space, those further away first, in the light of the sun."""
    turn = _turn(view)
    turned = [part @ turn.T for part in shapes]
    normal = _normals(np.asarray(turned)) if normals is None else normals @ turn.T
    light = SHADE + (1 - SHADE) * (normal @ SUN).clip(0)
    order = np.argsort([part[:, 2].mean() for part in turned])
    _polygons(axes, [turned[k][:, :2] for k in order], (colours * light[:, None]).clip(0, 1)[order])


def _polygons(axes: Axes, shapes: Any, colours: np.ndarray) -> None:
    axes.add_collection(
        PolyCollection(list(shapes), facecolors=colours, edgecolors=colours, linewidths=0.15, rasterized=True)
    )
    axes.margins(0.02)
    axes.autoscale_view()
