"""Triangle meshes: read from a file, their topology, areas and angles, and a planar code of a disk."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import Tensor

from brenier.manifold.chart import Samples
from brenier.manifold.sampled import parts, signs


@dataclass(frozen=True, eq=False)
class Topology:
    """What a mesh is, whatever its shape.

    `vertices` that a face uses, `edges`; of each face its component, `member` (m,), and the sign that turns it to one
    orientation, `signs` (m,), None where there is none; `loops` holds the vertices of each boundary loop in order.
    """

    vertices: int
    edges: int
    member: np.ndarray
    signs: np.ndarray | None
    loops: tuple[np.ndarray, ...]
    planar: bool

    @property
    def components(self) -> int:
        """How many parts hang together by edges."""
        return int(self.member.max()) + 1

    @property
    def euler(self) -> int:
        """The Euler characteristic: vertices − edges + faces."""
        return self.vertices - self.edges + len(self.member)

    @property
    def genus(self) -> int | None:
        """The number of handles of all components: euler = 2 components − 2 genus − loops; None: no orientation."""
        return None if self.signs is None else (2 * self.components - len(self.loops) - self.euler) // 2


def read_obj(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (n, 3) and triangles (m, 3) of a Wavefront .obj file; polygons are cut into fans, all else is left out.

    Raises:
        ValueError: a line that cannot be read, a face of a vertex that is not there, or no face at all.
    """
    vertices: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        kind, *parts = line.split() or [""]
        try:
            if kind == "v":
                vertices.append([float(part) for part in parts[:3]])
            elif kind == "f":
                corners = [int(part.split("/")[0]) for part in parts]
                corners = [c - 1 if c > 0 else len(vertices) + c for c in corners]
                faces += [(corners[0], b, c) for b, c in pairwise(corners[1:])]
        except ValueError:
            raise ValueError(f"line {number} of {path} cannot be read: {line.strip()!r}") from None
    if not faces or {len(vertex) for vertex in vertices} != {3}:
        raise ValueError(f"{path} must hold vertices in space and faces, got {len(vertices)} and {len(faces)}")
    return np.array(vertices), triangles(np.array(faces), len(vertices))


def triangles(faces: Samples, n: int) -> np.ndarray:
    """`faces` (m, 3) as int64 indices of n vertices; ValueError or TypeError names what is wrong."""
    array = faces.detach().cpu().numpy() if isinstance(faces, Tensor) else np.asarray(faces)
    if array.dtype.kind not in "iu":
        raise TypeError(f"faces must be whole numbers, got {array.dtype}")
    if array.ndim != 2 or array.shape[1] != 3 or not len(array):
        raise ValueError(f"faces must have shape (m, 3) with m at least 1, got {array.shape}")
    if array.min() < 0 or array.max() >= n:
        row = int(((array < 0) | (array >= n)).any(1).argmax())
        raise ValueError(f"face {row} names a vertex outside 0..{n - 1}: {array[row].tolist()}")
    same = (array == np.roll(array, 1, 1)).any(1)
    if same.any():
        raise ValueError(f"face {same.argmax()} names a vertex twice: {array[same.argmax()].tolist()}")
    return array.astype(np.int64)


def topology(faces: Samples) -> Topology:
    """Euler characteristic, genus, boundary loops and orientation of triangles (m, 3) by combinatorics alone; `planar`
    tells whether it fits into the plane: no handles, and every component has a boundary.

    Raises:
        ValueError: an edge in more than two faces, or a vertex whose faces meet in nothing but it.

    Example:
        >>> tetrahedron = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])
        >>> (topology(tetrahedron).euler, topology(tetrahedron).genus, len(topology(tetrahedron[:3]).loops))
        (2, 0, 1)
    """
    given = triangles(faces, int(np.asarray(faces).max(initial=0)) + 1)
    half_edges(given)  # so that an error names the caller's vertices
    used, flat = np.unique(given, return_inverse=True)
    face = flat.reshape(-1, 3)
    a, b, first, second, rim = half_edges(face)
    m, corner = len(face), np.arange(3 * len(face))
    after = corner - corner % 3 + (corner + 1) % 3
    same = a[first] == a[second]  # both faces run along the edge in the same sense: one must be turned
    begin, end = np.where(same, second, after[second]), np.where(same, after[second], second)
    count, fan = parts(3 * m, np.concatenate([first, after[first]]), np.concatenate([begin, end]))
    if count > len(used):
        _, one = np.unique(fan, return_index=True)
        twice = np.bincount(a[one]).argmax()
        raise ValueError(f"the faces at vertex {used[twice]} meet in nothing but it: not a surface")
    f, g = first // 3, second // 3
    turns, oriented = signs(m, f, g, same)
    components, member = parts(m, f, g)
    loops, edges = _loops(a[rim], b[rim], used), len(first) + len(rim)
    handles = 2 * components - len(loops) - (len(used) - edges + m)
    planar = oriented and handles == 0 and len(np.unique(member[rim // 3])) == components
    return Topology(len(used), edges, member, turns if oriented else None, loops, planar)


def half_edges(faces: np.ndarray) -> tuple[np.ndarray, ...]:
    """Half-edges h from a[h] to b[h], (3m,) each, face h // 3; the pairs (first, second) of one edge; those at the rim.

    Raises:
        ValueError: an edge in more than two faces.
    """
    a, b = faces.ravel(), np.roll(faces, -1, 1).ravel()
    edge = np.minimum(a, b) * (faces.max() + 1) + np.maximum(a, b)
    order = np.argsort(edge, kind="stable")
    _, start, count = np.unique(edge[order], return_index=True, return_counts=True)
    if count.max() > 2:
        h = order[start[count.argmax()]]
        raise ValueError(f"edge ({a[h]}, {b[h]}) lies in {count.max()} faces: not a surface")
    inner = start[count == 2]
    return a, b, order[inner], order[inner + 1], order[start[count == 1]]


def _loops(a: np.ndarray, b: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, ...]:
    """The boundary's vertices in order, loop by loop; every vertex of it has two edges, whichever way they run."""
    edges: dict[int, list[int]] = {}
    for p, q in zip(a.tolist(), b.tolist(), strict=True):
        edges.setdefault(p, []).append(q)
        edges.setdefault(q, []).insert(0, p)
    loops = []
    while edges:
        loop, at = [], next(iter(edges))
        before = edges[at][0]
        while at in edges:
            p, q = edges.pop(at)
            loop.append(at)
            before, at = at, (q if p == before else p)
        loops.append(names[loop])
    return tuple(loops)


def edge_vectors(x: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The sides of every triangle (m, 3, D); side i runs from corner i to the next one."""
    return x[np.roll(faces, -1, 1)] - x[faces]


def areas(x: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Areas (m,) of the triangles, in any dimension."""
    side = edge_vectors(x, faces)
    p, q = side[:, 0], side[:, 2]
    return 0.5 * np.sqrt(np.maximum((p * p).sum(1) * (q * q).sum(1) - (p * q).sum(1) ** 2, 0))


def angles(x: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Inner angles (m, 3) at the corners, in any dimension; they sum to π in each triangle."""
    side = edge_vectors(x, faces)
    out, back = side, -np.roll(side, 1, 1)
    double = 2 * areas(x, faces)[:, None]
    return np.arctan2(double, (out * back).sum(2))
