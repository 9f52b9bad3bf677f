"""Fit a chart to samples: least squared error, early stopping on held-out samples."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.utils.parametrize import remove_parametrizations
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from brenier.manifold.chart import Chart, Convert, Samples, as_network, evaluating, place, take
from brenier.manifold.networks import Decoder, Encoder, Restore, Standardise, draw_seed
from brenier.solution import Keeper, Solution, Status

STEPS = {"adamw": 5000, "natural": 1000}
CHUNK = 1024
OPTIMIZERS = {"adamw": 3e-3, "natural": 1.0}  # and their rates
PRECISIONS = ("float32", "bfloat16")


def fit(
    chart: Chart,
    x: Samples,
    *,
    validation: float | Samples = 0.1,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    patience: int | None = None,
    generator: torch.Generator | int | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    to_network: Convert = as_network,
    optimizer: str = "adamw",
    constraints: str | Mapping[str, str] | None = None,
    precision: str = "float32",
    keeper: Keeper | None = None,
) -> Solution:
    """Train a chart in place to rebuild x (m, ...): min Σ |g(f(x)) − x|², mean over entries.

    AdamW, or natural gradient, under a one-cycle rate; after each epoch the error on held-out samples, and in the end
    the weights that were best there. Afterwards the codes of the library's own networks are centred and scaled to mean
    variance 1.

    Args:
        chart: trained in place, moved to the device.
        x: samples as a tensor or array, kept as they are (uint8 images stay uint8); each batch is converted alone.
        validation: the share of samples held out, or their indices; 0 holds out none and keeps the last weights.
        epochs: by default as many as make 5,000 steps, 1,000 of "natural", at most 100.
        batch_size: by default a sixteenth of the samples between 32 and 256.
        lr: the peak of the learning rate; by default 3e-3 for "adamw", 1 for "natural".
        patience: epochs without a better held-out error before the end; by default a quarter of epochs, at least 10.
        generator: orders the samples: a generator or a seed; None is torch's own.
        device: where to train; by default where the chart is.
        progress: a bar with loss and time left.
        on_epoch: called with each entry of the history.
        to_network: converts a batch; by default uint8 0..255 becomes float 0..1.
        optimizer: "adamw", or "natural": `information.NaturalGradient` with K-FAC, whose steps are dearer and fewer.
        constraints: manifolds that weights stay on, by layer, {"encoder.body.0": "stiefel"}, or one for the encoder's
            last linear layer; see `riemannian.constrain`.
        precision: of the products in training: "float32", or "bfloat16" under torch's autocast, for GPUs with tensor
            cores and CPUs with AMX. Weights, sums and everything after the training keep the precision of the chart.
        keeper: gets the state after each epoch, and gives back that of a training that was interrupted: the same call
            then ends with the same weights, bit for bit, as if it had not been (on one machine and as many threads).

    Returns:
        Solution with history, one dict per epoch: epoch, loss, validation, lr, seconds.

    Raises:
        ValueError: too few samples, NaN or Inf among them, an answer of another shape, an argument out of range.
        ArithmeticError: the loss is not finite.

    Example:
        >>> from brenier.manifold import Chart, mlp
        >>> x = torch.randn(64, 1, generator=torch.Generator().manual_seed(0)) @ torch.ones(1, 3)
        >>> solution = fit(Chart(*mlp(3, latent_dim=1, depth=0, generator=0)), x, epochs=40, lr=0.1, generator=0)
        >>> solution.history[-1]["loss"] < 0.01
        True
    """
    start = time.perf_counter()
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {optimizer!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    lr = OPTIMIZERS[optimizer] if lr is None else lr
    if not lr > 0:
        raise ValueError(f"lr must be positive, got {lr}")
    order = torch.Generator().manual_seed(generator if isinstance(generator, int) else draw_seed(generator))
    chart.to(device)
    like = next((p for p in chart.parameters() if p.requires_grad), None)
    if like is None:
        raise ValueError("the chart has no parameters to train")
    batches = _Batches(x, to_network, like)
    train, held_out = _split(len(x), validation, order)
    _check(chart, batches, len(train))
    _standardise_data(chart, batches, train)
    constrained = _constrain(chart, constraints)
    epochs, batch_size, patience = _budget(len(train), epochs, batch_size, patience, STEPS[optimizer])
    steps = math.ceil(len(train) / batch_size)
    rebuild = _Rebuild(chart)
    optimiser = _optimiser(optimizer, rebuild, lr, order)
    coarse = torch.autocast(like.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    schedule = LambdaLR(optimiser, _one_cycle(epochs * steps))

    history: list[dict[str, Any]] = []
    best, best_epoch, best_weights = math.inf, 0, chart.state_dict()
    left = None if keeper is None else keeper.recall()
    if left is not None:
        _put_back(left, chart, optimiser, schedule, order)
        history, best, best_epoch, best_weights = left["history"], left["best"], left["epoch"], left["weights"]
        start -= history[-1]["seconds"]
    status = Status.EPOCHS_DONE
    with _bar(progress) as bar:
        task = bar.add_task("fit", total=epochs, completed=len(history), loss="")
        for epoch in range(len(history) + 1, epochs + 1):
            loss = 0.0
            rebuild.train()
            for rows in train[torch.randperm(len(train), generator=order)].tensor_split(steps):
                optimiser.zero_grad()
                with coarse:
                    misfit = _misfit(rebuild, batches(rows))
                loss += _step(misfit, optimiser, schedule) * len(rows) / len(train)
                bar.advance(task, 1 / steps)
            error = _error(rebuild, batches, held_out) if len(held_out) else loss
            rate, seconds = schedule.get_last_lr()[0], time.perf_counter() - start
            history.append({"epoch": epoch, "loss": loss, "validation": error, "lr": rate, "seconds": seconds})
            bar.update(task, loss=f"loss {error:.3g}")
            if on_epoch:
                on_epoch(history[-1])
            if error < best or not len(held_out):
                best, best_epoch, best_weights = error, epoch, copy.deepcopy(chart.state_dict())
            elif epoch - best_epoch >= patience:
                status = Status.STOPPED_EARLY
                break
            if keeper is not None:
                done = {"history": history, "best": best, "epoch": best_epoch, "weights": best_weights}
                keeper.keep(partial(_state, done, chart, optimiser, schedule, order))
    chart.load_state_dict(best_weights)
    for layer in constrained:
        remove_parametrizations(layer, "weight")
    _normalise_codes(chart, batches, train)
    chart.eval()
    return Solution(status, time.perf_counter() - start, history)


@dataclass(frozen=True)
class _Batches:
    """Samples kept as they are; the rows asked for come out as a network reads them."""

    x: Samples
    to_network: Convert
    like: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        return place(self.to_network(take(self.x, rows)), self.like)


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


def _budget(
    n: int, epochs: int | None, batch_size: int | None, patience: int | None, steps: int = STEPS["adamw"]
) -> tuple[int, int, int]:
    """Epochs, batch size and patience for n samples where they aren't given."""
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    batch_size = batch_size or min(max(2 ** round(math.log2(n / 16)), 32), 256)
    epochs = epochs or min(math.ceil(steps / math.ceil(n / batch_size)), 100)
    return epochs, batch_size, patience or max(10, epochs // 4)


def _constrain(chart: Chart, constraints: str | Mapping[str, str] | None) -> list[nn.Module]:
    """The layers whose weights are on a manifold from now on."""
    if constraints is None:
        return []
    from brenier.riemannian import constrain_layers  # here, since geoopt takes half a second to import

    return constrain_layers(chart, constraints)


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


class _Rebuild(nn.Module):
    """Decoder after encoder; a standardising chart is judged in the units of each entry's deviation."""

    def __init__(self, chart: Chart) -> None:
        super().__init__()
        self.chart = chart

    def forward(self, x: Tensor) -> Tensor:
        return self.in_units(self.chart.decoder(self.chart.encoder(x)).to(x.dtype))

    def in_units(self, x: Tensor) -> Tensor:
        return self.chart.encoder.data(x) if isinstance(self.chart.encoder, Encoder) else x


def _optimiser(name: str, rebuild: _Rebuild, lr: float, order: torch.Generator) -> Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(rebuild.parameters(), lr=lr, fused=True)
    from brenier.information import NaturalGradient

    seed = draw_seed(order)
    return NaturalGradient(rebuild, lr=lr, likelihood="gaussian", structure="kfac", seed=seed)


def _misfit(rebuild: _Rebuild, x: Tensor) -> Tensor:
    """Mean squared error per entry."""
    return F.mse_loss(rebuild(x), rebuild.in_units(x))


def _error(rebuild: _Rebuild, batches: _Batches, rows: Tensor) -> float:
    """Mean squared error per entry over the rows."""
    total = 0.0
    with evaluating(rebuild):
        for chunk in rows.split(CHUNK):
            total += _misfit(rebuild, batches(chunk)).item() * len(chunk) / len(rows)
    return total


def _split(n: int, validation: float | Samples, order: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices to train on and to hold out."""
    if isinstance(validation, (int, float)):
        if not 0 <= validation < 1:
            raise ValueError(f"validation must be a share from 0 up to 1 or indices, got {validation}")
        held = math.ceil(validation * n)
        rows = torch.randperm(n, generator=order)
        held_out, train = rows[:held].sort().values, rows[held:].sort().values
    else:
        held_out = torch.as_tensor(validation).cpu().long().unique()
        if len(held_out) and (held_out[0] < 0 or held_out[-1] >= n):
            raise ValueError(f"validation must index the {n} samples, got {held_out[0]} to {held_out[-1]}")
        train = torch.ones(n, dtype=torch.bool).index_fill_(0, held_out, False).nonzero()[:, 0]
    if len(train) < 1:
        raise ValueError(f"no sample is left to train on, {n} given and {len(held_out)} held out")
    return train, held_out


def _check(chart: Chart, batches: _Batches, train: int) -> None:
    """Raise unless all samples are finite, the decoder gives back their shape and they outnumber the code's entries."""
    for rows in torch.arange(len(batches.x)).split(CHUNK):
        finite = batches(rows).isfinite().flatten(1).all(1)
        if not finite.all():
            raise ValueError(f"samples must be finite, got NaN or Inf in sample {rows[~finite.cpu()][0]}")
    with evaluating(chart):
        x = batches(torch.tensor([0]))
        z = chart.encoder(x)
        shape = chart.decoder(z).shape
    if shape != x.shape:
        raise ValueError(f"the decoder must give back samples of shape {tuple(x.shape[1:])}, got {tuple(shape[1:])}")
    if z.ndim != 2:
        raise ValueError(f"the encoder must give codes of shape (m, d), got {tuple(z.shape)}")
    if z.shape[1] > train:
        raise ValueError(f"latent_dim must not exceed the number of training samples, got {z.shape[1]} for {train}")


def _standardise_data(chart: Chart, batches: _Batches, train: Tensor) -> None:
    """Set the first and last layer of a perceptron from the mean and deviation of each entry."""
    first, last = getattr(chart.encoder, "data", None), getattr(chart.decoder, "data", None)
    if isinstance(first, Standardise) and isinstance(last, Restore):
        chunks = train.split(CHUNK)
        mean = torch.stack([batches(rows).cpu().double().sum(0) for rows in chunks]).sum(0) / len(train)
        squares = torch.stack([(batches(rows).cpu().double() - mean).square().sum(0) for rows in chunks]).sum(0)
        for layer in (first, last):
            layer.set(mean, (squares / len(train)).sqrt())


def _normalise_codes(chart: Chart, batches: _Batches, train: Tensor) -> None:
    """Centre the codes and scale them, all coordinates alike, to mean variance 1; the decoder undoes it first."""
    encoder, decoder = chart.encoder, chart.decoder
    if isinstance(encoder, Encoder) and isinstance(decoder, Decoder):
        with evaluating(encoder):
            z = torch.cat([encoder.body(encoder.data(batches(rows))).cpu().double() for rows in train.split(CHUNK)])
        for layer in (encoder.code, decoder.code):
            layer.set(z.mean(0), z.var(0, correction=0).mean().sqrt())


def _bar(progress: bool) -> Progress:
    columns = (BarColumn(), TextColumn("epoch {task.completed:.0f}/{task.total}"), TextColumn("{task.fields[loss]}"))
    return Progress(TextColumn("training the chart"), *columns, TimeRemainingColumn(), disable=not progress)
