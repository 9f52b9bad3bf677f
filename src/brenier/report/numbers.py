"""The numbers of the report, each with its standard error: arrays (m, d) in, `Estimate` out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from brenier.report.arrays import matrices, nearest, random, square_distances
from brenier.report.networks import apply, mlp, seeded, train
from brenier.solution import Estimate


def share(hits: np.ndarray) -> Estimate:
    """Share of true entries of `hits` (m,) and its binomial standard error.

    The error is sqrt(p (1 − p) / m) at p = (hits + 1) / (m + 2), so that 0 or m hits do not claim certainty.

    Example:
        >>> print(share(np.array([True, False, True, False])))
        0.5 ± 0.25
    """
    p = (hits.sum() + 1) / (len(hits) + 2)
    return Estimate(float(hits.mean()), float(np.sqrt(p * (1 - p) / len(hits))))


def _moments(x: np.ndarray, blocks: int, seed: int) -> np.ndarray:
    """Sums of (1, x)(1, x)ᵀ, which hold count, sum and second moments, over random blocks: (blocks, 1 + d, 1 + d)."""
    block = random(seed).permutation(len(x)) % blocks
    x = np.concatenate([np.ones((len(x), 1)), x], 1)
    return np.stack([x[block == b].T @ x[block == b] for b in range(blocks)])


def _frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The distance from the sums of `_moments` over all rows of both samples."""
    means, traces, roots = [], [], []
    for sums in (a, b):
        count, mean = sums[0, 0], sums[0, 1:] / sums[0, 0]
        values, vectors = np.linalg.eigh((sums[1:, 1:] - count * np.outer(mean, mean)) / (count - 1))
        means.append(mean)
        traces.append(values.clip(min=0).sum())
        roots.append(vectors * np.sqrt(values.clip(min=0)))
    nuclear = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    return float(max(0.0, np.square(means[0] - means[1]).sum() + sum(traces) - 2 * nuclear))


def frechet(a: Any, b: Any, seed: int | torch.Generator = 0, blocks: int = 20) -> Estimate:
    """Fréchet distance of the Gaussians fitted to two feature sets, FID when the features come from a classifier.

    |m_a − m_b|² + tr(S_a + S_b) − 2 ‖S_a^{1/2} S_b^{1/2}‖_*, in squared units of the features. The nuclear norm of the
    product of roots is the trace of (S_a^{1/2} S_b S_a^{1/2})^{1/2} without its loss of digits, singular S included.
    The error is a jackknife that leaves out one of `blocks` random blocks of both samples at a time, hence also right
    for paired rows (images and their reconstructions). Like every FID it has a bias of order 1/m: compare equal m.

    Args:
        a: features (m, d), at least 4 rows.
        b: features (n, d), at least 4 rows.
        seed: of the split into blocks.
        blocks: how many; fewer where a sample has less than two rows a block.

    Raises:
        ValueError: for other shapes, NaN or Inf, fewer rows; TypeError: for what is not an array of real numbers.

    Source: Heusel et al. (2017), GANs trained by a two time-scale update rule; Dowson and Landau (1982).

    Example:
        >>> x = np.random.default_rng(0).normal(size=(2000, 2))
        >>> round(frechet(x, x + 3.0).mean, 6)  # two shifts of 3: 9 + 9
        18.0
    """
    a, b = matrices(4, a=a, b=b)
    centre, blocks = b.mean(0), min(blocks, len(a) // 2, len(b) // 2)
    order = int(random(seed).integers(2**31))  # one for both: the rows of a pair are left out together
    parts_a, parts_b = (_moments(x - centre, blocks, order) for x in (a, b))
    total_a, total_b = parts_a.sum(0), parts_b.sum(0)
    left_out = [_frechet(total_a - part_a, total_b - part_b) for part_a, part_b in zip(parts_a, parts_b, strict=True)]
    return Estimate(_frechet(total_a, total_b), float(np.sqrt((blocks - 1) * np.var(left_out))))


def energy(a: Any, b: Any) -> Estimate:
    """The squared energy distance of two laws from samples: 2 E|X − Y| − E|X − X'| − E|Y − Y'|, 0 for equal laws only.

    Unbiased, so that it may fall below 0; its error is the jackknife's over the rows of both. It needs no features: it
    compares samples as they are.

    Args:
        a: rows (m, d), at least 3.
        b: rows (n, d), at least 3.

    Raises:
        ValueError: for other shapes, NaN or Inf, fewer rows; TypeError: for what is not an array of real numbers.

    Source: Székely and Rizzo (2013), Energy statistics.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(500, 2))
        >>> energy(x, x + 3.0).mean > 1 > energy(x[:250], x[250:]).mean
        True
    """
    a, b = matrices(3, a=a, b=b)
    m, n = len(a), len(b)
    across, within, other = (_row_sums(*pair) for pair in ((a, b), (a, a), (b, b)))
    back = _row_sums(b, a)
    inside_a, inside_b = within.sum() / (m * (m - 1)), other.sum() / (n * (n - 1))
    between = across.sum() / (m * n)
    less_a = (within.sum() - 2 * within) / ((m - 1) * (m - 2))
    less_b = (other.sum() - 2 * other) / ((n - 1) * (n - 2))
    without_a = 2 * (across.sum() - across) / ((m - 1) * n) - less_a - inside_b
    without_b = 2 * (across.sum() - back) / (m * (n - 1)) - inside_a - less_b
    variance = sum((len(part) - 1) * part.var() for part in (without_a, without_b))
    return Estimate(float(2 * between - inside_a - inside_b), float(np.sqrt(variance)))


def _row_sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Σ_j |a_i − b_j| for each i."""
    return np.concatenate([block.sqrt_().sum(1).numpy() for _, block in square_distances(a, b)])


def c2st(a: Any, b: Any, seed: int | torch.Generator = 0) -> Estimate:
    """Classifier two-sample test: the held-out accuracy of telling a from b; 0.5 is perfect, 1 is told apart always.

    A perceptron (two hidden layers of 256, 20 passes of AdamW) on standardised columns, cross-fitted on two halves:
    each row is judged by the network that did not see it. The larger sample is thinned to the size of the other. The
    error is binomial over half of the judged rows: what sets the samples apart by chance helps both networks or none,
    so that their hits rise and fall together. The accuracy is a lower bound on the best classifier's.

    Args:
        a: rows (m, d), at least 4.
        b: rows (n, d), at least 4.
        seed: of the halves, the weights and the order of training.

    Raises:
        ValueError: for other shapes, NaN or Inf, fewer rows; TypeError: for what is not an array of real numbers.

    Source: Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> c2st(x, x + 9.0).mean
        1.0
    """
    a, b = matrices(4, a=a, b=b)
    rng = random(seed)
    m = min(len(a), len(b))
    x = np.concatenate([rng.permutation(a)[:m], rng.permutation(b)[:m]])
    deviation = x.std(0)
    rows = torch.from_numpy((x - x.mean(0)) / np.where(deviation > 0, deviation, 1)).float()
    y, fold = torch.arange(2 * m) // m, torch.arange(2 * m) % 2
    hits = []
    for held in (0, 1):
        inputs, network = rows[fold != held], seeded(lambda: mlp(rows.shape[1], 256, 2), int(rng.integers(2**31)))
        train(network, inputs.__getitem__, y[fold != held], rng, epochs=20, batch=256, rate=3e-3, decay=1e-2)
        hits.append(apply(network, rows[fold == held]).argmax(1) == y[fold == held])
    mean, sem = share(torch.cat(hits).numpy())
    return Estimate(mean, float(np.sqrt(2) * sem))


def nn_ratio(new: Any, test: Any, train: Any) -> Estimate:
    """How new the codes are: mean distance to the nearest training code, over the same mean for test codes.

    1 is as new as unseen data, 0 is a copy, above 1 is farther from the training codes than unseen data are. The error
    is that of a ratio of two independent means (delta method), the training codes held fixed.

    Args:
        new: generated codes (m, d), at least 2.
        test: codes of unseen data (k, d), at least 2.
        train: training codes (n, d).

    Raises:
        ValueError: for other shapes, NaN or Inf, or when every test code is a training code.

    Example:
        >>> codes = np.random.default_rng(0).normal(size=(300, 4))
        >>> print(nn_ratio(codes[:100], codes[200:], codes[:200]))
        0 ± 0
    """
    new, test, train_codes = matrices(new=new, test=test, train=train)
    own, other = nearest(new, train_codes)[0], nearest(test, train_codes)[0]
    if not other.any():
        raise ValueError(f"test must hold codes that train does not, got {len(test)} codes that are all in train")
    ratio = own.mean() / other.mean()
    variance = own.var() / len(own) + ratio**2 * other.var() / len(other)
    return Estimate(float(ratio), float(np.sqrt(variance) / other.mean()))


def exact_copies(new: Any, train: Any) -> Estimate:
    """Share of rows of `new` (m, d) that equal a row of `train` (n, d) in every entry, with its binomial error.

    Example:
        >>> train = np.arange(8.0).reshape(4, 2)
        >>> exact_copies(np.concatenate([train[:1], train[:1] + 0.5]), train).mean
        0.5
    """
    new, known = matrices(new=new, train=train)
    rows = {row.tobytes() for row in known + 0.0}  # -0.0 + 0.0 is 0.0: equal numbers, equal bytes
    return share(np.array([row.tobytes() in rows for row in new + 0.0]))


def precision_recall_density_coverage(real: Any, fake: Any, k: int = 5) -> dict[str, Estimate]:
    """Fidelity and diversity by balls around every row that reach its k-th neighbour in its own set.

    precision: share of fake rows in some real ball; recall: share of real rows in some fake ball; density: real balls
    around a fake row, over k; coverage: share of real balls that hold a fake row. The errors of the shares are
    binomial, that of the density adds the spreads over fake rows and over balls; all agree with the spread over
    repeated samples to within a quarter.

    Args:
        real: features (m, d), more than k rows.
        fake: features (n, d), more than k rows; n = m for numbers that compare.
        k: the neighbour that sets the radius.

    Returns:
        The four numbers under the keys "precision", "recall", "density", "coverage".

    Raises:
        ValueError: for other shapes, NaN or Inf, k < 1, no more than k rows.

    Source: Kynkäänniemi et al. (2019), Improved precision and recall; Naeem et al. (2020), Reliable fidelity and
    diversity.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> {name: value.mean for name, value in precision_recall_density_coverage(x, x + 99.0).items()}
        {'precision': 0.0, 'recall': 0.0, 'density': 0.0, 'coverage': 0.0}
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    real, fake = matrices(k + 1, real=real, fake=fake)
    slack = 1e-12 * max(np.square(x - real.mean(0)).sum(1).max() for x in (real, fake))  # rounding of the products
    real_radii, fake_radii = (torch.from_numpy(nearest(x, x, k + 1)[0][:, k] ** 2 + slack) for x in (real, fake))
    around, inhabitants, recalled = [], torch.zeros(len(real)), torch.zeros(len(real), dtype=torch.bool)
    for rows, squared in square_distances(fake, real):
        inside = squared <= real_radii
        around.append(inside.sum(1))
        inhabitants += inside.sum(0)
        recalled |= (squared <= fake_radii[rows, None]).any(0)
    balls, held = torch.cat(around).numpy() / k, inhabitants.numpy() / k * (len(real) / len(fake))
    return {
        "precision": share(balls > 0),
        "recall": share(recalled.numpy()),
        "density": Estimate(float(balls.mean()), float(np.sqrt(balls.var() / len(balls) + held.var() / len(held)))),
        "coverage": share(held > 0),
    }
