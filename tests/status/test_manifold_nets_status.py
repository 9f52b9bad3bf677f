"""What bad input to nets gets: one sentence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from brenier.manifold.graph import neighbour_graph
from brenier.manifold.nets import epsilon_net

X = np.arange(12.0).reshape(6, 2)
APART = np.concatenate([X, X + 1000, X + 5000])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"epsilon": 0.0}, "epsilon must be positive and finite, got 0.0"),
        ({"epsilon": float("nan")}, "epsilon must be positive and finite, got nan"),
        ({"epsilon": 1.0, "size": 2}, "give epsilon or size, not both, got 1.0 and 2"),
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"size": 7}, "size must be at most the 6 distinct rows of x, got 7"),
        ({"graph": csr_array(np.eye(5))}, r"graph must be a sparse array of shape \(6, 6\)"),
    ],
)
def test_a_bad_net_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        epsilon_net(X, **arguments)


@pytest.mark.parametrize(
    ("x", "kind", "sentence"),
    [
        (X[:0], ValueError, "x must have at least 1 rows, got 0"),
        (X[:, 0], ValueError, r"x must have shape \(n, ...\), got \(6,\)"),
        (np.where(X == 5, np.nan, X), ValueError, "x must be finite, got NaN or Inf in row 2"),
        (X.tolist(), TypeError, "x must be an array or tensor of real numbers, got list"),
        (X.astype(complex), TypeError, "got complex128"),
    ],
)
def test_bad_samples_are_refused(x, kind, sentence):
    with pytest.raises(kind, match=sentence):
        epsilon_net(x)


def test_a_component_without_a_net_point_is_an_error():
    graph = neighbour_graph(APART, 2)
    with pytest.raises(ValueError, match="a net of 2 points misses whole components of the graph; raise size"):
        epsilon_net(APART, size=2, graph=graph)
    assert epsilon_net(APART, size=3, graph=graph).covering_radius < 100


@pytest.mark.parametrize(
    ("reach", "gap", "sentence"),
    [
        (0.0, 0.0, "reach must be positive, got 0"),
        (np.ones(3), 0.0, r"reach must be a number or one per sample, got shape \(3,\)"),
        (1.0, -1.0, "gap must be at least 0 and finite, got -1.0"),
    ],
)
def test_bad_scales_are_refused(reach, gap, sentence):
    with pytest.raises(ValueError, match=sentence):
        epsilon_net(X).conditions(reach, gap)
