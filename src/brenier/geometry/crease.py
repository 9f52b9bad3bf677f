"""The curvature of a piecewise-linear decoder: all of it sits where its cells meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brenier.geometry.batch import as_points
from brenier.geometry.decoder import Decode, examine, jacobian, push
from brenier.geometry.metric import name, proper
from brenier.geometry.subdivision import ROWS, Cells, Plane, line


@dataclass(frozen=True)
class CreasePath:
    """Where a path of codes crosses creases, in order: its k crossings.

    `at` (k,) in [0, n − 1], the place along the n corners of the path; `codes` (k, d); `dihedral` (k,), the angle by
    which the two cells bend; `turning` (k,), the angle by which the decoded path turns; radians, 0 is straight.
    """

    at: Any
    codes: Any
    dihedral: Any
    turning: Any

    @property
    def total(self) -> float:
        """Σ turning: the total curvature ∫ |κ| ds of the decoded path between its own corners."""
        return float(self.turning.sum())


@dataclass(frozen=True)
class CreaseSurface:
    """A piece of plane in code space, cut into the cells of a decoder, and how its image bends.

    `corners` (V, d) codes; `cells`, tuples of indices of corners in order; `edges` (E, 2), the inner ones, between the
    cells `sides` (E, 2), with angles `dihedral` (E,) and `length` (E,) in the data space; `defect` (V,), 2π less the
    angles around an inner corner, 0 on the border; `turning` (V,), π less those at a corner of the border, 0 inside.
    """

    corners: Any
    cells: tuple[tuple[int, ...], ...]
    edges: Any
    sides: Any
    dihedral: Any
    length: Any
    defect: Any
    turning: Any

    @property
    def gauss(self) -> float:
        """Σ defect = ∫ K dA, the integrated Gauss curvature; with Σ turning it is 2π (Gauss and Bonnet)."""
        return float(self.defect.sum())

    @property
    def bending(self) -> float:
        """Σ dihedral · length, the integral of the bend along all creases: twice that of |mean curvature|."""
        return float((self.dihedral * self.length).sum())


def crease_curvature(decode: Decode, *, path: Any = None, region: Any = None) -> CreasePath | CreaseSurface:
    """Angles between the cells of a piecewise-linear decoder g: z (m, d) -> x (m, ...), along a path or over a region.

    In every cell g is affine and its image flat. Two cells that meet along n·z = const have the unit conormals ν± =
    J± G±⁻¹ n / |·|, orthogonal to the common edge; their dihedral angle is the angle between ν₋ and ν₊.

    `path` (n, d): along the straight lines between its n corners, the dihedral angle at each crossing, and the turning
    angle between J₋v and J₊v along the way v. The turning sums to the total curvature of the decoded curve (Milnor,
    Annals of Mathematics 1950). A path through a corner of cells gets the bend of its principal direction.

    `region` (k, d): the corners, in order, of a convex polygon in a plane of the code space. The exact cells of g on
    it, dihedral angle and length of every edge and angle defect at every corner: the curvature measures of a polyhedral
    surface (Cheeger, Müller and Schrader, Comm. Math. Phys. 1984). A smooth approximation of g has ∫ K dA near the sum
    of the defects.

    The decoder may be built of whatever `pullback` replaces by `smooth`, and of linear maps. numpy gives numpy.

    Raises:
        ValueError: not exactly one of path and region; a region that is no convex polygon in a plane; a decoder that is
            not affine in its cells, or that flattens a cell (a point is named).

    Example:
        >>> roof = lambda z: torch.cat([z, z[:, :1].abs()], 1)
        >>> crease_curvature(roof, path=torch.tensor([[-1.0, 0.0], [1.0, 0.5]])).dihedral
        tensor([1.5708])
    """
    if (path is None) == (region is None):
        raise ValueError("pass either a path or a region")
    if path is not None:
        return _along(decode, path)
    return _over(decode, region)


def _along(decode: Decode, path: Any) -> CreasePath:
    (points,), back = as_points(path=path)
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(f"path must be (n, d) with n at least 2, got shape {tuple(points.shape)}")
    if (points.diff(dim=0) == 0).all(1).any():
        raise ValueError("path must not stand still: two corners in a row are equal")
    examine(decode, decode, points)
    plane = Plane(decode, torch.zeros_like(points[0]), torch.eye(points.shape[1]).to(points))
    corners = points.double().cpu().numpy()
    t = line(plane, corners)
    middle = _place(corners, (t[:-1] + t[1:]) / 2)
    _check_affine(plane, _place(corners, t), [[k, k + 1] for k in range(len(middle))])
    crossing = np.flatnonzero(t[1:-1] % 1 != 0)
    at = t[1:-1][crossing]
    sides = [plane.codes(middle[crossing + k]) for k in (0, 1)]
    pairs = zip(*(side.split(ROWS // 4) for side in sides), strict=True)
    parts = [_bends(plane, *pair) for pair in pairs if len(pair[0])]
    dihedral, turning = torch.cat([points.new_zeros(2, 0), *parts], 1)
    codes = plane.codes(_place(corners, at))
    return CreasePath(back(torch.as_tensor(at).to(points)), back(codes), back(dihedral), back(turning))


def _place(corners: np.ndarray, t: np.ndarray) -> np.ndarray:
    whole = np.minimum(t.astype(int), len(corners) - 2)
    return corners[whole] + (t - whole)[:, None] * (corners[whole + 1] - corners[whole])


def _bends(plane: Plane, before: Tensor, after: Tensor) -> Tensor:
    """Dihedral and turning angles (2, k) between the cells of the codes before and after each crossing (k, d)."""
    z = torch.stack([before, after], 1)
    with torch.no_grad():
        own = jacobian(plane.decode, z.flatten(0, 1)).view(*z.shape, -1)
    g = own @ own.mT
    _refuse_flat(proper(g.flatten(0, 1)), z.flatten(0, 1))
    change = own[:, 1] - own[:, 0]
    normal = torch.linalg.eigh(change @ change.mT).eigenvectors[:, None, :, -1]
    conormal = torch.einsum("ksid,ksi->ksd", own, torch.linalg.solve(g, normal.expand_as(z)))
    along = torch.einsum("ksid,ki->ksd", own, after - before)
    return torch.stack([_angle(x[:, 0], x[:, 1]) for x in (conormal, along)])


def _refuse_flat(sound: Tensor, z: Tensor) -> None:
    if not sound.all():
        raise ValueError(f"the decoder flattens the cell of {name(z[~sound][0])}: it has no dihedral angle")


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Between a and b (..., D), accurate near 0 and π (Kahan)."""
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def _over(decode: Decode, region: Any) -> CreaseSurface:
    (points,), back = as_points(region=region)
    plane, polygon = _flat_polygon(decode, points)
    examine(decode, decode, points)
    cut = Cells(plane, polygon)
    _check_affine(plane, cut.s, cut.cells)
    x = torch.from_numpy(plane.images(cut.s))
    _check_upright(plane, cut)
    inner, sides, border = _edges(cut.cells)
    dihedral, length = _dihedral(x, cut.cells, inner, sides)
    defect, turning = _angles(x, cut.cells, border)
    tensors = (dihedral, length, defect, turning)
    return CreaseSurface(
        back(plane.codes(cut.s)),
        tuple(tuple(cell) for cell in cut.cells),
        back(inner),
        back(sides),
        *(back(a.to(points)) for a in tensors),
    )


def _flat_polygon(decode: Decode, points: Tensor) -> tuple[Plane, np.ndarray]:
    """The plane of a polygon's corners (k, d) and their coordinates (k, 2) in it."""
    if points.ndim != 2 or len(points) < 3 or points.shape[1] < 2:
        raise ValueError(f"region must be (k, d) with k at least 3 and d at least 2, got shape {tuple(points.shape)}")
    away = points - points[0]
    size, basis = torch.linalg.svd(away, full_matrices=False)[1:]
    if size[1] <= 1e-6 * size[0] or (len(size) > 2 and size[2] > 1e-6 * size[0]):
        raise ValueError("region must be a polygon in a plane, got corners on a line or off a plane")
    basis = torch.eye(2).to(points) if points.shape[1] == 2 else basis[:2]
    s = (away @ basis.T).double().cpu().numpy()
    edge = np.roll(s, -1, 0) - s
    after = np.roll(edge, -1, 0)
    turn = edge[:, 0] * after[:, 1] - edge[:, 1] * after[:, 0]
    around = np.arctan2(turn, (edge * after).sum(1)).sum()
    if ((turn <= 0).any() and (turn >= 0).any()) or abs(abs(around) - 2 * math.pi) > 1e-6:
        raise ValueError("region must be a convex polygon, its corners in order and no three on a line")
    return Plane(decode, points[0], basis), s


def _check_affine(plane: Plane, s: np.ndarray, cells: list[list[int]]) -> None:
    """The image of a cell's middle is the middle of its corners' images."""
    middle = np.stack([s[cell].mean(0) for cell in cells])
    x, found = plane.images(s), plane.images(middle)
    expected = np.stack([x[cell].mean(0) for cell in cells])
    off = np.abs(found - expected).max(1)
    worst = int(off.argmax())
    if not off[worst] <= torch.finfo(plane.basis.dtype).eps ** 0.5 * (1 + np.abs(x).max()):
        raise ValueError(
            f"the decoder is not affine around {name(plane.codes(middle[worst : worst + 1])[0])}: it is not piecewise "
            "linear, or bends by a function that is not known here"
        )


def _check_upright(plane: Plane, cut: Cells) -> None:
    middle = plane.codes(np.stack([cut.s[cell].mean(0) for cell in cut.cells]))
    for z in middle.split(ROWS):
        with torch.no_grad():
            own = torch.stack([push(plane.decode, z, e.repeat(len(z), 1)) for e in plane.basis], 1)
        _refuse_flat(proper(own @ own.mT), z)


def _edges(cells: list[list[int]]) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """Inner edges (E, 2) with their two cells (E, 2), and the edges of the border."""
    owners: dict[tuple[int, int], list[int]] = {}
    for k, cell in enumerate(cells):
        for a, b in zip(cell, cell[1:] + cell[:1], strict=True):
            owners.setdefault((min(a, b), max(a, b)), []).append(k)
    inner = [(edge, both) for edge, both in owners.items() if len(both) == 2]
    edges, sides = (torch.tensor([pair[side] for pair in inner], dtype=torch.long).reshape(-1, 2) for side in (0, 1))
    return edges, sides, [edge for edge, both in owners.items() if len(both) == 1]


def _dihedral(x: Tensor, cells: list[list[int]], edges: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
    """Angle between the continuation of one cell and the other (E,), and length (E,), from the corners' images x."""
    middle = torch.stack([x[cell].mean(0) for cell in cells])
    start, end = x[edges[:, 0]], x[edges[:, 1]]
    length = (end - start).norm(dim=1)
    way = (end - start) / length[:, None]
    first, second = (middle[sides[:, k]] - start for k in (0, 1))
    first, second = (v - (v * way).sum(1, keepdim=True) * way for v in (first, second))
    return _angle(-first, second), length


def _angles(x: Tensor, cells: list[list[int]], border: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Defect of every inner corner and turning of every corner of the border, (V,) each, zero elsewhere."""
    at = torch.tensor([a for cell in cells for a in cell])
    before = torch.tensor([a for cell in cells for a in cell[-1:] + cell[:-1]])
    after = torch.tensor([a for cell in cells for a in cell[1:] + cell[:1]])
    angles = _angle(x[before] - x[at], x[after] - x[at])
    around = torch.zeros(len(x), dtype=x.dtype).index_add(0, at, angles)
    outside = torch.zeros(len(x), dtype=torch.bool)
    outside[torch.tensor(border).flatten()] = True
    return torch.where(outside, 0, 2 * math.pi - around), torch.where(outside, math.pi - around, 0)
