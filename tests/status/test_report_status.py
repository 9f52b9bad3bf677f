"""What wrong input to the report gets: one sentence that names the value and the place."""

import re

import numpy as np
import pytest
import torch

from brenier.report import (
    Features,
    Table,
    baselines,
    c2st,
    exact_copies,
    figures,
    frechet,
    maps,
    nn_ratio,
    precision_recall_density_coverage,
    write_page,
)

X = np.random.default_rng(0).normal(size=(20, 3))
IMAGES = np.zeros((20, 8, 8))


def broken(value):
    x = X.copy()
    x[7, 1] = value
    return x


CASES = [
    (lambda: frechet(X[0], X), ValueError, "a must have shape (m, d), got (3,)"),
    (lambda: frechet(X, X[:3]), ValueError, "b must have at least 4 rows, got 3"),
    (lambda: frechet(X, X[:, :2]), ValueError, "the arrays must have the same number of columns, got {'a': 3, 'b': 2}"),
    (lambda: frechet(broken(np.nan), X), ValueError, "a must be finite, got NaN or Inf in row 7"),
    (lambda: c2st(X, broken(np.inf)), ValueError, "b must be finite, got NaN or Inf in row 7"),
    (lambda: c2st(X.astype(complex), X), TypeError, "a must be an array or tensor of real numbers, got complex128"),
    (lambda: c2st(X.tolist(), X), TypeError, "a must be an array or tensor of real numbers, got list"),
    (lambda: c2st(X, X, 1.5), TypeError, "seed must be an int or a torch.Generator, got float"),
    (lambda: c2st(X, X, -1), ValueError, "seed must not be negative, got -1"),
    (
        lambda: nn_ratio(X, X, X),
        ValueError,
        "test must hold codes that train does not, got 20 codes",
    ),
    (lambda: nn_ratio(X[:0], X, X), ValueError, "new must have at least 1 rows, got 0"),
    (lambda: exact_copies(X.astype(str), X), TypeError, "new must be an array or tensor of real numbers, got <U32"),
    (lambda: precision_recall_density_coverage(X, X, k=0), ValueError, "k must be at least 1, got 0"),
    (lambda: precision_recall_density_coverage(X, X, k=20), ValueError, "real must have at least 21 rows, got 20"),
    (lambda: baselines.gmm(broken(np.nan), 5), ValueError, "train_codes must be finite, got NaN or Inf in row 7"),
    (lambda: Features.fit(X, [0, 1]), ValueError, "labels must have one entry per sample, got 2 for 20 samples"),
    (lambda: Features.fit(X, [4] * 20), ValueError, "labels must have at least two classes, got [4] only"),
    (lambda: Features.fit(X[:9]), ValueError, "x must have at least 10 rows to fit features, got 9"),
    (
        lambda: Features.fit(IMAGES),
        ValueError,
        "x must have shape (m, d) or (m, c, h, w) in network form",
    ),
    (
        lambda: figures.pairs(IMAGES, IMAGES[:9], ("a", "b"), ""),
        ValueError,
        "both rows of pairs must have the same shape, got (20, 8, 8) and (9, 8, 8)",
    ),
    (lambda: figures.interpolations(np.zeros((2, 5, 3))), ValueError, "train must be given to draw paths of vectors"),
    (
        lambda: figures.samples(np.zeros((2, 5, 8, 8))),
        ValueError,
        "images must have 1 to 4 channels, got shape (2,",
    ),
    (lambda: maps.code_map(X, [0]), ValueError, "groups must have one entry per code, got 1 for 20 codes"),
    (lambda: maps.code_map(X, facets=[0, 1]), ValueError, "facets must have shape (k, 2), got (2,)"),
    (lambda: maps.code_map(X, facets=[[0, 20]]), ValueError, "facets must name rows 0..19 of codes, got 0..20"),
    (lambda: maps.noise_map(X, X[:, 0], X[:, 0]), ValueError, "noise must have shape (m, 2) and one verdict per row"),
]


@pytest.mark.parametrize(("call", "error", "message"), CASES, ids=[case[2][:60] for case in CASES])
def test_wrong_values_get_a_sentence(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_a_row_of_another_length_is_refused_and_nothing_is_written(tmp_path):
    table = Table("Numbers", ["FID", "nn"], [("AE-OT", [1.0])])
    with pytest.raises(ValueError, match="row 'AE-OT' of 'Numbers' must have 2 values, got 1"):
        write_page(tmp_path / "report.html", "t", [], [table], {}, {}, {})
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_page(tmp_path / "nowhere" / "report.html", "t", [], [], {}, {}, {})


def test_a_tensor_that_wants_gradients_is_read(generator):
    x = torch.rand(30, 3, generator=generator).requires_grad_()
    assert frechet(x, x).mean == pytest.approx(0, abs=1e-10)
