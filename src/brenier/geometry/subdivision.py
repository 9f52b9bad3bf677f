"""The cells of a piecewise-linear decoder along a path and over a polygon, cut by the zero sets of its ramps.

The argument of a ramp is affine on every cell that earlier ramps have cut. Its values at the corners therefore say
where it changes sign, and cells are cut in the order in which the decoder runs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from brenier.geometry.decoder import Decode, flat
from brenier.geometry.kinks import Watch

LARGEST = 1 << 27  # numbers that the arguments of one ramp at all corners are at most
ROWS = 1024  # codes that run through the decoder at once


class Plane:
    """A decoder restricted to z = origin + s basis, s (m, k), and the arguments of its ramps there."""

    def __init__(self, decode: Decode, origin: Tensor, basis: Tensor) -> None:
        self.decode, self.origin, self.basis = decode, origin, basis

    def codes(self, s: np.ndarray) -> Tensor:
        """z (m, d) of s (m, k)."""
        return self.origin + torch.as_tensor(s).to(self.basis) @ self.basis

    def images(self, s: np.ndarray) -> np.ndarray:
        """g(z) (m, D), float64."""
        with torch.no_grad():
            parts = []
            for part in self.codes(s).split(ROWS):
                parts.append(flat(self.decode, part))
                _refuse_large(len(s), parts[0].shape[1])
        return torch.cat(parts).double().cpu().numpy()

    def stages(self) -> int:
        """How many ramps the decoder runs."""
        with torch.no_grad(), Watch() as watch:
            flat(self.decode, self.codes(np.zeros((1, len(self.basis)))))
        return len(watch.bends)

    def ramp(self, s: np.ndarray, stage: int) -> np.ndarray:
        """Arguments (m, units) of one ramp where they change sign, divided by their largest; rounding is made 0."""
        parts = []
        for part in self.codes(s).split(ROWS):
            with torch.no_grad(), Watch() as watch:
                flat(self.decode, part)
            found = watch.bends[stage][1]
            parts.append(found.reshape(len(part), -1) if len(found) == len(part) else found.new_zeros(len(part), 0))
            _refuse_large(len(s), parts[0].shape[1])
        values = torch.cat(parts)
        values = values / values.abs().amax(0).clamp(min=torch.finfo(values.dtype).tiny) if values.numel() else values
        values = torch.where(values.abs() > 1e3 * torch.finfo(values.dtype).eps, values, 0)
        crossing = (values > 0).any(0) & (values < 0).any(0)
        return values[:, crossing].double().cpu().numpy()


def _refuse_large(corners: int, width: int) -> None:
    if corners * width > LARGEST:
        raise ValueError(f"{corners} corners of cells are too many for {width} numbers each: take a smaller region")


def line(plane: Plane, s: np.ndarray) -> np.ndarray:
    """Breaks (k,) of a polyline s (n, d) in [0, n − 1], its corners included: the decoder is affine between them."""
    t = np.arange(len(s), dtype=float)
    for stage in range(plane.stages()):
        whole = np.minimum(t.astype(int), len(s) - 2)
        points = s[whole] + (t - whole)[:, None] * (s[whole + 1] - s[whole])
        values = plane.ramp(points, stage)
        before, after = values[:-1], values[1:]
        at, unit = np.nonzero(before * after < 0)
        share = before[at, unit] / (before[at, unit] - after[at, unit])
        t = np.unique(np.concatenate([t, t[at] + share * (t[at + 1] - t[at])]))
        close = np.diff(t) < 1e-10
        t = np.concatenate([t[:1], t[1:][~close | (t[1:] % 1 == 0)]])
    return t


class Cells:
    """A polygon, cut: corners s (V, 2) and cells, lists of corners in one sense of rotation; neighbours share them."""

    def __init__(self, plane: Plane, polygon: np.ndarray) -> None:
        self.s = polygon
        self.cells = [list(range(len(polygon)))]
        for stage in range(plane.stages()):
            values = plane.ramp(self.s, stage)
            if values.shape[1]:
                self._cut(values)

    def _cut(self, values: np.ndarray) -> None:
        places, rows, shared = list(self.s), list(values), {}

        def corner(a: int, b: int, unit: int) -> int:
            a, b = min(a, b), max(a, b)
            if (a, b) not in shared:
                share = rows[a][unit] / (rows[a][unit] - rows[b][unit])
                row = rows[a] + share * (rows[b] - rows[a])
                row[np.abs(row) < 1e-12] = 0
                row[unit] = 0
                shared[a, b] = len(rows)
                rows.append(row)
                places.append(places[a] + share * (places[b] - places[a]))
            return shared[a, b]

        def halves(cell: list[int], unit: int) -> Iterator[list[int]]:
            signs = [rows[a][unit] for a in cell]
            if not (max(signs) > 0 > min(signs)):
                yield cell
                return
            above, below = [], []
            for a, b, here, there in zip(cell, cell[1:] + cell[:1], signs, signs[1:] + signs[:1], strict=True):
                above += [a] if here >= 0 else []
                below += [a] if here <= 0 else []
                if here * there < 0:
                    new = corner(a, b, unit)
                    above.append(new)
                    below.append(new)
            yield above
            yield below

        done = []
        for cell in self.cells:
            own = np.stack([rows[a] for a in cell])
            pieces = [cell]
            for unit in np.flatnonzero((own > 0).any(0) & (own < 0).any(0)).tolist():
                pieces = [half for piece in pieces for half in halves(piece, unit)]
            done += pieces
        self.cells, self.s = done, np.stack(places)
