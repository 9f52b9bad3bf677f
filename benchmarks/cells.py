"""Exact cells of rectifier networks on the square [-1, 1]², beside what sampling finds of them.

    python benchmarks/cells.py
    python benchmarks/cells.py --widths 2,64,64,2 --samples 1000000

Prints a Markdown table: the exact number of cells and the CPU seconds for them, with polygons, neighbours and affine
maps; of the cells on as many random points as --samples their distinct codes, by the same library's
`activation_codes`, and the CPU seconds of that. Weights are normal with variance 2/fan-in, biases with deviation 0.4.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import torch
from machine import about, median, timed
from torch import nn

from brenier.manifold.activation import activation_codes
from brenier.manifold.cells import relu_cells
from brenier.manifold.networks import seeded

CASES = ("2,16,16,2", "2,64,64,2", "2,64,64,64,2", "2,128,128,2", "2,64,64,784")


def perceptron(widths: list[int], dtype: torch.dtype) -> nn.Sequential:
    with seeded(0):
        steps: list[nn.Module] = []
        for a, b in pairwise(widths):
            linear = nn.Linear(a, b)
            nn.init.normal_(linear.weight, std=(2 / a) ** 0.5)
            nn.init.normal_(linear.bias, std=0.4)
            steps += [linear, nn.ReLU()]
    return nn.Sequential(*steps[:-1]).to(dtype)


def sampled(network: nn.Module, samples: int) -> int:
    """How many distinct codes random points of the square have."""
    generator = torch.Generator().manual_seed(0)
    seen = None
    for _ in range(max(samples // 100_000, 1)):
        x = 2 * torch.rand(min(samples, 100_000), 2, generator=generator, dtype=torch.float64) - 1
        codes = activation_codes(network, x).unique(dim=0)
        seen = codes if seen is None else torch.cat([seen, codes]).unique(dim=0)
    return len(seen) if seen is not None else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", default=CASES)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("## Exact cells of rectifier networks\n")
    print(about("torch", threads=1))
    print(
        f"\n| widths | cells | error of the area | CPU seconds | found by {options.samples:,} samples | CPU seconds |"
    )
    print("|" + "---|" * 6, flush=True)
    for case in options.widths:
        network = perceptron([int(w) for w in case.split(",")], torch.float64)
        runs = [timed(relu_cells, network, [[-1.0, -1.0], [1.0, 1.0]]) for _ in range(options.repeats)]
        cells = runs[0].answer
        error = abs(float(cells.areas.sum()) / 4 - 1)
        some = timed(sampled, network, options.samples)
        seconds = median(run.cpu for run in runs)
        print(f"| {case} | {len(cells):,} | {error:.1g} | {seconds} | {some.answer:,} | {some.cpu:.3g} |", flush=True)


if __name__ == "__main__":
    main()
