"""Connection and curvature of spaces whose closed form is known, to 1e-8 in float64."""

from __future__ import annotations

import pytest
import torch
from torch.func import hessian, jacfwd

from brenier import geometry
from brenier.geometry import spaces

CONSTANT = [
    (spaces.Sphere(), 1.0),
    (spaces.Sphere(2.5), 0.16),
    (spaces.PoincareBall(), -1.0),
    (spaces.HalfSpace(), -1.0),
]


def close(a, b):
    return torch.allclose(a, torch.as_tensor(b, dtype=a.dtype).expand_as(a), rtol=1e-8, atol=1e-8)


def points(d, generator, m=7):
    """In the unit ball and above the half-space's border."""
    x = torch.rand(m, d, dtype=torch.float64, generator=generator) * 0.8 / d**0.5
    return x + 0.05


def plane(x, generator):
    return (torch.randn(x.shape, dtype=x.dtype, generator=generator) for _ in range(2))


@pytest.mark.parametrize("d", [2, 3, 4, 5])
@pytest.mark.parametrize(("space", "k"), CONSTANT, ids=str)
def test_constant_curvature(space, k, d, generator):
    x = points(d, generator)
    g = torch.func.vmap(space)(x)
    full = k * (torch.einsum("mik,mjl->mijkl", g, g) - torch.einsum("mil,mjk->mijkl", g, g))
    assert close(geometry.riemann(space, x) / full.abs().amax(), full / full.abs().amax())
    assert close(geometry.ricci(space, x), k * (d - 1) * g)
    assert close(geometry.scalar_curvature(space, x), k * d * (d - 1))
    assert close(geometry.sectional_curvature(space, x, *plane(x, generator)), k)


def test_the_gaussian_family_has_minus_one_half(generator):
    x = torch.rand(9, 2, dtype=torch.float64, generator=generator) * 3 + 0.1
    assert close(geometry.scalar_curvature(spaces.GaussianFamily(), x), -1.0)
    assert close(geometry.sectional_curvature(spaces.GaussianFamily(), x, *plane(x, generator)), -0.5)


def test_the_torus(generator):
    x = torch.randn(9, 2, dtype=torch.float64, generator=generator)
    r, tube = 2.0, 0.7
    wide = r + tube * x[:, 1].cos()
    assert close(geometry.scalar_curvature(spaces.Torus(r, tube), x) / 2, x[:, 1].cos() / (tube * wide))
    gamma = geometry.christoffel(spaces.Torus(r, tube), x)
    truth = torch.zeros_like(gamma)
    truth[:, 0, 0, 1] = truth[:, 0, 1, 0] = -tube * x[:, 1].sin() / wide
    truth[:, 1, 0, 0] = x[:, 1].sin() * wide / tube
    assert close(gamma, truth)


@pytest.mark.parametrize("d", [2, 3, 4, 5])
def test_the_paraboloid(d, generator):
    x, c = torch.randn(7, d, dtype=torch.float64, generator=generator), 0.8
    eye = torch.eye(d, dtype=x.dtype)
    flat = torch.einsum("ik,jl->ijkl", eye, eye) - torch.einsum("il,jk->ijkl", eye, eye)
    width = 1 + 4 * c**2 * x.square().sum(1)
    assert close(geometry.riemann(spaces.Paraboloid(c), x), 4 * c**2 / width[:, None, None, None, None] * flat)
    assert close(geometry.volume_density(spaces.Paraboloid(c), x), width.sqrt())


def test_the_ellipsoid_in_space(generator):
    a = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    space = spaces.Ellipsoid(tuple(a.tolist()))
    x = torch.randn(9, 2, dtype=torch.float64, generator=generator)
    z = torch.func.vmap(space.embed)(x)
    assert close((z / a).square().sum(1), 1.0)
    gauss = 1 / (a.prod() * (z / a**2).square().sum(1)).square()
    assert close(geometry.scalar_curvature(space, x) / 2, gauss)


@pytest.mark.parametrize("d", [3, 4, 5])
def test_an_ellipsoid_obeys_the_gauss_equation(d, generator):
    a = torch.linspace(0.7, 1.6, d + 1, dtype=torch.float64)
    space = spaces.Ellipsoid(tuple(a.tolist()))
    x = points(d, generator)
    z, bend = torch.func.vmap(space.embed)(x), torch.func.vmap(hessian(space.embed))(x)
    normal = torch.nn.functional.normalize(z / a**2, dim=1)
    h = torch.einsum("mcij,mc->mij", bend, normal)
    full = torch.einsum("mik,mjl->mijkl", h, h) - torch.einsum("mil,mjk->mijkl", h, h)
    assert close(geometry.riemann(space, x), full)


def test_a_product_has_flat_mixed_planes_and_adds_scalar_curvature(generator):
    space = spaces.product((spaces.Sphere(2.0), 2), (spaces.HalfSpace(), 3))
    x = points(5, generator)
    first, second = torch.zeros(2, 7, 5, dtype=x.dtype)
    first[:, :2], second[:, 2:] = 1, torch.tensor([0.3, -1.0, 0.2])
    assert close(geometry.sectional_curvature(space, x, first, second), 0.0)
    assert close(geometry.scalar_curvature(space, x), 2 / 4 - 6.0)


@pytest.mark.parametrize("d", [2, 3, 4, 5])
def test_a_conformal_metric_of_flat_space(d, generator):
    """R = −e^{−2φ} (2 (d − 1) Δφ + (d − 2)(d − 1) |∇φ|²)."""

    def exponent(x):
        return 0.3 * x.sin().sum() + 0.1 * (x @ x)

    x = torch.randn(7, d, dtype=torch.float64, generator=generator)
    space = spaces.conformal(lambda x: torch.eye(d, dtype=x.dtype), exponent)
    slope, bend = torch.func.vmap(jacfwd(exponent))(x), torch.func.vmap(hessian(exponent))(x)
    laplacian = bend.diagonal(dim1=1, dim2=2).sum(1)
    value = torch.exp(-2 * torch.func.vmap(exponent)(x))
    truth = -value * (2 * (d - 1) * laplacian + (d - 2) * (d - 1) * slope.square().sum(1))
    assert close(geometry.scalar_curvature(space, x), truth)


@pytest.mark.parametrize("d", [2, 3, 4, 5])
def test_christoffel_symbols_of_the_half_space(d, generator):
    """Γ^k_ij = −(δ_ik δ_jd + δ_jk δ_id − δ_ij δ_kd) / x_d."""
    x = points(d, generator)
    eye = torch.eye(d, dtype=x.dtype)
    up = eye[-1]
    truth = torch.einsum("ki,j->kij", eye, up) + torch.einsum("kj,i->kij", eye, up) - torch.einsum("k,ij->kij", up, eye)
    assert close(geometry.christoffel(spaces.HalfSpace(), x), -truth / x[:, -1, None, None, None])


def test_a_constant_field_of_the_plane_is_parallel_in_polar_coordinates(generator):
    def polar(x):
        return torch.diag(torch.stack([torch.ones_like(x[0]), x[0] ** 2]))

    def east(x):
        return torch.stack([x[1].cos(), -x[1].sin() / x[0]])

    x = torch.rand(9, 2, dtype=torch.float64, generator=generator) + 0.5
    assert close(geometry.covariant_derivative(polar, east, x, torch.randn_like(x)), 0.0)
    assert not close(geometry.covariant_derivative(polar, lambda x: torch.ones_like(x), x, torch.ones_like(x)), 0.0)


def test_volume_density_of_the_sphere_adds_up_to_its_area():
    r = torch.tan(torch.linspace(0, 1, 20_001, dtype=torch.float64)[1:-1] * torch.pi / 2)
    x = torch.stack([r, torch.zeros_like(r)], 1)
    area = 2 * torch.pi * torch.trapezoid(r * geometry.volume_density(spaces.Sphere(), x), r)
    assert abs(area - 4 * torch.pi) < 1e-5
