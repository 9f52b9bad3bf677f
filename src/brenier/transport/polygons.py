"""The inner loops of exact cells on a line and in the plane, compiled by numba; `polyhedra.py` is their sister.

A polygon is convex and lies in one half w, 0 or 1, of its buffers: corners (2, p, 2) counterclockwise, edges (2, p),
the name of the line from each corner to the next, negative for a side of the domain. A cut leaves the rest in the other
half.
"""

from __future__ import annotations

import numpy as np

from brenier.compiled import compiled

FEW = 32  # corners that a polygon may have before its buffers grow


@compiled
def _buffers(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners, edges, and room for their signed distances to a line."""
    return np.empty((2, size, 2)), np.empty((2, size), np.int64), np.empty(size)


@compiled
def _longer(array: np.ndarray) -> np.ndarray:
    """The same numbers with as much room again, along the last axis but the coordinates."""
    larger = np.empty(2 * len(array), array.dtype)
    larger[: len(array)] = array
    return larger


@compiled
def _cut(
    corners: np.ndarray,
    edges: np.ndarray,
    side: np.ndarray,
    w: int,
    size: int,
    a: float,
    b: float,
    most: float,
    name: int,
) -> int:
    """Writes the part of a polygon where a x + b y ≤ most to the other half; its number of corners, or −1 for all."""
    outside, inside = False, False
    for k in range(size):
        side[k] = a * corners[w, k, 0] + b * corners[w, k, 1] - most
        outside |= side[k] > 0
        inside |= side[k] < 0
    if not outside:
        return -1
    if not inside:
        return 0
    v, left, last = 1 - w, 0, size - 1
    for k in range(size):
        if (side[k] <= 0) != (side[last] <= 0):
            t = side[last] / (side[last] - side[k])
            corners[v, left, 0] = corners[w, last, 0] + t * (corners[w, k, 0] - corners[w, last, 0])
            corners[v, left, 1] = corners[w, last, 1] + t * (corners[w, k, 1] - corners[w, last, 1])
            edges[v, left] = name if side[last] <= 0 else edges[w, last]
            left += 1
        if side[k] <= 0:
            corners[v, left, 0], corners[v, left, 1] = corners[w, k, 0], corners[w, k, 1]
            edges[v, left] = edges[w, k]
            left += 1
        last = k
    return left


@compiled
def _part(
    corners: np.ndarray, edges: np.ndarray, side: np.ndarray, w: int, size: int, a: float, b: float, most: float
) -> tuple[int, int]:
    """The half that holds the part of a polygon where a x + b y ≤ most, and its number of corners."""
    left = _cut(corners, edges, side, w, size, a, b, most, -1) if size else -1
    return (w, size) if left < 0 else (1 - w, left)


@compiled
def _measure(
    corners: np.ndarray, edges: np.ndarray, w: int, size: int, value: float, moments: np.ndarray, facet: np.ndarray
) -> None:
    """Adds ∫ρ, ∫xρ, ∫|x|²ρ of a polygon of density ρ = value to moments (4,), ∫ρ dS of its edges to facet by name."""
    ox, oy = corners[w, 0, 0], corners[w, 0, 1]
    area, fx, fy, second = 0.0, 0.0, 0.0, 0.0
    px, py = corners[w, size - 1, 0] - ox, corners[w, size - 1, 1] - oy
    last = size - 1
    for k in range(size):
        qx, qy = corners[w, k, 0] - ox, corners[w, k, 1] - oy
        if edges[w, last] >= 0:
            facet[edges[w, last]] += value * np.sqrt((qx - px) ** 2 + (qy - py) ** 2)
        part = (px * qy - py * qx) / 2  # of the triangle with corner 0
        area += part
        fx += part * (px + qx) / 3
        fy += part * (py + qy) / 3
        second += part * (px * px + py * py + qx * qx + qy * qy + px * qx + py * qy) / 6
        px, py, last = qx, qy, k
    moments[0] += value * area
    moments[1] += value * (fx + ox * area)
    moments[2] += value * (fy + oy * area)
    moments[3] += value * (second + 2 * (ox * fx + oy * fy) + (ox * ox + oy * oy) * area)


@compiled
def _weigh(
    corners: np.ndarray,
    edges: np.ndarray,
    w: int,
    size: int,
    low: np.ndarray,
    high: np.ndarray,
    density: np.ndarray,
    moments: np.ndarray,
    facet: np.ndarray,
) -> None:
    """`_measure` under a density that is constant on the equal boxes of [low, high]: column by column, box by box."""
    if density.size == 1:
        _measure(corners, edges, w, size, density[0, 0], moments, facet)
        return
    strip, strip_edges, side = _buffers(size + 4)
    piece, piece_edges, _ = _buffers(size + 4)
    step_x, step_y = (high[0] - low[0]) / density.shape[0], (high[1] - low[1]) / density.shape[1]
    least, most = corners[w, :size, 0].min(), corners[w, :size, 0].max()
    for a in range(max(0, int((least - low[0]) / step_x)), density.shape[0]):
        if low[0] + a * step_x >= most:
            break
        strip[0, :size], strip_edges[0, :size] = corners[w, :size], edges[w, :size]
        v, wide = _part(strip, strip_edges, side, 0, size, 1.0, 0.0, low[0] + (a + 1) * step_x)
        v, wide = _part(strip, strip_edges, side, v, wide, -1.0, 0.0, -low[0] - a * step_x)
        if wide == 0:
            continue
        lowest, highest = strip[v, :wide, 1].min(), strip[v, :wide, 1].max()
        for b in range(max(0, int((lowest - low[1]) / step_y)), density.shape[1]):
            if low[1] + b * step_y >= highest:
                break
            piece[0, :wide], piece_edges[0, :wide] = strip[v, :wide], strip_edges[v, :wide]
            u, held = _part(piece, piece_edges, side, 0, wide, 0.0, 1.0, low[1] + (b + 1) * step_y)
            u, held = _part(piece, piece_edges, side, u, held, 0.0, -1.0, -low[1] - b * step_y)
            if held:
                _measure(piece, piece_edges, u, held, density[a, b], moments, facet)


@compiled
def _cell(
    i: int,
    y: np.ndarray,
    h: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    planes: np.ndarray,
    inner: np.ndarray,
    start: np.ndarray,
    near: np.ndarray,
    rings: int,
    stamp: np.ndarray,
    rivals: np.ndarray,
    corners: np.ndarray,
    edges: np.ndarray,
    side: np.ndarray,
) -> tuple[int, int]:
    """Cuts cell i out of the domain, its edges named by rival: the half that holds it, and its number of corners.

    A rival whose line leaves the polygon's bounding box alone is not looked at any closer. A number of corners that the
    buffers may not hold is given as a negative one: to be tried again in larger ones.
    """
    for k in range(4):
        corners[0, k, 0] = high[0] if k in (1, 2) else low[0]
        corners[0, k, 1] = high[1] if k > 1 else low[1]
        edges[0, k] = -1
    w, size, most = 0, 4, len(side) - 2
    left, bottom, right, top = low[0], low[1], high[0], high[1]
    of, found, k, stamp[i] = i, 0, 0, i
    while of >= 0:
        for c in range(start[of], start[of + 1]):
            if stamp[near[c]] != i:
                stamp[near[c]], rivals[found] = i, near[c]
                found += 1
        of = -1
        while of < 0 and k < found:
            j = rivals[k]
            a, b, gap = y[j, 0] - y[i, 0], y[j, 1] - y[i, 1], h[i] - h[j]
            k += 1
            if a * (right if a > 0 else left) + b * (top if b > 0 else bottom) <= gap:
                continue
            rest = _cut(corners, edges, side, w, size, a, b, gap, j)
            if rest == 0:
                return 0, 0
            if rest < 0:
                continue
            if rest > most:
                return 0, -rest
            w, size = 1 - w, rest
            left, bottom, right, top = np.inf, np.inf, -np.inf, -np.inf
            for c in range(size):
                left, right = min(left, corners[w, c, 0]), max(right, corners[w, c, 0])
                bottom, top = min(bottom, corners[w, c, 1]), max(top, corners[w, c, 1])
            of = j if rings > 1 else -1
    inside = True
    for k in range(size):
        inside &= (corners[w, k, 0] - inner[0]) ** 2 + (corners[w, k, 1] - inner[1]) ** 2 <= inner[2] ** 2
    for r in range(0 if inside else len(planes)):
        w, size = _part(corners, edges, side, w, size, planes[r, 0], planes[r, 1], planes[r, 2])
        if size > most:
            return 0, -size
    return w, size


@compiled
def clipped(
    y: np.ndarray,
    h: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    planes: np.ndarray,
    inner: np.ndarray,
    density: np.ndarray,
    start: np.ndarray,
    near: np.ndarray,
    rows: np.ndarray,
    rings: int,
    mass: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """∫ρ (n,), ∫xρ (n, 2), ∫|x|²ρ (n,) of the cells `rows`; how many facets each has, their rivals, their ∫ρ dS.

    Cell i is the part of the domain in which plane i is no lower than those of its rivals near[start[i]:start[i + 1]]
    and, with two rings, of those of the ones that cut it. The domain is the box [low, high] where planes[:, :2] x ≤
    planes[:, 2], which holds in the ball `inner` (centre, radius). ρ is constant on the equal boxes of [low, high],
    density (p, q).
    """
    stamp, rivals = np.full(len(y), -1, np.int32), np.empty(len(y), np.int32)
    moments, facet = np.empty(4), np.empty(FEW)
    corners, edges, side = _buffers(FEW)
    count, total = np.zeros(len(rows), np.int64), 0
    names, sizes = np.empty(8 * len(rows) + FEW, np.int32), np.empty(8 * len(rows) + FEW)
    for r in range(len(rows)):
        i = rows[r]
        w, size = _cell(i, y, h, low, high, planes, inner, start, near, rings, stamp, rivals, corners, edges, side)
        while size < 0:
            corners, edges, side = _buffers(2 * len(side))
            facet, stamp[:] = np.empty(len(side)), -1
            w, size = _cell(i, y, h, low, high, planes, inner, start, near, rings, stamp, rivals, corners, edges, side)
        while total + size > len(names):
            names, sizes = _longer(names), _longer(sizes)
        for k in range(size):
            names[total + k], facet[k] = edges[w, k], 0.0
            edges[w, k] = k if edges[w, k] >= 0 else -1
        moments[:] = 0.0
        if size:
            _weigh(corners, edges, w, size, low, high, density, moments, facet)
        mass[i], first[i, 0], first[i, 1], second[i] = moments[0], moments[1], moments[2], moments[3]
        base = total
        for k in range(size):
            if names[base + k] >= 0 and facet[k] > 0:
                names[total], sizes[total] = names[base + k], facet[k]
                total += 1
        count[r] = total - base
    return count, names[:total].copy(), sizes[:total].copy()


@compiled
def shares(
    y: np.ndarray,
    h: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    planes: np.ndarray,
    inner: np.ndarray,
    density: np.ndarray,
    start: np.ndarray,
    near: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """∫ρ over the parts of the cells i of `rows` where one rival near[c] after the other is the second highest."""
    stamp, rivals = np.full(len(y), -1, np.int32), np.empty(len(y), np.int32)
    moments, none = np.empty(4), np.empty(0)
    corners, edges, side = _buffers(FEW)
    part, part_edges, part_side = _buffers(FEW)
    share, total = np.zeros((start[rows + 1] - start[rows]).sum()), 0
    for i in rows:
        if start[i] == start[i + 1]:
            continue
        w, size = _cell(i, y, h, low, high, planes, inner, start, near, 1, stamp, rivals, corners, edges, side)
        while size < 0:
            corners, edges, side = _buffers(2 * len(side))
            stamp[:] = -1
            w, size = _cell(i, y, h, low, high, planes, inner, start, near, 1, stamp, rivals, corners, edges, side)
        if size + start[i + 1] - start[i] + 2 > len(part_side):
            part, part_edges, part_side = _buffers(2 * (size + start[i + 1] - start[i] + 2))
        part_edges[:] = -1
        for c in range(start[i], start[i + 1] if size else start[i]):
            p, v, held = near[c], 0, size
            part[0, :size] = corners[w, :size]
            for other in range(start[i], start[i + 1]):
                q = near[other]
                v, held = _part(part, part_edges, part_side, v, held, y[q, 0] - y[p, 0], y[q, 1] - y[p, 1], h[p] - h[q])
            if held:
                moments[:] = 0.0
                _weigh(part, part_edges, v, held, low, high, density, moments, none)
                share[total + c - start[i]] = moments[0]
        total += start[i + 1] - start[i]
    return share


def envelope(slopes: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Which of the lines slope x + height are highest somewhere, by rising slope.

    Example:
        >>> envelope(np.array([1.0, -1.0, 0.0, 0.0]), np.array([0.0, 0.0, -0.5, 0.5]))
        array([1, 3, 0])
    """
    order = np.lexsort((heights, slopes))
    last = np.append(slopes[order][1:] > slopes[order][:-1], True)  # of equal slopes the highest
    return _upper(slopes, heights, order[last])


@compiled
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
