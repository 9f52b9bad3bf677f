"""What bad input to the search for singular points gets: one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from brenier.manifold.singular_points import singular_points

X = np.random.default_rng(0).random((50, 2))


@pytest.mark.parametrize(
    ("x", "arguments", "sentence"),
    [
        (X[:1], {}, "x must have at least 2 rows, got 1"),
        (X[:20], {}, "k must lie between 1 and 19, one less than the 20 distinct rows, got 40"),
        (np.tile(X[:20], (9, 1)), {}, "one less than the 20 distinct rows"),
        (X, {"k": 9}, "k must be at least 10, got 9"),
        (X, {"rate": 0.0}, "rate must lie between 0 and 1, got 0.0"),
        (X, {"bend": 1.5}, "bend must lie above 0 and at most at 1, got 1.5"),
        (X, {"dims": (1, 3)}, r"dims must lie between 1 and the 2 columns of x, got \(1, 3\)"),
        (X, {"dims": ()}, r"got \(\)"),
        (np.where(np.arange(len(X))[:, None] == 7, np.nan, X), {}, "x must be finite, got NaN or Inf in row 7"),
    ],
)
def test_bad_input_is_named(x, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        singular_points(x, **arguments)
