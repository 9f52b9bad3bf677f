"""Doubly stochastic weights keep both moments of the targets: for every graph, in the mixture and in new codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, eye_array

from brenier.measures import Discrete, Gaussian
from brenier.transport import extend, solve
from brenier.transport.affine import bures, moments_of
from brenier.transport.extend import ripples
from brenier.transport.local import choose
from brenier.transport.smoothing import blended, distinct, doubly_stochastic, smoothings


def mixture_moments(local, nu):
    """Mean and covariance of Σ_i nu_i N(m_i, C_i)."""
    i = torch.arange(len(nu))
    mean, between = moments_of(local.means, nu)
    within = torch.zeros_like(between)
    for some, axes, sizes in local.axes(i):
        c = (axes.mT * sizes[:, None, :].square()) @ axes
        within += (nu[some, None, None] * c).sum(0)
    return mean, between + within


def weights_of(kind, n, generator):
    nu = torch.ones(n, dtype=torch.float64)
    if kind == "uneven":
        nu = torch.rand(n, dtype=torch.float64, generator=generator) ** 4 + 1e-4
    return nu / nu.sum()


@pytest.mark.parametrize("kind", ["even", "uneven"])
@pytest.mark.parametrize("density", [0.003, 0.05, 1.0])
def test_rows_and_columns_sum_to_nu_for_any_graph(kind, density, generator):
    rng = np.random.default_rng(0)
    n = 200
    a = csr_array(np.triu(rng.random((n, n)) < density, 1).astype(float))
    nu = weights_of(kind, n, generator).numpy()
    w = doubly_stochastic(csr_array((a + a.T).sign() + eye_array(n)), nu)
    assert np.abs(w.sum(0) / nu - 1).max() <= 1e-10
    assert np.abs(w.sum(1) / nu - 1).max() <= 1e-10
    assert w.data.min() >= 0
    assert abs(w - w.T).max() <= 1e-15


def test_a_star_whose_hub_is_light_stays_balanced():
    """Nine leaves of weight 0.1111 share a hub of weight 1e-4: they keep nearly all of themselves."""
    graph = np.eye(10)
    graph[0] = graph[:, 0] = 1
    nu = np.r_[1e-4, np.full(9, (1 - 1e-4) / 9)]
    w = doubly_stochastic(csr_array(graph), nu)
    assert np.abs(w.sum(1) / nu - 1).max() <= 1e-10
    assert w[[0], [0]].item() < 1e-4


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("n", "d"), [(60, 2), (300, 20), (500, 50)])
def test_the_mixture_of_local_gaussians_has_the_moments_of_the_targets(n, d, strength, generator):
    """Hubs included: heavy tails in many dimensions have rows that are near to hundreds of others."""
    y = torch.randn(n, d, dtype=torch.float64, generator=generator)
    y *= (0.5 * torch.randn(n, 1, dtype=torch.float64, generator=generator)).exp()
    nu = weights_of("uneven", n, generator)
    local, _ = choose(y, nu, torch.zeros(n, dtype=torch.long), strength, None)
    for ours, theirs in zip(mixture_moments(local, nu), moments_of(y, nu), strict=True):
        assert (ours - theirs).abs().max() <= 1e-10


def test_equal_weights_of_the_nearest_shrink_where_these_do_not(generator):
    """What doubly stochastic weights are for: in 20 dimensions plain neighbourhoods lose a tenth of the variance."""
    y = torch.randn(600, 20, dtype=torch.float64, generator=generator)
    near = torch.cdist(y, y).topk(17, largest=False).indices
    groups = y[near]
    plain = torch.cov(groups.mean(1).T) + (groups - groups.mean(1, keepdim=True)).square().mean((0, 1)).diag()
    assert plain.trace() <= 0.9 * moments_of(y)[1].trace()


def test_duplicates_parts_and_weights_of_zero(generator):
    """Duplicates count as one target with the sum of weights, no part sees another, a dropped target sees none."""
    y = torch.randn(120, 3, dtype=torch.float64, generator=generator)
    every = torch.cat([y, y[:30], y[:20] + 50, y[:5]])
    parts = torch.zeros(len(every), dtype=torch.long)
    parts[150:170] = 1
    nu = torch.ones(len(every), dtype=torch.float64)
    nu[170:] = 0
    nu /= nu.sum()
    local, _ = choose(every, nu, parts, 1.0, None)
    for ours, theirs in zip(mixture_moments(local, nu), moments_of(every, nu), strict=True):
        assert (ours - theirs).abs().max() <= 1e-9
    assert torch.equal(local.means[:30], local.means[120:150])
    assert (local.means[150:170] > 40).all()
    assert torch.equal(local.means[170:], every[170:])
    first, group, sums = distinct(every, nu)
    assert torch.equal(every[first][group], every)
    assert sums.sum().item() == pytest.approx(1)


def test_blending_with_the_identity_stays_doubly_stochastic(generator):
    y = torch.randn(50, 2, dtype=torch.float64, generator=generator)
    nu = weights_of("uneven", 50, generator)
    (p,) = smoothings(y, nu, torch.zeros(50, dtype=torch.long), [8])
    q = blended(p, 0.3)
    assert np.allclose(q.sum(1), 1, rtol=1e-12)
    assert np.allclose(nu.numpy() @ q, nu, rtol=1e-10)


def test_ripples_are_uncorrelated_noise_inside_any_interval_of_some_turns():
    x = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[:, None]
    for middle, half in ((0.0, 0.4), (2.0, 0.4), (-1.3, 0.7)):
        xi = ripples(middle + half * x, 25.0)
        assert abs(xi.mean().item()) <= 0.1
        assert xi.var().item() == pytest.approx(1, abs=0.15)
        assert abs((xi * x).mean().item()) <= 0.1


@pytest.mark.parametrize("d", [1, 4])
def test_the_affine_map_takes_one_covariance_to_the_other(d, generator):
    roots = torch.randn(2, d, d, dtype=torch.float64, generator=generator)
    s, r = roots @ roots.mT
    a = bures(s, r)
    assert torch.allclose(a @ s @ a, r)
    assert torch.linalg.eigvalsh(a).min() > 0
    flat = torch.zeros(d, d, dtype=torch.float64)
    flat[0, 0] = 4
    assert torch.allclose(bures(flat, flat), (flat / 4))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(100, 2), (1000, 8), (500, 64), (10_000, 16)])
def test_new_codes_have_the_mean_and_covariance_of_the_targets(n, d):
    """Of 10⁵ new codes, in errors of both the codes and of the draws that the last affine map was measured on."""
    g = torch.Generator().manual_seed(n)
    y = torch.randn(n, d, dtype=torch.float64, generator=g) * torch.linspace(0.3, 2, d).double()
    y *= (0.3 * torch.randn(n, 1, dtype=torch.float64, generator=g)).exp()
    u = solve(Gaussian(d), Discrete(y), tol=0.3, generator=g).potential
    t = extend(u, Gaussian(d), generator=g, weights=torch.full((n,), 1 / n, dtype=torch.float64))
    codes, accepted = t(torch.randn(100_000, d, generator=g))
    z = codes[accepted]
    (mean, s), (goal, r) = moments_of(z), moments_of(y)
    error = (2 * s.diagonal() / len(z)).sqrt()
    assert ((mean - goal).abs() / error).max() <= 4.5
    product = (z - mean)[:, :, None] * (z - mean)[:, None, :] if d <= 16 else None
    spread = (s.diagonal()[:, None] * s.diagonal()).sqrt() * 2 if product is None else product.var(0).sqrt()
    assert ((s - r).abs() / (spread * (2 / len(z)) ** 0.5)).max() <= 4.5
