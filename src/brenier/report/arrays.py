"""What every number and figure needs first: a checked matrix, a seeded generator, distances in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

CHUNK = 1 << 22  # entries of a block of distances: 32 MiB of float64


def matrix(x: Any, name: str, rows: int = 1) -> np.ndarray:
    """`x` as a finite float64 array (m, d) with at least `rows` rows; raises TypeError or ValueError naming it."""
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must be an array or tensor of real numbers, got {getattr(x, 'dtype', type(x).__name__)}"
        )
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must have shape (m, d), got {tuple(array.shape)}")
    if len(array) < rows:
        raise ValueError(f"{name} must have at least {rows} rows, got {len(array)}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or Inf in row {(~np.isfinite(array)).any(1).argmax()}")
    return array


def matrices(rows: int = 1, **named: Any) -> list[np.ndarray]:
    """Several arrays checked by `matrix`, which must have the same number of columns."""
    checked = {name: matrix(x, name, rows) for name, x in named.items()}
    widths = {name: x.shape[1] for name, x in checked.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"the arrays must have the same number of columns, got {widths}")
    return list(checked.values())


def random(seed: int | torch.Generator) -> np.random.Generator:
    """A numpy generator from an int or drawn from a torch.Generator."""
    if isinstance(seed, torch.Generator):
        seed = int(torch.randint(2**62, (), generator=seed, device=seed.device))
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed must be an int or a torch.Generator, got {type(seed).__name__}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    return np.random.default_rng(seed)


def square_distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, torch.Tensor]]:
    """Chunks of |a_i − b_j|²: pairs (rows of a, block (rows, n)), at most `CHUNK` entries, or one row, at once.

    All blocks are one piece of memory, so each is to be used before the next is asked for: pieces of their own would
    leave holes in the heap, gigabytes of them.
    """
    centre = b.mean(0)
    p, q = torch.from_numpy(a - centre), torch.from_numpy(b - centre)
    lengths, step = q.square().sum(1), max(1, CHUNK // len(b))
    memory = q.new_empty(min(step, len(a)), len(b))
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        block = torch.addmm(lengths, p[rows], q.T, alpha=-2, out=memory[: rows.stop - start])
        yield rows, block.add_(p[rows].square().sum(1, keepdim=True)).clamp_(min=0)


def nearest(queries: np.ndarray, points: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices, (m, k) each and ascending, of the k nearest `points`; a copy has distance exactly 0."""
    index = np.concatenate([d.topk(k, largest=False).indices.numpy() for _, d in square_distances(queries, points)])
    distance = np.stack([np.linalg.norm(queries - points[column], axis=1) for column in index.T], 1)
    order = distance.argsort(1, kind="stable")
    return np.take_along_axis(distance, order, 1), np.take_along_axis(index, order, 1)
