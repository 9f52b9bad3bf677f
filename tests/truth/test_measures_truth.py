"""The sources have the laws that they state: moments, radii, marginals, halves."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest

from brenier.measures import Discrete, Gaussian, Source, UniformBall, UniformCube, moments

SOURCES = [
    Gaussian(1),
    Gaussian(5),
    UniformCube(1),
    UniformCube(3, low=-1.0, high=4.0),
    UniformBall(1, radius=3.0),
    UniformBall(2),
    UniformBall(7, radius=0.5),
]
RARE = 1e-5  # a correct law fails a test of this level once in 100,000 seeds


def name(source):
    return f"{type(source).__name__}-{source.dim}"


class Skew:
    """A source that states no moments: (g, g + e) with covariance [[1, 1], [1, 2]] and mean (3, 3)."""

    dim = 2

    def sample(self, m, generator=None):
        g = torch.randn(m, 2, generator=generator)
        return 3 + torch.stack([g[:, 0], g.sum(1)], 1)


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_stated_moments_are_those_of_samples(source, generator):
    m, (mean, covariance) = 20_000, source.moments()
    away = source.sample(m, generator).double() - mean
    product = away[:, :, None] * away[:, None, :]
    assert mean.dtype == covariance.dtype == torch.float64
    assert (away.mean(0).abs() <= 5 * away.std(0) / math.sqrt(m)).all()
    assert ((product.mean(0) - covariance).abs() <= 5 * product.std(0) / math.sqrt(m)).all()


def test_a_source_without_moments_gets_them_from_samples(generator):
    assert isinstance(Skew(), Source)
    mean, covariance = moments(Skew(), generator)
    assert torch.allclose(mean, torch.full((2,), 3.0, dtype=torch.float64), atol=0.03)
    assert torch.allclose(covariance, torch.tensor([[1.0, 1.0], [1.0, 2.0]], dtype=torch.float64), atol=0.06)


def test_estimated_moments_have_their_shapes_in_one_dimension(generator):
    class Line(Skew):
        dim = 1

        def sample(self, m, generator=None):
            return torch.rand(m, 1, generator=generator)

    mean, covariance = moments(Line(), generator)
    assert mean.shape == (1,)
    assert covariance.shape == (1, 1)
    assert covariance.item() == pytest.approx(1 / 12, rel=0.05)


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_every_source_is_a_source_and_keeps_to_the_default_dtype(source, generator):
    assert isinstance(source, Source)
    assert source.sample(0, generator).shape == (0, source.dim)
    assert source.sample(4, generator).dtype == torch.get_default_dtype()


@pytest.mark.parametrize(("dim", "radius"), [(1, 1.0), (2, 3.0), (3, 0.2), (30, 1.0)])
def test_the_ball_is_uniform(dim, radius, generator):
    """(|x|/r)^d is uniform on [0, 1]; the squared first coordinate of the direction is Beta(1/2, (d − 1)/2)."""
    x = UniformBall(dim, radius).sample(4000, generator).double()
    r = x.norm(dim=1)
    assert (r <= radius * (1 + 1e-6)).all()
    assert kstest((r / radius).pow(dim).numpy(), "uniform").pvalue > RARE
    direction = x / r[:, None]
    if dim == 1:
        assert abs((direction > 0).double().mean().item() - 0.5) < 5 * 0.5 / math.sqrt(4000)
    else:
        squared = direction[:, 0].square().numpy()
        assert kstest(squared, "beta", args=(0.5, (dim - 1) / 2)).pvalue > RARE
        assert abs((direction[:, 0] > 0).double().mean().item() - 0.5) < 5 * 0.5 / math.sqrt(4000)
    assert abs(torch.corrcoef(torch.stack([r, direction[:, 0]]))[0, 1].item()) < 5 / math.sqrt(4000)


@pytest.mark.parametrize("dim", [1, 2, 9])
def test_halves_of_a_gaussian_add_up_to_it(dim, generator):
    """Both signs, one pair of each block: independent samples of N(0, I), and a and b of N(0, I/2)."""
    a, b = Gaussian(dim).halves(4000, 2, 3, generator)
    assert a.shape == (4000, 2, dim)
    assert b.shape == (4000, 3, dim)
    for half in (a[:, 1], b[:, 2]):
        assert kstest((half * math.sqrt(2)).double().flatten().numpy(), "norm").pvalue > RARE
    for sign in (-1, 1):
        assert kstest((a[:, 1] + sign * b[:, 2]).double().flatten().numpy(), "norm").pvalue > RARE
    both = torch.atleast_2d(torch.corrcoef(torch.cat([a[:, 1], b[:, 2]], 1).double().T)) - torch.eye(2 * dim)
    assert both.abs().amax() < 5.5 / math.sqrt(4000)


def test_halves_are_orthogonal_as_far_as_there_are_dimensions(generator):
    a, b = Gaussian(4).halves(10, 8, 3, generator)
    off = ~torch.eye(4, dtype=torch.bool)
    for frame in (a[:, :4], a[:, 4:], b):
        products = frame @ frame.mT
        assert products[:, off[: frame.shape[1], : frame.shape[1]]].abs().amax() < 1e-5
    assert (a[:, :4] @ a[:, 4:].mT).abs().amax() > 0.1


def test_default_weights_are_equal():
    nu = Discrete(torch.zeros(7, 2, dtype=torch.float64))
    assert torch.equal(nu.weights, torch.full((7,), 1 / 7, dtype=torch.float64))
    assert (nu.n, nu.dim) == (7, 2)
