"""Derivatives that are wrong or missing are refused by name, and metrics that are no torch functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brenier import geometry
from brenier.geometry import forms, jet, spaces

D = torch.float64
Z = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=D)
VERBS = [
    geometry.christoffel,
    geometry.scalar_curvature,
    lambda metric, x: geometry.exp(metric, x, x / 9),
    lambda metric, x: geometry.distance(metric, x, x + 0.1),
]


class Wrong(torch.autograd.Function):
    """x³ with the first derivative 3 x², which says of itself that its own is 5 x."""

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx, grad):
        return WrongSlope.apply(ctx.saved_tensors[0]) * grad


class WrongSlope(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return 3 * x**2

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx, grad):
        return 5 * ctx.saved_tensors[0] * grad


class Cubes(nn.Module):
    def forward(self, x):
        return Wrong.apply(x)


def decoder(layer):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8, dtype=D), layer, nn.Linear(8, 5, dtype=D))


@pytest.mark.parametrize("verb", VERBS)
def test_wrong_second_derivatives_of_a_layer_are_refused_by_its_name(verb):
    metric = geometry.pullback(decoder(Cubes()))
    assert metric.tensor(Z).isfinite().all()  # the first are right
    with pytest.raises(ValueError, match=r"second derivatives of the decoder near .* disagree .* those of Cubes are"):
        verb(metric, Z)


@pytest.mark.parametrize("verb", VERBS[:2])
@pytest.mark.parametrize("layer", [nn.LayerNorm(8, dtype=D), nn.Sequential(nn.SiLU(), nn.LayerNorm(8, dtype=D))])
def test_a_torch_function_that_torch_gets_wrong_is_named(verb, layer, monkeypatch):
    """Without its form."""
    monkeypatch.delitem(forms.FORMS, torch.nn.functional.layer_norm)
    with pytest.raises(ValueError, match="those of layer_norm are wrong in torch"):
        verb(geometry.pullback(decoder(layer)), Z)


@pytest.mark.parametrize("name", ["logdet", "slogdet"])
def test_nested_forward_mode_is_left_where_it_is_wrong(name, monkeypatch):
    """Without a form, reverse mode over itself is right, and is taken."""

    def volume(x):
        a = torch.eye(2, dtype=D) * 2 + torch.outer(x, x.sin())
        return torch.logdet(a) if name == "logdet" else torch.linalg.slogdet(a)[1]

    metric = spaces.conformal(lambda x: torch.eye(2, dtype=D), volume)
    right = geometry.scalar_curvature(metric, Z)
    monkeypatch.setattr(forms, "FORMS", {})
    torch.testing.assert_close(geometry.scalar_curvature(metric, Z), right)


@pytest.mark.parametrize("verb", VERBS[:2])
def test_wrong_derivatives_of_a_metric_are_refused(verb):
    def metric(x):
        return torch.eye(2, dtype=D) * (2 + x.detach() @ x)

    with pytest.raises(ValueError, match=r"derivatives of the metric near .* disagree with differences.*cut off"):
        verb(metric, Z)


def test_a_field_that_cuts_gradients_is_refused():
    with pytest.raises(ValueError, match="first derivatives of the field"):
        geometry.covariant_derivative(lambda x: torch.eye(2, dtype=D), lambda x: x.detach() * 2, Z, Z)


def test_jets_that_are_wrong_are_not_taken(monkeypatch):
    network = decoder(nn.Tanh())
    right = geometry.scalar_curvature(geometry.pullback(network), Z)
    monkeypatch.setitem(jet.RULES, torch.tanh, lambda func, x: jet.Jet.of(x.terms * 1.1, x.i, x.j))
    torch.testing.assert_close(geometry.scalar_curvature(geometry.pullback(network), Z), right)


def in_place(x):
    g = torch.eye(2, dtype=D)
    g[0, 0] = 1 + x[0] ** 2
    return g


def branched(x):
    return torch.eye(2, dtype=D) * (1 if x[0] > 0 else 2)


METRICS = {
    "numpy": lambda x: torch.as_tensor(np.eye(2) * (1 + float(x[0]) ** 2)),
    "numpy_of_the_point": lambda x: torch.from_numpy(np.eye(2) * x.numpy()[1] ** 2 + np.eye(2)),
    "an_array": lambda x: np.eye(2),
    "a_list": lambda x: [[1 + x[0] ** 2, 0.0], [0.0, 1.0]],
    "a_tensor_of_a_list": lambda x: torch.tensor([[1 + x[0] ** 2, 0.0], [0.0, 1.0]], dtype=D),
    "if": branched,
    "in_place": in_place,
    "item": lambda x: torch.eye(2, dtype=D) * (1 + x[0].item() ** 2),
}


@pytest.mark.parametrize("written", METRICS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_metric_that_is_no_torch_function_is_told_how_to_write_it(verb, written):
    with pytest.raises(
        TypeError, match=r"write a metric with torch functions of its point alone.*torch\.where for `if`"
    ):
        verb(METRICS[written], Z)


def test_a_mistake_in_a_metric_is_shown_as_it_is():
    with pytest.raises(RuntimeError, match="size of tensor"):
        geometry.christoffel(lambda x: torch.eye(2, dtype=D) * torch.ones(3, dtype=D), Z)
