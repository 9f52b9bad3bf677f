"""Data with singular points at known places, and data without any."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier import data
from brenier.manifold.sampled import neighbours
from brenier.manifold.singular_points import singular_points


def uniform(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def two_lines():
    u = uniform(2, 800)
    x = np.concatenate([np.stack([u[0], 0 * u[0]], 1), np.stack([0 * u[1], u[1]], 1)])
    return x, np.linalg.norm(x, axis=1), (1,)


def a_line_through_a_plane():
    flat, line = uniform(3000, 3) * [1, 1, 0], uniform(300, 3, seed=1) * [0, 0, 1]
    x = np.concatenate([flat, line])
    return x, np.linalg.norm(x, axis=1), (1, 2)


def two_planes():
    x = np.concatenate([uniform(2000, 3) * [1, 1, 0], uniform(2000, 3, seed=1) * [1, 0, 1]])
    return x, np.hypot(x[:, 1], x[:, 2]), (2,)


def a_cone():
    r, turn = np.sqrt(uniform(4000) / 2 + 0.5), np.pi * uniform(4000, seed=1)
    x = np.stack([r * np.cos(turn), r * np.sin(turn), r], 1)
    return x, np.linalg.norm(x, axis=1), (2,)


@pytest.mark.parametrize("make", [two_lines, a_line_through_a_plane, two_planes, a_cone])
def test_singular_points_are_found_and_others_mostly_not(make):
    x, away, dims = make()
    found = singular_points(x, dims=dims)
    radius = neighbours(x, 40)[0][:, -1]
    # an edge of the sample is no singular point, but its balls grow more slowly too
    inner = (np.abs(x).max(1) < 0.85) & (away > 1.05 * radius)
    assert found.mask[away < 0.3 * radius].mean() > 0.9
    assert found.mask[inner].mean() < 0.015
    assert set(found.dimension[inner & ~found.mask]) == set(dims)


@pytest.mark.parametrize(
    ("samples", "dim", "k"),
    [
        (data.sphere(4000, generator=torch.Generator().manual_seed(0)).values, 2, 40),
        (data.torus(4000, generator=torch.Generator().manual_seed(0)).values, 2, 40),
        (data.spiral(4000, noise=0.0, generator=torch.Generator().manual_seed(0)).values, 1, 20),
    ],
    ids=["sphere", "torus", "spiral"],
)
def test_smooth_data_are_marked_at_the_stated_rate(samples, dim, k):
    found = singular_points(samples, k)
    assert found.expected == pytest.approx(0.01 * len(samples))
    assert found.mask.sum() <= found.expected + 3 * np.sqrt(found.expected)
    assert (found.dimension == dim).mean() > 0.98


def test_a_swiss_roll_has_singular_points_at_its_edges_at_most():
    roll = data.swiss_roll(6000, generator=torch.Generator().manual_seed(0))
    s, h = roll.truth["coordinates"].T
    inner = (np.minimum(s - s.min(), s.max() - s) > 2) & (np.minimum(h, 21 - h) > 2)
    found = singular_points(roll.values)
    assert found.mask[inner].mean() <= 0.01
    assert found.mask.mean() < 0.03


@pytest.mark.parametrize("dim", [1, 3, 6])
def test_spheres_of_any_dimension_have_their_own(dim):
    rng = np.random.default_rng(dim)
    x = rng.standard_normal((4000, dim + 1))
    x = x / np.linalg.norm(x, axis=1, keepdims=True) @ np.linalg.qr(rng.standard_normal((20, dim + 1)))[0].T
    found = singular_points(x, k=20 if dim < 6 else 40, bend=0.5 if dim < 6 else 1.0)
    assert found.mask.mean() <= 0.013
    assert abs(np.median(found.dimension) - dim) <= (dim > 3)
