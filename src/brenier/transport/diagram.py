"""Exact power diagrams in a convex region: every cell clipped by candidates, certified by their sum."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array, vstack
from scipy.spatial import ConvexHull, KDTree, QhullError

from brenier.transport import polygons, polyhedra
from brenier.transport.domain import Domain
from brenier.transport.mirror import both_ways
from brenier.transport.polygons import envelope

NEAREST = {2: 8, 3: 16}  # candidates of a first diagram, by dimension; theirs join them
ROUNDING = 1e-12  # of the region's mass: by so much the cells' sum may exceed it
ALONE = {2: 4096, 3: 512}  # cells that one thread clips sooner than several, by dimension
THREADS = os.cpu_count() or 1
REPAIRS = 12  # of the cells that don't agree with their neighbours', before and after the lower hull is asked for
AGREED = 1e-9  # of the boundary of a cell: by so much its facets may differ from what its neighbours say of them


@dataclass(frozen=True, eq=False)
class Diagram:
    """The cells W_i of n planes in a region with density ρ, d ≤ 3.

    masses (n,) = ∫ρ over W_i; first (n, d) = ∫xρ; second (n,) = ∫|x|²ρ; facets (n, n) sparse, symmetric up to rounding:
    ∫ρ dS over W_i ∩ W_j (ρ itself on a line).
    """

    masses: np.ndarray
    first: np.ndarray
    second: np.ndarray
    facets: csr_array

    def among(self, n: int, rows: np.ndarray) -> Diagram:
        """The same cells as those of `rows` among n planes; the others are empty."""
        if len(rows) == n:
            return self
        place = csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(n, len(rows)))
        return Diagram(place @ self.masses, place @ self.first, place @ self.second, place @ self.facets @ place.T)

    def mended(self, again: Diagram, rows: np.ndarray) -> Diagram:
        """The same cells, those of `rows` as they are in another diagram, which has these alone."""
        pick = np.arange(len(self.masses))
        pick[rows] = len(pick) + np.arange(len(rows))
        masses, first, second = (
            np.concatenate([getattr(self, part), getattr(again, part)])[pick] for part in ("masses", "first", "second")
        )
        return Diagram(masses, first, second, vstack([self.facets, again.facets], format="csr")[pick])


def diagram(y: np.ndarray, h: np.ndarray, domain: Domain, places: np.ndarray | None = None) -> Diagram:
    """The cells {x in the domain : <x, y_i> + h_i is highest} of distinct planes.

    A cell clipped by some of its rivals contains the true one: when the masses sum to that of the domain, every cell is
    the true one. Candidates are the nearest targets and theirs, then the neighbours found and theirs, then the edges of
    the lower convex hull of the points (y_i, −h_i), which has all of them.

    Args:
        y: targets (n, d), d ≤ 3, float64.
        h: heights (n,).
        domain: a convex region and its density.
        places: (n, d), about where the cells are: whose places are near may be neighbours. The targets by default.

    Source: Aurenhammer 1987; Kitagawa, Mérigot and Thibert 2019.

    Example:
        >>> square = Domain.box([0.0, 0.0], [1.0, 1.0])
        >>> cells = diagram(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0.25, 0.0]), square)
        >>> cells.masses, cells.facets.toarray()[0]
        (array([0.25, 0.75]), array([0., 1.]))
    """
    y, h = unit(y, h)
    if domain.dim == 1:
        return _intervals(y[:, 0], h, domain)
    scores = y @ domain.corners.T + h[:, None]
    chosen = np.flatnonzero(scores.max(1) >= scores.min(1).max())  # the others are under one plane everywhere
    own, heights = y[chosen], h[chosen]
    found = tiles(own, heights, domain, _nearest(own if places is None else places[chosen], NEAREST[domain.dim]))
    if not covers(found, domain):
        candidates, seen = _hull(own, heights)
        chosen = chosen[seen]
        found = tiles(own[seen], heights[seen], domain, candidates)
    if not covers(found, domain):
        excess = found.masses.sum() / domain.mass - 1
        raise ArithmeticError(f"the cells of {len(y)} targets overlap by {excess:.2g} of the domain")
    return found.among(len(y), chosen)


def tiles(
    y: np.ndarray, h: np.ndarray, domain: Domain, near: csr_array, rings: int = 2, least: np.ndarray | None = None
) -> Diagram:
    """The cells clipped by the planes of their neighbours, `near`, and of theirs, and mended where that isn't enough.

    Too large a cell disagrees with its neighbours about its boundary: such cells are clipped anew, by all that were
    found near them. Ends when all cells sum to the whole; or when one is smaller than `least` (n,), as the true one
    then is, too.
    """
    found = clip(y, h, domain, near, np.arange(len(y)), rings)
    for _ in range(REPAIRS):
        if covers(found, domain) or (least is not None and (found.masses < least).any()):
            break
        facets = found.facets
        own, others = facets @ np.ones(len(y)), np.bincount(facets.indices, facets.data, len(y))
        doubtful = np.flatnonzero(np.abs(own - others) > AGREED * np.maximum(own, others))
        found = found.mended(clip(y, h, domain, both_ways(facets), doubtful, 2), doubtful)
    return found


def unit(y: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same cells by targets of mean 0 and root mean square 1."""
    y = y - y.mean(0)
    size = np.sqrt(np.square(y).sum(1).mean()) or 1.0
    return y / size, h / size


def covers(found: Diagram, domain: Domain) -> bool:
    """Whether the cells sum to the whole, so that none is too large."""
    return bool(found.masses.sum() <= domain.mass * (1 + ROUNDING))


def second_shares(y: np.ndarray, h: np.ndarray, domain: Domain, facets: csr_array) -> csr_array:
    """∫ρ (n, n) over the part of W_i in which j is the second highest of the planes that have a cell."""
    y, h = unit(y, h)
    if domain.dim == 1:
        return _second_intervals(y[:, 0], h, domain)
    parts = _in_threads(_kernel(domain).shares, y, h, domain, facets, np.arange(len(y)))
    return csr_array((np.concatenate(parts), facets.indices, facets.indptr), shape=facets.shape)


def _kernel(domain: Domain) -> ModuleType:
    return polygons if domain.dim == 2 else polyhedra


def _in_threads(
    loop: Callable[..., Any],
    y: np.ndarray,
    h: np.ndarray,
    domain: Domain,
    near: csr_array,
    rows: np.ndarray,
    *rest: Any,
) -> list[Any]:
    """What the loop gives for parts of the rows, in order."""
    parts = np.array_split(rows, 4 * THREADS if len(rows) > ALONE[domain.dim] else 1)
    given = (y, h, domain.low, domain.high, domain.planes, domain.inner, domain.density)
    graph = near.indptr, near.indices
    if len(parts) == 1:
        return [loop(*given, *graph, rows, *rest)]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda some: loop(*given, *graph, some, *rest), parts))


def clip(y: np.ndarray, h: np.ndarray, domain: Domain, near: csr_array, rows: np.ndarray, rings: int) -> Diagram:
    """The cells of `rows`, and no others, clipped by their neighbours, with two rings also by theirs; d = 2 or 3."""
    n, d = y.shape
    masses, first, second = np.empty(n), np.empty((n, d)), np.empty(n)
    parts = _in_threads(_kernel(domain).clipped, y, h, domain, near, rows, rings, masses, first, second)
    count, names, sizes = (np.concatenate(part) for part in zip(*parts, strict=True))
    facets = csr_array((sizes, names, np.append(0, np.cumsum(count, dtype=np.int32))), shape=(len(rows), n))
    return Diagram(masses[rows], first[rows], second[rows], facets)


def _graph(n: int, i: np.ndarray, j: np.ndarray) -> csr_array:
    """The pattern of pairs (i, j) and (j, i), without i = j."""
    apart = i != j
    i, j = i[apart].astype(np.int32), j[apart].astype(np.int32)  # as all graphs: the loops are compiled for one kind
    return csr_array((np.ones(2 * len(i), np.int32), (np.append(i, j), np.append(j, i))), shape=(n, n))


def _nearest(y: np.ndarray, k: int) -> csr_array:
    """Each target's nearest ones; all of them where they are few."""
    n = len(y)
    if n <= 4 * k:
        return _graph(n, *np.triu_indices(n, 1))
    near = KDTree(y).query(y, k + 1, workers=-1)[1].astype(np.int32).ravel()
    ends = np.arange(0, len(near) + 1, k + 1, dtype=np.int32)
    return both_ways(csr_array((np.ones(len(near)), near, ends), shape=(n, n)))


def _hull(y: np.ndarray, h: np.ndarray) -> tuple[csr_array, np.ndarray]:
    """The edges of the lower convex hull of the points (y_i, −h_i), and which points it has: others have no cell."""
    n = len(y)
    flat = np.linalg.svd(y - y.mean(0), full_matrices=False)
    axes = flat[2][flat[1] > 1e-12 * flat[1][0]]  # of the affine space that holds the targets
    if len(axes) == 1:
        seen = envelope(y @ axes[0], h)
        i, j = seen[:-1], seen[1:]
    else:
        lifted = np.concatenate([y @ axes.T, -h[:, None]], 1)
        try:
            hull = ConvexHull(lifted)
        except QhullError:
            hull = ConvexHull(lifted, qhull_options="QJ")  # joggled: the candidates of a nearly flat hull
        corners = hull.simplices[hull.equations[:, -2] < 0]
        pairs = np.stack(np.triu_indices(corners.shape[1], 1))
        i, j = corners[:, pairs].transpose(1, 0, 2).reshape(2, -1)
        seen = np.unique(corners)
    return _graph(n, i, j)[seen][:, seen], seen


def _intervals(y: np.ndarray, h: np.ndarray, domain: Domain) -> Diagram:
    """The cells of lines y_i x + h_i: between the kinks of their upper envelope."""
    n, seen = len(y), envelope(y, h)
    kinks = -np.diff(h[seen]) / np.diff(y[seen])
    ends = np.concatenate([domain.low, kinks.clip(domain.low, domain.high), domain.high])
    masses, first, second = np.zeros(n), np.zeros((n, 1)), np.zeros(n)
    for power, out in ((0, masses), (1, first[:, 0]), (2, second)):
        out[seen] = np.diff(_up_to(ends, domain, power))
    inside = (kinks > domain.low) & (kinks < domain.high)
    i, j, density = seen[:-1][inside], seen[1:][inside], domain.density[_boxes(kinks[inside], domain)]
    facets = coo_array((np.append(density, density), (np.append(i, j), np.append(j, i))), shape=(n, n)).tocsr()
    return Diagram(masses, first, second, facets)


def _boxes(x: np.ndarray, domain: Domain) -> np.ndarray:
    """Which of the boxes of a line's density each x lies in."""
    n = len(domain.density)
    return ((x - domain.low) * (n / (domain.high - domain.low))).astype(int).clip(0, n - 1)


def _up_to(x: np.ndarray, domain: Domain, power: int) -> np.ndarray:
    """∫ x^power ρ from the low end of a line's domain to each x."""
    edges = np.linspace(domain.low[0], domain.high[0], len(domain.density) + 1)
    whole = np.append(0, np.cumsum(domain.density * np.diff(edges ** (power + 1)) / (power + 1)))
    box = _boxes(x, domain)
    return whole[box] + domain.density[box] * (x ** (power + 1) - edges[box] ** (power + 1)) / (power + 1)


def quantiles(shares: np.ndarray, domain: Domain) -> np.ndarray:
    """The places x on a line left of which lie the given shares, from 0 to 1, of the domain's mass."""
    edges = np.linspace(domain.low[0], domain.high[0], len(domain.density) + 1)
    return np.interp(shares * domain.mass, _up_to(edges, domain, 0), edges)


def _second_intervals(y: np.ndarray, h: np.ndarray, domain: Domain) -> csr_array:
    """Left of where its two neighbours meet, the one with the lesser slope is second."""
    n, seen = len(y), envelope(y, h)
    if len(seen) == 1:
        return csr_array((n, n))
    slopes, kinks = y[seen], -np.diff(h[seen]) / np.diff(y[seen])
    ends = np.concatenate([domain.low, kinks.clip(domain.low, domain.high), domain.high])
    meet = -(h[seen[2:]] - h[seen[:-2]]) / (slopes[2:] - slopes[:-2])
    middle = _up_to(np.concatenate([ends[:1], meet.clip(ends[1:-2], ends[2:-1]), ends[-1:]]), domain, 0)
    ends = _up_to(ends, domain, 0)
    parts = np.append(ends[1:-1] - middle[:-1], middle[1:] - ends[1:-1])
    seconds = (np.append(seen[:-1], seen[1:]), np.append(seen[1:], seen[:-1]))
    return csr_array((parts, seconds), shape=(n, n))
