"""What a pulled-back metric keeps under changes of coordinates, motions and scale, and how smoothing converges."""

from __future__ import annotations

import math
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from brenier import geometry
from brenier.geometry import decoder as derivatives
from brenier.geometry.jet import Unknown, jets
from brenier.geometry.pullback import Pullback, pullback
from brenier.geometry.uncertainty import rbf_deviation
from brenier.manifold.networks import convolutional, mlp


def decode(z):
    square = z.square().sum(1, keepdim=True)
    return torch.cat([z, z.sin() * z.flip(1).cos(), square / 3, (z[:, :1] * z[:, 1:2]).tanh()], 1)


def codes(generator, m=5, d=3):
    return torch.randn(m, d, generator=generator, dtype=torch.float64) / 2


def rotation(generator, k):
    return torch.linalg.qr(torch.randn(k, k, generator=generator, dtype=torch.float64))[0]


def close(a, b, tolerance=1e-10):
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * (1 + float(b.abs().max())))


def test_symmetries_and_the_first_bianchi_identity(generator):
    r = pullback(decode).riemann(codes(generator))
    assert close(r, -r.transpose(1, 2))
    assert close(r, -r.transpose(3, 4))
    assert close(r, r.permute(0, 3, 4, 1, 2))
    assert close(r + torch.einsum("mijkl->miklj", r) + torch.einsum("mijkl->miljk", r), torch.zeros_like(r))


def test_a_change_of_coordinates(generator):
    a = torch.eye(3, dtype=torch.float64) + torch.randn(3, 3, generator=generator, dtype=torch.float64) / 5

    def change(w):
        return w @ a.T + 0.1 * w.square()

    w = codes(generator)
    z, b = change(w), torch.func.vmap(torch.func.jacfwd(lambda w: change(w[None])[0]))(w)
    here, there = pullback(decode), pullback(lambda w: decode(change(w)))
    assert close(there.tensor(w), b.mT @ here.tensor(z) @ b)
    assert close(there.riemann(w), torch.einsum("mabcd,mai,mbj,mck,mdl->mijkl", here.riemann(z), b, b, b, b))
    assert close(geometry.scalar_curvature(there, w), geometry.scalar_curvature(here, z))


def test_motions_and_scale_of_the_data(generator):
    z, turn = codes(generator), rotation(generator, 8)
    here, moved = pullback(decode), pullback(lambda z: 3 * decode(z) @ turn + 1)
    assert close(moved.tensor(z), 9 * here.tensor(z))
    assert close(moved.christoffel(z), here.christoffel(z))
    assert close(moved.riemann(z), 9 * here.riemann(z))


def test_rows_go_their_own_way_and_chunks_do_not_matter(generator, monkeypatch):
    z, v = codes(generator, 3), codes(generator, 3)
    whole = pullback(decode)
    answers = [whole.tensor(z), whole.christoffel(z), whole.riemann(z), whole.acceleration(z, v)]
    monkeypatch.setattr(import_module("brenier.geometry.pullback"), "BUDGET", 1 << 7)
    small = pullback(decode)
    for answer, again in zip(answers, (small.tensor(z), small.christoffel(z), small.riemann(z)), strict=False):
        assert torch.allclose(answer, again, rtol=1e-12, atol=1e-13)
    assert small._blocks(z[:1])[0] == slice(0, 2)  # not all pairs of one point at once
    assert torch.allclose(small.acceleration(z, v), answers[3], rtol=1e-12, atol=1e-13)
    assert torch.allclose(whole.riemann(z.flip(0)).flip(0), answers[2], rtol=1e-12, atol=1e-13)


def test_float32_stays(generator):
    z = codes(generator)
    metric = pullback(decode)
    found = metric.riemann(z.float())
    assert found.dtype == torch.float32
    assert close(found.double(), metric.riemann(z), 1e-4)


def _heads():
    yield "perceptron", mlp(20, 3, generator=0)[1], 3
    yield "images", convolutional((1, 9, 10), 3, width=4, generator=0)[1], 3
    for activation in (nn.GELU(), nn.Softplus(), nn.Mish(), nn.CELU(), nn.LogSigmoid(), nn.Softsign(), nn.Tanhshrink()):
        yield type(activation).__name__, nn.Sequential(nn.Linear(2, 6), activation, nn.Linear(6, 7), nn.Sigmoid()), 2
    norm = nn.BatchNorm2d(3)
    norm.running_mean += 0.3
    yield (
        "layers",
        nn.Sequential(
            nn.Linear(2, 12),
            nn.Unflatten(1, (3, 2, 2)),
            norm,
            nn.Tanh(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.ConvTranspose2d(3, 2, 3),
            nn.ELU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
        ),
        2,
    )


HEADS = list(_heads())


@pytest.mark.parametrize(("module", "d"), [head[1:] for head in HEADS], ids=[head[0] for head in HEADS])
def test_jets_are_the_derivatives(module, d, generator):
    module = module.double().eval()
    z = codes(generator, 4, d)
    i, j = torch.triu_indices(d, d)
    eye = torch.eye(d, dtype=torch.float64)
    slow = derivatives.bend(module, z.repeat_interleave(len(i), 0), eye[i].repeat(4, 1), eye[j].repeat(4, 1))
    first, second = derivatives.second_order(module, z, i, j)
    assert torch.allclose(first, derivatives.jacobian(module, z), rtol=1e-11, atol=1e-14)
    assert torch.allclose(second, slow.view(second.shape), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("function", "known"),
    [
        (lambda z: z * z.sin() + 2 - z / 3 - (1 - z).exp(), True),
        (lambda z: (z[:, :1] * z[:, 1:] + z[:, :1]).view(len(z), -1), True),
        (lambda z: torch.stack([z[:, 0], z[:, 1], z[:, 0] * z[:, 1]], 1), False),
        (lambda z: torch.where(z[:, :1] > 0, z.sin(), z.cos()), False),
        (lambda z: z.softmax(1), False),
        (lambda z: z * z.T[0][:, None], False),
    ],
)
def test_what_jets_do_not_know_they_leave_alone(function, known, generator):
    z, (i, j) = codes(generator, 4, 2), torch.triu_indices(2, 2)
    if not known:
        with pytest.raises(Unknown):
            jets(function, z, i, j)
    eye = torch.eye(2, dtype=torch.float64)
    slow = derivatives.bend(function, z.repeat_interleave(3, 0), eye[i].repeat(4, 1), eye[j].repeat(4, 1))
    assert torch.allclose(derivatives.second_order(function, z, i, j)[1], slow.view(4, 3, -1), rtol=1e-12, atol=1e-14)


def test_gradients_reach_codes_and_parameters(generator):
    linear = nn.Linear(3, 8).double()
    z = codes(generator).requires_grad_()
    metric = pullback(nn.Sequential(linear, nn.Tanh()))
    geometry_loss = metric.riemann(z).square().sum() + metric.squared(z, torch.ones_like(z)).sum()
    geometry_loss.backward()
    assert z.grad.abs().sum() > 0
    assert linear.weight.grad.abs().sum() > 0


BENDS = [
    F.relu,
    torch.relu,
    lambda x: F.leaky_relu(x, 0.2),
    lambda x: F.prelu(x, torch.tensor([0.3], dtype=x.dtype)),
    nn.RReLU().eval(),
    F.hardtanh,
    F.relu6,
    F.hardsigmoid,
    F.hardswish,
    F.softshrink,
    lambda x: F.elu(x, 2.0),
    F.selu,
    lambda x: F.max_pool1d(x[:, None], 2)[:, 0],
    lambda x: F.max_pool1d(x[:, None], 3, 1, 1)[:, 0],
    nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.MaxPool2d(2), nn.Flatten()),
    lambda x: x.clamp(-0.5, 0.5),
    lambda x: x.clamp(min=0.1),
    lambda x: torch.clip(x, max=0.1),
    lambda x: x.clamp_min(0.1),
    lambda x: abs(x),
    torch.abs,
    lambda x: torch.maximum(x, x.flip(1)),
    lambda x: torch.minimum(x, x.flip(1) / 2),
    lambda x: x.amax(1, keepdim=True),
    lambda x: x.amin(1)[:, None],
    lambda x: (x + 0).relu_(),
    nn.ReLU(inplace=True),
    nn.LeakyReLU(0.1, inplace=True),
    lambda x: (x + 0).clamp_(0, 1),
]


@pytest.mark.parametrize("bend", range(len(BENDS)))
def test_every_bend_is_seen_and_smoothed_at_the_rate_of_beta(bend, generator):
    a = torch.randn(2, 4, generator=generator, dtype=torch.float64)

    def function(z):
        return BENDS[bend](torch.cat([z, z, z, z], 1)[:, :4] @ a.T @ a)

    z = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    with pytest.raises(ValueError, match="crease_curvature"):
        pullback(function).christoffel(z[:1])
    exact = function(z)
    errors = [float((pullback(function, smooth=beta).through(z) - exact).abs().max()) for beta in (1e2, 1e3, 1e4)]
    assert errors[2] < 1e-3
    assert errors[1] < 100 * math.log(2) / 1e3
    assert errors[0] / errors[2] > 20
    assert torch.equal(function(z), exact)


def test_the_bound_of_the_smoothing_is_reached_at_the_crease():
    for beta in (1.0, 10.0, 100.0):
        metric = pullback(nn.ReLU(), smooth=beta)
        assert metric.through(torch.zeros(1, 1, dtype=torch.float64)).item() == pytest.approx(math.log(2) / beta)


def test_smoothing_leaves_the_module_alone(generator):
    module = nn.Sequential(nn.Linear(2, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)).double()
    before, z = {k: v.clone() for k, v in module.state_dict().items()}, codes(generator, 6, 2)
    exact = module(z)
    metric = pullback(module, smooth=5.0)
    assert metric.decode is module
    assert geometry.scalar_curvature(metric, z).abs().max() > 1e-3
    assert torch.equal(module(z), exact)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert [type(part) for part in module] == [nn.Linear, nn.ReLU, nn.Linear]


def test_the_curvature_of_a_smoothed_pyramid_is_the_defect_of_its_apex():
    def pyramid(z):
        return torch.cat([z, z.abs().sum(1, keepdim=True)], 1)

    places, weights = np.polynomial.legendre.leggauss(80)
    s, w = torch.from_numpy(np.stack([places, weights]))
    z = torch.cartesian_prod(s, s)
    for beta in (16.0, 20.0):
        metric = pullback(pyramid, smooth=beta)
        density = geometry.scalar_curvature(metric, z) / 2 * geometry.volume_density(metric, z)
        total = (density * torch.outer(w, w).flatten()).sum()
        assert total.item() == pytest.approx(2 * math.pi - 4 * math.acos(1 / 2), abs=1e-4)


def test_the_expected_metric_is_the_sum_of_two(generator):
    def sigma(z):
        return z.square() + 1

    z = codes(generator)
    both = pullback(decode, deviation=sigma)
    assert close(both.tensor(z), pullback(decode).tensor(z) + pullback(sigma).tensor(z))

    def alone(x):
        return both(x)

    assert close(both.riemann(z), geometry.riemann(alone, z), 1e-8)


def annulus(generator, n=600):
    angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    radius = 1 + 0.1 * torch.randn(n, generator=generator, dtype=torch.float64)
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


def test_a_geodesic_goes_around_the_hole(generator):
    z = annulus(generator)
    sigma = rbf_deviation(lambda z: z, z, near=0.1, far=3.0, centres=24, bandwidth=1.5)
    a, b = torch.tensor([[1.0, 0.0], [-1.0, 0.2]], dtype=torch.float64)
    found = geometry.geodesic(pullback(lambda z: z, deviation=sigma), a, b, tol=1e-3)
    assert found.path.norm(dim=1).min() > 0.5
    assert found.length > 2.2


def length(metric: Pullback, path):
    middle = (path[1:] + path[:-1]) / 2
    return metric.squared(middle, path.diff(dim=0)).sqrt().sum().item()


def test_a_way_around_a_hole_is_shorter_than_through_it(generator):
    z = annulus(generator)
    metric, plain = pullback(lambda z: z, codes=z), pullback(lambda z: z)
    t = torch.linspace(0, 1, 400, dtype=torch.float64)[:, None]
    a, b = torch.tensor([[1.0, 0.0], [-1.0, 0.2]], dtype=torch.float64)
    turn = math.pi * t
    straight, around = a + t * (b - a), torch.cat([turn.cos(), turn.sin()], 1)
    assert length(plain, straight) < length(plain, around)
    assert length(metric, straight) > 2 * length(metric, around)
    assert length(metric, around) < 1.1 * math.pi


def test_the_deviation_is_small_on_the_codes_and_large_away(generator):
    z = annulus(generator)
    sigma = rbf_deviation(lambda z: z, z, near=0.02, far=5.0)
    away = torch.tensor([[0.0, 0.0], [4.0, 4.0]], dtype=torch.float64)
    assert torch.allclose(sigma(away), torch.full((2, 1), 5.0, dtype=torch.float64), rtol=1e-2)
    assert sigma(z).median().item() == pytest.approx(0.02, rel=0.1)
    again = rbf_deviation(lambda z: z, z, near=0.02, far=5.0)
    assert torch.equal(sigma(z), again(z))
