"""How many cells a network crosses on the way: on segments, around a point, between two modes; all exact in t."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from brenier.checks import whole
from brenier.manifold.activation import Array, checked, like, rows_per_run
from brenier.manifold.piecewise import Network, follow, record
from brenier.manifold.slices import ROUNDINGS
from brenier.solution import Estimate


class Crossings(NamedTuple):
    """Where m segments cross from cell to cell.

    counts (m,) long: how often, so that a segment visits counts + 1 cells
    t (c,): the parameters in (0, 1), segment after segment, rising within each
    segment (c,) long: whose they are
    """

    counts: Tensor
    t: Tensor
    segment: Tensor


class Complexity(NamedTuple):
    """Crossings of random chords around m points: their mean (m,) and its standard error (m,); `overall` of all points.

    Chords are drawn for each point on its own, so the points' errors are independent.
    """

    mean: Tensor
    sem: Tensor

    @property
    def overall(self) -> Estimate:
        """The mean over the points, with the error of the chords (not that of another choice of points)."""
        return Estimate(float(np.mean(self.mean.tolist())), float(np.linalg.norm(self.sem.tolist()) / len(self.sem)))


def crossings(network: Network, a: Array, b: Array) -> Crossings:
    """The parameters t at which the activation code changes on the segments (1 − t) a + t b, exact to rounding.

    Between two of them the network is affine. Two points lie in one cell if and only if counts is 0, since cells are
    convex. On a path of nodes x (n, ...) pass x[:-1] and x[1:]. Where several units bend at one t, it counts once.

    Args:
        network: maps (m, ...) to (m, ...); takes what `activation_codes` takes.
        a: starts (m, ...).
        b: ends (m, ...).

    Raises:
        ValueError: a and b differ in shape; what `activation_codes` raises.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())
        >>> _ = network[0].weight.data.fill_(1.0), network[0].bias.data.fill_(-0.25)
        >>> crossings(network, torch.zeros(1, 1), torch.ones(1, 1)).t
        tensor([0.2500])
    """
    starts, ends = checked(network, a, "a"), checked(network, b, "b")
    if starts.shape != ends.shape:
        raise ValueError(f"a and b must have one shape, got {tuple(starts.shape)} and {tuple(ends.shape)}")
    found, segments = [], []
    per_run = rows_per_run(network, starts)
    for rows in torch.arange(len(starts), device=starts.device).split(per_run):
        t, segment = _crossed(network, starts[rows], ends[rows], per_run)
        found.append(t)
        segments.append(rows[segment])
    t, segment = (torch.cat(parts) if parts else starts.new_zeros(0) for parts in (found, segments))
    counts = segment.long().bincount(minlength=len(starts))
    return Crossings(*(like(a, part) for part in (counts, t.to(starts.dtype), segment.long())))


def local_complexity(
    network: Network,
    x: Array,
    radius: float,
    chords: int = 64,
    generator: torch.Generator | int | None = None,
) -> Complexity:
    """How finely a network cuts its input space around the points x (m, ...): the mean number of bends on a chord.

    A chord has length 2 radius, its middle at x and a uniform direction; its crossings are exact. On average it visits
    mean + 1 cells. Where bends are flat around x, at distances h_i, in d dimensions the mean is Σ_i P(radius |e_1| >
    h_i), e uniform on the sphere; in the plane Σ_i (2/π) arccos(h_i / radius).

    Source: Hanin and Rolnick, Complexity of linear regions in deep networks, ICML 2019, for the count along lines;
    Humayun et al., Deep networks always grok and here is why, ICML 2024, for local complexity.

    Args:
        network: takes what `activation_codes` takes.
        x: the points (m, ...).
        radius: half the length of a chord, in the units of x.
        chords: how many for each point, at least 2.
        generator: draws the directions; a generator or a seed; None is torch's own.

    Raises:
        ValueError: radius is not positive and finite, fewer than 2 chords, what `activation_codes` raises.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU())
        >>> _ = network[0].weight.data.copy_(torch.tensor([[1.0, 0.0]])), network[0].bias.data.zero_()
        >>> local_complexity(network, torch.zeros(1, 2) + 1e-3, radius=1.0, generator=0).mean  # one line, close by
        tensor([1.])
    """
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be positive and finite, got {radius}")
    whole("chords", chords, 2)
    points = checked(network, x)
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    device = generator.device if generator is not None else None
    means, errors = [], []
    for rows in points.split(max(1, rows_per_run(network, points) // chords)):
        size = (len(rows), chords, rows[0].numel())
        draw = torch.randn(size, generator=generator, dtype=torch.float64, device=device)
        half = radius * torch.nn.functional.normalize(draw, dim=2).to(points).view(-1, *rows.shape[1:])
        middle = rows.repeat_interleave(chords, 0)
        counts = crossings(network, middle - half, middle + half).counts.view(len(rows), chords).to(points.dtype)
        means.append(counts.mean(1))
        errors.append(counts.std(1) / math.sqrt(chords))
    return Complexity(*(like(x, torch.cat(part)) for part in (means, errors)))


def cells_between(network: Network, pairs: Array) -> Tensor:
    """How often a network changes cells on the straight way between the points of each pair (k, 2, ...), (k,) long.

    For pairs of targets on two sides of a ridge of a transport (`points[facets]` of its singular set) and a decoder:
    where it is 0, both modes lie in one cell, so the decoder maps the way between them onto a straight segment of
    blends; it can only leave the gap by the cells that it does have there.

    Raises:
        ValueError: another shape; what `activation_codes` raises.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU())
        >>> cells_between(network, torch.zeros(3, 2, 2))
        tensor([0, 0, 0])
    """
    if not isinstance(pairs, Tensor | np.ndarray):
        raise TypeError(f"pairs must be a tensor or an array, got {type(pairs).__name__}")
    if pairs.ndim < 3 or pairs.shape[1] != 2:
        raise ValueError(f"pairs must have shape (k, 2, ...), got {tuple(pairs.shape)}")
    return crossings(network, pairs[:, 0], pairs[:, 1]).counts


class _Pieces(NamedTuple):
    """p intervals [low, high] of t on the segments `segment` (p,), with the codes (p, K) of the bends so far."""

    segment: Tensor
    low: Tensor
    high: Tensor
    codes: list[Tensor]


def _crossed(network: Network, a: Tensor, b: Tensor, per_run: int) -> tuple[Tensor, Tensor]:
    """All parameters and their segments, sorted: pieces are cut at one bend after the other."""
    bends = len(record(network, a[:1])[0].noted)
    one = torch.ones(len(a), dtype=torch.float64, device=a.device)
    pieces = _Pieces(torch.arange(len(a), device=a.device), 0 * one, one, [])
    for _ in range(bends):
        parts = [
            _cut(network, a, b, pieces, rows) for rows in torch.arange(len(pieces.low), device=a.device).split(per_run)
        ]
        pieces = _Pieces(
            torch.cat([part.segment for part in parts]),
            torch.cat([part.low for part in parts]),
            torch.cat([part.high for part in parts]),
            [torch.cat(layer) for layer in zip(*(part.codes for part in parts), strict=True)],
        )
    inner = pieces.low > 0
    return pieces.low[inner], pieces.segment[inner]


def _cut(network: Network, a: Tensor, b: Tensor, pieces: _Pieces, rows: Tensor) -> _Pieces:
    """Some pieces, cut where a unit of the next bend changes; on each piece its entries are affine in t."""
    segment, low, high = (part[rows] for part in pieces[:3])
    codes = [layer[rows] for layer in pieces.codes]
    middle = (low + high) / 2
    here, there = (
        follow(network, torch.lerp(a[segment], b[segment], _column(t, a)), codes).double() for t in (middle, middle + 1)
    )
    lines, eps = torch.stack([here, there - here], -1), ROUNDINGS * torch.finfo(a.dtype).eps
    tol = eps * lines.abs().sum(-1).flatten(1).amax(1)
    where, t = _ties(lines, low - middle, high - middle, tol, eps)

    own, starts = _sorted(torch.cat([torch.arange(len(rows), device=a.device), where]), torch.cat([low - middle, t]))
    ends = (high - middle)[own]
    ends[:-1] = torch.where(own[1:] == own[:-1], starts[1:], ends[:-1])
    value = lines[own, ..., 0] + ((starts + ends) / 2)[:, None, None] * lines[own, ..., 1]
    piece = (value >= value.amax(-1, keepdim=True) - tol[own, None, None]).byte().argmax(-1).to(torch.uint8)
    kept = [*(layer[own] for layer in codes), piece]
    return _Pieces(segment[own], starts + middle[own], ends + middle[own], kept)


def _ties(lines: Tensor, low: Tensor, high: Tensor, tol: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Where in (low, high) (p,) the two largest of w lines (p, k, w, 2) of a unit tie: their rows, sorted, and t."""
    i, j = torch.triu_indices(lines.shape[2], lines.shape[2], 1, device=lines.device)
    height, slope = (lines[:, :, i] - lines[:, :, j]).unbind(-1)
    t = -height / torch.where(slope == 0, torch.nan, slope)
    within = (t > (low + eps)[:, None, None]) & (t < (high - eps)[:, None, None])
    where, unit, pair = within.nonzero(as_tuple=True)
    t = t[within]
    entries = lines[where, unit, :, 0] + t[:, None] * lines[where, unit, :, 1]
    leads = entries.gather(1, i[pair][:, None])[:, 0] >= entries.amax(1) - tol[where]
    where, t = _sorted(where[leads], t[leads])
    fresh = torch.ones_like(t, dtype=torch.bool)
    fresh[1:] = (where[1:] != where[:-1]) | (t[1:] - t[:-1] > eps)
    return where[fresh], t[fresh]


def _sorted(rows: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and their t, by rows, then by t."""
    t, order = t.sort()
    rows, again = rows[order].sort(stable=True)
    return rows, t[again]


def _column(t: Tensor, like: Tensor) -> Tensor:
    return t.to(like.dtype).view(-1, *[1] * (like.ndim - 1))
