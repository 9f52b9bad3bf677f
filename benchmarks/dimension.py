"""Intrinsic dimension of manifolds with known truth, and of MNIST and Fashion-MNIST, beside scikit-dimension.

    python benchmarks/dimension.py
    python benchmarks/dimension.py --n 4096 --seeds 1 --noise 0 0.003 --without-images --mnist shared/data/mnist.npz

Manifolds of scikit-dimension's BenchmarkManifolds (Hein and Audibert 2005; Campadelli et al. 2015), dimensions 1 to 20,
scaled to a mean square of 1. `noise` s: turned into 784 dimensions by a random rotation, with Gaussian noise of mean
square s² added to every sample. An interval is mean ± 2 sem; `holds` counts the draws whose interval holds the truth.
"""

from __future__ import annotations

import argparse

import numpy as np
import skdim
import torch
from machine import about, timed

from brenier import data
from brenier.manifold.dimension import intrinsic_dimension

NAMES = (
    *("M13b_Spiral", "M5a_Helix1d", "M7_Roll", "Mp1_Paraboloid", "M3_Nonlinear_4to6", "M4_Nonlinear", "M6_Nonlinear"),
    *("Mp3_Paraboloid", "M1_Sphere", "M10a_Cubic", "Mbeta", "M10b_Cubic", "Mn1_Nonlinear", "M9_Affine", "M12_Norm"),
)
AMBIENT = 784
OURS = (("two_nn", False), ("mle", False), ("two_nn", True), ("mle", True))
THEIRS = {"TwoNN": skdim.id.TwoNN(), "MLE": skdim.id.MLE(K=10)}


def manifold(name: str, n: int, seed: int, noise: float) -> tuple[int, np.ndarray]:
    """The dimension and n samples."""
    made = skdim.datasets.BenchmarkManifolds(random_state=seed)
    d, ambient = made.truth.loc[name, ["Intrinsic Dimension", "Number of variables"]]
    x = np.asarray(made.generate(name, n=n, dim=ambient, d=d), dtype=np.float64)
    x = (x - x.mean(0)) / np.sqrt(x.var(0).sum())
    if noise:
        random = np.random.default_rng(seed)
        turn = np.linalg.qr(random.normal(size=(AMBIENT, ambient)))[0]
        x = x @ turn.T + noise / np.sqrt(AMBIENT) * random.normal(size=(n, AMBIENT))
    return int(d), x


def known(n: int, seeds: int, noise: float) -> None:
    print(f"\nNoise {noise:g}, {n:,} samples, {seeds} draws (the first is shown):\n")
    heads = [method + (", corrected" if corrected else "") for method, corrected in OURS]
    print(f"| manifold | dimension | in | {' | '.join(f'{h} | holds' for h in heads)} | {' | '.join(THEIRS)} |")
    print("|" + "---|" * (3 + 2 * len(OURS) + len(THEIRS)), flush=True)
    for name in NAMES:
        cells: list[str] = []
        draws = [manifold(name, n, seed, noise) for seed in range(seeds)]
        d, x = draws[0]
        for method, corrected in OURS:
            found = [intrinsic_dimension(y, method, corrected=corrected) for _, y in draws]
            cells += [f"{found[0].mean:.2f} ± {found[0].sem:.2f}", f"{sum(abs(m - d) <= 2 * s for m, s in found)}"]
        cells += [f"{peer.fit(x).dimension_:.2f}" for peer in THEIRS.values()]
        print(f"| {name} | {d} | {x.shape[1]} | {' | '.join(cells)} |", flush=True)


def images(n: int, path: str | None) -> None:
    sets = {"fashion-mnist": "fashion-mnist", "mnist": path or "mnist"}
    print(
        f"\nImages, {n:,} of each:\n\n| data | by | dimension | seconds, wall | CPU |\n|---|---|---|---|---|",
        flush=True,
    )
    for name, place in sets.items():
        loaded = data.load(place)
        x = loaded.values[:n].reshape(n, -1).astype(np.float64) / 255
        for method, corrected in (*OURS, ("pca", False)):
            run = timed(lambda m=method, c=corrected: intrinsic_dimension(x, m, corrected=c))  # noqa: B023
            shown = method + (", corrected" if corrected else "")
            print(f"| {name} | {shown} | {run.answer} | {run.wall:.1f} | {run.cpu:.1f} |", flush=True)
        for peer in ("TwoNN", "MLE"):
            run = timed(lambda p=THEIRS[peer]: p.fit(x).dimension_)  # noqa: B023
            print(
                f"| {name} | scikit-dimension {peer} | {run.answer:.2f} | {run.wall:.1f} | {run.cpu:.1f} |", flush=True
            )
        classes = intrinsic_dimension(x, labels=loaded.labels[:n])
        print(f"| {name} | two_nn by class | {', '.join(f'{k}: {v}' for k, v in classes.items())} | | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", type=float, nargs="*", default=(0.0, 0.003))
    parser.add_argument("--mnist", help="path of mnist.npz")
    parser.add_argument("--without-images", action="store_true")
    options = parser.parse_args()
    print("## Intrinsic dimension\n")
    print(about("torch", "numpy", "scikit-dimension", threads=torch.get_num_threads()))
    for noise in options.noise:
        known(options.n, options.seeds, noise)
    if not options.without_images:
        images(options.n, options.mnist)


if __name__ == "__main__":
    main()
