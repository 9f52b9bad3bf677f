"""Encoders that are homeomorphisms, and encoders that fold, overlap or collapse at a known place."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from brenier import data
from brenier.manifold.homeomorphism import homeomorphism
from brenier.manifold.mesh import read_obj, topology
from brenier.manifold.overlaps import overlapping
from brenier.manifold.planar import reconstruct, tutte

SQUARE = np.random.default_rng(0).random((1500, 2))


def scan(name):
    path = Path(os.environ.get("BRENIER_DATA", "~/.cache/brenier")).expanduser() / f"{name}.obj"
    if not path.exists():
        pytest.skip(f"{name}.obj is missing in {path.parent} (BRENIER_DATA names another folder)")
    return read_obj(path)


def roll(m=2500):
    samples = data.swiss_roll(m, generator=torch.Generator().manual_seed(0))
    return samples.values, samples.truth["coordinates"]


def test_the_unrolled_swiss_roll_is_a_homeomorphism():
    x, codes = roll()
    found = homeomorphism(lambda x: codes, x)
    assert found.holds
    assert str(found) == "a homeomorphism on the samples"
    assert found.worst_ratio > 0.2
    assert not found.folded.any()


@pytest.mark.parametrize("axes", [[0, 1], [0, 2]], ids=["from the side", "along its axis"])
def test_a_flattened_swiss_roll_is_none(axes):
    x, codes = roll()
    found = homeomorphism(lambda x: x[:, axes], x)
    assert not found.holds
    i, j = found.worst_pair
    assert found.worst_ratio < 0.01
    assert np.linalg.norm(codes[i] - codes[j]) > 5  # far on the roll
    assert np.linalg.norm(x[i][axes] - x[j][axes]) < 0.5  # near in the picture


def test_a_fold_is_found_where_it_is():
    found = homeomorphism(lambda x: np.abs(x - [0.3, 0.0]), SQUARE)
    assert not found.holds
    left = SQUARE[:, 0] < 0.3
    assert (found.folded == left).mean() > 0.98
    assert np.abs(SQUARE[found.folded != left, 0] - 0.3).max(initial=0) < 0.05
    assert "turned over" in str(found)


def test_a_cover_without_a_fold_is_no_homeomorphism():
    z = SQUARE[:, 0] - 0.5 + 1j * (SQUARE[:, 1] - 0.5)
    found = homeomorphism(lambda x: np.stack([(z**2).real, (z**2).imag], 1), SQUARE)
    assert not found.holds
    i, j = found.worst_pair
    assert abs(z[i] + z[j]) < 0.1  # opposite points share a code


def test_a_sphere_has_no_planar_code_but_a_cap_has():
    sphere = data.sphere(2000, generator=torch.Generator().manual_seed(0)).values
    found = homeomorphism(lambda x: x[:, :2], sphere)
    assert not found.holds
    assert min(found.folded[sphere[:, 2] > 0.3].mean(), found.folded[sphere[:, 2] < -0.3].mean()) == 0
    assert max(found.folded[sphere[:, 2] > 0.3].mean(), found.folded[sphere[:, 2] < -0.3].mean()) == 1
    cap = sphere[sphere[:, 2] > 0.3]
    assert homeomorphism(lambda x: x[:, :2], cap, decode=lift).holds


def lift(z):
    return np.concatenate([z, np.sqrt(1 - np.square(z).sum(1, keepdims=True))], 1)


def test_the_round_trip_is_measured_in_gaps():
    sphere = data.sphere(1000, generator=torch.Generator().manual_seed(0)).values
    cap = sphere[sphere[:, 2] > 0.3]
    assert homeomorphism(lambda x: x[:, :2], cap, decode=lift).round_trip < 1e-12
    off = homeomorphism(lambda x: x[:, :2], cap, decode=lambda z: lift(z) + np.array([0, 0, 1.0]))
    gap = np.sort(np.linalg.norm(cap[:, None] - cap, axis=2), 1)[:, 1]
    assert off.round_trip == pytest.approx(1 / np.median(gap))


def test_a_code_with_too_few_dimensions_is_none():
    assert not homeomorphism(lambda x: x[:, :1], SQUARE).holds
    assert not homeomorphism(lambda x: 0 * x, SQUARE).holds
    line = homeomorphism(lambda x: np.concatenate([x[:, :1], x[:, :1]], 1), SQUARE)
    assert line.collapsed.all()


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_networks_are_judged_by_their_own_derivatives(dim):
    x = torch.rand(600, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turn = nn.Linear(dim, dim).double()
    with torch.no_grad():
        turn.weight.copy_(torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(1)).double()).Q)
    good = homeomorphism(nn.Sequential(turn, nn.Tanh()), x)
    assert good.holds
    assert good.folded.dtype == torch.bool

    class Fold(nn.Module):
        def forward(self, x):
            return torch.cat([(x[:, :1] - 0.4).abs(), x[:, 1:]], 1)

    bad = homeomorphism(Fold(), x)
    assert torch.equal(bad.folded, x[:, 0] < 0.4)


def test_bytes_are_read_as_a_network_reads_them():
    x = np.unique(np.random.default_rng(0).integers(0, 256, (900, 2)), axis=0).astype(np.uint8)
    steep = nn.Sequential(nn.Linear(2, 2), nn.Tanh()).double()  # flat at 255, far from flat at 1
    with torch.no_grad():
        steep[0].weight.copy_(torch.eye(2))
        steep[0].bias.zero_()
    assert homeomorphism(steep, x).holds


def test_triangles_tell_folds_and_overlaps_exactly():
    faces = reconstruct(SQUARE, SQUARE)
    assert homeomorphism(lambda x: x, SQUARE, faces=faces).holds
    found = homeomorphism(lambda x: np.abs(x - [0.3, 0.0]), SQUARE, faces=faces)
    middle = SQUARE[faces].max(1)[:, 0] < 0.3
    assert found.folded[middle].all()
    assert not found.folded[SQUARE[faces].min(1)[:, 0] > 0.3].any()
    assert found.overlapping[middle].all()
    assert {*found.overlap} <= set(np.flatnonzero(found.overlapping))


def test_a_moebius_band_has_no_planar_code():
    u, v = (g.ravel() for g in np.meshgrid(np.arange(60) * np.pi / 30, np.linspace(-0.3, 0.3, 9), indexing="ij"))
    x = np.stack([(1 + v * np.cos(u / 2)) * np.cos(u), (1 + v * np.cos(u / 2)) * np.sin(u), v * np.sin(u / 2)], 1)
    place = np.arange(540).reshape(60, 9)
    after = np.concatenate([place[1:], place[:1, ::-1]])
    corner = [part.ravel() for part in (place[:, :-1], place[:, 1:], after[:, :-1], after[:, 1:])]
    faces = np.concatenate([np.stack([corner[i] for i in face], 1) for face in ((0, 1, 2), (1, 3, 2))])
    found = homeomorphism(lambda x: x[:, :2], x, faces=faces)
    assert found.form.genus is None
    assert "the surface has no orientation: no planar chart" in found.reasons


def test_a_scanned_face_is_a_disk_and_its_tutte_code_a_homeomorphism():
    x, faces = scan("face")
    form = topology(faces)
    assert (len(x), form.euler, form.genus, len(form.loops), form.planar) == (25905, 1, 0, 1, True)
    code = tutte(x, faces)
    found = homeomorphism(lambda x: code, x, faces=faces)
    assert found.holds
    folded, _ = overlapping(np.stack([np.abs(code[:, 0] - 0.1), code[:, 1]], 1), faces)
    left = code[faces][:, :, 0]
    assert folded[(left.max(1) < 0.1) & (left.min(1) > -0.5) & (np.abs(code[faces][:, :, 1]).max(1) < 0.5)].all()
    assert not folded[left.max(1) < -0.8].any()  # farther from the fold than the other side reaches


def test_a_scanned_statue_of_genus_six_has_no_planar_chart():
    x, faces = scan("buddha")
    found = homeomorphism(lambda x: x[:, :2], x, faces=faces)
    assert (found.form.euler, found.form.genus, found.form.loops) == (-10, 6, ())
    assert found.reasons[0] == "the surface has 1 components, of genus 6, with 0 boundary loops: no planar chart"
    assert found.overlapping.mean() > 0.99
