"""Bounds of W2² from both sides, whatever potential has been found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from brenier.solution import Estimate

AFFORDABLE = 2000  # targets for which a plan is made good by a linear program


def below(cost: float, masses: np.ndarray, duals: np.ndarray, nu: np.ndarray) -> float:
    """The dual value ∫ min_i (|x − y_i|² − w_i) dmu + Σ nu_i w_i ≤ W2², by the cost and the masses of the cells.

    In cell i the minimum is attained at i, hence the value is E|x − T(x)|² + Σ (nu_i − mu_i) w_i, w (n,) = `duals`.

    Example:
        >>> below(0.25, np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.array([0.75, 0.25]))
        0.0
    """
    return float(cost + (nu - masses) @ duals)


class Moves(NamedTuple):
    """What a map T does, of which an admissible plan can be made: its cost, the masses (n,) and centroids `middles`
    (n, d) of its cells, the targets y (n, d) and their weights nu (n,); float64.
    """

    cost: Estimate
    masses: np.ndarray
    middles: np.ndarray
    y: np.ndarray
    nu: np.ndarray

    def above(self) -> Estimate:
        """The cost of an admissible plan ≥ W2²: T, made good by sending what a cell has too much where it is wanted.

        An even share of cell i goes to y_j instead of y_i at the extra price |c_i − y_j|² − |c_i − y_i|². The cheapest
        such moves are a transport of the surplus to the want, a linear program.

        Example:
            >>> y = np.array([[0.0], [1.0]])
            >>> Moves(Estimate(0.0, 0.0), np.array([0.5, 0.5]), y, y, np.array([0.75, 0.25])).above().mean
            0.25
        """
        import ot  # takes a second to import: only who asks waits

        much, little = np.flatnonzero(self.masses > self.nu), np.flatnonzero(self.masses < self.nu)
        if not len(much) or not len(little):
            return self.cost
        surplus, want = (self.masses - self.nu)[much], (self.nu - self.masses)[little]
        far = np.square(self.middles[much, None] - self.y[None, little]).sum(2)
        price = far - np.square(self.middles[much] - self.y[much]).sum(1)[:, None]
        extra = ot.emd2(surplus / surplus.sum(), want / want.sum(), price, numItermax=10_000_000)
        return Estimate(float(self.cost.mean + surplus.sum() * extra), self.cost.sem)
