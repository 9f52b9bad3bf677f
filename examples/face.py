"""A scanned face and its chart: an autoencoder of rectifiers, its codes in the plane, and the cells of both networks.

    python examples/face.py face.obj --out runs/face

Reads the vertices and triangles of an .obj file that is a disk. An autoencoder that starts anywhere may fold the
surface; this one starts near a map that doesn't, Tutte's. Then both networks are trained together. Prints the error of
the reconstruction, the share of the surface that is folded over, how many cells there are; writes chart.png and
cells.png. Takes about two minutes of one thread.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from brenier.manifold import Chart, fit, read_obj, tutte
from brenier.manifold.cells import relu_cells, surface_cells
from brenier.manifold.networks import Decoder, Encoder, Restore, Standardise, seeded
from brenier.report.cells import cell_figure, chart_figure


def chart(widths: list[int]) -> Chart:
    """An autoencoder from space to the plane and back, of linear layers and rectifiers."""

    def perceptron(sizes: list[int]) -> nn.Sequential:
        steps = [step for a, b in pairwise(sizes) for step in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*steps[:-1])

    with seeded(0):
        encoder = Encoder(perceptron([3, *widths, 2]), Standardise(3), (3,), 2)
        return Chart(encoder, Decoder(perceptron([2, *widths[::-1], 3]), Restore(3), 2))


def disk(x: Tensor, faces: Tensor) -> Tensor:
    """Tutte's code (n, 2) of a disk, its radii rearranged for disks to have the area that they hold of the surface."""
    z = tutte(x, faces)
    area = torch.zeros(len(x)).index_add_(0, faces.flatten(), doubled_areas(x, faces).repeat_interleave(3))
    radius = z.norm(dim=1)
    order = radius.argsort()
    even = torch.empty_like(radius)
    even[order] = (area[order].cumsum(0) / area.sum()).sqrt()
    return z * (even / radius.clamp(min=1e-12))[:, None]


def doubled_areas(x: Tensor, faces: Tensor) -> Tensor:
    """Twice the area (f,) of triangles of x (n, 3)."""
    a, b, c = x[faces].unbind(1)
    return torch.linalg.cross(b - a, c - a).norm(dim=1)


def start(model: Chart, x: Tensor, z: Tensor, steps: int) -> None:
    """Train the encoder towards the codes z (n, 2) of x (n, 3), and the decoder back from them."""
    standard, order = (x - x.mean(0)) / x.std(0), torch.Generator().manual_seed(0)
    encoder, decoder = model.encoder.body, model.decoder.body
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (256,), generator=order)
        loss = (encoder(standard[rows]) - z[rows]).square().mean() + (decoder(z[rows]) - standard[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def folded(codes: Tensor, x: Tensor, faces: Tensor) -> float:
    """The share of the area of x whose triangles are turned over in the plane, against most others."""
    a, b, c = codes[faces].unbind(1)
    turn = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    area = doubled_areas(x, faces)
    share = float(area[turn < 0].sum() / area.sum())
    return min(share, 1 - share)


def main() -> None:
    """Read, train, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/face"))
    parser.add_argument("--widths", type=int, nargs="+", default=[96, 64])
    parser.add_argument("--steps", type=int, default=5000, help="towards the map that folds nothing")
    parser.add_argument("--epochs", type=int, default=20, help="of both networks together")
    options = parser.parse_args()

    vertices, triangles = read_obj(options.path)
    x, faces = torch.from_numpy(vertices).float(), torch.from_numpy(triangles).long()
    model = chart(options.widths)
    start(model, x, disk(x, faces), options.steps)
    solution = fit(model, x, validation=0.05, epochs=options.epochs, lr=1e-3, generator=0)
    print(solution.status)
    codes = model.encode(x)
    rebuilt = model.decode(codes)
    error = (rebuilt - x).norm(dim=1)
    size = float((x.amax(0) - x.amin(0)).norm())
    print(f"error of the reconstruction: root mean square {error.square().mean().sqrt() / size:.2%} of the diagonal,")
    print(f"largest {error.max() / size:.2%}; {folded(codes, x, faces):.2%} of the surface is folded over")

    low, high = codes.amin(0), codes.amax(0)
    margin = 0.03 * (high - low)
    surface = surface_cells(model.encoder, x, faces)
    plane = relu_cells(model.decoder, torch.stack([low - margin, high + margin]))
    print(f"the encoder has {len(surface.codes.unique(dim=0)):,} cells on the surface, the decoder {len(plane):,}")

    options.out.mkdir(parents=True, exist_ok=True)
    chart_figure(x, faces, codes, rebuilt).savefig(options.out / "chart.png")
    cell_figure(x, faces, codes, surface, plane).savefig(options.out / "cells.png")


if __name__ == "__main__":
    main()
