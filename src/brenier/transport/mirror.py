"""A sparse matrix added to its transpose, each row in its own order: SciPy sorts them, and a cell's neighbours are
wanted as they come, around it or the nearest first."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from brenier.compiled import compiled


def both_ways(facets: csr_array) -> csr_array:
    """F + Fᵀ: who is whose neighbour, also where only one of two cells has seen the facet.

    What is in a row stays first, in its order.

    Example:
        >>> both_ways(csr_array(np.array([[0.0, 1.0], [3.0, 0.0]]))).toarray()
        array([[0., 4.],
               [4., 0.]])
    """
    start, near, size = _mirrored(facets.indptr, facets.indices, facets.data)
    return csr_array((size, near, start), shape=facets.shape)


@compiled
def _mirrored(start: np.ndarray, near: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, place, used = len(start) - 1, np.full(len(start) - 1, -1, start.dtype), 0
    first, others, theirs = np.zeros(n + 1, start.dtype), np.empty_like(near), np.empty_like(size)
    for k in range(len(near)):
        first[near[k]] += 1
    for i in range(n):  # the end of every column, from which filling it goes down to its beginning
        first[i + 1] += first[i]
    for i in range(n - 1, -1, -1):
        for k in range(start[i + 1] - 1, start[i] - 1, -1):
            first[near[k]] -= 1
            others[first[near[k]]], theirs[first[near[k]]] = i, size[k]
    begin, names, sums = np.zeros_like(start), np.empty(2 * len(near), near.dtype), np.empty(2 * len(near), size.dtype)
    for i in range(n):
        for k in range(start[i], start[i + 1]):
            place[near[k]], names[used], sums[used] = used, near[k], size[k]
            used += 1
        for k in range(first[i], first[i + 1]):
            j = others[k]
            if place[j] >= begin[i]:
                sums[place[j]] += theirs[k]
            else:
                names[used], sums[used] = j, theirs[k]
                used += 1
        begin[i + 1] = used
    return begin, names[:used].copy(), sums[:used].copy()
