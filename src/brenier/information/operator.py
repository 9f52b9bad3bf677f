"""A curvature matrix in blocks, as an operator on the parameters of a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from brenier.checks import whole
from brenier.information import krylov
from brenier.information.blocks import Block, Products
from brenier.information.linearise import Values
from brenier.solution import Estimate

LARGEST_DENSE = 20_000


class Fisher:
    """A Fisher matrix over the parameters `names`, one after the other as in `model.named_parameters()`.

    `F @ v` takes v (p,), columns (p, k), or a dict of the parameters' shapes, and gives the same back. `coverage` says
    what stands for each parameter.
    """

    def __init__(
        self, parameters: Values, blocks: list[tuple[tuple[str, ...], Block]], damping: float = 0.0, seed: int = 0
    ) -> None:
        self.names, self.blocks = list(parameters), blocks
        self.shapes_of = {name: value.shape for name, value in parameters.items()}
        self.damping, self._seed = damping, seed
        self._like = next(iter(parameters.values()))
        size = sum(value.numel() for value in parameters.values())
        self.shape = (size, size)
        self.coverage = {name: type(block).__name__.lower() for names, block in blocks for name in names}

    def __repr__(self) -> str:
        kinds: dict[str, int] = {}
        for names, block in self.blocks:
            kind = type(block).__name__.lower()
            kinds[kind] = kinds.get(kind, 0) + len(names)
        held = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        return f"Fisher({self.shape[0]} parameters in {len(self.names)} tensors: {held})"

    def __matmul__(self, v: Tensor | Values) -> Any:
        return self._mapped(v, lambda block, columns: block.times(columns))

    def solve(self, v: Tensor | Values, damping: float | None = None) -> Any:
        """(F + λ)⁻¹ v, λ = `damping` of the call or of the operator; with λ = 0 the pseudo-inverse F⁺ v.

        Raises:
            ValueError: λ is negative or not finite, v is not finite or of another size.
            ArithmeticError: conjugate gradients don't reach their tolerance; F + λ is not positive definite in its
                precision.
        """
        added = self.damping if damping is None else damping
        check_damping(added)
        return self._mapped(v, lambda block, columns: block.solve(columns, added))

    def solved(self, v: Values, damping: dict[str, float]) -> Values:
        """(F + diag λ)⁻¹ v with a damping for each parameter; 0 for all is the pseudo-inverse."""
        done: Values = {}
        for names, block in self.blocks:
            column = torch.cat([v[name].reshape(-1, 1) for name in names])
            sizes = [self.shapes_of[name].numel() for name in names]
            levels = [damping[name] for name in names]
            added: float | Tensor = levels[0]
            if any(level != levels[0] for level in levels):
                each = zip(levels, sizes, strict=True)
                added = torch.cat([torch.full((size,), level).to(column) for level, size in each])
            done.update(zip(names, block.solve(column, added).split(sizes), strict=True))
        return {name: done[name].reshape(self.shapes_of[name]) for name in self.names}

    def dense(self) -> Tensor:
        """The matrix (p, p).

        Raises:
            ValueError: there are more than 20,000 parameters.
        """
        refuse_large(self.shape[0])
        found: Tensor = self @ torch.eye(self.shape[0], dtype=self._like.dtype, device=self._like.device)
        return found

    def diagonal(self) -> Tensor:
        """The diagonal (p,)."""
        parts: Values = {}
        for names, block in self.blocks:
            column = block.diagonal() if not isinstance(block, Products) else self.dense().diagonal()
            sizes = [self.shapes_of[name].numel() for name in names]
            parts.update(zip(names, column.split(sizes), strict=True))
        return torch.cat([parts[name] for name in self.names])

    def trace(self, products: int = 60) -> Estimate:
        """Σ of eigenvalues: exact, with sem 0, where entries are known; by Hutch++ from so many products for "cg"."""
        total = Estimate(0.0, 0.0)
        for _, block in self.blocks:
            if isinstance(block, Products):
                products = whole("products", products, 12)
                found = krylov.trace(block.product, block.n, self._like, self._generator(), products)
            else:
                found = Estimate(float(block.diagonal().double().sum()), 0.0)
            total = Estimate(total.mean + found.mean, (total.sem**2 + found.sem**2) ** 0.5)
        return total

    def eigenvalues(self, k: int) -> Tensor:
        """The k largest, falling; by Lanczos' iteration for "cg"."""
        whole("k", k, 1)
        if k > self.shape[0]:
            raise ValueError(f"k must be at most {self.shape[0]}, got {k}")
        found = []
        for _, block in self.blocks:
            if isinstance(block, Products) and k < block.n:
                found.append(krylov.largest_eigenvalues(block.product, block.n, k, self._like, self._generator()))
            elif isinstance(block, Products):
                found.append(torch.linalg.eigvalsh(self.dense()))
            else:
                found.append(block.eigenvalues())
        return torch.cat(found).sort(descending=True).values[:k]

    def spectrum(self, edges: Tensor, vectors: int = 10, steps: int = 60) -> tuple[Tensor, Tensor]:
        """How many eigenvalues lie in [e_j, e_j+1) and the standard error of it, (bins,) each.

        Exact, with errors 0, where eigenvalues are known; for "cg" by stochastic Lanczos quadrature.
        """
        if edges.ndim != 1 or len(edges) < 2 or not bool((edges.diff() > 0).all()):
            raise ValueError(f"edges must be two or more rising numbers, got {edges.tolist()}")
        whole("vectors", vectors, 2), whole("steps", steps, 2)
        edges = edges.double().cpu()
        counts, squares = torch.zeros(2, len(edges) - 1, dtype=torch.float64)
        for _, block in self.blocks:
            if isinstance(block, Products):
                mean, sem = krylov.spectral_counts(
                    block.product, block.n, edges, self._like, self._generator(), vectors, steps
                )
            else:
                values = block.eigenvalues().double().cpu()[:, None]
                mean = ((values >= edges[:-1]) & (values < edges[1:])).double().sum(0)
                sem = torch.zeros_like(mean)
            counts, squares = counts + mean, squares + sem.square()
        return counts, squares.sqrt()

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed)

    def _mapped(self, v: Tensor | Values, act: Callable[[Block, Tensor], Tensor]) -> Any:
        parts, form = self._parts(v)
        done: Values = {}
        for names, block in self.blocks:
            sizes = [self.shapes_of[name].numel() for name in names]
            answer = act(block, torch.cat([parts[name] for name in names]))
            done.update(zip(names, answer.split(sizes), strict=True))
        if form == "dict":
            return {name: done[name].reshape(self.shapes_of[name]) for name in self.names}
        flat = torch.cat([done[name] for name in self.names])
        return flat[:, 0] if form == "vector" else flat

    def _parts(self, v: Tensor | Values) -> tuple[Values, str]:
        sizes = [shape.numel() for shape in self.shapes_of.values()]
        if isinstance(v, dict):
            if set(v) != set(self.names):
                raise ValueError(f"v must name the parameters {', '.join(self.names)}, got {', '.join(v)}")
            wrong = next((name for name in self.names if v[name].shape != self.shapes_of[name]), None)
            if wrong is not None:
                right, got = tuple(self.shapes_of[wrong]), tuple(v[wrong].shape)
                raise ValueError(f"v[{wrong!r}] must have the shape {right}, got {got}")
            return {name: v[name].reshape(-1, 1) for name in self.names}, "dict"
        if not isinstance(v, Tensor):
            raise TypeError(f"v must be a tensor or a dict of tensors, got {type(v).__name__}")
        if v.ndim not in (1, 2) or len(v) != self.shape[0]:
            raise ValueError(f"v must be ({self.shape[0]},) or ({self.shape[0]}, k), got {tuple(v.shape)}")
        columns = v[:, None] if v.ndim == 1 else v
        return dict(zip(self.names, columns.split(sizes), strict=True)), "vector" if v.ndim == 1 else "columns"


def check_damping(damping: float) -> None:
    """λ ≥ 0."""
    if not 0 <= damping < math.inf:
        raise ValueError(f"damping must be 0 or positive and finite, got {damping}")


def refuse_large(p: int) -> None:
    """A dense matrix takes p² numbers."""
    if p > LARGEST_DENSE:
        raise ValueError(f"a dense matrix may have {LARGEST_DENSE} parameters, got {p}: take structure='cg' or 'kfac'")
