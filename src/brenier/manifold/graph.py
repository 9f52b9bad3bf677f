"""The neighbour graph of samples, and distances along it."""

from __future__ import annotations

import math
from hashlib import blake2b
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array, issparse
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import KDTree
from torch import Tensor

from brenier.checks import whole
from brenier.manifold.chart import Samples, like, take

NEIGHBOURS = 10
TREE = 6  # up to this many columns a k-d tree is quicker than products
GROUP = 64  # columns whose least distance is looked at first
BLOCK = 2**22  # entries of a block of distances
EXACT = 100_000  # rows up to which "auto" compares all pairs


class Geodesics(NamedTuple):
    """Distances (l, n) from l landmarks along a graph, the landmarks' rows (l,), every row's component (n,) from 0.

    A distance between two components is inf.
    """

    distances: np.ndarray
    landmarks: np.ndarray
    components: np.ndarray


def neighbour_graph(x: Samples, k: int = NEIGHBOURS, method: str = "auto", seed: int = 0) -> csr_array:
    """The symmetric graph of samples x (n, ...): (n, n) sparse Euclidean distances, float64.

    i and j are neighbours where either is one of the other's k nearest distinct rows. Copies of a row are joined to the
    first of them by an edge of length 0, which is stored.

    "exact": a k-d tree up to 6 columns, else all pairs by blocked products on the device of x, in single precision,
    with a bound on the rounding; the rows where it can't tell are compared again in double. Memory: a block of
    2^22 entries. "approximate": nearest-neighbour descent (Dong et al., WWW 2011) by pynndescent. "auto" is exact to
    100,000 rows or 6 columns.

    Raises:
        ValueError: NaN or Inf, k from k ≥ n on, or an unknown method.
        ImportError: approximate without pynndescent.

    Example:
        >>> neighbour_graph(np.array([[0.0], [1.0], [3.0]]), k=1).toarray()
        array([[0., 1., 0.],
               [1., 0., 2.],
               [0., 2., 0.]])
    """
    if method not in ("auto", "exact", "approximate"):
        raise ValueError(f"method must be auto, exact or approximate, got {method!r}")
    rows = as_rows(x)
    n, k = len(rows), whole("k", k, 1)
    first = _first_copies(rows.cpu().numpy())
    kept = np.flatnonzero(first == np.arange(n))
    if k >= len(kept):
        raise ValueError(f"k must be less than the number of distinct samples, got k {k} for {len(kept)} of {n}")
    approximate = method == "approximate" or (method == "auto" and n > EXACT and rows.shape[1] > TREE)
    distinct = rows[torch.from_numpy(kept).to(rows.device)] if len(kept) < n else rows
    distances, near = _descent(distinct, k, seed) if approximate else nearest(distinct, k)
    return _symmetric(distances.cpu().double().numpy(), near.cpu().numpy(), kept, first)


def geodesic_distances(
    x: Samples | csr_array, landmarks: int | np.ndarray, k: int = NEIGHBOURS, *, connected: bool = False, seed: int = 0
) -> Samples:
    """The distances (l, n) of `graph_geodesics`, of the kind of the samples; inf between components.

    Raises:
        ValueError: as `graph_geodesics`.

    Example:
        >>> geodesic_distances(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), [0], k=1)
        array([[0., 1., 2.]])
    """
    distances = graph_geodesics(x, landmarks, k, connected=connected, seed=seed).distances
    return distances if issparse(x) else like(x, distances)


def graph_geodesics(
    x: Samples | csr_array, landmarks: int | np.ndarray, k: int = NEIGHBOURS, *, connected: bool = False, seed: int = 0
) -> Geodesics:
    """Lengths of the shortest paths from landmarks to all samples along their neighbour graph: Isomap's distances.

    x holds samples (n, ...) or is their graph, as `neighbour_graph` gives it (k is then not read). landmarks: rows, or
    how many; then the first is drawn by `seed` and each next one is the row farthest from those before, so that every
    component gets one as long as there are enough. Dijkstra's algorithm, O(l k n log n); memory 8 l n bytes.

    Source: Tenenbaum, de Silva and Langford, Science 2000; the choice of landmarks: de Silva and Tenenbaum 2004.

    Raises:
        ValueError: landmarks that are no rows or more than n; what `neighbour_graph` refuses; with `connected`, a graph
            of more than one component, whose sizes it says.

    Example:
        >>> corner = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
        >>> graph_geodesics(corner, [0], k=1).distances
        array([[0., 1., 2.]])
    """
    graph = as_graph(x) if issparse(x) else neighbour_graph(x, k)
    n = graph.shape[0]
    parts, components = connected_components(graph, directed=False)
    if connected and parts > 1:
        sizes = ", ".join(map(str, np.sort(np.bincount(components))[:-6:-1])) + (", …" if parts > 5 else "")
        raise ValueError(
            f"the neighbour graph has {parts} components, of {sizes} samples: raise k or take one at a time"
        )
    if np.ndim(landmarks) == 0:
        count = whole("landmarks", landmarks, 1)
        if count > n:
            raise ValueError(f"landmarks must not exceed the {n} samples, got {count}")
        return Geodesics(*_farthest(graph, count, seed), components)
    rows = np.asarray(landmarks)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
        raise TypeError(f"landmarks must be a number or rows (l,), got {rows.dtype} of shape {rows.shape}")
    if rows.min() < 0 or rows.max() >= n:
        raise ValueError(f"landmarks must be rows of the {n} samples, got {rows.min()} to {rows.max()}")
    return Geodesics(dijkstra(graph, indices=rows), rows, components)


def as_graph(graph: csr_array) -> csr_array:
    """A sparse (n, n) matrix as a symmetric graph; what is stored is an edge, also of length 0.

    Raises:
        ValueError: not square, not symmetric, an edge from a node to itself, or a negative or infinite length.
    """
    graph = csr_array(graph, copy=True)
    if graph.shape[0] != graph.shape[1]:
        raise ValueError(f"a graph must be square, got {graph.shape}")
    graph.sum_duplicates()
    if not (np.isfinite(graph.data).all() and (graph.data >= 0).all()):
        raise ValueError(f"a graph's lengths must be finite and not negative, got {graph.data.min()}")
    rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    loop = rows == graph.indices
    if loop.any():
        raise ValueError(f"a graph must have no edge from a node to itself, got one at node {rows[loop][0]}")
    turned = csr_array(graph.T)
    turned.sort_indices()
    if not all(np.array_equal(getattr(graph, part), getattr(turned, part)) for part in ("indptr", "indices", "data")):
        raise ValueError("a graph must be symmetric, got another one when turned over")
    return graph


def _farthest(graph: csr_array, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (count, n) from rows each of which is the farthest from those before, and the rows."""
    n = graph.shape[0]
    distances, rows = np.empty((count, n)), np.empty(count, dtype=np.int64)
    covered = np.full(n, np.inf)
    rows[0] = np.random.default_rng(seed).integers(n)
    for i in range(count):
        if i:
            rows[i] = covered.argmax()
        distances[i] = dijkstra(graph, indices=rows[i])
        np.minimum(covered, distances[i], out=covered)
    return distances, rows


def _symmetric(distances: np.ndarray, near: np.ndarray, kept: np.ndarray, first: np.ndarray) -> csr_array:
    """The graph of n rows from neighbours (m, k) among m of them and the first copy (n,) of each, at distance 0."""
    n, (m, k) = len(first), near.shape
    i, j = np.repeat(np.arange(m), k), near.ravel()
    _, once = np.unique(np.minimum(i, j) * m + np.maximum(i, j), return_index=True)
    copies = np.flatnonzero(first != np.arange(n))
    low, high = np.concatenate([kept[i[once]], copies]), np.concatenate([kept[j[once]], first[copies]])
    lengths = np.concatenate([distances.ravel()[once], np.zeros(len(copies))])
    ends = np.concatenate([low, high]), np.concatenate([high, low])
    return csr_array(coo_array((np.tile(lengths, 2), ends), shape=(n, n)))


def _first_copies(rows: np.ndarray) -> np.ndarray:
    """The first row (n,) that equals each row, known by a digest of its bytes."""
    seen: dict[bytes, int] = {}
    digests = (blake2b(row, digest_size=16).digest() for row in rows + 0.0)  # −0 becomes 0
    return np.array([seen.setdefault(digest, i) for i, digest in enumerate(digests)])


def _descent(rows: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """Distances and indices (n, k) by nearest-neighbour descent, distances anew from the differences."""
    search = library("pynndescent", "pynndescent", "the approximate neighbour graph")
    values = rows.cpu().numpy()
    index = search.NNDescent(values, n_neighbors=2 * k + 1, random_state=seed, n_jobs=torch.get_num_threads())
    near = torch.from_numpy(index.neighbor_graph[0].astype(np.int64))
    if near.min() < 0:
        raise ArithmeticError(f"nearest-neighbour descent found fewer than {2 * k} neighbours; use method exact")
    distances, near = _sorted(rows.cpu(), torch.arange(len(rows)), near)
    return _without_itself(distances, near, k)


def library(name: str, package: str, what: str) -> ModuleType:
    """An optional library, imported when used.

    Raises:
        ImportError: it is missing; the sentence says what to install.
    """
    try:
        return import_module(name)
    except ImportError:
        raise ImportError(f"{what} needs {package}: pip install 'brenier[embed]'") from None


def nearest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances and indices (n, k) of the k < n nearest other rows of x (n, D), nearest first; exact in x's precision.

    Example:
        >>> nearest(torch.tensor([[0.0], [1.0], [3.0]]), 1)[1].T
        tensor([[1, 0, 1]])
    """
    n = len(x)
    if x.shape[1] <= TREE and x.device.type == "cpu":
        lengths, others = map(torch.from_numpy, KDTree(x.numpy()).query(x.numpy(), k + 1))
        return _without_itself(lengths.to(x.dtype), others, k)
    distances, near = x.new_empty(n, k), torch.empty(n, k, dtype=torch.long, device=x.device)
    left = torch.arange(n, device=x.device)
    for dtype in (torch.float32, torch.float64):
        distances[left], near[left], sure = _among(x, left, k, dtype)
        left = left[~sure]
        if not len(left):
            return distances, near
    for rows in left.split(max(1, BLOCK // n)):  # by differences alone
        apart = torch.cdist(x[rows], x, compute_mode="donot_use_mm_for_euclid_dist")
        apart[torch.arange(len(rows)), rows] = math.inf
        distances[rows], near[rows] = apart.topk(k, largest=False)
    return distances, near


def _among(x: Tensor, rows: Tensor, k: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Of some rows the k nearest others, distances and indices, and whether rounding in dtype can't have hidden one.

    Candidates are the least of |b|² − 2 a·b, their distances are taken anew from the differences. To find them, each
    group of columns is first known by its least entry: the c least entries lie in the c groups with the least.
    """
    n, c = len(x), min(2 * k + 6, len(x) - 1)
    y = (x - x.mean(0)).to(dtype)
    norms = y.square().sum(1)
    padding = -n % GROUP
    columns = torch.nn.functional.pad(y, (0, 0, 0, padding))
    lengths = torch.nn.functional.pad(norms, (0, padding), value=math.inf)
    rounding = 2 * torch.finfo(dtype).eps * (math.sqrt(x.shape[1]) + 4) * (norms + norms.max())
    step = max(1, BLOCK // len(columns))
    memory = y.new_empty(min(step, len(rows)), len(columns))
    # the answers have their place before the blocks: between them they would break up the memory that blocks free
    distances, indices = x.new_empty(len(rows), k), rows.new_empty(len(rows), k)
    sure = torch.empty(len(rows), dtype=torch.bool, device=x.device)
    for here in torch.arange(len(rows)).split(step):
        own = rows[here]
        block = torch.addmm(lengths, y[own], columns.T, alpha=-2, out=memory[: len(own)])
        block[torch.arange(len(own)), own] = math.inf
        groups = block.view(len(own), GROUP, -1)
        chosen = groups.amin(1).topk(min(c, groups.shape[2]), largest=False).indices
        values, place = groups.gather(2, chosen[:, None].expand(-1, GROUP, -1)).flatten(1).topk(c, largest=False)
        near = place // chosen.shape[1] * groups.shape[2] + chosen.gather(1, place % chosen.shape[1])
        distance, near = _sorted(x, own, near)
        floor = values[:, -1] + norms[own] - rounding[own]  # nothing left out is nearer
        sure[here] = (distance[:, k - 1].square() <= floor) | (c == n - 1)
        distances[here], indices[here] = distance[:, :k], near[:, :k]
    return distances, indices, sure


def _sorted(x: Tensor, rows: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Distances from some rows of x to others (m, c), from the differences, and these, nearest first."""
    wide = max(1, BLOCK // near[0].numel() // x.shape[1])
    gaps = [(x[i, None] - x[j]).norm(dim=2) for i, j in zip(rows.split(wide), near.split(wide), strict=True)]
    distance, order = torch.cat(gaps).sort(dim=1, stable=True)
    return distance, near.gather(1, order)


def _without_itself(distances: Tensor, near: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k of each row's neighbours, nearest first, but for itself (missing among copies)."""
    distances = distances.masked_fill(near == torch.arange(len(near))[:, None], math.inf)
    distances, order = distances.sort(dim=1, stable=True)
    return distances[:, :k], near.gather(1, order[:, :k])


def as_rows(x: Samples) -> Tensor:
    """Samples (n, ...) as finite rows (n, D) of float32 or float64."""
    if x.ndim < 2 or math.prod(x.shape) == 0:
        raise ValueError(f"x must hold samples (n, ...) with entries, got shape {tuple(x.shape)}")
    rows = take(x, slice(None)).detach().flatten(1)
    rows = rows if rows.dtype == torch.float64 else rows.float()
    bad = (~rows.isfinite().all(1)).nonzero()[:, 0]
    if len(bad):
        raise ValueError(f"x must be finite, got NaN or Inf in row {bad[0]}")
    return rows
