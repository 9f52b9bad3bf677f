"""Maps of the codes with their modes and the singular set: still ones, and one that can be turned and hovered."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from brenier.report.arrays import matrix
from brenier.report.style import GROUPS, HAIR, INK, MUTED, PAPER, WIDTH, as_numpy, figure, palette, panel, plane, split

POINTS = 6000  # drawn at most: more would only be ink, or megabytes


def _checked(codes: Any, groups: Any, facets: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes (n, d), one group per code and facets (k, 2) of row numbers."""
    codes = matrix(codes, "codes")
    groups = np.full(len(codes), "codes") if groups is None else as_numpy(groups)
    facets = np.empty((0, 2), int) if facets is None else as_numpy(facets)
    if len(groups) != len(codes):
        raise ValueError(f"groups must have one entry per code, got {len(groups)} for {len(codes)} codes")
    if facets.ndim != 2 or facets.shape[1] != 2:
        raise ValueError(f"facets must have shape (k, 2), got {facets.shape}")
    if len(facets) and (facets.min() < 0 or facets.max() >= len(codes)):
        raise ValueError(f"facets must name rows 0..{len(codes) - 1} of codes, got {facets.min()}..{facets.max()}")
    return codes, groups, facets


def _thin(size: int, limit: int) -> np.ndarray:
    """At most `limit` row numbers, evenly spread, so that a figure is the same each time."""
    return np.linspace(0, size - 1, min(size, limit)).round().astype(int)


def _draw(axes: Axes, points: np.ndarray, groups: np.ndarray, colours: dict[Any, str]) -> None:
    rows = _thin(len(points), POINTS)
    for name, colour, inside in split(groups[rows], colours):
        shown = points[rows][inside]
        axes.scatter(shown[:, 0], shown[:, 1], s=5, color=colour, alpha=0.7, linewidths=0, label=name, rasterized=True)


def _number(axes: Axes, points: np.ndarray, groups: np.ndarray) -> None:
    """Write the name of each of the 30 largest groups at its median point: there are fewer colours than groups."""
    names, counts = np.unique(groups, return_counts=True)
    if len(names) <= len(GROUPS):
        return
    for name in names[np.argsort(-counts, kind="stable")[:30]]:
        x, y = np.median(points[groups == name], 0)
        text = axes.text(x, y, str(name), fontsize=7, fontweight="bold", color=INK, ha="center", va="center")
        text.set_path_effects([withStroke(linewidth=2, foreground=PAPER)])


def _key(made: Figure, axes: Axes, what: str) -> None:
    """Name the groups below the panels."""
    handles, names = axes.get_legend_handles_labels()
    if len(names) > 1:
        columns = int(16 * made.get_size_inches()[0]) // (max(map(len, names)) + 5)
        key = made.legend(
            handles,
            names,
            title=what,
            loc="outside lower center",
            ncols=min(len(names), columns),
            frameon=False,
            markerscale=2,
            columnspacing=1,
            handletextpad=0,
        )
        for text in (*key.get_texts(), key.get_title()):
            text.set(fontsize=7.5, color=MUTED)


def code_map(
    codes: Any, groups: Any = None, facets: Any = None, new: Any = None, new_groups: Any = None, what: str = "mode"
) -> Figure:
    """The codes in the plane (their principal one for d > 2), coloured by group, the singular set drawn on top.

    Args:
        codes: training codes (n, d).
        groups: mode or label of each code (n,).
        facets: singular facets (k, 2), pairs of rows of `codes`, drawn as segments between the two.
        new: generated codes (m, d), drawn beside in the same plane.
        new_groups: mode or label of each new code (m,).
        what: what the groups are.

    Example:
        >>> code_map(np.eye(3), [0, 0, 1], facets=[[0, 2], [1, 2]])
        <Figure size 1440x...
    """
    codes, groups, facets = _checked(codes, groups, facets)
    centre, axes, kept = plane(codes)
    flat, colours = (codes - centre) @ axes, palette(groups)
    made = figure(WIDTH, WIDTH * (0.62 if new is None else 0.64))
    panels = 1 if new is None else 2
    frames = made.subplots(1, panels, squeeze=False, sharex=True, sharey=True, subplot_kw={"aspect": "equal"})[0]
    title = "Training codes" + (" and the singular set" if len(facets) else "")
    place = ("code 1", "code 2") if codes.shape[1] <= 2 else (f"principal plane, {kept:.0%} of the variance", "")
    _draw(panel(frames[0], title, *place), flat, groups, colours)
    segments = flat[facets[_thin(len(facets), POINTS)]]
    if what == "mode":
        _number(frames[0], flat, groups)
    frames[0].add_collection(LineCollection(list(segments), colors=INK, linewidths=0.5, alpha=0.35))
    if new is not None:
        new, kinds, _ = _checked(new, new_groups, None)
        _draw(panel(frames[1], "New codes", place[0]), (new - centre) @ axes, kinds, colours)
    _key(made, frames[0], what)
    return made


def noise_map(noise: Any, modes: Any, accepted: Any) -> Figure:
    """The noise (m, 2), coloured by the mode that the transport sends it to; noise on the singular set is dark.

    Example:
        >>> noise_map(np.eye(2), [0, 1], [True, False])
        <Figure size 892.8x892.8 with 1 Axes>
    """
    noise, modes, _ = _checked(noise, modes, None)
    accepted = as_numpy(accepted).astype(bool)
    if noise.shape[1] != 2 or len(accepted) != len(noise):
        raise ValueError(f"noise must have shape (m, 2) and one verdict per row, got {noise.shape} and {len(accepted)}")
    made = figure(WIDTH * 0.62, WIDTH * 0.62)
    axes = made.subplots(subplot_kw={"aspect": "equal"})
    panel(axes, "Where the noise goes, and where the map jumps", "noise 1", "noise 2")
    _draw(axes, noise[accepted], modes[accepted], palette(modes))
    axes.scatter(
        noise[~accepted, 0], noise[~accepted, 1], s=5, color=INK, linewidths=0, label="redrawn", rasterized=True
    )
    _key(made, axes, "mode")
    return made


def interactive_map(
    codes: Any, groups: Any = None, facets: Any = None, new: Any = None, what: str = "mode"
) -> go.Figure:
    """The codes in two dimensions, or the first three principal ones, to turn, hover and switch group by group.

    Takes what `code_map` takes; new codes are there to be switched on in the legend.

    Example:
        >>> len(interactive_map(np.eye(3), [0, 0, 1], facets=[[0, 2]]).data)
        3
    """
    codes, groups, facets = _checked(codes, groups, facets)
    dim = min(3, max(2, codes.shape[1]))
    centre, axes, _ = plane(codes, dim)
    flat, rows = (codes - centre) @ axes, _thin(len(codes), POINTS)
    kind = go.Scatter3d if dim == 3 else go.Scatter
    made = go.Figure()

    def add(points: np.ndarray, name: str, **options: Any) -> None:
        made.add_trace(kind(**dict(zip("xyz", points.T.astype(np.float32), strict=False)), name=name, **options))

    for name, colour, inside in split(groups[rows], palette(groups)):
        here, hover = rows[inside], f"{what} {name}, row %{{customdata}}<extra></extra>"
        marker = {"size": 2.5 if dim == 3 else 5, "color": colour, "opacity": 0.75}
        add(flat[here], name, mode="markers", marker=marker, customdata=here, hovertemplate=hover)
    if len(facets):
        ends = flat[facets[_thin(len(facets), POINTS)]]
        lines = np.concatenate([ends, np.full_like(ends[:, :1], np.nan)], 1).reshape(-1, dim)
        add(lines, "singular set", mode="lines", line={"color": INK, "width": 1}, opacity=0.4, hoverinfo="skip")
    if new is not None:
        drawn = (matrix(new, "new") - centre) @ axes
        marker = {"size": 2.5 if dim == 3 else 5, "color": MUTED, "symbol": "circle-open"}
        shown = drawn[_thin(len(drawn), POINTS)]
        add(shown, "new codes", mode="markers", marker=marker, visible="legendonly", hoverinfo="skip")
    axis = {"showbackground": False, "gridcolor": HAIR, "zeroline": False, "title": "", "tickfont": {"color": MUTED}}
    flat_axis = {"gridcolor": HAIR, "zeroline": False, "tickfont": {"color": MUTED}}
    made.update_layout(
        xaxis=flat_axis,
        yaxis={**flat_axis, "scaleanchor": "x"},
        template="none",
        height=560,
        margin={"l": 30, "r": 10, "t": 10, "b": 60},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "color": INK},
        legend={"itemsizing": "constant", "orientation": "h", "y": -0.06, "title": {"text": what}},
        scene={"xaxis": axis, "yaxis": axis, "zaxis": axis, "camera": {"eye": {"x": 1.1, "y": 1.1, "z": 0.7}}},
    )
    return made
