"""Meshes of known topology, curvature, distance and spectrum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from brenier.manifold.mesh import angles, areas, read_obj, topology
from brenier.manifold.planar import reconstruct, tutte
from brenier.manifold.surface import (
    angle_defects,
    distance_to_mesh,
    surface_convergence,
    surface_errors,
)
from brenier.manifold.true_surfaces import lantern, true_paraboloid, true_sphere, true_torus

OCTAHEDRON = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]])
EIGHT = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])


def strip(n, twisted):
    """A band of 2n triangles, closed with or without a twist."""
    low, high = np.arange(n), n + np.arange(n)
    after = np.roll(low, -1), np.roll(high, -1)
    if twisted:
        after[0][-1], after[1][-1] = after[1][-1], after[0][-1]
    return np.concatenate([np.stack([low, after[0], high], 1), np.stack([after[0], after[1], high], 1)])


def test_an_octahedron():
    form = topology(EIGHT)
    assert (form.vertices, form.edges, form.euler, form.genus, form.loops, form.planar) == (6, 12, 2, 0, (), False)
    assert areas(OCTAHEDRON, EIGHT) == pytest.approx(np.full(8, math.sqrt(3) / 2))
    assert angles(OCTAHEDRON, EIGHT) == pytest.approx(np.full((8, 3), math.pi / 3))
    assert angle_defects(OCTAHEDRON, EIGHT) == pytest.approx(np.full(6, 2 * math.pi / 3))


def test_topology_of_bands_and_tori():
    assert [len(loop) for loop in topology(strip(5, False)).loops] == [5, 5]
    assert (topology(strip(5, False)).genus, topology(strip(5, False)).planar) == (0, True)
    moebius = topology(strip(5, True))
    assert (moebius.signs, moebius.genus, moebius.planar, len(moebius.loops)) == (None, None, False, 1)
    torus = topology(true_torus().sample(300)[1])
    assert (torus.euler, torus.genus, torus.components, torus.planar) == (0, 1, 1, False)
    two = topology(np.concatenate([EIGHT, EIGHT[:4] + 6]))
    assert (two.components, two.genus, len(two.loops), two.planar) == (2, 0, 1, False)


def test_faces_turned_at_random_are_turned_back():
    _, faces = true_sphere().sample(200)
    turned = np.where(np.random.default_rng(0).random(len(faces))[:, None] < 0.5, faces, faces[:, ::-1])
    signs = topology(turned).signs
    back = np.where(signs[:, None] > 0, turned, turned[:, ::-1])
    directed = np.concatenate([back[:, [0, 1]], back[:, [1, 2]], back[:, [2, 0]]])
    assert len(np.unique(directed, axis=0)) == len(directed)


def test_an_obj_file_is_read(tmp_path):
    path = tmp_path / "square.obj"
    path.write_text("# a square\nv 0 0 0\nv 1 0 0 1.0\nvn 0 0 1\nv 1 1 0\nv 0 1 0\nf 1/1 2//1 3 4\nf -4 -3 -2\n")
    x, faces = read_obj(path)
    assert x.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


def test_triangles_of_a_code_lie_on_the_samples():
    x = np.random.default_rng(0).random((50, 2))
    faces = reconstruct(np.concatenate([x, x**2, x**3], 1), x)
    assert areas(x, faces).sum() == pytest.approx(1, abs=0.15)
    assert topology(faces).euler == 1
    ring = np.linspace(0, 2 * math.pi, 12, endpoint=False)
    tube = np.stack(np.meshgrid(ring, np.arange(4.0), indexing="ij"), -1).reshape(-1, 2)
    tube[:, 0] += 1e-3 * np.random.default_rng(0).standard_normal(len(tube))
    form = topology(reconstruct(tube, tube, periods=(2 * math.pi, math.inf)))
    assert (form.euler, form.genus, len(form.loops)) == (0, 0, 2)


def test_sides_that_are_too_long_leave_a_hole():
    turn = 2 * math.pi * np.arange(400) / 400
    ring = np.concatenate([r * np.stack([np.cos(turn[::s]), np.sin(turn[::s])], 1) for r, s in ((1, 20), (1.3, 10))])
    assert len(topology(reconstruct(ring, ring, longest=0.5)).loops) == 2
    assert len(topology(reconstruct(ring, ring)).loops) == 1


def test_tutte_puts_a_regular_fan_where_it_was():
    turn = 2 * math.pi * np.arange(7) / 7
    x = np.concatenate([[[0.0, 0, 5]], np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)])
    faces = np.stack([np.zeros(7, int), 1 + np.arange(7), 1 + (np.arange(7) + 1) % 7], 1)
    code = tutte(x, faces)
    assert code[0] == pytest.approx([0, 0], abs=1e-12)
    assert np.linalg.norm(code[1:], axis=1) == pytest.approx(np.ones(7))


def test_distances_to_a_mesh():
    x = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [6, 5, 5], [5, 6, 5]])
    queries = np.array([[0.25, 0.25, 2], [-1, -1, 0], [0.5, -3, 0], [1, 1, 0], [5, 5, 5], [0.2, 0.2, 0]])
    found = distance_to_mesh(queries, x, np.array([[0, 1, 2], [3, 4, 5]]))
    assert found == pytest.approx([2, math.sqrt(2), 3, math.sqrt(0.5), 0, 0], abs=1e-12)


def test_closed_forms_of_the_true_surfaces_agree_with_quadrature():
    for truth in (true_sphere(), true_torus(), true_paraboloid(), true_paraboloid(0.0)):
        x, faces = truth.sample(3000)
        assert np.linalg.norm(truth.foot(x) - x, axis=1).max() < 1e-12
        assert np.linalg.norm(truth.foot(truth.cloud) - truth.cloud, axis=1).max() < 1e-12
        away = x + 0.1 * truth.normal(x)
        inner = truth.region(x)
        assert np.linalg.norm(truth.foot(away) - x, axis=1)[inner].max() < 1e-9
        assert areas(x, faces).sum() == pytest.approx(truth.area, rel=3e-3)


def test_the_spectra_of_the_flat_limits():
    # j'_{1,1}², j'_{2,1}², j'_{0,2}² of the unit disk; a thin torus is a circle of length 2π major to begin with
    assert true_paraboloid(0.0).eigenvalues[:5] == pytest.approx((3.389958, 3.389958, 9.328363, 9.328363, 14.681971))
    assert true_torus(10.0, 0.01).eigenvalues[:4] == pytest.approx((0.01, 0.01, 0.04, 0.04), rel=1e-4)
    assert lantern(lambda k: k, height=1.0).eigenvalues[:5] == pytest.approx((1, 1, 4, 4, 9))


@pytest.mark.parametrize("truth", [true_sphere(), true_torus(), true_paraboloid()], ids=lambda truth: truth.name)
def test_all_errors_vanish_as_samples_get_denser(truth):
    pytest.importorskip("robust_laplacian", reason="the extra 'surface' is missing")
    pytest.importorskip("potpourri3d", reason="the extra 'surface' is missing")
    table = surface_convergence(truth, (250, 500, 1000, 2000))
    for name, least in {"hausdorff": 1.8, "normal": 0.8, "area": 1.8, "geodesic": 1.7, "laplace": 1.8}.items():
        assert table.orders[name] > least, name
    last = table.rows[-1]
    assert max(last.hausdorff, last.area, last.geodesic, last.laplace) < 0.012
    assert last.gauss_region < 0.04
    closed = truth.name != "paraboloid"
    assert table.orders["mean"] > (1.8 if closed else 1.0)
    if closed:  # Gauss and Bonnet, whatever the mesh
        assert max(row.gauss for row in table.rows) < 1e-10
    else:  # what the rim's own triangles hold is lost
        assert table.orders["gauss"] == pytest.approx(1, abs=0.2)
    assert str(table).count("\n") == 6


def test_the_lantern_converges_as_a_set_and_in_nothing_else():
    pytest.importorskip("robust_laplacian", reason="the extra 'surface' is missing")
    pytest.importorskip("potpourri3d", reason="the extra 'surface' is missing")
    good, bad = lantern(lambda k: k), lantern(lambda k: k * k)
    tables = [surface_convergence(truth, (300, 600, 1000)) for truth in (good, bad)]
    assert all(table.orders["hausdorff"] > 1.8 for table in tables)
    assert all(tables[0].orders[name] > 0.9 for name in ("normal", "area", "mean", "laplace"))
    assert all(tables[1].orders[name] < 0.1 for name in ("normal", "area", "mean", "laplace"))
    k, bands = 10, 100  # Schwarz's own formula, on a cylinder of height 2
    area = 2 * k * bands * math.sin(math.pi / k) * math.hypot(2 / bands, 1 - math.cos(math.pi / k))
    assert tables[1].rows[-1].area == pytest.approx(area / (4 * math.pi) - 1, rel=1e-9)
    assert max(row.gauss for row in tables[1].rows) < 1e-10


def test_a_sphere_turned_inside_out_is_the_same_surface():
    pytest.importorskip("robust_laplacian", reason="the extra 'surface' is missing")
    pytest.importorskip("potpourri3d", reason="the extra 'surface' is missing")
    truth = true_sphere()
    x, faces = truth.sample(300)
    assert surface_errors(x, faces[:, ::-1], truth) == pytest.approx(surface_errors(x, faces, truth), rel=1e-6)
