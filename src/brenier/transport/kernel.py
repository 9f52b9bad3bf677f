"""The highest planes at samples on a CPU: loops over tiles that stay in a core's cache, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from brenier.compiled import compiled

TILE = 512  # planes taken together: their scores at one block of samples fill the first cache
NOWHERE = np.int32(2**31 - 1)
SAFE = {"nnan", "nsz", "reassoc", "contract"}  # what lets a maximum vectorise; infinities keep their meaning


@intrinsic
def _larger(typing: Any, a: Any, b: Any) -> Any:
    """max(a, b) of two numbers that are no NaN: the form of it that LLVM turns into vector instructions."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        maximum = builder.module.declare_intrinsic("llvm.maxnum", [kind], fnty=ir.FunctionType(kind, [kind, kind]))
        return builder.call(maximum, args, fastmath=("nnan", "nsz"))

    return a(a, a), generate


@compiled(fastmath=SAFE)
def _product(x: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """out (r, w) = x (r, d) columns (d, w), r and d multiples of four: four rows and four terms at a time."""
    out[:] = 0
    for r in range(0, len(x), 4):
        a, b, c, e = x[r], x[r + 1], x[r + 2], x[r + 3]
        out_a, out_b, out_c, out_e = out[r], out[r + 1], out[r + 2], out[r + 3]
        for i in range(0, len(columns), 4):
            a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
            b0, b1, b2, b3 = b[i], b[i + 1], b[i + 2], b[i + 3]
            c0, c1, c2, c3 = c[i], c[i + 1], c[i + 2], c[i + 3]
            e0, e1, e2, e3 = e[i], e[i + 1], e[i + 2], e[i + 3]
            y0, y1, y2, y3 = columns[i], columns[i + 1], columns[i + 2], columns[i + 3]
            for p in range(len(out_a)):
                out_a[p] += a0 * y0[p] + a1 * y1[p] + a2 * y2[p] + a3 * y3[p]
                out_b[p] += b0 * y0[p] + b1 * y1[p] + b2 * y2[p] + b3 * y3[p]
                out_c[p] += c0 * y0[p] + c1 * y1[p] + c2 * y2[p] + c3 * y3[p]
                out_e[p] += e0 * y0[p] + e1 * y1[p] + e2 * y2[p] + e3 * y3[p]


@compiled(fastmath=SAFE)
def _add(row: np.ndarray, sign: float, other: np.ndarray, out: np.ndarray) -> None:
    """out = row + sign other, as a loop: numba makes no vector instructions of sums of arrays."""
    for c in range(len(out)):
        out[c] = row[c] + sign * other[c]


@compiled(fastmath=SAFE)
def _enter(values: np.ndarray, indices: np.ndarray, scores: np.ndarray, top: float, first: int) -> None:
    """Let the planes from `first` on, with these scores, of which `top` is the highest, into the k best."""
    last = len(values) - 1
    if last == 0:
        place = NOWHERE
        for c in range(len(scores)):
            place = min(place, np.int32(c) if scores[c] >= top else NOWHERE)
        values[0], indices[0] = top, first + place
        return
    for c in range(len(scores)):
        if scores[c] > values[last]:
            p = last
            while p > 0 and values[p - 1] < scores[c]:
                values[p], indices[p] = values[p - 1], indices[p - 1]
                p -= 1
            values[p], indices[p] = scores[c], first + c


@compiled(fastmath=SAFE)
def highest(columns: np.ndarray, heights: np.ndarray, x: np.ndarray, values: np.ndarray, indices: np.ndarray) -> None:
    """The k highest planes at every row of blocks x (B, R, d): fills values and indices (B, R, k).

    columns (d, n), heights (n,): d and R are filled up to multiples of four.
    """
    n = columns.shape[1]
    last = values.shape[2] - 1
    one, lowest = columns.dtype.type(1), columns.dtype.type(-np.inf)
    values[:] = lowest
    for first in range(0, n, TILE):
        width = min(TILE, n - first)
        tile = columns[:, first : first + width].copy()
        h = heights[first : first + width]
        scores = np.empty((x.shape[1], width), columns.dtype)
        for block in range(len(x)):
            _product(x[block], tile, scores)
            for r in range(len(scores)):
                score, top = scores[r], lowest
                _add(score, one, h, score)
                for c in range(width):
                    top = _larger(top, score[c])  # type: ignore[call-arg]
                if top > values[block, r, last]:
                    _enter(values[block, r], indices[block, r], score, top, first)


@compiled(fastmath=SAFE)
def highest_of_sums(
    columns: np.ndarray, heights: np.ndarray, a: np.ndarray, b: np.ndarray, values: np.ndarray, indices: np.ndarray
) -> None:
    """The k highest planes at every sum ± a_j ± b_l, block by block: fills values and indices (B, K, 2, J, 2, k).

    columns (d, n), heights (n,), a (B, J, d), b (B, K, d): d, J and K are filled up to multiples of four; of two signs
    plus comes first. Scores of a sum are sums of scores ± α_j ± β_l, so that adding and comparing is all that is done
    4 J K times; a tile is searched only where its maximum is among the k highest.
    """
    n = columns.shape[1]
    blocks, rows_b, _, rows_a, _, k = values.shape
    one, lowest = columns.dtype.type(1), columns.dtype.type(-np.inf)
    values[:] = lowest
    for first in range(0, n, TILE):
        width = min(TILE, n - first)
        tile = columns[:, first : first + width].copy()
        h = heights[first : first + width]
        alpha = np.empty((rows_a, width), columns.dtype)
        beta = np.empty((rows_b, width), columns.dtype)
        scores, middle = np.empty(width, columns.dtype), np.empty(width, columns.dtype)
        for block in range(blocks):
            _product(a[block], tile, alpha)
            _product(b[block], tile, beta)
            for l in range(rows_b):  # noqa: E741
                for sign in range(2):
                    _add(h, one if sign == 0 else -one, beta[l], middle)
                    best, found = values[block, l, sign], indices[block, l, sign]
                    for j in range(0, rows_a, 2):
                        a0, a1 = alpha[j], alpha[j + 1]
                        plus0 = minus0 = plus1 = minus1 = lowest
                        for c in range(width):
                            plus0 = _larger(plus0, middle[c] + a0[c])  # type: ignore[call-arg]
                            minus0 = _larger(minus0, middle[c] - a0[c])
                            plus1 = _larger(plus1, middle[c] + a1[c])
                            minus1 = _larger(minus1, middle[c] - a1[c])
                        if plus0 > best[j, 0, k - 1]:
                            _add(middle, one, a0, scores)
                            _enter(best[j, 0], found[j, 0], scores, plus0, first)
                        if minus0 > best[j, 1, k - 1]:
                            _add(middle, -one, a0, scores)
                            _enter(best[j, 1], found[j, 1], scores, minus0, first)
                        if plus1 > best[j + 1, 0, k - 1]:
                            _add(middle, one, a1, scores)
                            _enter(best[j + 1, 0], found[j + 1, 0], scores, plus1, first)
                        if minus1 > best[j + 1, 1, k - 1]:
                            _add(middle, -one, a1, scores)
                            _enter(best[j + 1, 1], found[j + 1, 1], scores, minus1, first)
