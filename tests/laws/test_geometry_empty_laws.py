"""No points have an answer of no rows: every verb, in both kinds of arrays, and the metric is not asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier import geometry


def never(x):
    raise AssertionError("the metric is asked")


SHAPES = {
    geometry.christoffel: (2, 2, 2),
    geometry.riemann: (2, 2, 2, 2),
    geometry.ricci: (2, 2),
    geometry.scalar_curvature: (),
    geometry.volume_density: (),
}


@pytest.mark.parametrize("lead", [(0,), (3, 0), (0, 3)])
@pytest.mark.parametrize("kind", [torch.zeros, np.zeros])
def test_no_points(lead, kind):
    x = kind((*lead, 2))
    for verb, shape in SHAPES.items():
        found = verb(never, x)
        assert type(found) is type(x)
        assert tuple(found.shape) == lead + shape
    assert tuple(geometry.sectional_curvature(never, x, x, x).shape) == lead
    assert tuple(geometry.covariant_derivative(never, never, x, x).shape) == (*lead, 2)
    assert tuple(geometry.exp(never, x, x).shape) == tuple(geometry.log(never, x, x).shape) == (*lead, 2)
    assert tuple(geometry.distance(never, x, x).shape) == lead
    found = geometry.geodesic(never, x, x, n=5)
    assert found.converged
    assert found.ends == ()
    assert tuple(found.path.shape) == (*lead, 5, 2)
    assert tuple(found.length.shape) == tuple(found.found.shape) == tuple(found.residual.shape) == lead
    assert tuple(geometry.parallel_transport(never, kind((*lead, 5, 2)), x).shape) == (*lead, 5, 2)
    mean = geometry.frechet_mean(never, kind((*lead, 4, 2)))
    assert mean.converged
    assert tuple(mean.mean.shape) == (*lead, 2)
    assert tuple(mean.variance.shape) == lead


def test_no_points_of_a_decoder():
    x = torch.zeros(0, 2)
    assert geometry.scalar_curvature(geometry.pullback(torch.nn.Linear(2, 3)), x).shape == (0,)
    assert geometry.geodesic(geometry.fisher_metric(torch.nn.Linear(2, 3)), x, x).path.shape == (0, 32, 2)


def test_a_mean_of_no_points_is_refused():
    with pytest.raises(
        ValueError, match=r"a mean needs points \(\.\.\., k, d\) with k at least 1, got shape \(2, 0, 3\)"
    ):
        geometry.frechet_mean(never, torch.zeros(2, 0, 3))


def test_points_without_coordinates_are_refused():
    with pytest.raises(ValueError, match=r"x must be \(\.\.\., d\) with d at least 1, got shape \(3, 0\)"):
        geometry.christoffel(never, torch.zeros(3, 0))
