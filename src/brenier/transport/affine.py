"""The affine map that gives a cloud of points the mean and the covariance of another."""

from __future__ import annotations

import torch
from torch import Tensor

FLAT = 1e-10  # variances below this share of the largest are rounding


def moments_of(x: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return mean (d,) and covariance (d, d) of rows x (m, d) under `weights` (m,), equal by default; float64."""
    x = x.double()
    w = torch.ones_like(x[:, 0]) if weights is None else weights.double()
    w = w / w.sum()
    mean = w @ x
    away = x - mean
    return mean, (away * w[:, None]).T @ away


def bures(s: Tensor, r: Tensor) -> Tensor:
    """Return the symmetric A (d, d) with A S A = R, the optimal map from N(0, S) to N(0, R).

    A = S^{-1/2} (S^{1/2} R S^{1/2})^{1/2} S^{-1/2}, with the pseudo-inverse where S is singular.

    Source: Bures 1969; Dowson and Landau 1982.

    Example:
        >>> bures(torch.eye(2, dtype=torch.float64), 4 * torch.eye(2, dtype=torch.float64)).diagonal()
        tensor([2., 2.], dtype=torch.float64)
    """
    values, vectors = torch.linalg.eigh(s)
    kept = values > FLAT * values.amax()
    root = torch.where(kept, values.clamp(min=0).sqrt(), 0.0)
    back = torch.where(kept, 1 / root, 0.0)
    inner = root[:, None] * (vectors.T @ r @ vectors) * root
    inner_values, inner_vectors = torch.linalg.eigh(inner)
    middle = (inner_vectors * inner_values.clamp(min=0).sqrt()) @ inner_vectors.T
    half = vectors * back
    return half @ middle @ half.T
