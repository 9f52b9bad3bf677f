"""Neighbour graphs: invariances, copies, components, approximation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.spatial.distance import pdist, squareform

from brenier.manifold.graph import as_graph, graph_geodesics, neighbour_graph


@pytest.mark.parametrize("dim", [3, 20])
def test_a_motion_and_a_scale_change_lengths_alone(dim, generator):
    x = torch.randn(150, dim, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    first, moved = neighbour_graph(x, 5), neighbour_graph(3 * x @ turn + 7, 5)
    assert np.array_equal(first.indices, moved.indices)
    assert np.allclose(3 * first.data, moved.data, rtol=1e-9)


def test_an_order_is_carried_along(generator):
    x = torch.randn(100, 8, generator=generator)
    order = torch.randperm(100, generator=generator).numpy()
    assert (abs(neighbour_graph(x[order], 5) - neighbour_graph(x, 5)[order][:, order])).max() < 1e-5


@pytest.mark.parametrize("dim", [2, 12])
def test_graph_is_symmetric_with_at_least_k_neighbours(dim, generator):
    made = as_graph(neighbour_graph(torch.randn(300, dim, generator=generator), 7))
    assert np.diff(made.indptr).min() >= 7
    assert made.nnz <= 2 * 7 * 300


def test_arrays_and_tensors_and_images_agree(generator):
    x = torch.rand(60, 3, 4, generator=generator)
    graphs = [neighbour_graph(given, 4) for given in (x, x.numpy(), x.flatten(1))]
    assert all(abs(graphs[0] - other).max() == 0 for other in graphs)


@pytest.mark.parametrize("dim", [2, 12])
def test_copies_are_joined_and_change_no_distance(dim, generator):
    x = torch.rand(80, dim, generator=generator, dtype=torch.float64)
    first = graph_geodesics(x, np.arange(80), 5)
    again = graph_geodesics(torch.cat([x, x, x[:40].repeat(9, 1)]), np.arange(80), 5)
    assert np.allclose(again.distances[:, :160], np.tile(first.distances, 2))
    assert again.distances[7, 87] == 0


def test_distances_obey_the_triangle_and_exceed_the_straight_line(generator):
    x = torch.rand(70, 4, generator=generator, dtype=torch.float64)
    g = graph_geodesics(x, np.arange(70), 9, connected=True).distances
    assert np.allclose(g, g.T)
    assert (g[:, :, None] + g[None] >= g[:, None] - 1e-12).all()
    assert (g >= squareform(pdist(x)) - 1e-12).all()


def test_a_graph_may_be_given(generator):
    x = torch.rand(60, 4, generator=generator)
    a, b = graph_geodesics(x, 5, 6, seed=2), graph_geodesics(neighbour_graph(x, 6), 5, seed=2)
    assert all(map(np.array_equal, a, b))


def test_more_landmarks_are_first_the_same(generator):
    x = torch.rand(60, 4, generator=generator)
    few, many = (graph_geodesics(x, count, seed=1).landmarks for count in (4, 9))
    assert np.array_equal(few, many[:4])


def test_an_edge_of_length_zero_is_one():
    graph = csr_array((np.zeros(2), ([0, 1], [1, 0])), shape=(2, 2))
    assert graph_geodesics(graph, [0]).distances.tolist() == [[0.0, 0.0]]


def test_approximate_graph_recalls_the_exact_one(generator):
    pytest.importorskip("pynndescent")
    x = torch.randn(2000, 3, generator=generator) @ torch.randn(3, 40, generator=generator)
    exact, near = neighbour_graph(x, 8, "exact"), neighbour_graph(x, 8, "approximate")
    assert exact.multiply(near).nnz > 0.98 * exact.nnz
    assert abs(near - neighbour_graph(x, 8, "approximate")).max() == 0
