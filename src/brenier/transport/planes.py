"""The planes <x, y_i> + h_i laid out for a fast maximum: the inner loop of everything in this folder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from threading import Thread

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from brenier.transport.kernel import highest, highest_of_sums
from brenier.transport.rows import HELD, Rows

BLOCK = {"cpu": 1 << 23, "cuda": 1 << 28}  # numbers in a block of products
ROWS = 32  # places that the kernel takes together where they are no sums
PRODUCTS = 128  # dimensions from which a library's product is faster than the kernel's own
THREADED = 1 << 22  # scores that are worth a second thread


class Planes:
    """The k highest of n planes at m places, in memory O(n d + block).

    On a CPU by the compiled kernel. Elsewhere, where it is not yet `compiled`, for gradients, and at places in many
    dimensions that are no sums, by a library's products: a maximum vectorises, an argmax does not, so the planes are
    dealt into `groups` groups, the k groups with the highest maxima hold the k highest planes, and only those are
    searched.
    """

    def __init__(self, points: Tensor, heights: Tensor, compiled: bool = True) -> None:
        n, d = points.shape
        self.n, self.compiled = n, compiled
        self.groups = 1 << max(4, min(9, (n.bit_length() + 1) // 2))
        missing = -n % self.groups
        self.points, self.heights = points, pad(heights, (0, missing), value=float("-inf"))
        if self._compiles():
            self.columns = points.new_zeros(d + -d % 4, n + missing)
            self.columns[:d, :n] = points.T
        if not self._compiles() or d > PRODUCTS:
            self.points = self._filled()
        self.offsets = torch.arange(0, n + missing, self.groups, device=points.device)
        self.block = max(1, BLOCK.get(points.device.type, 1 << 26) // (n + missing))

    def at(self, heights: Tensor) -> Planes:
        """The planes of the same points at other heights, without laying out the points again."""
        other = copy.copy(self)
        other.heights = pad(heights, (0, len(self.heights) - self.n), value=float("-inf"))
        return other

    def _filled(self) -> Tensor:
        """The points of whole groups."""
        missing = len(self.heights) - len(self.points)
        return pad(self.points, (0, 0, 0, missing)) if missing else self.points

    def top(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Values (m, k) and indices (m, k) of the k highest planes at x (m, d), highest first."""
        m, d = x.shape
        if d <= PRODUCTS and self._compiles(x):
            blocks = pad(x, (0, -d % 4, 0, -m % ROWS)).view(-1, ROWS, d + -d % 4)
            values, indices = self._by_kernel(highest, [blocks], blocks.shape[:2], k)
            return values.view(-1, k)[:m], indices.view(-1, k)[:m]
        return self._top_by_products(x, k)

    def _top_by_products(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        tops, columns = [], self._filled().T
        for rows in x.split(self.block):
            scores = torch.addmm(self.heights, rows, columns)
            if k > self.groups:
                tops.append(tuple(scores.topk(k)))
                continue
            candidates = self._candidates(self._maxima(scores), k)
            tops.append(_best(scores.gather(1, candidates), candidates, k))
        values, indices = zip(*tops, strict=True)
        return torch.cat(values), torch.cat(indices)

    def top_of_sums(self, a: Tensor, b: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The same at every sum ± a_j ± b_l of blocks a (B, J, d) and b (B, K, d), rows in the order of `sums`.

        The scores of a sum are sums of scores: adding and taking maxima is all that grows with J K.
        """
        if self._compiles(a, b):
            filled = [pad(rows, (0, -rows.shape[2] % 4, 0, -rows.shape[1] % 4)).contiguous() for rows in (a, b)]
            shape = len(a), filled[1].shape[1], 2, filled[0].shape[1], 2
            tops = self._by_kernel(highest_of_sums, filled, shape, k)
            values, indices = (part[:, : b.shape[1], :, : a.shape[1]].reshape(-1, k) for part in tops)
            return values, indices
        parts = [self._top_of_block(alpha, beta, k) for alpha, beta in zip(a, b, strict=True)]
        return torch.cat([values for values, _ in parts]), torch.cat([indices for _, indices in parts])

    def _compiles(self, *places: Tensor) -> bool:
        """Whether the kernel can do it: on a CPU, in a type that it knows, where no gradient is asked for."""
        tensors = (self.points, self.heights, *places)
        known = self.compiled and self.points.dtype in (torch.float32, torch.float64)
        return known and self.points.device.type == "cpu" and not any(t.requires_grad for t in tensors)

    def _by_kernel(
        self, kernel: Callable[..., None], places: list[Tensor], shape: Sequence[int], k: int
    ) -> tuple[Tensor, Tensor]:
        """Values and indices (*shape, k) that a compiled loop finds, blocks of places dealt to the threads."""
        values, indices = self.points.new_empty(*shape, k), torch.zeros(*shape, k, dtype=torch.long)
        given = [self.columns.numpy(), self.heights.numpy()]
        work = [tensor.numpy() for tensor in (*places, values, indices)]
        threads = min(torch.get_num_threads(), len(values)) if values.numel() * self.n > THREADED else 1
        own, *others = zip(*(np.array_split(array, threads) for array in work), strict=True)
        beside = [Thread(target=kernel, args=(*given, *part)) for part in others]
        for thread in beside:
            thread.start()
        kernel(*given, *own)
        for thread in beside:
            thread.join()
        return values, indices

    def _top_of_block(self, a: Tensor, b: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if k > self.groups:
            return self._top_by_products(sums(a[None], b[None]), k)
        columns = self._filled().T
        alpha, beta = _signed(a @ columns), self.heights + _signed(b @ columns)
        maxima = torch.stack([self._maxima(beta + alpha_j) for alpha_j in alpha], 1)
        candidates = self._candidates(maxima, k)
        scores = beta[:, None].expand(-1, len(alpha), -1).gather(2, candidates)
        scores += alpha[None].expand(len(beta), -1, -1).gather(2, candidates)
        return _best(scores.flatten(0, 1), candidates.flatten(0, 1), k)

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


def sums(a: Tensor, b: Tensor) -> Tensor:
    """Every ± a_j ± b_l (4 B J K, d) of blocks a (B, J, d) and b (B, K, d), by block, l and its sign, j and its sign.

    Example:
        >>> sums(torch.tensor([[[1.0]]]), torch.tensor([[[10.0]]])).flatten()
        tensor([ 11.,   9.,  -9., -11.])
    """
    return (_signed(b, 1)[:, :, None] + _signed(a, 1)[:, None]).flatten(0, 2)


def _signed(rows: Tensor, axis: int = 0) -> Tensor:
    """Each row and then its opposite."""
    return torch.stack([rows, -rows], axis + 1).flatten(axis, axis + 1)


class Parts:
    """The planes of rows (n, d) in parts that are laid out one after the other: memory O(n + chunk + block).

    The k highest of all are among the k highest of each part.
    """

    def __init__(self, rows: Rows, heights: Tensor, compiled: bool = True) -> None:
        self.rows, self.heights, self.compiled = rows, heights, compiled

    def at(self, heights: Tensor) -> Parts:
        """The planes of the same points at other heights."""
        return Parts(self.rows, heights, self.compiled)

    def top(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Values (m, k) and indices (m, k) of the k highest planes at x (m, d), highest first."""
        return self._merged(k, lambda planes, some: planes.top(x, some))

    def top_of_sums(self, a: Tensor, b: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The same at every sum of blocks, as `Planes.top_of_sums`."""
        return self._merged(k, lambda planes, some: planes.top_of_sums(a, b, some))

    def _merged(self, k: int, find: Callable[[Planes, int], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        best: tuple[Tensor, Tensor] | None = None
        for part in self.rows.spans():
            planes = Planes(self.rows.narrow(part), self.heights[part], self.compiled)
            values, indices = find(planes, min(k, planes.n))
            indices += part.start
            if best is not None:
                both = torch.cat([best[0], values], 1), torch.cat([best[1], indices], 1)
                values, places = both[0].sort(dim=1, descending=True, stable=True)  # of equal ones the first
                values, indices = values[:, :k], both[1].gather(1, places[:, :k])
            best = values, indices
        assert best is not None
        return best


def laid_out(rows: Rows, heights: Tensor, compiled: bool = True) -> Planes | Parts:
    """The planes of rows (n, d) at heights (n,): laid out once where there are few numbers, else in parts."""
    if len(rows) * rows.dim > HELD:
        return Parts(rows, heights, compiled)
    return Planes(rows.narrow(slice(None)), heights, compiled)
