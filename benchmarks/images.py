"""AE-OT on real images with default settings, beside other samplers in the same codes.

    python benchmarks/images.py fashion-mnist
    python benchmarks/images.py mnist --data-dir FOLDER_OF_MNIST_NPZ
    python benchmarks/images.py FOLDER/photos.npz --flow    # a flow besides, given the same seconds

Prints Markdown tables: mean ± spread over sampling seeds (one chart, one transport), and the seconds and the peak
memory of each stage (of the whole process, data included; by Linux's own record). fid is measured in features of a
classifier: never compare it with an Inception FID. The rivals are those of `rivals.py`. energy is the squared energy
distance to unseen images, in the space of the data: of AE-OT, of copies of training codes through the chart, and of
laws on 30 principal components of the images, without a chart.
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
from rivals import apart, decoded, flow_seconds, plain_laws, principal_error, samplers

import brenier
from brenier import data

SHOWN = ("fid", "fid_rec", "c2st", "nn", "precision", "recall", "density", "coverage")
COMPONENTS = (30, 100)  # of the mixtures whose size is given


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


def spread(rows: list[list[float]]) -> list[tuple[float, float]]:
    """Mean and deviation of each column."""
    return list(zip(np.mean(rows, 0), np.std(rows, 0, ddof=min(1, len(rows) - 1)), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--data-dir")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--latent-dim", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--flow", action="store_true")
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
    x, known = model.layout_.to_network(test.values), model.layout_.to_network(train.values)
    rebuilt = model.chart_.decode(model.chart_.encode(x))
    plain = principal_error(known.flatten(1), x.flatten(1), model.codes_.shape[1])
    numbers = model.evaluate(test.values)
    fid_of_reconstructions = brenier.report.frechet(model.features().features(rebuilt), model.features().features(x))
    print(f"Reconstruction: mse {numbers['mse']} (principal components {plain:.4g}), FID {fid_of_reconstructions};")
    print(f"accepted {numbers['accepted']}.\n")
    laws = samplers(model, COMPONENTS, flow_seconds(model) if options.flow else None)
    print("| sampler | " + " | ".join(SHOWN) + " | seconds |")
    print("|---|" + "---|" * (len(SHOWN) + 1), flush=True)
    for name, draw in laws.items():
        rows, began = [], time.perf_counter()
        for seed in range(1, options.seeds + 1):
            numbers = model.judge(draw(len(x), seed), x)
            rows.append([numbers[key].mean for key in SHOWN])
        cells = " | ".join(f"{m:.3f} ± {s:.3f}" for m, s in spread(rows))
        print(f"| {name} | {cells} | {time.perf_counter() - began:.0f} |", flush=True)
    print("\n| law of the data | energy | error of one |\n|---|---|---|", flush=True)
    own = {name: decoded(model, laws[name]) for name in ("AE-OT", "copies", "one Gaussian", "mixture by BIC")}
    for name, law in {**own, **plain_laws(known.flatten(1))}.items():
        found = [apart(law, known, x, seed) for seed in range(1, options.seeds + 1)]
        ((mean, deviation),) = spread([[e.mean] for e in found])
        print(f"| {name} | {mean:.4g} ± {deviation:.2g} | {np.mean([e.sem for e in found]):.2g} |", flush=True)


if __name__ == "__main__":
    main()
