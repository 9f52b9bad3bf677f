"""Linear systems of a weighted graph's Laplacian: conjugate gradients after an approximate elimination of the nodes."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from brenier.compiled import compiled

ITERATIONS = 200  # of conjugate gradients; 60 give twelve digits on a plane graph of 300,000 nodes
Graph = tuple[np.ndarray, np.ndarray, np.ndarray]  # a sparse matrix's index pointers, indices and weights
Factor = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def solve(laplacian: csr_array, b: np.ndarray, rtol: float) -> np.ndarray:
    """The x of mean zero with (L x)_i = Σ_j w_ij (x_i − x_j) = b_i, w_ij = −L_ij ≥ 0, up to |L x − b| ≤ rtol |b|.

    In every connected component b is taken without its mean, and x has mean zero. The preconditioner eliminates the
    nodes, those with few neighbours first. A node with weights w_1 ≤ … ≤ w_k and sum s would leave a clique of weights
    w_a w_b / s; here each neighbour a < k is joined to one b > a, drawn with probability w_b / r_a, r_a = Σ_{c>a} w_c,
    by w_a r_a / s: the clique in expectation, with k − 1 edges. Nothing is subtracted, so that weights of any range do
    no harm. The seed is fixed. Nearly linear in the number of edges.

    Args:
        laplacian: (n, n), symmetric; its diagonal is not read.
        b: (n,).
        rtol: bound of the residual. That of the x rounded to ε = 2⁻⁵³, about ε |w| |x|, is out of anyone's reach.

    Source: Kyng and Sachdeva 2016; Gao, Kyng and Spielman 2023.

    Example:
        >>> path = csr_array(np.array([[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]]))
        >>> solve(path, np.array([1.0, 0.0, -1.0]), 1e-9).round(6) + 0.0
        array([ 1.,  0., -1.])
    """
    weight = np.maximum(-laplacian.data.astype(np.float64), 0)
    graph = laplacian.indptr.astype(np.uint32), laplacian.indices.astype(np.uint32), weight
    factor = _factor(graph)
    component = _components(factor)
    b = _centred(b, component)
    x, r = np.zeros(len(b)), b
    size = reached = np.sqrt(np.square(b).sum())
    while not reached <= rtol * size:  # more than once only where rounding parts the updated residual from the true one
        x = _centred(x + _conjugate(graph, factor, r, rtol * size), component)
        r, before = b - _product(graph, x), reached
        reached = np.sqrt(np.square(r).sum())
        if not reached <= max(rtol * size, before / 2):
            raise ArithmeticError(f"the residual of {len(b)} linear equations is {reached / size:.1e}, not {rtol:.1e}")
    return x


def of_distances(sides: csr_array, y: np.ndarray) -> csr_array:
    """The Laplacian (n, n) of the weights F_ij / |y_i − y_j|: F = `sides` symmetric without a diagonal, y (n, d).

    Example:
        >>> sides = csr_array(np.array([[0.0, 1.0], [1.0, 0.0]]))
        >>> of_distances(sides, np.array([[0.0, 0.0], [2.0, 0.0]])).toarray()
        array([[ 0.5, -0.5],
               [-0.5,  0.5]])
    """
    parts = _of_distances(sides.indptr, sides.indices, sides.data, y)
    return csr_array(parts, shape=sides.shape)


@compiled
def _of_distances(
    start: np.ndarray, near: np.ndarray, size: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, indices and pointers of the matrix: the diagonal comes first in each row."""
    n, d = y.shape
    begin, names, values = np.empty_like(start), np.empty(len(near) + n, near.dtype), np.empty(len(near) + n)
    begin[0] = 0
    for i in range(n):
        total, at = 0.0, start[i] + i
        for k in range(start[i], start[i + 1]):
            square = 0.0
            for axis in range(d):
                square += (y[i, axis] - y[near[k], axis]) ** 2
            weight = size[k] / np.sqrt(square)
            names[k + i + 1], values[k + i + 1] = near[k], -weight
            total += weight
        names[at], values[at], begin[i + 1] = i, total, start[i + 1] + i + 1
    return values, names, begin


def _centred(x: np.ndarray, component: np.ndarray) -> np.ndarray:
    """Without its mean over each component, which is named by one of its nodes."""
    return x - (np.bincount(component, x) / np.bincount(component).clip(1))[component]


@compiled
def _product(graph: Graph, x: np.ndarray) -> np.ndarray:
    """Σ_j w_ij (x_i − x_j): differences of large close numbers are exact, those of their multiples are not."""
    (start, near, weight), out = graph, np.empty_like(x)
    for i in range(len(x)):
        total = 0.0
        for k in range(start[i], start[i + 1]):
            total += weight[k] * (x[i] - x[near[k]])
        out[i] = total
    return out


@compiled
def _dot(x: np.ndarray, y: np.ndarray) -> float:
    total = 0.0
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@compiled
def _conjugate(graph: Graph, factor: Factor, b: np.ndarray, most: float) -> np.ndarray:
    """Conjugate gradients from x = 0 until |L x − b| ≤ most."""
    x, p, z, r, before = np.zeros_like(b), np.zeros_like(b), np.empty_like(b), b.copy(), np.inf
    for _ in range(ITERATIONS):
        _eliminate(factor, r, z)
        now = _dot(r, z)
        for i in range(len(p)):
            p[i] = z[i] + now / before * p[i]
        q, before = _product(graph, p), now
        curvature = _dot(p, q)
        if not curvature > 0:
            break
        for i in range(len(p)):
            x[i] += now / curvature * p[i]
            r[i] -= now / curvature * q[i]
        if _dot(r, r) <= most * most:
            break
    return x


@compiled
def _eliminate(factor: Factor, b: np.ndarray, x: np.ndarray) -> None:
    """The preconditioner, x = F D⁺ Fᵀ b: b_i is dealt to later neighbours; then x_i is their mean plus b_i / s."""
    order, sums, start, to, share = factor
    for i in range(len(x)):
        x[i] = b[i]
    for t in range(len(order)):
        flow = x[order[t]]
        for k in range(start[t], start[t + 1]):
            x[to[k]] += share[k] * flow
    for t in range(len(order) - 1, -1, -1):
        total = x[order[t]] / sums[t] if sums[t] > 0 else 0.0
        for k in range(start[t], start[t + 1]):
            total += share[k] * x[to[k]]
        x[order[t]] = total


@compiled
def _components(factor: Factor) -> np.ndarray:
    """For each node the last one of its component."""
    order, _, start, to, _ = factor
    name = np.empty(len(order), np.int64)
    for t in range(len(order) - 1, -1, -1):
        name[order[t]] = name[to[start[t]]] if start[t] < start[t + 1] else order[t]
    return name


@compiled
def _factor(graph: Graph) -> Factor:
    """The nodes in the order of their elimination, their sums s, and the shares w_a / s of their neighbours by then.

    Those of node order[t] are to[k] and share[k], start[t] ≤ k < start[t + 1]. Edge e is the halves 2e and 2e + 1, one
    listed at either end: half h leads to end[h], and after[h] comes next. An edge of an eliminated node becomes the one
    between two of its neighbours. Nodes wait in lists by degree; one whose degree has risen moves when its turn comes.
    """
    start, near, weight = graph
    n, edges, most = len(start) - 1, 0, len(near)
    end, after, w = np.empty(2 * most, np.int32), np.empty(2 * most, np.int32), np.empty(most)
    first, degree = np.full(n, -1, np.int32), np.zeros(n, np.int32)
    for i in range(n):
        for k in range(start[i], start[i + 1]):
            j, h = near[k], 2 * edges
            if j < i and weight[k] > 0:
                end[h], after[h], first[i] = j, first[i], h
                end[h + 1], after[h + 1], first[j] = i, first[j], h + 1
                w[edges] = weight[k]
                degree[i] += 1
                degree[j] += 1
                edges += 1
    waiting, below = np.full(n + 1, -1, np.int32), np.empty(n, np.int32)
    for i in range(n):
        below[i], waiting[degree[i]] = waiting[degree[i]], i
    order, sums, begin = np.empty(n, np.uint32), np.empty(n), np.zeros(n + 1, np.uint32)
    to, share = np.empty(2 * edges + n, np.uint32), np.empty(2 * edges + n)
    place, half, rest = np.full(n, -1, np.int32), np.empty(n, np.int32), np.empty(n + 1)
    state, least = np.uint64(1), 0
    for t in range(n):
        while waiting[least] < 0 or (degree[waiting[least]] > least and least < n):
            v = waiting[least]
            if v < 0:
                least += 1
            else:
                waiting[least] = below[v]
                below[v], waiting[min(degree[v], n)] = waiting[min(degree[v], n)], v
        v = waiting[least]
        waiting[least], size, h = below[v], 0, first[v]
        while h >= 0:  # the neighbours; parallel edges become one
            j, e = end[h], h >> 1
            if w[e] > 0 and place[j] < 0:
                place[j], half[size], rest[size] = size, h, w[e]
                size += 1
            elif w[e] > 0:
                rest[place[j]] += w[e]
                w[e] = 0.0
                degree[j] -= 1
            h = after[h]
        for a in range(size):  # by rising weight
            h, x, c = half[a], rest[a], a
            place[end[h]] = -1
            while c > 0 and rest[c - 1] > x:
                half[c], rest[c] = half[c - 1], rest[c - 1]
                c -= 1
            half[c], rest[c] = h, x
        k, rest[size] = begin[t], 0.0
        if k + size > len(to):
            to, share = np.append(to, to), np.append(share, share)
        for a in range(size - 1, -1, -1):
            to[k + a], share[k + a] = end[half[a]], rest[a]
            rest[a] += rest[a + 1]
        order[t], sums[t], begin[t + 1] = v, rest[0], k + size
        for a in range(size):
            h = half[a]
            share[k + a] /= rest[0]
            w[h >> 1] = share[k + a] * rest[a + 1]
            if a == size - 1:
                degree[end[h]] -= 1
                break
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
            draw, c = (state >> np.uint64(11)) * 2.0**-53 * rest[a + 1], a + 1
            while rest[c + 1] > draw:
                c += 1
            j = end[half[c]]
            end[h ^ 1], after[h], first[j] = j, first[j], h
            degree[j] += 1
    return order, sums, begin, to[: begin[n]], share[: begin[n]]
