"""A small fit, ended by force at random moments and resumed each time until it is done: is anything lost, or different?

    python benchmarks/kills.py --kills 100

Each kill falls at a seeded moment: half of them between the start of the process and the time that an uninterrupted run
takes, half while the model is learned (the clock starts with the unfinished run). Three in four are SIGKILL, one is
SIGINT (Ctrl-C). After each the folder must hold the finished run, an unfinished one that
`--resume` goes on with, or nothing; and each run that was killed and resumed until it ended must be the model of an
uninterrupted one, bit for bit. Inside the stages the state is saved at every chance instead of 2 % of the time.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from machine import about

from brenier import disk, storage

FIT = """
import sys
from brenier import checkpoint
from brenier.cli import main
checkpoint.SHARE, checkpoint.FIRST = 1e9, 0.0
main(sys.argv[1:])
"""
OPTIONS = ("--limit", "300", "--epochs", "6", "--latent-dim", "4", "--quiet")


def started(run: Path, *more: str) -> subprocess.Popen:
    """The fit, in a process of its own."""
    command = [sys.executable, "-c", FIT, "fit", "digits", "--out", str(run), *OPTIONS, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def state(run: Path) -> str:
    """What a fit that was ended by force left; raises where that is none of the three things that may be left."""
    partial = run.with_name(run.name + ".partial")
    if disk.standing(run).exists():
        storage.read(run)
        return "finished"
    done = partial / "checkpoint"
    if (done / "fit.json").is_file():
        json.loads((done / "fit.json").read_text())
        return f"unfinished, {len(list(done.glob('*.safetensors')))} stages kept"
    return "nothing"


def model(run: Path) -> tuple[Any, dict[str, bytes]]:
    """The config without its seconds and the tensors, as bytes."""
    config, tensors = storage.read(run)
    config.pop("checksums")
    return _timeless(config), {name: value.numpy().tobytes() for name, value in tensors.items()}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if key != "seconds"}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def kills(times: int, seed: int, folder: Path) -> tuple[Counter, int]:
    """What was found after each kill, and how many runs ended, each the same as one that nothing interrupted."""
    chance, found, ended = random.Random(seed), Counter(), 0
    began = time.perf_counter()
    reference = folder / "reference"
    whole = started(reference)
    error = whole.communicate()[1]
    assert whole.returncode == 0, error
    seconds, run = time.perf_counter() - began, folder / "run"
    learned = sum(storage.read(reference)[0]["seconds"].values())
    while (sum(found.values()) < times) or found_open(run):
        process, kill = started(run, "--resume"), sum(found.values()) < times
        end = chance.choice([signal.SIGKILL] * 3 + [signal.SIGINT])
        if kill:
            learning = chance.random() < 0.5
            while learning and process.poll() is None and not run.with_name("run.partial").exists():
                time.sleep(0.01)
            try:
                process.wait(chance.uniform(0, learned if learning else seconds))
            except subprocess.TimeoutExpired:
                process.send_signal(end)
        error = process.communicate()[1]
        early = process.returncode in (1, -signal.SIGINT) and error.rstrip().endswith("KeyboardInterrupt")
        if process.returncode in (-signal.SIGKILL, 130) or early:  # while Python starts it answers Ctrl-C itself
            found[f"{end.name}: {state(run)}"] += 1
        elif process.returncode != 0:
            raise AssertionError(f"the fit ended with {process.returncode}: {error}")
        if process.returncode == 130:
            assert error.startswith("brenier: interrupted; "), error
            assert error.count("\n") == 1, error
        if process.returncode == 0:
            assert model(run) == model(reference), "the resumed model differs from the uninterrupted one"
            left = sorted(path.name for path in folder.iterdir())
            assert left == ["reference", "run"], left
            assert sorted(file.name for file in run.iterdir()) == sorted(file.name for file in reference.iterdir())
            shutil.rmtree(run)
            ended += 1
    return found, ended


def found_open(run: Path) -> bool:
    """Whether a run is still to be brought to its end."""
    return state(run) != "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(about("torch", "numba", threads=1) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        found, ended = kills(options.kills, options.seed, Path(folder))
    print("| ended by, and found | times |\n|---|---|")
    for name, times in sorted(found.items()):
        print(f"| {name} | {times} |")
    print(
        f"\n{sum(found.values())} kills; {ended} runs brought to their end, each the uninterrupted model bit for bit."
    )


if __name__ == "__main__":
    main()
