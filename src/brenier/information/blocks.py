"""Symmetric positive semi-definite blocks of a curvature matrix: dense, low-rank, diagonal, Kronecker, products alone.

A block acts on columns (n, k). `damping` is a number or one for each row (n,). Without damping `solve` gives the
pseudo-inverse: what lies below n ε times the largest eigenvalue counts as 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from brenier.information.krylov import conjugate_gradients

Damping = float | Tensor


def _undamped(damping: Damping) -> bool:
    return not isinstance(damping, Tensor) and damping == 0


def _column(damping: Damping) -> Damping:
    return damping[:, None] if isinstance(damping, Tensor) else damping


def inverted(values: Tensor, n: int) -> Tensor:
    """1/value, 0 for what is nothing beside the largest."""
    least = n * torch.finfo(values.dtype).eps * values.abs().max()
    return torch.where(values > least, 1 / values, 0)


def factorised(matrix: Tensor) -> Tensor:
    """The Cholesky factor.

    Raises:
        ArithmeticError: the matrix is not positive definite in its precision.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if bool((failed != 0).any()):
        raise ArithmeticError(
            f"the damped Fisher matrix of {matrix.shape[-1]} rows is not positive definite in {matrix.dtype}: "
            "raise the damping or take float64"
        )
    return factor


class Dense:
    """A matrix (n, n)."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.n = matrix, len(matrix)

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        return torch.linalg.eigh(self.matrix)

    def times(self, v: Tensor) -> Tensor:
        """F v."""
        return self.matrix @ v

    def solve(self, v: Tensor, damping: Damping) -> Tensor:
        """(F + λ)⁻¹ v."""
        if _undamped(damping):
            values, vectors = self._eigen
            return vectors @ (inverted(values, self.n)[:, None] * (vectors.T @ v))
        added = torch.as_tensor(damping, dtype=v.dtype, device=v.device).expand(self.n)
        return torch.cholesky_solve(v, factorised(self.matrix + torch.diag(added)))

    def diagonal(self) -> Tensor:
        """The diagonal (n,)."""
        return self.matrix.diagonal()

    def eigenvalues(self) -> Tensor:
        """All, in any order."""
        return self._eigen[0]


class LowRank:
    """B Bᵀ with B (n, r), by the kernel Bᵀ B (Woodbury's identity)."""

    def __init__(self, root: Tensor) -> None:
        self.root, self.n = root, len(root)

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (q,), falling, and eigenvectors (n, q) of B Bᵀ, from singular values of B: the kernel Bᵀ B would
        lose half of the digits of small ones.
        """
        vectors, sizes, _ = torch.linalg.svd(self.root, full_matrices=False)
        return sizes.square(), vectors

    def times(self, v: Tensor) -> Tensor:
        """B Bᵀ v."""
        return self.root @ (self.root.T @ v)

    def solve(self, v: Tensor, damping: Damping) -> Tensor:
        """(D + B Bᵀ)⁻¹ v = D⁻¹ v − D⁻¹ B (1 + Bᵀ D⁻¹ B)⁻¹ Bᵀ D⁻¹ v; without D, (B Bᵀ)⁺ v."""
        if _undamped(damping):
            values, vectors = self._eigen
            return vectors @ (inverted(values, max(self.root.shape))[:, None] * (vectors.T @ v))
        inverse = 1 / torch.as_tensor(_column(damping), dtype=v.dtype, device=v.device)
        kernel = self.root.T @ (inverse * self.root)
        kernel.diagonal().add_(1)
        inner = torch.cholesky_solve(self.root.T @ (inverse * v), factorised(kernel))
        return inverse * (v - self.root @ inner)

    def diagonal(self) -> Tensor:
        """Row sums of squares (n,)."""
        return self.root.square().sum(1)

    def eigenvalues(self) -> Tensor:
        """Squares of the singular values of B, and zeros."""
        values = self._eigen[0]
        return torch.cat([values, values.new_zeros(self.n - len(values))])


class Diagonal:
    """diag(d), d (n,)."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.n = values, len(values)

    def times(self, v: Tensor) -> Tensor:
        """d v."""
        return self.values[:, None] * v

    def solve(self, v: Tensor, damping: Damping) -> Tensor:
        """v / (d + λ)."""
        inverse = inverted(self.values, self.n) if _undamped(damping) else 1 / (self.values + damping)
        return inverse[:, None] * v

    def diagonal(self) -> Tensor:
        """d."""
        return self.values

    def eigenvalues(self) -> Tensor:
        """d."""
        return self.values


class Kronecker:
    """Σ s_ij (u_i ⊗ v_j)(u_i ⊗ v_j)ᵀ on matrices V (groups, l, r), with orthonormal u (groups, l, l), v (groups, r, r).

    K-FAC has s_ij = a_i b_j, the eigenvalues of two factors; E-KFAC has any s. Left vectors of None are unit vectors.
    With `bias`, the last column of V stands at the end of a flat vector: the layout of a weight and then its bias.
    """

    def __init__(self, left: Tensor | None, right: Tensor, scales: Tensor, bias: bool) -> None:
        self.left, self.right, self.scales, self.bias = left, right, scales, bias
        self.n = scales.numel()

    @classmethod
    def of_factors(cls, left: Tensor, right: Tensor, bias: bool) -> Kronecker:
        """A ⊗ B; a left factor (groups, l) is diagonal."""
        across, v = torch.linalg.eigh(right)
        if left.ndim == 2:
            return cls(None, v, left[:, :, None] * across[:, None, :].clamp_min(0), bias)
        along, u = torch.linalg.eigh(left)
        return cls(u, v, along.clamp_min(0)[:, :, None] * across.clamp_min(0)[:, None, :], bias)

    def matrices(self, v: Tensor) -> Tensor:
        """Columns (n, k) as (k, groups, l, r)."""
        return matrices(v, self.scales.shape, self.bias)

    def columns(self, matrix: Tensor) -> Tensor:
        """Matrices (k, groups, l, r) as columns (n, k)."""
        if self.bias:
            return torch.cat([matrix[..., :-1].flatten(1), matrix[..., -1].flatten(1)], 1).T
        return matrix.flatten(1).T

    def rotated(self, matrix: Tensor) -> Tensor:
        """Uᵀ V W."""
        return (matrix if self.left is None else self.left.mT @ matrix) @ self.right

    def _scaled(self, v: Tensor, factors: Tensor) -> Tensor:
        inner = factors * self.rotated(self.matrices(v))
        return self.columns((inner if self.left is None else self.left @ inner) @ self.right.mT)

    def times(self, v: Tensor) -> Tensor:
        """F v."""
        return self._scaled(v, self.scales)

    def solve(self, v: Tensor, damping: Damping) -> Tensor:
        """(F + λ)⁻¹ v; λ must be one number."""
        if _undamped(damping):
            return self._scaled(v, inverted(self.scales, self.n))
        return self._scaled(v, 1 / (self.scales + _single(damping)))

    def diagonal(self) -> Tensor:
        """Σ_ab u_ia² s_ab v_jb²."""
        inner = self.scales if self.left is None else self.left.square() @ self.scales
        return self.columns((inner @ self.right.square().mT)[None])[:, 0]

    def eigenvalues(self) -> Tensor:
        """s."""
        return self.scales.flatten()


class Products:
    """A matrix (n, n) known by its products alone; `solve` is conjugate gradients."""

    def __init__(self, times: Callable[[Tensor], Tensor], n: int, tol: float, max_iterations: int) -> None:
        self.product, self.n, self.tol, self.max_iterations = times, n, tol, max_iterations

    def times(self, v: Tensor) -> Tensor:
        """F v."""
        return torch.stack([self.product(column) for column in v.T], 1)

    def solve(self, v: Tensor, damping: Damping) -> Tensor:
        """(F + λ)⁻¹ v.

        Raises:
            ArithmeticError: the residual is larger than the tolerance.
        """
        solutions = []
        for column in v.T:
            damped = lambda x: self.product(x) + damping * x  # noqa: E731
            x, residual = conjugate_gradients(damped, column, self.tol, self.max_iterations)
            if residual > self.tol:
                raise ArithmeticError(
                    f"conjugate gradients left a residual of {residual:.2g} after {self.max_iterations} iterations: "
                    "raise the damping or max_iterations"
                )
            solutions.append(x)
        return torch.stack(solutions, 1)


Block = Dense | LowRank | Diagonal | Kronecker | Products


def matrices(v: Tensor, shape: torch.Size, bias: bool) -> Tensor:
    """Columns (n, k) as (k, groups, l, r); with a bias, the weight comes first."""
    groups, left, right = shape
    if not bias:
        return v.T.reshape(-1, groups, left, right)
    weight, last = v.T.split([groups * left * (right - 1), groups * left], 1)
    return torch.cat([weight.reshape(-1, groups, left, right - 1), last.reshape(-1, groups, left, 1)], 3)


def _single(damping: Damping) -> Damping:
    if not isinstance(damping, Tensor) or damping.ndim == 0:
        return damping
    if bool((damping != damping[0]).any()):
        raise ValueError("weight and bias of one layer must have the same damping")
    return damping[0]
