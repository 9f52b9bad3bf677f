"""What the geometry refuses, and in which words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier import geometry
from brenier.geometry import spaces

X = torch.tensor([[0.5, 0.25], [1.0, -2.0]], dtype=torch.float64)
V = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


def flat(x):
    return torch.eye(len(x), dtype=x.dtype)


VERBS = {
    "christoffel": lambda metric, x: geometry.christoffel(metric, x),
    "covariant_derivative": lambda metric, x: geometry.covariant_derivative(metric, lambda x: x, x, V),
    "riemann": lambda metric, x: geometry.riemann(metric, x),
    "ricci": lambda metric, x: geometry.ricci(metric, x),
    "scalar_curvature": lambda metric, x: geometry.scalar_curvature(metric, x),
    "sectional_curvature": lambda metric, x: geometry.sectional_curvature(metric, x, V, V.flip(0)),
    "volume_density": lambda metric, x: geometry.volume_density(metric, x),
    "exp": lambda metric, x: geometry.exp(metric, x, V),
    "log": lambda metric, x: geometry.log(metric, x, x + 1),
    "distance": lambda metric, x: geometry.distance(metric, x, x + 1),
    "geodesic": lambda metric, x: geometry.geodesic(metric, x, x + 1),
    "parallel_transport": lambda metric, x: geometry.parallel_transport(metric, x, V[0]),
    "frechet_mean": lambda metric, x: geometry.frechet_mean(metric, x),
}

BAD = {
    "not finite at (1, -2)": lambda x: flat(x) / torch.where(x[1] > 0, x[1], torch.nan),
    "not symmetric at (0.5, 0.25)": lambda x: flat(x) + torch.stack([0 * x, 0.1 * x]),
    "not positive definite at (1, -2)": lambda x: flat(x) * x[1],
    "must return (2, 2), got (2,)": lambda x: x,
    "must return (2, 2), got (3, 3)": lambda x: torch.eye(3, dtype=x.dtype),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("sentence", BAD)
def test_a_bad_metric_is_named_with_its_point(verb, sentence):
    with pytest.raises(ValueError, match=r"metric") as caught:
        VERBS[verb](BAD[sentence], X)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("x", "error", "sentence"),
    [
        (torch.zeros(2, 0), ValueError, "d at least 1"),
        (torch.tensor([[0.0, 1.0], [torch.nan, 0.0]], dtype=torch.float64), ValueError, "must be finite, got (nan, 0)"),
        (torch.zeros(2, 2, dtype=torch.complex64), TypeError, "must hold real numbers, got torch.complex64"),
    ],
)
def test_bad_points(verb, x, error, sentence):
    with pytest.raises(error) as caught:
        VERBS[verb](flat, x)
    assert sentence in str(caught.value)


def test_a_list_is_no_array():
    with pytest.raises(TypeError, match="x must be a torch tensor or a numpy array, got list"):
        geometry.christoffel(flat, [0.0, 1.0])


def test_a_metric_must_give_a_tensor():
    class Metric:
        def tensor(self, x):
            return np.eye(2)

    with pytest.raises(TypeError, match="a metric must return a tensor, got ndarray"):
        geometry.christoffel(Metric(), X)


def test_a_nearly_singular_metric_is_not_positive_definite():
    ones = torch.tensor([[1.0, 0.1], [0.1, 0.01 + 1e-18]], dtype=torch.float64)
    with pytest.raises(ValueError, match="not positive definite"):
        geometry.volume_density(lambda x: ones, X)
    stretched = torch.tensor([[1.0, 0.0], [0.0, 1e-30]], dtype=torch.float64)
    assert torch.allclose(geometry.volume_density(lambda x: stretched, X), torch.tensor(1e-15, dtype=torch.float64))


@pytest.mark.parametrize(
    ("space", "x", "sentence"),
    [
        (spaces.HalfSpace(), [0.0, 0.0], "not finite at (0, 0); is the point outside the chart?"),
        (spaces.PoincareBall(), [0.0, 1.5], "not finite at (0, 1.5)"),
        (spaces.GaussianFamily(), [0.0, -1.0], "not finite at (0, -1)"),
        (spaces.GaussianFamily(), [0.0, 1.0, 2.0], "the Gaussian family has 2 coordinates, got a point of 3"),
        (spaces.Torus(2.0, 1.0), [0.0], "a torus has 2 coordinates, got a point of 1"),
        (spaces.Ellipsoid((1.0, 1.0, 2.0)), [0.0], "this ellipsoid has 2 coordinates, got a point of 1"),
        (spaces.product((flat, 1), (flat, 1)), [0.0], "this product has 2 coordinates, got a point of 1"),
    ],
)
def test_points_outside_the_chart(space, x, sentence):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        geometry.scalar_curvature(space, torch.tensor(x, dtype=torch.float64))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: spaces.Sphere(0.0), "radius must be positive and finite, got 0.0"),
        (lambda: spaces.Paraboloid(float("inf")), "scale must be positive and finite, got inf"),
        (lambda: spaces.Torus(1.0, 1.0), "a torus needs minor < major, got 1.0 and 1.0"),
        (lambda: spaces.Ellipsoid((1.0, -1.0)), "axis 1 must be positive and finite, got -1.0"),
    ],
)
def test_spaces_that_are_none(make, sentence):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert sentence in str(caught.value)


@pytest.mark.parametrize("verb", [geometry.exp, geometry.log, geometry.distance, geometry.geodesic])
def test_pairs_that_do_not_fit(verb):
    for other, sentence in (
        (X[0], "must have the same shape, got (2, 2) and (2,)"),
        (X.float(), "must have the same dtype, got torch.float64 and torch.float32"),
        (X.to("meta"), "must have the same device, got cpu and meta"),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            verb(flat, X, other)
        assert sentence in str(caught.value)
    with pytest.raises(TypeError, match="must be arrays of one kind, got Tensor and ndarray"):
        verb(flat, X, X.numpy())


@pytest.mark.parametrize("w", [[0.0, 0.0], [2.0, 4.0], [-1.0, -2.0]])
def test_vectors_that_span_no_plane(w):
    v = torch.tensor([1.0, 2.0], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"must span a plane, at \(0\.5, 0\.25\) got \(1, 2\)"):
        geometry.sectional_curvature(spaces.Sphere(), X[0], v, torch.tensor(w, dtype=torch.float64))


def test_a_field_of_another_shape():
    with pytest.raises(ValueError, match=r"the field must return \(2,\), got \(1,\)"):
        geometry.covariant_derivative(flat, lambda x: x[:1], X, V)
