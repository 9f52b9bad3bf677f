"""Modes of codes beside k-means, HDBSCAN and Leiden; and how often one cloud is split.

    python benchmarks/modes.py                    # real data: 3 subsamples, Markdown
    python benchmarks/modes.py --null --seeds 200 # clouds with one mode: the share that is split

Codes are principal components, those of the library's own chart (12 epochs), or given embeddings: 50 components of
700 blood cells that scanpy ships (its file is read, nothing of it imported), and the last hidden layer of a small
classifier of clothes, on clothes that it never saw. k-means is told the number of classes. HDBSCAN: scikit-learn's,
clusters of at least n/200. Leiden: graspologic's, modularity on the graph of the 15 nearest. Scores are normalised
mutual information with the labels, mean and standard deviation over subsamples; seconds are of one thread.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from machine import about
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score

from brenier import AEOT, data
from brenier.report import Features
from brenier.transport import mode_tree
from brenier.transport.neighbours import neighbours

ROWS = 9_000
MNIST = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist.npz"
Codes = tuple[np.ndarray, np.ndarray]


def components(x: np.ndarray, d: int) -> np.ndarray:
    """The first d principal components (n, d) of images (n, ...)."""
    return PCA(d, random_state=0).fit_transform(x.reshape(len(x), -1) / 255.0)


def rows(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n)[:ROWS]


def images(name: str, seed: int) -> Codes:
    if name == "mnist":
        with np.load(MNIST) as file:
            x, y = file["x_train"], file["y_train"]
    else:
        samples = data.load(name)
        x, y = samples.values, samples.labels
    kept = rows(seed, len(x))
    return x[kept], y[kept]


def chart(name: str, seed: int) -> Codes:
    x, y = images(name, seed)
    return AEOT(epochs=None if name == "digits" else 12, tol=1.0, seed=seed).fit(x).codes_.double().numpy(), y


def cells(seed: int) -> Codes:
    import h5py

    spec = find_spec("scanpy")
    if spec is None or spec.origin is None:
        raise SystemExit("scanpy's data set of cells is missing: pip install --no-deps scanpy, and h5py")
    with h5py.File(Path(spec.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad") as file:
        codes, y = file["obsm"]["X_pca"].astype(float), file["obs"]["bulk_labels"]
    kept = np.random.default_rng(seed).permutation(len(codes))[: int(0.9 * len(codes))]
    return codes[kept], y[kept]


def clothes(seed: int) -> Codes:
    samples = data.load("fashion-mnist")
    order = np.random.default_rng(seed).permutation(60_000)
    x = torch.from_numpy(samples.values[order[:29_000], None] / 255).float()
    features = Features.fit(x[:20_000], samples.labels[order[:20_000]], seed)
    with torch.no_grad():
        codes = features(x[20_000:]).double().numpy()
    return PCA(30, random_state=0).fit_transform(codes), samples.labels[order[20_000:29_000]]


def pcs(name: str, d: int) -> Callable[[int], Codes]:
    def make(seed: int) -> Codes:
        x, y = images(name, seed)
        return components(x, d), y

    return make


SETS: dict[str, Callable[[int], Codes]] = {
    "digits, 15 components": pcs("digits", 15),
    "digits, chart": lambda seed: chart("digits", seed),
    "MNIST, 15 components": pcs("mnist", 15),
    "MNIST, chart": lambda seed: chart("mnist", seed),
    "Fashion-MNIST, 15 components": pcs("fashion-mnist", 15),
    "cells, 50 components": cells,
    "clothes, a classifier's layer": clothes,
}


def tree(codes: np.ndarray | torch.Tensor) -> object:
    n = len(codes)
    one, none = torch.zeros(n, dtype=torch.long), torch.zeros(0, 2, dtype=torch.long)
    return mode_tree(torch.as_tensor(codes), torch.full((n,), 1 / n), one, none)


def leiden(codes: np.ndarray, seed: int) -> np.ndarray:
    from graspologic_native import leiden as fit

    near = neighbours(torch.as_tensor(codes), 15)[0].numpy()
    edges = {tuple(sorted((i, int(j)))) for i, row in enumerate(near) for j in row}
    _, found = fit([(str(i), str(j), 1.0) for i, j in sorted(edges)], seed=seed, iterations=10)
    return np.array([found[str(i)] for i in range(len(codes))])


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "modes": lambda codes, y, seed: tree(codes).modes().numpy(),
    "k-means, told": lambda codes, y, seed: KMeans(len(set(y)), n_init=5, random_state=seed).fit_predict(codes),
    "HDBSCAN": lambda codes, y, seed: HDBSCAN(max(5, len(codes) // 200), copy=True).fit_predict(codes),
    "Leiden": lambda codes, y, seed: leiden(codes, seed),
}


def compare(names: list[str], seeds: int) -> None:
    print("| codes | n × d | " + " | ".join(METHODS) + " |\n|" + "---|" * (2 + len(METHODS)), flush=True)
    tree(np.random.default_rng(0).normal(size=(200, 2)))  # compiled before it is timed
    for name in names:
        made = {method: [] for method in METHODS}
        for seed in range(seeds):
            codes, y = SETS[name](seed)
            for method, run in METHODS.items():
                began = time.perf_counter()
                found = run(codes, y, seed)
                seconds = time.perf_counter() - began
                score = normalized_mutual_info_score(y, found)
                made[method].append((score, len(set(found)) - (-1 in found), seconds))
        texts = []
        for values in made.values():
            score, number, seconds = np.array(values).T
            texts.append(f"{score.mean():.3f} ± {score.std():.3f}, {number.mean():.3g} modes, {seconds.mean():.2g} s")
        print(f"| {name} | {len(codes):,} × {codes.shape[1]} | " + " | ".join(texts) + " |", flush=True)


def cloud(name: str, n: int, d: int, random: np.random.Generator) -> np.ndarray:
    """One cloud (n, d) with one mode; rings have noise of the root mean square norm that their name says."""
    if name == "Gaussian":
        return random.normal(size=(n, d))
    if name == "cube":
        return random.random((n, d))
    if name == "Student, 3":
        return random.standard_t(3, size=(n, d))
    if name == "exponential":
        return random.exponential(size=(n, d))
    if name in ("ball", "sphere"):
        x = random.normal(size=(n, d))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x * random.random((n, 1)) ** (1 / d) if name == "ball" else x
    angle = 2 * math.pi * random.random(n)
    y = float(name.split()[1]) / math.sqrt(d) * random.normal(size=(n, d))
    y[:, 0] += np.cos(angle)
    y[:, 1] += np.sin(angle)
    return y


NULLS = {
    **{"Gaussian": (1, 2, 5, 10, 20), "cube": (1, 2, 3, 5, 20), "ball": (5,), "sphere": (3, 10)},
    **{"exponential": (2, 5), "Student, 3": (2, 5)},
    **{"ring 0": (2,), "ring 0.03": (2, 20), "ring 0.2": (2, 5, 20), "ring 0.45": (5, 20)},
}


def null(sizes: list[int], seeds: int) -> None:
    print(f"Shares of {seeds} samples of one cloud that are split; in brackets the 95 % quantile of the greatest")
    print("prominence over what is needed.\n\n| cloud | d | " + " | ".join(f"n = {n:,}" for n in sizes) + " |")
    print("|" + "---|" * (2 + len(sizes)), flush=True)
    for name, dims in NULLS.items():
        for d in dims:
            cells = []
            for n in sizes:
                most = []
                for seed in range(seeds):
                    found = tree(cloud(name, n, d, np.random.default_rng(seed)))
                    ratio = (found.prominence / found.needed)[found.saddle > -math.inf]
                    most.append(float(ratio.max()) if len(ratio) else 0.0)
                cells.append(f"{np.mean(np.array(most) >= 1):.3f} ({np.quantile(most, 0.95):.2f})")
            print(f"| {name} | {d} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--null", action="store_true", help="clouds with one mode instead of real data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1000, 3000])
    parser.add_argument("--only", nargs="+", choices=list(SETS), default=list(SETS), metavar="CODES")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(about("scikit-learn", "graspologic-native", threads=1) + "\n")
    if options.null:
        null(options.sizes, options.seeds)
    else:
        compare(options.only, options.seeds)


if __name__ == "__main__":
    main()
