"""Symmetric positive definite matrices, the last two axes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from brenier.riemannian.base import Checked, Reason
from brenier.riemannian.spectral import spectral, sym


class SPD(Checked):
    """Symmetric positive definite matrices (..., n, n) with the affine-invariant metric tr x⁻¹u x⁻¹v.

    With x = l lᵀ and y' = l⁻¹ y l⁻ᵀ:  exp = l e^(l⁻¹ u l⁻ᵀ) lᵀ,  log = l (log y') lᵀ,  d = |log y'|, transport by
    e = l y'^(1/2) l⁻¹: e v eᵀ. `retr` is x + u + u x⁻¹u/2, of second order and positive definite for every u.

    A matrix that is not positive definite raises ValueError with its least eigenvalue; two so far apart that one in
    the other's measure is singular to rounding raise ArithmeticError.

    Source: Pennec, Fillard and Ayache, A Riemannian framework for tensor computing, IJCV 2006.

    Example:
        >>> SPD().dist(torch.eye(2), torch.e * torch.eye(2))
        tensor(1.4142)
    """

    name, ndim, regular = "SPD", 2, math.inf

    def _check_shape(self, shape: tuple[int, ...], name: str) -> Reason:
        if len(shape) < 2 or shape[-2] != shape[-1]:
            return False, f"{name} must be (..., n, n), got {tuple(shape)}"
        return True, None

    def error(self, x: Tensor) -> Tensor:
        """max |x − xᵀ|, or how negative the least eigenvalue is."""
        least = torch.linalg.eigvalsh(sym(x))[..., 0]
        skew = (x - x.mT).abs().amax((-2, -1))
        return torch.where(least > 0, skew, torch.maximum(skew, torch.finfo(x.dtype).tiny - least))

    def _check_point_on_manifold(self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5) -> Reason:
        if x.numel() == 0:
            return True, None
        if not bool((least := torch.linalg.eigvalsh(sym(x))[..., 0].reshape(-1)).amin() > 0):
            worst = int(least.nan_to_num(-torch.inf).argmin())
            return False, f"matrix {worst} has the eigenvalue {float(least[worst]):.3g}"
        return super()._check_point_on_manifold(x, atol=atol * float(x.abs().amax()), rtol=rtol)

    def factor(self, x: Tensor) -> Tensor:
        """Cholesky's factor l of x = l lᵀ."""
        factor, failed = torch.linalg.cholesky_ex(sym(x))
        if bool(failed.any()):
            worst = int(failed.reshape(-1).argmax())
            least = float(torch.linalg.eigvalsh(sym(x)).reshape(-1, x.shape[-1])[worst, 0])
            raise ValueError(f"matrices must be positive definite, got the eigenvalue {least:.3g} in matrix {worst}")
        return factor

    def _whiten(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """l and l⁻¹ y l⁻ᵀ."""
        factor = self.factor(x)
        half = torch.linalg.solve_triangular(factor, y, upper=False)
        return factor, sym(torch.linalg.solve_triangular(factor, half.mT, upper=False))

    def _log(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """l and log(l⁻¹ y l⁻ᵀ)."""
        factor, white = self._whiten(x, y)
        log = spectral(white, "log")
        if not bool(log.isfinite().all()):
            self.factor(y)
            raise ArithmeticError(f"matrices are too far apart for {x.dtype}: one in the other's measure is singular")
        return factor, log

    def projx(self, x: Tensor) -> Tensor:
        """The symmetric part, its eigenvalues not below eps times the largest."""
        values, vectors = torch.linalg.eigh(sym(x))
        floor = torch.finfo(x.dtype).eps * values.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        positive = bool((values >= floor).all())
        return sym(x) if positive else sym(vectors * torch.maximum(values, floor)[..., None, :] @ vectors.mT)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """(u + uᵀ) / 2."""
        return sym(u)

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """x sym(u) x."""
        return sym(x @ sym(u) @ x)

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """tr x⁻¹u x⁻¹v."""
        factor = self.factor(x)
        left = torch.cholesky_solve(u, factor)
        right = left if v is None else torch.cholesky_solve(v, factor)
        return (left * right.mT).sum((-2, -1), keepdim=keepdim)

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """x + u + u x⁻¹u / 2."""
        return sym(x + u + u @ torch.cholesky_solve(u, self.factor(x)) / 2)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """l e^(l⁻¹ u l⁻ᵀ) lᵀ."""
        factor, white = self._whiten(x, u)
        half = factor @ spectral(white / 2, "exp")
        return half @ half.mT

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """l log(l⁻¹ y l⁻ᵀ) lᵀ."""
        factor, log = self._log(x, y)
        return sym(factor @ log @ factor.mT)

    def dist2(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """Σ log² λ, λ the eigenvalues of x⁻¹y."""
        return self._log(x, y)[1].square().sum((-2, -1), keepdim=keepdim)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport: e v eᵀ, e = (y x⁻¹)^(1/2)."""
        factor, white = self._whiten(x, y)
        self.factor(y)
        _, within = self._whiten(x, v)
        side = factor @ spectral(white, "sqrt")
        return sym(side @ within @ side.mT)

    def inside(self, x: Tensor) -> Tensor:
        """Whether Cholesky's factor of each matrix exists."""
        finite = super().inside(x)
        return finite & (torch.linalg.cholesky_ex(torch.where(finite[..., None, None], x, 0.0)).info == 0)

    def _dim(self, shape: tuple[int, ...]) -> int:
        return shape[-1] * (shape[-1] + 1) // 2

    def _origin(self, zero: Tensor) -> Tensor:
        zero.diagonal(dim1=-2, dim2=-1).fill_(1)
        return zero

    def _random(self, normal: Tensor) -> Tensor:
        return spectral(sym(normal) / normal.shape[-1] ** 0.5, "exp")

    def _tangent(self, x: Tensor, normal: Tensor) -> Tensor:
        factor = self.factor(x)
        upper = normal.triu(1) / 2**0.5
        return sym(factor @ (upper + upper.mT + torch.diag_embed(normal.diagonal(dim1=-2, dim2=-1))) @ factor.mT)
