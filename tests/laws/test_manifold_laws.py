"""What must not change a chart or a dimension, and what must."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from brenier.manifold import Chart, build, convolutional, fit, intrinsic_dimension, mlp
from brenier.solution import Status

SHAPES = [(1, 8, 8), (2, 9, 13), (3, 28, 28), (4, 64, 48), (1, 8, 50), (1, 15, 15)]


def digits(n=96):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_images_of_any_size_keep_their_shape_and_range(shape, generator):
    chart = Chart(*convolutional(shape, latent_dim=5, width=4, generator=0))
    x = torch.rand(3, *shape, generator=generator)
    z = chart.encode(x)
    y = chart.decode(z)
    assert z.shape == (3, 5)
    assert y.shape == x.shape
    assert 0 <= y.min() <= y.max() <= 1
    assert chart.encode(x[:0]).shape == (0, 5)
    assert chart.decode(z[:0]).shape == (0, *shape)


def with_batch_norm():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    decoder = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 64), nn.Unflatten(1, (1, 8, 8)))
    return encoder, decoder


@pytest.mark.parametrize("pair", [lambda: convolutional((1, 8, 8), 2, 8, generator=0), with_batch_norm])
def test_a_row_does_not_depend_on_its_batch(pair):
    chart, x = Chart(*pair()), digits(256)
    fit(chart, x[:97], epochs=2, batch_size=16, validation=0, generator=0)
    one, many = chart.encode(x, batch_size=1), chart.encode(x, batch_size=256)
    assert torch.allclose(one, many, rtol=0, atol=1e-5)
    assert torch.allclose(chart.decode(many, batch_size=1), chart.decode(many, batch_size=256), rtol=0, atol=1e-5)


def test_inference_leaves_every_module_in_its_own_mode():
    chart = Chart(*with_batch_norm()).train()
    chart.encoder[2].eval()
    before = [m.training for m in chart.modules()]
    statistics = chart.decoder[1].running_mean.clone()
    chart.decode(chart.encode(digits()))
    assert [m.training for m in chart.modules()] == before
    assert torch.equal(chart.decoder[1].running_mean, statistics)


def test_the_decoder_can_be_differentiated_twice():
    decoder = Chart(*convolutional((1, 8, 8), 2, 4, generator=0)).decoder
    hessian = torch.autograd.functional.hessian(lambda z: decoder(z).sum(), torch.ones(1, 2))
    assert hessian.abs().max() > 0


def weights_after_fit(seed, x):
    chart = build({"kind": "convolutional", "shape": [1, 8, 8], "latent_dim": 2, "width": 4}, generator=seed)
    fit(chart, x, epochs=3, generator=seed)
    return torch.cat([p.detach().flatten() for p in chart.parameters()])


def test_same_seed_same_weights_and_the_global_state_stays():
    state = torch.get_rng_state()
    first, second, other = (weights_after_fit(seed, digits()) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_generator_advances_so_that_two_charts_differ(generator):
    first, second = (mlp(3, 2, generator=generator)[0](torch.ones(1, 3)) for _ in range(2))
    assert not torch.equal(first, second)


def test_bytes_arrays_and_floats_give_one_fit():
    x = (digits() * 255).byte()
    as_bytes, as_array, as_float = (weights_after_fit(0, v) for v in (x, x.numpy(), x.float() / 255))
    assert torch.equal(as_bytes, as_array)
    assert torch.equal(as_bytes, as_float)


def test_a_read_only_array_is_read_and_left_alone():
    x = digits().numpy().copy()
    x.flags.writeable = False
    weights_after_fit(0, x)
    chart = Chart(*convolutional((1, 8, 8), 2, 4, generator=0))
    assert torch.equal(chart.encode(x), chart.encode(digits()))
    assert intrinsic_dimension(x) == intrinsic_dimension(digits())


def test_a_second_fit_goes_on_from_the_first(generator):
    x = torch.randn(200, 4, generator=generator)
    chart = Chart(*mlp(4, 2, generator=0))
    first = fit(chart, x, validation=0, epochs=20, generator=0).history[-1]["loss"]
    second = fit(chart, x, validation=0, epochs=1, lr=1e-6, generator=0).history[0]["loss"]
    assert second < 1.2 * first
    assert chart.encode(x).var(0).mean().item() == pytest.approx(1, abs=0.1)


def test_to_network_converts_batch_by_batch():
    sizes = []

    def convert(batch):
        sizes.append(len(batch))
        return batch.float()[:, None] / 16

    x = np.random.default_rng(0).integers(0, 17, (2000, 8, 8))
    chart = Chart(*convolutional((1, 8, 8), 2, 4, generator=0))
    fit(chart, x, epochs=1, batch_size=500, generator=0, to_network=convert)
    assert max(sizes) <= 1024
    assert chart.encode(x, to_network=convert).shape == (2000, 2)


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0), (1e4, -3e4)])
def test_a_perceptron_fits_data_of_any_scale_alike(scale, shift, generator):
    x = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    codes = []
    for data in (x, scale * x + shift):
        chart = Chart(*mlp(4, 2, width=8, generator=0)).double()
        solution = fit(chart, data, epochs=5, generator=0)
        codes.append(chart.encode(data))
    assert torch.allclose(*codes, atol=1e-6)
    assert solution.history[-1]["validation"] < 2
    assert (chart.decode(codes[1]) - data).square().mean() < 2 * scale**2


def test_constant_entries_come_back_as_they_are(generator):
    x = torch.cat([torch.randn(90, 2, generator=generator), torch.full((90, 1), 1 / 3)], 1)
    chart = Chart(*mlp(3, 2, generator=0))
    fit(chart, x, epochs=3, generator=0)
    assert torch.equal(chart.decode(chart.encode(x))[:, 2], x[:, 2])


def test_early_stopping_keeps_the_best_weights(generator):
    x = torch.randn(40, 10, generator=generator)
    held_out = torch.arange(30, 40)
    chart = Chart(
        nn.Sequential(nn.Linear(10, 64), nn.SiLU(), nn.Linear(64, 3)),
        nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 10)),
    )
    solution = fit(chart, x, validation=held_out, epochs=300, lr=5e-3, patience=5, generator=0)
    errors = [entry["validation"] for entry in solution.history]
    assert solution.status is Status.STOPPED_EARLY
    assert len(errors) - 1 - int(np.argmin(errors)) == 5
    error = (chart.decode(chart.encode(x[30:])) - x[30:]).square().mean().item()
    assert error == pytest.approx(min(errors), rel=1e-4)


def test_history_tells_every_epoch_to_the_caller():
    told = []
    solution = fit(
        Chart(*mlp(4, 2, generator=0)), torch.eye(4).repeat(9, 1), epochs=4, generator=0, on_epoch=told.append
    )
    assert solution.status is Status.EPOCHS_DONE
    assert told == solution.history
    assert [entry["epoch"] for entry in told] == [1, 2, 3, 4]
    assert set(told[0]) == {"epoch", "loss", "validation", "lr", "seconds"}
    assert solution.seconds >= told[-1]["seconds"] > 0


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "identity"},
        {"kind": "mlp", "dim": 6, "latent_dim": 2, "width": 5, "depth": 1},
        {"kind": "convolutional", "shape": [1, 9, 8], "latent_dim": 2},
    ],
    ids=lambda spec: spec["kind"],
)
def test_a_chart_is_rebuilt_from_json_and_weights(spec, generator):
    chart = build(spec, generator=0)
    x = torch.rand(64, *spec.get("shape", [6]), generator=generator)
    if chart.spec["kind"] != "identity":
        fit(chart, x, epochs=1, generator=0)
    again = build(json.loads(json.dumps(chart.spec)), generator=1)
    again.load_state_dict(chart.state_dict())
    assert again.spec == chart.spec
    assert torch.equal(again.encode(x), chart.encode(x))
    assert torch.equal(again.decode(chart.encode(x)), chart.decode(chart.encode(x)))


@pytest.mark.parametrize("method", ["two_nn", "mle", "pca"])
def test_dimension_ignores_duplicates_order_scale_and_place(method, generator):
    x = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    estimate = intrinsic_dimension(x, method)
    again = intrinsic_dimension(1000 * torch.cat([x, x]).flip(0).numpy() + 7, method)
    assert again == pytest.approx(estimate, rel=1e-6)


def test_dimension_of_many_samples_reads_a_seeded_subset(generator):
    x = torch.randn(3000, 2, generator=generator)
    first, same, other = (intrinsic_dimension(x, max_samples=500, seed=s) for s in (0, 0, 1))
    assert first == same != other
