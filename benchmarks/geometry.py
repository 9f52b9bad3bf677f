"""Geodesics of a decoder's pullback metric and of the hyperbolic plane, beside a loop over geomstats.

    python benchmarks/geometry.py
    python benchmarks/geometry.py --pairs 64 --peer-pairs 1 --without-peer

A 2→64→64→50 tanh decoder with torch's default weights of seed 0, codes from a normal law. geomstats in its torch
backend takes the same decoder as an immersion (`PullbackMetric`) and shoots; one distance takes so long that few pairs
stand for all: the ratio is of CPU seconds a pair. It is asked twice, with its default integrator, 100 Euler steps, and
with 10 steps of Runge–Kutta's fourth order, which costs less than half and is more accurate. geomstats 2.8.0 imports
with numpy < 2.4 only.
"""

from __future__ import annotations

import argparse
import itertools
import os

os.environ.setdefault("GEOMSTATS_BACKEND", "pytorch")

import torch
from machine import about, timed
from torch import nn

from brenier import geometry
from brenier.geometry import spaces

PEER = ((100, "euler"), (10, "rk4"))


def decoder() -> nn.Module:
    """2 → 64 → 64 → 50 in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = (2, 64, 64, 50)
        linear = [nn.Linear(a, b, dtype=torch.float64) for a, b in itertools.pairwise(sizes)]
        layers = (linear[0], nn.Tanh(), linear[1], nn.Tanh(), linear[2])
        return nn.Sequential(*layers).requires_grad_(False)


def codes(m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of codes (m, 2), the first m of the same thousand."""
    x, y = torch.randn(2, 1000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x[:m], y[:m]


def accuracy() -> None:
    """The table of closed forms."""
    print("\nLargest relative errors against closed forms, 64 pairs, float64, and CPU seconds of the call:\n")
    print("| space | d | distance | log | exp∘log | seconds: distance | log | exp |")
    print("|" + "---|" * 8, flush=True)
    for space in (spaces.Sphere(), spaces.PoincareBall(), spaces.HalfSpace()):
        for d in (2, 3, 5):
            x, y = torch.randn(2, 64, d, dtype=torch.float64, generator=torch.Generator().manual_seed(d))
            x, y = (0.8 * p / (1 + p.norm(dim=1, keepdim=True)) for p in (x, y))
            if isinstance(space, spaces.HalfSpace):
                x, y = (torch.cat([p[:, :-1], (2 * p[:, -1:]).exp()], 1) for p in (x, y))
            length, v = timed(geometry.distance, space, x, y), timed(geometry.log, space, x, y)
            end = timed(geometry.exp, space, x, v.answer)
            pairs = ((length.answer, space.distance(x, y)), (v.answer, space.log(x, y)), (end.answer, y))
            errors = " | ".join(f"{float((a - b).abs().max() / b.abs().max()):.1e}" for a, b in pairs)
            name = type(space).__name__
            print(f"| {name} | {d} | {errors} | {length.cpu:.2f} | {v.cpu:.2f} | {end.cpu:.2f} |", flush=True)


def ours(m: int, n: int) -> tuple[float, str]:
    """The row of this library: CPU seconds a pair, and what is to be said of the solution."""
    x, y = codes(m)
    metric = geometry.pullback(decoder())
    geometry.distance(metric, x[:2], y[:2])
    run = timed(geometry.geodesic, metric, x, y, n)
    found = run.answer
    history = ", ".join(f"{record['elements']}: {record['error']:.1e}" for record in found.history)
    print(f"| brenier | {m} | {run.wall:.2f} | {run.cpu:.2f} | {run.cpu / m:.4f} | {float(found.length[0]):.8f} |")
    note = f"Elements and largest change of velocity: {history}. Residual {float(found.residual.max()):.1e}."
    return run.cpu / m, note


def theirs(m: int, steps: int, step: str) -> float:
    """A row of geomstats, a loop over pairs: CPU seconds a pair."""
    from geomstats.geometry.base import ImmersedSet
    from geomstats.geometry.euclidean import Euclidean
    from geomstats.numerics.geodesic import ExpODESolver
    from geomstats.numerics.ivp import GSIVPIntegrator

    immersed = decoder()

    class Codes(ImmersedSet):
        def _define_embedding_space(self) -> Euclidean:
            return Euclidean(50)

        def immersion(self, point: torch.Tensor) -> torch.Tensor:
            return immersed(point)

    space = Codes(2)
    space.metric.exp_solver = ExpODESolver(space, integrator=GSIVPIntegrator(n_steps=steps, step_type=step))
    x, y = codes(m)
    run = timed(lambda: [space.metric.dist(a, b) for a, b in zip(x, y, strict=True)])
    shown = f"{run.wall:.2f} | {run.cpu:.2f} | {run.cpu / m:.4f} | {float(run.answer[0]):.8f}"
    print(f"| geomstats, {steps} steps of {step} | {m} | {shown} |", flush=True)
    return run.cpu / m


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--peer-pairs", type=int, default=1)
    parser.add_argument("--without-peer", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("## Geodesics: closed forms and a decoder\n")
    print(about("torch", "scipy", "geomstats", threads=1))
    accuracy()
    print(f"\nGeodesics of {options.nodes} nodes of a 2→64→64→50 decoder; seconds, and the length of the first:\n")
    print("| by | pairs | wall | CPU | CPU a pair | length |")
    print("|" + "---|" * 6, flush=True)
    here, note = ours(options.pairs, options.nodes)
    there = [] if options.without_peer else [theirs(options.peer_pairs, *how) for how in PEER]
    print(f"\n{note}")
    if there:
        ratios = " and ".join(f"{seconds / here:.0f}" for seconds in there)
        print(f"geomstats takes {ratios} times the CPU seconds of a pair.")


if __name__ == "__main__":
    main()
