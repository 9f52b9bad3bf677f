"""Where a triangulated plane covers itself: triangles turned over, and triangles that overlap."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

PAIRS = 1 << 20  # pairs of triangles looked at together
DEPTH = 1e-9  # of the longer side: what counts as touching, not overlapping


def signed_areas(z: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Signed areas (m,) of triangles (m, 3) of points (n, 2), positive where they run anticlockwise."""
    p, q = (z[faces[:, i]] - z[faces[:, 0]] for i in (1, 2))
    return 0.5 * (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0])


def overlapping(z: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Which triangles (m,) bool share inner points with another, and the first such pair; triangles without area don't.

    In strips as high as two triangles, sorted by their left ends, each is compared with those that begin before it
    ends, by separating axes; pairs of which both are known to overlap already are passed over.
    """
    corner = z[faces] - z.min(0)
    low, high = corner.min(1), corner.max(1)
    size = (high - low).max(1)
    found, example = np.zeros(len(faces), dtype=bool), None
    for i, j in _neighbours(low, high, np.flatnonzero(np.abs(signed_areas(z, faces)) > DEPTH * size**2)):
        near = (low[i, 1] < high[j, 1]) & (low[j, 1] < high[i, 1]) & ~(found[i] & found[j])
        i, j = i[near], j[near]
        deep = _depth(corner[i], corner[j]) > DEPTH * np.maximum(size[i], size[j])
        i, j = i[deep], j[deep]
        found[i] = found[j] = True
        if example is None and len(i):
            example = (int(min(i[0], j[0])), int(max(i[0], j[0])))
    return found, example


def _neighbours(low: np.ndarray, high: np.ndarray, some: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of some boxes (m, 2) that meet in one coordinate and share a strip of the other, PAIRS at once."""
    if not len(some):
        return
    strip = 2 * (high - low)[some, 1].mean()
    first, last = (np.floor(ends[some, 1] / strip).astype(int) for ends in (low, high))
    copies = last - first + 1
    box = np.repeat(some, copies)
    level = np.repeat(first - copies.cumsum() + copies, copies) + np.arange(len(box))
    far = level * 2 * high[:, 0].max()  # strips lie one behind the other
    order = np.argsort(low[box, 0] + far, kind="stable")
    left, right, box = (low[box, 0] + far)[order], (high[box, 0] + far)[order], box[order]
    count = np.searchsorted(left, right) - np.arange(len(box)) - 1
    ends, start = np.concatenate([[0], count.cumsum()]), 0
    while start < len(box):
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] + PAIRS, side="right")) - 1)
        a = np.repeat(np.arange(start, stop), count[start:stop])
        b = a + 1 + np.arange(len(a)) - np.repeat(ends[start:stop] - ends[start], count[start:stop])
        yield box[a], box[b]
        start = stop


def _depth(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far triangles a and b (p, 3, 2) overlap along the axis where they do least; negative: they are apart."""
    least = np.full(len(a), np.inf)
    for one, two in ((a, b), (b, a)):
        side = np.roll(one, -1, 1) - one
        normal = np.stack([-side[..., 1], side[..., 0]], 2) / np.linalg.norm(side, axis=2, keepdims=True)
        p, q = np.einsum("pkd,pcd->pkc", normal, one), np.einsum("pkd,pcd->pkc", normal, two)
        overlap = np.minimum(p.max(2) - q.min(2), q.max(2) - p.min(2))
        least = np.minimum(least, overlap.min(1))
    return least
