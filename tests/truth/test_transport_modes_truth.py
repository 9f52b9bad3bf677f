"""The merge tree of densities worked out by hand, and the noise of their estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from brenier.transport import ModeTree, mode_tree
from brenier.transport.modes import _merged
from brenier.transport.neighbours import neighbours
from brenier.transport.prominence import coarse_dimension, needed, noise, seen_dimension


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def alone(y):
    """The tree of one part of equal weights."""
    n = len(y)
    return mode_tree(y, torch.full((n,), 1 / n), torch.zeros(n, dtype=torch.long), torch.zeros(0, 2, dtype=torch.long))


def test_the_merge_tree_of_five_points_on_a_line():
    """Heights 3 1 5 2 4: peaks 0, 2, 4; 4 ends at 2 in the basin of 2, 0 ends at 1 there, too."""
    heights = np.array([3.0, 1.0, 5.0, 2.0, 4.0])
    edges = np.array([[0, 1], [1, 2], [2, 3], [3, 4]])
    levels = heights[edges].min(1)
    order = np.lexsort((-heights[edges].max(1), -levels))
    saddle, parent, joins = _merged(heights, edges, levels, order)
    peaks = np.flatnonzero(saddle < heights)
    assert peaks.tolist() == [0, 2, 4]
    assert saddle[peaks].tolist() == [1.0, -math.inf, 2.0]
    assert parent[[0, 4]].tolist() == [2, 2]
    assert joins[1] == 2  # of two neighbours the higher
    assert joins[3] == 2


def hand_made():
    """Four basins of one target each and a part of its own: births 9, 7, 8, 5, 4; passes 3 (1 to 0), 6 (2 to 1)…"""
    long, wide = (lambda *x: torch.tensor(x)), (lambda *x: torch.tensor(x, dtype=torch.float64))
    birth, saddle = wide(9, 7, 8, 5, 4), wide(-math.inf, 6, 3, 4.5, -math.inf)
    return ModeTree(
        basin=torch.arange(5),
        peak=torch.arange(5),
        birth=birth,
        saddle=saddle,
        parent=long(0, 2, 0, 2, 4),
        joins=long(0, 2, 0, 1, 4),
        prominence=(birth - saddle) / 0.5,
        needed=torch.full((5,), 3.0, dtype=torch.float64),
        mass=wide(0.3, 0.25, 0.2, 0.15, 0.1),
    )


def test_cuts_of_a_tree_by_hand():
    """Prominences inf, 2, 10, 1, inf: one joins what lies just behind its pass, then what that joins."""
    tree = hand_made()
    assert tree.modes(0).tolist() == [0, 1, 2, 3, 4]
    assert tree.modes(1.5).tolist() == [1, 0, 2, 0, 3]  # 3 joins 1: .4 is the heaviest
    assert tree.modes().tolist() == tree.modes(3).tolist() == [1, 0, 0, 0, 2]
    assert tree.modes(10).tolist() == [1, 0, 0, 0, 2]
    assert tree.modes(11).tolist() == tree.modes(math.inf).tolist() == [0, 0, 0, 0, 1]
    assert tree.kept(3).tolist() == [2, 0, 4]


def test_valleys_by_hand():
    """From 1 to 2 down to 6 from 7; from 1 to 0 down to 3 from 7, and from 8 where 1 is no mode; none across a gap."""
    tree, zero = hand_made(), torch.zeros(5, dtype=torch.long)
    assert tree.depth(zero, torch.arange(5), 0).tolist() == [0, 8, 10, 4, math.inf]
    assert tree.depth(torch.tensor([1, 1, 3]), torch.tensor([2, 3, 2]), 0).tolist() == [2, 1, 1]
    assert tree.depth(zero, torch.arange(5)).tolist() == [0, 10, 10, 10, math.inf]
    assert tree.depth(torch.tensor([1, 3]), torch.tensor([2, 1])).tolist() == [0, 0]


@pytest.mark.parametrize(("d", "n"), [(1, 20_000), (2, 20_000), (5, 20_000)])
def test_the_noise_is_that_of_poisson_points(d, n):
    """−(d/2) log of the mean squared distance to the 10 nearest, at places far from the border of a cube."""
    y = torch.rand(n, d, dtype=torch.float64, generator=seeded(d))
    x = 0.2 + 0.6 * torch.rand(2_000, d, dtype=torch.float64, generator=seeded(9)) if d > 1 else y[::10] * 0.98 + 0.01
    near = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").topk(10, largest=False).values
    measured = (d / 2 * near.square().mean(1).log()).std().item()
    assert measured == pytest.approx(noise(d, 10), rel=0.12)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_distances_show_the_dimension(d):
    y = torch.rand(6_000, d, dtype=torch.float64, generator=seeded(d))
    near = torch.cdist(y[:1000], y, compute_mode="donot_use_mm_for_euclid_dist").topk(11, largest=False).values[:, 1:]
    assert seen_dimension(near) == pytest.approx(d, rel=0.12)  # of 10 distances, 9 ratios: 10 % too large, less borders


def test_a_circle_is_a_curve_along_its_edges_and_a_square_of_points_is_none():
    n = 600
    ring = np.stack([np.arange(n), (np.arange(n) + 1) % n], 1)
    assert coarse_dimension(ring, np.ones(n), np.arange(0, n, 50)) == pytest.approx(1, abs=0.05)
    side = np.arange(900).reshape(30, 30)
    grid = np.concatenate(
        [np.stack([side[:, 1:].ravel(), side[:, :-1].ravel()], 1), np.stack([side[1:].ravel(), side[:-1].ravel()], 1)]
    )
    assert 1.7 < coarse_dimension(grid, np.ones(len(grid)), np.arange(0, 900, 50)) < 2.2


def test_more_is_asked_of_more_targets_and_of_curves():
    asked = [needed(n, 10, 5, 5) for n in (100, 1000, 10_000)]
    assert asked == sorted(asked)
    assert needed(1000, 10, 1, 1) > needed(1000, 10, 2, 2) > needed(1000, 10, 5, 5)
    assert needed(1000, 10, 1.2, 8) > needed(1000, 10, 1.2, 1.2)


def test_a_density_on_a_line_has_its_peaks_and_its_pass():
    """Quantiles of two normals at ±3: log f falls by 4.5 − log 2 between. Heights are in units of the dimension seen,
    which is more than 1 here, where points are more even than random ones."""
    x = np.linspace(-7, 7, 200_001)
    cdf = (ndtr(x + 3) + ndtr(x - 3)) / 2
    y = torch.from_numpy(np.interp((np.arange(8000) + 0.5) / 8000, cdf, x))[:, None]
    tree = alone(y)
    two = tree.kept()
    assert sorted(y[tree.peak[two], 0].tolist()) == pytest.approx([-3, 3], abs=0.05)
    drop = (tree.birth[two].min() - tree.saddle[two].max()) / seen_dimension(neighbours(y, 10)[1])
    assert drop.item() == pytest.approx(4.5 - math.log(2), abs=0.15)
    agree = (tree.modes() == (y[:, 0] > 0)).double().mean().item()
    assert max(agree, 1 - agree) >= 0.999
