"""Curved latent spaces in the whole model, and constraints by name in the training of a chart."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import brenier
from brenier import geometry, manifold
from brenier.riemannian import latent_heads

DRAW = np.random.default_rng(0)
ANGLE = DRAW.uniform(0, 2 * np.pi, 400)
RING = np.stack([np.cos(ANGLE), np.sin(ANGLE), np.cos(ANGLE) * np.sin(ANGLE)], 1).astype(np.float32)


@pytest.fixture(scope="module", params=["sphere", "hyperbolic"])
def model(request):
    return brenier.AEOT(latent_dim=2, latent=request.param, epochs=20, max_samples=50_000).fit(RING)


def test_a_model_with_a_curved_latent_space_samples_saves_and_loads(model, tmp_path):
    samples = model.sample(50)
    nearest = np.linalg.norm(samples[:, None] - RING, axis=-1).min(1)
    assert np.quantile(nearest, 0.8) < 0.3
    model.save(tmp_path / "run")
    again = brenier.load(tmp_path / "run")
    assert again.latent == model.latent
    np.testing.assert_allclose(again.sample(5), model.sample(5), atol=1e-6)


def test_codes_stand_for_points_of_the_latent_space(model):
    decoder = model.chart_.decoder
    inside = decoder.body[0](decoder.code(model.codes_))
    norms = inside.norm(dim=1)
    if model.latent == "sphere":
        torch.testing.assert_close(norms, torch.ones_like(norms))
        torch.testing.assert_close(decoder.code(model.codes_), inside, atol=1e-5, rtol=0)
    else:
        assert norms.max() < 0.996


def test_a_decoder_of_a_curved_latent_space_has_a_metric(model):
    metric = geometry.pullback(model.chart_.decoder)
    values = torch.linalg.eigvalsh(metric(model.codes_[0]))
    assert values[1] > 0
    if model.latent == "sphere":
        assert values[0].abs() < 1e-5 * values[1]


def test_the_ball_head_is_the_exponential_of_geoopt_and_smooth_at_the_origin():
    from brenier.riemannian import PoincareBall

    v = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, head = latent_heads("hyperbolic")
    torch.testing.assert_close(head(v), PoincareBall().expmap0(v, project=False))
    torch.testing.assert_close(torch.func.jacfwd(head)(torch.zeros(3)), torch.eye(3))


def test_a_spec_remembers_its_latent_space_and_an_unknown_one_is_refused():
    spec = manifold.build({"kind": "mlp", "dim": 5, "latent_dim": 2, "latent": "sphere"}).spec
    assert spec["latent"] == "sphere"
    chart = manifold.build(spec)
    torch.testing.assert_close(chart.encode(torch.randn(4, 5)).norm(dim=1), torch.ones(4))
    with pytest.raises(ValueError, match="euclidean, sphere, hyperbolic, got 'flat'"):
        manifold.build({"kind": "mlp", "dim": 5, "latent_dim": 2, "latent": "flat"})
    with pytest.raises(ValueError, match=re.escape("latent 'sphere' needs the library's own networks")):
        brenier.AEOT(latent="sphere", chart="identity").fit(RING)


@pytest.mark.parametrize("constraints", ["stiefel", {"encoder.body.4": "stiefel"}])
def test_a_chart_is_trained_with_orthonormal_rows_and_is_an_ordinary_chart_afterwards(constraints):
    chart = manifold.Chart(*manifold.mlp(3, 2, width=16, generator=0))
    solution = manifold.fit(chart, RING, epochs=20, generator=0, constraints=constraints)
    weight = chart.encoder.body[4].weight
    assert isinstance(weight, nn.Parameter)
    assert not parametrize.is_parametrized(chart.encoder.body[4])
    torch.testing.assert_close(weight @ weight.mT, torch.eye(2), atol=1e-5, rtol=0)
    assert solution.history[-1]["loss"] < 0.5 * solution.history[0]["loss"]


@pytest.mark.parametrize(
    ("constraints", "parts"),
    [
        ({"encoder.head": "stiefel"}, "one of encoder.body.0, encoder.body.2.*got 'encoder.head'"),
        ({"encoder.body.0": "round"}, "stiefel, grassmann.*got 'round'"),
        ("spd", "weight of shape.*n, n"),
    ],
)
def test_bad_constraints_are_refused_before_training(constraints, parts):
    chart = manifold.Chart(*manifold.mlp(3, 2, width=16, generator=0))
    with pytest.raises(ValueError, match=parts):
        manifold.fit(chart, RING, epochs=1, constraints=constraints)
