"""Ricci curvature of graphs in closed form, and Ollivier's against a linear program."""

from __future__ import annotations

import networkx as nx
import numpy as np
import ot
import pytest
from scipy.sparse.csgraph import shortest_path

from brenier.manifold.graph_curvature import graph_curvature

IDLENESS = [0.0, 0.3, 0.5, 0.9]


def matrix(graph):
    return nx.to_scipy_sparse_array(nx.convert_node_labels_to_integers(graph), weight=None, dtype=float)


def ollivier(graph, idleness):
    return graph_curvature(matrix(graph), idleness=idleness).values


def by_linear_program(graph, idleness):
    adjacency = matrix(graph)
    hops = shortest_path(adjacency, unweighted=True)
    walk = (1 - idleness) * adjacency.toarray() / adjacency.sum(0) + idleness * np.eye(len(graph))
    return np.array([1 - ot.emd2(walk[:, x], walk[:, y], hops) for x, y in graph_curvature(adjacency).edges])


@pytest.mark.parametrize("idleness", IDLENESS)
@pytest.mark.parametrize(
    "graph",
    [
        nx.karate_club_graph(),
        nx.gnp_random_graph(40, 0.2, seed=1),
        nx.barabasi_albert_graph(60, 3, seed=0),
        nx.random_geometric_graph(60, 0.3, seed=2),
        nx.petersen_graph(),
    ],
    ids=["karate", "random", "scale-free", "geometric", "petersen"],
)
def test_ollivier_is_a_linear_program(graph, idleness):
    assert np.abs(ollivier(graph, idleness) - by_linear_program(graph, idleness)).max() < 1e-12


def test_graphs_of_networkx_are_their_matrices():
    karate = nx.karate_club_graph()  # its weights don't count
    assert np.array_equal(graph_curvature(karate).values, ollivier(karate, 0.5))
    with pytest.raises(ValueError, match="symmetric"):
        graph_curvature(nx.path_graph(3, create_using=nx.DiGraph))
    with pytest.raises(ValueError, match=r"graph must be a matrix .* got list of shape \(3,\)"):
        graph_curvature([1, 2, 3])


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_complete_graphs(n):
    graph = nx.complete_graph(n)
    assert np.allclose(ollivier(graph, 0.0), (n - 2) / (n - 1), atol=1e-14)
    assert np.allclose(ollivier(graph, 0.5), n / (2 * (n - 1)), atol=1e-14)


@pytest.mark.parametrize(
    ("n", "zero", "half"), [(3, 1 / 2, 3 / 4), (4, 0, 1 / 2), (5, 0, 1 / 4), (6, 0, 0), (11, 0, 0)]
)
def test_cycles(n, zero, half):
    assert np.allclose(ollivier(nx.cycle_graph(n), 0.0), zero, atol=1e-14)
    assert np.allclose(ollivier(nx.cycle_graph(n), 0.5), half, atol=1e-14)


def test_trees():
    """κ_0 = −2 (1 − 1/deg x − 1/deg y)₊ on a tree (Jost and Liu 2014)."""
    tree = nx.random_labeled_tree(80, seed=0)
    found = graph_curvature(matrix(tree), idleness=0)
    inverse = 1 / np.array([tree.degree(v) for v in range(80)])
    assert np.allclose(found.values, -2 * np.maximum(1 - inverse[found.edges].sum(1), 0), atol=1e-14)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_periodic_grids_are_flat(dim):
    grid = nx.grid_graph([6] * dim, periodic=True)
    assert np.allclose(ollivier(grid, 0.0), 0, atol=1e-14)
    assert np.allclose(ollivier(grid, 0.5), 0, atol=1e-14)


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5])
def test_hypercubes(dim):
    """κ_α / (1 − α) = 2 / dim for every α from 1 / (dim + 1) on (Lin, Lu and Yau 2011)."""
    for idleness in (1 / (dim + 1), 0.5, 0.9):
        assert np.allclose(ollivier(nx.hypercube_graph(dim), idleness), 2 * (1 - idleness) / dim, atol=1e-14)


def test_forman_counts():
    grid, full = matrix(nx.grid_graph([7, 7], periodic=True)), matrix(nx.complete_graph(6))
    assert set(graph_curvature(grid, "forman").values) == {-4.0}
    assert set(graph_curvature(full, "forman").values) == {-6.0}
    assert set(graph_curvature(grid, "augmented_forman").values) == {-4.0}
    assert set(graph_curvature(full, "augmented_forman").values) == {6.0}


def test_nodes_have_the_mean_of_their_edges():
    star = nx.disjoint_union(nx.star_graph(3), nx.empty_graph(1))  # a centre, three leaves, a node alone
    assert np.array_equal(graph_curvature(matrix(star), "forman").nodes, [0, 0, 0, 0, np.nan], equal_nan=True)
    path = graph_curvature(matrix(nx.path_graph(4)), "forman")
    assert path.values.tolist() == [1, 0, 1]
    assert path.nodes.tolist() == [1, 0.5, 0.5, 1]
