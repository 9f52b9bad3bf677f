"""Nets whose radii are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from brenier.manifold.graph import neighbour_graph
from brenier.manifold.nets import epsilon_net

CIRCLE = np.stack([np.cos(np.arange(64) * math.pi / 32), np.sin(np.arange(64) * math.pi / 32)], 1)


def chord(steps):
    return 2 * math.sin(steps * math.pi / 64)


@pytest.mark.parametrize(("size", "covering", "apart"), [(2, 16, 32), (4, 8, 16), (8, 4, 8), (64, 0, 1)])
def test_farthest_points_halve_a_circle(size, covering, apart):
    net = epsilon_net(CIRCLE, size=size)
    assert net.covering_radius == pytest.approx(chord(covering), abs=1e-12)
    assert 2 * net.packing_radius == pytest.approx(chord(apart), abs=1e-12)


def test_distances_run_along_a_graph():
    graph = neighbour_graph(CIRCLE, 2)
    net = epsilon_net(CIRCLE, size=4, graph=graph)
    assert net.covering_radius == pytest.approx(8 * chord(1), rel=1e-12)
    assert net.packing_radius == pytest.approx(8 * chord(1), rel=1e-12)
    greedy = epsilon_net(CIRCLE, 5.5 * chord(1), graph=graph)
    assert greedy.covering_radius <= 5 * chord(1) * (1 + 1e-12)
    assert 2 * greedy.packing_radius >= 6 * chord(1) * (1 - 1e-12)
    assert 64 / 11 <= len(greedy.indices) <= 64 / 6


def test_a_net_of_one_point_and_of_copies():
    net = epsilon_net(np.array([[3.0, 4.0]]))
    assert (net.indices.tolist(), net.covering_radius, net.packing_radius) == ([0], 0, math.inf)
    copies = epsilon_net(np.repeat(CIRCLE, 3, 0))
    assert len(copies.indices) == 64
    assert copies.covering_radius == 0
    assert copies.packing_radius == pytest.approx(chord(1) / 2)


def test_the_conditions_stand_at_their_published_limits():
    net = epsilon_net(np.arange(11.0)[:, None], epsilon=1.0)
    assert net.covering_radius == 1
    limit = 2 / math.sqrt(3 / 5)
    homology, triangulation = net.conditions(limit * 1.001)
    assert homology.holds
    assert not triangulation.holds
    assert not net.conditions(limit)[0].holds
    assert not net.conditions(limit * 1.001, gap=0.01)[0].holds
    assert net.conditions(1 / 0.06 + 1e-9)[1].holds
    local = np.where(net.distance > 0, 17.0, 1e-6)  # a net point may sit where the feature size is tiny
    assert net.conditions(local)[1].holds


def test_a_net_asks_for_both_of_its_bounds():
    net = epsilon_net(CIRCLE, size=8)
    assert net.is_net(chord(5))
    assert not net.is_net(chord(3))
    assert not net.is_net(chord(9))


def test_tensors_give_tensors():
    net = epsilon_net(torch.from_numpy(CIRCLE).float(), size=4)
    assert net.indices.dtype == torch.int64
    assert net.distance.dtype == torch.float32
    assert net.distance.max().item() == pytest.approx(net.covering_radius, rel=1e-6)
