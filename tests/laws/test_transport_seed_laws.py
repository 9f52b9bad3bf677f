"""A seed stands for a new generator with that seed, wherever a generator is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier import measures, transport
from brenier.measures import Gaussian, UniformBall, UniformCube

POINTS = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
POTENTIAL = transport.BrenierPotential(POINTS, -0.5 * POINTS.square().sum(1))


def own():
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize("source", [Gaussian(3), UniformCube(3), UniformBall(3)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("seed", [7, np.int64(7)], ids=["int", "numpy"])
def test_samples(source, seed):
    assert torch.equal(source.sample(5, seed), source.sample(5, own()))
    assert not torch.equal(source.sample(5, 8), source.sample(5, own()))
    assert len(source.sample(1000, seed).unique(dim=0)) == 1000


def test_regions():
    square = measures.UniformPolytope([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    boxes = measures.GridDensity(torch.tensor([[1.0, 3.0]]))
    for source in (square, boxes):
        assert torch.equal(source.sample(9, 7), source.sample(9, own()))


@pytest.mark.parametrize("method", ["auto", "stochastic", "multiscale"])
def test_solve(method):
    target = measures.Discrete(POINTS, torch.full((30,), 1 / 30))
    found = [transport.solve(Gaussian(4), target, method, tol=0.2, generator=g) for g in (7, own())]
    assert torch.equal(found[0].potential.heights, found[1].potential.heights)


def test_cells_singular_set_and_extension():
    one, other = (transport.cells(POTENTIAL, Gaussian(4), generator=g) for g in (7, own()))
    assert torch.equal(one.masses, other.masses)
    one, other = (transport.singular_set(POTENTIAL, Gaussian(4), generator=g) for g in (7, own()))
    assert torch.equal(one.modes, other.modes)
    assert one.mass == other.mass
    transport.extend(POTENTIAL, Gaussian(4), generator=7)


@pytest.mark.parametrize("call", [lambda g: Gaussian(2).sample(3, g), lambda g: UniformBall(2).sample(3, g)])
@pytest.mark.parametrize("wrong", [0.5, "0", True, [0]])
def test_what_is_no_seed_is_named(call, wrong):
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator, a seed or None, got"):
        call(wrong)
