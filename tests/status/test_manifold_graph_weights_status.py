"""Weights of graphs: lengths where paths are measured; where hops are counted, the answer says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from brenier.manifold import epsilon_net, geodesic_distances, graph_curvature, neighbour_graph

PATH = np.array([[0.0, 2.0, 0.0], [2.0, 0.0, 5.0], [0.0, 5.0, 0.0]])


@pytest.mark.parametrize("kind", ["ollivier", "forman", "augmented_forman"])
@pytest.mark.parametrize("form", [csr_array, np.asarray, torch.from_numpy], ids=["sparse", "array", "tensor"])
def test_a_curvature_of_hops_says_that_it_does_not_read_weights(kind, form):
    found = graph_curvature(form(PATH), kind)
    assert found.lengths == "hops, the graph's weights are not read"
    assert "weights are not read" in repr(found)
    plain = graph_curvature(form((PATH > 0) * 1.0), kind)
    assert plain.lengths == "hops"
    np.testing.assert_array_equal(found.values, plain.values)


def test_networks_and_neighbour_graphs():
    networkx = pytest.importorskip("networkx")
    assert graph_curvature(networkx.cycle_graph(5)).lengths == "hops"
    assert "not read" in graph_curvature(networkx.from_numpy_array(PATH)).lengths
    x = np.random.default_rng(0).normal(size=(40, 3))
    assert "not read" in graph_curvature(neighbour_graph(x, 5)).lengths


def test_paths_and_nets_read_weights_as_lengths():
    graph = csr_array(PATH)
    np.testing.assert_array_equal(geodesic_distances(graph, [0]), [[0.0, 2.0, 7.0]])
    x = np.arange(3.0)[:, None]
    net = epsilon_net(x, 3.0, graph=graph)
    assert net.covering_radius == 2.0
    assert epsilon_net(x, 8.0, graph=graph).covering_radius > 2.0
