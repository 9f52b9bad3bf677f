"""Groups of targets, and groups of groups."""

from __future__ import annotations

import torch
from torch import Tensor


def spreads(points: Tensor, weights: Tensor, groups: Tensor, fan: int) -> list[Tensor]:
    """Root mean square distances to the mean of the whole, (1,), of its `fan` parts, of their parts (fan²,), and so on.

    points (n, d), weights (n,), groups (n,) the labels of the finest parts, whose leading digits name the larger ones.

    Example:
        >>> spreads(torch.tensor([[0.0], [2.0], [5.0], [5.0]]), torch.ones(4), torch.tensor([0, 0, 1, 1]), 2)
        [tensor([2.1213]), tensor([1., 0.])]
    """
    found, labels = [], groups
    while True:
        parts = int(labels.max()) + 1
        mass = weights.new_zeros(parts).index_add_(0, labels, weights)
        mean = points.new_zeros(parts, points.shape[1]).index_add_(0, labels, weights[:, None] * points) / mass[:, None]
        squares = weights * (points - mean[labels]).square().sum(1)
        found.append((weights.new_zeros(parts).index_add_(0, labels, squares) / mass).sqrt())
        if parts == 1:
            return found[::-1]
        labels = labels // fan


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
