"""Singular points of a data manifold: samples around which it is no manifold of any one dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import gamma

from brenier.checks import whole
from brenier.manifold.chart import Samples, like
from brenier.manifold.sampled import blocks, neighbours, points

NEIGHBOURS = 40
RATE = 0.01
BEND = 0.5
MOST = 10  # dimensions that are tried by default


@dataclass(frozen=True, eq=False)
class SingularPoints:
    """`mask` (n,) of the singular samples, `p` (n,) the p-value of the dimension that fits each best, which is
    `dimension` (n,), 0 at singular samples; `rate` is the share of regular samples that may be marked.

    `expected` marks are due to chance alone if no sample is singular.
    """

    mask: Samples
    p: Samples
    dimension: Samples
    rate: float

    @property
    def expected(self) -> float:
        """The largest expected number of marks if no sample is singular."""
        return self.rate * len(self.mask)

    def __str__(self) -> str:
        return f"{int(self.mask.sum())} of {len(self.mask)} samples are singular, at most {self.expected:.3g} by chance"


def singular_points(
    x: Samples, k: int = NEIGHBOURS, *, dims: tuple[int, ...] | None = None, rate: float = RATE, bend: float = BEND
) -> SingularPoints:
    """Samples of x (n, D) whose k nearest neighbours are not those of a smooth manifold of any dimension in `dims`.

    A sample is marked where every dimension d is rejected: by one of three statistics, each at a third of `rate`.
    Outside: Σ_{i>d} λ_i / Σ_{i≤d} λ_i of the second moments about the sample, too large. Shape: λ_d / λ_1, too small.
    Growth: Σ_{j<k} log(r_k / r_j), which is Gamma(k − 1, 1/d) since balls around a sample hold numbers of samples
    in proportion to r^d (Levina and Bickel, NIPS 2004), too small or large. The first two are set against 20 / rate
    seeded neighbourhoods: k uniform points in a d-ball of radius r on a sphere of radius r / `bend`, the most curved
    manifold that counts as smooth.

    So for independent samples of locally constant density, on a manifold of reach at least r / bend, a regular sample
    is marked with a probability of at most `rate`. Noise off the manifold must be small against bend · r. Samples near
    edges are tested about themselves and mostly pass, those in corners are singular. Crossings and cusps are found
    within about a neighbourhood's radius; cones if they are steeper than about bend / 2. Copies of a row count once.

    `dims`: by default 1 to 10, at most D and k / 3. Name the dimensions that can be, (1, 2) say, for more power: a
    crossing of planes is much like a ball of dimension 3, from which only its growth tells it.

    Raises:
        ValueError: k < 10 or not below the number of distinct rows, a dimension not in 1..D, rate not in (0, 1), bend
            not in (0, 1].

    Example:
        >>> u = np.random.default_rng(0).uniform(-1, 1, (2, 500))
        >>> cross = np.concatenate([np.stack([u[0], 0 * u[0]], 1), np.stack([0 * u[1], u[1]], 1)])
        >>> found = singular_points(cross, k=20)
        >>> at_crossing = np.linalg.norm(cross, axis=1) < 0.005
        >>> bool(found.mask[at_crossing].all()), bool(found.mask[~at_crossing].mean() < 0.02)
        (True, True)
    """
    rows = points(x)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    whole("k", k, 10)
    if not 0 < rate < 1:
        raise ValueError(f"rate must lie between 0 and 1, got {rate}")
    if not 0 < bend <= 1:
        raise ValueError(f"bend must lie above 0 and at most at 1, got {bend}")
    width = rows.shape[1]
    tried = tuple(range(1, max(1, min(width, k // 3, MOST)) + 1)) if dims is None else tuple(dims)
    if not tried or not all(1 <= whole("dims", d, 1) <= width for d in tried):
        raise ValueError(f"dims must lie between 1 and the {width} columns of x, got {tried}")
    distance, index = neighbours(unique, k)
    growth = np.log(distance[:, -1:] / distance[:, :-1]).sum(1)
    moments = _moments(unique, index, distance[:, -1])
    p = np.stack([_p_value(d, width, k, rate, bend, growth, moments) for d in tried], 1)
    best = p.argmax(1)
    highest = p[np.arange(len(p)), best]
    mask = highest <= rate
    dimension = np.where(mask, 0, np.array(tried)[best])
    return SingularPoints(like(x, mask[inverse]), like(x, highest[inverse]), like(x, dimension[inverse]), rate)


def _moments(x: np.ndarray, index: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Eigenvalues (n, min(k, D)) of Σ v vᵀ / r² over neighbours, v their displacement from the sample, descending."""
    parts = []
    for rows in blocks(len(x), index.shape[1] * max(index.shape[1], x.shape[1])):
        v = (x[index[rows]] - x[rows, None]) / radius[rows, None, None]
        parts.append(np.linalg.eigvalsh(_grams(v))[:, ::-1].clip(min=0))
    return np.concatenate(parts)


def _p_value(
    d: int, width: int, k: int, rate: float, bend: float, growth: np.ndarray, moments: np.ndarray
) -> np.ndarray:
    """p-values (n,) of dimension d: three times the least of those of outside, shape and growth."""
    tail = gamma.cdf(growth, k - 1, scale=1 / d)
    found = [2 * np.minimum(tail, 1 - tail)]
    null = _null(d, k, bend, math.ceil(20 / rate))
    if d < moments.shape[1] and d < width:
        found.append(_above(_outside(moments, d), _outside(null, d)))
    if d > 1:
        found.append(_above(moments[:, 0] / np.maximum(moments[:, d - 1], 1e-300), null[:, 0] / null[:, d - 1]))
    return np.minimum(len(found) * np.min(found, 0), 1)


def _outside(moments: np.ndarray, d: int) -> np.ndarray:
    return moments[:, d:].sum(1) / moments[:, :d].sum(1)


def _above(value: np.ndarray, null: np.ndarray) -> np.ndarray:
    """The share of the null's values (b,) that are no less, the value itself counted: a valid p-value (Monte Carlo)."""
    return (1 + len(null) - np.searchsorted(np.sort(null), value * (1 - 1e-12))) / (1 + len(null))


def _null(d: int, k: int, bend: float, size: int) -> np.ndarray:
    """Moments (size, d + 1) of k points uniform in a d-ball on a touching sphere of curvature `bend`; r_k = 1."""
    random, parts = np.random.default_rng(d), []
    for rows in blocks(size, k * (d + 1)):
        v = random.standard_normal((rows.stop - rows.start, k, d))
        r = random.random(v.shape[:2]) ** (1 / d)
        r[:, 0] = 1
        height = bend * r**2 / 2
        v *= (np.sqrt(r**2 - height**2) / np.linalg.norm(v, axis=2))[:, :, None]
        parts.append(np.linalg.eigvalsh(_grams(np.concatenate([v, height[:, :, None]], 2)))[:, ::-1].clip(min=0))
    return np.concatenate(parts)


def _grams(v: np.ndarray) -> np.ndarray:
    """v vᵀ or vᵀ v (n, ·, ·) of v (n, k, D), whichever is smaller: they share their non-zero eigenvalues."""
    w = v.swapaxes(1, 2)
    return v @ w if v.shape[1] < v.shape[2] else w @ v
