"""The stochastic method: fresh samples every step, a falling rate at every scale, the average of the last steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class AveragedAdam:
    """Adam on dE/dh = mu(W) − nu, its rates falling geometrically to `end` (n,) over `steps` steps.

    The rates begin as `rate` times the spread of the targets, for single ones that of their finest group, so that
    clusters of any size at any distance move at their own pace. A geometric fall gives every scale of the heights the
    same number of steps, down to `end`, which goes with the targets' local spacing. The answer is the average over the
    steps after the share ALONE, which takes the noise of single steps out.

    One sample tells little of a cell and much of a group of cells. Beside the heights of single targets, each of the
    `groups`, labels (n,) from 0 to 8^p − 1, and each eight groups in a row, and so on upwards, has a height of its own
    that answers to the group's mass and comes to rest before the averaging; h is the sum. So the masses of clusters
    settle in few steps at every n. Sources: Kingma and Ba 2015; Polyak and Juditsky 1992.
    """

    FAN, ALONE = 8, 0.3

    def __init__(
        self, heights: Tensor, nu: Tensor, rate: float, end: Tensor, steps: int, groups: Tensor, spreads: list[Tensor]
    ) -> None:
        self.h, self.mean = heights.clone(), torch.zeros_like(heights)
        self.steps, self.t, self.averaged = steps, 0, 0
        self.groups, self.levels = groups, round(math.log(int(groups.max()) + 1, self.FAN))
        self.fine = _Adam(nu, rate * spreads[-1][groups], end)
        above = [rate * spread.repeat_interleave(self.FAN) for spread in spreads[:-1]]
        self.coarse = [_Adam(sums, first, end.mean()) for sums, first in zip(self._sums(nu), above, strict=True)]

    def step(self, counts: Tensor, m: int, spent: float = 0.0) -> None:
        """One step from the counts (n,) of m samples; `spent`, the share of the time that is gone, may hurry it."""
        self.t += 1
        progress = max(self.t / self.steps, spent)
        self.h -= self.fine.move(counts, m, progress)
        if progress > self.ALONE:
            self.averaged += 1
            self.mean += (self.h - self.mean) / self.averaged
        elif self.coarse:
            moves = torch.zeros(1).to(counts)
            for method, sums in zip(self.coarse, self._sums(counts), strict=True):
                moves = moves.repeat_interleave(self.FAN) + method.move(sums, m, progress / self.ALONE)
            self.h -= moves[self.groups]

    def _sums(self, values: Tensor) -> list[Tensor]:
        """Sums of values (n,) over the 8, 64, 512, ... groups."""
        finest = values.new_zeros(self.FAN**self.levels).index_add_(0, self.groups, values)
        return [finest.view(self.FAN**level, -1).sum(1) for level in range(1, self.levels + 1)]

    def moving(self) -> dict[str, Any]:
        """What a step changes."""
        each = [(method.first, method.second, method.t) for method in (self.fine, *self.coarse)]
        return {"h": self.h, "mean": self.mean, "t": self.t, "averaged": self.averaged, "each": each}

    def put_back(self, moving: dict[str, Any]) -> None:
        """Go on from what `moving` gave."""
        self.h, self.mean, self.t, self.averaged = (moving[name] for name in ("h", "mean", "t", "averaged"))
        for method, moments in zip((self.fine, *self.coarse), moving["each"], strict=True):
            method.first, method.second, method.t = moments

    @property
    def answer(self) -> Tensor:
        """The heights to use: the average, or the iterate itself before the averaging has begun."""
        return self.mean if self.averaged else self.h


class _Adam:
    """The steps of one partition of the targets, whose parts have the masses `nu`.

    The squares of a gradient are remembered over at least HITS samples due to its part: with a shorter memory the step
    would go with the very samples that it divides, and parts that get theirs in clumps would settle at another mass.
    """

    BETA1, BETA2, HITS = 0.9, 0.99, 20

    def __init__(self, nu: Tensor, rate: Tensor, end: Tensor) -> None:
        self.nu, self.rate = nu, rate.clamp(min=torch.finfo(rate.dtype).tiny)
        self.fall = torch.log(torch.minimum(end, self.rate) / self.rate)
        self.first, self.second, self.t = torch.zeros_like(nu), torch.zeros_like(nu), 0

    def move(self, counts: Tensor, m: int, progress: float) -> Tensor:
        """The next step down, at the rate that is due at `progress` from 0 to 1."""
        self.t += 1
        gradient = counts / m - self.nu
        forget = (self.nu * (m / self.HITS)).clamp_(max=1 - self.BETA2)
        self.first.lerp_(gradient, 1 - self.BETA1)
        self.second.lerp_(gradient.square(), forget)
        seen = -torch.expm1(self.t * torch.log1p(-forget))  # 1 − (1 − forget)^t, also where forget is tiny
        size = (self.second / seen).sqrt_().clamp_(min=torch.finfo(counts.dtype).tiny)
        return self.rate * torch.exp(self.fall * progress) / (1 - self.BETA1**self.t) * self.first / size
