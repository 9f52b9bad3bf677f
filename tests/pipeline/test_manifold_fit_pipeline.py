"""A chart's training by natural gradient, and `AEOT` with it."""

import copy
import shutil

import pytest
import torch

import brenier
from brenier import data, manifold


def trained(optimizer, epochs, **options):
    digits = data.load("digits", limit=400)
    chart = manifold.build(
        {"kind": "convolutional", "shape": list(digits.layout.network_shape), "latent_dim": 10}, generator=0
    )
    convert = digits.layout.to_network
    options = {"epochs": epochs, "optimizer": optimizer, "generator": 0, "to_network": convert, **options}
    return chart, manifold.fit(chart, digits.values, **options).history


def test_natural_gradient_needs_half_of_the_steps():
    assert trained("natural", 6)[1][-1]["validation"] < trained("adamw", 12)[1][-1]["validation"]


@pytest.mark.parametrize("optimizer", manifold.OPTIMIZERS)
def test_coarse_products_end_where_fine_ones_do(optimizer):
    fine, coarse = (trained(optimizer, 6, precision=precision) for precision in manifold.PRECISIONS)
    assert coarse[1][-1]["validation"] < 1.1 * fine[1][-1]["validation"]
    assert coarse[1][0]["loss"] != fine[1][0]["loss"]
    assert {p.dtype for p in coarse[0].parameters()} == {torch.float32}


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
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, got 'half'"):
        manifold.fit(chart, x, precision="half")
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, got 'float16'"):
        brenier.AEOT(precision="float16").fit(x)
    with pytest.raises(ValueError, match="constraints need weights, got 'stiefel' for a chart without any"):
        brenier.AEOT(chart="identity", constraints="stiefel").fit(x)
    with pytest.raises(ValueError, match="optimizer must be one of adamw, natural, got 'adam'"):
        brenier.AEOT(optimizer="adam").fit(x)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch itself, as it compiles
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++ here")
def test_a_chart_compiled_in_place_trains_and_keeps_its_names():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    chart = manifold.build({"kind": "mlp", "dim": 3, "latent_dim": 2}, generator=0)
    names = list(chart.state_dict())
    plain = copy.deepcopy(chart)
    chart.encoder.compile()
    chart.decoder.compile()
    losses = [manifold.fit(c, x, epochs=2, generator=0).history[-1]["loss"] for c in (chart, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert list(chart.state_dict()) == names
