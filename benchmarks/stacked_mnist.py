"""Stacked MNIST: three random digits as the channels of one image make 1,000 modes.

    python benchmarks/stacked_mnist.py --data-dir FOLDER_OF_MNIST_NPZ

Protocol: 26,000 samples, a mode counts when one sample is classified as it (each channel by a digit classifier), KL of
the modes' histogram to that of uniform modes. 26,000 perfect samples give a KL of 0.019.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

import brenier
from brenier import data, report

SAMPLES = 26_000


def histogram_kl(modes: np.ndarray) -> tuple[int, float]:
    """Number of modes hit and KL(histogram ‖ uniform over 1,000 modes)."""
    share = np.bincount(modes, minlength=1000) / len(modes)
    hit = share[share > 0]
    return len(hit), float((hit * np.log(hit * 1000)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--latent-dim", type=int)
    options = parser.parse_args()
    mnist = data.load("mnist", data_dir=options.data_dir)
    layout = mnist.layout
    classifier = report.Features.fit(mnist.values, mnist.labels, 0, convert=layout.to_network)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(mnist), (options.rows, 3))
    stacked = np.stack([mnist.values[rows[:, c]] for c in range(3)], 3)

    def modes(images: np.ndarray) -> np.ndarray:
        digits = []
        for c in range(3):
            x = layout.to_network(images[..., c])
            parts = [classifier.network(classifier.standardised(part)).argmax(1) for part in x.split(1000)]
            digits.append(torch.cat(parts).numpy())
        return digits[0] * 100 + digits[1] * 10 + digits[2]

    began = time.perf_counter()
    model = brenier.AEOT(latent_dim=options.latent_dim).fit(stacked)
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in model.seconds_.items())
    print(f"{options.rows:,} training images, latent {model.codes_.shape[1]}, {stages}; {model.transport_}")
    print(f"digit classifier: held-out accuracy {classifier.accuracy}")
    print("| samples | modes of 1,000 | KL |\n|---|---|---|")
    for name, images in (
        ("uniform modes, the floor", None),
        ("training images", stacked[rng.integers(0, len(stacked), SAMPLES)]),
        ("reconstructions", model.decode(model.codes_[torch.from_numpy(rng.integers(0, len(stacked), SAMPLES))])),
        ("AE-OT", model.sample(SAMPLES)),
    ):
        hit, kl = histogram_kl(rng.integers(0, 1000, SAMPLES) if images is None else modes(np.asarray(images)))
        print(f"| {name} | {hit} | {kl:.4f} |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
