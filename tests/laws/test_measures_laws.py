"""Measures keep what they are given, and the same generator gives the same samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier.measures import Discrete, Gaussian, UniformBall, UniformCube

SOURCES = [Gaussian(4), UniformCube(4, -1.0, 2.0), UniformBall(4, 2.0)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)
def test_the_generator_alone_decides(source):
    first = source.sample(50, seeded())
    before = torch.random.get_rng_state()
    assert torch.equal(source.sample(50, seeded()), first)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(source.sample(50, seeded(1)), first)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)
def test_without_a_generator_torch_own_decides(source):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = source.sample(5)
        torch.manual_seed(3)
        assert torch.equal(source.sample(5), first)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)
def test_sources_are_frozen_values(source):
    with pytest.raises(AttributeError):
        source.dim = 2
    assert source == type(source)(**vars(source))
    assert hash(source) == hash(type(source)(**vars(source)))


def test_cubes_of_the_same_seed_are_affine_images():
    unit = UniformCube(3).sample(20, seeded())
    assert torch.allclose(UniformCube(3, -2.0, 6.0).sample(20, seeded()), -2 + 8 * unit)


def test_balls_of_the_same_seed_are_scaled_images():
    unit = UniformBall(3).sample(20, seeded())
    assert torch.allclose(UniformBall(3, 5.0).sample(20, seeded()), 5 * unit)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int64, torch.float32),
        (torch.bool, torch.float32),
    ],
)
@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_a_target_keeps_values_order_and_dtype(given, kept, library):
    points = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 0]]).to(given)
    if library == "numpy" and given is not torch.bfloat16:  # which numpy does not know
        points = points.numpy()
    nu = Discrete(points, [0.5, 0.0, 0.25, 0.25])
    assert nu.points.dtype == kept
    assert nu.points.tolist() == [[1, 0], [0, 1], [1, 0], [0, 0]]
    assert nu.weights.tolist() == [0.5, 0, 0.25, 0.25]


def test_a_target_owns_its_numpy_values():
    points = np.zeros((2, 2))
    nu = Discrete(points)
    points[:] = 7
    assert nu.points.sum() == 0


def test_a_target_owes_nothing_to_a_gradient():
    points = torch.zeros(3, 2, requires_grad=True)
    assert not Discrete(points * 2).points.requires_grad


def test_weights_may_miss_one_by_round_off_only():
    weights = torch.full((10,), 0.1)
    assert Discrete(torch.zeros(10, 1), weights).n == 10
    assert Discrete(torch.zeros(10, 1), weights * (1 + 5e-5)).n == 10
    with pytest.raises(ValueError, match="sum to 1"):
        Discrete(torch.zeros(10, 1), weights * (1 + 5e-4))
