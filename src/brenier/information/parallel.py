"""Sums over the processes of torch.distributed, nothing in a single process."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean(x: Tensor) -> Tensor:
    """The mean over processes."""
    if processes() == 1:
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total / processes()


def joined_columns(x: Tensor) -> Tensor:
    """The columns (n, k) of every process side by side, over the root of their number; k may differ."""
    if processes() == 1:
        return x
    count = torch.tensor([x.shape[1]], device=x.device)
    counts = [torch.empty_like(count) for _ in range(processes())]
    dist.all_gather(counts, count)
    most = max(int(c) for c in counts)
    padded = torch.cat([x, x.new_zeros(len(x), most - x.shape[1])], 1).contiguous()
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:, : int(c)] for part, c in zip(gathered, counts, strict=True)], 1) / processes() ** 0.5
