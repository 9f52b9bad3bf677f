"""Curvature of decoders: the Gauss equation beside nested Jacobians of the metric.

    python benchmarks/decoders.py
    python benchmarks/decoders.py --repeats 3 --nested-points 256

Perceptrons with two hidden tanh layers and torch's default weights, seed 0, float64, codes N(0, I). The Riemann tensor
three ways: `geometry.pullback` (second derivatives of the decoder only); `jacfwd(jacfwd(G))` of G = JᵀJ, J by `jacfwd`,
which is all but the last step of the usual recipe, batched by `vmap` in chunks of the size that was quickest (all
points of 2→50; 16 of 8→784 among 4, 8, 16, 32); and `geometry.riemann` of the plain function x -> G(x).
Of 8→784 the slow ones are timed on 64 points and scaled; `--nested-points 256` takes all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from machine import about, median, timed
from torch import Tensor, nn
from torch.func import jacfwd, vmap

from brenier import geometry
from brenier.geometry.crease import crease_curvature
from brenier.geometry.pullback import Pullback, pullback

CASES = ((2, 64, 50, 1000, 1000), (8, 256, 784, 256, 16))  # latent, width, data, points, chunk of nested Jacobians


def perceptron(*sizes: int, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """A decoder of these sizes."""
    torch.manual_seed(0)
    layers = [step for a, b in pairwise(sizes) for step in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1]).double().requires_grad_(False)


def nested(decode: nn.Module, chunk: int) -> Callable[[Tensor], Tensor]:
    """Second derivatives of G = JᵀJ by nested Jacobians."""

    def metric(z: Tensor) -> Tensor:
        jacobian = jacfwd(decode)(z)
        return jacobian.T @ jacobian

    second = vmap(jacfwd(jacfwd(metric)))
    return lambda z: torch.cat([second(part) for part in z.split(chunk)])


def smooth(repeats: int, points: int) -> None:
    """The table of smooth decoders."""
    print(
        "\n| decoder | points | Gauss equation, CPU s | wall s | nested Jacobians, CPU s | ratio | metric alone, CPU |"
    )
    print("|" + "---|" * 7, flush=True)
    for d, width, ambient, m, chunk in CASES:
        decode = perceptron(d, width, width, ambient)
        z = torch.randn(m, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        metric, some = pullback(decode), z[: m if d == 2 else points]
        calls = (metric.riemann, nested(decode, chunk), partial(geometry.riemann, partial(Pullback.__call__, metric)))
        for call in calls:
            call(z[:chunk])
        runs = [(timed(calls[0], z), timed(calls[1], some), timed(calls[2], some)) for _ in range(repeats)]
        scale = m / len(some)
        gauss, slow, alone = ([run[k] for run in runs] for k in range(3))
        ratio = median((b.cpu * scale / a.cpu for a, b in zip(gauss, slow, strict=True)), ".1f")
        times = [median(run.cpu for run in gauss), median(run.wall for run in gauss)]
        times += [median(run.cpu * scale for run in slow), ratio, median(run.cpu * scale for run in alone)]
        apart = (gauss[0].answer[: len(some)] - alone[0].answer).abs().max() / alone[0].answer.abs().max()
        print(f"| {d}→{width}→{width}→{ambient} | {m:,} | {' | '.join(times)} |", flush=True)
        print(f"<!-- largest difference of the two Riemann tensors, relative: {apart:.1e} -->")


def creases(repeats: int) -> None:
    """The table of exact cells and their angles."""
    print("\n| piecewise-linear decoder | cells on [−1, 1]² | CPU s | Σ defect | Σ defect + Σ turning − 2π |")
    print("|" + "---|" * 5, flush=True)
    square = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)
    for width in (16, 64):
        decode = perceptron(2, width, width, 50, activation=nn.LeakyReLU)
        runs = [timed(lambda decode=decode: crease_curvature(decode, region=square)) for _ in range(repeats)]
        found = runs[0].answer
        left = found.gauss + float(found.turning.sum()) - 2 * torch.pi
        seconds = median(run.cpu for run in runs)
        print(
            f"| 2→{width}→{width}→50 | {len(found.cells):,} | {seconds} | {found.gauss:.4f} | {left:.1e} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--nested-points", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("## Curvature of decoders\n")
    print(about("torch", threads=options.threads))
    smooth(options.repeats, options.nested_points)
    creases(options.repeats)


if __name__ == "__main__":
    main()
