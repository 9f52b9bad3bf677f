"""Every bad decoder, code and setting of a pulled-back metric, each with its sentence."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from brenier import geometry
from brenier.geometry.pullback import pullback
from brenier.geometry.uncertainty import rbf_deviation

Z = torch.tensor([[0.3, -0.2], [1.0, 0.5], [-0.7, 0.1]], dtype=torch.float64)


def curved(z):
    return torch.cat([z, z.square().sum(1, keepdim=True)], 1)


class Kinked(torch.autograd.Function):
    """A bend of which nothing but its derivatives can be known."""

    @staticmethod
    def forward(x):
        return torch.where(x > 0, x, 0.1 * x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx, grad):
        return torch.where(ctx.saved_tensors[0] > 0, grad, 0.1 * grad)

    @staticmethod
    def jvp(ctx, tangent):
        return torch.where(ctx.saved_tensors[0] > 0, tangent, 0.1 * tangent)


def mixed(z):
    return torch.cat([z[:, :1], z @ torch.ones(2, 1, dtype=z.dtype), z - 0.1], 1)


PIECEWISE = {
    "a module": nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)).double(),
    "a smooth layer behind": nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(), nn.Linear(8, 3), nn.Sigmoid()).double(),
    "a function": lambda z: F.relu(mixed(z)) + mixed(z),
    "where": lambda z: torch.where(mixed(z) > 0, mixed(z), mixed(z) / 3),
    "a mask": lambda z: mixed(z) * (mixed(z) > 0) + mixed(z),
    "a sort": lambda z: torch.sort(mixed(z), 1).values,
    "its own derivatives": lambda z: Kinked.apply(mixed(z)),
}


@pytest.mark.parametrize("name", PIECEWISE)
def test_creases_are_never_a_silent_zero(name):
    metric, v = pullback(PIECEWISE[name]), torch.ones_like(Z)
    assert metric.tensor(Z).isfinite().all()
    assert metric.squared(Z, v).isfinite().all()
    calls = [
        lambda: metric.riemann(Z),
        lambda: metric.christoffel(Z),
        lambda: metric.acceleration(Z, v),
        lambda: geometry.scalar_curvature(metric, Z),
        lambda: geometry.christoffel(metric, Z[:1]),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match=r"creases \(.*pullback\(decode, smooth=beta\) or geometry.crease_curvature"
        ):
            call()


def test_the_bends_are_named():
    with pytest.raises(ValueError, match=r"creases \(leaky_relu, hardtanh\)"):
        pullback(lambda z: F.hardtanh(F.leaky_relu(curved(z)))).riemann(Z)


def test_bends_of_parameters_alone_are_none():
    weight = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert geometry.scalar_curvature(pullback(lambda z: (z @ weight.abs()).sin()), Z).isfinite().all()


@pytest.mark.parametrize("beta", [0, -1.0, float("inf"), float("nan"), "2"])
def test_smooth_must_be_positive_and_finite(beta):
    with pytest.raises(ValueError, match=f"smooth must be a positive finite number, got {beta}"):
        pullback(curved, smooth=beta)


def test_what_has_no_smooth_form():
    decode = nn.Sequential(nn.Unflatten(1, (1, 2)), nn.MaxPool1d(2, ceil_mode=True), nn.Flatten())
    with pytest.raises(ValueError, match="dilation, ceil_mode or return_indices"):
        pullback(decode, smooth=1.0).tensor(Z)


def test_a_decoder_is_called():
    with pytest.raises(TypeError, match=r"decode must be a function or module .* got int"):
        pullback(3)


@pytest.mark.parametrize(
    ("decode", "error", "sentence"),
    [
        (lambda z: z[:2], ValueError, r"one row for each of the \d codes, got shape \(2, 2\)|one row"),
        (lambda z: z.sum(), ValueError, r"one row for each of the 2 codes, got shape \(\)"),
        (lambda z: z.float(), TypeError, r"keep the dtype of its codes, torch.float64, got torch.float32"),
        (lambda z: z.numpy(), TypeError, "must return a tensor, got ndarray"),
        (lambda z: z.detach(), ValueError, "cuts gradients"),
        (lambda z: torch.ones_like(z), ValueError, "cuts gradients .* or ignores its codes"),
        (lambda z: z / 0 * z, ValueError, r"NaN or Inf at \(0.3, -0.2\)"),
        (lambda z: z - z.mean(0), ValueError, r"at \(0.3, -0.2\) depends on the other rows"),
        (lambda z: F.dropout(curved(z).repeat(1, 40), 0.5, training=True), ValueError, "or on chance"),
    ],
)
@pytest.mark.parametrize("method", ["tensor", "riemann"])
def test_decoders_without_a_geometry(decode, error, sentence, method):
    with pytest.raises(error, match=sentence):
        getattr(pullback(decode), method)(Z)


def test_no_grad_is_found():
    module = nn.Linear(2, 3).double()

    def inference(z):
        with torch.no_grad():
            return module(z)

    with pytest.raises(ValueError, match="cuts gradients"):
        pullback(inference).tensor(Z)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.1)])
def test_training_mode_is_refused_before_anything_runs(layer):
    module = nn.Sequential(nn.Linear(2, 4), layer).double()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(ValueError, match=f"{type(layer).__name__} is in training mode: call its eval"):
        pullback(module).tensor(Z)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert pullback(module.eval()).tensor(Z).isfinite().all()


def test_a_module_in_training_without_such_layers_passes():
    assert pullback(nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Dropout(0.0)).double()).tensor(Z).isfinite().all()


def test_codes_of_another_dtype():
    with pytest.raises(TypeError, match=r"one dtype, got torch.float64 and torch.float32"):
        pullback(nn.Linear(2, 3)).tensor(Z)


@pytest.mark.parametrize(("z", "shape"), [(Z[0], r"\(2,\)"), (Z[:0], r"\(0, 2\)"), (Z[None], r"\(1, 3, 2\)")])
def test_codes_of_a_wrong_shape(z, shape):
    with pytest.raises(ValueError, match=rf"codes must be a tensor \(m, d\) .* got shape {shape}"):
        pullback(curved).tensor(z)


def test_a_rank_deficient_jacobian_names_its_point():
    metric = pullback(lambda z: torch.cat([z.square(), z[:, :1]], 1))
    z = torch.tensor([[1.0, 1.0], [0.5, 0.0]], dtype=torch.float64)
    for call in (metric.riemann, metric.christoffel, lambda z: metric.acceleration(z, z)):
        with pytest.raises(ValueError, match=r"Jacobian is rank-deficient or not finite at \(0.5, 0\)"):
            call(z)
    with pytest.raises(ValueError, match=r"not positive definite at \(0.5, 0\)"):
        geometry.riemann(metric, z)


def test_a_narrow_decoder_is_rank_deficient():
    module = nn.Sequential(nn.Linear(2, 1), nn.Tanh(), nn.Linear(1, 20)).double()
    with pytest.raises(ValueError, match="rank-deficient"):
        pullback(module).riemann(Z)


def test_a_later_point_outside_the_domain_is_named():
    metric = pullback(lambda z: torch.cat([z, z[:, :1].sqrt()], 1))
    with pytest.raises(ValueError, match=r"not finite at \(-0.7, 0.1\)"):
        metric.riemann(Z)


def test_codes_or_deviation():
    with pytest.raises(ValueError, match="codes or a deviation, not both"):
        pullback(curved, codes=Z, deviation=curved)


@pytest.mark.parametrize(
    ("codes", "settings", "sentence"),
    [
        (Z[:1], {}, r"n at least 2, got shape \(1, 2\)"),
        (Z / 0, {}, "finite"),
        (Z, {"centres": 0}, "centres must be at least 1 and bandwidth positive, got 0 and 1"),
        (Z, {"bandwidth": 0.0}, "got 64 and 0"),
        (Z, {"near": 2.0, "far": 1.0}, "0 < near < far, got near 2.0 and far 1.0"),
        (Z[:1].expand(5, 2), {}, "0 < near < far, got near 0"),
    ],
)
def test_deviations_that_cannot_be(codes, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        rbf_deviation(curved, codes, **settings)
