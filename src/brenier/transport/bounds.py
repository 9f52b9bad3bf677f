"""Bounds of W2² from both sides, whatever potential has been found."""

from __future__ import annotations

import numpy as np

AFFORDABLE = 2000  # targets for which a plan is made good by a linear program


def below(cost: float, masses: np.ndarray, duals: np.ndarray, nu: np.ndarray) -> float:
    """The dual value ∫ min_i (|x − y_i|² − w_i) dmu + Σ nu_i w_i ≤ W2², by the cost and the masses of the cells.

    In cell i the minimum is attained at i, hence the value is E|x − T(x)|² + Σ (nu_i − mu_i) w_i, w (n,) = `duals`.

    Example:
        >>> below(0.25, np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.array([0.75, 0.25]))
        0.0
    """
    return float(cost + (nu - masses) @ duals)


def above(cost: float, masses: np.ndarray, middles: np.ndarray, y: np.ndarray, nu: np.ndarray) -> float:
    """The cost of an admissible plan ≥ W2²: T, made good by sending what a cell has too much to cells with too little.

    An even share of cell i goes to y_j instead of y_i at the extra price |c_i − y_j|² − |c_i − y_i|², c_i (n, d) the
    `middles`, its centroid. The cheapest such moves are a transport of the surplus to the want.

    Example:
        >>> y = np.array([[0.0], [1.0]])
        >>> above(0.0, np.array([0.5, 0.5]), y, y, np.array([0.75, 0.25]))
        0.25
    """
    import ot  # takes a second to import: only who asks waits

    much, little = np.flatnonzero(masses > nu), np.flatnonzero(masses < nu)
    if not len(much) or not len(little):
        return cost
    surplus, want = (masses - nu)[much], (nu - masses)[little]
    moved = min(surplus.sum(), want.sum())
    far = np.square(middles[much, None] - y[None, little]).sum(2)
    price = far - np.square(middles[much] - y[much]).sum(1)[:, None]
    least = price.min()  # the simplex wants no negative prices; all moves together pay it `moved` times
    extra = ot.emd2(surplus / surplus.sum(), want / want.sum(), price - least, numItermax=10_000_000) + least
    return float(cost + moved * extra)
