"""Exact cells: the uniform square and cube to n uniform random points, beside sdot.

    python benchmarks/exact.py
    python benchmarks/exact.py --cases 2:1000 3:1000 --repeats 3 --without-fresh

Largest relative error of a mass at most 1e-6, asked of both. Prints Markdown tables: whole calls in one process with
warm caches, alternating, and the time from starting Python to the first result, with empty caches and with full ones.
The error of both is judged by `brenier.transport.cells`: power weights w are heights h = (w − |y|²)/2.

sdot: OMP_WAIT_POLICY=PASSIVE; its defaults (damped Newton, sparse Cholesky in two dimensions, multigrid in three, all
threads) in its numpy framework, quicker here than its default one, jax; `--framework` takes another. Its wheel brings
kernels for any x86-64; to let it compile its own for the CPU at hand, set LOOM_PREFER_CATALOGUE=0 and put Eigen 3.4.0
into LOOM_EXT_DIR/eigen-3.4.0.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from machine import about, median, timed

CASES = ("2:1000", "2:10000", "2:100000", "3:1000", "3:10000")
TOL = 1e-6
WARM = 3  # calls before the first one that counts: sdot's third is its first quick one
SIDES, CLOCKS = ("brenier", "sdot"), ("wall", "cpu")


def points(d: int, n: int) -> np.ndarray:
    """The n targets (n, d)."""
    return np.random.default_rng(0).random((n, d))


def ours(y: np.ndarray) -> dict[str, Any]:
    """One solve: heights, cost, Newton steps, seconds on Newton's own clock."""
    import torch

    from brenier.measures import Discrete, UniformCube
    from brenier.transport import solve

    found = solve(UniformCube(y.shape[1]), Discrete(torch.from_numpy(y)), method="newton", tol=TOL)
    steps = [record for record in found.history if "error" in record]
    own = {"steps": len(steps) - 1, "inner": steps[-1]["seconds"], "ended": found.converged}
    return own | {"heights": found.potential.heights, "cost": found.cost.mean}


def theirs(y: np.ndarray) -> dict[str, Any]:
    """The same by sdot, whose tolerance is absolute."""
    import sdot

    plan = sdot.ot_solve(sdot.SumOfDiracs(y), sdot.Box(), tol=TOL / len(y), on_failure="ignore")
    weights = np.asarray(plan.weights)
    own = {"steps": int(plan.stats["nb_iter"]), "inner": plan.stats["t_total"], "ended": bool(plan.converged)}
    return own | {"heights": (weights - np.square(y).sum(1)) / 2, "cost": float(plan.cost)}


CALLS = dict(zip(SIDES, (ours, theirs), strict=True))


def error(y: np.ndarray, heights: Any) -> float:
    """max_i |mu(W_i)/nu_i − 1|, by exact cells."""
    import torch

    from brenier.measures import UniformCube
    from brenier.transport import BrenierPotential, cells

    u = BrenierPotential(torch.from_numpy(y), torch.as_tensor(heights, dtype=torch.float64))
    return float((cells(u, UniformCube(y.shape[1])).masses * len(y) - 1).abs().max())


def warm(cases: list[tuple[int, int]], repeats: int) -> None:
    """The tables of whole calls in one process."""
    print("\nWhole calls with warm caches, seconds, median (least–most):\n")
    print("| d | n | runs | brenier wall | sdot wall | sdot/brenier, wall | brenier CPU | sdot CPU | ratio, CPU |")
    print("|" + "---|" * 9, flush=True)
    answers = []
    for d, n in cases:
        y = points(d, n)
        for call in CALLS.values():
            for _ in range(WARM):
                call(y)
        runs: dict[str, list] = {side: [] for side in SIDES}
        for _ in range(repeats):
            for side in SIDES:
                runs[side].append(timed(CALLS[side], y))
        parts = []
        for clock in CLOCKS:
            a, b = ([getattr(run, clock) for run in runs[side]] for side in SIDES)
            parts += [median(a), median(b), median((there / here for here, there in zip(a, b, strict=True)), ".2f")]
        print(f"| {d} | {n:,} | {repeats} | {' | '.join(parts)} |", flush=True)
        for side in SIDES:
            last = runs[side][-1].answer
            inner = median(run.answer["inner"] for run in runs[side])
            answers.append((d, n, side, last["steps"], error(y, last["heights"]), last["cost"], inner, last["ended"]))
    print("\nWhat they found; the solver's own clock leaves out what is done before and after:\n")
    print("| d | n | by | Newton steps | largest relative error | W2² | seconds on its own clock | converged |")
    print("|" + "---|" * 8)
    for d, n, side, steps, largest, cost, inner, ended in answers:
        print(f"| {d} | {n:,} | {side} | {steps} | {largest:.2g} | {cost:.9e} | {inner} | {'yes' if ended else 'no'} |")


def fresh(cases: list[tuple[int, int]], repeats: int) -> None:
    """The table of first results in a new process; caches lie in a new folder each time, then are used once more."""
    print("\nFrom starting Python to the first result, seconds, median (least–most); imports are part of it:\n")
    print("| d | n | by | caches | runs | wall | CPU | of it imports, wall | of it the first call, wall |")
    print("|" + "---|" * 9, flush=True)
    for d, n in cases:
        seen: dict[tuple[str, str], list[tuple[float, ...]]] = {}
        for _ in range(repeats):
            for side in SIDES:
                with tempfile.TemporaryDirectory() as folder:
                    for caches in ("empty", "full"):
                        seen.setdefault((side, caches), []).append(child(side, d, n, folder))
        for (side, caches), runs in seen.items():
            shown = " | ".join(median(column) for column in zip(*runs, strict=True))
            print(f"| {d} | {n:,} | {side} | {caches} | {repeats} | {shown} |", flush=True)


def child(side: str, d: int, n: int, folder: str) -> tuple[float, ...]:
    """Wall and CPU seconds of a new process, and of its imports and its first call wall seconds."""
    own = {"NUMBA_CACHE_DIR": folder, "XDG_CACHE_HOME": folder}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, __file__, "--child", side, "--cases", f"{d}:{n}"]
    out = subprocess.run(command, env=os.environ | own, check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu, *json.loads(out.splitlines()[-1])


def first(side: str, d: int, n: int) -> None:
    """What a new process does: imports, then one solve."""
    began = time.perf_counter()
    if side == "brenier":
        import brenier.transport  # noqa: F401
    else:
        import sdot  # noqa: F401
    imported = time.perf_counter()
    CALLS[side](points(d, n))
    print(json.dumps([imported - began, time.perf_counter() - imported]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="D:N")
    parser.add_argument("--fresh-cases", nargs="+", default=("2:1000", "3:1000"), metavar="D:N")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fresh-repeats", type=int, default=3)
    parser.add_argument("--without-warm", action="store_true")
    parser.add_argument("--without-fresh", action="store_true")
    parser.add_argument("--framework", default=os.environ.get("LOOM_FRAMEWORK", "numpy"), help="that sdot runs in")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["LOOM_FRAMEWORK"] = options.framework  # before sdot is imported
    cases, early = (
        [tuple(map(int, case.split(":"))) for case in some] for some in (options.cases, options.fresh_cases)
    )
    if options.child:
        return first(options.child, *cases[0])
    print("## Exact cells: the uniform square and cube to n uniform random points\n")
    print(about("torch", "numpy", "scipy", "numba", "sdot", "loom-ffi", "jax", threads=os.cpu_count() or 1))
    native = os.environ.get("LOOM_PREFER_CATALOGUE") == "0"
    compiled = "compiled for this CPU" if native else "those of its wheel"
    print(f"Targets by numpy's default_rng(0); tol {TOL:g}; sdot in {options.framework}, kernels {compiled}.")
    if not options.without_warm:
        warm(cases, options.repeats)
    if not options.without_fresh:
        fresh(early, options.fresh_repeats)


if __name__ == "__main__":
    main()
