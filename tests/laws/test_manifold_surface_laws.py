"""What holds for every mesh and every planar code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from brenier.manifold.mesh import angles, areas, topology
from brenier.manifold.overlaps import overlapping, signed_areas
from brenier.manifold.planar import reconstruct, tutte
from brenier.manifold.surface import angle_defects, distance_to_mesh
from brenier.manifold.true_surfaces import true_paraboloid, true_torus


def bumpy(n=400, seed=0):
    """A strongly bent disk and its triangles."""
    x, faces = true_paraboloid(3.0).sample(n)
    return x + 0.01 * np.random.default_rng(seed).standard_normal(x.shape), faces


@pytest.mark.parametrize("seed", range(3))
def test_defects_of_a_closed_mesh_sum_to_its_euler_characteristic(seed):
    x, faces = true_torus().sample(400)
    shaken = x + 0.05 * np.random.default_rng(seed).standard_normal(x.shape)
    assert angle_defects(shaken, faces).sum() == pytest.approx(0, abs=1e-9)
    hull = np.random.default_rng(seed).standard_normal((60, 3))
    hull = hull[ConvexHull(hull).vertices]
    assert angle_defects(hull, ConvexHull(hull).simplices).sum() == pytest.approx(4 * math.pi)


def test_areas_angles_and_distances_do_not_know_the_space_around():
    x, faces = bumpy()
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((9, 3)))[0]
    assert areas(x @ turn.T, faces) == pytest.approx(areas(x, faces))
    assert angles(x @ turn.T + 7, faces) == pytest.approx(angles(x, faces))
    assert angles(x, faces).sum(1) == pytest.approx(np.full(len(faces), math.pi))
    queries = np.random.default_rng(2).standard_normal((50, 3))
    assert distance_to_mesh(queries @ turn.T, x @ turn.T, faces) == pytest.approx(distance_to_mesh(queries, x, faces))


def test_distances_are_the_least_of_all_triangles():
    x, faces = bumpy(60)
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((20, 3))
    weights = rng.dirichlet(np.ones(3), 4000)
    cloud = np.einsum("wc,fcd->fwd", weights, x[faces]).reshape(-1, 3)
    by_force = np.array([np.linalg.norm(cloud - query, axis=1).min() for query in queries])
    found = distance_to_mesh(queries, x, faces)
    assert (found <= by_force + 1e-12).all()
    assert found == pytest.approx(by_force, abs=2e-2)


@pytest.mark.parametrize("seed", range(3))
def test_tutte_never_turns_or_overlaps(seed):
    x, faces = bumpy(seed=seed)
    x = x * np.random.default_rng(seed).uniform(0.1, 10, 3)
    code = tutte(x, faces)
    signed = signed_areas(code, faces) * topology(faces).signs
    assert signed.min() > 0 or signed.max() < 0
    assert not overlapping(code, faces)[0].any()
    assert np.linalg.norm(code, axis=1).max() <= 1 + 1e-12
    assert tutte(torch.from_numpy(x).float(), torch.from_numpy(faces)).dtype == torch.float32


@pytest.mark.parametrize("seed", range(3))
def test_overlaps_are_those_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    z, faces = rng.random((60, 2)), np.arange(60).reshape(20, 3)
    z[faces[:10]] *= 0.2
    z[faces[5:10]] += 0.5
    inside = rng.dirichlet(np.ones(3), 3000)
    shared = np.zeros(20, dtype=bool)
    for i, face in enumerate(faces):
        dense = inside @ z[face]
        for j, other in enumerate(faces):
            p = np.linalg.solve(np.vstack([z[other].T, np.ones(3)]), np.vstack([dense.T, np.ones(len(dense))]))
            if i != j and (p > 0).all(0).any():
                shared[i] = shared[j] = True
    found, example = overlapping(z, faces)
    assert found.tolist() == shared.tolist()
    assert example is not None
    assert found[list(example)].all()


def test_triangles_that_touch_do_not_overlap():
    x = np.random.default_rng(0).random((300, 2))
    faces = reconstruct(x, x)
    found, example = overlapping(x, faces)
    assert not found.any()
    assert example is None
    folded = np.abs(x - [0.5, 0])
    assert overlapping(folded, faces)[0].mean() > 0.9


def test_a_reconstruction_does_not_depend_on_the_order_of_samples():
    x = np.random.default_rng(0).random((100, 2))
    order = np.random.default_rng(1).permutation(100)
    first = {tuple(sorted(face)) for face in reconstruct(x, x).tolist()}
    second = {tuple(sorted(order[face].tolist())) for face in reconstruct(x[order], x[order])}
    assert first == second
