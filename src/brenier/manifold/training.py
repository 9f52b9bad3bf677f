"""The loop that trains a chart: epochs, held-out error, early stopping, and a state to go on from."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from brenier.manifold.chart import Chart, Convert, Samples, evaluating, pixel_range, place, take
from brenier.manifold.networks import Encoder, draw_seed
from brenier.solution import Status

CHUNK = 1024
Keep = Callable[[Callable[[], dict[str, Any]]], None]


@dataclass(frozen=True)
class Batches:
    """Samples kept as they are; the rows asked for come out as a network reads them."""

    x: Samples
    to_network: Convert
    like: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the samples of these rows in network form."""
        return place(self.to_network(take(self.x, rows)), self.like)


class Rebuild(nn.Module):
    """Decoder after encoder; vectors are judged in the units that the chart standardises them to."""

    def __init__(self, chart: Chart) -> None:
        super().__init__()
        self.chart = chart

    def forward(self, x: Tensor) -> Tensor:
        """Return the samples as the chart gives them back, in the units of the error.

        Pixels are cut to 0..1; derivatives are not, so that training can move a pixel back into the range.
        """
        rebuilt, cut = self.chart.decoder(self.chart.encoder(x)).to(x.dtype), pixel_range(self.chart.decoder)
        return self.in_units(rebuilt if cut is None else rebuilt - (rebuilt - cut(rebuilt)).detach())

    def in_units(self, x: Tensor) -> Tensor:
        """Samples in the units of the error."""
        encoder, pixels = self.chart.encoder, pixel_range(self.chart.decoder) is not None
        return encoder.data(x) if isinstance(encoder, Encoder) and not pixels else x

    def errors(self, batches: Batches, rows: Tensor) -> Tensor:
        """Return the mean squared error (m,) of each of the rows, in double precision."""
        with evaluating(self):
            pairs = ((self(x), self.in_units(x)) for x in map(batches, rows.split(CHUNK)))
            return torch.cat([(a - b).double().square().flatten(1).mean(1).cpu() for a, b in pairs])


@dataclass(frozen=True)
class Recipe:
    """How to train: for so many epochs at most, with so many samples a step; `patience` epochs without a better one.

    `decay` is the weight decay of AdamW.
    """

    epochs: int
    batch_size: int
    patience: int
    lr: float
    optimizer: str
    precision: str
    decay: float


@dataclass(frozen=True)
class Trained:
    """How a training ended, its history, and the epoch whose weights were best, which the chart has now."""

    status: Status
    history: list[dict[str, Any]]
    best_epoch: int


def train_epochs(
    chart: Chart,
    batches: Batches,
    train: Tensor,
    held_out: Tensor,
    recipe: Recipe,
    order: torch.Generator,
    start: float,
    progress: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    left: dict[str, Any] | None = None,
    keep: Keep | None = None,
) -> Trained:
    """Train a chart on the rows `train` in place; it ends with the weights that were best on the rows `held_out`.

    Without such rows it ends with the last weights. `left` is a state that `keep` got, to go on from; `start` is when
    the fit began, in the clock of `time.perf_counter`.

    Raises:
        ArithmeticError: the loss is not finite.
    """
    rebuild, steps = Rebuild(chart), math.ceil(len(train) / recipe.batch_size)
    optimiser = _optimiser(recipe, rebuild, order)
    device = next(chart.parameters()).device
    coarse = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")
    schedule = LambdaLR(optimiser, _one_cycle(recipe.epochs * steps))

    history: list[dict[str, Any]] = []
    best, best_epoch, best_weights = math.inf, 0, chart.state_dict()
    if left is not None:
        _put_back(left, chart, optimiser, schedule, order)
        history, best, best_epoch, best_weights = left["history"], left["best"], left["epoch"], left["weights"]
        start -= history[-1]["seconds"]
    status = Status.EPOCHS_DONE
    with _bar(progress) as bar:
        task = bar.add_task("fit", total=recipe.epochs, completed=len(history), loss="")
        for epoch in range(len(history) + 1, recipe.epochs + 1):
            loss = 0.0
            rebuild.train()
            for rows in train[torch.randperm(len(train), generator=order)].tensor_split(steps):
                optimiser.zero_grad()
                x = batches(rows)
                with coarse:
                    misfit = F.mse_loss(rebuild(x), rebuild.in_units(x))
                loss += _step(misfit, optimiser, schedule) * len(rows) / len(train)
                bar.advance(task, 1 / steps)
            error = rebuild.errors(batches, held_out).mean().item() if len(held_out) else loss
            rate, seconds = schedule.get_last_lr()[0], time.perf_counter() - start
            history.append({"epoch": epoch, "loss": loss, "validation": error, "lr": rate, "seconds": seconds})
            bar.update(task, loss=f"loss {error:.3g}")
            if on_epoch:
                on_epoch(history[-1])
            if error < best or not len(held_out):
                best, best_epoch, best_weights = error, epoch, copy.deepcopy(chart.state_dict())
            elif epoch - best_epoch >= recipe.patience:
                status = Status.STOPPED_EARLY
                break
            if keep is not None:
                done = {"history": history, "best": best, "epoch": best_epoch, "weights": best_weights}
                keep(partial(_state, done, chart, optimiser, schedule, order))
    chart.load_state_dict(best_weights)
    return Trained(status, history, best_epoch)


def _state(
    done: dict[str, Any], chart: Chart, optimiser: Optimizer, schedule: LRScheduler, order: torch.Generator
) -> dict[str, Any]:
    """What was done so far, and all that a step changes."""
    return done | {
        "chart": dict(chart.state_dict()),
        "moments": [dict(optimiser.state.get(p, {})) for p in chart.parameters()],
        "natural": optimiser.state_dict().get("natural"),
        "schedule": schedule.state_dict(),
        "order": order.get_state(),
    }


def _put_back(
    left: dict[str, Any], chart: Chart, optimiser: Optimizer, schedule: LRScheduler, order: torch.Generator
) -> None:
    """Bring everything that a step changes to what `_state` gave; moments in the layout of their parameters."""
    chart.load_state_dict(left["chart"])
    if left["natural"] is not None:
        optimiser.load_state_dict({**optimiser.state_dict(), "natural": left["natural"]})
    for p, moments in zip(chart.parameters(), left["moments"], strict=True):
        if moments:
            optimiser.state[p] = {
                name: torch.empty_like(p).detach().copy_(value)
                if isinstance(value, Tensor) and value.shape == p.shape
                else value
                for name, value in moments.items()
            }
    schedule.load_state_dict(left["schedule"])
    optimiser.param_groups[0]["lr"] = schedule.get_last_lr()[0]
    order.set_state(left["order"])


def _one_cycle(steps: int) -> Callable[[int], float]:
    """A tenth of the steps rising in a line to 1, the others falling as a cosine to 0."""
    rise = max(steps // 10, 1)

    def rate(step: int) -> float:
        return (step + 1) / rise if step < rise else (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1))) / 2

    return rate


def _step(loss: Tensor, optimiser: Optimizer, schedule: LRScheduler) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise ArithmeticError(f"the loss became {value} at the rate {schedule.get_last_lr()[0]:.2g}; lower lr")
    loss.backward()
    optimiser.step()
    schedule.step()
    return value


def _optimiser(recipe: Recipe, rebuild: Rebuild, order: torch.Generator) -> Optimizer:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(rebuild.parameters(), lr=recipe.lr, weight_decay=recipe.decay, fused=True)
    from brenier.information import NaturalGradient

    seed = draw_seed(order)
    return NaturalGradient(rebuild, lr=recipe.lr, likelihood="gaussian", structure="kfac", seed=seed)


def _bar(progress: bool) -> Progress:
    columns = (BarColumn(), TextColumn("epoch {task.completed:.0f}/{task.total}"), TextColumn("{task.fields[loss]}"))
    return Progress(TextColumn("training the chart"), *columns, TimeRemainingColumn(), disable=not progress)
