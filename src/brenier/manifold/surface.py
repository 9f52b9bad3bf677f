"""A sampled surface rebuilt piecewise linearly, and how far it is from the true one as sampling gets denser."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import eigsh
from scipy.spatial import cKDTree

from brenier.manifold.chart import Samples
from brenier.manifold.mesh import angles, areas, edge_vectors, half_edges, topology, triangles
from brenier.manifold.sampled import blocks, points
from brenier.manifold.true_surfaces import TrueSurface

TARGETS = 64  # vertices to which geodesics are measured
CORNERS = np.array([[1, 1, 1], [2, 1, 0], [0, 2, 1], [1, 0, 2], [1, 2, 0], [0, 1, 2], [2, 0, 1], [4, 1, 1], [1, 4, 1]])
BARYCENTRIC = CORNERS / CORNERS.sum(1, keepdims=True)  # nine points of a triangle


class SurfaceErrors(NamedTuple):
    """How far a mesh of `vertices` and longest edge `h` is from the true surface, as `surface_errors` says."""

    vertices: int
    h: float
    hausdorff: float
    normal: float
    area: float
    geodesic: float
    gauss: float
    gauss_region: float
    mean: float
    laplace: float


class Convergence(NamedTuple):
    """Errors of ever denser samples, `rows`, and of each the measured order p of error ~ h^p, `orders`."""

    name: str
    rows: tuple[SurfaceErrors, ...]
    orders: dict[str, float]

    def __str__(self) -> str:
        head = SurfaceErrors._fields
        lines = [f"| {self.name} | " + " | ".join(head[1:]) + " |", "|" + "---|" * len(head)]
        lines += [f"| {row.vertices} | " + " | ".join(f"{value:.2e}" for value in row[1:]) + " |" for row in self.rows]
        return "\n".join([*lines, "| order | | " + " | ".join(f"{p:.2f}" for p in self.orders.values()) + " |"])


def surface_errors(x: Samples, faces: Samples, truth: TrueSurface) -> SurfaceErrors:
    """Errors of a mesh, x (n, 3) and faces (m, 3), against the surface that its vertices were sampled from.

    `hausdorff`: the larger of the distances from each to the other, over nine points a triangle and a cloud on the
    truth. `normal`: largest angle between a triangle's normal and the truth's at its centre. `area`, relative.
    `geodesic`: mean of |d − d*| / mean of d* from vertex 0 to at most 64 others of known d*, d along the mesh.
    `gauss`, `gauss_region`: |Σ angle defects of inner vertices − ∫K dA|, of the whole and of the truth's region.
    `mean`: the same for the normal cycle's ½ Σ length · dihedral angle against ∫H dA, H the mean of the principal
    curvatures (Cohen-Steiner and Morvan, SoCG 2003). `laplace`: largest relative error of the first non-zero
    eigenvalues of the intrinsic Delaunay cotangent operator (Sharp and Crane, SGP 2020). NaN: no truth is known.

    Raises:
        ValueError: x or faces are no mesh in space, or no surface.
        ModuleNotFoundError: the extra brenier[surface] is not installed.
    """
    rows = points(x, rows=4, columns=3)
    mesh = triangles(faces, len(rows))
    form = topology(mesh)
    if form.components != 1 or form.signs is None or form.vertices != len(rows):
        raise ValueError(
            f"the mesh must be one oriented surface through all samples, got {form.components} components, "
            f"{len(rows) - form.vertices} loose vertices{', no orientation' if form.signs is None else ''}"
        )
    mesh = np.where(form.signs[:, None] > 0, mesh, mesh[:, ::-1])
    side = edge_vectors(rows, mesh)
    cross = np.cross(side[:, 0], side[:, 1])
    normal = cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), np.finfo(float).tiny)
    expected = truth.normal(truth.foot(rows[mesh].mean(1)))
    cosine = (normal * expected).sum(1)
    if cosine.mean() < 0:
        mesh, normal, cosine = mesh[:, ::-1], -normal, -cosine
    defects = angle_defects(rows, mesh)
    known = truth.geodesic(rows)
    there = np.flatnonzero(np.isfinite(known) & (known > 0))
    there = there[np.linspace(0, len(there) - 1, min(TARGETS, len(there))).astype(int)]
    along = geodesic_distances_on(rows, mesh, 0, there)
    spectrum = laplace_spectrum(rows, mesh, len(truth.eigenvalues) + 1)[1:]
    return SurfaceErrors(
        vertices=len(rows),
        h=float(np.linalg.norm(side, axis=2).max()),
        hausdorff=max(_beyond(rows, mesh, truth), float(distance_to_mesh(truth.cloud, rows, mesh).max())),
        normal=float(np.arccos(cosine.clip(-1, 1)).max()),
        area=float(abs(areas(rows, mesh).sum() / truth.area - 1)),
        geodesic=float(np.abs(along - known[there]).sum() / known[there].sum()),
        gauss=float(abs(defects.sum() - truth.gauss)),
        gauss_region=float(abs(defects[truth.region(rows)].sum() - truth.gauss_region)),
        mean=float(abs(_mean_curvature(rows, mesh, normal) - truth.mean)),
        laplace=float(np.abs(spectrum / np.array(truth.eigenvalues) - 1).max()) if truth.eigenvalues else math.nan,
    )


def surface_convergence(truth: TrueSurface, sizes: Iterable[int]) -> Convergence:
    """Errors of the truth's own samples of about the given sizes, and the order in h that a line through them shows.

    An error that is round-off already has order NaN.

    Raises:
        ValueError: fewer than two sizes.
    """
    rows = tuple(surface_errors(*truth.sample(size), truth) for size in sizes)
    if len(rows) < 2:
        raise ValueError(f"an order needs at least 2 sizes, got {len(rows)}")
    table = np.array(rows)
    h, errors = np.log(table[:, 1]), table[:, 2:]
    orders = [np.polyfit(h, np.log(e), 1)[0] if (e > 1e-9).all() else math.nan for e in errors.T]
    return Convergence(truth.name, rows, dict(zip(SurfaceErrors._fields[2:], map(float, orders), strict=True)))


def angle_defects(x: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """2π − Σ angles at every inner vertex (n,), 0 at the boundary: the Gaussian curvature measure of the mesh.

    On a closed surface they sum to 2π times its Euler characteristic (Descartes).
    """
    total = np.bincount(faces.ravel(), angles(x, faces).ravel(), len(x))
    defects = np.where(total > 0, 2 * math.pi - total, 0.0)
    a, b, _, _, rim = half_edges(faces)
    defects[np.concatenate([a[rim], b[rim]])] = 0
    return defects


def _mean_curvature(x: np.ndarray, faces: np.ndarray, normal: np.ndarray) -> float:
    a, b, first, second, _ = half_edges(faces)
    edge = x[b[first]] - x[a[first]]
    length = np.linalg.norm(edge, axis=1)
    p, q = normal[first // 3], normal[second // 3]
    sine = (np.cross(p, q) * edge).sum(1) / length
    return float(0.5 * (length * np.arctan2(sine, (p * q).sum(1))).sum())


def _beyond(x: np.ndarray, faces: np.ndarray, truth: TrueSurface) -> float:
    on_mesh = np.einsum("pc,fcd->fpd", BARYCENTRIC, x[faces]).reshape(-1, 3)
    return float(np.linalg.norm(on_mesh - truth.foot(on_mesh), axis=1).max())


def distance_to_mesh(queries: np.ndarray, x: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Distance (m,) of queries (m, D) to the nearest point of the mesh, exact: every triangle that can be nearest."""
    corners = x[faces]
    middle = corners.mean(1)
    radius = np.linalg.norm(corners - middle[:, None], axis=2).max()
    tree = cKDTree(middle)
    found = np.empty(len(queries))
    for rows in blocks(len(queries), 2048 * x.shape[1]):
        here = queries[rows]
        bound = distance_to_triangles(here, corners[tree.query(here)[1]])
        lists = tree.query_ball_point(here, bound * (1 + 1e-9) + radius)
        own = np.repeat(np.arange(len(here)), [len(found_) for found_ in lists])
        near = distance_to_triangles(here[own], corners[np.concatenate(lists).astype(int)])
        found[rows] = np.minimum.reduceat(near, np.flatnonzero(np.diff(own, prepend=-1)))
    return found


def distance_to_triangles(p: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distance (m,) of each point (m, D) to its triangle (m, 3, D): to the plane above the inside, else to a side."""
    side = np.roll(corners, -1, 1) - corners
    to = p[:, None] - corners
    along = ((to * side).sum(2) / np.maximum((side * side).sum(2), np.finfo(float).tiny)).clip(0, 1)
    border = np.linalg.norm(to - along[:, :, None] * side, axis=2).min(1)
    u, v, w = side[:, 0], -side[:, 2], to[:, 0]
    uu, uv, vv, wu, wv = ((a * b).sum(1) for a, b in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    double = np.maximum(uu * vv - uv * uv, np.finfo(float).tiny)
    s, t = (vv * wu - uv * wv) / double, (uu * wv - uv * wu) / double
    height = np.linalg.norm(w - s[:, None] * u - t[:, None] * v, axis=1)
    return np.where((s >= 0) & (t >= 0) & (s + t <= 1), np.minimum(height, border), border)


def geodesic_distances_on(x: np.ndarray, faces: np.ndarray, source: int, targets: np.ndarray) -> np.ndarray:
    """Lengths (t,) of straightest paths on an oriented mesh in space from one vertex to others: from the shortest path
    along edges, by flips of edges until it is a geodesic (Sharp and Crane, SIGGRAPH Asia 2020)."""
    solver = _library("potpourri3d").EdgeFlipGeodesicSolver(x, faces)
    paths = [solver.find_geodesic_path(source, int(target)) for target in targets]
    return np.array([np.linalg.norm(np.diff(path, axis=0), axis=1).sum() for path in paths])


def laplace_spectrum(x: np.ndarray, faces: np.ndarray, count: int) -> np.ndarray:
    """The `count` least eigenvalues of −Δ on a mesh in space, ascending, free at the boundary (Neumann)."""
    stiffness, mass = _library("robust_laplacian").mesh_laplacian(x, faces)
    shift = -1e-3 / areas(x, faces).sum()
    start = np.random.default_rng(0).standard_normal(len(x))
    return np.sort(eigsh(stiffness, count, mass, sigma=shift, v0=start, return_eigenvectors=False))


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{name} is missing: install the extra, pip install 'brenier[surface]'") from None
