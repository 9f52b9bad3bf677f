"""An atlas: overlapping local charts of data that no single chart can hold, verified, with the maps between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from brenier.checks import whole
from brenier.manifold.chart import Samples, like
from brenier.manifold.homeomorphism import Homeomorphism, on_samples
from brenier.manifold.isomap import isomap
from brenier.manifold.sampled import linked, neighbours, points

NEIGHBOURS = 10
LANDMARKS = 200  # of an Isomap chart
LOCAL = 3  # neighbours of a local linear map, in multiples of its unknowns


@dataclass(frozen=True, eq=False)
class LocalChart:
    """One chart: its `samples` (rows of the data, ascending), their `codes` (s, d), whether and how it was verified.

    A PCA chart is `mean` + `axes` z, (D,) and (D, d); an Isomap chart has neither: it is known at its samples.
    """

    centre: int
    radius: float
    samples: np.ndarray
    codes: np.ndarray
    verdict: Homeomorphism
    mean: np.ndarray | None
    axes: np.ndarray | None


class Transition(NamedTuple):
    """The overlap of charts `first` and `second`: samples `shared`, and the rms of code_second − φ(code_first), each
    sample left out of its own local map, as a share of the rms spread of the overlap's codes in the second chart.
    """

    first: int
    second: int
    shared: int
    residual: float


@dataclass(frozen=True, eq=False)
class Atlas:
    """Charts that cover the data; `weights` (n, c) is a partition of unity: rows sum to 1, zero outside a chart.

    `transitions` lists the overlaps; `error` is the rms of |x − decode(encode(x))| over the samples, each left out of
    its own local map, as a share of the data's rms spread.
    """

    x: np.ndarray
    charts: tuple[LocalChart, ...]
    weights: np.ndarray
    transitions: tuple[Transition, ...]
    error: float

    @property
    def verified(self) -> bool:
        """Whether every chart is a homeomorphism on its samples."""
        return all(chart.verdict.holds for chart in self.charts)

    def __str__(self) -> str:
        failed = [str(i) for i, chart in enumerate(self.charts) if not chart.verdict.holds]
        state = "every one verified" if not failed else f"not verified: {', '.join(failed)}; raise max_charts"
        return f"{len(self.charts)} charts, {state}; relative error {self.error:.2g}"

    def encode(self, x: Samples) -> tuple[Samples, Samples]:
        """The chart (m,) in which each x (m, D) weighs most, and its code (m, d) there."""
        rows = points(x, rows=1, columns=self.x.shape[1])
        chart = self.weights[cKDTree(self.x).query(rows)[1]].argmax(1)
        codes = np.empty((len(rows), self.charts[0].codes.shape[1]))
        for c in np.unique(chart):
            codes[chart == c] = _encode(self.charts[c], self.x, rows[chart == c])
        return like(x, chart), like(x, codes)

    def decode(self, chart: Samples, z: Samples) -> Samples:
        """Points (m, D) of codes z (m, d), each in its own `chart` (m,), affine near its code's nearest samples.

        Raises:
            ValueError: a chart that there is not, or shapes that don't fit.
        """
        codes = points(z, "codes", rows=1, columns=self.charts[0].codes.shape[1])
        which = np.broadcast_to(np.asarray(chart), len(codes))
        if which.min() < 0 or which.max() >= len(self.charts):
            raise ValueError(f"chart must lie in 0..{len(self.charts) - 1}, got {which.min()}..{which.max()}")
        out = np.empty((len(codes), self.x.shape[1]))
        for c in np.unique(which):
            own = self.charts[c]
            out[which == c] = local_linear(own.codes, self.x[own.samples], codes[which == c])
        return like(z, out)

    def transition(self, first: int, second: int, z: Samples) -> Samples:
        """Codes (m, d) in chart `second` of codes z (m, d) in chart `first`, by the samples in both.

        Raises:
            ValueError: the charts share fewer samples than a local map needs.
        """
        codes = points(z, "codes", rows=1, columns=self.charts[0].codes.shape[1])
        a, b = _shared(self.charts[first], self.charts[second])
        if len(a) <= _need(codes.shape[1]):
            raise ValueError(f"charts {first} and {second} share {len(a)} samples, too few for a map between them")
        return like(z, local_linear(a, b, codes))


def atlas(
    x: Samples, dim: int, *, k: int = NEIGHBOURS, chart: str = "pca", overlap: float = 0.3, max_charts: int = 128
) -> Atlas:
    """Overlapping charts to R^dim of samples x (n, D), as few as it takes until each is a homeomorphism on its samples.

    Patches are geodesic balls in the graph of k neighbours: centres are the samples farthest from those before, each
    ball reaches 1 + overlap times as far as the samples that are nearest to its centre. One chart a component to begin
    with; each patch that fails `homeomorphism` gets a further centre, its sample farthest from all centres, until none
    fails or there are `max_charts` (see `Atlas.verified`).
    "pca": codes are coordinates along the main axes of the patch. "isomap": classical scaling of the distances along
    the graph inside the patch (Tenenbaum, de Silva and Langford, Science 2000), for fewer and larger charts.
    Decoders and transition maps are affine fits to the nearest codes.

    Raises:
        ValueError: dim not between 1 and D, an unknown chart, copies of a row, k ≥ n, overlap ≤ 0, or max_charts below
            the number of components.

    Example:
        >>> turn = 2 * np.pi * np.random.default_rng(0).random(300)
        >>> circle = atlas(np.stack([np.cos(turn), np.sin(turn)], 1), dim=1)
        >>> circle.verified, len(circle.charts) > 1
        (True, True)
    """
    rows = points(x, rows=3)
    if not 1 <= whole("dim", dim, 1) <= rows.shape[1]:
        raise ValueError(f"dim must lie between 1 and the {rows.shape[1]} columns of x, got {dim}")
    if chart not in ("pca", "isomap"):
        raise ValueError(f"chart must be pca or isomap, got {chart!r}")
    if not overlap > 0:
        raise ValueError(f"overlap must be positive, got {overlap}")
    distance, index = neighbours(rows, k)
    graph = linked(distance, index)
    count, member = connected_components(graph, directed=False)
    if count > whole("max_charts", max_charts, 1):
        raise ValueError(f"the data fall into {count} components, more than max_charts {max_charts}")
    centres = [int(np.flatnonzero(member == c)[0]) for c in range(count)]
    known: dict[tuple[int, bytes], LocalChart] = {}
    while True:
        far = dijkstra(graph, indices=centres)
        charts = _charts(rows, graph, far, centres, (overlap, dim, k, chart), known)
        cells = far.argmin(0)
        further = [
            int(np.where(cells == c, far[c], 0).argmax()) for c, one in enumerate(charts) if not one.verdict.holds
        ]
        further = [i for i in further if i not in centres][: max_charts - len(centres)]
        if not further:
            break
        centres += further
    weights = np.stack([_bump(row, one) for row, one in zip(far, charts, strict=True)], 1)
    weights /= weights.sum(1, keepdims=True)
    spread = np.sqrt(np.square(rows - rows.mean(0)).sum(1).mean())
    return Atlas(rows, charts, weights, _transitions(charts, len(rows)), _error(rows, charts, weights) / spread)


def _charts(
    x: np.ndarray,
    graph: csr_array,
    far: np.ndarray,
    centres: list[int],
    settings: tuple[float, int, int, str],
    known: dict[tuple[int, bytes], LocalChart],
) -> tuple[LocalChart, ...]:
    """A chart around every centre, by the distances (c, n) from them; those of unchanged patches are known."""
    overlap, dim, k, kind = settings
    own = np.where(far.argmin(0) == np.arange(len(far))[:, None], far, 0).max(1)
    charts = []
    for centre, row, reach in zip(centres, far, (1 + overlap) * own, strict=True):
        reach = max(reach, np.sort(row)[min(_need(dim) + 1, len(row) - 1)])  # enough samples for a local map
        samples = np.flatnonzero(row <= reach)
        key = (centre, samples.tobytes())
        if key not in known:
            known[key] = _chart(x, graph, centre, float(reach), samples, dim, k, kind)
        charts.append(known[key])
    return tuple(charts)


def _chart(
    x: np.ndarray, graph: csr_array, centre: int, radius: float, samples: np.ndarray, dim: int, k: int, kind: str
) -> LocalChart:
    here = x[samples]
    mean = axes = None
    if kind == "pca":
        mean = here.mean(0)
        axes = np.linalg.svd(here - mean, full_matrices=False)[2][:dim].T
        codes = (here - mean) @ axes
    else:
        codes = isomap(csr_array(graph[samples][:, samples]), dim, min(len(samples), LANDMARKS)).codes
    found = on_samples(here, codes, min(k, len(samples) - 1))
    return LocalChart(centre, radius, samples, codes, found, mean, axes)


def _bump(distance: np.ndarray, chart: LocalChart) -> np.ndarray:
    """(1 − d/r)² inside the chart, 0 outside; on the rim of a ball around a cell it is positive in the cell."""
    inside = np.zeros(len(distance))
    inside[chart.samples] = np.square(1 - distance[chart.samples] / (chart.radius * (1 + 1e-9)))
    return inside


def _transitions(charts: tuple[LocalChart, ...], n: int) -> tuple[Transition, ...]:
    member = np.zeros((len(charts), n), dtype=np.float32)
    for row, chart in zip(member, charts, strict=True):
        row[chart.samples] = 1
    shared = (member @ member.T).astype(int)
    found = []
    for first, second in np.argwhere(shared > _need(charts[0].codes.shape[1])).tolist():
        if first != second:
            a, b = _shared(charts[first], charts[second])
            gap = np.square(local_linear(a, b, a, itself=False) - b).sum() / np.square(b - b.mean(0)).sum()
            found.append(Transition(first, second, len(a), float(np.sqrt(gap))))
    return tuple(found)


def _shared(first: LocalChart, second: LocalChart) -> tuple[np.ndarray, np.ndarray]:
    """The codes (s, d) in both charts of the samples that they share."""
    _, a, b = np.intersect1d(first.samples, second.samples, assume_unique=True, return_indices=True)
    return first.codes[a], second.codes[b]


def _error(x: np.ndarray, charts: tuple[LocalChart, ...], weights: np.ndarray) -> float:
    main, total = weights.argmax(1), 0.0
    for c, chart in enumerate(charts):
        own = main[chart.samples] == c
        back = local_linear(chart.codes, x[chart.samples], chart.codes, itself=False)
        total += float(np.square(back - x[chart.samples])[own].sum())
    return float(np.sqrt(total / len(x)))


def _encode(chart: LocalChart, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if chart.mean is not None:
        return (rows - chart.mean) @ chart.axes
    return local_linear(x[chart.samples], chart.codes, rows, chart.codes.shape[1])


def _need(dim: int) -> int:
    """Neighbours of a local affine fit in `dim` coordinates."""
    return LOCAL * (dim + 1)


def local_linear(
    a: np.ndarray, b: np.ndarray, queries: np.ndarray, dim: int | None = None, itself: bool = True
) -> np.ndarray:
    """What takes a (s, p) to b (s, q), at queries (m, p): an affine fit to the 3 (dim + 1) nearest rows of a, near ones
    weighing more (moving least squares, continuous in the query); along their `dim` main directions where p is larger.

    `itself` = False leaves out the nearest row: the queries are the rows of a, and none may speak for itself.
    """
    dim = dim or a.shape[1]
    count = min(_need(dim) + (not itself), len(a))
    distance, index = (v.reshape(len(queries), -1)[:, int(not itself) :] for v in cKDTree(a).query(queries, count))
    weight = np.square(1 - np.square(distance / (distance[:, -1:] * (1 + 1e-3) + np.finfo(float).tiny)))[..., None]
    total = weight.sum(1, keepdims=True)
    near, value = a[index], b[index]
    middle, centre = ((weight * v).sum(1, keepdims=True) / total for v in (near, value))
    local, at = near - middle, queries[:, None] - middle
    if dim < a.shape[1]:
        axes = np.linalg.svd(np.sqrt(weight) * local, full_matrices=False)[2][:, :dim].swapaxes(1, 2)
        local, at = local @ axes, at @ axes
    slope = np.linalg.pinv(np.sqrt(weight) * local) @ (np.sqrt(weight) * (value - centre))
    return (centre + at @ slope)[:, 0]
