"""Natural gradient beside first-order optimisers: the deep autoencoder of MNIST, a classifier of Fashion-MNIST.

    python benchmarks/optimise.py --part autoencoder --mnist mnist.npz
    python benchmarks/optimise.py --part classifier
    python benchmarks/optimise.py --part generalise

Peers: Adam, SGD with momentum 0.9, torch.optim.Muon for the weight matrices with Adam for the biases, SOAP and Shampoo
of pytorch-optimizer. Everyone gets the same seconds for each trial of its grid and the same seconds for the run with
what was best: the lowest training loss at the end. The grids: four learning rates in half decades around the usual one
(decades for SGD), for natural gradient (K-FAC, `damping="lm"`, factors every five steps) 0.25, 0.5, 1 and 2; where the
best is at an end, the grid goes on there, by two at most. Seconds are of training alone, the evaluation on fixed
samples is left out.

--part autoencoder: 784-1000-500-250-30 and back (Hinton and Salakhutdinov 2006), tanh, linear code, Bernoulli pixels,
sparse initial weights (Martens 2010): 15 weights a unit, normal. --part classifier: 784-512-256-10, ReLU. --part
generalise: the classifier to equal training losses on 5 seeds, its test error there. Data: `--mnist` is an .npz with
x_train, y_train, x_test, y_test; Fashion-MNIST is read from the known data sets of the library. With the defaults a
part takes about an hour; `--seconds 20 --trial 5 --seeds 1` ten minutes.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_optimizer
import torch
import torch.nn.functional as F
from machine import about, median
from torch import Tensor, nn

from brenier.data import Samples, load
from brenier.information import NaturalGradient

Optimisers = list[torch.optim.Optimizer]
HALF_DECADES = (0.1, 10**-0.5, 1.0, 10**0.5)
MORE = 2  # settings that a grid may grow by


class Task(NamedTuple):
    """A network, its data, and how the loss of a batch is computed."""

    name: str
    network: Callable[[], nn.Module]
    x: Tensor
    y: Tensor
    test: tuple[Tensor, Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    error: Callable[[Tensor, Tensor], Tensor]
    likelihood: str
    reduction: str


class Peer(NamedTuple):
    """A name, what makes the optimisers from a network and a setting, and the grid of settings."""

    name: str
    make: Callable[[nn.Module, Task, float], Optimisers]
    grid: tuple[float, ...]


class Curve(NamedTuple):
    """Steps, seconds and the training loss on fixed samples at each evaluation; the test error at the last."""

    steps: list[int]
    seconds: list[float]
    losses: list[float]
    errors: list[float]


def sparse(network: nn.Module) -> nn.Module:
    """Fifteen normal weights into each unit, biases 0."""
    for layer in network:
        if isinstance(layer, nn.Linear):
            keep = torch.rand_like(layer.weight).argsort(1).argsort(1) < 15
            nn.init.normal_(layer.weight)
            layer.weight.data *= keep
            nn.init.zeros_(layer.bias)
    return network


def deep_autoencoder() -> nn.Module:
    """784-1000-500-250-30-250-500-1000-784."""
    sizes = [784, 1000, 500, 250, 30, 250, 500, 1000, 784]
    linear = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    straight = {3, len(linear) - 1}
    layers = [layer for k, one in enumerate(linear) for layer in ([one] if k in straight else [one, nn.Tanh()])]
    return sparse(nn.Sequential(*layers))


def classifier() -> nn.Module:
    """784-512-256-10."""
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def autoencoder_task(path: Path, device: str) -> Task:
    """MNIST, rebuilt."""
    x, test = (pixels(load(path, split=split)).to(device) for split in ("train", "test"))
    loss = lambda o, y: F.binary_cross_entropy_with_logits(o, y, reduction="sum") / len(y)  # noqa: E731
    error = lambda o, y: (o.sigmoid() - y).square().sum(1).mean()  # noqa: E731
    return Task("MNIST autoencoder", deep_autoencoder, x, x, (test, test), loss, error, "bernoulli", "samples")


def classifier_task(device: str) -> Task:
    """Fashion-MNIST, classified."""
    train, test = (load("fashion-mnist", split=split) for split in ("train", "test"))
    y, held = (torch.as_tensor(data.labels).long().to(device) for data in (train, test))
    x, shown = (pixels(data).to(device) for data in (train, test))
    error = lambda o, y: (o.argmax(1) != y).float().mean()  # noqa: E731
    return Task(
        "Fashion-MNIST classifier", classifier, x, y, (shown, held), F.cross_entropy, error, "categorical", "mean"
    )


def pixels(data: Samples) -> Tensor:
    """(m, 784) in 0..1."""
    return torch.from_numpy(data.values).float().flatten(1) / 255


def peers() -> list[Peer]:
    """Everyone, with a grid of four learning rates."""

    def muon(network: nn.Module, task: Task, lr: float) -> Optimisers:
        matrices = [p for p in network.parameters() if p.ndim == 2]
        rest = [p for p in network.parameters() if p.ndim != 2]
        both = torch.optim.Muon(matrices, lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        return [both, torch.optim.Adam(rest, lr=lr)]

    def rates(usual: float) -> tuple[float, ...]:
        return tuple(usual * factor for factor in HALF_DECADES)

    def natural(network: nn.Module, task: Task, lr: float) -> Optimisers:
        settings = {"likelihood": task.likelihood, "reduction": task.reduction, "structure": "kfac", "factor_every": 5}
        return [NaturalGradient(network, lr=lr, **settings)]

    return [
        Peer("natural gradient, K-FAC", natural, (0.25, 0.5, 1.0, 2.0)),
        Peer("Adam", lambda n, t, lr: [torch.optim.Adam(n.parameters(), lr=lr)], rates(1e-3)),
        Peer("SGD, momentum 0.9", lambda n, t, lr: [torch.optim.SGD(n.parameters(), lr, 0.9)], (1e-3, 1e-2, 1e-1, 1.0)),
        Peer("Muon", muon, rates(3e-3)),
        Peer("SOAP", lambda n, t, lr: [pytorch_optimizer.SOAP(n.parameters(), lr=lr, weight_decay=0.0)], rates(3e-3)),
        Peer(
            "Shampoo",
            lambda n, t, lr: [
                pytorch_optimizer.ScalableShampoo(
                    n.parameters(), lr=lr, weight_decay=0.0, preconditioning_compute_steps=20
                )
            ],
            rates(1e-2),
        ),
    ]


def clock(device: torch.device) -> float:
    """Seconds, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def train(task: Task, peer: Peer, setting: float, seed: int, options: argparse.Namespace, trial: bool = False) -> Curve:
    """Train for the seconds of a run or a trial, looking at the loss on fixed samples now and then."""
    seconds, looks = (options.trial, 1) if trial else (options.seconds, options.looks)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = task.network().to(task.x.device)
        order = torch.Generator().manual_seed(seed)
        optimisers = peer.make(network, task, setting)
        curve, used, step, due = Curve([], [], [], []), 0.0, 0, 0.0
        while True:
            if used >= due or used >= seconds:
                with torch.no_grad():
                    loss = float(task.loss(network(task.x[: options.samples]), task.y[: options.samples]))
                    error = float(task.error(network(task.test[0]), task.test[1]))
                for record, value in zip(curve, (step, used, loss, error), strict=True):
                    record.append(value)
                due = used + seconds / looks
                if used >= seconds or not loss < float("inf"):
                    return curve
            rows = torch.randint(0, len(task.x), (options.batch,), generator=order).to(task.x.device)
            x, y = task.x[rows], task.y[rows]
            start = clock(task.x.device)
            for optimiser in optimisers:
                optimiser.zero_grad()
            task.loss(network(x), y).backward()
            for optimiser in optimisers:
                optimiser.step()
            used += clock(task.x.device) - start
            step += 1


def tuned(task: Task, peer: Peer, options: argparse.Namespace) -> float:
    """The setting with the lowest loss after a trial (NaN is infinite); a grid whose end is best goes on there."""
    trials: dict[float, float] = {}

    def tried(setting: float) -> None:
        last = train(task, peer, setting, 1000, options, trial=True).losses[-1]
        trials[setting] = last if last == last else float("inf")

    for setting in peer.grid:
        tried(setting)
    ratio = peer.grid[1] / peer.grid[0]
    for _ in range(MORE):
        best = min(trials, key=lambda setting: trials[setting])
        if min(trials) < best < max(trials):
            break
        tried(best * ratio if best == max(trials) else best / ratio)
    shown = ", ".join(f"{setting:.3g}: {trials[setting]:.4g}" for setting in sorted(trials))
    print(f"    {peer.name}: {shown}", flush=True)
    return min(trials, key=lambda setting: trials[setting])


def reached(curve: Curve, loss: float) -> tuple[int, float] | None:
    """Steps and seconds until the loss."""
    found = next((k for k, value in enumerate(curve.losses) if value <= loss), None)
    return None if found is None else (curve.steps[found], curve.seconds[found])


def compare(task: Task, options: argparse.Namespace) -> None:
    """The table of losses, and that of steps and seconds to the loss that each peer ends with."""
    print(f"\n### {task.name}\n\nTrials of {options.trial:g} s, setting: loss\n", flush=True)
    chosen = [(peer, tuned(task, peer, options)) for peer in peers()]
    seeds = range(options.seeds)
    curves = {p.name: [train(task, p, s, seed, options) for seed in seeds] for p, s in chosen}
    print(f"\nAfter {options.seconds:g} s of training each, batches of {options.batch}, {options.seeds} seeds:\n")
    print("| optimiser | setting | steps | ms a step | over Adam | training loss | test error |\n|" + "---|" * 7)

    def pace(name: str) -> float:
        return float(np.median([c.seconds[-1] / c.steps[-1] for c in curves[name]]))

    for peer, setting in chosen:
        own = curves[peer.name]
        steps = int(np.median([c.steps[-1] for c in own]))
        shown = f"{1e3 * pace(peer.name):.0f} | {pace(peer.name) / pace('Adam'):.2f}"
        loss, error = (median((c[k][-1] for c in own), ".4g") for k in (2, 3))
        print(f"| {peer.name} | {setting:.3g} | {steps} | {shown} | {loss} | {error} |")
    ours = curves[chosen[0][0].name]
    print(f"\nTo the training loss that each peer ends with, {chosen[0][0].name} takes:\n")
    print("| peer | loss | its steps | ours | ratio | its seconds | ours | ratio |\n|" + "---|" * 8)
    for peer, _ in chosen[1:]:
        pairs = [(c, reached(own, c.losses[-1])) for c, own in zip(curves[peer.name], ours, strict=True)]
        if any(found is None for _, found in pairs):
            print(f"| {peer.name} | {pairs[0][0].losses[-1]:.4g} | not reached by ours on every seed |" + " |" * 5)
            continue
        steps, seconds = ([(c[k][-1], found[k]) for c, found in pairs if found] for k in (0, 1))
        cells = [median(c.losses[-1] for c, _ in pairs)]
        for record in (steps, seconds):
            cells += [f"{np.median([a for a, _ in record]):.3g}", f"{np.median([b for _, b in record]):.3g}"]
            cells += [median(a / max(b, 1e-9) for a, b in record)]
        print(f"| {peer.name} | {' | '.join(cells)} |")


def generalise(task: Task, options: argparse.Namespace) -> None:
    """Test errors where the training losses are equal."""
    levels = (0.4, 0.3, 0.2, 0.1)
    print(f"\n### {task.name}: test error at equal training loss, {options.seeds} seeds\n", flush=True)
    chosen = [(peer, tuned(task, peer, options)) for peer in peers()[:3]]
    print(
        f"\n| optimiser | setting |{'|'.join(f' at {level:g} ' for level in levels)}|\n|" + "---|" * (2 + len(levels))
    )
    for peer, setting in chosen:
        curves = [train(task, peer, setting, seed, options) for seed in range(options.seeds)]
        cells = []
        for level in levels:
            ends = [next((k for k, loss in enumerate(c.losses) if loss <= level), None) for c in curves]
            errors = [100 * c.errors[k] for c, k in zip(curves, ends, strict=True) if k is not None]
            cells.append(
                f"{median(errors)} %" if len(errors) == len(curves) else f"{len(errors)} of {len(curves)} arrive"
            )
        print(f"| {peer.name} | {setting:.3g} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("autoencoder", "classifier", "generalise"), default="classifier")
    parser.add_argument("--mnist", type=Path, help="an .npz with x_train and x_test")
    parser.add_argument("--seconds", type=float, default=120.0, help="of training a run")
    parser.add_argument("--trial", type=float, default=30.0, help="of training a trial of the grid")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=5000, help="that the training loss is measured on")
    parser.add_argument("--looks", type=int, default=60, help="evaluations a run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, cuda")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.part == "autoencoder" and options.mnist is None:
        parser.error("--part autoencoder needs --mnist PATH")
    print("## Natural gradient beside first-order optimisers\n")
    print(about("torch", "pytorch-optimizer", threads=options.threads))
    if options.device != "cpu":
        print(f"Computed on {torch.cuda.get_device_name(options.device)}.")
    if options.part == "autoencoder":
        compare(autoencoder_task(options.mnist, options.device), options)
    elif options.part == "classifier":
        compare(classifier_task(options.device), options)
    else:
        generalise(classifier_task(options.device), options)


if __name__ == "__main__":
    main()
