"""Modes know no unit, place, turn or order; one cloud is one mode, and two are two once the data can tell."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import pytest
import torch

from brenier.transport import ModeTree, mode_tree


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def alone(y, weights=None):
    n = len(y)
    nu = torch.full((n,), 1 / n, dtype=torch.float64) if weights is None else weights
    return mode_tree(y, nu, torch.zeros(n, dtype=torch.long), torch.zeros(0, 2, dtype=torch.long))


@functools.cache
def three(n=900, d=3):
    """Three blobs that touch."""
    centres = 4.5 * torch.eye(3, d, dtype=torch.float64)
    return torch.randn(n, d, dtype=torch.float64, generator=seeded(1)) + centres.repeat(n // 3, 1)


@functools.cache
def tree():
    return alone(three())


def same(a, b):
    """Trees with the same basins, peaks, passes and prominences; heights may differ by a constant."""
    for name in ("basin", "peak", "parent", "joins"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert torch.allclose(a.prominence, b.prominence)
    assert torch.allclose(a.needed, b.needed)
    assert torch.allclose(a.birth - a.birth[0], b.birth - b.birth[0])


def test_three_blobs_that_touch_are_three_modes_of_one_part():
    found = tree().modes()
    labels = torch.arange(900) % 3
    assert found.max() == 2
    assert sum((labels[found == mode].bincount().max()) for mode in range(3)) >= 0.97 * 900
    assert tree().modes(math.inf).max() == 0


@pytest.mark.parametrize(("scale", "shift"), [(2.0**-10, 0.0), (1e4, -3e5)])
def test_units_and_place_change_nothing(scale, shift):
    same(tree(), alone(scale * three() + shift))


def test_a_turn_changes_nothing():
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=seeded(7))).Q
    same(tree(), alone(three() @ turn.T))


def test_order_changes_nothing():
    order = torch.randperm(900, generator=seeded(3))
    moved = alone(three()[order])
    for level in (2, None):
        assert torch.equal(moved.modes(level), tree().modes(level)[order])
    assert torch.allclose(moved.prominence.sort().values, tree().prominence.sort().values)
    assert torch.allclose(moved.birth.sort().values, tree().birth.sort().values)


def test_weights_scale_heights_alone():
    a, b = tree(), alone(three(), torch.full((900,), 7.0, dtype=torch.float64))
    same(a, b)
    assert torch.allclose(b.birth - a.birth, torch.full_like(a.birth, math.log(7 * 900)))


def test_weights_make_modes():
    """A cloud has one mode; with its left and its right four times as heavy as the middle it has two."""
    y = torch.rand(2000, 2, dtype=torch.float64, generator=seeded(5))
    assert alone(y).modes().max() == 0
    weights = torch.where((y[:, 0] - 0.5).abs() < 0.15, 0.02, 1.0).double()
    assert alone(y, weights / weights.sum()).modes().max() == 1


def test_finer_levels_refine_coarser_ones():
    levels = [0.0, 1.0, 2.0, 4.0, math.inf]
    cuts = [tree().modes(level) for level in levels]
    for fine, coarse in itertools.pairwise(cuts):
        pairs = set(zip(fine.tolist(), coarse.tolist(), strict=True))
        assert len(pairs) == fine.max() + 1


def test_modes_are_numbered_by_mass():
    for level in (0.0, 2.0, None):
        found = tree().modes(level).bincount()
        assert (found[:-1] >= found[1:]).all()


def test_parts_are_never_joined():
    y = torch.cat([three(), three() + 100])
    part = torch.arange(2).repeat_interleave(900)
    both = mode_tree(y, torch.full((1800,), 1 / 1800, dtype=torch.float64), part, torch.zeros(0, 2, dtype=torch.long))
    assert torch.equal(both.modes(math.inf).unique(return_counts=True)[1], torch.tensor([900, 900]))
    assert both.modes().max() == 5
    twice = tree().prominence.repeat(2).sort().values
    assert torch.allclose(both.prominence.sort().values, twice, atol=1e-6)
    assert both.depth(torch.tensor([0]), torch.tensor([900])).item() == math.inf


def test_every_field_is_finite_where_it_should_be():
    found = tree()
    assert all(isinstance(getattr(found, field.name), torch.Tensor) for field in dataclasses.fields(ModeTree))
    last = found.saddle == -math.inf
    assert last.sum() == 1
    assert (found.prominence[~last] > 0).all()
    assert (found.prominence[last] == math.inf).all()
    assert found.mass.sum().item() == pytest.approx(1)


def ring(n, d, width, seed):
    """A circle of radius 1 in d dimensions with noise of this root mean square norm."""
    angle = 2 * math.pi * torch.rand(n, dtype=torch.float64, generator=seeded(seed))
    y = width / math.sqrt(d) * torch.randn(n, d, dtype=torch.float64, generator=seeded(seed + 10_000))
    y[:, 0] += angle.cos()
    y[:, 1] += angle.sin()
    return y


def gauss(n, d, seed):
    return torch.randn(n, d, dtype=torch.float64, generator=seeded(seed))


def cube(n, d, seed):
    return torch.rand(n, d, dtype=torch.float64, generator=seeded(seed))


NULLS = {
    "a Gaussian": lambda n, d, seed: gauss(n, d, seed),
    "a cube": lambda n, d, seed: cube(n, d, seed),
    "a thin ring": lambda n, d, seed: ring(n, max(d, 2), 0.03, seed),
    "a ring": lambda n, d, seed: ring(n, max(d, 2), 0.2, seed),
}


@pytest.mark.parametrize("name", list(NULLS))
@pytest.mark.parametrize(("n", "d"), [(100, 2), (300, 1), (300, 5), (300, 20)])
def test_one_cloud_is_one_mode(name, n, d):
    """Split in at most 5 % of samples: of 40, more than 5 would have a probability of 1.4 % at that rate."""
    assert sum(alone(NULLS[name](n, d, seed)).modes().max() > 0 for seed in range(40)) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NULLS))
@pytest.mark.parametrize(("n", "d"), [(1000, 2), (1000, 10)])
def test_one_larger_cloud_is_one_mode(name, n, d):
    """As above; `benchmarks/modes.py --null` has 200 seeds of more shapes."""
    assert sum(alone(NULLS[name](n, d, seed)).modes().max() > 0 for seed in range(20)) <= 3


@pytest.mark.parametrize(("d", "n"), [(1, 1000), (2, 600), (2, 3000), (10, 1000)])
def test_two_blobs_are_two_modes_as_soon_as_the_data_can_tell(d, n):
    """One at no distance, two at six standard deviations, with the valley at equal distances from both."""
    for gap, modes in ((0.0, 1), (6.0, 2)):
        y = gauss(n, d, 3)
        y[::2, 0] += gap
        found = alone(y).modes()
        assert found.max() + 1 == modes
        if modes == 2:
            right = y[:, 0] > gap / 2
            assert max((found == 0).eq(right).double().mean(), (found == 1).eq(right).double().mean()) >= 0.97


def test_the_prominence_of_two_blobs_grows_with_their_distance():
    seen = []
    for gap in (3.0, 4.0, 5.0, 6.0):
        y = gauss(2000, 2, 4)
        y[::2, 0] += gap
        seen.append(alone(y).prominence.sort().values[-2].item())
    assert seen == sorted(seen)
