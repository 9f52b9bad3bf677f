"""Constrained weights stay on their manifold under any optimiser, keep their gradient tangent, and round-trip."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from brenier.riemannian import RSGD, ManifoldParameter, RAdam, Sphere, Stiefel, constrain, constraint_error

OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "muon": lambda p: torch.optim.Muon([q for q in p if q.ndim == 2], lr=0.01),
}


def network(dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 4)).to(dtype)


def train(model, optimiser, steps, dtype=torch.float32):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(64, 6, dtype=dtype, generator=draw)
    y = torch.sin(x[:, :4]) + x[:, 2:6] / 3
    losses = []
    for _ in range(steps):
        rows = torch.randint(64, (16,), generator=draw)
        loss = (model(x[rows]) - y[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("manifold", ["stiefel", "sphere", "grassmann"])
def test_any_optimiser_keeps_the_constraint_and_lowers_the_loss(name, manifold):
    model = network()
    constrain(model[0], "weight", manifold)
    constrain(model[2], "weight", manifold)
    losses = train(model, OPTIMISERS[name](model.parameters()), 200)
    assert constraint_error(model) <= 1e-6
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_the_error_stays_below_a_millionth_for_ten_thousand_steps_in_float32(name):
    model = network()
    constrain(model[0], "weight", "stiefel")
    constrain(model[2], "weight", Sphere())
    train(model, OPTIMISERS[name](model.parameters()), 10_000)
    assert constraint_error(model) <= 1e-6


@pytest.mark.parametrize(
    ("layer", "name", "shape"),
    [
        (nn.Linear(9, 4), "weight", (4, 9)),
        (nn.Linear(4, 9), "weight", (9, 4)),
        (nn.Conv2d(3, 8, 3), "weight", (8, 27)),
        (nn.ConvTranspose2d(3, 8, 3), "weight", (3, 72)),
        (nn.RNN(5, 7), "weight_hh_l0", (7, 7)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else None,
)
def test_weights_of_any_layer_have_orthonormal_rows_or_columns(layer, name, shape):
    constrain(layer, name, Stiefel())
    matrix = getattr(layer, name).flatten(1)
    assert matrix.shape == shape
    gram = matrix @ matrix.mT if shape[0] < shape[1] else matrix.mT @ matrix
    torch.testing.assert_close(gram, torch.eye(min(shape)), atol=1e-6, rtol=0)


def test_a_plain_gradient_step_is_the_riemannian_one():
    model = constrain(network(torch.float64)[0], "weight", "stiefel")
    before = model.weight.detach().clone()
    target = torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (model.weight * target).sum().backward()
    gradient = Stiefel().egrad2rgrad(before, target)
    torch.testing.assert_close(model.parametrizations.weight.original.grad, gradient)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    torch.testing.assert_close(model.weight.detach(), Stiefel().projx(before - 0.1 * gradient))


def test_a_state_dict_makes_the_same_network_and_the_constraint_can_be_taken_off():
    first, second = network(), network()
    for model in (first, second):
        constrain(model[0], "weight", "stiefel")
    train(first, OPTIMISERS["adam"](first.parameters()), 20)
    second.load_state_dict(first.state_dict())
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(second(x), first(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(copy.deepcopy(first)(x), first(x), atol=1e-6, rtol=0)
    parametrize.remove_parametrizations(first[0], "weight")
    torch.testing.assert_close(first(x), second(x), atol=1e-6, rtol=0)
    assert isinstance(first[0].weight, nn.Parameter)
    assert constraint_error(first) == 0


def test_two_forward_passes_before_one_backward_and_derivatives_by_functions():
    layer = constrain(nn.Linear(5, 3), "weight", "stiefel").double()
    x = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    (layer(x).square().sum() + layer(2 * x).sum()).backward()
    weight = layer.weight.detach()
    _, tangent = torch.func.jvp(layer, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.ones_like(x) @ weight.mT)
    rows = torch.func.vmap(torch.func.jacrev(layer))(x)
    torch.testing.assert_close(rows, weight.expand(4, 3, 5))


def test_an_orthogonal_recurrence_keeps_the_norm_of_gradients():
    rnn = constrain(nn.RNN(2, 8, nonlinearity="relu", bias=False), "weight_hh_l0", "stiefel")
    h = torch.randn(8, generator=torch.Generator().manual_seed(5))
    w = rnn.weight_hh_l0.detach()
    assert torch.linalg.matrix_power(w, 500).mv(h).norm() == pytest.approx(float(h.norm()), rel=1e-3)
    out, _ = rnn(torch.ones(6, 1, 2))
    out.sum().backward()
    assert rnn.parametrizations.weight_hh_l0.original.grad.isfinite().all()


@pytest.mark.parametrize("make", [lambda p: RSGD(p, lr=0.1, momentum=0.5), lambda p: RAdam(p, lr=0.05)])
def test_optimisers_of_geoopt_move_parameters_on_manifolds_of_this_package(make):
    a = torch.diag(torch.arange(1.0, 7.0, dtype=torch.float64))
    start = Stiefel().projx(torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6)))
    x = ManifoldParameter(start, manifold=Stiefel())
    optimiser = make([x])
    for _ in range(300):
        optimiser.zero_grad()
        (-(x.mT @ a @ x).trace()).backward()
        optimiser.step()
    assert float((x.mT @ a @ x).trace().detach()) == pytest.approx(11, abs=1e-3)
    assert Stiefel().error(x.detach()) < 1e-12
