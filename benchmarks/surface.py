"""Sampled surfaces against a known truth: errors as samples get denser, nets, encoders, atlases, singular points.

    python benchmarks/surface.py
    python benchmarks/surface.py --sizes 500 1000 2000 4000 8000 --scans FOLDER

Prints Markdown tables. Needs the extra `surface`; `--scans` names a folder with face.obj and buddha.obj. Seconds are
those of the CPU. `h` is the longest edge; the orders are slopes of log error over log h.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from machine import about, timed

from brenier import data
from brenier.manifold.atlas import atlas
from brenier.manifold.homeomorphism import homeomorphism
from brenier.manifold.mesh import read_obj
from brenier.manifold.nets import epsilon_net
from brenier.manifold.planar import tutte
from brenier.manifold.singular_points import singular_points
from brenier.manifold.surface import surface_convergence
from brenier.manifold.true_surfaces import lantern, true_paraboloid, true_sphere, true_torus


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def convergence(sizes: list[int]) -> None:
    for truth in (true_sphere(), true_torus(), true_paraboloid(), true_paraboloid(0.0), lantern(lambda k: k)):
        print(f"\n{surface_convergence(truth, sizes)}")
    print(f"\nThe lantern with k² bands:\n\n{surface_convergence(lantern(lambda k: k * k), sizes)}")


def nets() -> None:
    x = np.random.default_rng(0).standard_normal((100_000, 50))
    print("\n| net of 100,000 x 50 | points | covering radius | least distance inside | CPU s |\n|---|---|---|---|---|")
    for asked in ({"size": 256}, {"epsilon": 9.0}):
        run = timed(lambda asked=asked: epsilon_net(x, **asked))
        net = run.answer
        radii = f"{net.covering_radius:.4f} | {2 * net.packing_radius:.4f}"
        print(f"| {asked} | {len(net.indices)} | {radii} | {run.cpu:.1f} |")


def encoders(folder: Path) -> None:
    print("\n| mesh | code | verdict | CPU s |\n|---|---|---|---|")
    for name in ("face", "buddha"):
        x, faces = read_obj(folder / f"{name}.obj")
        codes = {"projection": x[:, :2]}
        if name == "face":
            code = tutte(x, faces)
            codes = {"Tutte": code, "Tutte, folded": np.stack([np.abs(code[:, 0] - 0.1), code[:, 1]], 1), **codes}
        for what, z in codes.items():
            run = timed(lambda x=x, z=z, faces=faces: homeomorphism(lambda _: z, x, faces=faces))
            print(f"| {name} | {what} | {run.answer} | {run.cpu:.1f} |")


def atlases() -> None:
    print("\n| data | charts | | CPU s |\n|---|---|---|---|")
    for samples in (data.sphere(1500, generator=seeded()), data.torus(2500, generator=seeded())):
        run = timed(atlas, samples.values, 2)
        residual = np.median([t.residual for t in run.answer.transitions])
        print(f"| {samples.name} | {run.answer} | median residual of a transition {residual:.2g} | {run.cpu:.1f} |")


def singular() -> None:
    plane, line = (np.random.default_rng(seed).uniform(-1, 1, (4000, 3)) for seed in (0, 1))
    sets = {
        "sphere": data.sphere(4000, generator=seeded()).values,
        "torus": data.torus(4000, generator=seeded()).values,
        "swiss roll": data.swiss_roll(6000, generator=seeded()).values,
        "plane and line": np.concatenate([plane * [1, 1, 0], line[:400] * [0, 0, 1]]),
        "two planes": np.concatenate([plane * [1, 1, 0], line * [1, 0, 1]]),
    }
    print("\n| data | singular, rate 0.01 | CPU s |\n|---|---|---|")
    for name, x in sets.items():
        run = timed(singular_points, x)
        print(f"| {name} | {run.answer} | {run.cpu:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 500, 1000, 2000, 4000])
    parser.add_argument("--scans", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(about("robust_laplacian", "potpourri3d", "scipy", threads=1))
    convergence(arguments.sizes)
    nets()
    atlases()
    singular()
    if arguments.scans:
        encoders(arguments.scans)


if __name__ == "__main__":
    main()
