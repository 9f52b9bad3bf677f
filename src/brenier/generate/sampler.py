"""The transport sampler: noise to new codes, one seed a sample, noise on the singular set drawn again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from brenier.checks import whole
from brenier.measures import Source
from brenier.solution import Estimate
from brenier.transport import Extension

PATIENCE = 1000  # times the expected number of draws before a search for a rare cell is given up


@dataclass(frozen=True, eq=False)
class Draw:
    """New codes (n, d), the noise (n, d) they come from, and the share of noise accepted on the first draw."""

    codes: Tensor
    noise: Tensor
    accepted: Estimate


@dataclass(frozen=True, eq=False)
class TransportSampler:
    """Draws codes z = T(x), x from `source`, `extension` the map T.

    Sample i of a seed has a random stream of its own and draws from it until its noise is accepted: the first five
    samples of ten are the samples of five, at any batch size and in any process.
    """

    extension: Extension
    source: Source

    def draw(self, n: int, seed: int = 0, wanted: Tensor | None = None, batch_size: int = 256) -> Draw:
        """n codes, if `wanted` (targets,) bool is given from noise in the cells of wanted targets only.

        Raises:
            ValueError: n or batch_size below 1, or no wanted target has any mass; TypeError: no whole numbers.
            ArithmeticError: the wanted cells weren't hit in a thousand times the draws expected.
        """
        n, batch_size = whole("n", n, 1), whole("batch_size", batch_size, 1)
        share = 1.0 if wanted is None else self.extension.masses[wanted].sum().item()
        if share <= 0:
            raise ValueError("no wanted target has any mass to sample from")
        tries = 1 if wanted is None else min(64, math.ceil(1 / share))
        parts = []
        for first in range(0, n, batch_size):
            streams = [stream(seed, i) for i in range(first, min(n, first + batch_size))]
            parts.append(self._batch(streams, tries, wanted, PATIENCE * math.ceil(1 / share / tries)))
        codes, noise, hits, draws = zip(*parts, strict=True)
        accepted = sum(hits) / sum(draws)
        sem = math.sqrt(accepted * (1 - accepted) / sum(draws))
        return Draw(torch.cat(codes), torch.cat(noise), Estimate(accepted, sem))

    def _batch(
        self, streams: list[torch.Generator], tries: int, wanted: Tensor | None, rounds: int
    ) -> tuple[Tensor, Tensor, int, int]:
        u = self.extension.u
        codes = torch.empty(len(streams), u.dim, dtype=u.points.dtype, device=u.points.device)
        noise, pending = torch.empty_like(codes), list(range(len(streams)))
        hits = draws = 0
        for _ in range(rounds):
            x = torch.cat([self.source.sample(tries, streams[i]) for i in pending]).to(codes)
            z, accepted = self.extension(x)
            inside = torch.ones_like(accepted) if wanted is None else wanted[u.cell(x)]
            hits, draws = hits + int((accepted & inside).sum()), draws + int(inside.sum())
            good = (accepted & inside).view(len(pending), tries)
            done, first = good.any(1), good.int().argmax(1)
            rows = (torch.arange(len(pending), device=first.device) * tries + first)[done]
            places = torch.tensor(pending, device=done.device)[done]
            codes[places], noise[places] = z[rows], x[rows]
            pending = [i for i, ready in zip(pending, done.tolist(), strict=True) if not ready]
            if not pending:
                return codes, noise, hits, draws
        raise ArithmeticError(f"{len(pending)} samples found no accepted noise in {rounds * tries} draws each")


def stream(seed: int, sample: int) -> torch.Generator:
    """The random stream of one sample. Within a seed, different samples get different 32-bit states (a bijection)."""
    state = (sample * 0x9E3779B1 + seed * 0x85EBCA77 + 0x27D4EB2F) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        state = (state ^ (state >> shift)) * factor % 2**32
    return torch.Generator().manual_seed(state)
