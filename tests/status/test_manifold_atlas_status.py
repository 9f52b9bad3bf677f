"""What bad input to atlases gets: one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from brenier.manifold.atlas import atlas

X = np.random.default_rng(0).random((40, 2))


@pytest.mark.parametrize(
    ("x", "arguments", "sentence"),
    [
        (X[:1], {}, "x must have at least 3 rows, got 1"),
        (X, {"dim": 3}, "dim must lie between 1 and the 2 columns of x, got 3"),
        (X, {"dim": 0}, "dim must be at least 1, got 0"),
        (X, {"chart": "umap"}, "chart must be pca or isomap, got 'umap'"),
        (X, {"overlap": 0.0}, "overlap must be positive, got 0.0"),
        (X, {"k": 40}, "k must lie between 1 and 39"),
        (X, {"max_charts": 0}, "max_charts must be at least 1, got 0"),
        (
            np.concatenate([X, X + 9, X - 9]),
            {"max_charts": 2},
            "the data fall into 3 components, more than max_charts 2",
        ),
        (np.concatenate([X, X[5:6]]), {}, "x must have distinct rows, but 5 and 40 are the same"),
        (np.where(np.arange(len(X))[:, None] == 2, np.nan, X), {}, "x must be finite, got NaN or Inf in row 2"),
    ],
)
def test_bad_input_is_named(x, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        atlas(x, **{"dim": 2, **arguments})


def test_bad_codes_are_refused():
    found = atlas(X, 2)
    with pytest.raises(ValueError, match=r"chart must lie in 0..0, got 0..1"):
        found.decode(np.array([0, 1]), X[:2])
    with pytest.raises(ValueError, match=r"codes must have shape \(n, 2\), got \(40, 1\)"):
        found.decode(0, X[:, :1])
    with pytest.raises(ValueError, match=r"x must have shape \(n, 2\), got \(40, 1\)"):
        found.encode(X[:, :1])


def test_a_transition_wants_an_overlap():
    far = atlas(np.concatenate([X, X + 100]), 2)
    with pytest.raises(ValueError, match="charts 0 and 1 share 0 samples, too few for a map between them"):
        far.transition(0, 1, X)
