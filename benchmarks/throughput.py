"""What an effective sample costs, how near `solve` comes to the sampling limit, and what memory it takes.

    python benchmarks/throughput.py --part speed          # 2 minutes
    python benchmarks/throughput.py --part limit          # 5 minutes
    python benchmarks/throughput.py --part memory         # 3 minutes

The mixture of `semidiscrete.py`, N(0, I) to ten clusters. Set OMP_WAIT_POLICY=PASSIVE.

speed: samples a second that find their cell among n = 60,000 in d = 32: by `Sampler.top`, by `counts` (the batch of a
step), by torch (tiles of addmm, then argmax), by faiss (flat inner product); and torch's float32 product alone, which
finds nothing. Samples that come as sums of halves are correlated: their number is divided by the variance of the cells'
counts over that of independent samples, Σ_i Var c_i / nu_i in blocks of one size, at the heights of a short solve.
limit: chi2 after M samples beside n/M, below which no method gets without knowing more than counts.
memory: the peak of a new process (VmHWM), its targets and compiled loops included, less what it held when brenier and
torch had been imported; targets in memory, and in a file that is mapped for reading.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import about, median, timed
from semidiscrete import judge, mixture
from torch import Tensor

from brenier.measures import Discrete, Gaussian
from brenier.transport import BrenierPotential, solve
from brenier.transport.problem import Sampler, SemiDiscrete

TILE = 1024  # samples that torch multiplies together
STEP = 4096  # samples of one step of a long `solve`
MODES = ("in memory", "mapped")  # where the targets of `memory` lie


def seeded(seed: int) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def variance(cells: Tensor, nu: Tensor) -> float:
    """Σ_i Var c_i / nu_i of counts in blocks, cells (blocks, size): the mean of squares less products across blocks."""
    blocks, n = len(cells), len(nu)
    pairs, times = (cells + n * torch.arange(blocks)[:, None]).flatten().unique(return_counts=True)
    squares = (times.double().square() / nu[pairs % n]).sum().item()
    total = torch.bincount(cells.flatten(), minlength=n).double()
    across = (total.square() / nu).sum().item() - squares
    return squares / blocks - across / (blocks * (blocks - 1))


def speed(options: argparse.Namespace) -> None:
    """The table of samples a second."""
    import faiss

    n, d, m = options.n, options.dim, options.batch
    target = mixture(n, d)
    found = solve(Gaussian(d), target, "stochastic", 0.1, max_seconds=options.seconds, generator=seeded(0))
    problem = SemiDiscrete(Gaussian(d), target, seeded(1))
    h = problem.own(found.potential.heights).to(problem.nu)
    planes, nu = problem.planes.at(h), problem.nu.double()
    x, y = torch.randn(m, d, generator=seeded(2)), problem.y.narrow(slice(None))
    index = faiss.IndexFlatIP(d + 1)
    index.add(torch.cat([y, h[:, None]], 1).numpy())
    lifted = torch.cat([x, torch.ones(m, 1)], 1).numpy()
    scores = torch.empty(TILE, n)

    def product() -> None:
        for rows in x.split(TILE):
            torch.mm(rows, y.T, out=scores[: len(rows)])

    def argmax() -> Tensor:
        return torch.cat([torch.addmm(h, rows, y.T, out=scores[: len(rows)]).argmax(1) for rows in x.split(TILE)])

    def counts() -> None:
        for _ in range(m // STEP):
            problem.counts(h, STEP)

    calls: dict[str, Callable[[], object]] = {
        "brenier, Sampler.top": lambda: problem.sampler.top(planes, m, 1),
        f"brenier, counts of {STEP}": counts,
        "torch, product alone": product,
        "torch, addmm and argmax": argmax,
        "faiss, flat inner product": lambda: index.search(lifted, 1),
    }
    agree = (argmax() == torch.from_numpy(index.search(lifted, 1)[1][:, 0])).double().mean().item()
    size, drawn = Sampler.BLOCK, 1 << 18
    u = BrenierPotential(y, h)
    factors = []
    for _ in range(options.repeats):
        paired = problem.sampler.top(planes, drawn, 1)[2].view(-1, size)
        alone = u.cell(torch.randn(drawn, d, generator=problem.sampler.generator)).view(-1, size)
        factors.append(variance(paired, nu) / variance(alone, nu))
    factor = sorted(factors)[len(factors) // 2]
    runs: dict[str, list] = {name: [] for name in calls}
    for name in [*calls] * (options.repeats + 1):
        runs[name].append(timed(calls[name]))
    print(f"\n{n:,} targets, d = {d}, {m:,} samples a call, {options.repeats} calls in turn after one not counted.")
    print(f"Variance of counts in blocks of {size}, over independent samples: {median(factors)}; heights of relrms")
    print(f"{found.relrms}. faiss and torch agree on {agree:.4%} of the cells. Median (least–most):\n")
    print("| by | seconds a call, wall | CPU | thousand samples a second | thousand effective ones | GFLOP/s |")
    print("|---|---|---|---|---|---|")
    for name, all_runs in runs.items():
        walls, cpus = ([getattr(run, clock) for run in all_runs[1:]] for clock in ("wall", "cpu"))
        rates = [m / wall / 1e3 for wall in walls]
        useful = median(rate / (factor if name.startswith("brenier") else 1) for rate in rates)
        flops = median(2e-6 * n * d * rate for rate in rates) if name.startswith("torch") else "–"
        useful = "–" if "alone" in name else useful
        print(f"| {name} | {median(walls)} | {median(cpus)} | {median(rates)} | {useful} | {flops} |", flush=True)


def limit(options: argparse.Namespace) -> None:
    """The table of chi2 beside n/M."""
    n, target = options.n, mixture(options.n, options.dim)
    print(f"\n{n:,} targets, d = {options.dim}; one pass of M samples; {options.repeats} seeds, median (least–most):\n")
    print("| M/n | M | limit n/M | chi2 | its standard error | chi2 M/n | wall | CPU |\n|" + "---|" * 8, flush=True)
    for times in options.times:
        m = int(times * n)
        tol = 0.5 * math.sqrt(n / m)  # below the limit: the pass is not ended early, and is a single one
        runs, errors = [], []
        for seed in range(options.repeats):
            call = (Gaussian(options.dim), target, "stochastic", tol, None, m, seeded(seed))
            runs.append(timed(solve, *call))
            errors.append(judge(target, runs[-1].answer.potential.heights, options.judge))
        chi2 = [error for error, _ in errors]
        sem, walls, cpus = max(sem for _, sem in errors), [run.wall for run in runs], [run.cpu for run in runs]
        shown = [median(chi2), f"{sem:.1g}", median(error * m / n for error in chi2), median(walls), median(cpus)]
        print(f"| {times:g} | {m:,} | {n / m:.3g} | {' | '.join(shown)} |", flush=True)


def memory(options: argparse.Namespace) -> None:
    """The table of peaks, each in a process of its own."""
    n, d = options.large, options.wide
    targets = 4 * n * d / 1e6
    print(
        f"\nPeak of a process, MB, less what it held after its imports; targets of {targets:.0f} MB in it; a check of"
    )
    print(
        f"the start, a pass of {options.few} samples, another check, and the map at 512 places. Median (least–most):\n"
    )
    print("| n | d | targets | runs | imports | peak, less imports | less targets | wall | CPU |\n|" + "---|" * 9)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "targets.npy"
        np.save(path, mixture(n, d).points.numpy())
        for mode in MODES:
            shape = ["--large", str(n), "--wide", str(d), "--few", str(options.few)]
            command = [sys.executable, __file__, "--part", "child", "--file", str(path), "--mode", mode, *shape]
            done = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(options.repeats)]
            first, peak, wall, cpu = zip(*(json.loads(run.stdout.splitlines()[-1]) for run in done), strict=True)
            taken = [last - early for early, last in zip(first, peak, strict=True)]
            shown = [median(column, ".0f") for column in (first, taken, [more - targets for more in taken])]
            shown += [median(wall), median(cpu)]
            print(f"| {n:,} | {d} | {mode} | {options.repeats} | {' | '.join(shown)} |", flush=True)


def child(options: argparse.Namespace) -> None:
    """MB held after the imports and at the peak of a short solve, and its seconds."""
    points = np.load(options.file, mmap_mode="r" if options.mode == "mapped" else None)
    target = Discrete(points if options.mode == "mapped" else torch.from_numpy(points))
    call = (Gaussian(options.wide), target, "stochastic", 0.5, None, options.few, seeded(0))
    run = timed(solve, *call)
    run.answer.potential.gradient(torch.randn(512, options.wide))
    print(json.dumps([IMPORTED, held("VmHWM"), run.wall, run.cpu]))


def held(name: str) -> float:
    """What Linux says of this process's memory, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6


IMPORTED = held("VmRSS")
PARTS = {"speed": speed, "limit": limit, "memory": memory, "child": child}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1 << 16, help="samples a call")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the solve that finds heights for `speed`")
    parser.add_argument("--times", type=float, nargs="+", default=(5, 20, 50), help="M/n")
    parser.add_argument("--large", type=int, default=1_000_000, help="targets for `memory`")
    parser.add_argument("--wide", type=int, default=64, help="their dimension")
    parser.add_argument("--few", type=int, default=8192, help="samples of the pass of `memory`")
    parser.add_argument("--file", help=argparse.SUPPRESS)
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--judge", type=int, default=1 << 18, help="samples of the ruler")
    options = parser.parse_args()
    if options.part != "child":
        print("## Speed, sampling limit and memory\n")
        print(about("torch", "numba", "faiss-cpu", threads=torch.get_num_threads()), flush=True)
    PARTS[options.part](options)


if __name__ == "__main__":
    main()
