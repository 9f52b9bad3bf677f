"""Curvature of graphs: invariances, the law of idleness, bounds."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from brenier.manifold.graph_curvature import KINDS, graph_curvature

GRAPH = nx.to_scipy_sparse_array(nx.gnp_random_graph(50, 0.15, seed=3), weight=None, dtype=float)


@pytest.mark.parametrize("kind", KINDS)
def test_a_renumbering_carries_curvature_along(kind):
    order = np.random.default_rng(0).permutation(50)
    nodes = graph_curvature(GRAPH, kind).nodes
    assert np.allclose(graph_curvature(csr_array(GRAPH[order][:, order]), kind).nodes, nodes[order], atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_do_not_count_and_any_form_will_do(kind):
    plain = graph_curvature(GRAPH, kind).values
    for other in (3.5 * GRAPH, GRAPH.toarray(), torch.from_numpy(GRAPH.toarray()), GRAPH.tocoo()):
        assert np.array_equal(graph_curvature(other, kind).values, plain)


def test_curvature_is_linear_in_idleness_towards_one():
    """From 1 / (max(deg x, deg y) + 1) on (Bourne et al. 2018)."""
    ends = graph_curvature(GRAPH).edges
    first = 1 / (np.diff(GRAPH.indptr)[ends].max(1).min() + 1)
    slopes = [graph_curvature(GRAPH, idleness=a).values / (1 - a) for a in (first, 0.5, 0.99)]
    assert np.allclose(slopes[0], slopes[1], atol=1e-10)
    assert np.allclose(slopes[0], slopes[2], atol=1e-9)


def test_curvature_lies_between_its_bounds():
    values = graph_curvature(GRAPH, idleness=0).values
    assert values.min() >= -2
    assert values.max() <= 1


def test_parts_know_nothing_of_each_other():
    both = graph_curvature(np.kron(np.eye(2), GRAPH.toarray())).values
    assert np.array_equal(both, np.tile(graph_curvature(GRAPH).values, 2))


def test_a_graph_without_edges_has_none():
    found = graph_curvature(np.zeros((3, 3)))
    assert found.edges.shape == (0, 2)
    assert np.isnan(found.nodes).all()
