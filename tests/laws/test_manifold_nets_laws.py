"""What every net obeys."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from brenier.manifold.graph import neighbour_graph
from brenier.manifold.nets import epsilon_net


def cloud(n=3000, d=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("along", [False, True])
def test_by_epsilon_disks_are_hit_and_points_stay_apart(seed, along):
    x = cloud(1500, 2, seed)
    net = epsilon_net(x, 0.4, graph=neighbour_graph(x, 20) if along else None, seed=seed)
    assert net.covering_radius <= 0.4 < 2 * net.packing_radius
    assert net.is_net(0.4)


@pytest.mark.parametrize("seed", range(3))
def test_by_size_the_covering_is_at_most_the_distance_inside(seed):
    net = epsilon_net(cloud(), size=50, seed=seed)
    assert len(set(net.indices.tolist())) == 50
    assert net.covering_radius <= 2 * net.packing_radius


def test_owners_and_radii_are_those_of_all_pairs():
    x = cloud(1200, 5)
    for net in (epsilon_net(x, 1.5), epsilon_net(x, size=40)):
        distance = cdist(x, x[net.indices])
        np.testing.assert_allclose(net.distance, distance.min(1), atol=1e-12)
        np.testing.assert_allclose(distance[np.arange(len(x)), net.owner], distance.min(1), atol=1e-12)
        inside = cdist(x[net.indices], x[net.indices]) + np.diag(np.full(len(net.indices), np.inf))
        assert 2 * net.packing_radius == pytest.approx(inside.min(), rel=1e-12)


def test_nets_scale_and_move_with_the_data():
    x = cloud(500)
    first, second = epsilon_net(x, size=20), epsilon_net(1e3 * x + 1e5, size=20)
    assert first.indices.tolist() == second.indices.tolist()
    assert second.covering_radius == pytest.approx(1e3 * first.covering_radius, rel=1e-9)


def test_the_covering_of_a_square_falls_as_the_root_of_the_size():
    x = np.random.default_rng(0).random((20_000, 2))
    radii = [epsilon_net(x, size=m).covering_radius for m in (50, 200, 800)]
    order = np.polyfit(np.log([50, 200, 800]), np.log(radii), 1)[0]
    assert order == pytest.approx(-0.5, abs=0.05)


def test_the_seed_alone_decides():
    x = cloud(400)
    assert epsilon_net(x, size=9, seed=1).indices.tolist() == epsilon_net(x, size=9, seed=1).indices.tolist()
    assert epsilon_net(x, size=9, seed=1).indices[0] != epsilon_net(x, size=9, seed=2).indices[0]
