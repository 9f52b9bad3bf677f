"""The Levi-Civita connection of a metric: Christoffel symbols, covariant derivative, volume density."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from brenier.geometry import metric as of
from brenier.geometry.batch import each
from brenier.geometry.blame import complaint
from brenier.geometry.derivative import chosen, sound
from brenier.geometry.forms import Plain
from brenier.geometry.metric import Metric


def christoffel(metric: Metric, x: Any) -> Any:
    """Christoffel symbols Γ^k_ij = ½ G^kl (∂_i G_jl + ∂_j G_il − ∂_l G_ij) at x (..., d): (..., d, d, d), [k, i, j].

    Raises:
        ValueError: the metric is not finite, symmetric and positive definite at a point of x, which is named.

    Source: do Carmo, Riemannian Geometry, chapter 2.

    Example:
        >>> half_plane = lambda x: torch.eye(2) / x[1] ** 2
        >>> christoffel(half_plane, torch.tensor([0.0, 2.0]))[1]
        tensor([[ 0.5000,  0.0000],
                [ 0.0000, -0.5000]])
    """
    return each(metric, lambda g, x: of.christoffel(metric, x), _slopes(x), 3, x=x)


def covariant_derivative(metric: Metric, field: Callable[[Tensor], Tensor], x: Any, v: Any) -> Any:
    """∇_v X = D_v X + Γ(v, X) at x (..., d) along v (..., d), for a vector field X, a function (d,) -> (d,).

    Raises:
        ValueError: as `christoffel`; x and v differ in shape, dtype or device; the field gives another shape.

    Example:
        >>> flat = lambda x: torch.eye(2)
        >>> covariant_derivative(flat, lambda x: x * x[0], torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0]))
        tensor([4., 1.])
    """

    def batched(x: Tensor) -> Tensor:
        with Plain():
            return vmap(field)(x)

    def derivative(g: Tensor, x: Tensor, v: Tensor) -> Tensor:
        value = batched(x)
        if value.shape != x.shape:
            raise ValueError(f"the field must return {tuple(x.shape[1:])}, got {tuple(value.shape[1:])}")
        way = chosen(lambda way: sound(batched, x[:4], way, 1))
        if not callable(way):
            raise ValueError(complaint("field", of.name(x[0]), lambda: field(x[0]), field, 1, way)) from way
        return way(batched, x, v) + torch.einsum("mkij,mi,mj->mk", of.christoffel(metric, x), v, value)

    return each(metric, derivative, _slopes(x), 1, x=x, v=v)


def volume_density(metric: Metric, x: Any) -> Any:
    """√det G at x (..., d): how much volume a unit cube of coordinates holds there, (...).

    Raises:
        ValueError: as `christoffel`.

    Example:
        >>> volume_density(lambda x: torch.eye(2) / x[1] ** 2, torch.tensor([0.0, 2.0]))
        tensor(0.2500)
    """

    def density(g: Tensor, x: Tensor) -> Tensor:
        return torch.linalg.cholesky(g).diagonal(dim1=1, dim2=2).prod(1)

    return each(metric, density, 1, 0, x=x)


def _slopes(x: Any) -> int:
    """How many evaluations one slope of the metric takes."""
    return 2 * x.shape[-1] if getattr(x, "ndim", 0) else 1
