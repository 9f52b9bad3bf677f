"""Figures of samples, reconstructions, interpolations and training: arrays in, `matplotlib.figure.Figure` out.

Samples are images, (m, h, w), (m, h, w, c) or (m, c, h, w), uint8 or 0..1, or vectors (m, d). Vectors are drawn as
points: by their own coordinates for d ≤ 2, else in the principal plane of the training data. Wrong shapes raise
ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from brenier.report.style import (
    FIRST,
    INK,
    MUTED,
    OTHER,
    SECOND,
    WIDTH,
    as_numpy,
    figure,
    legend,
    mosaic,
    panel,
    pixels,
    plane,
)  # fmt: skip


def _pictures(strips: list[np.ndarray], labels: Sequence[str], title: str) -> Figure:
    """Strips (r, s, h, w, 3) of images below each other, with a label beside each row of a strip."""
    pages = [mosaic(strip) for strip in strips]
    gap = np.ones((strips[0].shape[2] // 3, pages[0].shape[1], 3))
    page = np.concatenate([part for strip in pages for part in (strip, gap)][:-1])
    margin, top = 0.8 if labels else 0.05, 0.4
    width = WIDTH - margin - 0.05
    height = width * page.shape[0] / page.shape[1]
    made = figure(WIDTH, height + top + 0.05)
    made.set_layout_engine("none")
    place = (margin / WIDTH, 0.05 / (height + top + 0.05), width / WIDTH, height / (height + top + 0.05))
    axes = panel(made.add_axes(place), title, plain=True)
    axes.imshow(page, interpolation="nearest", aspect="auto")
    if labels:
        pitch, row = len(pages[0]) + len(gap), len(pages[0]) / len(labels)
        places = [i * pitch + (j + 0.5) * row for i in range(len(pages)) for j in range(len(labels))]
        axes.set_yticks(places, [*labels] * len(pages))
    return made


def _points(axes: Axes, x: np.ndarray, colour: str, label: str | None = None, size: float = 5) -> None:
    axes.scatter(x[:, 0], x[:, 1], s=size, color=colour, alpha=0.6, linewidths=0, label=label, rasterized=True)


def _shadow(vectors: np.ndarray, *of: np.ndarray) -> list[np.ndarray]:
    """The vectors in `of` in the principal plane of `vectors`."""
    centre, axes, _ = plane(vectors)
    return [(x - centre) @ axes for x in of]


def samples(new: Any, train: Any = None, columns: int = 16, title: str = "New samples, drawn from noise") -> Figure:
    """New samples: a grid of images, or a cloud of vectors beside the training data (m, d).

    Example:
        >>> samples(np.zeros((32, 8, 8)))
        <Figure size 1440x...
    """
    new = as_numpy(new)
    if new.ndim > 2:
        shown = pixels(new)
        columns = min(columns, len(shown))
        shown = shown[: len(shown) // columns * columns]
        return _pictures([shown.reshape(-1, columns, *shown.shape[1:])], (), title)
    train = new if train is None else as_numpy(train)
    known, drawn = _shadow(train, train, new)
    made = figure(WIDTH, WIDTH / 2)
    left, right = made.subplots(1, 2, sharex=True, sharey=True, subplot_kw={"aspect": "equal"})
    _points(panel(left, f"Training data, {len(train):,} rows"), known, OTHER)
    _points(panel(right, f"{title}, {len(new):,} rows"), drawn, FIRST)
    return made


def pairs(above: Any, below: Any, labels: tuple[str, str], title: str, columns: int = 16, strips: int = 2) -> Figure:
    """Samples above their partners: new ones above their nearest training samples, originals above reconstructions.

    Vectors are drawn as two clouds joined by a line from each row to its partner.

    Example:
        >>> images = np.zeros((16, 8, 8))
        >>> pairs(images, images, ("original", "reconstruction"), "Test images and what the chart keeps of them")
        <Figure size 1440x...
    """
    above, below = as_numpy(above), as_numpy(below)
    if above.shape != below.shape:
        raise ValueError(f"both rows of pairs must have the same shape, got {above.shape} and {below.shape}")
    if above.ndim > 2:
        columns = min(columns, len(above))
        strips = min(strips, len(above) // columns)
        both = np.stack([pixels(above)[: strips * columns], pixels(below)[: strips * columns]], 1)
        return _pictures(list(both.reshape(strips, columns, *both.shape[1:]).swapaxes(1, 2)), labels, title)
    start, end = _shadow(above, above, below)
    made = figure(WIDTH * 0.7, WIDTH * 0.7)
    axes = panel(made.subplots(subplot_kw={"aspect": "equal"}), title)
    axes.plot(*np.stack([start, end], 1)[:500].transpose(2, 1, 0), color=OTHER, linewidth=0.6, zorder=1)
    _points(axes, start, FIRST, labels[0])
    _points(axes, end, SECOND, labels[1])
    legend(axes)
    return made


def interpolations(paths: Any, train: Any = None) -> Figure:
    """Straight lines in code space, decoded: paths (r, s, ...) of s samples each, as rows of images or curves.

    Vectors (r, s, d) are drawn over the training data (m, d), which are then needed.

    Example:
        >>> interpolations(np.zeros((4, 10, 8, 8)))
        <Figure size 1440x...
    """
    paths = as_numpy(paths)
    title = "From one sample to another along a straight line of codes"
    if paths.ndim > 3:
        shown = pixels(paths.reshape(-1, *paths.shape[2:]))
        return _pictures([shown.reshape(*paths.shape[:2], *shown.shape[1:])], (), title)
    if train is None:
        raise ValueError(f"train must be given to draw paths of vectors, got None for paths of shape {paths.shape}")
    train = as_numpy(train)
    cloud, *curves = _shadow(train, train, *paths)
    made = figure(WIDTH * 0.7, WIDTH * 0.7)
    axes = panel(made.subplots(subplot_kw={"aspect": "equal"}), title)
    _points(axes, cloud, OTHER)
    for curve in curves:
        axes.plot(curve[:, 0], curve[:, 1], "o-", color=FIRST, markersize=2.5, linewidth=1)
    return made


def marginals(new: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray], most: int = 12) -> Figure:
    """Each column of new rows beside that of test rows: shares of bins of numbers and dates (m,), or of texts (m,).

    Gaps (NaN, NaT) are left out of numbers and dates. The first `most` columns are drawn, the eight commonest texts.

    Example:
        >>> columns = {"a": np.arange(9.0), "b": np.array(["x"] * 9)}
        >>> marginals(columns, columns)
        <Figure size 1440x...
    """
    names = list(test)[:most]
    rows, columns = -(-len(names) // 3), min(3, len(names))
    made = figure(WIDTH, 1.8 * rows)
    panels = made.subplots(rows, columns, squeeze=False).ravel()
    for name, axes in zip(names, panels, strict=False):
        panel(axes, _short(name, 24))
        draw = _texts if test[name].dtype.kind == "U" else _numbers
        draw(axes, new[name], test[name])
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    legend(panels[0])
    return made


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _texts(axes: Axes, new: np.ndarray, test: np.ndarray) -> None:
    texts, counts = np.unique(np.concatenate([new, test]), return_counts=True)
    shown = texts[np.argsort(-counts, kind="stable")[:8]][::-1]
    for shift, values, colour, label in ((0.2, test, OTHER, "test"), (-0.2, new, FIRST, "new")):
        shares = [float((values == text).mean()) for text in shown]
        axes.barh(np.arange(len(shown)) + shift, shares, 0.4, color=colour, label=label)
    axes.set_yticks(range(len(shown)), [_short(str(text), 12) for text in shown])


def _numbers(axes: Axes, new: np.ndarray, test: np.ndarray) -> None:
    if test.dtype.kind == "M":
        new, test = (date2num(values[~np.isnat(values)]) for values in (new, test))
        axes.xaxis.set_major_locator(AutoDateLocator(maxticks=4))
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
        axes.xaxis.get_offset_text().set(fontsize=7.5, color=MUTED)
    else:
        new, test = (values[~np.isnan(values)] for values in (new, test))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=bool((test == test.round()).all())))
    bins = np.histogram_bin_edges(np.concatenate([new, test]), 24).tolist()
    shares = [np.full(len(values), 1 / max(len(values), 1)) for values in (test, new)]
    axes.hist(test, bins, weights=shares[0], color=OTHER, label="test", histtype="stepfilled")
    axes.hist(new, bins, weights=shares[1], color=FIRST, label="new", histtype="step", linewidth=1.4)


def novelty(new: Any, test: Any) -> Figure:
    """Distances (m,) to the nearest training code: of new codes, and of test codes, which nobody could have copied.

    Example:
        >>> novelty(np.linspace(0.5, 1, 50), np.linspace(0.4, 1, 50))
        <Figure size 1440x648 with 1 Axes>
    """
    new, test = as_numpy(new), as_numpy(test)
    made = figure(WIDTH, WIDTH * 0.45)
    axes = panel(
        made.subplots(), "How far new codes keep from the training codes", "distance to the nearest", "share of codes"
    )
    bins = np.linspace(0, np.quantile(np.concatenate([new, test]), 0.995), 60).tolist()
    for values, colour, label in ((test, OTHER, "test codes"), (new, FIRST, "new codes")):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values, bins, weights=weights, color=colour, alpha=0.35, histtype="stepfilled")
        axes.hist(values, bins, weights=weights, color=colour, histtype="step", linewidth=1.4, label=label)
        axes.axvline(float(np.mean(values)), color=colour, linewidth=1, linestyle=(0, (3, 2)))
    legend(axes)
    return made


def training(losses: Mapping[str, Any], checks: Any, chi2: Any, sem: Any = None, tol: float | None = None) -> Figure:
    """Training curves: the losses of the chart over epochs, and relrms of the transport over the samples drawn.

    Args:
        losses: name to values, one per epoch; empty where no chart was trained.
        checks: samples drawn at each check of the transport (c,).
        chi2: estimates at the checks (c,), drawn as relrms = sqrt(chi2).
        sem: their standard errors (c,), drawn as a band of two.
        tol: where the solve stops, drawn as a line.

    Example:
        >>> training({"train": [0.1, 0.05]}, [1000, 4000], [0.4, 0.1], [0.02, 0.01], tol=0.2)
        <Figure size 1440x648 with 2 Axes>
    """
    made = figure(WIDTH, WIDTH * 0.45)
    axes = made.subplots(1, 1 + bool(losses), squeeze=False)[0]
    if losses:
        panel(axes[0], "The chart learns", "epoch", "loss").set_yscale("log")
        axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        for (name, values), colour in zip(losses.items(), (FIRST, SECOND, MUTED), strict=False):
            axes[0].plot(np.arange(1, len(values) + 1), values, color=colour, linewidth=1.6, label=name)
        legend(axes[0])
    right = panel(axes[-1], "The transport converges", "noise samples drawn", "relative error of the masses (relrms)")
    right.set(xscale="log", yscale="log")
    right.xaxis.set_major_locator(LogLocator())
    right.xaxis.set_minor_formatter(NullFormatter())
    for each in axes:
        each.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        each.yaxis.set_major_formatter("{x:g}")
        each.yaxis.set_minor_formatter(NullFormatter())
    checks, chi2 = as_numpy(checks), as_numpy(chi2).astype(float)
    floor = np.finfo(float).tiny
    if sem is not None:
        low, high = (np.sqrt((chi2 + sign * as_numpy(sem)).clip(min=floor)) for sign in (-2, 2))
        right.fill_between(checks, low.clip(min=high / 10), high, color=FIRST, alpha=0.18, linewidth=0)
    shown = chi2 > 0  # an unbiased estimate near zero may be negative, and has no root
    right.plot(checks[shown], np.sqrt(chi2[shown]), color=FIRST, linewidth=1.6, marker="o", markersize=3)
    if tol is not None:
        right.axhline(tol, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        corner = right.get_yaxis_transform()
        right.text(0.99, tol, f"tol {tol:g}", transform=corner, fontsize=7.5, color=INK, ha="right", va="bottom")
    return made
