"""Paths to start from: the straight line in coordinates, and arcs that leave it to either side of every axis."""

from __future__ import annotations

import torch
from torch import Tensor

from brenier.geometry import metric as of
from brenier.geometry.batch import chunks
from brenier.geometry.metric import Metric

HEIGHTS = (0.125, 0.5, 2.0)  # of arcs, in lengths of the line
HALVINGS = 24  # of the sides of a polygon towards both ends, where a metric may be steepest
AXES = 8  # that arcs are laid along, at most


def times() -> Tensor:
    """Places of the corners of a polygon in [0, 1], each half as far from its end as the one before.

    Example:
        >>> times()[:3] * 2**24
        tensor([0., 1., 2.], dtype=torch.float64)
    """
    near = 0.5 ** torch.arange(HALVINGS, 1, -1, dtype=torch.float64)
    middle = torch.linspace(0.25, 0.75, 17, dtype=torch.float64)[1:-1]
    quarter = torch.tensor([0.25], dtype=torch.float64)
    half = torch.cat([near[:-1], quarter])
    return torch.cat([torch.zeros(1).double(), half, middle, 1 - half.flip(0), torch.ones(1).double()])


def arcs(x: Tensor, y: Tensor) -> Tensor:
    """Polygons (b, c, k, d) from x to y (b, d): the line, and parabolas over it along ± every axis.

    Example:
        >>> arcs(torch.zeros(1, 2), torch.ones(1, 2)).shape[1]
        13
    """
    t = times().to(x)[:, None]
    d = x.shape[1]
    lines = x[:, None] + t * (y - x)[:, None]
    axes = torch.eye(d, dtype=x.dtype, device=x.device)[:AXES]
    ways = torch.cat([side * height * axes for height in HEIGHTS for side in (1, -1)])  # (c, d)
    size = (y - x).norm(dim=1)[:, None, None, None]
    away = lines[:, None] + size * ways[None, :, None] * (4 * t * (1 - t))
    paths = torch.cat([lines[:, None], away], 1)
    paths[:, :, 0], paths[:, :, -1] = x[:, None], y[:, None]
    return paths


def lengths(metric: Metric, paths: Tensor) -> Tensor:
    """Lengths (b, c) of polygons (b, c, k, d), each side measured at its middle; infinite where the metric is not
    finite or not positive.
    """
    sides = paths.diff(dim=2)
    middles = paths[:, :, :-1] + sides / 2
    d = paths.shape[-1]
    x, v = middles.reshape(-1, d), sides.reshape(-1, d)
    parts = [of.squared(metric, x[rows], v[rows]).detach() for rows in chunks(metric, len(x), d, 1)]
    square = torch.cat(parts).view(sides.shape[:-1])
    proper = square.isfinite() & (square >= 0)
    return torch.where(proper, square.clamp_min(0).sqrt(), torch.inf).sum(2)


def shortest(metric: Metric, x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The shortest few polygons (b, count, k, d) of `arcs`, and their lengths (b, count), in order."""
    paths = arcs(x, y)
    size, order = lengths(metric, paths).sort(1)
    order = order[:, :count]
    return paths[torch.arange(len(x), device=x.device)[:, None], order], size[:, :count]
