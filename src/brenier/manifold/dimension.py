"""How many dimensions a data set has, from its samples."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from brenier.manifold.chart import Samples, take
from brenier.solution import Estimate

NEIGHBOURS = 10
DISCARDED = 0.1
EXPLAINED = 0.95
FOLDS = 10


def intrinsic_dimension(x: Samples, method: str = "two_nn", *, max_samples: int = 8192, seed: int = 0) -> Estimate:
    """Intrinsic dimension of samples x (n, ...) with its standard error.

    "two_nn": the ratio μ = r2/r1 of a sample's two nearest distances is Pareto with exponent d, so log μ ~ Exp(d).
    From the k smallest of n ratios (the largest tenth is censored) d = (k − 1) / (Σ_{i≤k} log μ_i + (n − k) log μ_k)
    (Facco et al., Scientific Reports 2017).
    "mle": 1/d = mean over samples of Σ_{j<k} log(r_k/r_j) / (k − 1), k = 10 (Levina and Bickel, NIPS 2004; averaged as
    by MacKay and Ghahramani).
    "pca": the least number of principal components with 95 % of the variance, its error by a jackknife of ten folds.

    The errors of the first two allow for the correlation between neighbours; none holds the bias of a curved or bounded
    manifold, which grows with d. Duplicates count once. Above `max_samples` rows a sample of that many is drawn by
    `seed`: its neighbours are further apart, so the dimension is that of a larger scale.

    Raises:
        ValueError: unknown method, NaN or Inf, or fewer distinct rows than the method needs.

    Example:
        >>> x = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)) @ torch.randn(2, 20)
        >>> estimate = intrinsic_dimension(x)
        >>> abs(estimate.mean - 2) < 3 * estimate.sem
        True
    """
    methods = {"two_nn": _two_nn, "mle": _mle, "pca": _pca}
    if method not in methods:
        raise ValueError(f"method must be one of {', '.join(methods)}, got {method!r}")
    rows = _distinct(x, max_samples, seed)
    if len(rows) < NEIGHBOURS + 2:
        raise ValueError(f"x must have at least {NEIGHBOURS + 2} distinct rows, got {len(rows)}")
    return methods[method](rows)


def _two_nn(x: Tensor) -> Estimate:
    r, near = nearest(x, 2)
    log_ratio = (r[:, 1] / r[:, 0]).log()
    n, k = len(x), len(x) - math.floor(DISCARDED * len(x))
    censored = log_ratio.clamp(max=log_ratio.kthvalue(k).values)
    total = censored.sum().item()
    if total == 0:
        raise ValueError("x lies on a lattice: every sample's two nearest neighbours are equally far; use method pca")
    d = (k - 1) / total
    scores = (log_ratio <= censored).double() - d * censored
    return Estimate(d, d * n / k * _standard_error(scores, near))


def _mle(x: Tensor) -> Estimate:
    r, near = nearest(x, NEIGHBOURS)
    inverse = (r[:, -1:] / r[:, :-1]).log().mean(1)
    d = 1 / inverse.mean().item()
    return Estimate(d, d * _standard_error(1 - d * inverse, near))


def _standard_error(scores: Tensor, near: Tensor) -> float:
    """Of the mean of scores (n,) that are correlated between neighbours, near (n, k)."""
    n, k = near.shape
    edges = (np.ones(n * k), (np.repeat(np.arange(n), k), near.flatten().numpy()))
    linked = csr_array(edges, shape=(n, n))
    s = scores.numpy()
    return math.sqrt(max(s @ s + s @ (linked.maximum(linked.T) @ s), 0)) / n


def _pca(x: Tensor) -> Estimate:
    folds = torch.arange(len(x)) % FOLDS
    counts = torch.tensor([_components(x[folds != f]) for f in range(FOLDS)]).double()
    return Estimate(float(_components(x)), math.sqrt((FOLDS - 1) * counts.var(correction=0).item()))


def _components(x: Tensor) -> int:
    variance = torch.linalg.svdvals(x - x.mean(0)).square()
    return int((variance.cumsum(0) < EXPLAINED * variance.sum()).sum()) + 1


def nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances and indices (n, k) of the k nearest others to each row of x (n, D), nearest first.

    Candidates come from |a|² + |b|² − 2 a·b in chunks; their distances are then taken anew from the differences.
    """
    norms = x.square().sum(1)
    distances, indices = [], []
    for rows in torch.arange(len(x)).split(512):
        squares = torch.addmm(norms, x[rows], x.T, alpha=-2)
        squares[torch.arange(len(rows)), rows] = math.inf
        near = squares.topk(k + 2, largest=False).indices
        distance, order = (x[rows, None] - x[near]).norm(dim=2).sort(1)
        distances.append(distance[:, :k])
        indices.append(near.gather(1, order[:, :k]))
    return torch.cat(distances), torch.cat(indices)


def _distinct(x: Samples, max_samples: int, seed: int) -> Tensor:
    """At most max_samples rows (m, D), drawn by seed and each once, in float64, centred."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    rows = take(x, order[:max_samples].sort().values).detach().cpu().double().flatten(1)
    values = np.unique(rows.numpy(), axis=0)
    if not np.isfinite(values).all():
        raise ValueError("x must be finite, got NaN or Inf")
    return torch.from_numpy(values - values.mean(0))
