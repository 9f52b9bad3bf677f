"""Gauss and Bonnet on the cells of random networks, cells against brute force, and what moves no angle."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from brenier.geometry.crease import crease_curvature
from brenier.geometry.pullback import pullback

SQUARE = torch.tensor([[-1.0, -1.1], [1.2, -1.0], [1.0, 1.0], [-1.0, 0.9]], dtype=torch.float64)


def network(seed, *sizes, activation=nn.LeakyReLU):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b, dtype=torch.float64), activation()]
        return nn.Sequential(*layers[:-1]).requires_grad_(False)


@pytest.mark.parametrize("seed", range(4))
def test_gauss_and_bonnet(seed):
    surface = crease_curvature(network(seed, 2, 12, 12, 9), region=2 * SQUARE)
    corners, edges, cells = len(surface.corners), len(surface.edges) + int((surface.turning != 0).sum()), surface.cells
    around = sum(len(cell) for cell in cells) - 2 * len(surface.edges)  # edges of the border
    assert corners - (len(surface.edges) + around) + len(cells) == 1
    assert edges > 10
    assert surface.gauss + float(surface.turning.sum()) == pytest.approx(2 * math.pi, abs=1e-10)


def patterns(module, z):
    codes = []
    for layer in module:
        z = layer(z)
        if isinstance(layer, nn.LeakyReLU):
            codes.append(z > 0)
    return torch.cat(codes, 1)


@pytest.mark.parametrize("seed", range(5))
def test_cells_against_brute_force(seed):
    module = network(seed, 2, 5, 5, 4)
    surface = crease_curvature(module, region=3 * SQUARE)
    middles = torch.stack([surface.corners[list(cell)].mean(0) for cell in surface.cells])
    found = {tuple(row) for row in patterns(module, middles).tolist()}
    assert len(found) == len(surface.cells)
    t = torch.linspace(-2.6, 2.6, 200, dtype=torch.float64)
    assert {tuple(row) for row in patterns(module, torch.cartesian_prod(t, t)).tolist()} <= found


def test_a_path_meets_the_edges_of_the_region():
    module = network(0, 2, 10, 10, 6)
    surface = crease_curvature(module, region=2 * SQUARE)
    crossed = crease_curvature(module, path=torch.tensor([[-1.5, -1.2], [1.4, 1.1]], dtype=torch.float64))
    assert len(crossed.at) > 5
    gaps = (crossed.dihedral[:, None] - surface.dihedral).abs().amin(1)
    assert gaps.max() < 1e-7
    assert (crossed.turning <= crossed.dihedral.clamp(max=math.pi) + 1e-7).sum() > 0


def test_turning_against_a_dense_polyline():
    module = network(1, 4, 12, 12, 6)
    path = torch.tensor([[-2.0, 1.0, 0.5, -1.0], [1.5, -1.0, 0.0, 2.0]], dtype=torch.float64)
    crossed = crease_curvature(module, path=path)
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:, None]
    steps = nn.functional.normalize(module(path[0] + t * (path[1] - path[0])).diff(dim=0), dim=1)
    turns = 2 * torch.asin(((steps[1:] - steps[:-1]).norm(dim=1) / 2).clamp(max=1))
    assert crossed.total == pytest.approx(turns.sum().item(), rel=1e-3)


def test_the_turning_of_a_smoothed_path_converges():
    module = network(2, 2, 8, 8, 5)
    path = torch.tensor([[-2.0, 1.0], [1.5, -1.0]], dtype=torch.float64)
    exact, errors = crease_curvature(module, path=path).total, []
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:, None]
    for beta in (50.0, 100.0, 200.0):
        x = pullback(module, smooth=beta).through(path[0] + t * (path[1] - path[0]))
        steps = nn.functional.normalize(x.diff(dim=0), dim=1)
        turns = 2 * torch.asin(((steps[1:] - steps[:-1]).norm(dim=1) / 2).clamp(max=1))
        errors.append(abs(turns.sum().item() - exact))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02 * exact


def test_motions_of_the_data_and_the_sense_of_the_way_change_no_angle(generator):
    module = network(3, 2, 8, 8, 6)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    here = crease_curvature(module, region=SQUARE)
    there = crease_curvature(lambda z: 2 * module(z) @ turn + 1, region=SQUARE)
    assert torch.allclose(here.dihedral, there.dihedral, atol=1e-7)
    assert torch.allclose(here.defect, there.defect, atol=1e-9)
    assert torch.allclose(2 * here.length, there.length)
    assert there.bending == pytest.approx(2 * here.bending)
    path = SQUARE[[0, 2]]
    forth, back = crease_curvature(module, path=path), crease_curvature(module, path=path.flip(0))
    assert torch.allclose(forth.dihedral, back.dihedral.flip(0), atol=1e-7)
    assert torch.allclose(forth.at, 1 - back.at.flip(0))


def test_an_affine_decoder_has_no_crease():
    surface = crease_curvature(nn.Linear(2, 4).double(), region=SQUARE)
    assert len(surface.cells) == 1
    assert len(surface.edges) == 0
    assert crease_curvature(nn.Linear(2, 4).double(), path=SQUARE[:2]).total == 0
