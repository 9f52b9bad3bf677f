"""Small networks that classify: how they are built, trained and applied, seeded and without the global generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Convert = Callable[[Any], Tensor]
Network = TypeVar("Network", bound=nn.Module)
CHUNK = 2048  # rows that go through a network at a time


def tensor(rows: Any) -> Tensor:
    """Rows of an array, read-only ones too, or of a tensor, as a tensor."""
    return rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))


def seeded(build: Callable[[], Network], seed: int) -> Network:
    """The module that `build` makes, its weights drawn from `seed`; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A perceptron with two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def train(
    network: nn.Module,
    inputs: Callable[[np.ndarray], Tensor],
    y: Tensor,
    rng: np.random.Generator,
    epochs: int,
    batch: int,
    rate: float,
    decay: float,
) -> None:
    """Cross entropy between network(inputs(rows)) and y[rows] by AdamW on one cycle of the rate, in place."""
    batch = min(batch, len(y))
    steps = len(y) // batch
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * steps + 1)
    network.train()
    for _ in range(epochs):
        for rows in rng.permutation(len(y))[: steps * batch].reshape(steps, batch):
            loss = nn.functional.cross_entropy(network(inputs(rows)), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()


def apply(network: Callable[[Tensor], Tensor], x: Any) -> Tensor:
    """The network's outputs for all rows, chunk by chunk, on the CPU."""
    with torch.no_grad():
        return torch.cat([network(x[i : i + CHUNK]).cpu() for i in range(0, len(x), CHUNK)])
