"""From a scan on disk to its chart, its cells and their pictures; from a transport's ridges to a decoder's cells."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from brenier.manifold.crossings import cells_between
from brenier.manifold.networks import seeded
from brenier.measures import UniformCube
from brenier.transport import BrenierPotential, singular_set

FACE = Path(__file__).parents[2] / "examples" / "face.py"


def test_the_example_of_a_face_on_a_small_dome(tmp_path, monkeypatch, capsys):
    n = 12
    grid = [(2 * i / (n - 1) - 1, 2 * j / (n - 1) - 1) for i in range(n) for j in range(n)]
    lines = [f"v {a} {b} {1 - (a * a + b * b) / 2}" for a, b in grid]
    for i in range(n - 1):
        for j in range(n - 1):
            a, b, c, d = n * i + j + 1, n * i + j + n + 1, n * i + j + n + 2, n * i + j + 2
            lines += [f"f {a} {b}/1 {c}/1/1", f"f {a} {c} {d}"]
    (tmp_path / "dome.obj").write_text("\n".join(lines))
    options = ["--out", str(tmp_path), "--widths", "16", "16", "--steps", "1000", "--epochs", "10"]
    monkeypatch.setattr(sys, "argv", ["face.py", str(tmp_path / "dome.obj"), *options])
    runpy.run_path(str(FACE), run_name="__main__")
    said = capsys.readouterr().out
    error = float(said.split("root mean square ")[1].split("%")[0])
    assert error < 4
    assert float(said.split("largest ")[1].split("; ")[1].split("%")[0]) < 1  # folded over
    for name in ("chart.png", "cells.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size[0] == 1440


def test_a_ridge_of_a_transport_lies_in_few_cells_of_a_coarse_decoder_and_in_many_of_a_fine_one(generator):
    y = 0.1 * torch.randn(60, 2, generator=generator) + torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).repeat(30, 1)
    u = BrenierPotential(y, -0.5 * y.square().sum(1))
    ridges = singular_set(u, UniformCube(2, -1.5, 1.5), generator=generator).facets
    counts = []
    for width in (1, 64):
        with seeded(0):
            decoder = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 5))
        counts.append(cells_between(decoder, u.points[ridges]))
    assert len(ridges) == len(counts[0]) > 0
    assert counts[0].max() <= 1
    assert counts[1].min() > 5
    with pytest.raises(ValueError, match="pairs must have shape"):
        cells_between(decoder, u.points)
