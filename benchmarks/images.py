"""AE-OT on real images with default settings, beside other samplers in the same codes.

    python benchmarks/images.py fashion-mnist
    python benchmarks/images.py mnist --data-dir FOLDER_OF_MNIST_NPZ

Prints a Markdown table: mean ± spread over sampling seeds (one chart, one transport), and the seconds and the peak
memory of each stage (of the whole process, data included; by Linux's own record). fid is measured in features of a
classifier: never compare it with an Inception FID.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import brenier
from brenier import data, measures, transport
from brenier.generate import TransportSampler
from brenier.report import baselines

SHOWN = ("fid", "fid_rec", "c2st", "nn", "precision", "recall", "density", "coverage")
GMM_ROWS = 20_000  # codes that the mixtures are fitted on, to keep them quick


class Watched(brenier.AEOT):
    """A model that keeps the peak memory of each stage, GB."""

    def _stage(self, name: str, *work: Any) -> Any:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        answer = super()._stage(name, *work)
        self.peaks_ = getattr(self, "peaks_", {}) | {name: peak()}
        return answer


def peak() -> float:
    """The largest memory that the process has held since the peak began, GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def seeded(seed: int) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def samplers(model: brenier.AEOT) -> dict:
    """Name to (n, seed) -> codes."""
    codes, source = model.codes_, measures.Gaussian(model.codes_.shape[1])
    some = codes[torch.randperm(len(codes), generator=seeded(0))[:GMM_ROWS]]
    paper = transport.extend(
        model.transport_.potential, source, "barycentric", singular=model.singular_, generator=seeded(0)
    )
    return {
        "AE-OT (local)": lambda n, seed: model.draw(n, seed).codes,
        "AE-OT (barycentric)": lambda n, seed: TransportSampler(paper, source).draw(n, seed).codes,
        "copies of training codes": lambda n, seed: baselines.copies(codes, n, seed),
        "one Gaussian": lambda n, seed: baselines.gaussian(codes, n, seed),
        "GMM-30": lambda n, seed: baselines.gmm(some, n, seed, components=30),
        "GMM-100": lambda n, seed: baselines.gmm(some, n, seed, components=100),
        "KDE 0.1": lambda n, seed: baselines.kde(codes, n, seed),
        "SMOTE, k = 5": lambda n, seed: baselines.smote(codes, n, seed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--data-dir")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--latent-dim", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--save")
    parser.add_argument("--load")
    options = parser.parse_args()
    train = data.load(options.data, data_dir=options.data_dir, limit=options.limit)
    test = data.load(options.data, data_dir=options.data_dir, split="test")
    if options.load:
        model, memory = brenier.load(options.load), {}
        model._data = train
    else:
        model = Watched(latent_dim=options.latent_dim).fit(train.values, train.labels)
        memory = model.peaks_
    if options.save:
        model.save(options.save)
    print(f"## {options.data}: {len(train):,} training and {len(test):,} test images, latent {model.codes_.shape[1]}\n")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; seed 0.")
    stages = [f"{name} {t:.0f} s, {memory.get(name, math.nan):.1f} GB" for name, t in model.seconds_.items()]
    print(f"Fit: {'; '.join(stages)}; {sum(model.seconds_.values()):.0f} s in all.", flush=True)
    print(f"Transport: {model.transport_}")
    print(
        f"{len(set(model.modes_))} modes, singular mass {model.singular_.mass}, strength {model.extension_.strength},"
    )
    print(f"{model.extension_.local.near.shape[1]} neighbours. Classifier accuracy {model.features().accuracy}.")
    x = model.layout_.to_network(test.values)
    rebuilt = model.chart_.decode(model.chart_.encode(x))
    numbers = model.evaluate(test.values)
    fid_of_reconstructions = brenier.report.frechet(model.features().features(rebuilt), model.features().features(x))
    print(f"Reconstruction: mse {numbers['mse']}, FID {fid_of_reconstructions}; accepted {numbers['accepted']}.\n")
    print("| sampler | " + " | ".join(SHOWN) + " | seconds |")
    print("|---|" + "---|" * (len(SHOWN) + 1), flush=True)
    for name, draw in samplers(model).items():
        rows, began = [], time.perf_counter()
        for seed in range(1, options.seeds + 1):
            numbers = model.judge(draw(len(x), seed), x)
            rows.append([numbers[key].mean for key in SHOWN])
        mean, spread = np.mean(rows, 0), np.std(rows, 0, ddof=min(1, options.seeds - 1))
        cells = " | ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, spread, strict=True))
        print(f"| {name} | {cells} | {time.perf_counter() - began:.0f} |", flush=True)


if __name__ == "__main__":
    main()
