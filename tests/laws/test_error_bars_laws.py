"""Stated 95 % intervals, mean ± 1.96 sem, hold the truth in 92 to 98 % of 200 seeded problems."""

import math

import numpy as np
import pytest
import torch

from brenier import measures, transport
from brenier.report.numbers import c2st, frechet

pytestmark = pytest.mark.slow
PROBLEMS, TRUTH = 200, 1 << 18


def covers(estimates, truths):
    mean, sem = np.array(estimates).T
    return float(np.mean(np.abs(mean - np.array(truths)) <= 1.96 * sem))


def test_the_intervals_of_a_transport_cover():
    """Against 2^18 samples of their own: converged and unconverged solutions, from the start and after a descent."""
    errors, costs, true_errors, true_costs = [], [], [], []
    for seed in range(PROBLEMS):
        generator = torch.Generator().manual_seed(seed)
        d, n = (2, 4)[seed % 2], (10, 40)[seed // 2 % 2]
        tol, most = ((0.5, None), (0.2, None), (0.1, 2000))[seed % 3]
        y = torch.randn(n, d, generator=generator) * (0.5 + torch.rand(d, generator=generator))
        found = transport.solve(
            measures.Gaussian(d), measures.Discrete(y), method="stochastic", tol=tol, max_samples=most,
            generator=generator,
        )  # fmt: skip
        x = torch.randn(TRUTH, d, generator=generator)
        cells = found.potential.cell(x)
        counts = torch.bincount(cells, minlength=n).double()
        chi2 = (counts * (counts - 1)).sum().item() * n / (TRUTH * (TRUTH - 1)) - 1
        errors.append(found.relrms)
        costs.append(found.cost)
        true_errors.append(math.sqrt(max(chi2, 0)))
        true_costs.append((x - y[cells]).double().square().sum(1).mean().item())
    assert 0.92 <= covers(errors, true_errors) <= 0.98
    assert 0.92 <= covers(costs, true_costs) <= 0.98


def pairs(m, d, shift, seed):
    """Two samples (m, d) of Gaussians that differ in mean and spread."""
    random = np.random.default_rng(seed)
    return random.normal(size=(m, d)), random.normal(size=(m, d)) * np.linspace(1, 1 + shift, d) + shift


def test_the_interval_of_the_frechet_distance_covers():
    """Its truth is its mean over 400 repetitions: the distance of samples of this size."""
    estimates, truths = [], []
    for m, d, shift in ((500, 8, 0.3), (500, 8, 0.0), (300, 4, 0.8), (400, 16, 0.2)):
        found = [frechet(*pairs(m, d, shift, seed)) for seed in range(400)]
        estimates += found[: PROBLEMS // 4]
        truths += PROBLEMS // 4 * [np.mean([estimate.mean for estimate in found])]
    assert 0.92 <= covers(estimates, truths) <= 0.98


def test_the_interval_of_the_two_sample_test_covers():
    """Its truth is its mean over the repetitions of a problem: no difference, one that is hard, one that is easy."""
    estimates, truths = [], []
    for m, d, shift in ((100, 2, 0.0), (100, 2, 0.5), (100, 4, 0.8), (100, 8, 0.2)):
        found = [c2st(*pairs(m, d, shift, seed), seed=seed) for seed in range(PROBLEMS // 4)]
        estimates += found
        truths += PROBLEMS // 4 * [np.mean([estimate.mean for estimate in found])]
    assert 0.92 <= covers(estimates, truths) <= 0.98
