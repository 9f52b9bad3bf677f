"""Leading axes, kinds of array and bounded memory: what every verb does around its mathematics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brenier.geometry.metric import Metric, checked, name

BUDGET = 1 << 25  # floats that one chunk may keep


def as_points(**arrays: Any) -> tuple[list[Tensor], Callable[[Tensor], Any]]:
    """The arrays (..., d) as detached tensors of one floating dtype, shape and device, and the way back to their kind.

    numpy gives numpy; whole numbers become floats of torch's default dtype, half precision becomes float32.

    Raises:
        TypeError: no array, arrays of two kinds, or no real numbers. ValueError: no coordinates, NaN or Inf (the first
            such point is named), or arrays that differ in shape, dtype or device.
    """
    tensors = [_as_tensor(key, value) for key, value in arrays.items()]
    (first, model), *others = zip(arrays, arrays.values(), strict=True)
    for (key, value), found in zip(others, tensors[1:], strict=True):
        if isinstance(value, np.ndarray) != isinstance(model, np.ndarray):
            kinds = f"{type(model).__name__} and {type(value).__name__}"
            raise TypeError(f"{first} and {key} must be arrays of one kind, got {kinds}")
        for what in ("shape", "dtype", "device"):
            mine, its = (getattr(t, what) for t in (tensors[0], found))
            if mine != its:
                mine, its = (tuple(mine), tuple(its)) if what == "shape" else (mine, its)
                raise ValueError(f"{first} and {key} must have the same {what}, got {mine} and {its}")
    for key, found in zip(arrays, tensors, strict=True):
        rows = found.reshape(-1, found.shape[-1])
        bad = ~rows.isfinite().all(1)
        if bad.any():
            raise ValueError(f"{key} must be finite, got {name(rows[bad][0])}")
    return tensors, (lambda answer: answer.numpy()) if isinstance(model, np.ndarray) else (lambda answer: answer)


def _as_tensor(key: str, value: Any) -> Tensor:
    if not isinstance(value, (Tensor, np.ndarray)):
        raise TypeError(f"{key} must be a torch tensor or a numpy array, got {type(value).__name__}")
    found = torch.as_tensor(value).detach()
    if found.is_complex():
        raise TypeError(f"{key} must hold real numbers, got {found.dtype}")
    if not found.is_floating_point():
        found = found.to(torch.get_default_dtype())
    elif found.itemsize < 4:
        found = found.float()
    if found.ndim == 0 or found.shape[-1] == 0:
        raise ValueError(f"{key} must be (..., d) with d at least 1, got shape {tuple(found.shape)}")
    return found


def slices(count: int, floats: int) -> Iterator[slice]:
    """Slices of `count` rows of so many floats each, such that one stays within the budget."""
    step = max(BUDGET // floats, 1)
    return (slice(i, i + step) for i in range(0, count, step))


def chunks(metric: Metric, count: int, d: int, copies: int) -> Iterator[slice]:
    """Slices of `count` rows such that `copies` evaluations of the metric a row stay within the budget."""
    return slices(count, copies * max(int(getattr(metric, "floats", 0)), d * d))


def each(metric: Metric, function: Callable[..., Tensor], copies: int, rank: int, **arrays: Any) -> Any:
    """function(g, x, ...) of flat chunks, in the arrays' kind and leading shape; g is G, checked, at the first of them.

    `copies` is how many evaluations of the metric the function keeps for a row, `rank` how many sides of length d its
    answer has for a row: no points have an answer of that shape, and the metric is not asked.
    """
    tensors, back = as_points(**arrays)
    lead, d = tensors[0].shape[:-1], tensors[0].shape[-1]
    if 0 in lead:
        return back(tensors[0].new_zeros(*lead, *[d] * rank))
    flat = [t.reshape(-1, d) for t in tensors]
    with torch.no_grad():
        parts = []
        for rows in chunks(metric, len(flat[0]), d, copies):
            some = [t[rows] for t in flat]
            parts.append(function(checked(metric, some[0]), *some))
    answer = torch.cat(parts)
    return back(answer.reshape((*lead, *answer.shape[1:])))
