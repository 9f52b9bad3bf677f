"""Exact power diagrams on a line and in a convex polygon: every cell clipped by candidates, certified by their sum."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import ConvexHull, KDTree

from brenier.transport.polygons import clipped, envelope

NEAREST = 16  # candidates of a first diagram
ROUNDING = 1e-12  # of the domain's area: by so much the cells' sum may differ from it
THREADS = os.cpu_count() or 1
WIDENINGS = 2  # of the candidates, before and after the lower hull is asked for


@dataclass(frozen=True, eq=False)
class Diagram:
    """The cells W_i of n planes in a convex domain, d = 1 or 2.

    masses (n,) their lengths or areas; first (n, d) = ∫ x; second (n,) = ∫ |x|²; facets (n, n) sparse, symmetric: the
    length of W_i ∩ W_j (1 on a line); shares (n, n) sparse, empty unless asked for: the measure of W_i where j is the
    second highest of the planes that have a cell.
    """

    masses: np.ndarray
    first: np.ndarray
    second: np.ndarray
    facets: csr_array
    shares: csr_array

    def among(self, n: int, rows: np.ndarray) -> Diagram:
        """The same cells as those of `rows` among n planes; the others are empty."""
        place = csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(n, len(rows)))
        facets, shares = (place @ matrix @ place.T for matrix in (self.facets, self.shares))
        return Diagram(place @ self.masses, place @ self.first, place @ self.second, facets, shares)


def diagram(y: np.ndarray, h: np.ndarray, domain: np.ndarray, shares: bool = False) -> Diagram:
    """The cells {x in the domain : <x, y_i> + h_i is highest} of distinct planes.

    A cell clipped by some of its rivals contains the true one: when the measures sum to that of the domain, every cell
    is the true one. Candidates are the nearest targets, then neighbours and their neighbours, then the edges of the
    lower convex hull of the points (y_i, −h_i), which has all of them.

    Args:
        y: targets (n, d), d = 1 or 2, float64.
        h: heights (n,).
        domain: ends (2, 1) of an interval, or corners (p, 2) of a convex polygon, counterclockwise.
        shares: whether to measure where each rival is second.

    Source: Aurenhammer 1987; Kitagawa, Mérigot and Thibert 2019.

    Example:
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> cells = diagram(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0.25, 0.0]), square)
        >>> cells.masses, cells.facets.toarray()[0]
        (array([0.25, 0.75]), array([0., 1.]))
    """
    y, h = y - y.mean(0), h + 0.0
    size = np.sqrt(np.square(y).sum(1).mean()) or 1.0
    y, h = y / size, h / size
    if y.shape[1] == 1:
        return _intervals(y[:, 0], h, domain[:, 0], shares)
    scores = y @ domain.T + h[:, None]
    chosen = np.flatnonzero(scores.max(1) >= scores.min(1).max())  # the others are under one plane everywhere
    x, z = domain.T
    area = (x @ np.roll(z, -1) - z @ np.roll(x, -1)) / 2
    candidates = _nearest(y[chosen])
    for attempt in range(2 * WIDENINGS + 2):
        found = _clip(y[chosen], h[chosen], domain, candidates, shares)
        covered = found.masses.sum() / area
        if covered <= 1 + ROUNDING:
            return found.among(len(y), chosen)
        if attempt == WIDENINGS:
            candidates, seen = _hull(y[chosen], h[chosen])
            chosen = chosen[seen]
        else:
            candidates = _wider(found.facets)
    raise ArithmeticError(f"the cells of {len(y)} targets overlap: their areas sum to {covered} of the domain's")


def _graph(n: int, i: np.ndarray, j: np.ndarray) -> csr_array:
    """The pattern of pairs (i, j) and (j, i), without i = j."""
    apart = i != j
    i, j = i[apart], j[apart]
    return csr_array((np.ones(2 * len(i), np.int32), (np.append(i, j), np.append(j, i))), shape=(n, n))


def _nearest(y: np.ndarray) -> csr_array:
    """Each target's nearest ones; all of them where they are few."""
    n = len(y)
    if n <= 4 * NEAREST:
        return _graph(n, *np.triu_indices(n, 1))
    near = KDTree(y).query(y, NEAREST + 1, workers=-1)[1]
    return _graph(n, np.repeat(np.arange(n), NEAREST + 1), near.ravel())


def _wider(facets: csr_array) -> csr_array:
    """Neighbours, and their neighbours."""
    near = _graph(facets.shape[0], *facets.nonzero())
    return _graph(facets.shape[0], *(near + near @ near).nonzero())


def _hull(y: np.ndarray, h: np.ndarray) -> tuple[csr_array, np.ndarray]:
    """The edges of the lower convex hull of the points (y_i, −h_i), and which points it has: others have no cell."""
    n = len(y)
    flat = np.linalg.svd(y, full_matrices=False)
    if flat[1][1] <= 1e-12 * flat[1][0]:  # on one line
        seen = envelope(y @ flat[2][0], h)
        i, j = seen[:-1], seen[1:]
    else:
        hull = ConvexHull(np.concatenate([y, -h[:, None]], 1))
        corners = hull.simplices[hull.equations[:, -2] < 0]
        i, j, seen = corners.ravel(), np.roll(corners, 1, axis=1).ravel(), np.unique(corners)
    return _graph(n, i, j)[seen][:, seen], seen


def _clip(y: np.ndarray, h: np.ndarray, domain: np.ndarray, candidates: csr_array, shares: bool) -> Diagram:
    n, start, near = len(y), candidates.indptr.astype(np.int64), candidates.indices.astype(np.int64)
    masses, first, second, facet = np.empty(n), np.empty((n, 2)), np.empty(n), np.empty(len(near))
    share = np.zeros(len(near) if shares else 0)
    cuts = np.linspace(0, n, 4 * THREADS + 1).astype(int)

    def part(k: int) -> None:
        clipped(y, h, domain, start, near, cuts[k], cuts[k + 1], masses, first, second, facet, share)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(part, range(len(cuts) - 1)))
    matrix = csr_array((facet, candidates.indices, candidates.indptr), shape=(n, n))
    if not shares:
        return Diagram(masses, first, second, matrix, csr_array((n, n)))
    seconds = csr_array((share, candidates.indices, candidates.indptr), shape=(n, n))
    return Diagram(masses, first, second, matrix, seconds)


def _intervals(y: np.ndarray, h: np.ndarray, domain: np.ndarray, shares: bool) -> Diagram:
    """The cells of lines y_i x + h_i: between the kinks of their upper envelope."""
    n, seen = len(y), envelope(y, h)
    slopes, kinks = y[seen], -np.diff(h[seen]) / np.diff(y[seen])
    ends = np.concatenate([domain[:1], kinks.clip(*domain), domain[1:]])
    masses, first, second = np.zeros(n), np.zeros((n, 1)), np.zeros(n)
    for power, out in ((1, masses), (2, first[:, 0]), (3, second)):
        out[seen] = np.diff(ends**power) / power
    inside = (kinks > domain[0]) & (kinks < domain[1])
    i, j = seen[:-1][inside], seen[1:][inside]
    facets = csr_array((np.ones(2 * len(i)), (np.append(i, j), np.append(j, i))), shape=(n, n))
    if not shares or len(seen) == 1:
        return Diagram(masses, first, second, facets, csr_array((n, n)))
    # left of where its two neighbours meet, the one with the lesser slope is second
    meet = -(h[seen[2:]] - h[seen[:-2]]) / (slopes[2:] - slopes[:-2])
    middle = np.concatenate([ends[:1], meet.clip(ends[1:-2], ends[2:-1]), ends[-1:]])
    parts = np.append(ends[1:-1] - middle[:-1], middle[1:] - ends[1:-1])
    seconds = (np.append(seen[:-1], seen[1:]), np.append(seen[1:], seen[:-1]))
    return Diagram(masses, first, second, facets, csr_array((parts, seconds), shape=(n, n)))
