"""Nets: few samples such that each sample is near one of them and they are far from each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, issparse
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.distance import cdist

from brenier.checks import whole
from brenier.manifold.chart import Samples, like
from brenier.manifold.sampled import blocks, points

SIZE = 256
GROUP = 1024


class Condition(NamedTuple):
    """Whether the covering radius is within the limit under which a theorem rebuilds the manifold, and its source."""

    holds: bool
    covering: float
    limit: float
    source: str


@dataclass(frozen=True, eq=False)
class EpsilonNet:
    """A net: `indices` (m,) of its samples, and of each sample `owner` (n,), a place in `indices`, and `distance` (n,).

    `covering_radius` is the largest distance of a sample to the net, `packing_radius` half the least distance inside
    the net (∞ for one point): balls of that radius around the net are disjoint.
    """

    indices: Samples
    owner: Samples
    distance: Samples
    covering_radius: float
    packing_radius: float

    def is_net(self, epsilon: float) -> bool:
        """Whether every disk of radius epsilon around a sample holds a net point, and net points stay epsilon apart."""
        return self.covering_radius <= epsilon <= 2 * self.packing_radius

    def conditions(self, reach: float | Samples, gap: float = 0.0) -> tuple[Condition, ...]:
        """What the net is dense enough for: on a manifold of this `reach`, or local feature sizes (n,) of the samples.

        `gap` is how far a point of the manifold may lie from the samples; it is added to the covering radius, for the
        theorems speak of the manifold, not of its samples.
        First the homology by a union of balls: covering < ½ √(3/5) reach (Niyogi, Smale and Weinberger, Discrete &
        Computational Geometry 2008, Prop. 3.1). Then, for surfaces in space, a homeomorphic triangulation: covering
        ≤ 0.06 times the local feature size (Amenta, Choi, Dey and Leekha, SoCG 2000).

        Raises:
            ValueError: reach is not positive, or is neither one number nor one per sample; gap is negative.

        Example:
            >>> net = epsilon_net(np.arange(11.0)[:, None], epsilon=1.5)
            >>> [condition.holds for condition in net.conditions(reach=5.0)]
            [True, False]
        """
        feature = np.asarray(reach, dtype=np.float64)
        if feature.shape not in ((), tuple(self.distance.shape)):
            raise ValueError(f"reach must be a number or one per sample, got shape {feature.shape}")
        if not (feature > 0).all():
            raise ValueError(f"reach must be positive, got {feature.min():g}")
        if not 0 <= gap < math.inf:
            raise ValueError(f"gap must be at least 0 and finite, got {gap}")
        covering, homology = self.covering_radius + gap, math.sqrt(3 / 5) / 2 * float(feature.min())
        local = np.broadcast_to(0.06 * feature, tuple(self.distance.shape))
        distance = np.asarray(self.distance, dtype=np.float64) + gap
        worst = int((distance / local).argmax())
        return (
            Condition(covering < homology, covering, homology, "Niyogi, Smale and Weinberger 2008"),
            Condition(bool((distance <= local).all()), distance[worst], local[worst], "Amenta, Choi, Dey, Leekha 2000"),
        )


def epsilon_net(
    x: Samples,
    epsilon: float | None = None,
    *,
    size: int | None = None,
    graph: csr_array | None = None,
    seed: int = 0,
) -> EpsilonNet:
    """A net of samples x (n, D), by `epsilon` or by `size` (256 at most where neither is given).

    `epsilon`: greedy in a seeded order, a sample joins if none in the net is within epsilon. So each sample has a net
    point within epsilon, and net points lie more than epsilon apart.
    `size`: farthest first from a seeded sample; its covering radius is at most twice the least possible for that size
    (Gonzalez, Theoretical Computer Science 1985) and at most the least distance inside the net.

    Distances are straight ones, or run along `graph`, a sparse symmetric (n, n) of edge lengths such as
    `neighbour_graph(x, k)`: geodesic disks. Memory stays bounded; time grows as n times the size of the net.

    Raises:
        ValueError: x is not finite or not (n, D); epsilon is not positive; both epsilon and size; size below 1 or above
            the number of distinct rows; a graph of another size, or with more components than net points.

    Example:
        >>> net = epsilon_net(np.arange(11.0)[:, None], size=2)
        >>> net.covering_radius <= 2 * net.packing_radius
        True
    """
    rows = points(x, rows=1)
    if epsilon is not None and size is not None:
        raise ValueError(f"give epsilon or size, not both, got {epsilon} and {size}")
    if epsilon is not None and not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be positive and finite, got {epsilon}")
    if graph is not None and (not issparse(graph) or graph.shape != (len(rows), len(rows))):
        raise ValueError(f"graph must be a sparse array of shape {(len(rows), len(rows))}, one row per sample")
    order = np.random.default_rng(seed).permutation(len(rows))
    rows -= rows.mean(0)
    if epsilon is None:
        m = min(SIZE, len(rows)) if size is None else whole("size", size, 1)
        chosen = _farthest(_straight(rows) if graph is None else _along(graph), m, int(order[0]))
        if size is not None and len(chosen) < size:
            raise ValueError(f"size must be at most the {len(chosen)} distinct rows of x, got {size}")
    else:
        chosen = _greedy(rows, epsilon, order) if graph is None else _greedy_along(graph, epsilon, order)
    owner, distance, apart = _owners(rows, chosen) if graph is None else _owners_along(graph, chosen)
    return EpsilonNet(like(x, chosen), like(x, owner), like(x, distance), float(distance.max()), apart / 2)


def _straight(x: np.ndarray) -> Callable[[int], np.ndarray]:
    norms = np.square(x).sum(1)
    rounding = 1e-10 * norms.max()

    def distances(i: int) -> np.ndarray:
        squares = norms + norms[i] - 2 * (x @ x[i])
        close = squares <= rounding
        squares[close] = np.square(x[close] - x[i]).sum(1)
        return np.sqrt(squares)

    return distances


def _along(graph: csr_array) -> Callable[[int], np.ndarray]:
    return lambda i: dijkstra(graph, indices=i)


def _farthest(distances: Callable[[int], np.ndarray], size: int, first: int) -> np.ndarray:
    """Indices of at most `size` samples, each the farthest from those before it; fewer if none is left apart."""
    chosen = [first]
    near = distances(first)
    while len(chosen) < size and near.max() > 0:
        chosen.append(int(near.argmax()))
        near = np.minimum(near, distances(chosen[-1]))
    return np.array(chosen)


def _greedy(x: np.ndarray, epsilon: float, order: np.ndarray) -> np.ndarray:
    """Indices of samples more than epsilon apart, to one of which every sample is within epsilon."""
    chosen, left = [], order
    while len(left):
        group, left = left[:GROUP], left[GROUP:]
        near = cdist(x[group], x[group]) <= epsilon
        free, joins = np.ones(len(group), dtype=bool), []
        for i in range(len(group)):
            if free[i]:
                joins.append(i)
                free &= ~near[i]
        chosen.append(group[joins])
        left = left[_closest(x[left], x[chosen[-1]])[1] > epsilon]
    return np.concatenate(chosen)


def _greedy_along(graph: csr_array, epsilon: float, order: np.ndarray) -> np.ndarray:
    free, chosen = np.ones(len(order), dtype=bool), []
    for i in order:
        if free[i]:
            chosen.append(i)
            free &= dijkstra(graph, indices=i, limit=epsilon) > epsilon
    return np.array(chosen)


def _closest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every row of a the closest row of b, and its distance, taken anew from the difference."""
    index, distance = np.empty(len(a), dtype=np.int64), np.empty(len(a))
    norms = np.square(b).sum(1)
    for rows in blocks(len(a), max(len(b), a.shape[1])):
        index[rows] = (norms - 2 * (a[rows] @ b.T)).argmin(1)
        distance[rows] = np.linalg.norm(a[rows] - b[index[rows]], axis=1)
    return index, distance


def _owners(x: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Of every sample its place in the net and its distance; the least distance inside the net."""
    owner, distance = _closest(x, x[chosen])
    owner[chosen], distance[chosen] = np.arange(len(chosen)), 0
    apart, net = math.inf, x[chosen]
    norms = np.square(net).sum(1)
    for rows in blocks(len(net), len(net)):
        squares = norms - 2 * (net[rows] @ net.T)
        squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = math.inf
        if len(net) > 1:
            apart = min(apart, float(np.linalg.norm(net[rows] - net[squares.argmin(1)], axis=1).min()))
    return owner, distance, apart


def _owners_along(graph: csr_array, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The same along a graph; a shortest path between two net points crosses from the cell of one to the other's."""
    distance, _, source = dijkstra(graph, indices=chosen, min_only=True, return_predecessors=True)
    if np.isinf(distance).any():
        raise ValueError(f"a net of {len(chosen)} points misses whole components of the graph; raise size")
    place = np.full(graph.shape[0], -1)
    place[chosen] = np.arange(len(chosen))
    edges = graph.tocoo()
    a, b = edges.coords
    across = source[a] != source[b]
    lengths = distance[a[across]] + edges.data[across] + distance[b[across]]
    return place[source], distance, float(lengths.min(initial=math.inf))
