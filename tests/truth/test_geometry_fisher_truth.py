"""Fisher metrics in closed form, and the families whose curvature is known."""

from __future__ import annotations

import pytest
import torch

from brenier import geometry
from brenier.geometry.fisher import fisher_metric


def head(generator, d, c):
    first, second = (torch.randn(a, b, generator=generator, dtype=torch.float64) for a, b in ((d, 8), (8, c)))
    return lambda z: (z @ first).tanh() @ second


def fisher(family, out):
    """F (c, c) at the outputs (c,)."""
    if family == "categorical":
        p = out.softmax(0)
        return p.diag() - torch.outer(p, p)
    if family == "bernoulli":
        return (out.sigmoid() * (1 - out.sigmoid())).diag()
    return torch.cat([torch.exp(-2 * out[len(out) // 2 :]), torch.full((len(out) // 2,), 2.0)]).diag()


@pytest.mark.parametrize("family", ["categorical", "bernoulli", "gaussian"])
def test_the_metric_is_the_fisher_matrix_pulled_back(family, generator):
    classifier = head(generator, 3, 6)
    metric = fisher_metric(classifier, family)

    def plain(z):
        out, jacobian = classifier(z[None])[0], torch.func.jacrev(lambda z: classifier(z[None])[0])(z)
        return jacobian.T @ fisher(family, out) @ jacobian

    z = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    assert torch.allclose(metric.tensor(z), torch.stack([plain(row) for row in z]), rtol=1e-11, atol=1e-13)
    for verb in (geometry.christoffel, geometry.riemann):
        slow = verb(plain, z)
        assert torch.allclose(verb(metric, z), slow, rtol=1e-8, atol=1e-8 * slow.abs().max())


def test_gaussians_have_curvature_minus_one_half(generator):
    scale = torch.tensor([1e3, 2.0], dtype=torch.float64)  # means a thousand deviations away from the origin
    z = scale * torch.randn(50, 2, generator=generator, dtype=torch.float64)
    found = geometry.scalar_curvature(fisher_metric(lambda z: z, "gaussian"), z) / 2
    assert torch.allclose(found, torch.full_like(found, -0.5), rtol=0, atol=1e-8)


def test_the_simplex_is_a_sphere_of_radius_two(generator):
    metric = fisher_metric(lambda z: torch.cat([z, torch.zeros_like(z[:, :1])], 1))
    z, v, w = torch.randn(3, 30, 4, generator=generator, dtype=torch.float64)
    found = geometry.sectional_curvature(metric, z, v, w)
    assert torch.allclose(found, torch.full_like(found, 0.25), rtol=0, atol=1e-8)


def test_independent_events_are_flat(generator):
    metric = fisher_metric(lambda z: z, "bernoulli")
    z = 5 * torch.randn(10, 3, generator=generator, dtype=torch.float64)
    r = metric.riemann(z) / metric.tensor(z).diagonal(dim1=1, dim2=2).prod(1)[:, None, None, None, None]
    assert r.abs().max() < 1e-8
