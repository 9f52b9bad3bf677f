"""What bad meshes and codes get: one sentence that names the place."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from brenier.manifold.mesh import read_obj, topology, triangles
from brenier.manifold.planar import reconstruct, tutte
from brenier.manifold.surface import laplace_spectrum, surface_convergence, surface_errors
from brenier.manifold.true_surfaces import true_sphere

SQUARE = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
SPACE = np.concatenate([SQUARE, SQUARE[:, :1]], 1)


@pytest.mark.parametrize(
    ("faces", "kind", "sentence"),
    [
        ([[0, 1, 4]], ValueError, r"face 0 names a vertex outside 0..3: \[0, 1, 4\]"),
        ([[0, 1, 2], [0, -1, 2]], ValueError, r"face 1 names a vertex outside 0..3: \[0, -1, 2\]"),
        ([[0, 1, 1]], ValueError, r"face 0 names a vertex twice: \[0, 1, 1\]"),
        ([[0, 1]], ValueError, r"faces must have shape \(m, 3\) with m at least 1, got \(1, 2\)"),
        (np.zeros((0, 3), int), ValueError, r"got \(0, 3\)"),
        ([[0.0, 1.0, 2.0]], TypeError, "faces must be whole numbers, got float64"),
    ],
)
def test_bad_faces_are_refused(faces, kind, sentence):
    with pytest.raises(kind, match=sentence):
        triangles(np.array(faces), 4)


@pytest.mark.parametrize(
    ("faces", "sentence"),
    [
        ([[4, 1, 2], [4, 1, 3], [1, 4, 0]], r"edge \(4, 1\) lies in 3 faces: not a surface"),
        ([[7, 1, 2], [7, 3, 4]], "the faces at vertex 7 meet in nothing but it: not a surface"),
    ],
)
def test_what_is_no_surface_is_named(faces, sentence):
    with pytest.raises(ValueError, match=sentence):
        topology(np.array(faces))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("v 0 0 0\nv 1 x 0\n", "line 2 of .* cannot be read: 'v 1 x 0'"),
        ("v 0 0 0\nf 1 a 2\n", "line 2 of .* cannot be read: 'f 1 a 2'"),
        ("v 0 0 0\n", "must hold vertices in space and faces, got 1 and 0"),
        ("v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n", "must hold vertices in space and faces, got 3 and 1"),
        ("v 0 0 0\nv 1 0 0\nf 1 2 3\n", "face 0 names a vertex outside 0..1"),
    ],
)
def test_a_bad_obj_file_names_the_line(tmp_path, text, sentence):
    (tmp_path / "bad.obj").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_obj(tmp_path / "bad.obj")


@pytest.mark.parametrize(
    ("codes", "sentence"),
    [
        (SQUARE[:3], "codes must have one row per sample, got 3 for 4"),
        (SPACE, r"codes must have shape \(n, 2\), got \(4, 3\)"),
        (SQUARE[[0, 1, 2, 1]], "the code of sample 1 is that of 1 others too"),
        (SQUARE @ [[1.0, 2.0], [2.0, 4.0]] + 1, "the codes lie on one line: they have no triangles"),
        (SQUARE * np.nan, "codes must be finite, got NaN or Inf in row 0"),
    ],
)
def test_codes_without_triangles_are_refused(codes, sentence):
    with pytest.raises(ValueError, match=sentence):
        reconstruct(SPACE, codes)


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="x must have at least 3 rows, got 1"):
        reconstruct(SPACE[:1], SQUARE[:1])


def test_tutte_wants_one_disk():
    x, faces = true_sphere().sample(30)
    with pytest.raises(ValueError, match="must be one disk, got 1 components, genus 0, 0 boundary loops and 0 loose"):
        tutte(x, faces)
    with pytest.raises(ValueError, match="1 boundary loops and 1 loose vertices"):
        tutte(SPACE, np.array([[0, 1, 2]]))


def test_errors_want_one_surface_through_all_samples():
    truth = true_sphere()
    x, faces = truth.sample(30)
    with pytest.raises(ValueError, match=r"x must have shape \(n, 3\), got \(30, 2\)"):
        surface_errors(x[:, :2], faces, truth)
    with pytest.raises(ValueError, match="one oriented surface through all samples, got 1 components, 1 loose"):
        surface_errors(np.concatenate([x, x[:1]]), faces, truth)
    with pytest.raises(ValueError, match="got 2 components, 0 loose vertices"):
        surface_errors(np.concatenate([x, x + 9]), np.concatenate([faces, faces + 30]), truth)


def test_an_order_wants_two_sizes():
    pytest.importorskip("robust_laplacian", reason="the extra 'surface' is missing")
    pytest.importorskip("potpourri3d", reason="the extra 'surface' is missing")
    with pytest.raises(ValueError, match="an order needs at least 2 sizes, got 1"):
        surface_convergence(true_sphere(), [100])


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "robust_laplacian", None)
    with pytest.raises(ModuleNotFoundError, match=r"robust_laplacian is missing: .* pip install 'brenier\[surface\]'"):
        laplace_spectrum(*true_sphere().sample(30), 2)
