"""What products with a symmetric matrix tell of it: solutions, traces, spectra."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from brenier.solution import Estimate

Times = Callable[[Tensor], Tensor]


def conjugate_gradients(
    times: Times, b: Tensor, tol: float, max_iterations: int, start: Tensor | None = None
) -> tuple[Tensor, float]:
    """x with A x = b (n,) and |b − A x| / |b|, after at most so many products with A, which is positive semi-definite.

    Example:
        >>> x, residual = conjugate_gradients(lambda v: 4 * v, torch.ones(3), 1e-6, 10)
        >>> x
        tensor([0.2500, 0.2500, 0.2500])
    """
    x = torch.zeros_like(b) if start is None else start.clone()
    r = b.clone() if start is None else b - times(x)
    p, square, goal = r.clone(), r.dot(r), (tol * b.norm()) ** 2
    for _ in range(max_iterations):
        if square <= goal:
            break
        image = times(p)
        curvature = p.dot(image)
        if curvature <= 0:
            break
        step = square / curvature
        x += step * p
        r -= step * image
        before, square = square, r.dot(r)
        p = r + (square / before) * p
    return x, float(square.sqrt() / b.norm().clamp_min(torch.finfo(b.dtype).tiny))


def random_signs(n: int, k: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """±1, (n, k), from a generator on the CPU."""
    return (2 * torch.randint(0, 2, (n, k), generator=generator) - 1).to(like)


def trace(times: Times, n: int, like: Tensor, generator: torch.Generator, products: int) -> Estimate:
    """Hutch++: the trace on the range of a third of the products, a mean over random signs on what is left of it.

    Source: Meyer, Musco, Musco and Woodruff, SOSA 2021.
    """
    third = max(1, min(products // 3, n))
    basis, _ = torch.linalg.qr(_each(times, random_signs(n, third, like, generator)))
    known = float((basis * _each(times, basis)).sum())
    if third == n:
        return Estimate(known, 0.0)
    rest = random_signs(n, max(2, products - 2 * third), like, generator)
    rest = rest - basis @ (basis.T @ rest)
    samples = (rest * _each(times, rest)).sum(0).double()
    return Estimate(known + float(samples.mean()), float(samples.std() / math.sqrt(len(samples))))


def largest_eigenvalues(times: Times, n: int, k: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """The k largest eigenvalues, falling, by ARPACK's restarted Lanczos iteration, k < n."""
    kind = np.float64 if like.dtype == torch.float64 else np.float32

    def product(v: np.ndarray) -> np.ndarray:
        return times(torch.from_numpy(v.reshape(-1).astype(kind)).to(like)).cpu().numpy()

    start = torch.randn(n, generator=generator).numpy().astype(kind)
    values = eigsh(
        LinearOperator((n, n), matvec=product, dtype=kind), k, which="LA", return_eigenvectors=False, v0=start
    )
    return torch.from_numpy(np.sort(values)[::-1].copy()).to(like)


def spectral_counts(
    times: Times, n: int, edges: Tensor, like: Tensor, generator: torch.Generator, vectors: int, steps: int
) -> tuple[Tensor, Tensor]:
    """How many eigenvalues lie between neighbouring edges, and the standard errors: stochastic Lanczos quadrature.

    Each vector of random signs gives the measure Σ w_j δ(θ_j), n times its Gauss quadrature of so many steps.

    Source: Ghorbani, Krishnan and Xiao, ICML 2019.
    """
    counts = []
    for sign in random_signs(n, vectors, like, generator).T:
        nodes, weights = _quadrature(times, sign / math.sqrt(n), min(steps, n))
        inside = (nodes[:, None] >= edges[:-1].cpu()) & (nodes[:, None] < edges[1:].cpu())
        counts.append(n * (weights[:, None] * inside).sum(0))
    found = torch.stack(counts)
    return found.mean(0), found.std(0) / math.sqrt(vectors)


def _quadrature(times: Times, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Ritz values and squared first components of the Lanczos matrix, with full reorthogonalisation."""
    basis, diagonal, beside = [start], [], []
    for _ in range(steps):
        image = times(basis[-1])
        diagonal.append(float(image.dot(basis[-1])))
        known = torch.stack(basis, 1)
        for _ in range(2):
            image = image - known @ (known.T @ image)
        size = float(image.norm())
        if size <= torch.finfo(start.dtype).eps * max(map(abs, diagonal)) * 10:
            break
        beside.append(size)
        basis.append(image / size)
    k = len(diagonal)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    off = torch.tensor(beside[: k - 1], dtype=torch.float64)
    nodes, vectors = torch.linalg.eigh(matrix + torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, vectors[0].square()


def _each(times: Times, vectors: Tensor) -> Tensor:
    return torch.stack([times(v) for v in vectors.T], 1)
