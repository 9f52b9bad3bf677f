"""Functions of a square q = s² that are smooth at q = 0, and lengths whose gradient at 0 is 0 in place of NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TERMS = 14
_COS = [(-1) ** k / math.factorial(2 * k) for k in range(TERMS)]
_SINC = [(-1) ** k / math.factorial(2 * k + 1) for k in range(TERMS)]
_COSH = [1 / math.factorial(2 * k) for k in range(TERMS)]
_SINHC = [1 / math.factorial(2 * k + 1) for k in range(TERMS)]
_ASIN = [math.comb(2 * k, k) / (4**k * (2 * k + 1)) for k in range(TERMS)]


def slopes(terms: int) -> list[float]:
    """The first coefficients of the series of θ / sin θ in q = sin²(θ/2): 4^k k!² / (2k + 1)!."""
    return [4**k * math.factorial(k) ** 2 / math.factorial(2 * k + 1) for k in range(terms)]


_SLOPE = slopes(TERMS)
_ATAN = [(-1) ** k / (2 * k + 1) for k in range(TERMS)]
_ASINH = [(-1) ** k * c for k, c in enumerate(_ASIN)]
_SLOPEH = [(-1) ** k * c for k, c in enumerate(_SLOPE)]


def root(q: Tensor) -> Tensor:
    """√q for q ≥ 0; at q = 0 all derivatives are 0."""
    zero = q <= 0
    return torch.where(zero, 0.0 * q, torch.where(zero, 1.0, q).sqrt())


def length(v: Tensor) -> Tensor:
    """|v| of vectors (..., n), (..., 1); at v = 0 the gradient is 0."""
    return root((v * v).sum(-1, keepdim=True))


def series(q: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Σ c_k q^k by Horner's rule."""
    total = torch.full_like(q, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * q + c
    return total


def _even(q: Tensor, coefficients: Sequence[float], below: float, closed: Callable[[Tensor], Tensor]) -> Tensor:
    """The series where q < below, `closed(√q)` elsewhere."""
    near = q < below
    return torch.where(near, series(torch.where(near, q, 0.0), coefficients), closed(torch.where(near, 1.0, q).sqrt()))


def cos_root(q: Tensor) -> Tensor:
    """cos √q."""
    return _even(q, _COS, 1.0, torch.cos)


def sinc_root(q: Tensor) -> Tensor:
    """sin √q / √q."""
    return _even(q, _SINC, 1.0, lambda s: s.sin() / s)


def cosh_root(q: Tensor) -> Tensor:
    """cosh √q."""
    return _even(q, _COSH, 1.0, torch.cosh)


def sinhc_root(q: Tensor) -> Tensor:
    """sinh √q / √q."""
    return _even(q, _SINHC, 1.0, lambda s: s.sinh() / s)


def asin_root(q: Tensor) -> Tensor:
    """arcsin √q / √q, 0 ≤ q < 1."""
    return _even(q, _ASIN, 0.03, lambda s: s.clamp(max=1).asin() / s)


def atan_root(q: Tensor) -> Tensor:
    """arctan √q / √q."""
    return _even(q, _ATAN, 0.03, lambda s: s.atan() / s)


def asinh_root(q: Tensor) -> Tensor:
    """arsinh √q / √q."""
    return _even(q, _ASINH, 0.03, lambda s: s.asinh() / s)


def asin_slope(q: Tensor) -> Tensor:
    """arcsin √q / √(q(1 − q)), 0 ≤ q < 1: θ / sin θ at q = sin²(θ/2)."""
    return _even(q, _SLOPE, 0.03, lambda s: s.asin() / (s * (1 - s * s).sqrt()))


def asinh_slope(q: Tensor) -> Tensor:
    """arsinh √q / √(q(1 + q)): d / sinh d at q = sinh²(d/2)."""
    return _even(q, _SLOPEH, 0.03, lambda s: s.asinh() / (s * (1 + s * s).sqrt()))
