"""Isomap: invariances, dtype and kind, reproducibility."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.distance import pdist

from brenier.manifold.graph import neighbour_graph
from brenier.manifold.isomap import isomap


def samples(generator, n=200):
    t = 3 * torch.rand(n, 1, generator=generator, dtype=torch.float64)
    return torch.cat([t.cos(), t.sin(), torch.rand(n, 1, generator=generator, dtype=torch.float64)], 1)


def test_a_motion_changes_nothing_and_a_scale_scales(generator):
    x = samples(generator)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    first, moved = isomap(x, 2, 30), isomap(2 * x @ turn + 5, 2, 30)
    assert torch.allclose(2 * first.codes, moved.codes, atol=1e-8)
    assert np.isclose(first.stress.mean, moved.stress.mean, rtol=1e-6)


def test_codes_are_of_the_kind_of_the_samples(generator):
    x = samples(generator, 60)
    truth = isomap(x, 2).codes
    for given, dtype in ((x.float(), torch.float32), (x.numpy(), np.float64), (x.float().numpy(), np.float32)):
        codes = isomap(given, 2).codes
        assert type(codes) is type(given)
        assert codes.dtype == dtype
        assert np.allclose(codes, truth, atol=1e-4)


def test_a_graph_may_be_given(generator):
    x = samples(generator, 100)
    assert np.array_equal(isomap(neighbour_graph(x, 6), 2, k=3).codes, isomap(x, 2, k=6).codes)


def test_more_landmarks_come_closer_to_all_of_them(generator):
    x = samples(generator, 400)
    truth = pdist(isomap(x, 2).codes)
    errors = [np.abs(pdist(isomap(x, 2, landmarks).codes) - truth).mean() for landmarks in (5, 40, 400)]
    assert errors[0] > 2 * errors[1] > 0
    assert errors[2] < 1e-9


def test_coordinates_fall_in_variance_and_are_uncorrelated(generator):
    codes = isomap(samples(generator), 3, 40).codes
    covariance = torch.cov(codes.T)
    assert (covariance.diagonal().diff() < 0).all()
    assert torch.allclose(covariance, covariance.diagonal().diag(), atol=1e-10)
    assert torch.allclose(codes.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)


def test_the_seed_decides(generator):
    x = samples(generator)
    first, same, other = (isomap(x, 2, 10, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.codes, same.codes)
    assert not np.array_equal(first.landmarks, other.landmarks)
