"""The stochastic method: fresh samples every step, a falling rate, the average of the last steps."""

from __future__ import annotations

import torch
from torch import Tensor


class AveragedAdam:
    """Adam on dE/dh = mu(W) − nu, its rate falling geometrically from `rate` to `end` (n,) over `steps` steps.

    A geometric fall gives every scale of the heights the same number of steps: whole clusters first, single cells
    last, where `end` is the targets' local spacing. The answer is the average over the last half of the steps, which
    takes the noise of single steps out. Sources: Kingma and Ba 2015; Polyak and Juditsky 1992.
    """

    BETA1, BETA2 = 0.9, 0.99

    def __init__(self, heights: Tensor, rate: float, end: Tensor, steps: int) -> None:
        self.h = heights.clone()
        self.rate, self.fall = rate, torch.log(end / rate)
        self.steps, self.t, self.averaged = steps, 0, 0
        self.first, self.second = torch.zeros_like(heights), torch.zeros_like(heights)
        self.mean = torch.zeros_like(heights)

    def step(self, counts: Tensor, m: int, nu: Tensor) -> None:
        """One step from the counts (n,) of m samples."""
        self.t += 1
        gradient = counts / m - nu
        self.first.lerp_(gradient, 1 - self.BETA1)
        self.second.lerp_(gradient.square(), 1 - self.BETA2)
        rate = self.rate * torch.exp(self.fall * (self.t / self.steps))
        size = (self.second / (1 - self.BETA2**self.t)).sqrt_().clamp_(min=torch.finfo(nu.dtype).tiny)
        self.h -= rate / (1 - self.BETA1**self.t) * self.first / size
        if 2 * self.t > self.steps:
            self.averaged += 1
            self.mean += (self.h - self.mean) / self.averaged

    @property
    def answer(self) -> Tensor:
        """The heights to use: the average, or the iterate itself before the averaging has begun."""
        return self.mean if self.averaged else self.h
