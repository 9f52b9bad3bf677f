"""Paths, regions and decoders that have no creases to speak of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brenier.geometry.crease import crease_curvature

SQUARE = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)


def roof(z):
    return torch.cat([z, z[:, :1].abs()], 1)


def test_either_a_path_or_a_region():
    with pytest.raises(ValueError, match="either a path or a region"):
        crease_curvature(roof)
    with pytest.raises(ValueError, match="either a path or a region"):
        crease_curvature(roof, path=SQUARE, region=SQUARE)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (SQUARE[:1], r"n at least 2, got shape \(1, 2\)"),
        (SQUARE[[0, 0, 1]], "must not stand still"),
        (SQUARE / 0, "path must be finite"),
    ],
)
def test_bad_paths(path, sentence):
    with pytest.raises(ValueError, match=sentence):
        crease_curvature(roof, path=path)


@pytest.mark.parametrize(
    ("region", "sentence"),
    [
        (SQUARE[:2], r"k at least 3 and d at least 2, got shape \(2, 2\)"),
        (SQUARE[:, :1], r"got shape \(4, 1\)"),
        (SQUARE[[0, 2, 1, 3]], "convex polygon"),
        (SQUARE[[0, 1, 1, 2]], "convex polygon"),
        (torch.cat([SQUARE, SQUARE]), "convex polygon"),
        (torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), "on a line or off a plane"),
        (torch.eye(4)[:, :3] * 2.0 - 0.5, "on a line or off a plane"),
    ],
)
def test_bad_regions(region, sentence):
    with pytest.raises(ValueError, match=sentence):
        crease_curvature(lambda z: torch.cat([z, z[:, :1].abs()], 1), region=region)


@pytest.mark.parametrize("where", ["path", "region"])
def test_a_curved_decoder_is_refused(where):
    decode = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3), nn.Sigmoid()).double()
    with pytest.raises(ValueError, match=r"not affine around .* not piecewise linear, or bends by a function"):
        crease_curvature(decode, **{where: SQUARE})


def test_a_bend_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="not affine around"):
        crease_curvature(lambda z: torch.cat([z, torch.where(z > 0.2, z - 0.2, 0)], 1), region=SQUARE)


@pytest.mark.parametrize("where", ["path", "region"])
def test_a_flattened_cell_is_named(where):
    dead = lambda z: torch.relu(torch.cat([z, z[:, :1] + z[:, 1:]], 1))  # noqa: E731
    with pytest.raises(ValueError, match=r"flattens the cell of \(.*: it has no dihedral angle"):
        crease_curvature(dead, **{where: SQUARE[[0, 2]] * 0.9 if where == "path" else SQUARE})


def test_a_region_with_too_many_corners(monkeypatch):
    monkeypatch.setattr("brenier.geometry.subdivision.LARGEST", 100)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decode = nn.Sequential(nn.Linear(2, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU()).double()
    with pytest.raises(ValueError, match="too many for 40 numbers each: take a smaller region"):
        crease_curvature(decode, region=SQUARE)
