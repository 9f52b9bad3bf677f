"""Symmetries, Bianchi identities, invariance under changes of coordinates; batches and chunks change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import jacfwd, vmap

from brenier import geometry
from brenier.geometry import batch, spaces
from brenier.geometry import metric as of
from brenier.geometry.derivative import forward


def wavy(x):
    """A metric without symmetries, of any dimension."""
    d = len(x)
    a = torch.arange(d * d, dtype=x.dtype).view(d, d)
    b = (a + x[:, None] * (1 + a / d)).sin() / (2 * d) + torch.outer(x, x.cos()) / 10
    return torch.eye(d, dtype=x.dtype) * (1 + 0.2 * (x @ x)) + b + b.mT


def points(d, generator, m=5):
    return torch.rand(m, d, dtype=torch.float64, generator=generator) - 0.5


def close(a, b, to=1e-9):
    return torch.allclose(a, b, rtol=to, atol=to)


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_symmetries_and_the_first_bianchi_identity(d, generator):
    r = geometry.riemann(wavy, points(d, generator))
    assert r.abs().max() > 0.01 or d == 1
    assert close(r, -r.transpose(1, 2))
    assert close(r, -r.transpose(3, 4))
    assert close(r, r.permute(0, 3, 4, 1, 2))
    assert close(r + r.permute(0, 1, 3, 4, 2) + r.permute(0, 1, 4, 2, 3), torch.zeros_like(r))
    ricci = geometry.ricci(wavy, points(d, generator))
    assert close(ricci, ricci.mT)


@pytest.mark.parametrize("d", [2, 3])
def test_the_second_bianchi_identity(d, generator):
    """∇_e R_ijkl + ∇_k R_ijle + ∇_l R_ijek = 0."""
    x = points(d, generator)
    r, slope = of.riemann(wavy, x), of.partial(lambda x: of.riemann(wavy, x), x, forward)
    gamma = of.christoffel(wavy, x)
    turned = [
        torch.einsum(rule, gamma, r)
        for rule in ("maei,majkl->meijkl", "maej,miakl->meijkl", "maek,mijal->meijkl", "mael,mijka->meijkl")
    ]
    covariant = slope - sum(turned)
    cycle = covariant + covariant.permute(0, 4, 2, 3, 5, 1) + covariant.permute(0, 5, 2, 3, 1, 4)
    assert covariant.abs().max() > 0.01
    assert close(cycle, torch.zeros_like(cycle))


def test_the_connection_is_torsion_free_and_keeps_the_metric(generator):
    x = points(3, generator)
    gamma, g = geometry.christoffel(wavy, x), vmap(wavy)(x)
    lowered = torch.einsum("mkl,mlij->mkij", g, gamma)
    assert close(gamma, gamma.transpose(2, 3))
    assert close(vmap(jacfwd(wavy))(x), torch.einsum("mjai->mija", lowered) + torch.einsum("miaj->mija", lowered))


def shear(x):
    """A change of coordinates."""
    return torch.cat([x[:1] + 0.3 * x[1:2] ** 2, x[1:] + 0.2 * x[:1].sin(), x[:0]])


def seen(metric, change):
    """The metric in the coordinates x, the change leading to its own."""

    def pulled(x):
        j = jacfwd(change)(x)
        return j.mT @ metric(change(x)) @ j

    return pulled


@pytest.mark.parametrize("d", [2, 3])
def test_curvature_does_not_depend_on_coordinates(d, generator):
    x, v, w = points(d, generator), points(d, generator), points(d, generator)
    new, there, j = seen(wavy, shear), vmap(shear)(x), vmap(jacfwd(shear))(x)
    rule = "mabcd,mai,mbj,mck,mdl->mijkl"
    assert close(geometry.riemann(new, x), torch.einsum(rule, geometry.riemann(wavy, there), j, j, j, j))
    assert close(geometry.scalar_curvature(new, x), geometry.scalar_curvature(wavy, there))
    moved = (torch.einsum("mai,mi->ma", j, a) for a in (v, w))
    assert close(geometry.sectional_curvature(new, x, v, w), geometry.sectional_curvature(wavy, there, *moved))
    assert close(geometry.volume_density(new, x), geometry.volume_density(wavy, there) * torch.linalg.det(j).abs())


def test_geodesics_do_not_depend_on_coordinates(generator):
    x, y = points(2, generator), points(2, generator)
    new, (here, there), j = seen(wavy, shear), (vmap(shear)(x), vmap(shear)(y)), vmap(jacfwd(shear))(x)
    found, same = geometry.geodesic(new, x, y, n=5), geometry.geodesic(wavy, here, there, n=5)
    assert close(found.length, same.length, 1e-7)
    assert close(vmap(vmap(shear))(found.path), same.path, 1e-6)
    assert close(torch.einsum("mai,mi->ma", j, found.velocity), same.velocity, 1e-6)
    v = points(2, generator)
    ends = geometry.exp(new, x, v), geometry.exp(wavy, here, torch.einsum("mai,mi->ma", j, v))
    assert close(vmap(shear)(ends[0]), ends[1])


def test_a_scaled_metric(generator):
    """c² G: R_ijkl goes with c², sectional curvature with c⁻², the connection stays."""
    x, v, w = points(3, generator), points(3, generator), points(3, generator)

    def scaled(x):
        return 9 * wavy(x)

    assert close(geometry.riemann(scaled, x), 9 * geometry.riemann(wavy, x))
    assert close(geometry.christoffel(scaled, x), geometry.christoffel(wavy, x))
    assert close(9 * geometry.sectional_curvature(scaled, x, v, w), geometry.sectional_curvature(wavy, x, v, w))
    assert close(geometry.volume_density(scaled, x), 27 * geometry.volume_density(wavy, x))
    assert close(geometry.distance(scaled, x, v), 3 * geometry.distance(wavy, x, v))


def test_the_covariant_derivative_is_a_derivation(generator):
    """D<X, Y> = <∇X, Y> + <X, ∇Y> and ∇(f X) = Df X + f ∇X."""
    x, v = points(3, generator), points(3, generator)

    def one(x):
        return x.sin() + x.flip(0)

    def other(x):
        return x * x - 1

    first, second = (geometry.covariant_derivative(wavy, field, x, v) for field in (one, other))
    product = vmap(lambda x: one(x) @ wavy(x) @ other(x))
    change = torch.func.jvp(product, (x,), (v,))[1]
    g = vmap(wavy)(x)
    inner = [torch.einsum("mi,mij,mj->m", a, g, b) for a, b in ((first, vmap(other)(x)), (vmap(one)(x), second))]
    assert close(change, sum(inner))
    stretched = geometry.covariant_derivative(wavy, lambda x: (x @ x) * one(x), x, v)
    factor = (x * x).sum(1, keepdim=True)
    assert close(stretched, 2 * (x * v).sum(1, keepdim=True) * vmap(one)(x) + factor * first)


VERBS = {
    "christoffel": lambda x, v, w: geometry.christoffel(wavy, x),
    "riemann": lambda x, v, w: geometry.riemann(wavy, x),
    "ricci": lambda x, v, w: geometry.ricci(wavy, x),
    "scalar": lambda x, v, w: geometry.scalar_curvature(wavy, x),
    "sectional": lambda x, v, w: geometry.sectional_curvature(wavy, x, v, w),
    "volume": lambda x, v, w: geometry.volume_density(wavy, x),
    "covariant": lambda x, v, w: geometry.covariant_derivative(wavy, lambda x: x.sin(), x, v),
    "exp": lambda x, v, w: geometry.exp(wavy, x, v),
    "log": lambda x, v, w: geometry.log(wavy, x, w),
    "distance": lambda x, v, w: geometry.distance(wavy, x, w),
    "path": lambda x, v, w: geometry.geodesic(wavy, x, w, n=4).path,
    "transport": lambda x, v, w: geometry.parallel_transport(wavy, _path(x, w), v),
    "mean": lambda x, v, w: geometry.frechet_mean(wavy, _path(x, w)).mean,
}
SOLVED = ("log", "distance", "path", "mean")


def _path(x, w):
    if isinstance(x, np.ndarray):
        return np.stack([x, (x + w) / 2, w], -2)
    return torch.stack([x, (x + w) / 2, w], -2)


@pytest.mark.parametrize("name", VERBS)
def test_leading_axes_chunks_and_kinds_of_array(name, generator, monkeypatch):
    verb, (x, v, w) = VERBS[name], (points(2, generator, 6) for _ in range(3))
    whole = verb(x, v, w)
    assert whole.dtype == torch.float64
    shaped = verb(*(a.view(2, 3, 2) for a in (x, v, w)))
    assert shaped.shape == (2, 3, *whole.shape[1:])
    assert close(shaped.flatten(0, 1), whole)
    assert verb(x[0], v[0], w[0]).shape == whole.shape[1:]
    numbers = verb(*(a.numpy() for a in (x, v, w)))
    assert isinstance(numbers, np.ndarray)
    assert close(torch.as_tensor(numbers), whole)
    coarse = verb(x.float(), v.float(), w.float())
    assert coarse.dtype == torch.float32
    assert close(coarse.double(), whole, 2e-3)
    monkeypatch.setattr(batch, "BUDGET", 1000 if name == "exp" else 30_000 if name in SOLVED else 200)
    assert close(verb(x, v, w), whole)


def test_quicker_methods_of_a_metric_are_used(generator):
    called = []

    class Known(spaces.HalfSpace):
        def christoffel(self, x):
            called.append("christoffel")
            return of.christoffel(spaces.HalfSpace(), x)

        def riemann(self, x):
            called.append("riemann")
            return of.riemann(spaces.HalfSpace(), x)

        def squared(self, x, v):
            called.append("squared")
            return of.squared(spaces.HalfSpace(), x, v)

        def acceleration(self, x, v):
            called.append("acceleration")
            return of.acceleration(spaces.HalfSpace(), x, v)

        def tensor(self, x):
            called.append("tensor")
            return of.tensor(spaces.HalfSpace(), x)

    x = points(2, generator) + 1
    for verb, wanted in ((geometry.christoffel, "christoffel"), (geometry.scalar_curvature, "riemann")):
        called.clear()
        assert torch.equal(verb(Known(), x), verb(spaces.HalfSpace(), x))
        assert {wanted, "tensor"} <= set(called)
    called.clear()
    assert close(geometry.exp(Known(), x, x), geometry.exp(spaces.HalfSpace(), x, x))
    assert {"acceleration", "squared", "tensor"} <= set(called)
    called.clear()
    assert torch.equal(geometry.distance(Known(), x, x + 1), geometry.distance(spaces.HalfSpace(), x, x + 1))
    assert set(called) == {"squared", "tensor"}


def test_a_loss_may_hold_curvature():
    x = torch.tensor([[0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    of.riemann(wavy, x)[0, 0, 1, 0, 1].backward()
    step = 1e-5 * torch.eye(2, dtype=torch.float64)
    ahead, behind = (of.riemann(wavy, x.detach() + sign * step)[:, 0, 1, 0, 1] for sign in (1, -1))
    assert close(x.grad[0], (ahead - behind) / 2e-5, 1e-6)
    assert not geometry.riemann(wavy, x).requires_grad
