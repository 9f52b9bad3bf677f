"""The highest planes at sums of samples on a CPU: a loop over tiles that stay in a core's cache, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

TILE = 512  # planes taken together: their scores at one block of samples fill the first cache
SAFE = {"nnan", "nsz", "reassoc", "contract"}  # what lets a maximum vectorise; infinities keep their meaning


@intrinsic
def _larger(typing: Any, a: Any, b: Any) -> Any:
    """max(a, b) of two numbers that are no NaN: the form of it that LLVM turns into vector instructions."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        maximum = builder.module.declare_intrinsic("llvm.maxnum", [kind], fnty=ir.FunctionType(kind, [kind, kind]))
        return builder.call(maximum, args, fastmath=("nnan", "nsz"))

    return a(a, a), generate


@njit(nogil=True, fastmath=SAFE, cache=True)
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


@njit(nogil=True, fastmath=SAFE, cache=True)
def highest_of_sums(
    columns: np.ndarray, heights: np.ndarray, a: np.ndarray, b: np.ndarray, values: np.ndarray, indices: np.ndarray
) -> None:
    """The k highest of the planes at every a_j + b_l, block by block: fills values and indices (B, K, J, k).

    columns (d, n), heights (n,), a (B, J', d), b (B, K', d): d, J' and K' are filled up to multiples of four. Scores of
    a sum are sums of scores α_j + β_l, so that adding and comparing is all that is done J K times; a tile is searched
    only where its maximum is among the k highest.
    """
    n = columns.shape[1]
    blocks, rows_b, rows_a, k = values.shape
    lowest = columns.dtype.type(-np.inf)
    values[:] = lowest
    for first in range(0, n, TILE):
        width = min(TILE, n - first)
        tile = columns[:, first : first + width].copy()
        alpha = np.empty((a.shape[1], width), columns.dtype)
        beta = np.empty((b.shape[1], width), columns.dtype)
        for block in range(blocks):
            _product(a[block], tile, alpha)
            _product(b[block], tile, beta)
            beta += heights[first : first + width]
            for l in range(rows_b):  # noqa: E741
                for j in range(rows_a):
                    alpha_j, beta_l = alpha[j], beta[l]
                    top = lowest
                    for c in range(width):
                        top = _larger(top, alpha_j[c] + beta_l[c])  # type: ignore[call-arg]
                    best, found = values[block, l, j], indices[block, l, j]
                    if top <= best[k - 1]:
                        continue
                    for c in range(width):
                        score = alpha_j[c] + beta_l[c]
                        if score > best[k - 1]:
                            p = k - 1
                            while p > 0 and best[p - 1] < score:
                                best[p], found[p] = best[p - 1], found[p - 1]
                                p -= 1
                            best[p], found[p] = score, first + c
