"""Groups of targets, and groups of groups."""

from __future__ import annotations

import torch
from torch import Tensor

from brenier.transport.rows import Rows


def spreads(points: Tensor | Rows, weights: Tensor, groups: Tensor, fan: int) -> list[Tensor]:
    """Root mean square distances to the mean of the whole, (1,), of its `fan` parts, of their parts (fan²,), and so on.

    points (n, d), weights (n,), groups (n,) the labels of the finest parts, whose leading digits name the larger ones:
    the squares of a whole are those of its parts and of their means about its own.

    Example:
        >>> spreads(torch.tensor([[0.0], [2.0], [5.0], [5.0]]), torch.ones(4), torch.tensor([0, 0, 1, 1]), 2)
        [tensor([2.1213]), tensor([1., 0.])]
    """
    rows, wide, parts = Rows.of(points), weights.double(), int(groups.max()) + 1
    mass = wide.new_zeros(parts).index_add_(0, groups, wide)
    mean, squares = wide.new_zeros(parts, rows.dim), wide.new_zeros(parts)
    for span, y in rows.chunks():
        mean.index_add_(0, groups[span], y.mul_(wide[span, None]))
    mean /= mass[:, None]
    for span, y in rows.chunks():
        squares.index_add_(0, groups[span], (y - mean[groups[span]]).square_().sum(1).mul_(wide[span]))
    found = [(squares / mass).sqrt()]
    while parts > 1:
        parts //= fan
        share = (mass / mass.view(parts, fan).sum(1).repeat_interleave(fan)).view(parts, fan, 1)
        whole = (share * mean.view(parts, fan, -1)).sum(1)
        apart = (mean.view(parts, fan, -1) - whole[:, None]).square().sum(2)
        squares = (squares.view(parts, fan) + mass.view(parts, fan) * apart).sum(1)
        mass, mean = mass.view(parts, fan).sum(1), whole
        found.append((squares / mass).sqrt())
    return [spread.to(weights) for spread in reversed(found)]


def bisect(points: Tensor | Rows, times: int) -> Tensor:
    """Labels (n,) from 0 to 2^times − 1 of groups of equally many points (n, d), n ≥ 2^times.

    All points are cut at the median along the axis on which they are widest, each half along its own, and so on: the
    label's leading binary digits name the larger groups that a group lies in. O(n (d + log n)) a cut.

    Example:
        >>> bisect(torch.tensor([[0.0], [5.0], [1.0], [6.0]]), 1)
        tensor([0, 1, 0, 1])
    """
    rows = Rows.of(points)
    labels = torch.zeros(len(rows), dtype=torch.long, device=rows.points.device)
    means = rows[:1]  # near which squares are taken, so that a far-off place costs no digits: first any point
    for cuts in range(times):
        size = torch.bincount(labels, minlength=2**cuts)
        sums, squares = torch.zeros(2, 2**cuts, rows.dim, dtype=means.dtype, device=means.device)
        for span, y in rows.chunks():
            away = y - means[labels[span] >> min(cuts, 1)]
            sums.index_add_(0, labels[span], away)
            squares.index_add_(0, labels[span], away.square_())
        sums /= size[:, None]
        axis = (squares / size[:, None] - sums.square()).argmax(1)
        means = means.repeat_interleave(min(2**cuts, 2), 0) + sums
        order = rows.entries(axis[labels]).argsort(stable=True)
        order = order[labels[order].argsort(stable=True)]
        rank = torch.empty_like(labels)
        rank[order] = torch.arange(len(rows), device=rank.device)
        rank -= (size.cumsum(0) - size)[labels]
        labels = 2 * labels + (2 * rank >= size[labels]).long()
    return labels
