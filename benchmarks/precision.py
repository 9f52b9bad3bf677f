"""What coarser products and `torch.compile` gain in the training of a chart: Fashion-MNIST, the same seed and epochs.

    python benchmarks/precision.py
    python benchmarks/precision.py --samples 60000 --epochs 20 --device cuda

CPU seconds (on a GPU: seconds) of an epoch, the median of all but the first, which compiles; held-out error at the end.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from machine import about, median

from brenier import data, manifold

SHAPES = {"convolutional": {"shape": [1, 28, 28]}, "mlp": {"dim": 784}}


def trained(samples: data.Samples, kind: str, options: argparse.Namespace, precision: str, compiled: bool) -> Any:
    """Seconds of each epoch and the last held-out error."""
    chart = manifold.build({"kind": kind, **SHAPES[kind], "latent_dim": 10}, generator=0)
    if compiled:
        chart.encoder.compile()
        chart.decoder.compile()
    clock = time.perf_counter if options.device.startswith("cuda") else time.process_time
    times = [clock()]
    found = manifold.fit(
        chart,
        samples.values if kind == "convolutional" else samples.values.reshape(len(samples), -1) / np.float32(255),
        epochs=options.epochs,
        generator=0,
        device=options.device,
        precision=precision,
        on_epoch=lambda entry: times.append(clock()),
        **({"to_network": samples.layout.to_network} if kind == "convolutional" else {}),
    )
    return np.diff(times), found.history[-1]["validation"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    samples = data.load("fashion-mnist", limit=options.samples)
    print("## Precision and compilation of a chart's training\n")
    print(about("torch", threads=options.threads))
    print(f"\n{options.samples:,} images, {options.epochs} epochs, {options.device}.\n")
    print("| network | products | compiled | seconds an epoch | of plain | held-out error |\n|" + "---|" * 6)
    for kind in SHAPES:
        plain = None
        for compiled in (False, True):
            for precision in manifold.PRECISIONS:
                times, error = trained(samples, kind, options, precision, compiled)
                plain = plain or float(np.median(times[1:]))
                shown = f"{median(times[1:])} | {np.median(times[1:]) / plain:.2f} | {error:.4g}"
                print(f"| {kind} | {precision} | {'yes' if compiled else 'no'} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
