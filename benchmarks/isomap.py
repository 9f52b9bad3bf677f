"""Landmark Isomap of 60,000 samples: seconds, memory, and how well it agrees with full Isomap on a subset.

    python benchmarks/isomap.py
    python benchmarks/isomap.py --data swiss-roll --n 60000 --landmarks 500

Each data set in a process of its own, whose peak memory is reported, imports included. The correlation is between the
distances of codes of 1,000 samples, by landmark Isomap of all, and by scikit-learn's full Isomap of those 1,000 alone
(`sklearn`); and by full Isomap along the same graph of all samples (`same graph`), which leaves the choice of landmarks
as the only difference. The swiss roll's own flat coordinates are its truth.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import numpy as np
import torch
from machine import about, timed
from scipy.spatial.distance import pdist
from sklearn.manifold import Isomap

from brenier import data
from brenier.manifold.graph import as_graph, graph_geodesics, neighbour_graph
from brenier.manifold.isomap import isomap

SUBSET = 1000


def samples(name: str, n: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples (n, D), and their flat coordinates where they are known."""
    if name == "swiss-roll":
        roll = data.swiss_roll(n, generator=torch.Generator().manual_seed(0))
        return roll.values, roll.truth["coordinates"]
    values = data.load(name).values[:n]
    return values.reshape(len(values), -1).astype(np.float32) / 255, None


def scaled(graph: object, rows: np.ndarray, dim: int) -> np.ndarray:
    """Classical scaling of some rows by their distances along a graph: full Isomap restricted to them."""
    squares = np.square(graph_geodesics(as_graph(graph), rows).distances[:, rows])
    mean = squares.mean(1)
    values, vectors = np.linalg.eigh(-(squares - mean - mean[:, None] + mean.mean()) / 2)
    return vectors[:, -dim:] * np.sqrt(values[-dim:])


def measure(name: str, n: int, landmarks: int, k: int) -> None:
    x, truth = samples(name, n)
    graph = timed(neighbour_graph, x, k)
    found = timed(isomap, graph.answer, 2, landmarks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    largest = np.flatnonzero(found.answer.components == 0)
    rows = np.sort(np.random.default_rng(0).choice(largest, min(SUBSET, len(largest)), replace=False))
    codes = pdist(found.answer.codes[rows])
    same = np.corrcoef(codes, pdist(scaled(graph.answer, rows, 2)))[0, 1]
    alone = np.corrcoef(codes, pdist(Isomap(n_neighbors=k, n_components=2).fit_transform(x[rows])))[0, 1]
    known = "" if truth is None else f"{np.corrcoef(codes, pdist(truth[rows]))[0, 1]:.5f}"
    sizes = np.bincount(found.answer.components)
    print(
        f"| {name} | {len(x):,} × {x.shape[1]} | {landmarks} | {k} | {len(sizes)} ({sizes[0]:,}) | {graph.wall:.0f} / "
        f"{graph.cpu:.0f} | {found.wall:.0f} / {found.cpu:.0f} | {peak:.2f} | {same:.5f} | {alone:.4f} | {known} | "
        f"{found.answer.stress} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=("swiss-roll", "fashion-mnist"))
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--landmarks", type=int, default=500)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return measure(options.data[0], options.n, options.landmarks, options.k)
    print("## Landmark Isomap\n")
    print(about("torch", "numpy", "scipy", "scikit-learn", threads=torch.get_num_threads()), end="\n\n")
    print(
        "| data | samples | landmarks | k | components (largest) | graph, s wall / CPU | Isomap, s wall / CPU | ",
        end="",
    )
    print("peak GB | correlation, same graph | sklearn | truth | geodesic stress |\n|" + "---|" * 12, flush=True)
    for name in options.data:
        numbers = [f"--{key}={getattr(options, key)}" for key in ("n", "landmarks", "k")]
        subprocess.run([sys.executable, __file__, "--child", "--data", name, *numbers], check=True)


if __name__ == "__main__":
    main()
