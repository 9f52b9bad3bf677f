"""Neighbour graphs and their geodesic distances against all pairs, and against known lengths."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import shortest_path

from brenier.manifold import graph
from brenier.manifold.graph import graph_geodesics, nearest, neighbour_graph


def all_pairs(x):
    return torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "dim"), [(300, 2), (300, 50), (7, 50), (1000, 7)])
def test_nearest_are_those_of_all_pairs(n, dim, dtype, generator):
    x = torch.randn(n, dim, generator=generator, dtype=dtype) + 5
    distances, near = nearest(x, 6)
    truth, order = all_pairs(x).sort(1)
    assert torch.allclose(distances.double(), truth[:, :6], rtol=1e-6)
    assert distances.dtype == dtype
    assert torch.equal(near, order[:, :6])


def test_nearest_within_tight_clusters_far_apart(generator):
    """Single precision sees nothing within these clusters; the bound on its rounding sends them to double."""
    centres = 1e4 * torch.randn(20, 1, 10, generator=generator, dtype=torch.float64)
    x = (centres + 1e-4 * torch.randn(20, 30, 10, generator=generator, dtype=torch.float64)).flatten(0, 1)
    assert torch.equal(nearest(x, 5)[1], all_pairs(x).topk(5, largest=False).indices)


def test_blocks_do_not_show(generator, monkeypatch):
    x = torch.randn(500, 9, generator=generator)
    whole = nearest(x, 4)
    monkeypatch.setattr(graph, "BLOCK", 600)
    assert all(map(torch.equal, nearest(x, 4), whole))


@pytest.mark.parametrize("dim", [2, 10])
def test_graph_is_that_of_all_pairs(dim, generator):
    x = torch.randn(200, dim, generator=generator, dtype=torch.float64)
    pairs = all_pairs(x)
    chosen = pairs <= pairs.kthvalue(5, 1).values[:, None]
    truth = torch.where(chosen | chosen.T, pairs, 0)
    assert np.allclose(neighbour_graph(x, 5).toarray(), truth, rtol=1e-12)


def test_geodesics_of_a_helix_are_its_arc_lengths():
    t = np.linspace(0, 6 * np.pi, 2000)
    helix = np.stack([np.cos(t), np.sin(t), 0.2 * t], 1)
    found = graph_geodesics(helix, [0, 700], k=2)
    truth = math.hypot(1, 0.2) * np.abs(t - t[[0, 700], None])
    assert np.allclose(found.distances, truth, rtol=2e-3, atol=1e-2)


def test_geodesics_are_shortest_paths(generator):
    x = torch.rand(150, 3, generator=generator)
    every = shortest_path(neighbour_graph(x, 4), directed=False)
    found = graph_geodesics(x, 150, 4)
    assert sorted(found.landmarks) == list(range(150))
    assert np.allclose(found.distances, every[found.landmarks], rtol=1e-12)


def test_landmarks_are_farthest_points():
    line = np.arange(101.0)[:, None]
    found = graph_geodesics(line, 4, k=2, seed=3)
    first, second, third, _ = found.landmarks
    assert second == (100 if first <= 50 else 0)
    assert third == max(range(101), key=lambda i: min(abs(i - first), abs(i - second)))


def test_every_component_gets_a_landmark(generator):
    x = torch.rand(90, 2, generator=generator) + 10 * torch.arange(3.0).repeat(30)[:, None]
    found = graph_geodesics(x, 3, 4)
    assert sorted(found.landmarks % 3) == [0, 1, 2]
    assert np.array_equal(np.isinf(found.distances), found.components[found.landmarks][:, None] != found.components)
