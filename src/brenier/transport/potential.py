"""The Brenier potential of a discrete target: an upper envelope of planes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from brenier.transport.planes import Parts, Planes, laid_out
from brenier.transport.rows import Rows

Array = TypeVar("Array", Tensor, np.ndarray)


@dataclass(frozen=True, eq=False)
class BrenierPotential:
    """u(x) = max_i <x, y_i> + h_i: convex, piecewise linear; grad u = y_i on the cell W_i = {x : i attains the max}.

    points y (n, d) and heights h (n,) are tensors in the user's coordinates; exact heights are float64 beside any
    points. The heights of an optimal transport are unique up to a constant, which moves no cell. x (m, d) is cast to
    the points' dtype and device; a numpy x gets numpy answers. On a facet, where several targets tie, one of them is
    given.

    Raises:
        ValueError: a shape that does not fit, with the shape.

    Source: Gu, Luo, Sun, Yau, Variational principles for Minkowski type problems, 2016.

    Example:
        >>> u = BrenierPotential(torch.tensor([[-1.0], [1.0]]), torch.zeros(2))
        >>> x = torch.tensor([[-0.5], [2.0]])
        >>> u(x), u.cell(x), u.gradient(x)
        (tensor([0.5000, 2.0000]), tensor([0, 1]), tensor([[-1.],
                [ 1.]]))
    """

    points: Tensor
    heights: Tensor

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.heights.shape != self.points.shape[:1]:
            got = f"{tuple(self.points.shape)} and {tuple(self.heights.shape)}"
            raise ValueError(f"a potential needs points (n, d) and heights (n,), got {got}")

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.points.shape[1]

    @cached_property
    def centre(self) -> Tensor:
        """Mean of the points (d,): scores are taken from it, so that a far-off target costs no digits."""
        even = torch.full_like(self.heights, 1 / len(self.points), dtype=torch.float64, requires_grad=False)
        return Rows(self.points).mean(even).to(self.points)

    @cached_property
    def planes(self) -> Planes | Parts:
        """The planes of the centred points."""
        return laid_out(Rows(self.points, self.centre), self.heights.to(self.points))

    def to_points(self, x: Tensor | np.ndarray) -> Tensor:
        """x (m, d) in the points' dtype and on their device."""
        tensor = torch.as_tensor(x).to(self.points)
        if tensor.ndim != 2 or tensor.shape[1] != self.dim:
            raise ValueError(f"x must have shape (m, {self.dim}), got {tuple(tensor.shape)}")
        finite = tensor.isfinite().all(1)
        if not finite.all():
            raise ValueError(f"x must be finite, got NaN or Inf in row {int(finite.int().argmin())}")
        return tensor

    def __call__(self, x: Array) -> Array:
        """u(x), (m,)."""
        rows = self.to_points(x)
        return like(x, self.planes.top(rows, 1)[0][:, 0] + rows @ self.centre)

    def cell(self, x: Array) -> Array:
        """Index i of the cell that holds x, (m,) long."""
        return like(x, self.planes.top(self.to_points(x), 1)[1][:, 0])

    def gradient(self, x: Array) -> Array:
        """grad u(x) = y_i, the transport map itself, (m, d): rows of points bit for bit."""
        return like(x, self.points[self.planes.top(self.to_points(x), 1)[1][:, 0]])


def like(x: Array, result: Tensor) -> Array:
    """The result as numpy where x is numpy."""
    return result.cpu().numpy() if isinstance(x, np.ndarray) else result
