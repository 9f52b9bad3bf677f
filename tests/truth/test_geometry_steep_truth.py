"""Geodesics where a metric varies over many orders along the path: right, or refused pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier import geometry
from brenier.geometry import spaces
from brenier.solution import Status

D = torch.float64


def half_plane(x):
    return torch.eye(2, dtype=x.dtype) / x[1] ** 2


def pairs(wide, high, count=120, seed=0):
    """Pairs (m, 2), m spread over `wide` and log y over `high`."""
    generator = torch.Generator().manual_seed(seed)
    u, v = torch.randn(2, 2, count, generator=generator, dtype=D)
    return [torch.stack([wide * a, torch.exp(high * b)], 1) for a, b in zip(u, v, strict=True)]


def test_a_wide_pair_near_the_border_of_the_half_plane():
    x, y = torch.tensor([[0.0, 0.001], [1000.0, 0.001]], dtype=D)
    found = geometry.geodesic(half_plane, x, y)
    true = spaces.HalfSpace().distance(x, y)
    assert found.status is Status.GEODESIC
    assert float(found.length) == pytest.approx(float(true), rel=1e-7)
    assert found.residual <= 0.01
    assert geometry.distance(half_plane, x, y) == pytest.approx(float(true), rel=1e-7)


@pytest.mark.parametrize(("wide", "high", "count"), [(1, 1, 120), (10, 2, 120), (100, 3, 40)])
def test_random_pairs_of_the_half_plane_are_right_or_refused(wide, high, count):
    x, y = pairs(wide, high, count)
    found = geometry.geodesic(half_plane, x, y, n=2)
    true = spaces.HalfSpace().distance(x, y)
    assert found.found.sum() >= count - 2
    torch.testing.assert_close(found.length[found.found], true[found.found], rtol=1e-6, atol=0)
    assert (found.residual[found.found] <= 0.01).all()
    assert found.length[~found.found].isnan().all()


@pytest.mark.parametrize(("rate", "least"), [(3.0, 12), (7.0, 9), (14.0, 4)])
def test_metrics_that_vary_by_an_exponential(rate, least):
    """e^(2 r x) I is the flat plane in polar coordinates (e^(r x), r y) / r: straight lines, below an angle of π."""

    def metric(x):
        return torch.eye(2, dtype=x.dtype) * torch.exp(2 * rate * x[0])

    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 12, 2, generator=generator, dtype=D) * torch.tensor([1.0, 2.5 / rate], dtype=D)
    radius = [torch.exp(rate * p[:, 0]) / rate for p in (x, y)]
    flat = [
        torch.stack([r * (rate * p[:, 1]).cos(), r * (rate * p[:, 1]).sin()], 1)
        for r, p in zip(radius, (x, y), strict=True)
    ]
    found = geometry.geodesic(metric, x, y, n=2)
    true = (flat[0] - flat[1]).norm(dim=1)
    assert found.found.sum() >= least
    torch.testing.assert_close(found.length[found.found], true[found.found], rtol=1e-6, atol=0)


def hill(x):
    """A steep hill at the origin."""
    return torch.eye(2, dtype=x.dtype) * (1 + 30 * torch.exp(-4 * x @ x))


def test_the_way_around_a_hill_is_found():
    """The straight line over its top is stationary by symmetry, and longer."""
    x, y = torch.tensor([[-1.5, 0.0], [1.5, 0.0]], dtype=D)
    found = geometry.geodesic(hill, x, y, n=33)
    t = torch.linspace(0, 1, 2001, dtype=D)[:, None]
    over = x + t * (y - x)
    g = torch.func.vmap(hill)((over[1:] + over[:-1]) / 2)[:, 0, 0]
    straight = float((g.sqrt() * (over[1:] - over[:-1]).norm(dim=1)).sum())
    assert found.length < 0.9 * straight
    assert found.path[16, 1].abs() > 0.3


def test_one_lost_pair_does_not_lose_the_others():
    def ring(x):
        return torch.eye(2, dtype=x.dtype) * torch.where((x @ x > 0.25) & (x @ x < 4), 1.0, torch.nan)

    x = torch.tensor([[-1.9, 0.0], [-1.0, 1.0], [1.0, 1.0]], dtype=D)
    y = torch.tensor([[1.9, 0.0], [1.0, 1.0], [1.0, -1.0]], dtype=D)
    found = geometry.geodesic(ring, x, y, n=5)
    assert found.found.tolist() == [False, True, True]
    assert found.ends == (Status.OUTSIDE, Status.GEODESIC, Status.GEODESIC)
    assert found.status is Status.OUTSIDE
    assert not found.converged
    assert found.length[1:].tolist() == pytest.approx([2.0, 2.0])
    assert found.length[0].isnan()
    assert found.path[0].isnan().all()
    with pytest.raises(ArithmeticError, match=r"no geodesic from \(-1\.9, 0\) to \(1\.9, 0\).*1 of 3 pairs are lost"):
        geometry.distance(ring, x, y)
    with pytest.raises(ArithmeticError, match=r"no geodesic from \(-1\.9, 0\)"):
        geometry.geodesic(ring, x[:1], y[:1])
    again = geometry.geodesic(ring, x.numpy(), y.numpy(), n=5)
    assert isinstance(again.found, np.ndarray)
    assert again.found.tolist() == [False, True, True]


def test_leading_axes_of_what_was_found():
    x, y = (p[:6].view(2, 3, 2) for p in pairs(1, 0.5))
    found = geometry.geodesic(half_plane, x, y, n=4)
    assert found.path.shape == (2, 3, 4, 2)
    assert found.found.shape == found.length.shape == (2, 3)
    assert len(found.ends) == 6
