"""Newton's system of a chain of elements: symmetric, block tridiagonal, condensed by halves.

An element has a matrix (k d, k d) and a load (k d,) over its k nodes, whose first and last it shares with its
neighbours. The ends of the chain are fixed. Inner nodes are eliminated first, then the shared nodes of every pair of
elements at once, until one element is left: log₂ of the number of elements rounds, each batched. The matrix is positive
definite on the free nodes exactly if every pivot block is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Solved(NamedTuple):
    """The free nodes' solution, zero at the ends (b, nodes, d); matrix and load condensed to the ends (b, 2 d, 2 d) and
    (b, 2 d); where the matrix is positive definite (b,) bool, elsewhere the rest means nothing.
    """

    nodes: Tensor
    matrix: Tensor
    load: Tensor
    definite: Tensor


def solve(matrix: Tensor, load: Tensor, d: int) -> Solved:
    """Solve for matrices (b, m, k d, k d) and loads (b, m, k d) of m elements in a chain.

    Example:
        >>> springs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double().expand(1, 2, 2, 2)
        >>> solve(springs, torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]).double(), 1).nodes.flatten()
        tensor([0.0000, 1.0000, 0.0000], dtype=torch.float64)
    """
    b, m, k = load.shape[0], load.shape[1], load.shape[2] // d
    order = torch.arange(k * d, device=load.device).view(k, d)
    order = torch.cat([order[:1], order[-1:], order[1:-1]]).flatten()
    ends, ends_load, inner = _eliminate(matrix[:, :, order][:, :, :, order], load[:, :, order], 2 * d)
    shared, root, root_load, definite = _halve(ends, ends_load, d)
    nodes = load.new_zeros(b, m * (k - 1) + 1, d)
    nodes[:, :: k - 1] = shared
    nodes[:, :-1].view(b, m, k - 1, d)[:, :, 1:] = inner.back(shared[:, :-1], shared[:, 1:]).view(b, m, k - 2, d)
    return Solved(nodes, root, root_load, definite & inner.definite)


class _Eliminated(NamedTuple):
    value: Tensor
    slope: Tensor
    definite: Tensor

    def back(self, left: Tensor, right: Tensor) -> Tensor:
        return self.value - (self.slope @ torch.cat([left, right], -1)[..., None])[..., 0]


def _eliminate(matrix: Tensor, load: Tensor, kept: int) -> tuple[Tensor, Tensor, _Eliminated]:
    """Schur complement of the unknowns behind the first `kept`."""
    factor, failed = torch.linalg.cholesky_ex(matrix[..., kept:, kept:])
    side = torch.cat([matrix[..., kept:, :kept], load[..., kept:, None]], -1)
    solved = torch.cholesky_solve(side, factor)
    slope, value = solved[..., :-1], solved[..., -1]
    back = matrix[..., :kept, kept:]
    smaller, less = matrix[..., :kept, :kept] - back @ slope, load[..., :kept] - (back @ value[..., None])[..., 0]
    return smaller, less, _Eliminated(value, slope, (failed == 0).all(1))


def _halve(matrix: Tensor, load: Tensor, d: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of elements (b, m, 2 d, 2 d): all nodes (b, m + 1, d), the condensed matrix and load, and where definite."""
    b, m = load.shape[:2]
    if m == 1:
        return load.new_zeros(b, 2, d), matrix[:, 0], load[:, 0], torch.ones(b, dtype=torch.bool, device=load.device)
    paired = m - m % 2
    joint = load.new_zeros(b, paired // 2, 3 * d, 3 * d)
    sums = load.new_zeros(b, paired // 2, 3 * d)
    for first, places in ((0, [0, 2]), (1, [2, 1])):
        at = torch.arange(3 * d, device=load.device).view(3, d)[places].flatten()
        joint[:, :, at[:, None], at] += matrix[:, first:paired:2]
        sums[:, :, at] += load[:, first:paired:2]
    coarse, less, middle = _eliminate(joint, sums, 2 * d)
    kept, root, root_load, definite = _halve(
        torch.cat([coarse, matrix[:, paired:]], 1), torch.cat([less, load[:, paired:]], 1), d
    )
    nodes = load.new_zeros(b, m + 1, d)
    nodes[:, 0 : paired + 1 : 2] = kept[:, : paired // 2 + 1]
    nodes[:, -1] = kept[:, -1]
    nodes[:, 1:paired:2] = middle.back(kept[:, : paired // 2], kept[:, 1 : paired // 2 + 1])
    return nodes, root, root_load, definite & middle.definite
