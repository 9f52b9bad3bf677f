"""A chart's training by natural gradient, and `AEOT` with it."""

import pytest
import torch

import brenier
from brenier import data, manifold


def trained(optimizer, epochs):
    digits = data.load("digits", limit=400)
    chart = manifold.build(
        {"kind": "convolutional", "shape": list(digits.layout.network_shape), "latent_dim": 10}, generator=0
    )
    convert = digits.layout.to_network
    return manifold.fit(chart, digits.values, epochs=epochs, optimizer=optimizer, generator=0, to_network=convert)


def test_natural_gradient_needs_half_of_the_steps():
    assert trained("natural", 6).history[-1]["validation"] < trained("adamw", 12).history[-1]["validation"]


def test_the_model_takes_optimizer_latent_and_constraints():
    x = data.swiss_roll(300, generator=torch.Generator().manual_seed(0)).values
    options = {"latent_dim": 2, "epochs": 2, "tol": 1.0, "optimizer": "natural", "constraints": "stiefel"}
    model = brenier.AEOT(**options).fit(x)
    weight = [layer for layer in model.chart_.encoder.modules() if isinstance(layer, torch.nn.Linear)][-1].weight
    weight = weight.detach().double()
    assert torch.allclose(weight @ weight.mT, torch.eye(len(weight), dtype=torch.float64), atol=1e-5)
    assert model.sample(3).shape == (3, 3)


def test_unknown_names_are_refused():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    chart = manifold.build({"kind": "mlp", "dim": 3, "latent_dim": 2}, generator=0)
    with pytest.raises(ValueError, match="optimizer must be one of adamw, natural, got 'newton'"):
        manifold.fit(chart, x, optimizer="newton")
    with pytest.raises(ValueError, match="constraints need weights, got 'stiefel' for a chart without any"):
        brenier.AEOT(chart="identity", constraints="stiefel").fit(x)
    with pytest.raises(ValueError, match="optimizer must be one of adamw, natural, got 'adam'"):
        brenier.AEOT(optimizer="adam").fit(x)
