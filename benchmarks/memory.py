"""The memory that a fit takes beyond its data: 60,000 x 784 float32, few epochs, the peak of each stage.

    python benchmarks/memory.py
    python benchmarks/memory.py --rows 60000 --kind images

The samples are random points of a curved 8-dimensional surface in 784 dimensions, as vectors or as images of 28 x 28.
Peaks are Linux's own record (VmHWM) of the whole process, less what it holds before the fit: libraries and data.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import about

import brenier
from brenier import checkpoint


class Watched(brenier.AEOT):
    """A model that keeps the peak memory of each stage, GB."""

    def _stage(self, name: str, *work: Any) -> Any:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        answer = super()._stage(name, *work)
        self.peaks_ = getattr(self, "peaks_", {}) | {name: held("VmHWM")}
        return answer


def held(what: str) -> float:
    """A line of the process's status, GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 2**20


def surface(rows: int, seed: int = 0) -> np.ndarray:
    """Points (rows, 784) float32 in 0..1, made a few at a time."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((8, 64)), rng.standard_normal((64, 784)) / 8
    out = np.empty((rows, 784), np.float32)
    for part in np.array_split(out, max(1, rows // 2000)):
        z = np.tanh(rng.standard_normal((len(part), 8)) @ first) @ second
        part[:] = 1 / (1 + np.exp(-z))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--kind", choices=("vectors", "images"), default="vectors")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    print(about("torch", threads=1) + "\n")
    x = surface(options.rows)
    x = x.reshape(-1, 28, 28) if options.kind == "images" else x
    warm = brenier.AEOT(latent_dim=2, epochs=1, tol=0.9, max_samples=2000)
    warm.fit(x[:64])  # libraries are loaded, inner loops compiled
    before = held("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.FIRST = 0.0
        model = Watched(epochs=options.epochs).fit(x, checkpoint=folder)
    kind = "vectors of 784" if options.kind == "vectors" else "images of 28 x 28"
    print(f"{len(x):,} {kind}, float32, {x.nbytes / 2**30:.2f} GB; held before the fit, data in it: {before:.2f} GB\n")
    print("| stage | seconds | peak beyond, GB |\n|---|---|---|")
    for name, peak in model.peaks_.items():
        print(f"| {name} | {model.seconds_[name]:.0f} | {peak - before:.2f} |")


if __name__ == "__main__":
    main()
