"""What bad input to the test of an encoder gets: one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from brenier.manifold.homeomorphism import homeomorphism

X = np.random.default_rng(0).random((30, 2))
FACES = np.array([[0, 1, 2]])


def same(x):
    return x


@pytest.mark.parametrize(
    ("encode", "x", "arguments", "sentence"),
    [
        (same, X[:1], {}, "x must have at least 3 rows, got 1"),
        (same, X, {"k": 30}, "k must lie between 1 and 29, one less than the 30 distinct rows, got 30"),
        (same, X, {"k": 0}, "k must lie between 1 and 29"),
        (same, np.where(np.arange(len(X))[:, None] == 4, np.inf, X), {}, "x must be finite, got NaN or Inf in row 4"),
        (same, np.concatenate([X, X[3:4]]), {}, "x must have distinct rows, but 3 and 30 are the same"),
        (lambda x: x * np.nan, X, {}, "codes must be finite, got NaN or Inf in row 0"),
        (lambda x: x[:, 0], X, {}, r"codes must have shape \(n, ...\), got \(30,\)"),
        (lambda x: x[:9], X, {}, "encode must give one code per sample, got 9 for 30"),
        (lambda x: x[:, [0, 1, 1]], X, {}, "codes must not be wider than x, got 3 columns for 2"),
        (lambda x: x[:, :1], X, {"faces": FACES}, r"with faces the codes must be planar, \(n, 2\), got 1 columns"),
        (same, X, {"faces": FACES}, "faces must use every sample, but 27 of 30 lie in none"),
        (same, X, {"faces": FACES + 28}, "face 0 names a vertex outside 0..29"),
        (same, X, {"decode": lambda z: z[:, :1]}, r"decoded samples must have shape \(n, 2\), got \(30, 1\)"),
    ],
)
def test_bad_input_is_named(encode, x, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        homeomorphism(encode, x, **arguments)


def test_a_list_is_no_array():
    with pytest.raises(TypeError, match="x must be an array or tensor of real numbers, got list"):
        homeomorphism(same, X.tolist())
