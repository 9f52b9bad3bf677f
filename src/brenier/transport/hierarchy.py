"""Groups of targets, and groups of groups."""

from __future__ import annotations

import torch
from torch import Tensor


def bisect(points: Tensor, times: int) -> Tensor:
    """Labels (n,) from 0 to 2^times − 1 of groups of equally many points (n, d), n ≥ 2^times.

    All points are cut at the median along the axis on which they are widest, each half along its own, and so on: the
    label's leading binary digits name the larger groups that a group lies in. O(n (d + log n)) a cut.

    Example:
        >>> bisect(torch.tensor([[0.0], [5.0], [1.0], [6.0]]), 1)
        tensor([0, 1, 0, 1])
    """
    n, d = points.shape
    y, labels = points.double(), torch.zeros(n, dtype=torch.long, device=points.device)
    for cuts in range(times):
        size = torch.bincount(labels, minlength=2**cuts)
        sums = torch.zeros(2, 2**cuts, d, dtype=y.dtype, device=y.device)
        away = y - (sums[0].index_add_(0, labels, y) / size[:, None])[labels]
        sums[1].index_add_(0, labels, away.square())
        place = away.gather(1, sums[1].argmax(1)[labels][:, None])[:, 0]
        order = place.argsort(stable=True)
        order = order[labels[order].argsort(stable=True)]
        rank = torch.empty_like(labels)
        rank[order] = torch.arange(n, device=points.device)
        rank -= (size.cumsum(0) - size)[labels]
        labels = 2 * labels + (2 * rank >= size[labels]).long()
    return labels
