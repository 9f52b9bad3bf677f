"""Fit a chart to samples: least squared error, early stopping on held-out samples."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.stats import t as student
from torch import Tensor, nn
from torch.nn.utils.parametrize import remove_parametrizations

from brenier.manifold.chart import Chart, Convert, Samples, as_network, evaluating
from brenier.manifold.networks import Decoder, Encoder, Restore, RestorePixels, Standardise, draw_seed
from brenier.manifold.principal import FromAxes, ToAxes, ends, principal_axes, set_axes, silence
from brenier.manifold.training import CHUNK, Batches, Rebuild, Recipe, Trained, train_epochs
from brenier.solution import Estimate, Keeper, Solution, Status

STEPS = {"adamw": (5000, 100), "natural": (1000, 100)}  # steps and epochs of a training, at most
FROM_PRINCIPAL = (5000, 40)  # the same, by AdamW, for networks that start at principal components
OPTIMIZERS = {"adamw": 3e-3, "natural": 1.0}  # and their rates
PRECISIONS = ("float32", "bfloat16")
LEVEL = 0.01  # of the test that keeps a network
SMALL = 10_000  # samples: with at most so many a chosen network is trained again on all of them
DECAY = 1000  # over the number of samples is the weight decay of the library's own networks, within 0.01 and 1
FEW, FOLDS = 1000, 5  # samples: with at most so many, so many trainings judge by other rows each
UNITS = 100.0  # the largest deviation over the median one, above which columns have units of their own


@dataclass(frozen=True)
class Verdict:
    """Held-out errors of principal components and of the best network, the gain, paired by sample, and the choice."""

    principal: Estimate
    network: Estimate
    gain: Estimate
    keeps_network: bool


@dataclass(frozen=True)
class Fold:
    """A training that was judged by held-out rows (m,): their errors by principal components and by the network."""

    trained: Trained
    principal: Tensor | None = None
    network: Tensor | None = None


@dataclass(frozen=True)
class ChartSolution(Solution):
    """How the fit of a chart ended; `verdict` is None where nothing had to be chosen.

    `epochs` is how long the network was trained that the chart has now, 0 for none, and `rows` on how many samples.
    """

    verdict: Verdict | None = None
    epochs: int = 0
    rows: int = 0


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
    the weights that were best there.

    The library's own networks start as principal components of the training rows. The trained network is kept only
    where its error on held-out rows is clearly smaller than theirs (Student's test of the paired differences, level
    1 %); with at most 1,000 samples five parts of the rows are held out in turn. Otherwise the chart is principal
    components of all rows. Of at most 10,000 samples a network that is kept is trained again on all rows, as long as
    was best. With `constraints`, a curved latent space or nothing held out there is no such choice, nor when a chart is
    fitted again. In the end codes are centred and scaled to mean variance 1.

    Args:
        chart: trained in place, moved to the device.
        x: samples as a tensor or array, kept as they are (uint8 images stay uint8); each batch is converted alone.
        validation: the share of samples held out, or their indices; 0 holds out none and keeps the last weights.
        epochs: by default as many as make 5,000 steps, at most 40; of "natural" 1,000 steps, at most 100 epochs, of
            a chart of the user's own 5,000 steps, at most 100 epochs.
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
        ChartSolution with history, one dict per epoch with the rows that are held out first: epoch, loss, validation,
        lr, seconds; `verdict`, the errors that decided; `epochs` and `rows` of the network that the chart has.

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
    batches, every = Batches(x, to_network, like), torch.arange(len(x))
    train, held_out = _split(len(x), validation, order)
    _check(chart, batches, len(train))
    own = bool(ends(chart))
    most = FROM_PRINCIPAL if own and optimizer == "adamw" else STEPS[optimizer]
    decay = min(max(DECAY / len(train), 0.01), 1.0) if own else 0.01
    budget = _budget(len(train), epochs, batch_size, patience, most)
    recipe = Recipe(*budget, lr, optimizer, precision, decay)

    new = own and not any(end.known for end in ends(chart))
    _standardise_data(chart, batches, train, new)
    if new and constraints is None:
        silence(chart)
    judged = new and constraints is None and _is_linear(chart) and len(held_out) > 1
    folds = _folds(train, held_out, order, FOLDS if judged and len(x) <= FEW and optimizer == "adamw" else 1)
    beginning = copy.deepcopy(chart.state_dict()) if judged else {}
    constrained = _constrain(chart, constraints)
    left = None if keeper is None else keeper.recall()
    done: list[Fold] = [] if left is None else left["folds"]

    def train_on(rows: Tensor, judges: Tensor, recipe: Recipe, **options: Any) -> Trained:
        if judged and rows is not train:
            chart.load_state_dict(beginning)
            _standardise_data(chart, batches, rows, new)
        keep = None if keeper is None else lambda state: keeper.keep(lambda: {**state(), "folds": done})
        return train_epochs(chart, batches, rows, judges, recipe, order, start, progress, keep=keep, **options)

    # 1: with held-out rows, how long to train, and whether a network is better than principal components
    for rows, judges in folds[len(done) :]:
        trained = train_on(rows, judges, recipe, left=left, on_epoch=None if done else on_epoch)
        errors = _errors(Rebuild(chart), batches, judges) if judged else ()
        done, left = [*done, Fold(trained, *errors)], None
    for layer in constrained:
        remove_parametrizations(layer, "weight")

    # 2: the same with all rows
    first, verdict = done[0].trained, _judge(done) if judged else None
    status, epochs, rows = first.status, first.best_epoch, train
    if verdict is not None and not verdict.keeps_network:
        chart.load_state_dict(beginning)
        _standardise_data(chart, batches, every, new)
        status, epochs, rows = Status.PRINCIPAL, 0, every
    elif verdict is not None and len(x) <= SMALL:
        epochs, rows = sorted(fold.trained.best_epoch for fold in done)[len(done) // 2], every
        train_on(every, every[:0], replace(recipe, epochs=epochs), left=left)
    _normalise_codes(chart, batches, rows)
    chart.eval()
    return ChartSolution(status, time.perf_counter() - start, first.history, verdict, epochs, len(rows))


def trainings(n: int) -> int:
    """Return how often networks that start at principal components are trained, at most, for n samples."""
    return 1 + (n <= SMALL) + (FOLDS - 1) * (n <= FEW)


def _folds(train: Tensor, held_out: Tensor, order: torch.Generator, most: int) -> list[tuple[Tensor, Tensor]]:
    """Return rows to train on and to judge by: those given, and as many more of the same sizes as there can be."""
    every, more = torch.cat([train, held_out]), train[torch.randperm(len(train), generator=order)]
    others = more[: (most - 1) * len(held_out)].split(len(held_out)) if most > 1 else ()
    others = [judges for judges in others if len(judges) == len(held_out)]
    return [(train, held_out), *((every[~torch.isin(every, judges)].sort().values, judges) for judges in others)]


def _errors(rebuild: Rebuild, batches: Batches, judges: Tensor) -> tuple[Tensor, Tensor]:
    """Return the errors (m,) of principal components and of the trained network on the rows `judges`."""
    chart, weights = rebuild.chart, copy.deepcopy(rebuild.chart.state_dict())
    network = rebuild.errors(batches, judges)
    silence(chart)
    principal = rebuild.errors(batches, judges)
    chart.load_state_dict(weights)
    return principal, network


def _judge(folds: list[Fold]) -> Verdict:
    """Keep the network where its gain, paired by row, is above 0 in Student's test at the level of 1 %."""
    principal, network = (torch.cat([getattr(fold, name) for fold in folds]) for name in ("principal", "network"))
    gain = _mean(principal - network)
    keeps = gain.mean > student.ppf(1 - LEVEL, len(principal) - 1) * gain.sem
    return Verdict(_mean(principal), _mean(network), gain, bool(keeps))


def _mean(values: Tensor) -> Estimate:
    return Estimate(values.mean().item(), values.std().item() / math.sqrt(len(values)))


def _is_linear(chart: Chart) -> bool:
    """Return whether the chart is principal components when its networks are silent."""
    bodies = getattr(chart.encoder, "body", None), getattr(chart.decoder, "body", None)
    return isinstance(bodies[0], ToAxes) and isinstance(bodies[1], FromAxes)


def _budget(
    n: int, epochs: int | None, batch_size: int | None, patience: int | None, most: tuple[int, int] = FROM_PRINCIPAL
) -> tuple[int, int, int]:
    """Epochs, batch size and patience for n samples where they aren't given."""
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    batch_size = batch_size or min(max(2 ** round(math.log2(n / 16)), 32), 256)
    epochs = epochs or min(math.ceil(most[0] / math.ceil(n / batch_size)), most[1])
    return epochs, batch_size, patience or max(10, epochs // 4)


def _constrain(chart: Chart, constraints: str | Mapping[str, str] | None) -> list[nn.Module]:
    """The layers whose weights are on a manifold from now on."""
    if constraints is None:
        return []
    from brenier.riemannian import constrain_layers  # here, since geoopt takes half a second to import

    return constrain_layers(chart, constraints)


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


def _check(chart: Chart, batches: Batches, train: int) -> None:
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


def _standardise_data(chart: Chart, batches: Batches, rows: Tensor, new: bool) -> None:
    """Set what the library's own networks have of the data: mean and deviation of each entry, and principal axes.

    Networks that begin at principal components take one scale for all entries, so that axes and errors are those of the
    data, unless columns have units of their own, and keep what a fit before has set.
    """
    first, last = getattr(chart.encoder, "data", None), getattr(chart.decoder, "data", None)
    if not (isinstance(first, Standardise) and isinstance(last, Restore)) or (ends(chart) and not new):
        return
    chunks = rows.split(CHUNK)
    mean = torch.stack([batches(chunk).cpu().double().sum(0) for chunk in chunks]).sum(0) / len(rows)
    std = torch.stack([(batches(chunk).cpu().double() - mean).square().sum(0) for chunk in chunks]).sum(0)
    std = (std / len(rows)).sqrt()
    varies = std > torch.finfo(torch.float32).eps * mean.abs()
    if new and varies.any():
        some = std[varies]
        if isinstance(last, RestorePixels) or some.max() <= UNITS * some.median():
            std = torch.where(varies, some.square().mean().sqrt(), 0.0)
    for layer in (first, last):
        layer.set(mean, std * varies)
    if new:
        n, dim, k = len(rows), mean.numel(), max(len(end.axes) for end in ends(chart))
        with torch.no_grad():
            found = principal_axes(lambda: (first(batches(c)).flatten(1).cpu() for c in chunks), n, dim, k)
        set_axes(chart, found)


def _normalise_codes(chart: Chart, batches: Batches, rows: Tensor) -> None:
    """Centre the codes and scale them to mean variance 1; the decoder undoes it first.

    All coordinates are scaled alike, in the units of the data along principal axes: distances of codes are those of
    samples. `deviations = z.std(0, correction=0)` would give each axis variance 1.
    """
    encoder, decoder = chart.encoder, chart.decoder
    if isinstance(encoder, Encoder) and isinstance(decoder, Decoder):
        with evaluating(encoder):
            z = torch.cat([encoder.body(encoder.data(batches(part))).cpu().double() for part in rows.split(CHUNK)])
        units = torch.ones(z.shape[1], dtype=z.dtype)
        if isinstance(encoder.body, ToAxes):
            spread = encoder.body.spread[: z.shape[1]].cpu().double()
            units = torch.where(spread > 0, spread, spread.max().clamp(min=1e-300))
        deviations = (z * units).var(0, correction=0).mean().sqrt() / units
        for layer in (encoder.code, decoder.code):
            layer.set(z.mean(0), deviations)
