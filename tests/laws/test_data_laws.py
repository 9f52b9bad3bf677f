"""There and back is the identity; the same generator gives the same set; a limit only leaves out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from brenier import data
from brenier.data import Layout

SHAPES = [(5, 8, 9), (5, 9, 8, 1), (5, 8, 9, 3), (5, 10, 8, 4), (5, 1, 8, 9), (5, 2, 9, 8), (5, 3, 8, 9), (5, 4, 9, 9)]
SYNTHETIC = [
    data.ring,
    data.grid,
    data.eleven_blobs,
    data.three_clusters_in_disk,
    data.swiss_roll,
    data.s_curve,
    data.sphere,
    data.torus,
    data.spiral,
]


def images(shape, dtype="uint8"):
    values = np.random.default_rng(0).integers(0, 256, shape)
    values.flat[:2] = 0, 127
    if dtype == "int8":
        return (values // 2).astype(dtype)
    if dtype == "bool":
        return values > 127
    return (values / 255).astype(dtype) if dtype.startswith("float") else values.astype(dtype)


def identical(a, b):
    assert type(a) is type(b)
    assert a.dtype == b.dtype
    assert tuple(a.shape) == tuple(b.shape)
    assert bool((a == b).all())


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_whole_number_images_survive_bit_for_bit(shape, library):
    values = images(shape) if library == "numpy" else torch.from_numpy(images(shape))
    layout = Layout.of(values)
    x = layout.to_network(values)
    assert x.dtype == torch.float32
    assert tuple(x.shape[1:]) == layout.network_shape
    assert x.shape[1] in (1, 2, 3, 4)
    assert 0 <= x.min() < x.max() <= 1
    identical(layout.to_user(x), values)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float32"])
def test_images_of_every_dtype_survive(dtype):
    for values in (images((4, 8, 8, 3), dtype), torch.from_numpy(images((4, 3, 8, 8), dtype))):
        layout = Layout.of(values)
        identical(layout.to_user(layout.to_network(values)), values)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_vectors_survive_bit_for_bit(dtype):
    values = np.random.default_rng(0).normal(size=(6, 3)).astype(dtype)
    for given in (values, torch.from_numpy(values)):
        layout = Layout.of(given)
        identical(layout.to_user(layout.to_network(given)), given)
    assert Layout.of(values).to_network(values).dtype == (torch.float64 if dtype == "float64" else torch.float32)


def test_bfloat16_tensors_survive():
    values = torch.linspace(0, 1, 4 * 64).reshape(4, 8, 8).bfloat16()
    identical(Layout.of(values).to_user(Layout.of(values).to_network(values)), values)


def test_whole_number_vectors_come_back_as_floats():
    values = np.arange(6).reshape(2, 3)
    back = Layout.of(values).to_user(Layout.of(values).to_network(values))
    identical(back, values.astype(np.float32))


def test_grey_channels_and_axes_are_put_where_a_network_wants_them():
    values = images((2, 8, 9, 3))
    x = Layout.of(values).to_network(values)
    assert torch.equal(x, Layout.of(values.transpose(0, 3, 1, 2)).to_network(values.transpose(0, 3, 1, 2)))
    assert torch.equal(x[:, :1], Layout.of(values[..., 0]).to_network(values[..., 0]))
    assert x.is_contiguous()


def test_ranges_of_what_is_given_count_and_not_those_of_the_fit():
    values = images((3, 8, 8))
    layout = Layout.of(values)
    assert torch.equal(layout.to_network(values / np.float32(255)), layout.to_network(values))


def test_values_off_the_range_are_clipped_on_the_way_back():
    layout = Layout.of(images((2, 8, 8)))
    back = layout.to_user(torch.tensor([-0.3, 1.7]).view(2, 1, 1, 1).expand(2, 1, 8, 8))
    assert (back[0] == 0).all()
    assert (back[1] == 255).all()


def test_the_way_in_never_touches_the_users_array():
    values = np.random.default_rng(0).random((3, 8, 8), dtype=np.float32)
    values.flags.writeable = False
    Layout.of(values).to_network(values).zero_()
    assert values.max() > 0


@pytest.mark.parametrize("shape", [*SHAPES, (5, 7)])
def test_layouts_survive_json(shape):
    for values in (images(shape), torch.from_numpy(images(shape))):
        layout = Layout.of(values)
        assert Layout.from_dict(json.loads(json.dumps(layout.asdict()))) == layout


def test_byte_order_changes_nothing():
    values = np.random.default_rng(0).random((3, 8, 8)).astype(">f4")
    layout = Layout.of(values)
    assert layout.dtype == "float32"
    identical(layout.to_user(layout.to_network(values)), values.astype("=f4"))
    assert data.Samples(values).values.dtype.isnative


@pytest.mark.parametrize("make", SYNTHETIC, ids=lambda make: make.__name__)
def test_a_generator_decides_a_set_and_the_global_state_stays(make):
    before = torch.get_rng_state()
    first, again, other = (make(50, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values)
    assert first.values.dtype == np.float64
    assert first.truth


def test_noise_moves_the_samples_and_not_their_truth():
    clean, noisy = (data.swiss_roll(2000, noise=n, generator=torch.Generator().manual_seed(0)) for n in (0.0, 0.5))
    assert np.array_equal(clean.truth["coordinates"], noisy.truth["coordinates"])
    assert (noisy.values - clean.values).std() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("limit", [2, 7, 99, 100, 1000])
def test_a_limit_leaves_out_evenly_and_keeps_the_order(limit):
    values, labels = np.arange(200.0).reshape(100, 2), np.arange(100)
    samples = data.load(values, labels, limit=limit)
    assert len(samples) == min(limit, 100)
    assert np.array_equal(samples.values, values[samples.labels])
    assert np.ptp(np.diff(samples.labels)) <= 1
    assert np.array_equal(
        data.load(torch.utils.data.TensorDataset(torch.from_numpy(values)), limit=limit).values, samples.values
    )
