"""Samplers in code space to stand beside the model: each `(train_codes (m, d), n, seed) -> codes (n, d)`.

Codes come back as they were given, numpy or torch, in their dtype. Wrong shapes, NaN or Inf raise ValueError; what is
not an array of real numbers raises TypeError.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from brenier.report.arrays import matrix, nearest, random


def _like(codes: np.ndarray, given: Any) -> Any:
    return torch.from_numpy(codes).to(given) if isinstance(given, torch.Tensor) else codes.astype(given.dtype)


def _root(codes: np.ndarray) -> np.ndarray:
    """A square root L of the covariance, L Lᵀ = S (population form, singular S included)."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(codes.T, bias=True)))
    return vectors * np.sqrt(values.clip(min=0))


def copies(train_codes: Any, n: int, seed: int | torch.Generator = 0) -> Any:
    """Training codes themselves, without repetition while n ≤ m: the closest law there is, and nothing new.

    Example:
        >>> copies(np.eye(3), 3).sum()
        np.float64(3.0)
    """
    codes, rng = matrix(train_codes, "train_codes"), random(seed)
    rows = np.concatenate([rng.permutation(len(codes)) for _ in range(-(-n // len(codes)))])
    return _like(codes[rows[:n]], train_codes)


def gaussian(train_codes: Any, n: int, seed: int | torch.Generator = 0) -> Any:
    """One Gaussian with the mean and covariance of the codes.

    Example:
        >>> gaussian(np.ones((5, 2)), 3).shape
        (3, 2)
    """
    codes, rng = matrix(train_codes, "train_codes"), random(seed)
    return _like(codes.mean(0) + rng.normal(size=(n, codes.shape[1])) @ _root(codes).T, train_codes)


def gmm(train_codes: Any, n: int, seed: int | torch.Generator = 0, components: int = 30) -> Any:
    """A mixture of Gaussians with full covariances, fitted by EM (at most 100 steps from k-means).

    Each covariance gets 1e-4 of the mean variance of the codes on its diagonal, and there are at most m / (d + 1)
    components, so that few rows are no failure.

    Example:
        >>> gmm(np.eye(3), 4).shape
        (4, 3)
    """
    codes, rng = matrix(train_codes, "train_codes"), random(seed)
    m, d = codes.shape
    centre, scale = codes.mean(0), float(np.sqrt(codes.var(0).mean())) or 1.0
    mixture = GaussianMixture(
        max(1, min(components, m // (d + 1))), reg_covar=1e-4, random_state=int(rng.integers(2**31))
    )
    with threadpool_limits(1), warnings.catch_warnings():  # threads slow the many small products of EM eightfold
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 steps are the definition
        drawn, _ = mixture.fit((np.resize(codes, (max(2, m), d)) - centre) / scale).sample(n)
    return _like(centre + scale * rng.permutation(drawn), train_codes)


def kde(train_codes: Any, n: int, seed: int | torch.Generator = 0, bandwidth: float = 0.1) -> Any:
    """Training codes plus Gaussian noise of covariance bandwidth² S, where S is the covariance of all codes.

    Example:
        >>> kde(np.eye(3), 4).shape
        (4, 3)
    """
    codes, rng = matrix(train_codes, "train_codes"), random(seed)
    noise = rng.normal(size=(n, codes.shape[1])) @ _root(codes).T
    return _like(codes[rng.integers(len(codes), size=n)] + bandwidth * noise, train_codes)


def smote(train_codes: Any, n: int, seed: int | torch.Generator = 0, k: int = 5) -> Any:
    """A uniform point between a training code and one of its k nearest (Chawla et al., 2002).

    Example:
        >>> smote(np.eye(3), 4).sum(1).round(6)
        array([1., 1., 1., 1.])
    """
    codes, rng = matrix(train_codes, "train_codes"), random(seed)
    start = codes[rng.integers(len(codes), size=n)]
    _, index = nearest(start, codes, min(k + 1, len(codes)))  # the first is the code itself
    end = codes[index[np.arange(n), rng.integers(min(1, len(codes) - 1), index.shape[1], size=n)]]
    return _like(start + rng.random((n, 1)) * (end - start), train_codes)
