"""The number of latent dimensions by evidence: short fits of several, judged by held-out samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from brenier import manifold, report
from brenier.solution import Estimate
from brenier.transport.local import choose

MOST = 64  # dimensions
ROWS = 5_000  # samples that a short fit sees
JUDGES = 300  # samples that judge, or a third of all where that is less
LAW = 1_000  # codes whose law is learnt, and samples drawn from it
STEPS = 300  # of a short fit
FEWEST = 64  # samples, below which there is no evidence to go by
SHARE = 4  # a code has at most a quarter as many entries as there are samples
BATCH = 64  # samples of a step of a short fit
CLEAR = 1.0  # standard errors by which a larger dimension must be better
WORTH = 0.25  # and the share of the distance: a longer training gains more where dimensions are few


@dataclass(frozen=True)
class Trials:
    """What was tried: `scores`, the squared energy distance of new samples to held-out ones by dimension; `chosen`.

    The chosen dimension is the least that no larger one beats by a quarter of the distance, or of its standard error
    where that is more, and by more than the standard error of the difference. Larger ones are tried until one is
    clearly worse.
    """

    scores: dict[int, Estimate]
    chosen: int

    def __str__(self) -> str:
        tried = ", ".join(f"{score} with {dim}" for dim, score in self.scores.items())
        return f"{self.chosen} taken; squared energy distance of new samples to held-out ones: {tried}"


def rungs(start: int, most: int) -> list[int]:
    """Return dimensions from `start` to `most`, each at most twice the one before, in equal ratios.

    Example:
        >>> rungs(13, 64), rungs(5, 5)
        ([13, 22, 38, 64], [5])
    """
    steps = math.ceil(math.log2(most / start)) if most > start else 0
    return [round(start * (most / start) ** (i / max(steps, 1))) for i in range(steps + 1)]


def climb(
    values: np.ndarray,
    held_out: Tensor,
    start: int,
    make: Callable[[int], manifold.Chart],
    to_network: Callable[[Tensor], Tensor],
    device: torch.device,
    seed: int = 0,
) -> Trials:
    """Try dimensions from `start` on and return the energy distances and the choice.

    For a dimension a chart is trained for 300 steps of 64 samples, on at most 5,000, the law of its codes is smoothed
    as `transport.extend` does it, without a transport, and new samples are drawn and compared with held-out ones in
    the space of the data. Too few dimensions blur the samples, too many make their law harder to learn; the energy
    distance sees both.

    Args:
        values: samples (n, ...).
        held_out: indices of those that judge; others join them up to 300, or a third of all.
        start: the least dimension, the intrinsic one.
        make: the untrained chart of a dimension.
        to_network: converts a batch of samples.
        device: where to train.
        seed: of everything random.

    Source: Székely and Rizzo, Energy statistics, 2013, for the distance.
    """
    n = len(values)
    others = torch.randperm(n, generator=_generator(seed))
    others = others[~torch.isin(others, held_out)]
    more = min(JUDGES, n // 3) - len(held_out)
    judges, rows = torch.cat([held_out, others[: max(more, 0)]])[:LAW], others[max(more, 0) :][:ROWS].sort().values
    most = min(MOST, math.prod(values.shape[1:]), len(rows) // SHARE)
    dims = rungs(start, most) if n >= FEWEST else [start]
    if len(dims) == 1:
        return Trials({}, dims[0])
    test = to_network(torch.from_numpy(values[judges.numpy()])).flatten(1).double()
    scores: dict[int, Estimate] = {}
    shares: list[Tensor] = []  # of each held-out sample in the distance, by dimension
    for dim in dims:
        new = _drawn(make(dim), values[rows.numpy()], to_network, device, seed)
        within = torch.cdist(new, new).sum() / (len(new) * (len(new) - 1))
        shares.append(2 * torch.cdist(test, new).mean(1) - within)
        scores[dim] = report.energy(new, test)
        if any(_gain(before, shares[-1]) > 0 for before in shares[:-1]):
            break
    worth = [WORTH * max(score) for score in scores.values()]
    beaten = [any(_gain(other, shares[i]) > worth[i] for other in shares[i + 1 :]) for i in range(len(shares))]
    return Trials(scores, dims[beaten.index(False)])


def _gain(one: Tensor, other: Tensor) -> float:
    """By how much one dimension is better than another, 0 where that is not clear, from the shares (m,) of the same
    samples in their distances. Sample by sample: what makes one far from everything is no difference of dimensions.
    """
    gain = other - one
    return max(0.0, gain.mean().item()) if gain.mean() > CLEAR * gain.std() / math.sqrt(len(gain)) else 0.0


def _drawn(
    chart: manifold.Chart,
    values: np.ndarray,
    to_network: Callable[[Tensor], Tensor],
    device: torch.device,
    seed: int,
) -> Tensor:
    """New samples (m, D) by a chart trained shortly on all values and the smoothed law of its codes."""
    epochs = math.ceil(STEPS * BATCH / len(values))
    manifold.fit(
        chart,
        values,
        validation=0,
        epochs=epochs,
        batch_size=BATCH,
        generator=_generator(seed),
        device=device,
        to_network=to_network,
    )
    codes = chart.encode(values[:LAW], to_network=to_network).cpu()
    nu = torch.full((len(codes),), 1 / len(codes), dtype=torch.float64)
    local, _ = choose(codes, nu, torch.zeros(len(codes), dtype=torch.long), None, None)
    cells = torch.arange(LAW) % len(codes)
    xi = torch.randn(LAW, codes.shape[1], dtype=torch.float64, generator=_generator(seed))
    return chart.decode(local.draw(cells, xi).to(codes)).cpu().flatten(1).double()


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
