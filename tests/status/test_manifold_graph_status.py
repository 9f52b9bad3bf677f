"""Every bad input to graphs, Isomap, pictures and curvature has its sentence."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from brenier.manifold.embedding import continuity, embed, geodesic_stress, trustworthiness
from brenier.manifold.graph import graph_geodesics, neighbour_graph
from brenier.manifold.graph_curvature import graph_curvature
from brenier.manifold.isomap import isomap

X = torch.rand(20, 8, generator=torch.Generator().manual_seed(0))
HOLE = torch.cat([X, torch.full((1, 8), torch.nan)])
EDGE = np.array([[0.0, 1.0], [1.0, 0.0]])
APART = np.kron(np.eye(3), EDGE)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: neighbour_graph(X, 20), "less than the number of distinct samples, got k 20 for 20 of 20"),
        (lambda: neighbour_graph(X[:1], 1), "less than the number of distinct samples, got k 1 for 1 of 1"),
        (lambda: neighbour_graph(X, 0), "k must be at least 1, got 0"),
        (lambda: neighbour_graph(X[0], 1), r"x must hold samples \(n, ...\) with entries, got shape \(8,\)"),
        (lambda: neighbour_graph(X[:0], 1), r"got shape \(0, 8\)"),
        (lambda: neighbour_graph(HOLE, 3), "x must be finite, got NaN or Inf in row 20"),
        (lambda: neighbour_graph(X, 3, "ball"), "method must be auto, exact or approximate, got 'ball'"),
        (lambda: neighbour_graph(X[:3].repeat(4, 1), 5), "number of distinct samples, got k 5 for 3 of 12"),
        (lambda: graph_geodesics(X, 21, 3), "landmarks must not exceed the 20 samples, got 21"),
        (lambda: graph_geodesics(X, [0, 20], 3), "landmarks must be rows of the 20 samples, got 0 to 20"),
        (lambda: graph_geodesics(csr_array(APART), 1, connected=True), "3 components, of 2, 2, 2 samples: raise k"),
        (lambda: isomap(X, 0), "dim must be at least 1, got 0"),
        (lambda: isomap(X, 2, 21), "landmarks must not exceed the 20 samples, got 21"),
        (lambda: embed(X, "mds"), "method must be tsne, umap, isomap or pca, got 'mds'"),
        (lambda: embed(X, "pca", 9), "dim must not exceed the 8 entries of a sample, got 9"),
        (lambda: trustworthiness(X, X[:19], 3), "one code for each sample, got 19 and 20"),
        (lambda: continuity(X, X, 10), "k must be less than half the number of samples, got k 10 for 20"),
        (lambda: continuity(X, HOLE[1:], 3), "x must be finite, got NaN or Inf in row 19"),
        (lambda: geodesic_stress(X, X[:19], 3), "one code for each sample, got 19 for 20"),
        (lambda: graph_curvature(EDGE, "gauss"), "kind must be ollivier, forman or augmented_forman, got 'gauss'"),
        (lambda: graph_curvature(EDGE, idleness=1.0), "idleness must be at least 0 and less than 1, got 1.0"),
        (lambda: graph_curvature(EDGE[:1]), r"a graph must be square, got \(1, 2\)"),
        (lambda: graph_curvature(np.triu(EDGE)), "a graph must be symmetric"),
        (lambda: graph_curvature(np.eye(2)), "no edge from a node to itself, got one at node 0"),
        (lambda: graph_curvature(-EDGE), "lengths must be finite and not negative, got -1.0"),
        (lambda: graph_curvature(np.where(EDGE, np.inf, 0)), "must be finite"),
    ],
)
def test_the_bad_value_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: neighbour_graph(X, 2.5), "k must be a whole number, got 2.5"),
        (lambda: graph_geodesics(X, [0.5], 3), "landmarks must be a number or rows"),
        (lambda: graph_curvature(EDGE, idleness="half"), "idleness must be a number, got 'half'"),
    ],
)
def test_a_wrong_type_is_named(call, sentence):
    with pytest.raises(TypeError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("module", "call", "sentence"),
    [
        ("umap", lambda: embed(X, "umap", k=3), "method umap needs umap-learn: pip install 'brenier\\[embed\\]'"),
        ("openTSNE", lambda: embed(X, k=3), "method tsne needs openTSNE: pip install 'brenier\\[embed\\]'"),
        ("pynndescent", lambda: neighbour_graph(X, 3, "approximate"), "approximate neighbour graph needs pynndescent"),
    ],
)
def test_a_missing_library_is_named(module, call, sentence, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=sentence):
        call()
