"""Curvature of metrics made of functions that torch differentiates wrongly, against closed forms and differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import jacfwd, jacrev

from brenier import geometry
from brenier.geometry import spaces

D = torch.float64
A = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=D)
POINTS = torch.randn(3, 2, generator=torch.Generator().manual_seed(1), dtype=D) / 2


def matrix(x):
    half = torch.eye(3, dtype=x.dtype) + (A * x.sin()[:, None, None]).sum(0)
    return half @ half.mT + torch.eye(3, dtype=x.dtype)


def flat(x):
    return torch.eye(2, dtype=x.dtype)


def laplacian(f, x, h=1e-3):
    """By differences of order 6."""
    weights = {0: -49 / 18, 1: 3 / 2, 2: -3 / 20, 3: 1 / 90}
    steps = [(weights[abs(k)], k * h * e) for e in torch.eye(2, dtype=D) for k in range(-3, 4)]
    return sum(c * f(x + step) for c, step in steps) / h**2


EXPONENTS = {
    "logdet": lambda x: torch.logdet(matrix(x)) / 2,
    "slogdet": lambda x: torch.linalg.slogdet(matrix(x))[1] / 2,
    "det": lambda x: torch.linalg.det(matrix(x)).pow(0.1),
    "method_det": lambda x: matrix(x).det().log() / 3,
    "solve": lambda x: torch.linalg.solve(matrix(x), torch.ones(3, dtype=D)).sum(),
    "solve_matrix": lambda x: torch.linalg.solve(matrix(x), matrix(x.flip(0))).diagonal().sum() / 3,
    "inv": lambda x: torch.linalg.inv(matrix(x)).sum(),
    "cholesky_inverse": lambda x: torch.cholesky_inverse(torch.linalg.cholesky(matrix(x))).sum(),
    "layer_norm": lambda x: F.layer_norm(matrix(x)[0], (3,)).square().square().sum() / 9,
    "group_norm": lambda x: F.group_norm(matrix(x).reshape(1, 3, 3), 1).pow(4).sum() / 30,
    "cdist": lambda x: torch.cdist(matrix(x), A[0]).sum() / 9,
    "huber": lambda x: F.huber_loss(matrix(x), A[0], delta=100.0) / 9,
    "silu": lambda x: F.silu(matrix(x)).sum() / 9,
    "grid_sample": lambda x: F.grid_sample(
        matrix(x)[None, None], torch.tensor([[[[0.3, 0.2]]]], dtype=D), align_corners=False
    ).sum(),
}


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_a_conformal_metric(exponent):
    """K = −e^(−2 φ) Δφ of e^(2 φ) I, φ^k_ij by the slopes of φ, and exp beside log."""
    phi = EXPONENTS[exponent]
    metric = spaces.conformal(flat, phi)
    found = geometry.scalar_curvature(metric, POINTS)
    true = torch.stack([-2 * torch.exp(-2 * phi(x)) * laplacian(phi, x) for x in POINTS])
    torch.testing.assert_close(found, true, rtol=1e-6, atol=1e-7)
    h = 1e-5 * torch.eye(2, dtype=D)
    slope = torch.stack([torch.stack([(phi(x + e) - phi(x - e)) / 2e-5 for e in h]) for x in POINTS])
    gamma = geometry.christoffel(metric, POINTS)
    torch.testing.assert_close(gamma[:, 0, 0, :], slope, rtol=1e-6, atol=1e-8)
    x, y = POINTS[:1], POINTS[:1] + 0.01
    v = geometry.log(metric, x, y, tol=1e-4)
    torch.testing.assert_close(geometry.exp(metric, x, v), y, rtol=0, atol=1e-7)
    path = torch.stack([x, (x + y) / 2, y], 1)
    carried = geometry.parallel_transport(metric, path, v)[:, -1]
    before, after = (torch.exp(phi(p)) * u.norm() for p, u in ((x[0], v), (y[0], carried)))
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize("derivative", [jacfwd, jacrev])
@pytest.mark.parametrize("norm", [nn.LayerNorm(8, dtype=D), nn.GroupNorm(2, 8, dtype=D), nn.SiLU()])
def test_a_metric_that_differentiates_a_network_itself(norm, derivative):
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(2, 8, dtype=D), norm, nn.Tanh(), nn.Linear(8, 5, dtype=D))

    def metric(x):
        j = derivative(lambda x: network(x[None])[0])(x)
        return j.mT @ j

    found = geometry.scalar_curvature(metric, POINTS)
    torch.testing.assert_close(geometry.scalar_curvature(geometry.pullback(network), POINTS), found)


def by_hand(h):
    """Layer normalisation in words."""
    apart = h - h.mean(1, keepdim=True)
    return apart / (apart.square().mean(1, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_a_decoder_with_a_layer_norm_is_the_same_written_by_hand(seed, dtype):
    torch.manual_seed(seed)
    one, two = nn.Linear(2, 8, dtype=dtype), nn.Linear(8, 5, dtype=dtype)
    written = lambda z: two(torch.tanh(by_hand(one(z))))  # noqa: E731
    z = torch.randn(20, 2, dtype=dtype)
    decoder = nn.Sequential(one, nn.LayerNorm(8, elementwise_affine=False), nn.Tanh(), two)
    found, true = (geometry.scalar_curvature(geometry.pullback(g), z) for g in (decoder, written))
    torch.testing.assert_close(found, true, rtol=1e-2 if dtype == torch.float32 else 1e-7, atol=1e-4)
    scaled = spaces.conformal(geometry.pullback(decoder), lambda x: 0.0 * x.sum())
    if dtype == D:
        torch.testing.assert_close(geometry.scalar_curvature(scaled, z[:4]), true[:4], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ["categorical", "bernoulli", "gaussian"])
@pytest.mark.parametrize("layer", [nn.LayerNorm(8, dtype=D), nn.InstanceNorm1d(2, dtype=D), nn.Mish(), nn.GLU()])
def test_fisher_metrics(layer, family):
    torch.manual_seed(3)
    middle = (
        nn.Sequential(nn.Unflatten(1, (2, 4)), layer, nn.Flatten()) if "Instance" in type(layer).__name__ else layer
    )
    width = 4 if isinstance(layer, nn.GLU) else 8
    classifier = nn.Sequential(nn.Linear(2, 8, dtype=D), middle, nn.Linear(width, 6, dtype=D))
    embedded = geometry.fisher_metric(classifier, family)

    def plain(x):
        head = lambda x: classifier(x[None])[0]  # noqa: E731
        j, out = jacrev(head)(x), head(x)
        if family == "categorical":
            fisher = out.softmax(0).diag() - torch.outer(out.softmax(0), out.softmax(0))
        elif family == "bernoulli":
            fisher = (out.sigmoid() * (1 - out.sigmoid())).diag()
        else:
            fisher = torch.cat([torch.exp(-2 * out[3:]), torch.full((3,), 2.0, dtype=D)]).diag()
        return j.mT @ fisher @ j

    for verb in (geometry.christoffel, geometry.scalar_curvature):
        torch.testing.assert_close(verb(embedded, POINTS), verb(plain, POINTS), rtol=1e-6, atol=1e-7)
