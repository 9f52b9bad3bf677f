"""Charts and dimensions against what is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from brenier.manifold import Chart, convolutional, fit, intrinsic_dimension, mlp


def test_identity_gives_codes_back_bit_for_bit(generator):
    x = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    chart = Chart.identity()
    assert torch.equal(chart.encode(x, batch_size=7), x)
    assert torch.equal(chart.decode(x, batch_size=7), x)


def test_linear_data_in_a_linear_chart_leave_no_error(generator):
    x = torch.randn(500, 2, generator=generator) @ torch.randn(2, 6, generator=generator) + 5
    chart = Chart(*mlp(6, latent_dim=2, depth=0, generator=0))
    fit(chart, x, epochs=100, batch_size=100, lr=0.05, generator=0)
    assert (chart.decode(chart.encode(x)) - x).square().mean() < 1e-5 * x.var()


def test_a_linear_chart_reaches_the_error_of_pca(generator):
    x = torch.randn(800, 8, generator=generator)
    x = (x - x.mean(0)) / x.std(0) @ torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    x = x / x.std(0)
    chart = Chart(*mlp(8, latent_dim=3, depth=0, generator=0))
    fit(chart, x, validation=0, epochs=100, batch_size=200, lr=0.05, generator=0)
    error = (chart.decode(chart.encode(x)) - x).square().sum()
    pca = torch.linalg.svdvals(x - x.mean(0))[3:].square().sum()
    assert pca * 0.999 < error < pca * 1.01


def test_codes_are_centred_with_mean_variance_one(generator):
    x = torch.rand(400, 1, 8, 8, generator=generator)
    chart = Chart(*convolutional((1, 8, 8), latent_dim=3, width=4, generator=0))
    fit(chart, x, validation=0, epochs=2, generator=0)
    z = chart.encode(x)
    assert z.mean(0).abs().max() < 1e-3
    assert z.var(0, correction=0).mean().item() == pytest.approx(1, abs=1e-3)


def sphere(d, n, generator):
    x = torch.randn(n, d + 1, generator=generator, dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def torus(d, n, generator):
    angle = 2 * math.pi * torch.rand(n, d, generator=generator, dtype=torch.float64)
    return torch.cat([angle.cos(), angle.sin()], 1)


@pytest.mark.parametrize("method", ["two_nn", "mle"])
@pytest.mark.parametrize(("surface", "d"), [(sphere, 1), (sphere, 2), (torus, 3), (sphere, 4)])
def test_dimension_of_closed_manifolds(surface, d, method, generator):
    x = surface(d, 3000, generator)
    turn = torch.linalg.qr(torch.randn(30, 30, generator=generator, dtype=torch.float64)).Q[:, : x.shape[1]]
    mean, sem = intrinsic_dimension(x @ turn.T + 3, method)
    assert abs(mean - d) < 3 * sem
    assert sem < 0.04 * d


def test_stated_error_of_two_nn_is_its_spread_over_draws():
    draws = [intrinsic_dimension(sphere(2, 1000, torch.Generator().manual_seed(s))) for s in range(40)]
    means, sems = np.array(draws).T
    assert 0.7 < sems.mean() / means.std(ddof=1) < 1.5


def test_pca_counts_the_directions_of_linear_data(generator):
    basis = torch.linalg.qr(torch.randn(12, 4, generator=generator)).Q
    assert intrinsic_dimension(torch.randn(500, 4, generator=generator) @ basis.T, "pca") == (4.0, 0.0)
