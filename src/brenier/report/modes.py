"""The figure of the modes: the tree of the density's peaks and passes, with the sample at each peak."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from brenier.report.style import INK, MUTED, OTHER, WIDTH, as_numpy, figure, palette, panel, pixels

MOST = 24  # modes drawn: the images would be too small


class Branch(NamedTuple):
    """A mode in the drawing: its number, its place from the left, its parent's number (its own without one), heights.

    `low` is the height of its pass; of a mode that no pass joins to another, NaN.
    """

    mode: int
    x: int
    parent: int
    high: float
    low: float


def branches(birth: Any, saddle: Any, parent: Any, shown: int) -> list[Branch]:
    """Return the branches of the first `shown` modes, each beside the one it joins, from the left.

    Args:
        birth, saddle: log density at the peak of each mode and at its pass (c,), −inf without one.
        parent: number of the mode that it joins at the pass (c,), itself without one.
        shown: how many modes are drawn; one whose parent isn't joins the parent's parent, at the lower of the passes.

    Example:
        >>> [(b.mode, b.x, b.parent) for b in branches([5, 4, 3], [-np.inf, 1, 2], [0, 0, 0], 3)]
        [(0, 0, 0), (2, 1, 0), (1, 2, 0)]
    """
    birth, saddle, parent = (as_numpy(values) for values in (birth, saddle, parent))
    joins, low = list(range(shown)), np.full(shown, np.nan)
    for mode in range(shown):
        over, height = int(parent[mode]), float(saddle[mode])
        while over >= shown and parent[over] != over:
            over, height = int(parent[over]), min(height, float(saddle[over]))
        if over < shown and over != mode:
            joins[mode], low[mode] = over, height
    made: list[Branch] = []

    def place(mode: int) -> None:
        made.append(Branch(mode, len(made), joins[mode], float(birth[mode]), float(low[mode])))
        for child in sorted((c for c in range(shown) if joins[c] == mode and c != mode), key=lambda c: -low[c]):
            place(child)

    for mode in range(shown):
        if joins[mode] == mode:
            place(mode)
    return made


def mode_tree(birth: Any, saddle: Any, parent: Any, modes: Any, samples: Any = None, labels: Any = None) -> Figure:
    """The modes as a tree: each rises from the pass, where it joins a denser one, to the peak of its density.

    Args:
        birth, saddle, parent: of each mode (c,), see `branches`; the first 24 are drawn.
        modes: mode of each training sample (n,).
        samples: images of the first modes (c or 24, ...), drawn above them; None or vectors are not drawn.
        labels: of the training samples (n,): each mode gets its commonest label and the label's share.

    Example:
        >>> mode_tree([5, 4, 3], [-np.inf, 1, 2], [0, 0, 0], [0, 0, 1, 2])
        <Figure size 1440x...
    """
    modes = as_numpy(modes)
    shown = min(len(as_numpy(birth)), MOST)
    placed = branches(birth, saddle, parent, shown)
    pictures = None if samples is None or as_numpy(samples).ndim < 3 else pixels(samples)
    made = figure(WIDTH, WIDTH * (0.42 if pictures is None else 0.5))
    title = f"{shown} modes" + (f", the heaviest of {len(as_numpy(birth))}" if shown < len(as_numpy(birth)) else "")
    axes = panel(made.subplots(), title, "", "log density (nats)")
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    place = {branch.mode: branch.x for branch in placed}
    passes = [branch.low for branch in placed if not np.isnan(branch.low)]
    top = max(branch.high for branch in placed)
    bottom = min([*passes, *(branch.high for branch in placed)])
    room = max(top - bottom, 1.0)
    colours = palette(modes)
    for branch in placed:
        colour = colours.get(branch.mode, OTHER)
        foot = bottom - 0.08 * room if np.isnan(branch.low) else branch.low
        axes.plot([branch.x, branch.x], [foot, branch.high], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(branch.x, branch.high, "o", color=colour, markersize=4)
        if not np.isnan(branch.low):
            axes.plot([place[branch.parent], branch.x], [foot, foot], color=MUTED, linewidth=0.8, zorder=1)
    below = []
    for branch in placed:
        own = modes == branch.mode
        text = f"{branch.mode}\n{own.mean():.0%}" if own.mean() >= 0.01 else f"{branch.mode}\n<1%"
        if labels is not None:
            names, counts = np.unique(as_numpy(labels)[own], return_counts=True)
            best = str(names[counts.argmax()])
            text += f"\n{best if len(best) <= 6 else best[:5] + '…'}\n{counts.max() / counts.sum():.0%}"
        below.append(text)
    size = 6.5 if shown > 12 else 7.5
    axes.set_xticks([branch.x for branch in placed], below)
    axes.tick_params(axis="x", length=0, labelsize=size, labelcolor=INK)
    rows = "mode\nshare" + ("\nlabel\npurity" if labels is not None else "")
    axes.annotate(
        rows, (0, 0), (-8, -3.5), "axes fraction", "offset points", ha="right", va="top", color=MUTED, fontsize=size
    )
    axes.set_xlim(-0.6, max(shown, 6) - 0.4)
    axes.set_ylim(bottom - 0.1 * room, top + 0.08 * room)
    if pictures is not None:
        wide = 1 / (max(shown, 6) + 0.2)
        axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK, pad=8 + 0.86 * 72 * WIDTH * wide)
        for branch in placed:
            inset = axes.inset_axes((wide * (branch.x + 0.15), 1.01, 0.9 * wide, 0.9 * wide * 3.5))
            inset.imshow(pictures[branch.mode], interpolation="nearest")
            inset.set(xticks=[], yticks=[], anchor="S")
            inset.spines[:].set(color=colours.get(branch.mode, OTHER), linewidth=1.2)
    return made
