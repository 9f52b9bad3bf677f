"""What bad input to charts gets: one sentence with the number."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brenier.manifold import Chart, build, convolutional, fit, intrinsic_dimension, mlp


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (((1, 28, 28), 0), "latent_dim must lie between 1 and the 784 entries of a sample, got 0"),
        (((1, 8, 8), 65), "got 65"),
        (((1, 7, 28), 2), "at least 8x8, got 7x28"),
        (((5, 28, 28), 2), "1 to 4 channels, got 5"),
        (((28, 28), 2), r"\(channels, height, width\), got \(28, 28\)"),
        (((1, 28, 28), 2, 0), "width must be at least 1, got 0"),
    ],
)
def test_convolutional_names_the_bad_size(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        convolutional(*arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0, 1), "at least 1 entry, got 0"),
        ((4, 0), "latent_dim must lie between 1 and the 4 entries"),
        ((4, 2, 8, -1), "depth must be at least 0, got -1"),
    ],
)
def test_mlp_names_the_bad_size(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        mlp(*arguments)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({}, "kind must be convolutional, mlp or identity, got None"),
        ({"kind": "pickle"}, "got 'pickle'"),
        ({"kind": "mlp", "dim": 3}, "missing a required argument: 'latent_dim'"),
        ({"kind": "mlp", "dim": 3, "latent_dim": 2, "colour": 1}, "unexpected keyword argument 'colour'"),
    ],
)
def test_build_names_what_is_wrong_with_the_spec(spec, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(spec)


def test_a_chart_needs_modules():
    with pytest.raises(TypeError, match=r"decoder must be a torch.nn.Module, got function"):
        Chart(nn.Identity(), lambda z: z)


def test_a_user_chart_has_no_spec():
    assert Chart(nn.Linear(3, 2), nn.Linear(2, 3)).spec is None


def test_chart_names_wrong_shapes_and_types():
    chart = Chart(nn.Identity(), nn.Identity())
    with pytest.raises(ValueError, match=r"codes of shape \(m, d\), got \(2, 3, 4\)"):
        chart.encode(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"codes must have shape \(m, d\), got \(3,\)"):
        chart.decode(torch.zeros(3))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        chart.encode(torch.zeros(2, 3), batch_size=0)
    with pytest.raises(TypeError, match=r"float or uint8, got torch.int64"):
        chart.encode(torch.zeros(2, 3, dtype=torch.long))


def with_nan():
    x = torch.ones(20, 3)
    x[7, 1] = float("nan")
    return x


@pytest.mark.parametrize(
    ("x", "options", "sentence"),
    [
        (with_nan(), {}, "samples must be finite, got NaN or Inf in sample 7"),
        (torch.ones(2, 3), {}, "latent_dim must not exceed the number of training samples, got 2 for 1"),
        (torch.ones(1, 3), {}, "no sample is left to train on, 1 given and 1 held out"),
        (torch.ones(20, 3), {"validation": 1.0}, "validation must be a share from 0 up to 1 or indices, got 1.0"),
        (torch.ones(20, 3), {"validation": [3, 20]}, "validation must index the 20 samples, got 3 to 20"),
        (torch.ones(20, 3), {"epochs": 0}, "epochs must be at least 1, got 0"),
        (torch.ones(20, 3), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (torch.ones(20, 3), {"patience": 0}, "patience must be at least 1, got 0"),
        (torch.ones(20, 3), {"lr": 0.0}, "lr must be positive, got 0.0"),
    ],
)
def test_fit_names_the_bad_value(x, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        fit(Chart(*mlp(3, 2, generator=0)), x, generator=0, **options)


def test_fit_refuses_modules_that_do_not_rebuild_the_shape():
    with pytest.raises(ValueError, match=r"decoder must give back samples of shape \(3,\), got \(4,\)"):
        fit(Chart(nn.Linear(3, 2), nn.Linear(2, 4)), torch.ones(20, 3), generator=0)


def test_networks_refuse_samples_of_another_shape():
    chart = Chart(*convolutional((1, 8, 8), 2, width=4, generator=0))
    with pytest.raises(ValueError, match=r"samples must have shape \(1, 8, 8\) each, got \(8, 8\)"):
        fit(chart, torch.zeros(20, 8, 8))
    with pytest.raises(ValueError, match=r"samples must have shape \(1, 8, 8\) each, got \(3, 8, 8\)"):
        chart.encode(torch.zeros(20, 3, 8, 8))


def test_fit_refuses_a_chart_with_nothing_to_train():
    with pytest.raises(ValueError, match="the chart has no parameters to train"):
        fit(Chart.identity(), torch.ones(20, 3))


def test_a_loss_that_explodes_says_what_to_change(generator):
    with pytest.raises(ArithmeticError, match=r"the loss became .* at the rate .*; lower lr"):
        fit(Chart(*mlp(3, 2, generator=0)), torch.randn(64, 3, generator=generator), lr=1e25, generator=0)


@pytest.mark.parametrize(
    ("x", "method", "sentence"),
    [
        (torch.rand(50, 3), "isomap", "method must be one of two_nn, mle, pca, got 'isomap'"),
        (torch.ones(50, 3), "two_nn", "at least 12 distinct rows, got 1"),
        (with_nan(), "pca", "x must be finite, got NaN or Inf"),
        (torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)), "two_nn", "lattice"),
    ],
)
def test_dimension_names_the_bad_value(x, method, sentence):
    with pytest.raises(ValueError, match=sentence):
        intrinsic_dimension(x, method)
