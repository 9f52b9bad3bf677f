"""What every benchmark says of where it ran, and what it reports of a repeated call."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import brenier


class Run(NamedTuple):
    """What a call gave, and its seconds: on the wall, and of all cores together."""

    answer: Any
    wall: float
    cpu: float


def timed(call: Callable[..., Any], *arguments: Any) -> Run:
    """One call, watched."""
    wall, cpu = time.perf_counter(), time.process_time()
    answer = call(*arguments)
    return Run(answer, time.perf_counter() - wall, time.process_time() - cpu)


def median(values: Iterable[float], form: str = ".3g") -> str:
    """The median of repeated runs and their spread, `median (least–most)`."""
    values = list(values)
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def about(*packages: str, threads: int) -> str:
    """Date, machine, load before the run, threads and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    load = ", ".join(f"{share:.1f}" for share in os.getloadavg())
    named = [f"brenier {brenier.__version__}", *(f"{name} {_version(name)}" for name in packages)]
    return (
        f"{date.today():%d %B %Y}; {platform.machine()}, {model}, {os.cpu_count()} cores, {threads} threads, "
        f"OMP_WAIT_POLICY {os.environ.get('OMP_WAIT_POLICY', 'unset')}, load {load} before the run;\n"
        f"Python {platform.python_version()}, {', '.join(named)}."
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
