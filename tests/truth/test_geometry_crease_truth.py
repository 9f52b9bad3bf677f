"""Roofs, pyramids and cubes: creases whose angles are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from brenier.geometry.crease import crease_curvature

SQUARE = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)


def roof(slope):
    return lambda z: torch.cat([z, slope * z[:, :1].abs()], 1)


def pyramid(slope):
    return lambda z: torch.cat([z, slope * z.abs().sum(1, keepdim=True)], 1)


@pytest.mark.parametrize("slope", [0.1, 1.0, 5.0])
def test_a_roof_bends_by_twice_its_slope_and_has_no_gauss_curvature(slope):
    surface = crease_curvature(roof(slope), region=SQUARE)
    assert len(surface.cells) == 2
    assert surface.dihedral.tolist() == pytest.approx([2 * math.atan(slope)])
    assert surface.length.tolist() == pytest.approx([2.0])
    assert surface.bending == pytest.approx(4 * math.atan(slope))
    assert surface.gauss == pytest.approx(0, abs=1e-12)


def test_a_path_turns_less_than_the_roof_bends():
    path = torch.tensor([[-1.0, -0.5], [1.0, 0.5]], dtype=torch.float64)
    crossed = crease_curvature(roof(1.0), path=path)
    assert crossed.at.tolist() == pytest.approx([0.5])
    assert crossed.codes.flatten().tolist() == pytest.approx([0.0, 0.0])
    assert crossed.dihedral.tolist() == pytest.approx([math.pi / 2])
    assert crossed.total == pytest.approx(math.acos((-4 + 1 + 4) / 9))  # (2, 1, ∓2): the x and z parts cancel


@pytest.mark.parametrize("slope", [0.3, 2.0])
def test_a_pyramid(slope):
    surface = crease_curvature(pyramid(slope), region=SQUARE)
    assert len(surface.cells) == 4
    apex = 2 * math.pi - 4 * math.acos(slope**2 / (1 + slope**2))
    assert surface.defect.max().item() == pytest.approx(apex, abs=1e-12)
    assert surface.gauss == pytest.approx(apex, abs=1e-12)
    bends = [math.acos(1 / (1 + 2 * slope**2))] * 4
    assert surface.dihedral.tolist() == pytest.approx(bends, abs=1e-12)


def test_a_slice_through_three_dimensions():
    corners = torch.tensor([[-1.0, 0, 1], [1, 0, 1], [1, 1, 1], [-1, 1, 1]], dtype=torch.float64)
    surface = crease_curvature(lambda z: torch.cat([z, z[:, :1].abs()], 1), region=corners)
    assert surface.dihedral.tolist() == pytest.approx([math.pi / 2])
    assert surface.corners.shape[1] == 3


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 1, 1), nn.AdaptiveAvgPool2d(1)])
def test_cells_of_every_kind_of_layer(pool):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        decode = nn.Sequential(
            nn.Linear(2, 16),
            nn.LeakyReLU(0.3),
            nn.Unflatten(1, (1, 4, 4)),
            nn.Conv2d(1, 2, 3, padding=1),
            nn.PReLU(2),
            nn.BatchNorm2d(2),
            pool,
            nn.Flatten(),
            nn.LazyLinear(6),
            nn.Hardtanh(-2, 2),
        ).eval()
        decode(torch.zeros(1, 2))
    surface = crease_curvature(decode.double(), region=0.3 * SQUARE)
    assert len(surface.cells) > 10
    assert surface.gauss + float(surface.turning.sum()) == pytest.approx(2 * math.pi, abs=1e-9)


def test_numpy_gives_numpy():
    assert isinstance(crease_curvature(roof(1.0), region=SQUARE.numpy()).dihedral, np.ndarray)
    assert isinstance(crease_curvature(roof(1.0), path=SQUARE[::2].numpy()).turning, np.ndarray)
