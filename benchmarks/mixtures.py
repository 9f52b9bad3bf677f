"""Modes that must not be lost or mixed: ring-8, grid-25, eleven unequal blobs, a spiral, at four scales.

    python benchmarks/mixtures.py

Prints a Markdown table: modes found and hit, purity of the modes, samples beyond 4 sigma of every centre, acceptance,
share of noise on the singular set, whether the singular facets and modes are the same at every scale, seconds.
For the spiral, the largest distance of a sample to the curve, in gaps between the arms (0.5 is half way).
"""

from __future__ import annotations

import time

import numpy as np
import torch

from brenier import AEOT, data

SCALES = (0.1, 1.0, 10.0, 1000.0)
DRAWN = 20_000


def generator(seed: int = 0) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def purity(modes: np.ndarray, truth: np.ndarray) -> float:
    """The share of targets whose mode's most frequent true cluster is their own."""
    return sum(np.unique(truth[modes == mode], return_counts=True)[1].max() for mode in np.unique(modes)) / len(truth)


def clusters(name: str, samples: data.Samples, extension: str) -> None:
    """One row per scale."""
    centres, stds = samples.truth["centres"], samples.truth["stds"]
    seen = []
    for scale in SCALES:
        began = time.perf_counter()
        model = AEOT(chart="identity", extension=extension).fit(samples.values * scale)
        draw = model.draw(DRAWN)
        seconds = time.perf_counter() - began
        away = np.linalg.norm(draw.codes.numpy()[:, None] / scale - centres, axis=2) / stds
        hit = len(np.unique(away.argmin(1)[away.min(1) < 3]))
        facets = {tuple(pair) for pair in model.singular_.facets.tolist()}
        seen.append((facets, model.modes_.tolist()))
        same = "yes" if seen[0][1] == model.modes_.tolist() and seen[0][0] == facets else "no"
        print(
            f"| {name} | {extension} | {scale:g} | {len(set(model.modes_))} of {len(centres)} | {hit} | "
            f"{purity(model.modes_, samples.labels):.3f} | {(away.min(1) > 4).mean():.3%} | {draw.accepted} | "
            f"{model.singular_.mass} | {model.transport_.relrms} | {same} | {seconds:.0f} |",
            flush=True,
        )


def main() -> None:
    print(
        "| data | extension | scale | modes found | modes hit | purity | beyond 4σ | accepted | singular | relrms |",
        end="",
    )
    print(" same verdicts | seconds |\n|" + "---|" * 12)
    for name, make, m in (
        ("ring-8", data.ring, 2000),
        ("grid-25", data.grid, 2500),
        ("eleven blobs", data.eleven_blobs, 2200),
    ):
        clusters(name, make(m, generator=generator()), "local")
    clusters("ring-8", data.ring(2000, generator=generator()), "barycentric")
    spiral = data.spiral(2000, gap=1.0, noise=0.03, generator=generator())
    fine = data.spiral(200_000, gap=1.0, noise=0.0, generator=generator(1)).values
    tree = torch.from_numpy(fine[:: len(fine) // 20_000])
    print("\n| spiral, extension | modes | farthest sample from the curve, in gaps | accepted |\n|---|---|---|---|")
    for extension in ("local", "barycentric"):
        model = AEOT(chart="identity", extension=extension).fit(spiral.values)
        draw = model.draw(DRAWN)
        farthest = max(torch.cdist(rows, tree).amin(1).max().item() for rows in draw.codes.split(1000))
        own = torch.cdist(torch.from_numpy(spiral.values), tree).amin(1).max().item()
        print(
            f"| {extension} | {len(set(model.modes_))} | {farthest:.3f} (data: {own:.3f}) | {draw.accepted} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
