"""Atlases of surfaces that one chart holds, and of surfaces that none can."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier import data
from brenier.manifold.atlas import atlas, local_linear


def seeded():
    return torch.Generator().manual_seed(0)


def test_a_plane_needs_one_chart_and_leaves_no_error():
    x = np.random.default_rng(0).random((300, 2)) @ np.random.default_rng(1).standard_normal((2, 6))
    found = atlas(x, 2)
    assert found.verified
    assert len(found.charts) == 1
    assert found.transitions == ()
    assert found.error < 1e-12
    assert found.decode(*found.encode(x)) == pytest.approx(x, abs=1e-12)


@pytest.fixture(scope="module")
def globe():
    x = data.sphere(1000, generator=seeded()).values
    return x, atlas(x, 2)


def test_a_sphere_needs_more_than_one_chart_and_each_is_verified(globe):
    _, found = globe
    assert found.verified
    assert 2 <= len(found.charts) <= 16
    assert all(chart.verdict.holds for chart in found.charts)
    assert found.error < 0.02
    assert str(found).startswith(f"{len(found.charts)} charts, every one verified; relative error")


def test_fresh_points_of_the_sphere_come_back(globe):
    _, found = globe
    fresh = data.sphere(400, generator=torch.Generator().manual_seed(1)).values
    chart, codes = found.encode(fresh)
    back = found.decode(chart, codes)
    assert np.linalg.norm(back - fresh, axis=1).max() < 0.06
    assert np.linalg.norm(back, axis=1) == pytest.approx(np.ones(400), abs=0.05)


def test_transitions_carry_codes_over(globe):
    x, found = globe
    best = max(found.transitions, key=lambda t: t.shared)
    a, b = found.charts[best.first], found.charts[best.second]
    shared, i, j = np.intersect1d(a.samples, b.samples, return_indices=True)
    assert len(shared) == best.shared
    carried = found.transition(best.first, best.second, a.codes[i])
    assert np.abs(carried - b.codes[j]).max() < 0.1
    assert np.median([t.residual for t in found.transitions]) < 0.1
    # two charts that decode a shared code say the same point
    assert found.decode(best.second, carried) == pytest.approx(x[shared], abs=0.1)


def test_a_chart_of_geodesics_takes_in_what_a_plane_cannot():
    x = data.swiss_roll(1200, generator=seeded()).values
    flat, bent = atlas(x, 2), atlas(x, 2, chart="isomap")
    assert flat.verified
    assert bent.verified
    assert len(bent.charts) < len(flat.charts) / 2
    assert bent.error < 0.05


def test_components_have_charts_of_their_own():
    turn = 2 * np.pi * np.random.default_rng(0).random(400)
    ring = np.stack([np.cos(turn), np.sin(turn)], 1)
    found = atlas(np.concatenate([ring, ring + 10]), 1)
    assert found.verified
    assert {tuple(np.unique(chart.samples >= 400)) for chart in found.charts} == {(False,), (True,)}


def test_a_local_fit_is_exact_on_affine_maps():
    rng = np.random.default_rng(0)
    a, slope = rng.standard_normal((80, 3)), rng.standard_normal((3, 5))
    queries = rng.standard_normal((20, 3))
    assert local_linear(a, a @ slope + 1, queries) == pytest.approx(queries @ slope + 1)
    assert local_linear(a, a @ slope + 1, a, itself=False) == pytest.approx(a @ slope + 1)
    inside = np.linalg.qr(rng.standard_normal((7, 3)))[0].T
    assert local_linear(a @ inside, a @ slope, queries @ inside, dim=3) == pytest.approx(queries @ slope)
