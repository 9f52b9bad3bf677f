"""The inner loops of exact cells on a line and in the plane, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def _cut(
    corners: np.ndarray,
    edges: np.ndarray,
    size: int,
    a: float,
    b: float,
    most: float,
    name: int,
    side: np.ndarray,
    corners_left: np.ndarray,
    edges_left: np.ndarray,
) -> int:
    """The part of a polygon where a x + b y ≤ most, written to corners_left and edges_left; its number of corners.

    edges[k] names the line from corner k to the next; the new edge gets `name`. −1 says that nothing was cut off.
    """
    highest, lowest = -np.inf, np.inf
    for k in range(size):
        side[k] = a * corners[k, 0] + b * corners[k, 1] - most
        highest, lowest = max(highest, side[k]), min(lowest, side[k])
    if highest <= 0:
        return -1
    if lowest >= 0:
        return 0
    left = 0
    for k in range(size):
        after = k + 1 if k + 1 < size else 0
        if side[k] <= 0:
            corners_left[left], edges_left[left] = corners[k], edges[k]
            left += 1
        if (side[k] <= 0) != (side[after] <= 0):
            t = side[k] / (side[k] - side[after])
            for axis in range(2):
                corners_left[left, axis] = corners[k, axis] + t * (corners[after, axis] - corners[k, axis])
            edges_left[left] = name if side[k] <= 0 else edges[k]
            left += 1
    return left


@njit(nogil=True, cache=True)
def _area(corners: np.ndarray, size: int) -> float:
    total = 0.0
    for k in range(1, size - 1):
        total += (corners[k, 0] - corners[0, 0]) * (corners[k + 1, 1] - corners[0, 1])
        total -= (corners[k, 1] - corners[0, 1]) * (corners[k + 1, 0] - corners[0, 0])
    return total / 2


@njit(nogil=True, cache=True)
def clipped(
    y: np.ndarray,
    h: np.ndarray,
    domain: np.ndarray,
    start: np.ndarray,
    near: np.ndarray,
    begin: int,
    end: int,
    mass: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    facet: np.ndarray,
    share: np.ndarray,
) -> None:
    """Area (n,), ∫x (n, 2), ∫|x|² (n,) of cells begin to end, and what they have in common with their candidates.

    Cell i is the part of the domain, a polygon (p, 2) counterclockwise, in which plane i is no lower than those of its
    candidates near[start[i] : start[i + 1]]. facet[c] is the length of the edge with candidate near[c]; share[c], if
    `share` is not empty, the area of the part of cell i in which near[c] is the second highest.
    """
    most = 0
    for i in range(begin, end):
        most = max(most, start[i + 1] - start[i])
    most += len(domain) + 1
    now, then, own, part = np.empty((most, 2)), np.empty((most, 2)), np.empty((most, 2)), np.empty((most, 2))
    edge, edge_then = np.empty(most, np.int64), np.empty(most, np.int64)
    own_edge, part_edge = np.empty(most, np.int64), np.empty(most, np.int64)
    side = np.empty(most)
    for i in range(begin, end):
        mass[i], first[i], second[i] = 0.0, 0.0, 0.0
        facet[start[i] : start[i + 1]] = 0.0
        size = len(domain)
        now[:size], edge[:size] = domain, -1
        for c in range(start[i], start[i + 1]):
            j = near[c]
            left = _cut(now, edge, size, y[j, 0] - y[i, 0], y[j, 1] - y[i, 1], h[i] - h[j], c, side, then, edge_then)
            if left >= 0:
                now, then, edge, edge_then, size = then, now, edge_then, edge, left
            if size == 0:
                break
        for k in range(size):
            after = k + 1 if k + 1 < size else 0
            px, py = now[k, 0] - now[0, 0], now[k, 1] - now[0, 1]
            qx, qy = now[after, 0] - now[0, 0], now[after, 1] - now[0, 1]
            if edge[k] >= 0:
                facet[edge[k]] += np.hypot(qx - px, qy - py)
            area = (px * qy - py * qx) / 2  # of the triangle with corner 0
            mass[i] += area
            first[i, 0] += area * (px + qx) / 3
            first[i, 1] += area * (py + qy) / 3
            second[i] += area * (px * px + py * py + qx * qx + qy * qy + px * qx + py * qy) / 6
        if size:
            ox, oy = now[0]
            second[i] += 2 * (ox * first[i, 0] + oy * first[i, 1]) + (ox * ox + oy * oy) * mass[i]
            first[i, 0] += ox * mass[i]
            first[i, 1] += oy * mass[i]
        if len(share) == 0:
            continue
        share[start[i] : start[i + 1]] = 0.0
        for k in range(size):
            c = edge[k]
            if c < 0:
                continue
            own[:size], own_edge[:size], held = now[:size], edge[:size], size
            for other in range(size):
                if edge[other] < 0 or edge[other] == c:
                    continue
                p, q = near[c], near[edge[other]]
                left = _cut(
                    own, own_edge, held, y[q, 0] - y[p, 0], y[q, 1] - y[p, 1], h[p] - h[q], 0, side, part, part_edge
                )
                if left >= 0:
                    own, part, own_edge, part_edge, held = part, own, part_edge, own_edge, left
                if held == 0:
                    break
            share[c] = _area(own, held)


def envelope(slopes: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Which of the lines slope x + height are highest somewhere, by rising slope.

    Example:
        >>> envelope(np.array([1.0, -1.0, 0.0, 0.0]), np.array([0.0, 0.0, -0.5, 0.5]))
        array([1, 3, 0])
    """
    order = np.lexsort((heights, slopes))
    last = np.append(slopes[order][1:] > slopes[order][:-1], True)  # of equal slopes the highest
    return _upper(slopes, heights, order[last])


@njit(cache=True)
def _upper(slopes: np.ndarray, heights: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Andrew's monotone chain over lines of strictly rising slopes."""
    kept, size = np.empty_like(order), 0
    for i in order:
        while size > 1:
            a, b = kept[size - 2], kept[size - 1]
            rise_ab = (heights[a] - heights[b]) * (slopes[i] - slopes[b])  # where a meets b, against where b meets i
            rise_bi = (heights[b] - heights[i]) * (slopes[b] - slopes[a])
            if rise_ab < rise_bi:
                break
            size -= 1
        kept[size] = i
        size += 1
    return kept[:size]
