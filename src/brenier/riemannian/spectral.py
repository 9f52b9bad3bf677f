"""Functions of symmetric matrices, f(a) = v f(λ) vᵀ, whose derivatives are right where eigenvalues are equal.

The derivatives are those of Daleckii and Krein: with divided differences f[λ_i, λ_j], which never divide by a small
λ_i − λ_j, and with directions written in the eigenvectors,

    Df(a)[e]_ij = f[λ_i, λ_j] e_ij,      D²f(a)[e, h]_ij = Σ_k f[λ_i, λ_k, λ_j] (e_ik h_kj + h_ik e_kj).

Source: Higham, Functions of Matrices, 2008, chapter 3.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from brenier.smooth import sinhc_root

TERMS = 26
_EXP = [1 / math.factorial(k + 2) for k in range(TERMS)]
_LOG = [(-1) ** (k + 1) / (k + 2) for k in range(TERMS)]
VALUES = {"exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt}


def sym(a: Tensor) -> Tensor:
    """(a + aᵀ) / 2."""
    return (a + a.mT) / 2


def eye_like(a: Tensor) -> Tensor:
    """The identity of the size of the last axis of a."""
    return torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)


def spectral(a: Tensor, function: str) -> Tensor:
    """f(a) of symmetric matrices (..., n, n), f one of exp, log, sqrt, rsqrt; NaN where a is not finite.

    Raises:
        NotImplementedError: a third derivative is sought.

    Example:
        >>> a = torch.eye(2, dtype=torch.float64).requires_grad_()
        >>> spectral(a, "log").trace().backward()
        >>> a.grad.diagonal()
        tensor([1., 1.], dtype=torch.float64)
    """
    return _Spectral.apply(a, function)


def _first(x: Tensor, y: Tensor, function: str) -> Tensor:
    """f[x, y]."""
    if function == "exp":
        return ((x + y) / 2).exp() * sinhc_root(((x - y) / 2).square())
    if function == "log":
        share = ((x - y) / (x + y)).clamp(-1, 1)
        small = share.abs() < 1e-3
        safe = torch.where(small, 0.5, share)
        ratio = torch.where(small, 1 + share**2 / 3 + share**4 / 5, safe.atanh() / safe)
        ratio = torch.where(share.abs() > 0.9, (x / y).log() / torch.where(small, 1.0, 2 * share), ratio)
        return ratio * 2 / (x + y)
    x, y = x.sqrt(), y.sqrt()
    return 1 / (x + y) if function == "sqrt" else -1 / (x * y * (x + y))


def _second(x: Tensor, y: Tensor, z: Tensor, function: str) -> Tensor:
    """f[x, y, z]: closed forms, or a series about the mean where the three are close."""
    if function in ("sqrt", "rsqrt"):
        x, y, z = x.sqrt(), y.sqrt(), z.sqrt()
        pairs = (x + y) * (y + z) * (z + x)
        return -1 / pairs if function == "sqrt" else (x + y + z) / (x * y * z * pairs)
    low, mid, high = torch.stack(torch.broadcast_tensors(x, y, z)).sort(0).values
    mean, width = (low + mid + high) / 3, high - low
    close = width < (0.5 if function == "exp" else 0.25 * mid)
    parts = [torch.where(close, (t - mean) / (1 if function == "exp" else mean), 0.0) for t in (low, mid, high)]
    powers = [[torch.ones_like(mean)] for _ in parts]  # the complete homogeneous polynomials of one, two, three of them
    for k in range(1, TERMS):
        below = torch.zeros_like(mean)
        for part, row in zip(parts, powers, strict=True):
            below = below + part * row[k - 1]
            row.append(below)
    total = sum(c * h for c, h in zip(_EXP if function == "exp" else _LOG, powers[-1], strict=True))
    total = total * mean.exp() if function == "exp" else total / mean.square()
    apart = (_first(mid, high, function) - _first(low, mid, function)) / torch.where(close, 1.0, width)
    return torch.where(close, total, apart)


class _Spectral(torch.autograd.Function):
    """f(a), or its derivatives in directions; the gradient of each is the next."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, function: str, *directions: Tensor) -> Tensor:
        finite = a.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
        values, v = torch.linalg.eigh(torch.where(finite, sym(a), eye_like(a)))
        values = torch.where(finite[..., 0], values, torch.nan)
        if not directions:
            return sym(v * VALUES[function](values)[..., None, :] @ v.mT)
        e, *rest = (v.mT @ sym(d) @ v for d in directions)
        if not rest:
            inside = _first(values[..., :, None], values[..., None, :], function) * e
        elif len(rest) == 1:
            (h,) = rest
            slopes = _second(
                values[..., :, None, None], values[..., None, :, None], values[..., None, None, :], function
            )
            inside = torch.einsum("...ikj,...ik,...kj->...ij", slopes, e, h)
            inside = inside + torch.einsum("...ikj,...ik,...kj->...ij", slopes, h, e)
        else:
            raise NotImplementedError(f"functions of matrices have two derivatives here, got asked for {1 + len(rest)}")
        return sym(v @ inside @ v.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        a, ctx.function, *directions = inputs
        ctx.save_for_backward(a, *directions)
        ctx.save_for_forward(a, *directions)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        a, *directions = ctx.saved_tensors
        (grad,) = grads
        along = [
            _Spectral.apply(a, ctx.function, *directions[:k], grad, *directions[k + 1 :]) if needed else None
            for k, needed in enumerate(ctx.needs_input_grad[2:])
        ]
        at = _Spectral.apply(a, ctx.function, *directions, grad) if ctx.needs_input_grad[0] else None
        return at, None, *along

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        a, *directions = ctx.saved_tensors
        at, _, *along = tangents
        total = torch.zeros_like(a) if at is None else _Spectral.apply(a, ctx.function, *directions, at)
        for k, tangent in enumerate(along):
            if tangent is not None:
                total = total + _Spectral.apply(a, ctx.function, *directions[:k], tangent, *directions[k + 1 :])
        return total
