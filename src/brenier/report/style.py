"""The look of every figure: colours, panels, mosaics of images, the plane that codes are shown in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WIDTH = 7.2  # inches, of every figure
INK, MUTED, HAIR, PAPER = "#1b1f24", "#667085", "#e4e7ec", "#ffffff"
FIRST, SECOND = "#1f5aa6", "#c4512d"  # blue and vermilion: apart for every kind of colour vision
OTHER = "#b8bec8"
GROUPS = ["#332288", "#e0a526", "#117733", "#88ccee", "#cc6677", "#44aa99", "#882255", "#999933", "#aa4499", "#5f6b7a"]


def as_numpy(x: Any) -> np.ndarray:
    """Arrays as they are, tensors on the CPU."""
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def figure(width: float, height: float) -> Figure:
    """An empty figure in inches, off screen, of no global state."""
    made = Figure(figsize=(width, height), dpi=200, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(made)
    return made


def panel(axes: Axes, title: str, x: str = "", y: str = "", plain: bool = False) -> Axes:
    """Give axes their title and labels in the house style; `plain` ones have no frame and no ticks."""
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK, pad=8)
    axes.set_xlabel(x, fontsize=8, color=MUTED)
    axes.set_ylabel(y, fontsize=8, color=MUTED)
    axes.tick_params(which="both", labelsize=7.5, labelcolor=MUTED, color=HAIR, length=0 if plain else 3)
    axes.spines[:].set_visible(False)
    if plain:
        axes.set(xticks=[], yticks=[])
    else:
        axes.spines[["left", "bottom"]].set(visible=True, color=OTHER)
        axes.grid(color=HAIR, linewidth=0.6)
        axes.set_axisbelow(True)
    return axes


def legend(axes: Axes) -> None:
    """Name the curves or groups in their own corner, without a box."""
    axes.legend(frameon=False, fontsize=7.5, labelcolor=INK, handlelength=1.4, borderaxespad=0.2)


def pixels(images: Any) -> np.ndarray:
    """Images (m, h, w), (m, h, w, c) or (m, c, h, w), uint8 or 0..1, as RGB (m, h, w, 3) in 0..1."""
    x = as_numpy(images)
    if x.ndim not in (3, 4):
        raise ValueError(f"images must have shape (m, h, w), (m, h, w, c) or (m, c, h, w), got {x.shape}")
    x = x / 255 if x.dtype == np.uint8 else x.astype(float)
    if x.ndim == 3:
        x = x[..., None]
    elif x.shape[-1] > 4:
        x = np.moveaxis(x, 1, -1)
    if x.shape[-1] > 4:
        raise ValueError(f"images must have 1 to 4 channels, got shape {np.shape(images)}")
    return (x[..., :3] if x.shape[-1] >= 3 else np.repeat(x.mean(-1, keepdims=True), 3, -1)).clip(0, 1)


def mosaic(rows: np.ndarray, gap: float = 0.08) -> np.ndarray:
    """One picture (H, W, 3) of RGB images (r, s, h, w, 3), r rows of s on paper; `gap` is a share of their width."""
    r, s, h, w, _ = rows.shape
    gap = max(1, round(gap * w))
    page = np.ones((r, h + gap, s, w + gap, 3))
    page[:, :h, :, :w] = rows.transpose(0, 2, 1, 3, 4)
    return page.reshape(r * (h + gap), s * (w + gap), 3)[:-gap, :-gap]


def plane(codes: np.ndarray, dim: int = 2) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre (d,), axes (d, dim) and share of the variance of the principal plane; the coordinates where d ≤ dim."""
    centre, d = codes.mean(0), codes.shape[1]
    if d <= dim:
        return np.zeros(d), np.eye(d, dim), 1.0
    values, vectors = np.linalg.eigh(np.cov(codes.T))
    axes = vectors[:, ::-1][:, :dim]
    return centre, axes * np.sign(axes[np.abs(axes).argmax(0), range(dim)]), float(values[-dim:].sum() / values.sum())


def palette(groups: np.ndarray) -> dict[Any, str]:
    """A colour for each group, or for the nine largest of more than ten; the rest is drawn in `OTHER`."""
    names, counts = np.unique(groups, return_counts=True)
    if len(names) > len(GROUPS):
        names = np.sort(names[np.argsort(-counts, kind="stable")[: len(GROUPS) - 1]])
    return dict(zip(names.tolist(), GROUPS, strict=False))


def split(groups: np.ndarray, colours: dict[Any, str]) -> list[tuple[str, str, np.ndarray]]:
    """(name, colour, mask) of each group of a palette that has rows here, and of the others."""
    parts = [(str(name), colour, groups == name) for name, colour in colours.items()]
    parts.append(("other", OTHER, ~np.isin(groups, list(colours))))
    return [part for part in parts if part[2].any()]
