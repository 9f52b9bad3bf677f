"""Geodesics that don't exist, paths that don't fit, means that don't settle: each has its sentence."""

from __future__ import annotations

import pytest
import torch

from brenier import geometry
from brenier.geometry import mean, spaces

X = torch.tensor([[0.5, 0.25], [1.0, 2.0]], dtype=torch.float64)


def flat(x):
    return torch.eye(len(x), dtype=x.dtype)


def disk(x):
    """The flat unit disk, and nothing outside."""
    return flat(x) * torch.where(x @ x < 1, 1.0, torch.nan)


def staircase(x):
    """A metric that jumps at x_1 = 0.3."""
    return flat(x) * torch.where(x[0] < 0.3, 1.0, 4.0)


def test_a_geodesic_that_leaves_the_domain():
    x, v = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    with pytest.raises(ArithmeticError) as caught:
        geometry.exp(disk, torch.stack([x, x]), torch.stack([v / 4, v]))
    sentence = str(caught.value)
    assert sentence.startswith("the geodesic from (0, 0) with velocity (2, 0) leaves the domain of the metric at (")
    reached = float(sentence.rsplit("(", 1)[1].split(",")[0])
    assert 0.99 < reached <= 1


def test_a_metric_that_jumps_changes_the_speed():
    x, v = torch.tensor([[0.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    with pytest.raises(ArithmeticError, match="changes its speed: the metric is not smooth, it ends at"):
        geometry.exp(staircase, x, v)


def test_no_geodesic_within_tol_names_the_pair():
    x, y = torch.tensor([[0.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    good = torch.tensor([0.1, 0.1], dtype=torch.float64)
    with pytest.raises(ArithmeticError, match=r"no geodesic from \(0, 0\) to \(1, 0\.5\) within tol"):
        geometry.distance(staircase, torch.stack([x, x]), torch.stack([good, y]))
    found = geometry.geodesic(staircase, torch.stack([x, x]), torch.stack([good, y]))
    assert found.found.tolist() == [True, False]
    assert not found.converged


def test_a_straight_line_outside_the_domain_asks_for_a_start():
    def ring(x):
        return flat(x) * torch.where(x @ x > 0.25, 1.0, torch.nan)

    x, y = torch.tensor([[-1.0, 0.1], [1.0, 0.1]], dtype=torch.float64)
    with pytest.raises(
        ArithmeticError, match=r"no geodesic from \(-1, 0\.1\) to \(1, 0\.1\).*leaves the domain.*start"
    ):
        geometry.distance(ring, x, y)


@pytest.mark.parametrize(
    ("n", "error", "sentence"),
    [(1, ValueError, "n must be at least 2, got 1"), (2.5, TypeError, "n must be a whole number, got 2.5")],
)
def test_nodes_that_are_too_few(n, error, sentence):
    with pytest.raises(error, match=sentence):
        geometry.geodesic(flat, X[0], X[1], n=n)


@pytest.mark.parametrize("tol", [0.0, -1.0, float("nan")])
def test_a_tolerance_must_be_positive(tol):
    for verb in (geometry.geodesic, geometry.distance, geometry.log):
        with pytest.raises(ValueError, match="tol must be positive, got"):
            verb(flat, X[0], X[1], tol=tol)
    with pytest.raises(ValueError, match="tol must be positive, got"):
        geometry.frechet_mean(flat, X, tol=tol)


def test_a_start_that_leads_elsewhere():
    with pytest.raises(ValueError, match="start must lead from x to y, its ends are other points"):
        geometry.geodesic(flat, X[0], X[1], start=torch.stack([X[0], X[0]]))
    for start in (X[:1], X[None], torch.zeros(2, 3).double()):
        with pytest.raises(ValueError, match=r"start must be \(\.\.\., k, d\) with k at least 2 beside x \(2,\), got"):
            geometry.geodesic(flat, X[0], X[1], start=start)


@pytest.mark.parametrize(
    ("path", "v", "sentence"),
    [
        (X[:1], X[0], "path must be (..., n, d) with n at least 2, got shape (1, 2)"),
        (X[0], X[0], "path must be (..., n, d) with n at least 2, got shape (2,)"),
        (X, X, "v must be (..., d) beside path (..., n, d), got (2, 2)"),
        (X, X[0].float(), "got (2,) torch.float32 cpu beside (2, 2) torch.float64 cpu"),
    ],
)
def test_transport_of_what_does_not_fit(path, v, sentence):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        geometry.parallel_transport(flat, path, v)
    assert sentence in str(caught.value)


def test_transport_across_a_gap_names_a_point():
    path = torch.tensor([[0.0, 0.9], [0.9, 0.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"the metric is not finite at \(0\.190192, 0\.709808\)"):
        geometry.parallel_transport(lambda x: flat(x) * torch.where(x @ x > 0.6, 1.0, torch.nan), path, path[0])


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([1.0, -0.5], "weights must not be negative and must have a positive sum, got one of -0.5"),
        ([0.0, 0.0], "weights must not be negative and must have a positive sum, got one of 0"),
        ([1.0, 1.0, 1.0], "weights must be (2,) or (2,), got (3,)"),
    ],
)
def test_weights_that_are_none(weights, sentence):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        geometry.frechet_mean(flat, X, torch.tensor(weights))
    assert sentence in str(caught.value)


def test_a_mean_needs_points_and_a_fitting_start():
    with pytest.raises(ValueError, match=r"points must be \(\.\.\., k, d\), got shape \(2,\)"):
        geometry.frechet_mean(flat, X[0])
    with pytest.raises(ValueError, match=r"start must be \(2,\), got \(3,\)"):
        geometry.frechet_mean(flat, X, start=torch.zeros(3))


def test_a_mean_that_does_not_settle_says_so(monkeypatch):
    monkeypatch.setattr(mean, "STEPS", 1)
    found = geometry.frechet_mean(spaces.HalfSpace(), torch.tensor([[0.0, 0.1], [3.0, 9.0], [-2.0, 4.0]]).double())
    assert not found.converged
    assert "not converged" in str(found.status)
    assert found.residual > 1e-6
