"""The planes <x, y_i> + h_i laid out for a fast maximum: the inner loop of everything in this folder."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

TILE = {"cpu": 1 << 18, "cuda": 1 << 26}  # numbers in a tile of sums: a core's share of the cache, or enough for a GPU
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
        tops = [self._search(torch.addmm(self.heights, rows, self.points.T), k) for rows in x.split(self.block)]
        values, indices = zip(*tops, strict=True)
        return torch.cat(values), torch.cat(indices)

    def top_of_sums(self, a: Tensor, b: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The same at every a_j + b_l, row l of a's j after row, with one product for a (J, d) and one for b (L, d)."""
        alpha = a @ self.points.T
        tops = []
        for rows in b.split(self.block):
            beta = torch.addmm(self.heights, rows, self.points.T)
            for tile in beta.split(self.tile):
                tops += [self._search(tile + alpha_j, k) for alpha_j in alpha]
        # tops run over (tile, j): bring them to one row per (b, a) pair
        values, indices = (self._by_pair(part, len(a)) for part in zip(*tops, strict=True))
        return values, indices

    @staticmethod
    def _by_pair(parts: tuple[Tensor, ...], j: int) -> Tensor:
        tiles = [torch.stack(parts[i : i + j], 1) for i in range(0, len(parts), j)]
        return torch.cat(tiles).flatten(0, 1)

    def _search(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if k > self.groups:
            values, indices = scores.topk(k)
            return values, indices
        maxima = scores.view(len(scores), -1, self.groups).amax(1)
        best = maxima.argmax(1, keepdim=True) if k == 1 else maxima.topk(k).indices
        candidates = (self.offsets[:, None] + best[:, None, :]).flatten(1)
        found = scores.gather(1, candidates)
        if k == 1:
            values, places = found.max(1, keepdim=True)
        else:
            values, places = found.topk(k)
        return values, candidates.gather(1, places)
