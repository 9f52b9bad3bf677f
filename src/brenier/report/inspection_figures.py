"""The figures of an inspection: a data set, and small panels over the layers of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from brenier.manifold import Layers
from brenier.report.style import FIRST, HAIR, MUTED, OTHER, SECOND, WIDTH, figure, legend, palette, panel, split

NAMED = 24  # layers or classes up to which their names are written
PANELS = {
    "dimension": "Intrinsic dimension",
    "separation": "Class separation",
    "probe": "Linear probe",
    "fisher": "Fisher trace",
    "stretch": "Stretch",
    "turning": "Turning, radians",
    "volume": "Volume per dimension",
    "cells": "Cells crossed",
}
LOGARITHMIC = ("fisher", "stretch", "volume")


def layer_figure(found: Layers) -> Figure:
    """Eight quantities over the layers, each with two standard errors; a quantity that can't be had is said so.

    Example:
        >>> import torch
        >>> from brenier import manifold
        >>> x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
        >>> layer_figure(manifold.layers(torch.nn.Linear(3, 2), x))
        <Figure size 1440x...
    """
    names = [layer.name for layer in found.layers]
    places = np.arange(len(names))
    made = figure(WIDTH, WIDTH * 0.58)
    for i, (axes, (key, title)) in enumerate(zip(made.subplots(2, 4, sharex=True).flat, PANELS.items(), strict=True)):
        panel(axes, title)
        values = [getattr(layer, key) for layer in found.layers]
        known = np.array([value is not None and np.isfinite(value.mean) for value in values])
        if known.any():
            mean, sem = np.array([v for v, fine in zip(values, known, strict=True) if fine]).T
            _band(axes, places[known], mean, np.nan_to_num(sem))
            if key in LOGARITHMIC and (mean > 0).all():
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter("{x:g}")
                axes.yaxis.set_minor_formatter("{x:g}" if mean.max() < 10 * mean.min() else NullFormatter())
                axes.tick_params(which="minor", labelsize=6.5)
        else:
            axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", fontsize=8, color=MUTED)
            axes.set_yticks([])
        if key == "probe" and found.chance is not None:
            axes.axhline(found.chance, color=OTHER, linewidth=1, linestyle=(0, (3, 2)))
        axes.set_xlim(-0.5, len(names) - 0.5)
        if len(names) <= NAMED:
            axes.set_xticks(places, names, rotation=90)
        if i >= 4:
            axes.set_xlabel("layer", fontsize=8, color=MUTED)
    return made


def _band(axes: Any, places: np.ndarray, mean: np.ndarray, sem: np.ndarray) -> None:
    axes.plot(places, mean, color=FIRST, linewidth=1.4, marker="o", markersize=3)
    axes.fill_between(places, mean - 2 * sem, mean + 2 * sem, color=FIRST, alpha=0.18, linewidth=0)


def data_figure(
    codes: np.ndarray,
    groups: np.ndarray | None,
    by_class: Mapping[str, Mapping[str, Any]],
    nets: Sequence[Mapping[str, float]],
    method: str,
) -> Figure:
    """A picture of samples by codes (n, 1 or 2), coloured by groups (n,); dimension by class; radii of nets.

    Example:
        >>> from brenier.solution import Estimate
        >>> data_figure(np.eye(2), None, {"all": {"two_nn": Estimate(1.0, 0.1)}}, [], "pca")
        <Figure size 1440x...
    """
    made = figure(WIDTH, WIDTH * 0.42)
    left, middle, right = made.subplots(1, 3, width_ratios=[1.5, 1, 1])
    x, y = codes[:, 0], codes[:, 1] if codes.shape[1] > 1 else np.zeros(len(codes))
    panel(left, f"The samples, by {method}", plain=True)
    left.set_aspect("equal", adjustable="datalim")
    kinds = [("", FIRST, np.ones(len(codes), dtype=bool))] if groups is None else split(groups, palette(groups))
    for name, colour, mask in kinds:
        left.scatter(x[mask], y[mask], s=4, color=colour, linewidths=0, alpha=0.7, label=name, rasterized=True)
    if groups is not None:
        left.legend(
            frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(0, 0), ncols=5, markerscale=2,
            handletextpad=0.1, columnspacing=0.8,
        )  # fmt: skip

    panel(middle, "Intrinsic dimension", "two_nn, ± 2 standard errors")
    known = [(name, values["two_nn"]) for name, values in by_class.items() if values.get("two_nn") is not None]
    known = known[::-1]
    for place, (name, value) in enumerate(known):
        colour = SECOND if name == "all" else FIRST
        middle.errorbar(value.mean, place, xerr=2 * value.sem, fmt="o", color=colour, markersize=3.5, linewidth=1.2)
    if len(known) <= NAMED:
        middle.set_yticks(np.arange(len(known)), [name for name, _ in known])
    middle.grid(axis="y", color=HAIR, linewidth=0)
    middle.set_xlim(left=0)

    panel(right, "Radii of nets", "samples in the net")
    for key, colour in (("covering", FIRST), ("packing", SECOND)):
        right.plot(
            [net["size"] for net in nets], [net[key] for net in nets], "o-", color=colour, markersize=3, label=key
        )
    if nets:
        right.set(xscale="log", yscale="log")
        right.set_xticks([net["size"] for net in nets], [str(net["size"]) for net in nets])
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_formatter("{x:g}")
        right.tick_params(which="minor", labelsize=6.5)
        right.xaxis.set_minor_formatter(NullFormatter())
        legend(right)
    return made
