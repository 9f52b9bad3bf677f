"""How many dimensions a data set has, from its samples: everywhere, by class, at every sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from brenier.checks import whole
from brenier.manifold.chart import Samples, take
from brenier.manifold.graph import nearest
from brenier.solution import Estimate

NEIGHBOURS = 10
DISCARDED = 0.1
EXPLAINED = 0.95
FOLDS = 10
LEAST = 64  # samples of the smallest subset that a correction looks at
LAW = 0.05  # share of the dimension by which the law of subsets is off on manifolds with known truth
MISFIT = 2.0  # χ² per degree of freedom up to which the law of subsets holds
GRID = 400  # dimensions tried, from LOWEST on
LOWEST = 0.3
METHODS = ("two_nn", "mle", "pca")


class LocalDimension(NamedTuple):
    """The dimension at every sample and its standard error, tensors (n,)."""

    mean: Tensor
    sem: Tensor


@overload
def intrinsic_dimension(
    x: Samples,
    method: str = "two_nn",
    *,
    labels: None = None,
    corrected: bool = False,
    max_samples: int = 8192,
    seed: int = 0,
) -> Estimate: ...


@overload
def intrinsic_dimension(
    x: Samples,
    method: str = "two_nn",
    *,
    labels: Any,
    corrected: bool = False,
    max_samples: int = 8192,
    seed: int = 0,
) -> dict[Any, Estimate]: ...


def intrinsic_dimension(
    x: Samples,
    method: str = "two_nn",
    *,
    labels: Any = None,
    corrected: bool = False,
    max_samples: int = 8192,
    seed: int = 0,
) -> Estimate | dict[Any, Estimate]:
    """Intrinsic dimension of samples x (n, ...) with its standard error; with `labels` (n,) a dict, one for each label.

    "two_nn": the ratio μ = r2/r1 of a sample's two nearest distances is Pareto with exponent d, so log μ ~ Exp(d).
    From the k smallest of n ratios (the largest tenth is censored) d = (k − 1) / (Σ_{i≤k} log μ_i + (n − k) log μ_k)
    (Facco et al., Scientific Reports 2017).
    "mle": 1/d = mean over samples of Σ_{j<k} log(r_k/r_j) / (k − 1), k = 10 (Levina and Bickel, NIPS 2004; averaged as
    by MacKay and Ghahramani).
    "pca": the least number of principal components with 95 % of the variance, its error by a jackknife of ten folds.

    The errors of the first two allow for the correlation between neighbours. They leave out the bias of a curved or
    bounded manifold, which grows with d, and that of noise. `corrected` takes it off and counts it, for these two:
    subsets of n, n/2, n/4, … samples have d_m = d − c m^(−2/d) + e m^(2/d), the first term by curvature and density
    (second order in the distance, which goes as m^(−1/d)), the second by noise, e ≥ 0. The longest range of subsets
    that obeys the law is read with and without noise; the answer is the mean and deviation over all d by the likelihood
    of both, and 5 % of d are added to the error, by which the law itself was seen to be off. Mean ± 2 sem is then the
    interval. Noise must be less than the distance between neighbours, the density smooth.

    Duplicates count once. Above `max_samples` rows a sample of that many is drawn by `seed`: its neighbours are further
    apart, so the dimension is that of a larger scale.

    Raises:
        ValueError: unknown method, NaN or Inf, fewer distinct rows than the method needs (512 to be corrected), labels
            that don't fit.

    Example:
        >>> x = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)) @ torch.randn(2, 20)
        >>> estimate = intrinsic_dimension(x)
        >>> abs(estimate.mean - 2) < 3 * estimate.sem
        True
    """
    methods = {"two_nn": _two_nn, "mle": _mle, "pca": _pca}
    _check_method(method)
    if labels is not None:
        return _by_label(x, labels, method, corrected=corrected, max_samples=max_samples, seed=seed)
    rows = _distinct(x, max_samples, seed)
    least = NEIGHBOURS + 2 if not corrected else 8 * LEAST
    if len(rows) < least:
        raise ValueError(f"x must have at least {least} distinct rows, got {len(rows)}")
    if not corrected:
        return methods[method](rows)
    if method == "pca":
        raise ValueError("corrected is for the methods two_nn and mle, got method 'pca'")
    return _corrected(rows, methods[method], seed)


def local_dimension(x: Samples, method: str = "mle", k: int = 20) -> LocalDimension:
    """Dimension at every sample of x (n, ...) from its k nearest others, with standard errors, float64 tensors (n,).

    "mle": d = (k − 2) / Σ_{j<k} log(r_k/r_j), unbiased where the density is constant, with error d / √(k − 3) (Levina
    and Bickel 2004). "two_nn": d = k / Σ log μ over the k + 1 ratios μ = r2/r1 of the sample and its neighbours, with
    error d / √(k − 1). "pca": the least number of principal components of the neighbours with 95 % of their variance,
    its error by a jackknife of ten folds; at most k − 1. All err in a bend or at a border as the global ones do. A
    copy of a sample has the dimension of its first. Memory: blocks.

    Raises:
        ValueError: unknown method, NaN or Inf, k less than 12 or not less than the number of distinct rows.

    Example:
        >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) @ torch.ones(2, 5).triu()
        >>> round(local_dimension(x).mean.median().item())
        2
    """
    _check_method(method)
    whole("k", k, NEIGHBOURS + 2)
    values, copies = _unique(take(x, slice(None)))
    if k >= len(values):
        raise ValueError(f"k must be less than the number of distinct samples, got k {k} for {len(values)}")
    r, near = nearest(values, max(k, 2))
    if method == "mle":
        mean = (k - 2) / (r[:, -1:] / r[:, :-1]).log().sum(1)
        sem = mean / math.sqrt(k - 3)
    elif method == "two_nn":
        log_ratio = (r[:, 1] / r[:, 0]).log()
        mean = k / (log_ratio + log_ratio[near].sum(1))
        sem = mean / math.sqrt(k - 1)
    else:
        chunks = near.split(max(1, 2**22 // (k * max(k, values.shape[1]))))
        mean, sem = (torch.cat(part) for part in zip(*(_local_pca(values[rows]) for rows in chunks), strict=True))
    return LocalDimension(mean[copies], sem[copies])


def _local_pca(x: Tensor) -> tuple[Tensor, Tensor]:
    """Components of groups (m, k, D) with 95 % of their variance, and the error by a jackknife, (m,) each."""
    folds = torch.arange(x.shape[1]) % FOLDS
    counts = torch.stack([_components(x[:, folds != f]) for f in range(FOLDS)]).double()
    return _components(x).double(), ((FOLDS - 1) * counts.var(0, correction=0)).sqrt()


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")


def _by_label(x: Samples, labels: Any, method: str, **settings: Any) -> dict[Any, Estimate]:
    """The dimension of each class, by label."""
    names = np.asarray(labels)
    if names.shape != (len(x),):
        raise ValueError(f"labels must have one entry per sample, got shape {names.shape} for {len(x)}")
    found = {}
    for name in np.unique(names):
        try:
            own = take(x, torch.from_numpy(np.flatnonzero(names == name)))
            found[name.item()] = intrinsic_dimension(own, method, **settings)
        except ValueError as error:
            raise ValueError(f"of the samples with label {name!s}: {error}") from None
    return found


def _corrected(x: Tensor, estimate: Callable[[Tensor], Estimate], seed: int) -> Estimate:
    """The dimension to which subsets of m = n, n/2, n/4, … rows tend, its error with that of the law."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    m, d, sem = [], [], []
    for level in range(int(math.log2(len(x) / LEAST)) + 1):
        parts = [estimate(x[rows]) for rows in order.chunk(2**level)]
        m.append(len(x) / 2**level)
        d.append(len(parts) / sum(1 / part.mean for part in parts))
        sem.append(d[-1] * math.sqrt(sum((part.sem / part.mean) ** 2 for part in parts)) / len(parts))
    limit = min(int(torch.linalg.matrix_rank(x.T @ x)), 4 * max(d))
    grid = np.geomspace(LOWEST, max(limit, 1), GRID)
    likelihood = _law(np.array(m), np.array(d), np.array(sem), grid)
    weight = likelihood * grid / (likelihood @ grid)  # every d alike, on a grid of equal ratios
    mean = float(weight @ grid)
    spread = float(weight @ np.square(grid - mean))
    return Estimate(mean, math.sqrt(spread + (LAW * mean) ** 2))


def _law(m: np.ndarray, d: np.ndarray, sem: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Likelihood of each dimension of the grid: the law of subsets, in the longest range that obeys it.

    Without and with noise, one parameter more, which counts √(number of subsets) against it (Schwarz's criterion).
    """
    ranges = [slice(a, a + size) for size in range(len(m), 3, -1) for a in range(len(m) - size + 1)]
    best, misfit = np.empty((2, len(grid))), math.inf
    for part in ranges:
        chi2 = np.array([_chi2(m[part], d[part], sem[part], limit) for limit in grid]).T
        free = len(m[part]) - np.array([2, 3])
        if (own := (chi2.min(1) / free).min()) < misfit:
            best, misfit, size = chi2, own, len(m[part])
        if misfit <= MISFIT:
            break
    logarithm = -best / (2 * max(1.0, misfit)) - np.array([[0.0], [math.log(size) / 2]])
    return np.exp(logarithm - logarithm.max()).sum(0)


def _chi2(m: np.ndarray, d: np.ndarray, sem: np.ndarray, limit: float) -> tuple[float, float]:
    """χ² of d_m = limit − c m^(−2/limit) + e m^(2/limit) at its best c, with e = 0 and at its best e ≥ 0."""
    power = (m / m[0]) ** (2 / limit)
    terms, rest = np.stack([1 / power, power], 1) / sem[:, None], (d - limit) / sem
    plain = rest @ rest - (terms[:, 0] @ rest) ** 2 / (terms[:, 0] @ terms[:, 0])
    both = np.linalg.lstsq(terms, rest)[0]
    return plain, plain if both[1] <= 0 else float(np.square(terms @ both - rest).sum())


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


def _components(x: Tensor) -> Tensor:
    """How many principal components of groups (..., n, D) hold 95 % of their variance, (...)."""
    variance = torch.linalg.svdvals(x - x.mean(-2, keepdim=True)).square()
    return (variance.cumsum(-1) < EXPLAINED * variance.sum(-1, keepdim=True)).sum(-1) + 1


def _distinct(x: Samples, max_samples: int, seed: int) -> Tensor:
    """At most max_samples rows (m, D), drawn by seed and each once, in float64, centred."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    return _unique(take(x, order[:max_samples].sort().values))[0]


def _unique(x: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows (m, D) in float64, centred, and which of them each sample (n,) is."""
    values, copies = np.unique(x.detach().cpu().double().flatten(1).numpy(), axis=0, return_inverse=True)
    if not np.isfinite(values).all():
        raise ValueError("x must be finite, got NaN or Inf")
    return torch.from_numpy(values - values.mean(0)), torch.from_numpy(copies.ravel())
