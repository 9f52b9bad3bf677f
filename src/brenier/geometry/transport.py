"""Parallel transport along a path of nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from brenier.geometry import metric as of
from brenier.geometry.batch import as_points, chunks
from brenier.geometry.metric import Metric, checked

GAUSS = 0.5 + np.array([-1, 1]) / 12**0.5


def parallel_transport(metric: Metric, path: Any, v: Any) -> Any:
    """v (..., d) at the first node of path (..., n, d), carried along it: a vector at every node, (..., n, d).

    v' = −Γ(γ', v) along the curve that is cubic through the four nodes around every side of the path. In the
    orthonormal frame L⁻ᵀ of G = L Lᵀ the equation is w' = B w with B skew, solved by Magnus' exponential at two Gauss
    points: an isometry to round-off, and of order 4 in the distance of the nodes, which should be spread evenly, as
    those of `geodesic` are.

    Raises:
        ValueError: the metric is not finite, symmetric and positive definite on the path, the point is named; path and
            v don't fit together, or path has one node only.

    Source: Iserles, Munthe-Kaas, Nørsett and Zanna, Lie-group methods, Acta Numerica 2000, section 4.

    Example:
        >>> polar = lambda x: torch.diag(torch.stack([torch.ones_like(x[0]), x[0] ** 2]))  # of the flat plane
        >>> path = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2]])
        >>> parallel_transport(polar, path, torch.tensor([1.0, 0.0]))[-1]  # (cos 0.2, −sin 0.2)
        tensor([ 0.9801, -0.1987])
    """
    (path,), back = as_points(path=path)
    (v,), _ = as_points(v=v)
    if path.ndim < 2 or path.shape[-2] < 2:
        raise ValueError(f"path must be (..., n, d) with n at least 2, got shape {tuple(path.shape)}")
    if v.shape != path.shape[:-2] + path.shape[-1:] or v.dtype != path.dtype or v.device != path.device:
        both = f"{tuple(v.shape)} {v.dtype} {v.device} beside {tuple(path.shape)} {path.dtype} {path.device}"
        raise ValueError(f"v must be (..., d) beside path (..., n, d), got {both}")
    n, d = path.shape[-2:]
    if 0 in path.shape:
        return back(path)
    paths, vectors = path.reshape(-1, n, d), v.reshape(-1, d)
    with torch.no_grad():
        parts = [_carry(metric, paths[rows], vectors[rows]) for rows in chunks(metric, len(paths), d, 4 * n * d)]
    return back(torch.cat(parts).reshape(path.shape))


def _carry(metric: Metric, path: Tensor, v: Tensor) -> Tensor:
    b, n, d = path.shape
    frames = torch.linalg.cholesky(checked(metric, path.reshape(-1, d))).view(b, n, d, d)
    near, values, slopes = _cubic(path)
    x, velocity = (torch.einsum("sqa,bsad->bsqd", w, path[:, near]) for w in (values, slopes))
    turning = _turning(metric, x.reshape(-1, d), velocity.reshape(-1, d)).view(b, n - 1, 2, d, d)
    first, second = turning.unbind(2)
    order4 = (second @ first - first @ second) * (3**0.5 / 12)
    rotations = torch.linalg.matrix_exp((first + second) / 2 + order4)
    carried = [frames[:, 0].mT @ v[..., None]]
    for i in range(n - 1):
        carried.append(rotations[:, i] @ carried[-1])
    return torch.linalg.solve_triangular(frames.mT, torch.stack(carried, 1), upper=True)[..., 0]


def _cubic(path: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per side of the path: the nodes around it (s, a), and their weights (s, 2, a) in the values and slopes of the
    polynomial through them at two Gauss points, sides being of length 1.
    """
    n = path.shape[1]
    count = min(n, 4)
    sides = np.arange(n - 1)
    first = np.clip(sides - 1, 0, n - count)
    coefficients = np.linalg.inv(np.polynomial.polynomial.polyvander(np.arange(count), count - 1))
    at = sides[:, None] - first[:, None] + GAUSS
    weights = [
        np.moveaxis(np.polynomial.polynomial.polyval(at, np.polynomial.polynomial.polyder(coefficients, k)), 0, -1)
        for k in (0, 1)
    ]
    near = torch.as_tensor(first[:, None] + np.arange(count), device=path.device)
    values, slopes = (torch.as_tensor(w).to(path) for w in weights)
    return near, values, slopes


def _turning(metric: Metric, x: Tensor, velocity: Tensor) -> Tensor:
    """B (m, d, d), skew: w' = B w for w = Lᵀ v, where v is parallel along γ' = velocity at x (m, d)."""
    checked(metric, x)
    g, change = of.tensor(metric, x), of.change(metric, x, velocity)
    factor = torch.linalg.cholesky(g)
    connection = torch.einsum("mkij,mi->mkj", of.christoffel(metric, x), velocity)
    half = torch.linalg.solve_triangular(factor, change, upper=False)
    half = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    half = half.tril() - half.diagonal(dim1=1, dim2=2).diag_embed() / 2  # L⁻¹ L', lower triangular
    moved = torch.linalg.solve_triangular(factor.mT, factor.mT @ connection, upper=True, left=False)
    turning = half.mT - moved
    return (turning - turning.mT) / 2
