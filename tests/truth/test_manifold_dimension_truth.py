"""Dimension by class, at every sample, and corrected for the bias of finite samples and of noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier.manifold.dimension import intrinsic_dimension, local_dimension


def rotated(x, ambient, generator, noise=0.0):
    turn = torch.linalg.qr(torch.randn(ambient, x.shape[1], generator=generator, dtype=torch.float64)).Q
    return x @ turn.T + noise * torch.randn(len(x), ambient, generator=generator, dtype=torch.float64)


def cube(d, n, generator):
    return torch.rand(n, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("d", [1, 2, 5, 10, 20])
def test_corrected_interval_holds_the_dimension_of_a_cube(d, generator):
    mean, sem = intrinsic_dimension(rotated(cube(d, 2048, generator), 30, generator), corrected=True)
    assert abs(mean - d) < 2 * sem
    assert sem < 0.25 * d


def test_correction_goes_the_right_way(generator):
    x = cube(12, 2048, generator)
    raw, corrected = intrinsic_dimension(x), intrinsic_dimension(x, corrected=True)
    assert raw.mean + 2 * raw.sem < corrected.mean < 12.5


def test_noise_is_told_from_dimension(generator):
    x = rotated(cube(2, 4096, generator), 100, generator, noise=5e-4)
    raw, corrected = intrinsic_dimension(x), intrinsic_dimension(x, corrected=True)
    assert raw.mean > 2.3
    assert abs(corrected.mean - 2) < 2 * corrected.sem
    assert corrected.sem < 0.2


def test_every_class_has_its_dimension(generator):
    x = torch.cat([rotated(cube(d, 800, generator), 9, generator) for d in (1, 2, 3)])
    labels = np.repeat(["line", "plane", "space"], 800)
    found = intrinsic_dimension(x, labels=labels)
    assert list(found) == ["line", "plane", "space"]
    for d, (mean, sem) in enumerate(found.values(), 1):
        assert abs(mean - d) < 3 * sem + 0.05 * d
    assert found["line"] == intrinsic_dimension(x[:800])


@pytest.mark.parametrize("method", ["two_nn", "mle", "pca"])
def test_local_dimension_of_two_parts(method, generator):
    line = torch.cat([100 + cube(1, 400, generator), torch.zeros(400, 3, dtype=torch.float64)], 1)
    solid = torch.cat([cube(3, 1500, generator), torch.zeros(1500, 1, dtype=torch.float64)], 1)
    mean, sem = local_dimension(torch.cat([line, solid]), method, k=30)
    assert mean.shape == sem.shape == (1900,)
    assert mean[:400].mean() == pytest.approx(1, abs=0.1)
    assert mean[400:].mean() == pytest.approx(3, abs=0.35)


def test_local_error_of_mle_is_its_spread(generator):
    """Over far-away patches, which are independent, on a closed curve, which has no bias."""
    t = 2 * torch.pi * torch.rand(20_000, generator=generator, dtype=torch.float64)
    mean, sem = local_dimension(torch.stack([t.cos(), t.sin()], 1), "mle", k=20)
    assert mean.mean().item() == pytest.approx(1, abs=0.02)
    assert mean.std().item() == pytest.approx(sem.square().mean().sqrt().item(), rel=0.1)


def test_copies_share_their_local_dimension(generator):
    x = cube(3, 100, generator)
    first, again = local_dimension(x), local_dimension(torch.cat([x, x]))
    assert torch.equal(again.mean, first.mean.repeat(2))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x: intrinsic_dimension(x, corrected=True), "at least 512 distinct rows, got 100"),
        (
            lambda x: intrinsic_dimension(x.repeat(6, 1) + cube(3, 600, None), "pca", corrected=True),
            "methods two_nn and mle",
        ),
        (lambda x: intrinsic_dimension(x, labels=[0, 1]), r"one entry per sample, got shape \(2,\) for 100"),
        (
            lambda x: intrinsic_dimension(x, labels=[0] * 95 + [1] * 5),
            "label 1: x must have at least 12 distinct rows, got 5",
        ),
        (lambda x: local_dimension(x, k=100), "k must be less than the number of distinct samples, got k 100 for 100"),
        (lambda x: local_dimension(x, k=5), "k must be at least 12, got 5"),
        (lambda x: local_dimension(x, "isomap"), "method must be one of two_nn, mle, pca, got 'isomap'"),
    ],
)
def test_bad_values_are_named(call, sentence, generator):
    with pytest.raises(ValueError, match=sentence):
        call(cube(3, 100, generator))
