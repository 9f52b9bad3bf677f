"""Planes in a network's input space, cut into the polygons on which it is affine, one bend after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from brenier.manifold.activation import rows_per_run
from brenier.manifold.piecewise import Network, follow, record
from brenier.manifold.polygons import DOMAIN, Polygons, clip, gathered

ROUNDINGS = 64  # by as many, a corner may lie across a line and still count as on it
NUMBERS = 2**22  # at once in memory, for the entries of units at corners
UNDECIDED = 255  # the piece of a unit that bends inside a polygon


class Slices(NamedTuple):
    """q planes x(s, t) = origin + s u + t v: origin, u and v are (q, ...), each of the shape of inputs."""

    origin: Tensor
    u: Tensor
    v: Tensor

    def at(self, plane: Tensor, points: Tensor) -> Tensor:
        """x (m, ...) of the points (m, 2) in the planes (m,) long."""
        s, t = points.to(self.origin.dtype).reshape(-1, 2, *[1] * (self.origin.ndim - 1)).unbind(1)
        return self.origin[plane] + s * self.u[plane] + t * self.v[plane]


class Naming(NamedTuple):
    """How the edge of a cut is labelled: 2 (((number w + i) w + j) k + unit) + side.

    `number` counts the polygons that were cut, i < j are the entries that tie there, `unit` is one of all k units of
    the network, and side 1 is that of entry j. Units of this bend come after `before` others.
    """

    k: int
    w: int
    before: int = 0

    def label(self, number: Tensor, one: Tensor, other: int, unit: Tensor) -> Tensor:
        """The label on the side of entry `one`."""
        pair = one.clamp(max=other) * self.w + one.clamp(min=other)
        return 2 * ((number * self.w**2 + pair) * self.k + self.before + unit) + (one > other)


class Lines(NamedTuple):
    """The entries of k units with w pieces, affine on each of r polygons: value (r, k, w, 3) holds their values at the
    point c (r, 2) and their slopes in s and t; tol (r,) is their rounding.
    """

    value: Tensor
    c: Tensor
    tol: Tensor

    def at(self, rows: Tensor, corners: Tensor) -> Tensor:
        """Entries (p, V, k, w) at the corners (p, V, 2) of parts of the polygons `rows` (p,)."""
        away = corners - self.c[rows][:, None]
        one = torch.cat([torch.ones_like(away[..., :1]), away], -1)
        return torch.einsum("pvi,pkwi->pvkw", one, self.value[rows])


def lines(network: Network, slices: Slices, polygons: Polygons, reach: float, codes: Sequence[Tensor]) -> Lines:
    """The entries of the first bend after the given codes, on each polygon: the network is affine there.

    Taken at c and, with the pieces held, a `reach` away from it in s and in t.
    """
    c = polygons.centre()
    found = affine(network, slices, polygons.plane, c, reach, codes)
    size = found[..., 0].abs() + reach * found[..., 1:].abs().sum(-1)
    return Lines(found, c, ROUNDINGS * torch.finfo(slices.origin.dtype).eps * size.flatten(1).amax(1))


def affine(network: Network, slices: Slices, plane: Tensor, c: Tensor, reach: float, codes: Sequence[Tensor]) -> Tensor:
    """Values (m, ..., 3) at the points c (m, 2) and slopes in s and in t of what `follow` gives, in float64."""
    step = reach * torch.eye(2, dtype=c.dtype, device=c.device)
    here, *ahead = (follow(network, slices.at(plane, c + off), codes).to(c.dtype) for off in (0 * step[0], *step))
    return torch.stack([here, *((there - here) / reach for there in ahead)], -1)


def arrange(
    polygons: Polygons, cut: Lines, naming: Naming, number: int, limit: int
) -> tuple[Polygons, Tensor, Tensor, int]:
    """Polygons cut by the units of a bend, the pieces (p, k) uint8 of each, the rows they came from, the cuts so far.

    A polygon is cut by one unit at a time that bends inside it, into the parts where one entry is largest: no part is
    larger than a cell and none is smaller. `number` cuts were made before.

    Raises:
        OverflowError: more than `limit` parts, its argument their number so far.
    """
    k, w = cut.value.shape[1:3]
    rows = torch.arange(len(polygons.size), device=polygons.size.device)
    codes = torch.full((len(rows), k), UNDECIDED, dtype=torch.uint8, device=rows.device)
    stack, done, count = [(polygons, codes, rows)], [], 0
    while stack:
        part, codes, rows = stack.pop()
        at_once = max(1, NUMBERS // (k * w * (part.corners.shape[1] + 3)))
        if len(rows) > at_once:
            stack += [
                (part.take(i), codes[i], rows[i]) for i in torch.arange(len(rows), device=rows.device).split(at_once)
            ]
            continue
        codes = _decide(part, cut, rows, codes)
        whole = (codes != UNDECIDED).all(1)
        done.append((part.take(whole), codes[whole], rows[whole]))
        count += int(whole.sum())
        if not whole.all():
            stack.append(_split(part.take(~whole), cut, rows[~whole], codes[~whole], naming, number))
            number += int((~whole).sum())
        if (so_far := count + sum(len(rows) for *_, rows in stack)) > limit:
            raise OverflowError(so_far)
    return gathered([d[0] for d in done]), torch.cat([d[1] for d in done]), torch.cat([d[2] for d in done]), number


def _decide(part: Polygons, cut: Lines, rows: Tensor, codes: Tensor) -> Tensor:
    """The codes with the piece of every unit that is on one piece in all corners."""
    entries = cut.at(rows, part.corners)
    below = entries - entries.amax(-1, keepdim=True)
    least = torch.where(part.inside()[:, :, None, None], below, 0.0).amin(1)
    largest = least >= -cut.tol[rows, None, None]
    piece = torch.where(largest.any(-1), largest.byte().argmax(-1), UNDECIDED).to(torch.uint8)
    return torch.where(codes == UNDECIDED, piece, codes)


def _split(
    part: Polygons, cut: Lines, rows: Tensor, codes: Tensor, naming: Naming, number: int
) -> tuple[Polygons, Tensor, Tensor]:
    """Every polygon cut by its first undecided unit, into a part for each entry that is largest somewhere."""
    w = cut.value.shape[2]
    unit = (codes == UNDECIDED).byte().argmax(1)
    own = torch.arange(len(rows), device=rows.device)
    chosen = Lines(cut.value[rows, unit][:, None], cut.c[rows], cut.tol[rows])
    values, tol = chosen.at(own, part.corners)[:, :, 0], chosen.tol
    ahead = values[..., :, None] - values[..., None, :]  # of entry i over entry j
    never_below = (ahead >= -tol[:, None, None, None]) | ~part.inside()[:, :, None, None]
    beats = never_below.all(1)
    earlier = torch.ones(w, w, dtype=torch.bool, device=rows.device).triu(1)
    wins = ~(beats & (~beats.transpose(1, 2) | earlier)).any(1)
    of, i = wins.nonzero().unbind(1)
    made = part.take(of)
    for j in range(w):
        entries = chosen.at(of, made.corners)[:, :, 0]
        over = entries.gather(2, i[:, None, None].expand(-1, entries.shape[1], 1))[..., 0] - entries[..., j]
        over = torch.where(over.abs() <= tol[of][:, None], 0.0, over)
        rival = wins[of, j] & (i != j)
        over = torch.where(rival[:, None], over, 1.0)
        made = clip(made, over, naming.label(number + of, i, j, unit[of]))
    there = made.size > 0
    of, i, made = of[there], i[there], made.take(there)
    codes = codes[of].scatter(1, unit[of][:, None], i[:, None].to(torch.uint8))
    return made, codes, rows[of]


class Subdivision(NamedTuple):
    """Polygons on each of which a network is affine, their activation codes (p, K), the units' number at each bend."""

    polygons: Polygons
    codes: Tensor
    widths: list[int]
    naming: Naming
    reach: float


def subdivide(network: Network, slices: Slices, corners: Tensor, limit: int) -> Subdivision:
    """The part of every slice with these corners (k, 2), cut by all bends of the network in order.

    Raises:
        ValueError: more than `limit` polygons.
    """
    planes, device = len(slices.origin), corners.device
    middle = corners.mean(0)
    x = slices.at(torch.zeros(1, dtype=torch.long, device=device), middle[None])
    run, _ = record(network, x)
    widths, per_run = [noted.shape[1] for noted in run.noted], rows_per_run(network, x)
    naming, reach, number = Naming(sum(widths), max(run.widths, default=2)), float((corners - middle).abs().max()), 0
    polygons = Polygons(
        corners.expand(planes, -1, -1),
        torch.full((planes, len(corners)), DOMAIN, device=device),
        torch.full((planes,), len(corners), device=device),
        torch.arange(planes, device=device),
    )
    codes = torch.zeros(planes, 0, dtype=torch.uint8, device=device)
    for bend in range(len(widths)):
        parts, found, waiting, count = [], [], len(codes), 0
        for rows in torch.arange(len(codes), device=device).split(per_run):
            waiting -= len(rows)
            cut = lines(network, slices, polygons.take(rows), reach, codes[rows].split(widths[:bend], 1))
            try:
                made, pieces, of, number = arrange(
                    polygons.take(rows),
                    cut,
                    naming._replace(before=sum(widths[:bend])),
                    number,
                    limit - waiting - count,
                )
            except OverflowError as over:
                raise ValueError(
                    f"limit is {limit} cells, got {over.args[0] + waiting + count} by bend {bend + 1} of {len(widths)}:"
                    " raise limit or take a smaller domain"
                ) from None
            parts.append(made)
            found.append(torch.cat([codes[rows][of], pieces], 1))
            count += len(of)
        polygons, codes = gathered(parts), torch.cat(found)
    return Subdivision(polygons, codes, widths, naming, reach)
