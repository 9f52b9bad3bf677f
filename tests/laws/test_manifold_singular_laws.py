"""What must not change which points are singular, and the promise of the rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier.manifold.singular_points import singular_points


def cross(n=600):
    u = np.random.default_rng(0).uniform(-1, 1, (2, n))
    return np.concatenate([np.stack([u[0], 0 * u[0]], 1), np.stack([0 * u[1], u[1]], 1)])


def test_scale_place_rotation_order_and_copies_change_nothing():
    x = cross()
    first = singular_points(x)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((5, 2)))[0]
    order = np.random.default_rng(2).permutation(len(x))
    second = singular_points(1e3 * x[order] @ turn.T + 50)
    assert (first.mask[order] == second.mask).mean() > 0.999
    twice = singular_points(np.concatenate([x, x[:100]]))
    assert np.array_equal(twice.mask, np.concatenate([first.mask, first.mask[:100]]))


@pytest.mark.parametrize("rate", [0.3, 0.1, 0.02])
def test_flat_tori_are_marked_at_the_rate_or_below(rate):
    turn = 2 * np.pi * np.random.default_rng(3).random((4000, 2))
    found = singular_points(np.concatenate([np.cos(turn), np.sin(turn)], 1), rate=rate)
    assert found.mask.mean() <= rate + 3 * np.sqrt(rate * 40 / 4000)  # about 4000 / 40 neighbourhoods are independent
    assert found.mask.mean() > rate / 10


def test_a_higher_rate_marks_more():
    x = cross()
    few, many = singular_points(x, rate=0.005), singular_points(x, rate=0.1)
    assert few.mask.sum() < many.mask.sum()
    assert not (few.mask & ~many.mask).any()


def test_a_sharper_bend_is_still_smooth_where_it_is_allowed():
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], 1)
    assert singular_points(ring, k=20, dims=(1,), bend=0.3, rate=0.05).mask.all()
    assert not singular_points(ring, k=10, dims=(1,), bend=1.0).mask.any()


def test_tensors_give_tensors():
    found = singular_points(torch.from_numpy(cross()).float())
    assert found.mask.dtype == torch.bool
    assert found.p.dtype == torch.float32
    assert found.dimension.dtype == torch.int64
    assert str(found).endswith("at most 12 by chance")
