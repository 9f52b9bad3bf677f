"""How far a basin of an estimated density rises above its pass by chance."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from scipy.special import ndtri
from torch import Tensor

RISK = 0.05  # the probability that a set with one mode is split
COARSE = 5  # the coarse dimension of a set of n targets is that seen in balls that hold n / 5 of them


def noise(m: float, k: float) -> float:
    """Return the standard deviation of −(m/2) log of the mean squared distance to the k nearest of Poisson points.

    The volume V_k that holds k points is Gamma(k), and the others lie evenly in it, V_j = V_k U_j: the variance of the
    first is about 1/k, and Var (m/2) log Σ_j U_j^{2/m} is about m/((m + 4) k).

    Example:
        >>> round(noise(2, 10), 3)
        0.365
    """
    return math.sqrt((1 + m / (m + 4)) / k)


def needed(n: int, k: float, coarse: float, fine: float) -> float:
    """Return the prominence in units of the noise that one of n targets passes by chance with probability RISK.

    The n/k neighbourhoods are about independent, so that the highest is z = Φ⁻¹((1 − RISK)^{k/n}) above its
    expectation. A path along a curve crosses the lowest as well, 2 z, and the sampling of its noise adds to it. On a
    surface half of all lie higher than the pass (the level at which a random field percolates in the plane is its
    median): about z; with more dimensions there is more room to walk round. So far the factor is 2.4 for a curve, else
    max(1, 0.8 + 1.5/coarse). A coarse dimension below 1.7 is a curve's. Where the fine dimension is 1.5 times the
    coarse one, noise in many dimensions may lie around a curve, and the sampling of its ridge adds to the noise: below
    2.2 the factor is 3, below 3 no less than 5.2 is asked for. Calibrated by `benchmarks/modes.py --null`.

    Example:
        >>> [round(needed(3000, 10, d, d), 1) for d in (1, 2, 8)]
        [8.6, 5.6, 3.6]
    """
    z = float(ndtri((1 - RISK) ** (min(k, n) / n)))
    thick = fine > 1.5 * coarse
    if coarse < (2.2 if thick else 1.7):
        return z * (3.0 if thick else 2.4)
    return max(5.2 if thick and coarse < 3 else 0.0, z * max(1.0, 0.8 + 1.5 / coarse))


def seen_dimension(distance: Tensor) -> float:
    """Return the dimension that sorted distances (q, k) to nearest points show: 1 / mean log(r_k / r_j).

    Source: Levina and Bickel, NIPS 2004; MacKay and Ghahramani, 2005, for the mean of the inverses.
    """
    ratio = (distance[:, -1:] / distance[:, :-1]).log().mean()
    return 1 / max(float(ratio), 1e-3)


def coarse_dimension(edges: np.ndarray, lengths: np.ndarray, sources: np.ndarray) -> float:
    """Return the dimension of a graph seen in balls that hold a fifth of its points, along shortest paths from sources.

    It is 1 of a ring or a spiral, however thick it looks from within. Sources that don't reach so many are left out;
    1, of which most is asked, where none does.
    """
    n = int(edges.max()) + 1
    _, first = np.unique(edges[:, 0] * n + edges[:, 1], return_index=True)
    graph = coo_array((lengths[first], edges[first].T), shape=(n, n)).tocsr()
    away = np.sort(dijkstra(graph, directed=False, indices=sources), axis=1)[:, 1 : max(2, n // COARSE) + 1]
    away = away[np.isfinite(away[:, -1])]
    return 1.0 if not len(away) else seen_dimension(torch.from_numpy(away))
