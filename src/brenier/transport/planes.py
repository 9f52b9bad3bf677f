"""The planes <x, y_i> + h_i laid out for a fast maximum: the inner loop of everything in this folder."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

TILE = {"cpu": 1 << 17, "cuda": 1 << 26}  # numbers in a tile of sums: a core's share of the cache, or enough for a GPU
BLOCK = {"cpu": 1 << 23, "cuda": 1 << 28}  # numbers in a block of products


class Planes:
    """The k highest of n planes at m places, in memory O(n d + block).

    A maximum vectorises, an argmax does not: the planes are dealt into `groups` groups, the k groups with the highest
    maxima hold the k highest planes, and only those are searched.
    """

    def __init__(self, points: Tensor, heights: Tensor) -> None:
        n = len(points)
        self.n = n
        self.groups = 1 << max(4, min(9, (n.bit_length() + 1) // 2))
        missing = -n % self.groups
        self.points = pad(points, (0, 0, 0, missing))
        self.heights = pad(heights, (0, missing), value=float("-inf"))
        self.offsets = torch.arange(0, n + missing, self.groups, device=points.device)
        self.tile = max(1, TILE.get(points.device.type, 1 << 24) // len(self.points))
        self.block = max(1, BLOCK.get(points.device.type, 1 << 26) // len(self.points))

    def top(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Values (m, k) and indices (m, k) of the k highest planes at x (m, d), highest first."""
        tops = []
        for rows in x.split(self.block):
            scores = torch.addmm(self.heights, rows, self.points.T)
            if k > self.groups:
                tops.append(tuple(scores.topk(k)))
                continue
            candidates = self._candidates(self._maxima(scores), k)
            tops.append(_best(scores.gather(1, candidates), candidates, k))
        values, indices = zip(*tops, strict=True)
        return torch.cat(values), torch.cat(indices)

    def top_of_sums(self, a: Tensor, b: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The same at every a_j + b_l (row l J + j), with one product for a (J, d) and one for b (L, d).

        The scores of a sum are sums of scores: adding and taking maxima is all that grows with J L.
        """
        if k > self.groups:
            return self.top((b[:, None] + a).flatten(0, 1), k)
        alpha = a @ self.points.T
        tops = []
        for rows in b.split(max(1, self.block // len(a))):
            beta = torch.addmm(self.heights, rows, self.points.T)
            sums = torch.empty_like(beta[: self.tile])
            maxima = beta.new_empty(len(rows), len(a), self.groups)
            for first in range(0, len(rows), self.tile):
                tile, out = beta[first : first + self.tile], maxima[first : first + self.tile]
                for j, alpha_j in enumerate(alpha):
                    out[:, j] = self._maxima(torch.add(tile, alpha_j, out=sums[: len(tile)]))
            candidates = self._candidates(maxima, k)
            scores = beta[:, None].expand(-1, len(a), -1).gather(2, candidates)
            scores += alpha[None].expand(len(rows), -1, -1).gather(2, candidates)
            tops.append(_best(scores.flatten(0, 1), candidates.flatten(0, 1), k))
        values, indices = zip(*tops, strict=True)
        return torch.cat(values), torch.cat(indices)

    def _maxima(self, scores: Tensor) -> Tensor:
        """Highest score of each group: (rows, n) to (rows, groups)."""
        return scores.view(len(scores), len(self.offsets), self.groups).amax(1)

    def _candidates(self, maxima: Tensor, k: int) -> Tensor:
        """Planes (..., c) of the k groups with the highest maxima (..., groups)."""
        groups = maxima.argmax(-1, keepdim=True) if k == 1 else maxima.topk(k).indices
        return (self.offsets[:, None] + groups[..., None, :]).flatten(-2)


def _best(scores: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of (m, c) scores and the candidates they belong to."""
    values, places = scores.max(1, keepdim=True) if k == 1 else scores.topk(k)
    return values, candidates.gather(1, places)
