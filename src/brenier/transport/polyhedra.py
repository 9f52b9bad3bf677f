"""The inner loops of exact cells in space, compiled by numba: polyhedra cut by planes, and integrals over them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from brenier.compiled import compiled

ROUNDING, TINY = 1e-15, 1e-300  # what lies closer to a plane than 1e-15 of the domain's reach lies on it
BOX, CELL, PART, SLAB, PLACES = 0, 1, 3, 5, 11  # of polyhedra: the box; pairs to cut to and fro, slabs one per axis
NAME, INDEX, LEAVES, ENTERS, BEFORE, CORNER = range(6)  # rows of mark


class Room(NamedTuple):
    """Memory for a few polyhedra, each a list of edges: the corners at the ends and the faces at the two sides.

    Seen from outside, the boundary of the face on the left goes from → to, that of the face on the right to → from.
    These boundaries are closed, whatever signs rounding gives to the corners when a plane cuts.
    """

    points: np.ndarray  # (PLACES, 3, most): corners
    edges: np.ndarray  # (PLACES, most, 4): corner from, corner to, face on the left, face on the right
    size: np.ndarray  # (PLACES + 1, 3): how many corners, edges, faces that ever were; the last row is for _cut
    mark: np.ndarray  # (6, most): the name of each face; else for _cut and _measure
    side: np.ndarray  # (most,): for _cut
    normal: np.ndarray  # (most, 3): for _measure
    bare: np.ndarray  # (most,): the area of each face of the polyhedron measured last
    area: np.ndarray  # (most,): ∫ density over each face
    total: np.ndarray  # (5,): ∫ density, ∫ x density, ∫ |x|² density
    reach: float  # the largest |coordinate| of the domain


@compiled
def _room(most: int, low: np.ndarray, high: np.ndarray) -> Room:
    """A room for polyhedra of up to most / 2 edges, with the box [low, high] in its place."""
    points, edges = np.empty((PLACES, 3, most)), np.empty((PLACES, most, 4), np.int64)
    size, mark = np.zeros((PLACES + 1, 3), np.int64), np.full((6, most), -1)
    for k in range(8):
        for axis in range(3):
            points[BOX, axis, k] = high[axis] if k >> axis & 1 else low[axis]
    e = 0
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        for on_b in range(2):
            for on_c in range(2):
                p, left, right = on_b << b | on_c << c, 2 * b + on_b, 2 * c + on_c
                if on_b != on_c:
                    left, right = right, left
                edges[BOX, e, 0], edges[BOX, e, 1], edges[BOX, e, 2], edges[BOX, e, 3] = p, p | 1 << axis, left, right
                e += 1
    size[BOX, 0], size[BOX, 1], size[BOX, 2] = 8, 12, 6
    reach = max(np.max(np.abs(low)), np.max(np.abs(high)))
    side, normal, bare, area, total = np.empty(most), np.empty((most, 3)), np.empty(most), np.empty(most), np.empty(5)
    return Room(points, edges, size, mark, side, normal, bare, area, total, reach)


@compiled
def _above(
    points: np.ndarray, size: np.ndarray, side: np.ndarray, reach: float, s: int, a: float, b: float, c: float, d: float
) -> int:
    """How many corners of polyhedron s have a x + b y + c z > d; writes by how much to side, 0 if that is rounding."""
    slack, above = ROUNDING * (abs(a) + abs(b) + abs(c)) * reach, 0
    for k in range(size[s, 0]):
        rise = a * points[s, 0, k] + b * points[s, 1, k] + c * points[s, 2, k] - d
        side[k] = rise if abs(rise) > slack else 0.0
        above += rise > slack
    return above


@compiled
def _cut(
    points: np.ndarray,
    edges: np.ndarray,
    size: np.ndarray,
    mark: np.ndarray,
    side: np.ndarray,
    s: int,
    to: int,
    name: int,
) -> int:
    """The place, to or to + 1, of the part of polyhedron s where side ≤ 0, with a new face of this name.

    With too little room, the cut is left out and size[PLACES, 0] set.
    """
    v, e, face, below = size[s, 0], size[s, 1], size[s, 2], 0
    for k in range(v):
        below += side[k] < 0
    t = to + 1 if s == to else to
    size[t, 0], size[t, 1], size[t, 2] = 0, 0, 0
    if below == 0:
        return t
    if max(2 * e, face + 1) > len(side):  # every edge can give a corner and one more edge
        size[PLACES, 0] = 1
        return s
    corners, kept = 0, 0
    for k in range(v):
        if side[k] <= 0:
            for axis in range(3):
                points[t, axis, corners] = points[s, axis, k]
            mark[INDEX, k] = corners
            corners += 1
    old = corners
    for k in range(e):
        p, q, left, right = edges[s, k, 0], edges[s, k, 1], edges[s, k, 2], edges[s, k, 3]
        p_stays, q_stays = side[p] <= 0, side[q] <= 0
        if not (p_stays or q_stays):
            continue
        edges[t, kept, 0] = mark[INDEX, p] if p_stays else corners
        edges[t, kept, 1] = mark[INDEX, q] if q_stays else corners
        edges[t, kept, 2], edges[t, kept, 3] = left, right
        kept += 1
        if p_stays and q_stays:
            continue
        low, high, leaves, enters = (p, q, left, right) if p_stays else (q, p, right, left)
        at = side[low] / (side[low] - side[high])
        for axis in range(3):
            points[t, axis, corners] = points[s, axis, low] + at * (points[s, axis, high] - points[s, axis, low])
        mark[LEAVES, corners] = leaves
        mark[BEFORE, corners], mark[ENTERS, enters] = mark[ENTERS, enters], corners
        corners += 1
    for k in range(old, corners):  # where a boundary left it now goes to where it enters, and the new face's comes back
        left = mark[LEAVES, k]
        back = mark[ENTERS, left]
        mark[ENTERS, left] = mark[BEFORE, back]
        edges[t, kept, 0], edges[t, kept, 1], edges[t, kept, 2], edges[t, kept, 3] = k, back, left, face
        kept += 1
    mark[NAME, face] = name
    size[t, 0], size[t, 1], size[t, 2] = corners, kept, face + 1
    return t


@compiled
def _touched(points: np.ndarray, size: np.ndarray, s: int, a: float, b: float, c: float, d: float) -> bool:
    """Whether a corner of polyhedron s has a x + b y + c z > d: in whole numbers, several corners at once."""
    v, touched = size[s, 0], 0
    x, y, z = points[s, 0, :v], points[s, 1, :v], points[s, 2, :v]
    for k in range(v):
        touched += 1 if a * x[k] + b * y[k] + c * z[k] > d else 0
    return touched > 0


@compiled
def _cell(
    room: Room,
    i: int,
    y: np.ndarray,
    h: np.ndarray,
    start: np.ndarray,
    near: np.ndarray,
    rings: int,
    stamp: np.ndarray,
    rivals: np.ndarray,
    planes: np.ndarray,
    inner: np.ndarray,
) -> int:
    """The place of cell i in the domain against its candidates and, with two rings, those of the ones that cut it."""
    points, edges, size, mark, side, _, _, _, _, reach = room
    s, of, found, k, stamp[i] = BOX, i, 0, 0, i
    while of >= 0:
        for c in range(start[of], start[of + 1]):
            if stamp[near[c]] != i:
                stamp[near[c]], rivals[found] = i, near[c]
                found += 1
        of = -1
        while of < 0 and k < found:
            j = rivals[k]
            a, b, c, gap = y[j, 0] - y[i, 0], y[j, 1] - y[i, 1], y[j, 2] - y[i, 2], h[i] - h[j]
            k += 1
            if _touched(points, size, s, a, b, c, gap) and _above(points, size, side, reach, s, a, b, c, gap):
                s = _cut(points, edges, size, mark, side, s, CELL, j)
                if size[s, 1] == 0:
                    return s
                of = j if rings > 1 else -1
    farthest = 0.0
    for k in range(size[s, 0]):
        a, b, c = points[s, 0, k] - inner[0], points[s, 1, k] - inner[1], points[s, 2, k] - inner[2]
        farthest = max(farthest, a * a + b * b + c * c)
    if farthest > inner[3] ** 2:
        for k in range(len(planes)):
            if _above(points, size, side, reach, s, planes[k, 0], planes[k, 1], planes[k, 2], planes[k, 3]):
                s = _cut(points, edges, size, mark, side, s, CELL, -1)
    return s


@compiled
def _measure(room: Room, s: int, value: float) -> None:
    """Adds the integrals of a constant density over polyhedron s to `total`, and over its faces to `area`."""
    points, edges, size, mark, _, normal, bare, area, total, _ = room
    e, faces = size[s, 1], size[s, 2]
    if e == 0:
        return
    normal[:faces] = 0.0
    for k in range(e):
        mark[CORNER, edges[s, k, 2]] = mark[CORNER, edges[s, k, 3]] = edges[s, k, 0]
    ox, oy, oz = points[s, 0, 0], points[s, 1, 0], points[s, 2, 0]  # a corner: cells are small, and may be far from 0
    mass, first_x, first_y, first_z, second = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(e):
        for turn in range(2):
            p, q, face = edges[s, k, turn], edges[s, k, 1 - turn], edges[s, k, 2 + turn]
            r = mark[CORNER, face]
            if p == r or q == r:
                continue
            rx, ry, rz = points[s, 0, r] - ox, points[s, 1, r] - oy, points[s, 2, r] - oz
            px, py, pz = points[s, 0, p] - ox, points[s, 1, p] - oy, points[s, 2, p] - oz
            qx, qy, qz = points[s, 0, q] - ox, points[s, 1, q] - oy, points[s, 2, q] - oz
            nx = (py - ry) * (qz - rz) - (pz - rz) * (qy - ry)
            ny = (pz - rz) * (qx - rx) - (px - rx) * (qz - rz)
            nz = (px - rx) * (qy - ry) - (py - ry) * (qx - rx)
            normal[face, 0] += nx
            normal[face, 1] += ny
            normal[face, 2] += nz
            volume = (rx * nx + ry * ny + rz * nz) / 6  # of the tetrahedron o, r, p, q
            tx, ty, tz = rx + px + qx, ry + py + qy, rz + pz + qz
            squares = rx * rx + ry * ry + rz * rz + px * px + py * py + pz * pz + qx * qx + qy * qy + qz * qz
            mass += volume
            first_x += volume * tx / 4
            first_y += volume * ty / 4
            first_z += volume * tz / 4
            second += volume * (squares + tx * tx + ty * ty + tz * tz) / 20
    for face in range(faces):
        bare[face] = np.sqrt(normal[face, 0] ** 2 + normal[face, 1] ** 2 + normal[face, 2] ** 2) / 2
        area[face] += value * bare[face]
    total[0] += value * mass
    total[1] += value * (first_x + ox * mass)
    total[2] += value * (first_y + oy * mass)
    total[3] += value * (first_z + oz * mass)
    second += 2 * (ox * first_x + oy * first_y + oz * first_z) + (ox * ox + oy * oy + oz * oz) * mass
    total[4] += value * second


@compiled
def _layers(room: Room, s: int, axis: int, low: float, high: float, n: int) -> range:
    """Which of n equal layers of [low, high] along an axis polyhedron s meets."""
    least, most, scale = high, low, n / (high - low)
    for k in range(room.size[s, 0]):
        least, most = min(least, room.points[s, axis, k]), max(most, room.points[s, axis, k])
    blur = ROUNDING * room.reach * scale
    return range(int((least - low) * scale + blur), min(n, int(np.ceil((most - low) * scale - blur))))


@compiled
def _beyond(points: np.ndarray, size: np.ndarray, side: np.ndarray, s: int, axis: int, at: float, sign: float) -> int:
    """As _above, for sign · (x − at) > 0 along an axis; x = at counts as less, lest a face be in two layers."""
    beyond = 0
    for k in range(size[s, 0]):
        rise = points[s, axis, k] - at
        side[k] = sign * (rise if rise > 0 else min(rise, -TINY))
        beyond += side[k] > 0
    return beyond


@compiled
def _layer(room: Room, s: int, axis: int, k: int, layers: range, low: float, width: float) -> int:
    """The place of the part of polyhedron s in layer k of these, along an axis."""
    points, edges, size, mark, side, _, _, _, _, _ = room
    if k > layers.start and _beyond(points, size, side, s, axis, low + k * width, -1.0):
        s = _cut(points, edges, size, mark, side, s, SLAB + 2 * axis, -1)
    if k + 1 < layers.stop and _beyond(points, size, side, s, axis, low + (k + 1) * width, 1.0):
        s = _cut(points, edges, size, mark, side, s, SLAB + 2 * axis, -1)
    return s


@compiled
def _weigh(room: Room, s: int, low: np.ndarray, high: np.ndarray, density: np.ndarray) -> None:
    """Sets `total` and `area` to the integrals over polyhedron s."""
    room.total[:] = 0.0
    room.area[:] = 0.0
    if density.size == 1:
        _measure(room, s, density[0, 0, 0])
        return
    (a, b, c), (x, y, z) = density.shape, (high - low) / np.array(density.shape)
    rows = _layers(room, s, 0, low[0], high[0], a)
    for i in rows:
        row = _layer(room, s, 0, i, rows, low[0], x)
        columns = _layers(room, row, 1, low[1], high[1], b)
        for j in columns:
            column = _layer(room, row, 1, j, columns, low[1], y)
            levels = _layers(room, column, 2, low[2], high[2], c)
            for k in levels:
                if density[i, j, k] != 0:
                    _measure(room, _layer(room, column, 2, k, levels, low[2], z), density[i, j, k])


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
    """∫ (n,), ∫x (n, 3), ∫|x|² (n,) of the density over the cells `rows`, and their facets.

    Cell i is the part of the domain in which plane i is no lower than those of its candidates, near[start[i] :
    start[i + 1]], and, with two rings, of those of the ones that cut it. The domain is the part of the box [low, high]
    where planes (q, 4) have planes[:, :3] · x ≤ planes[:, 3]; all hold in the ball of centre inner[:3] and radius
    inner[3].
    The density is constant on the equal boxes of a grid (a, b, c). Returned are, in the order of the cells, how many
    facets of positive area each has, and for each facet the rival on the other side and ∫ density over it, which is
    0 where the density is.
    """
    stamp, rivals = np.full(len(y), -1, np.int32), np.empty(len(y), np.int32)
    count, used = np.zeros(len(rows), np.int64), 0
    names, sizes = np.empty(16 * len(rows) + 64, np.int32), np.empty(16 * len(rows) + 64)
    room = _room(256, low, high)
    for row in range(len(rows)):
        i = rows[row]
        while True:
            s = _cell(room, i, y, h, start, near, rings, stamp, rivals, planes, inner)
            _weigh(room, s, low, high, density)
            if room.size[PLACES, 0] == 0:
                break
            room, stamp[:] = _room(2 * len(room.side), low, high), -1
        mass[i], second[i] = room.total[0], room.total[4]
        first[i, 0], first[i, 1], first[i, 2] = room.total[1], room.total[2], room.total[3]
        if density.size > 1:
            _measure(room, s, 0.0)  # sets the bare areas of the whole cell
        faces, largest = room.size[s, 2], 0.0
        for face in range(faces):
            largest = max(largest, room.bare[face])
        while used + faces > len(names):
            names, sizes = np.concatenate((names, names)), np.concatenate((sizes, sizes))
        for face in range(faces):
            if room.mark[NAME, face] >= 0 and room.bare[face] > ROUNDING * largest:
                names[used], sizes[used] = room.mark[NAME, face], room.area[face]
                used += 1
                count[row] += 1
    return count, names[:used].copy(), sizes[:used].copy()


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
    """For each entry of near, ∫ density over the part of its cell in which it is the second highest.

    near[start[i] : start[i + 1]] are the rivals that have a facet in common with cell i; all else is as in `clipped`,
    and only the entries of the cells `rows` are returned, in their order.
    """
    share, done = np.zeros((start[rows + 1] - start[rows]).sum()), 0
    room, stamp, found = _room(256, low, high), np.full(len(y), -1, np.int32), np.empty(len(y), np.int32)
    for i in rows:
        rivals = near[start[i] : start[i + 1]]
        while len(rivals) > 0:
            points, edges, size, mark, side, _, _, _, _, reach = room
            s = _cell(room, i, y, h, start, near, 1, stamp, found, planes, inner)
            for k in range(len(rivals)):
                p, part = rivals[k], s
                for q in rivals:
                    a, b, c = y[q, 0] - y[p, 0], y[q, 1] - y[p, 1], y[q, 2] - y[p, 2]
                    if q != p and _above(points, size, side, reach, part, a, b, c, h[p] - h[q]):
                        part = _cut(points, edges, size, mark, side, part, PART, -1)
                _weigh(room, part, low, high, density)
                share[done + k] = room.total[0]
            if room.size[PLACES, 0] == 0:
                break
            room, stamp[:] = _room(2 * len(room.side), low, high), -1
        done += len(rivals)
    return share
