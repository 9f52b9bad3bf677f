"""From a planar code to triangles, and from triangles to a planar code."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import spsolve
from scipy.spatial import Delaunay

from brenier.manifold.chart import Samples, like
from brenier.manifold.mesh import angles, edge_vectors, topology, triangles
from brenier.manifold.sampled import points


def reconstruct(
    x: Samples, codes: Samples, *, longest: float = math.inf, periods: tuple[float, float] | None = None
) -> Samples:
    """Triangles (m, 3) of the piecewise-linear surface through samples x (n, D): Delaunay triangles of codes (n, 2).

    The chart gives the triangles: code triangle → triangle of the samples, an affine map on each. Triangles with a side
    above `longest` in x are left out: holes of the data that the code plane closes. `periods` of the two codes close
    the plane to a cylinder or torus (∞ for a code that is not periodic).

    Raises:
        ValueError: fewer than 3 samples, codes not (n, 2), two codes alike, or codes on one line.

    Example:
        >>> x = np.array([[0.0, 0, 0], [1, 0, 2], [0, 1, 1], [1, 1, 5]])
        >>> reconstruct(x, x[:, :2]).shape
        (2, 3)
    """
    rows = points(x, rows=3)
    z = points(codes, "codes", columns=2)
    if len(z) != len(rows):
        raise ValueError(f"codes must have one row per sample, got {len(z)} for {len(rows)}")
    _, first, count = np.unique(z, axis=0, return_index=True, return_counts=True)
    if count.max() > 1:
        raise ValueError(f"the code of sample {first[count.argmax()]} is that of {count.max() - 1} others too")
    if np.linalg.matrix_rank(z - z.mean(0), tol=1e-12 * np.abs(z).max()) < 2:
        raise ValueError("the codes lie on one line: they have no triangles")
    faces = Delaunay(z).simplices if periods is None else _periodic(z, periods)
    faces = faces[np.linalg.norm(edge_vectors(rows, faces), axis=2).max(1) <= longest].astype(np.int64)
    return like(x, faces)


def _periodic(z: np.ndarray, periods: tuple[float, float]) -> np.ndarray:
    steps = [(-p, 0.0, p) if math.isfinite(p) else (0.0,) for p in periods]
    shifts = np.array([(a, b) for a in steps[0] for b in steps[1]])
    home = int((shifts == 0).all(1).argmax())
    faces = Delaunay((z + shifts[:, None]).reshape(-1, 2)).simplices
    copy, vertex = faces // len(z), faces % len(z)
    least = vertex.argmin(1)[:, None]  # of the copies of a triangle, the one whose least vertex is at home
    around = (vertex == np.roll(vertex, 1, 1)).any(1)  # slivers along an open rim that go all the way round
    return vertex[(np.take_along_axis(copy, least, 1)[:, 0] == home) & ~around]


def tutte(x: Samples, faces: Samples) -> Samples:
    """A planar code (n, 2) of a triangulated disk x (n, D): boundary on the unit circle by arc length, each inner
    vertex at the mean of its neighbours by mean value weights.

    The weights are positive and the rim is convex, so no triangle is turned over and none overlap, however bent the
    surface (Tutte, Proc. London Math. Soc. 1963; Floater, Computer Aided Geometric Design 2003).

    Raises:
        ValueError: the mesh is no disk, or has vertices that no face uses.

    Example:
        >>> x = np.array([[0.0, 0, 9], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
        >>> bool(np.allclose(tutte(x, np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]]))[0], 0))
        True
    """
    rows = points(x, rows=3)
    face = triangles(faces, len(rows))
    form = topology(face)
    if not form.planar or form.components != 1 or len(form.loops) != 1 or form.vertices != len(rows):
        raise ValueError(
            f"the mesh must be one disk, got {form.components} components, genus {form.genus}, "
            f"{len(form.loops)} boundary loops and {len(rows) - form.vertices} loose vertices"
        )
    loop = form.loops[0]
    step = np.linalg.norm(rows[np.roll(loop, -1)] - rows[loop], axis=1)
    turn = 2 * np.pi * (step.cumsum() - step) / step.sum()
    half = np.tan(angles(rows, face) / 2)
    length = np.linalg.norm(edge_vectors(rows, face), axis=2)
    i, j, k = face.ravel(), np.roll(face, -1, 1).ravel(), np.roll(face, 1, 1).ravel()
    weight = np.concatenate([half.ravel() / length.ravel(), half.ravel() / np.roll(length, 1, 1).ravel()])
    w = csr_array((weight, (np.concatenate([i, i]), np.concatenate([j, k]))), shape=(len(rows), len(rows)))
    inner = np.ones(len(rows), dtype=bool)
    inner[loop] = False
    code = np.zeros((len(rows), 2))
    code[loop] = np.stack([np.cos(turn), np.sin(turn)], 1)
    if inner.any():
        rest = w[inner]
        total = csr_array((rest.sum(1), (np.arange(inner.sum()),) * 2))
        code[inner] = spsolve((total - rest[:, inner]).tocsc(), rest[:, ~inner] @ code[~inner])
    return like(x, code)
