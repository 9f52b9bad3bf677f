"""How many cells a small network has in all of its input space, by linear programs, and the most that it can have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from brenier.checks import whole
from brenier.manifold.activation import beside, checked
from brenier.manifold.piecewise import Network, follow, record

TINY = 1e-300
TOL = 1e-9  # the least radius of a ball that a cell must hold, and the solver's tolerance times ten


def cells_bound(widths: Sequence[int]) -> int:
    """The most cells that a rectifier network with these widths can have: Π_i C(w_{i−1}, w_i).

    C(d, n) = Σ_{k≤d} binom(n, k) is the number of cells that n hyperplanes in general position cut R^d into
    (Zaslavsky 1975), attained by one hidden layer. A layer more can cut each cell in as many parts again.

    Args:
        widths: d of the input space, then the units of every hidden layer.

    Raises:
        ValueError: fewer than two widths, or one below 1.

    Example:
        >>> cells_bound([2, 3]), cells_bound([2, 3, 3])
        (7, 56)
    """
    sizes = [whole("a width", w, 1) for w in widths]
    if len(sizes) < 2:
        raise ValueError(f"widths must name the input and a layer at least, got {sizes}")
    return math.prod(sum(math.comb(n, k) for k in range(min(d, n) + 1)) for d, n in pairwise(sizes))


def count_cells(network: Network, dim: int, box: Sequence[float] | None = None, limit: int = 10_000) -> int:
    """The exact number of cells of a network on R^dim, or on the cube [low, high]^dim, while both are small.

    A cell is kept as its inequalities. For each unit and each of its pieces a linear program says whether they leave
    room for a ball; cells without one, of radius 1e-9, are not counted. Time: about a millisecond a cell and unit.

    Args:
        network: maps (m, dim) to (m, ...), float64; takes what `activation_codes` takes.
        dim: of the input space.
        box: low and high of a cube to stay in; by default all of the space.
        limit: the most cells that are counted.

    Raises:
        ValueError: more cells than `limit`; weights that are not float64; what `activation_codes` raises.
        ArithmeticError: a linear program was not solved.

    Example:
        >>> from brenier.manifold.networks import seeded
        >>> with seeded(0):
        ...     network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()).double()
        >>> count_cells(network, 2) == cells_bound([2, 3])
        True
    """
    whole("dim", dim, 1)
    whole("limit", limit, 1)
    low, high = (-math.inf, math.inf) if box is None else box
    if box is not None and not -math.inf < low < high < math.inf:
        raise ValueError(f"box must be finite low < high, got {low} and {high}")
    start = np.full(dim, 0.0 if box is None else (low + high) / 2)
    x = checked(network, start[None], "a point of the space")
    bends = len(record(network, x)[0].noted)
    regions = [_Region(np.empty((0, dim)), np.empty(0), start, [])]
    for bend in range(bends):
        cut: list[_Region] = []
        for region in regions:
            cut += _parts(network, region, (low, high))
            if len(cut) > limit:
                raise ValueError(f"limit is {limit} cells, got {len(cut)} by bend {bend + 1} of {bends}: raise limit")
        regions = cut
    return len(regions)


class _Region(NamedTuple):
    """Where normals (c, d) x + levels (c,) ≥ 0; an interior point (d,), the pieces (1, k) of each bend so far."""

    normals: np.ndarray
    levels: np.ndarray
    point: np.ndarray
    codes: list[Tensor]


def _parts(network: Network, region: _Region, box: tuple[float, float]) -> list[_Region]:
    """The region cut by all units of the next bend."""
    d = len(region.point)
    points = beside(network, torch.from_numpy(region.point + np.vstack([np.zeros(d), np.eye(d)])))
    codes = [beside(network, layer).expand(d + 1, -1) for layer in region.codes]
    entries = follow(network, points, codes).cpu().numpy()
    slopes = entries[1:] - entries[0]
    levels = entries[0] - np.tensordot(region.point, slopes, 1)
    parts = [region._replace(codes=[*region.codes, torch.empty(1, 0, dtype=torch.uint8)])]
    for unit in range(entries.shape[1]):
        parts = [side for part in parts for side in _sides(part, slopes[:, unit], levels[unit], box)]
    return parts


def _sides(region: _Region, slopes: np.ndarray, heights: np.ndarray, box: tuple[float, float]) -> list[_Region]:
    """The parts of a region where one of w entries, heights (w,) + x slopes (d, w), is largest, named by it."""
    found = []
    for i in range(len(heights)):
        normal, level = (slopes[:, i : i + 1] - slopes).T, heights[i] - heights
        size = np.linalg.norm(normal, axis=1)
        flat = size <= TOL * np.abs(slopes).max(initial=TINY)
        equal = np.abs(level) <= TOL * np.abs(heights).max(initial=TINY)
        if (flat & np.where(equal, np.arange(len(level)) < i, level < 0)).any():
            continue
        more, by = normal[~flat] / size[~flat, None], level[~flat] / size[~flat]
        normals, levels = np.vstack([region.normals, more]), np.append(region.levels, by)
        inside = bool((more @ region.point + by > TOL).all())
        point = region.point if inside else _interior(normals, levels, box)
        if point is not None:
            last = torch.cat([region.codes[-1], torch.tensor([[i]], dtype=torch.uint8)], 1)
            found.append(_Region(normals, levels, point, [*region.codes[:-1], last]))
    if len(found) == 1:  # no inequality is needed
        return [region._replace(codes=found[0].codes)]
    return found


def _interior(normals: np.ndarray, levels: np.ndarray, box: tuple[float, float]) -> np.ndarray | None:
    """The middle of the largest ball, of radius 1 at most, that the inequalities leave room for."""
    d = normals.shape[1]
    walls = np.vstack([np.eye(d), -np.eye(d)]) if math.isfinite(box[0]) else np.empty((0, d))
    rims = np.repeat([-box[0], box[1]], d) if len(walls) else np.empty(0)
    a = np.hstack([-np.vstack([normals, walls]), np.ones((len(normals) + len(walls), 1))])
    answer = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=a,
        b_ub=np.append(levels, rims),
        bounds=[(None, None)] * d + [(None, 1.0)],
        options={"primal_feasibility_tolerance": TOL / 10, "dual_feasibility_tolerance": TOL / 10},
    )
    if answer.status != 0:
        raise ArithmeticError(f"a linear program for the interior of a cell was not solved: {answer.message}")
    return answer.x[:d] if answer.x[d] > TOL else None
