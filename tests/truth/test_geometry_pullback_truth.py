"""Decoders whose geometry is known, against the quick methods of the pulled-back metric and the verbs that use them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from brenier import geometry
from brenier.geometry.pullback import pullback


def sphere(z):
    u, v = z.T
    return torch.stack([u.sin() * v.cos(), u.sin() * v.sin(), u.cos()], 1)


def torus(z):
    u, v = z.T
    ring = 2 + u.cos()
    return torch.stack([ring * v.cos(), ring * v.sin(), u.sin()], 1)


def paraboloid(z):
    return torch.cat([z, z.square().sum(1, keepdim=True) / 2], 1)


def cylinder(z):
    return torch.stack([z[:, 0].cos(), z[:, 0].sin(), z[:, 1]], 1)


def catenoid(z):
    u, v = z.T
    return torch.stack([u.cosh() * v.cos(), u.cosh() * v.sin(), u], 1)


def helicoid(z):
    u, v = z.T
    return torch.stack([u.sinh() * v.cos(), u.sinh() * v.sin(), v], 1)


def veronese(z):
    """The projective plane in S⁴: an isometric image of half a sphere of radius √3."""
    x, y, w = sphere(z).T * 3**0.5
    parts = [y * w, x * w, x * y, (x.square() - y.square()) / 2, (x.square() + y.square() - 2 * w.square()) / 12**0.5]
    return torch.stack(parts, 1) / 3**0.5


def hypersphere(z):
    """The unit sphere of four dimensions by stereographic projection."""
    square = z.square().sum(1, keepdim=True)
    return torch.cat([2 * z, square - 1], 1) / (1 + square)


GAUSS = [
    (sphere, lambda z: torch.ones(len(z))),
    (torus, lambda z: z[:, 0].cos() / (2 + z[:, 0].cos())),
    (paraboloid, lambda z: (1 + z.square().sum(1)) ** -2),
    (cylinder, lambda z: torch.zeros(len(z))),
    (catenoid, lambda z: -(z[:, 0].cosh() ** -4)),
    (helicoid, lambda z: -(z[:, 0].cosh() ** -4)),
    (veronese, lambda z: torch.full((len(z),), 1 / 3)),
]


def codes(generator, m, d=2):
    return 0.3 + torch.rand(m, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("decode", "curvature"), GAUSS, ids=lambda f: f.__name__)
def test_gauss_curvature_of_known_surfaces(decode, curvature, generator):
    z = codes(generator, 40)
    found = geometry.scalar_curvature(pullback(decode), z) / 2
    assert torch.allclose(found, curvature(z).double(), rtol=0, atol=1e-8)


def test_a_sphere_of_four_dimensions_has_curvature_one(generator):
    z, metric = codes(generator, 10, 4), pullback(hypersphere)
    g = metric.tensor(z)
    expected = torch.einsum("mik,mjl->mijkl", g, g) - torch.einsum("mil,mjk->mijkl", g, g)
    assert torch.allclose(metric.riemann(z), expected, rtol=0, atol=1e-8)


def test_catenoid_and_helicoid_are_isometric(generator):
    z = codes(generator, 20)
    one, other = pullback(catenoid), pullback(helicoid)
    for method in ("tensor", "christoffel", "riemann"):
        assert torch.allclose(getattr(one, method)(z), getattr(other, method)(z), rtol=0, atol=1e-12)


def test_christoffel_symbols_of_the_sphere(generator):
    z = codes(generator, 5)
    symbols = pullback(sphere).christoffel(z)
    u = z[:, 0]
    expected = torch.zeros(5, 2, 2, 2, dtype=torch.float64)
    expected[:, 0, 1, 1] = -u.sin() * u.cos()
    expected[:, 1, 0, 1] = expected[:, 1, 1, 0] = u.cos() / u.sin()
    assert torch.allclose(symbols, expected, rtol=0, atol=1e-12)


def network(generator, *sizes):
    layers = []
    for a, b in pairwise(sizes):
        linear = nn.Linear(a, b, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.randn(b, a, generator=generator, dtype=torch.float64) / a**0.5)
            linear.bias.copy_(torch.randn(b, generator=generator, dtype=torch.float64))
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class Images(nn.Module):
    """A decoder that takes batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.Linear(3, 16),
            nn.Tanh(),
            nn.Unflatten(1, (4, 2, 2)),
            nn.ConvTranspose2d(4, 4, 4, 2, 1),
            nn.BatchNorm2d(4),
            nn.GELU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(4, 2, 3, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.steps(z)


@pytest.fixture
def images():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Images().double().eval()


@pytest.mark.parametrize("kind", ["perceptron", "images"])
def test_the_gauss_equation_agrees_with_the_metric_alone(kind, generator, images):
    decode = images if kind == "images" else network(generator, 3, 16, 16, 20)
    metric, z = pullback(decode), codes(generator, 6, 3)
    v = torch.randn(6, 3, generator=generator, dtype=torch.float64)

    def alone(x):
        return metric(x)

    for verb in (geometry.christoffel, geometry.riemann, geometry.ricci, geometry.scalar_curvature):
        quick, slow = verb(metric, z), verb(alone, z)
        assert torch.allclose(quick, slow, rtol=1e-9, atol=1e-9 * slow.abs().max())
    turn = torch.einsum("mkij,mi,mj->mk", metric.christoffel(z), v, v)
    assert torch.allclose(metric.acceleration(z, v), turn, rtol=1e-10, atol=1e-12)
    assert torch.allclose(metric.squared(z, v), torch.einsum("mi,mij,mj->m", v, metric.tensor(z), v), rtol=1e-12)


def test_an_affine_decoder_is_flat(generator):
    z = codes(generator, 4)
    decode = nn.Sequential(nn.Linear(2, 5), nn.Identity(), nn.Linear(5, 7)).double()
    assert not geometry.riemann(pullback(decode), z).any()
    assert not geometry.christoffel(pullback(decode), z).any()


def test_a_flat_point_of_a_curved_decoder_is_flat():
    monkey = pullback(lambda z: torch.cat([z, (z[:, :1] ** 3 - 3 * z[:, :1] * z[:, 1:] ** 2)], 1))
    assert not geometry.riemann(monkey, torch.zeros(1, 2, dtype=torch.float64)).any()
