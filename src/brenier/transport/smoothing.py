"""Doubly stochastic weights of neighbourhoods: smoothing that keeps the first two moments of the targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array, diags_array, eye_array
from torch import Tensor

from brenier.transport.neighbours import neighbours

BALANCED = 1e-6  # relative error of the row sums at which the iteration ends; the diagonal takes what is left
MOST = 1000  # iterations; some fifty are usual


def symmetric_graph(near: np.ndarray) -> csr_array:
    """Return the graph (n, n) of zeros and ones that joins each point with itself and its nearest, near (n, k).

    Two points are joined when one is among the nearest of the other, so that the graph is symmetric: a hub, which is
    near to many, keeps all of them, and no point is left without neighbours.

    Example:
        >>> symmetric_graph(np.array([[1], [0], [1]])).toarray()
        array([[1., 1., 0.],
               [1., 1., 1.],
               [0., 1., 1.]])
    """
    n, k = near.shape
    directed = coo_array((np.ones(n * k), (np.repeat(np.arange(n), k), near.ravel())), shape=(n, n)).tocsr()
    return csr_array((directed + directed.T + eye_array(n)).sign())


def doubly_stochastic(graph: csr_array, nu: np.ndarray) -> csr_array:
    """Return weights w (n, n), w_ij = u_i a_ij u_j, whose rows and columns sum to nu (n,), for a symmetric graph a.

    u solves u_i Σ_j a_ij u_j = nu_i, by u ← √(u nu / (a u)) (symmetric Sinkhorn iterations): w is the entropic
    transport of nu to itself along the edges of the graph. What the iteration leaves is put on the diagonal, so that
    the sums hold to rounding for every graph with a positive diagonal.

    Then m_i = Σ_j w_ij y_j / nu_i and the covariance C_i of the y_j about it under w_ij / nu_i satisfy

        Σ_i nu_i m_i = Σ_j nu_j y_j,    Σ_i nu_i (m_i m_iᵀ + C_i) = Σ_j nu_j y_j y_jᵀ :

    a mixture of the N(m_i, C_i) has the mean and the covariance of the targets. Equal weights over the k nearest do
    not: there hubs count too often and points far out too seldom, which shrinks the covariance.

    Source: Knight, Ruiz and Uçar, A symmetry preserving algorithm for matrix scaling, 2014.

    Example:
        >>> w = doubly_stochastic(symmetric_graph(np.array([[1], [0], [1]])), np.full(3, 1 / 3))
        >>> np.allclose(w.sum(0), 1 / 3), np.allclose(w.sum(1), 1 / 3)
        (True, True)
    """
    u = np.sqrt(nu / graph.sum(1))
    for _ in range(MOST):
        sums = u * (graph @ u)
        if np.abs(sums / nu - 1).max() <= BALANCED:
            break
        u = u * np.sqrt(nu / sums)
    w = csr_array(diags_array(u) @ graph @ diags_array(u))
    w = w / float((w.sum(1) / nu).max())
    return csr_array(w + diags_array(nu - w.sum(1)))


def smoothings(y: Tensor, nu: Tensor, parts: Tensor, sizes: Sequence[int]) -> list[csr_array]:
    """Return for each size k a matrix P (n, n) with P_ij = w_ij / nu_i, w doubly stochastic over k neighbours.

    Args:
        y: distinct points (n, d).
        nu: their positive weights (n,).
        parts: (n,) long; neighbours are looked for within a part only.
        sizes: numbers of neighbours, the point itself not counted; fewer where a part has fewer points.
    """
    weights, n = nu.double().cpu().numpy(), len(y)
    blocks: list[list[csr_array]] = [[] for _ in sizes]
    order = []
    for part in parts.unique():
        members = (parts == part).nonzero()[:, 0]
        rows = members.cpu().numpy()
        near = neighbours(y[members], max(sizes))[0].cpu().numpy()
        for k, made in zip(sizes, blocks, strict=True):
            w = doubly_stochastic(symmetric_graph(near[:, :k]), weights[rows])
            made.append(csr_array(diags_array(1 / weights[rows]) @ w))
        order.append(rows)
    place = np.concatenate(order)
    return [_placed(made, place, n) for made in blocks]


def blended(p: csr_array, strength: float) -> csr_array:
    """Return (1 − s) I + s P: every point keeps 1 − s of itself. Again doubly stochastic; s = 0 moves nothing."""
    return csr_array((1 - strength) * eye_array(p.shape[0]) + strength * p)


def _placed(blocks: Sequence[csr_array], place: np.ndarray, n: int) -> csr_array:
    """One matrix (n, n) of square blocks whose rows and columns, one block after the other, are those of `place`."""
    first, values, rows, columns = 0, [], [], []
    for block in blocks:
        entries = block.tocoo()
        values.append(entries.data)
        rows.append(place[first + entries.coords[0]])
        columns.append(place[first + entries.coords[1]])
        first += block.shape[0]
    coordinates = (np.concatenate(rows), np.concatenate(columns))
    return csr_array(coo_array((np.concatenate(values), coordinates), shape=(n, n)))


def distinct(y: Tensor, nu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first row (k,) of each group of equal rows of y (n, d), the group of each row (n,) and the sums of nu
    over groups (k,).
    """
    _, group = torch.unique(y, dim=0, return_inverse=True)
    k = int(group.max()) + 1
    rows = torch.arange(len(y), device=y.device)
    first = rows.new_full((k,), len(y)).scatter_reduce_(0, group, rows, "amin")
    return first, group, nu.new_zeros(k).index_add_(0, group, nu)
