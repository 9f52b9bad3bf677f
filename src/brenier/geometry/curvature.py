"""The curvature of a metric: Riemann, Ricci, scalar, sectional; the unit sphere has +1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from brenier.geometry import metric as of
from brenier.geometry.batch import each
from brenier.geometry.metric import Metric, name


def riemann(metric: Metric, x: Any) -> Any:
    """Riemann tensor R_ijkl at x (..., d), all indices lowered: (..., d, d, d, d).

    R_ijkl = ½ (∂_j∂_k G_il + ∂_i∂_l G_jk − ∂_j∂_l G_ik − ∂_i∂_k G_jl) + G_ab (Γ^a_jk Γ^b_il − Γ^a_jl Γ^b_ik), which is
    G_ik G_jl − G_il G_jk on the unit sphere.

    Raises:
        ValueError: the metric is not finite, symmetric and positive definite at a point of x, which is named; or it is
            pulled back by a piecewise-linear map, whose curvature sits in the creases.

    Source: Misner, Thorne and Wheeler, Gravitation, equation 14.18 and its frame-free form, exercise 13.10.

    Example:
        >>> half_plane = lambda x: torch.eye(2, dtype=x.dtype) / x[1] ** 2
        >>> riemann(half_plane, torch.tensor([0.0, 1.0]))[0, 1, 0, 1]
        tensor(-1.)
    """
    return each(metric, lambda g, x: of.riemann(metric, x), _bends(x), 4, x=x)


def ricci(metric: Metric, x: Any) -> Any:
    """Ricci tensor Ric_jl = G^ik R_ijkl at x (..., d): (..., d, d); (d − 1) G on the unit sphere.

    Raises:
        ValueError: as `riemann`.

    Example:
        >>> ricci(lambda x: torch.eye(2) / x[1] ** 2, torch.tensor([0.0, 1.0])).diagonal()
        tensor([-1., -1.])
    """
    return each(metric, lambda g, x: _ricci(g, of.riemann(metric, x)), _bends(x), 2, x=x)


def scalar_curvature(metric: Metric, x: Any) -> Any:
    """Scalar curvature G^jl Ric_jl at x (..., d): (...); twice the Gaussian curvature of a surface.

    Raises:
        ValueError: as `riemann`.

    Example:
        >>> scalar_curvature(lambda x: torch.eye(2) / x[1] ** 2, torch.tensor([0.0, 1.0]))
        tensor(-2.)
    """

    def scalar(g: Tensor, x: Tensor) -> Tensor:
        return torch.linalg.solve(g, _ricci(g, of.riemann(metric, x))).diagonal(dim1=1, dim2=2).sum(1)

    return each(metric, scalar, _bends(x), 0, x=x)


def sectional_curvature(metric: Metric, x: Any, v: Any, w: Any) -> Any:
    """Curvature R(v, w, v, w) / (|v|² |w|² − <v, w>²) of the plane of v and w (..., d) at x (..., d): (...).

    Raises:
        ValueError: as `riemann`; x, v, w differ in shape, dtype or device; v and w span no plane, the point is named.

    Example:
        >>> v, w = torch.eye(2)
        >>> sectional_curvature(lambda x: torch.eye(2) / x[1] ** 2, torch.tensor([0.0, 1.0]), v, w)
        tensor(-1.)
    """

    def sectional(g: Tensor, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        vv, vw, ww = (torch.einsum("mi,mij,mj->m", a, g, b) for a, b in ((v, v), (v, w), (w, w)))
        area = vv * ww - vw.square()
        lost = area <= 100 * torch.finfo(g.dtype).eps * vv * ww
        if lost.any():
            raise ValueError(
                f"v and w must span a plane, at {name(x[lost][0])} got {name(v[lost][0])}, {name(w[lost][0])}"
            )
        return torch.einsum("mijkl,mi,mj,mk,ml->m", of.riemann(metric, x), v, w, v, w) / area

    return each(metric, sectional, _bends(x), 0, x=x, v=v, w=w)


def _ricci(g: Tensor, r: Tensor) -> Tensor:
    return torch.einsum("mik,mijkl->mjl", torch.cholesky_inverse(torch.linalg.cholesky(g)), r)


def _bends(x: Any) -> int:
    """How many evaluations the second derivatives of the metric take."""
    return 4 * x.shape[-1] ** 2 if getattr(x, "ndim", 0) else 1
