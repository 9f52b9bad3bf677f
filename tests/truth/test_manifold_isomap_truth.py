"""Isomap against flat truth and against classical scaling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.spatial.distance import pdist, squareform

from brenier.data import swiss_roll
from brenier.manifold.graph import graph_geodesics
from brenier.manifold.isomap import isomap


def agreement(a, b):
    return np.corrcoef(pdist(a), pdist(b))[0, 1]


def complete(x):
    return csr_array(squareform(pdist(x)))


@pytest.mark.parametrize("landmarks", [None, 8])
def test_flat_distances_are_reproduced(landmarks, generator):
    """Along the complete graph of points of a plane, landmarks or not (de Silva and Tenenbaum 2004)."""
    flat = torch.randn(40, 3, generator=generator, dtype=torch.float64).numpy()
    found = isomap(complete(flat), 3, landmarks)
    assert np.allclose(pdist(found.codes), pdist(flat), atol=1e-9)
    assert found.stress.mean < 1e-7
    assert (found.eigenvalues[0][3:] < 1e-9).all()


def test_all_landmarks_are_classical_scaling(generator):
    x = torch.rand(60, 3, generator=generator, dtype=torch.float64)
    found = isomap(x, 2, k=8)
    squares = np.square(graph_geodesics(x, np.arange(60), 8).distances)
    centre = np.eye(60) - 1 / 60
    values, vectors = np.linalg.eigh(-centre @ squares @ centre / 2)
    assert np.allclose(found.eigenvalues[0], values[::-1], atol=1e-9)
    assert np.allclose(pdist(found.codes), pdist(vectors[:, -2:] * np.sqrt(values[-2:])), atol=1e-9)


def test_a_swiss_roll_is_unrolled(generator):
    roll = swiss_roll(3000, generator=generator)
    found = isomap(roll.values, 2, landmarks=100)
    rows = slice(0, 3000, 6)
    assert agreement(found.codes[rows], roll.truth["coordinates"][rows]) > 0.999
    assert found.stress.mean < 0.03


def test_components_are_kept_apart(generator):
    x = torch.rand(120, 2, generator=generator, dtype=torch.float64)
    big, small = isomap(x[:80], 2, k=5), isomap(x[80:], 2, k=5)
    both = isomap(torch.cat([x[80:] + 100, x[:80]]), 2, k=5)
    assert np.bincount(both.components).tolist() == [80, 40]
    assert (both.components[:40] == 1).all()
    assert torch.allclose(both.codes[40:], big.codes, atol=1e-8)
    assert torch.allclose(both.codes[:40], small.codes, atol=1e-8)
    assert len(both.eigenvalues) == 2
    assert str(both).startswith(
        "2 coordinates of 120 samples in 2 components, the largest of 80 samples; geodesic stress"
    )


def test_small_components_have_as_many_coordinates_as_they_need():
    pair_and_one = csr_array((np.ones(2), ([0, 1], [1, 0])), shape=(3, 3))
    found = isomap(pair_and_one, 2)
    assert np.allclose(np.sort(found.codes, 0), [[-0.5, 0], [0, 0], [0.5, 0]], atol=1e-15)
    assert found.components.tolist() == [0, 0, 1]
    assert found.stress == (0, 0)
