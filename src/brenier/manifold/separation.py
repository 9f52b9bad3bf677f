"""How far classes are apart: their scatter, and what a linear classifier tells on samples that it did not see."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf

from brenier.manifold.chart import Samples
from brenier.manifold.sampled import points
from brenier.solution import Estimate

FOLDS = 10


def class_separation(x: Samples, labels: Any) -> Estimate:
    """Between- over within-class scatter, B / W of samples x (n, ...) with labels (n,), and its error by a jackknife.

    W = Σ_c Σ_{i in c} |x_i − m_c|² / (n − C), B = Σ_c n_c |m_c − m|² / n − (C − 1) W / n: the last term takes off
    what the error of the means adds, so that it is 0 on average where labels say nothing. Rotation, shift and scale
    change nothing. Two classes alike of N(±δ/2, σ²) in D dimensions have |δ|² / (4 D σ²). Ten folds. ∞ where classes
    are points, 0 where all samples are one.

    Raises:
        ValueError: fewer than two classes, labels that don't fit, n ≤ C, NaN or Inf.

    Example:
        >>> class_separation(np.array([[0.0], [2.0], [10.0], [12.0]]), [0, 0, 1, 1]).mean
        12.25
    """
    rows, classes = _classes(x, labels)
    count = classes.max() + 1
    rows = rows - rows.mean(0)
    folds = _folds(classes)
    cell = folds * count + classes
    indicator = torch.zeros(FOLDS * count, len(rows), dtype=torch.float64)
    indicator[torch.from_numpy(cell), torch.arange(len(rows))] = 1
    sums = (indicator @ torch.from_numpy(rows)).numpy().reshape(FOLDS, count, -1)
    sizes = np.bincount(cell, minlength=FOLDS * count).reshape(FOLDS, count)
    squares = np.bincount(folds, np.square(rows).sum(1), minlength=FOLDS)
    every = _ratio(sums.sum(0), sizes.sum(0), squares.sum())
    without = [
        _ratio(sums.sum(0) - own, sizes.sum(0) - size, squares.sum() - square)
        for own, size, square in zip(sums, sizes, squares, strict=True)
    ]
    if not np.isfinite([every, *without]).all():
        return Estimate(every, math.nan)
    return Estimate(every, math.sqrt((FOLDS - 1) * np.var(without)))


def _ratio(sums: np.ndarray, sizes: np.ndarray, squares: float) -> float:
    """B / W from the sums (C, D) and sizes (C,) of classes and the sum of all squares."""
    sums, sizes = sums[sizes > 0], sizes[sizes > 0]
    n, c = sizes.sum(), len(sizes)
    if n <= c:
        return math.nan
    centres = np.square(sums).sum(1) / sizes
    within = (squares - centres.sum()) / (n - c)
    between = (centres.sum() - np.square(sums.sum(0)).sum() / n - (c - 1) * within) / n
    if within <= 1e-12 * squares / n:  # rounding
        return math.inf if squares > 0 else 0.0
    return float(between / within)


def linear_probe(x: Samples, labels: Any) -> Estimate:
    """Cross-fitted accuracy of a linear classifier of samples x (n, ...) with labels (n,), and its binomial error.

    Linear discriminants, argmax_c m_c' W⁻¹ x − m_c' W⁻¹ m_c / 2 + log p_c, W the covariance within classes, shrunk to a
    multiple of the identity as far as Ledoit and Wolf (2004) say. Each sample is judged by a classifier that is fitted
    on the nine tenths without it. Rotation, shift and scale change nothing. The share of the largest class is chance.

    Raises:
        ValueError: as `class_separation`.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> linear_probe(x, x[:, 0] > 0).mean > 0.95
        True
    """
    rows, classes = _classes(x, labels)
    folds = _folds(classes)
    hits = np.zeros(len(rows), dtype=bool)
    for fold in np.unique(folds):
        held = folds == fold
        names, own, sizes = np.unique(classes[~held], return_inverse=True, return_counts=True)
        seen = rows[~held]
        centre = seen.mean(0)
        means = np.zeros((len(names), rows.shape[1]))
        np.add.at(means, own, seen - centre)
        means /= sizes[:, None]
        covariance = ledoit_wolf(seen - centre - means[own], assume_centered=True)[0]
        weights = np.linalg.pinv(covariance, hermitian=True) @ means.T
        scores = (rows[held] - centre) @ weights - (means.T * weights).sum(0) / 2 + np.log(sizes / sizes.sum())
        hits[held] = names[scores.argmax(1)] == classes[held]
    share = float(hits.mean())
    return Estimate(share, math.sqrt(share * (1 - share) / len(rows)))


def _classes(x: Samples, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, D) and the number of each one's class (n,) from 0."""
    rows, names = points(x), np.asarray(labels)
    if names.shape != (len(rows),):
        raise ValueError(f"labels must have one entry per sample, got shape {names.shape} for {len(rows)}")
    kinds, classes = np.unique(names, return_inverse=True)
    if not 2 <= len(kinds) < len(rows):
        raise ValueError(f"labels must have two values or more, and fewer than samples, got {len(kinds)}")
    return rows, classes


def _folds(classes: np.ndarray) -> np.ndarray:
    """Folds (n,) that each have the same share of every class, dealt out in a seeded order."""
    order = np.random.default_rng(0).permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    folds = np.empty(len(classes), dtype=np.int64)
    folds[order] = np.arange(len(classes)) % FOLDS
    return folds
