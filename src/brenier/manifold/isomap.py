"""Landmark Isomap: codes whose distances follow the geodesic distances of the neighbour graph."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array, issparse
from scipy.sparse.csgraph import connected_components

from brenier.checks import whole
from brenier.manifold.chart import Samples, like
from brenier.manifold.graph import NEIGHBOURS, as_graph, graph_geodesics, neighbour_graph
from brenier.solution import Estimate

ALL = 2000  # samples of a component up to which every one is a landmark
LANDMARKS = 500  # of a larger one
ROUNDING = 1e-10  # an eigenvalue below this share of the largest is none


@dataclass(frozen=True)
class Isomap:
    """Isomap's codes, component by component.

    codes: (n, dim), of the kind of the samples; every component has its own origin, so that distances between two of
    them mean nothing. components: (n,) from 0, the largest first. landmarks: rows (l,). eigenvalues: of each component,
    all of its landmarks' in falling order; a step after the d-th says that it has d dimensions, negative ones that no
    flat space holds its distances. stress: √(Σ (g − |z − z'|)² / Σ g²) over pairs of a landmark and a sample of its
    component with geodesic distance g, its error by a jackknife over landmarks.
    """

    codes: Samples
    components: np.ndarray = field(repr=False)
    landmarks: np.ndarray = field(repr=False)
    eigenvalues: tuple[np.ndarray, ...] = field(repr=False)
    stress: Estimate

    def __str__(self) -> str:
        sizes = np.bincount(self.components)
        what = f"{len(sizes)} components, the largest of {sizes[0]} samples" if len(sizes) > 1 else "one component"
        return (
            f"{self.codes.shape[1]} coordinates of {len(self.codes)} samples in {what}; geodesic stress {self.stress}"
        )


def isomap(
    x: Samples | csr_array, dim: int, landmarks: int | None = None, k: int = NEIGHBOURS, *, seed: int = 0
) -> Isomap:
    """Codes (n, dim) of samples x (n, ...), or of their graph, with distances that follow the geodesic ones.

    Classical scaling of l landmarks: with D their squared geodesic distances and H = I − 1/l, −H D H / 2 has
    eigenvalues λ and eigenvectors v; a sample at squared distances δ from them has the coordinates
    −v·(δ − mean D) / (2 √λ), for the largest λ (de Silva and Tenenbaum 2004). Then each component is turned to its
    principal axes, the entry of largest modulus in each coordinate positive. All samples being landmarks it is Isomap
    (Tenenbaum et al. 2000).

    Components are kept apart. landmarks: how many in all, shared out by size, in each component at least dim + 2 or
    all; None: all up to 2,000 samples of a component, 500 of a larger one. They are drawn evenly by `seed`: farthest
    points would be outliers in many dimensions. Coordinates beyond the positive eigenvalues are 0. Memory: 16 l n
    bytes.

    Raises:
        ValueError: dim or landmarks out of range; what `neighbour_graph` refuses.

    Example:
        >>> t = np.linspace(0, 3, 50)
        >>> arc = isomap(np.stack([np.cos(t), np.sin(t)], 1), dim=1, k=2)
        >>> bool(np.allclose(np.abs(np.diff(arc.codes[:, 0])), t[1], rtol=1e-2))
        True
    """
    graph = as_graph(x) if issparse(x) else neighbour_graph(x, k)
    n = graph.shape[0]
    whole("dim", dim, 1)
    if landmarks is not None and whole("landmarks", landmarks, 1) > n:
        raise ValueError(f"landmarks must not exceed the {n} samples, got {landmarks}")
    random = np.random.default_rng(seed)
    components = _by_size(connected_components(graph, directed=False)[1])
    codes, chosen, eigenvalues, sums = np.zeros((n, dim)), [], [], []
    for part in range(components.max() + 1):
        rows = np.flatnonzero(components == part)
        drawn = random.permutation(len(rows))[: _share(len(rows), n, dim, landmarks)]
        found = graph_geodesics(csr_array(graph[rows][:, rows]), np.sort(drawn))
        codes[rows], values = _scaled(found.distances, found.landmarks, dim)
        sums.append(stress_sums(found.distances, codes[rows], found.landmarks))
        chosen.append(rows[found.landmarks])
        eigenvalues.append(values)
    given = codes if issparse(x) else like(x, codes)
    return Isomap(given, components, np.concatenate(chosen), tuple(eigenvalues), stress_of(np.concatenate(sums)))


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Components (n,) numbered by falling size."""
    rank = np.argsort(np.argsort(-np.bincount(labels), kind="stable"))
    return rank[labels]


def _share(size: int, n: int, dim: int, landmarks: int | None) -> int:
    """How many landmarks a component of some size gets."""
    if landmarks is None:
        return size if size <= ALL else LANDMARKS
    return min(size, max(dim + 2, round(landmarks * size / n)))


def _scaled(distances: np.ndarray, landmarks: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n, dim) by classical scaling from distances (l, n) to landmarks (l,), and all eigenvalues (l,)."""
    squares = np.square(distances)
    among = squares[:, landmarks]
    mean = among.mean(1)
    values, vectors = np.linalg.eigh(-(among - mean - mean[:, None] + mean.mean()) / 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = min(dim, int((values > ROUNDING * values[0]).sum()))
    squares -= mean[:, None]
    codes = squares.T @ (vectors[:, :kept] / (-2 * np.sqrt(values[:kept])))
    codes -= codes.mean(0)
    codes = codes @ np.linalg.eigh(codes.T @ codes)[1][:, ::-1]
    peak = np.abs(codes).argmax(0)
    codes *= np.sign(codes[peak, np.arange(kept)])
    return np.pad(codes, ((0, 0), (0, dim - kept))), values


def stress_sums(distances: np.ndarray, codes: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Of each landmark Σ g², Σ g r and Σ r² (l, 3) over its finite graph distances g (l, n), r the codes' distances."""
    sums = np.empty((len(landmarks), 3))
    for i, (row, g) in enumerate(zip(landmarks, distances, strict=True)):
        finite = np.isfinite(g)
        g, r = g[finite], np.linalg.norm(codes[finite] - codes[row], axis=1)
        sums[i] = g @ g, g @ r, r @ r
    return sums


def stress_of(sums: np.ndarray, scaled: bool = False) -> Estimate:
    """√(Σ (g − s r)² / Σ g²) from the sums of l landmarks, s = 1 or the best; error by a jackknife over landmarks."""
    every = sums.sum(0)
    stress = _stress(every, scaled)
    without = np.array([_stress(every - own, scaled) for own in sums])
    return Estimate(stress, float(np.sqrt((len(sums) - 1) * without.var())))


def _stress(sums: np.ndarray, scaled: bool) -> float:
    gg, gr, rr = sums
    if gg <= 0:
        return 0.0
    square = 1 - gr**2 / (gg * rr) if scaled and rr > 0 else 1 - (2 * gr - rr) / gg
    return float(np.sqrt(max(square, 0.0)))
