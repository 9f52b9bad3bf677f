"""The target measure: finitely many weighted points."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CHUNK = 1 << 20  # numbers that are looked at together: the points may lie in a file


@dataclass(frozen=True, eq=False)
class Discrete:
    """Weighted points Σ nu_i δ(y_i), valid from birth.

    points (n, d) and weights (n,) are given as arrays or tensors and kept as tensors with their values, order and dtype
    (float16 and bfloat16 become float32; whole numbers the default dtype). Weights default to 1/n; zero is allowed.
    A numpy array is copied, except where it lies in a file (`np.memmap`, as from `np.load(path, mmap_mode="r")`): it
    stays there, in float32 or float64, and what is mapped for reading only must not be written to.

    Raises:
        ValueError: a shape, a NaN or Inf, a negative weight, a sum of weights off 1 by more than 1e-4.
        TypeError: points or weights that aren't real numbers.

    Example:
        >>> nu = Discrete(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([0.25, 0.75]))
        >>> nu.n, nu.dim, nu.weights
        (2, 2, tensor([0.2500, 0.7500]))
    """

    points: Tensor
    weights: Tensor = None  # type: ignore[assignment]  # given as None, it is 1/n from birth

    def __post_init__(self) -> None:
        points = _real(self.points, "points")
        if points.ndim != 2 or 0 in points.shape:
            raise ValueError(f"points must have shape (n, d) with n, d at least 1, got {tuple(points.shape)}")
        _finite(points, "points")
        n = len(points)
        if self.weights is None:
            weights = torch.full((n,), 1 / n, dtype=points.dtype, device=points.device)
        else:
            weights = _real(self.weights, "weights").to(points.device)
        if weights.shape != (n,):
            raise ValueError(f"weights must have one entry per point, got {tuple(weights.shape)} for {n} points")
        _finite(weights, "weights")
        if (weights < 0).any():
            i = int((weights < 0).nonzero()[0])
            raise ValueError(f"weights must not be negative, got {weights[i]:g} at point {i}")
        total = weights.double().sum().item()
        if abs(total - 1) > 1e-4:
            raise ValueError(f"weights must sum to 1, got {total:g} over {n} points")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "weights", weights)

    @property
    def n(self) -> int:
        """Number of points."""
        return self.points.shape[0]

    @property
    def dim(self) -> int:
        """Dimension d of the points."""
        return self.points.shape[1]


def _real(values: object, name: str) -> Tensor:
    """As a floating tensor that owes nothing to a gradient."""
    real = _tensor(values, name)
    if not real.is_floating_point():
        return real.to(torch.get_default_dtype())
    return real.float() if real.dtype in (torch.float16, torch.bfloat16) else real


def _tensor(values: object, name: str) -> Tensor:
    """As a tensor of the values' own dtype, if they are real numbers."""
    if not isinstance(values, Tensor):
        try:
            array = np.asarray(values)
        except ValueError:
            raise ValueError(f"{name} must have rows of one length") from None
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} must be real numbers, got an array of {array.dtype}")
        values = _mapped(array) if isinstance(values, np.memmap) else torch.from_numpy(_native(array))
    if values.is_complex():
        raise TypeError(f"{name} must be real numbers, got a tensor of {values.dtype}")
    return values.detach()


def _native(array: np.ndarray) -> np.ndarray:
    """A copy, its bytes in the machine's order."""
    return np.array(array, array.dtype.newbyteorder("="))


def _mapped(array: np.ndarray) -> Tensor:
    """The array where it lies, if its bytes are in the machine's order."""
    if not array.dtype.isnative:
        return torch.from_numpy(_native(array))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


def _finite(values: Tensor, name: str) -> None:
    size = max(1, CHUNK // (values.numel() // len(values)))
    bad = [int((~rows.isfinite()).sum()) for rows in values.split(size)]
    if any(bad):
        first = next(i for i, number in enumerate(bad) if number) * size
        row = first + int((~values[first : first + size].isfinite()).reshape(-1, values[0].numel()).any(1).nonzero()[0])
        raise ValueError(f"{name} must be finite, got {sum(bad)} NaN or Inf, the first in row {row}")
