"""The exact methods, on cells without sampling error: damped Newton, L-BFGS, and quantiles on a line."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import OptimizeResult, minimize
from scipy.sparse import csr_array

from brenier.solution import Status
from brenier.transport.diagram import Diagram, covers, diagram, quantiles, tiles, unit
from brenier.transport.domain import Domain
from brenier.transport.laplacian import of_distances, solve
from brenier.transport.mirror import both_ways

KNOTS = 32  # of the quantile function that places the first cells along an axis
LINEAR = 0.1  # the share of a straight line in it, so that it rises everywhere
SHORTEST = 1e-12  # of a Newton step: below it rounding rules
PATIENCE = 20  # steps that must lower the error together, by a millionth of it
SETTLED = 0.2  # the error from which on hardly any cell gets a new neighbour in a step
SEEN = 1e-3  # of its mass that every cell of a density on a grid must have at the start
DARK = (0.3, 1e-2, 1e-4, 0.0)  # else the shares of even light, added to the density, by which it is approached
MEMORY = 20  # pairs of steps that L-BFGS remembers


@dataclass
class Exact:
    """E(h) = ∫ u ρ − Σ nu_i h_i on a domain with ∫ρ = `mass`, its gradient and Hessian from exact cells.

    d²E/dh_i dh_j = −∫_{W_i∩W_j} ρ dS / |y_i − y_j|, rows sum to 0. y (n, d) and nu (n,) float64, distinct and positive.
    `watch` hears of every iterate.
    """

    y: np.ndarray
    nu: np.ndarray
    domain: Domain
    tol: float
    deadline: float
    watch: Callable[[dict[str, float]], None]
    started: float = field(default_factory=time.perf_counter)

    def run(self, method: str, h: np.ndarray | None) -> tuple[Status, np.ndarray, Diagram]:
        """Status, heights (n,) and their cells, from heights h or from a start of its own."""
        if self.y.shape[1] == 1:
            h = line(self.y[:, 0], self.nu, self.domain)
            return self.judged(h, diagram(self.y, h, self.domain))
        if method == "lbfgs":
            return self.lbfgs(first_heights(self.y, self.nu, self.domain)[0] if h is None else h)
        return self.newton(h)

    def error(self, cells: Diagram) -> float:
        """max_i |mu(W_i)/nu_i − 1|."""
        return float(np.abs(cells.masses / self.domain.mass / self.nu - 1).max())

    def judged(self, h: np.ndarray, cells: Diagram) -> tuple[Status, np.ndarray, Diagram]:
        """The answer where nothing is left to be done."""
        error = self.error(cells)
        self.watch({"error": error, "seconds": time.perf_counter() - self.started})
        return Status.SOLVED if error <= self.tol else Status.OUT_OF_PRECISION, h, cells

    def newton(self, h: np.ndarray | None) -> tuple[Status, np.ndarray, Diagram]:
        """Damped Newton from a start in which every cell has mass: that of h, if it is one.

        Under a density with dark parts even that may fail, where a facet lies in the dark: then with more light first.
        """
        first, places = first_heights(self.y, self.nu, self.domain)
        uniform = self.domain.density.size == 1
        for start in (first,) if h is None else (h, first):
            cells = diagram(self.y, start, self.domain, places)
            if (cells.masses / self.domain.mass / self.nu).min() > (0 if uniform else SEEN):
                answer = self.descend(start, cells, self.domain, self.tol)
                if uniform or answer[0] is not Status.OUT_OF_PRECISION:
                    return answer
        h = first
        for share in DARK:
            domain = self.domain.lit(share)
            cells = diagram(self.y, h, domain, places)
            status, h, cells = self.descend(h, cells, domain, max(self.tol, 0.1) if share else self.tol)
            if status is not Status.SOLVED:
                break
        return status, h, cells if share == 0 else diagram(self.y, h, self.domain)

    def descend(self, h: np.ndarray, cells: Diagram, domain: Domain, tol: float) -> tuple[Status, np.ndarray, Diagram]:
        """h ← h + t L⁻¹(nu − mu), t halved until no cell has less than half the least share of its mass at the start
        and the error falls by the share t/2. Converges from everywhere, in the end quadratically.

        Source: Kitagawa, Mérigot and Thibert 2019.
        """
        share = cells.masses / domain.mass
        floor, t = min(1.0, (share / self.nu).min()) / 2, 1.0
        norms: list[float] = []
        while True:
            rest = self.nu - share
            norms.append(float(np.linalg.norm(rest)))
            if len(norms) > PATIENCE and norms[-1] > (1 - 1e-6) * norms[-1 - PATIENCE]:
                return Status.OUT_OF_PRECISION, h, cells
            error = np.abs(rest / self.nu).max()
            self.watch({"error": error, "step": t, "seconds": time.perf_counter() - self.started})
            if error <= tol:
                return Status.SOLVED, h, cells
            hessian = self.hessian(cells, domain)  # its pattern tells who is whose neighbour
            try:
                way, t = solve(hessian, rest, min(max(0.1 * error, 1e-4), 1e-2)), min(1.0, 8 * t)
            except ArithmeticError:  # cells so unequal that rounding drowns the step
                return Status.OUT_OF_PRECISION, h, cells
            while True:
                if time.perf_counter() > self.deadline:
                    return Status.OUT_OF_TIME, h, cells
                if t < SHORTEST:
                    return Status.OUT_OF_PRECISION, h, cells
                new = self.stepped(h + t * way, hessian, 1 if error < SETTLED else 2, domain, floor)
                if new is not None:
                    share = new.masses / domain.mass
                    if np.linalg.norm(share - self.nu) <= (1 - t / 2) * np.linalg.norm(rest):
                        break
                t /= 2
            h, cells = h + t * way, new

    def stepped(self, h: np.ndarray, near: csr_array, rings: int, domain: Domain, floor: float) -> Diagram | None:
        """The cells of h, sought among the last neighbours; None where one has less than `floor` of its mass.

        Cells clipped by too few contain the true ones: too small a cell is seen before all are known to be true.
        """
        y, heights = unit(self.y, h)
        least = floor * self.nu * domain.mass
        cells = tiles(y, heights, domain, near, rings, least)
        if not covers(cells, domain) and (cells.masses >= least).all():
            cells = diagram(self.y, h, domain)
        return None if (cells.masses < least).any() else cells

    def hessian(self, cells: Diagram, domain: Domain) -> csr_array:
        """The second derivatives of E, a graph's Laplacian (n, n)."""
        return of_distances(both_ways(cells.facets / (2 * domain.mass)), self.y)

    def lbfgs(self, h: np.ndarray) -> tuple[Status, np.ndarray, Diagram]:
        """Limited-memory quasi-Newton, for which cells may be empty. Source: Liu and Nocedal 1989, by SciPy."""
        last: list[Diagram] = []

        def energy(h: np.ndarray) -> tuple[float, np.ndarray]:
            cells = diagram(self.y, h, self.domain)
            last[:] = [cells]
            share = cells.masses / self.domain.mass
            value = (cells.first * self.y).sum() / self.domain.mass + h @ (share - self.nu)
            return value, share - self.nu

        def stop(intermediate_result: OptimizeResult) -> None:
            error = self.error(last[0])
            self.watch({"error": error, "seconds": time.perf_counter() - self.started})
            if error <= self.tol or time.perf_counter() > self.deadline:
                raise StopIteration

        options = {"maxcor": MEMORY, "maxiter": 100_000, "maxfun": 1_000_000, "ftol": 0.0, "gtol": 0.0}
        found = minimize(energy, h, jac=True, method="L-BFGS-B", callback=stop, options=options)
        cells = diagram(self.y, found.x, self.domain)
        status, h, cells = self.judged(found.x, cells)
        if status is not Status.SOLVED and time.perf_counter() > self.deadline:
            status = Status.OUT_OF_TIME
        return status, h, cells


def line(y: np.ndarray, nu: np.ndarray, domain: Domain) -> np.ndarray:
    """On a line the map is monotone: kinks at the domain's quantiles of the sums of nu, h_k+1 − h_k = −x_k Δy_k."""
    order = np.argsort(y)
    kinks = quantiles(np.cumsum(nu[order])[:-1], domain)
    h = np.empty(len(y))
    h[order] = -np.append(0, np.cumsum(kinks * np.diff(y[order])))
    return h


def first_heights(y: np.ndarray, nu: np.ndarray, domain: Domain) -> tuple[np.ndarray, np.ndarray]:
    """Heights (n,) whose cells all have mass, as far as the domain's density has, and a place p_i (n, d) in each.

    p = ∇φ(y), φ(y) = Σ_k φ_k(y_k) convex, h = −φ(y): at p_i the plane i is the highest. Along each axis φ_k' takes the
    quantiles of the targets to those of the domain's box, and all places are drawn towards the middle until they lie
    inside. For targets spread as the source this is nearly the Voronoi diagram.
    """
    places, phi = np.empty_like(y), np.zeros(len(y))
    middle = domain.inner[:-1]
    for k in range(y.shape[1]):
        order = np.argsort(y[:, k], kind="stable")
        rank = np.cumsum(nu[order]) - nu[order] / 2
        chosen = np.unique(np.linspace(0, len(y) - 1, min(KNOTS, 2 + len(y) // 4)).astype(int))
        knots, first = np.unique(y[order[chosen], k], return_index=True)
        if len(knots) == 1:
            places[:, k] = 0
            continue
        level = rank[chosen[first]]
        level = (level - level[0]) / (level[-1] - level[0])
        straight = (knots - knots[0]) / (knots[-1] - knots[0])
        goal = domain.low[k] + (domain.high[k] - domain.low[k]) * ((1 - LINEAR) * level + LINEAR * straight) - middle[k]
        slope = np.diff(goal) / np.diff(knots)
        box = (np.searchsorted(knots, y[:, k], side="right") - 1).clip(0, len(slope) - 1)
        away = y[:, k] - knots[box]
        places[:, k] = goal[box] + slope[box] * away
        whole = np.append(0, np.cumsum(np.diff(knots) * (goal[1:] + goal[:-1]) / 2))
        phi += whole[box] + (goal[box] + slope[box] * away / 2) * away
    shrink = min(1.0, 0.999 * domain.reach(places))
    return -(shrink * phi + y @ middle), shrink * places + middle
