"""Nearest points: the highest of the planes <x, y_i> − |y_i|²/2."""

from __future__ import annotations

import torch
from torch import Tensor

from brenier.transport.planes import Planes

CHUNK = 4096  # rows whose distances are measured together


def nearest(x: Tensor, points: Tensor, k: int, compiled: bool = True) -> Tensor:
    """Indices (m, k) of the k points nearest to each x, nearest first; in float64, by compiled loops where they are."""
    centre = points.double().mean(0)
    y = points.double() - centre
    return Planes(y, -0.5 * y.square().sum(1), compiled).top(x.double() - centre, k)[1]


def neighbours(y: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and distances (n, k) of the k nearest other rows of y, nearest first; k is at most n − 1."""
    k = min(k, len(y) - 1)
    wide, parts = y.double(), []
    for own, indices in zip(
        torch.arange(len(y), device=y.device).split(CHUNK), nearest(y, y, k + 1).split(CHUNK), strict=True
    ):
        distance = (wide[own, None] - wide[indices]).norm(dim=2)
        distance.masked_fill_(indices == own[:, None], -1.0)  # itself first, ties and all
        order = distance.argsort(1)[:, 1:]
        parts.append((indices.gather(1, order), distance.gather(1, order)))
    near, distances = (torch.cat(part) for part in zip(*parts, strict=True))
    return near, distances
