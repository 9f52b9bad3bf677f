"""What every verb on samples and meshes needs first: checked arrays, neighbours, differentials between neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from brenier.manifold.chart import Samples
from brenier.manifold.graph import nearest

CHUNK = 1 << 22  # entries of a block: 32 MiB of float64


def points(x: Samples, name: str = "x", rows: int = 2, columns: int | None = None) -> np.ndarray:
    """`x` (n, ...) as a finite float64 array (n, D) with at least `rows` rows; ValueError or TypeError names it."""
    array = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        kind = getattr(x, "dtype", type(x).__name__)
        raise TypeError(f"{name} must be an array or tensor of real numbers, got {kind}")
    if array.ndim < 2 or 0 in array.shape[1:] or columns not in (None, math.prod(array.shape[1:])):
        width = "..." if columns is None else columns
        raise ValueError(f"{name} must have shape (n, {width}), got {tuple(array.shape)}")
    if len(array) < rows:
        raise ValueError(f"{name} must have at least {rows} rows, got {len(array)}")
    array = array.astype(np.float64).reshape(len(array), -1)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or Inf in row {(~np.isfinite(array)).any(1).argmax()}")
    return array


def neighbours(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (n, k) of the k nearest other rows, nearest first.

    Raises:
        ValueError: k is not between 1 and n − 1.
    """
    if not 1 <= k < len(x):
        raise ValueError(f"k must lie between 1 and {len(x) - 1}, one less than the {len(x)} distinct rows, got {k}")
    distance, index = nearest(torch.from_numpy(x), k)
    return distance.numpy(), index.numpy()


def linked(distance: np.ndarray, index: np.ndarray) -> csr_array:
    """The symmetric graph (n, n) of neighbours, weighted by distance."""
    n, k = index.shape
    graph = csr_array((distance.ravel(), (np.repeat(np.arange(n), k), index.ravel())), shape=(n, n))
    return graph.maximum(graph.T)


def frames(x: np.ndarray, index: np.ndarray, dim: int) -> np.ndarray:
    """Tangent frames (n, D, dim): the `dim` main directions of each row's neighbours (n, k), orthonormal columns."""
    out = np.empty((len(x), x.shape[1], dim))
    for rows in blocks(len(x), index.shape[1] * x.shape[1]):
        local = x[index[rows]]
        out[rows] = np.linalg.svd(local - local.mean(1, keepdims=True), full_matrices=False)[2][:, :dim].swapaxes(1, 2)
    return out


def blocks(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows such that a block of `width` entries a row stays within CHUNK entries."""
    step = max(1, CHUNK // max(width, 1))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def signs(n: int, i: np.ndarray, j: np.ndarray, opposite: np.ndarray) -> tuple[np.ndarray, bool]:
    """Signs (n,) such that i and j have the same, or where `opposite` the other one; and whether there are such signs.

    Two copies of everything, + and −, are linked as the signs ask: each part falls into two if and only if there are.
    """
    double, sheet = parts(2 * n, np.concatenate([i, i + n]), np.concatenate([j + n * opposite, j + n * ~opposite]))
    return np.where(sheet[:n] <= sheet[n:], 1, -1), double == 2 * parts(n, i, j)[0]


def parts(n: int, i: np.ndarray, j: np.ndarray) -> tuple[int, np.ndarray]:
    """How many parts n things fall into where i and j are linked, and the part of each, (n,)."""
    return connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)
