"""The semi-discrete problem: the convex energy of the heights, its gradient by counting, its error on fresh samples."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from brenier.device import seeded
from brenier.measures import Discrete, Source, moments
from brenier.solution import Estimate
from brenier.transport.bounds import AFFORDABLE, Moves, below
from brenier.transport.diagram import Diagram
from brenier.transport.domain import Domain
from brenier.transport.hierarchy import bisect, spreads
from brenier.transport.neighbours import nearest
from brenier.transport.planes import Parts, Planes, laid_out, sums
from brenier.transport.rows import CHUNK, Rows, merged


class Sampler:
    """Samples x' = (x − E x) / rms of a source and the planes that win them, at the price of as few products as can be.

    Where the source has `halves` and d ≥ 4, samples come in blocks of every ± a_j ± b_k of J + K draws: 4 J K exact
    samples, correlated inside the block. Elsewhere they are independent.
    """

    J, K = 8, 8
    BLOCK = 4 * J * K
    PAIRED_FROM = 4  # dimensions; below, the products cost nothing

    def __init__(self, source: Source, like: Tensor, generator: torch.Generator | int | None) -> None:
        self.source, self.like, self.generator = source, like, seeded(generator)
        mean, covariance = moments(source, self.generator)
        self.mean, self.scale = mean.to(like.device), covariance.trace().div(source.dim).sqrt().item()
        self.covariance = covariance.to(like.device) / self.scale**2

    def top(self, planes: Planes | Parts, m: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """m samples x' (m, d), in blocks where BLOCK divides m; values and indices (m, k) of their k highest planes."""
        if m % self.BLOCK or self.source.dim < self.PAIRED_FROM or not hasattr(self.source, "halves"):
            x = self._own(self.source.sample(m, self.generator))
            return x, *planes.top(x, k)
        a, b = self.source.halves(m // self.BLOCK, self.J, self.K, self.generator)
        a, b = (half.to(self.like) / self.scale for half in (a, b))
        return sums(a, b), *planes.top_of_sums(a, b, k)

    def _own(self, x: Tensor) -> Tensor:
        return (x.to(self.like) - self.mean.to(self.like)) / self.scale


class SemiDiscrete:
    """E(h) = ∫ u dmu − Σ nu_i h_i, convex; dE/dh_i = mu(W_i) − nu_i.

    Solved in coordinates that know no unit: source and target are moved to mean 0 and scaled to one unit of variance
    per coordinate, duplicates are merged, targets of weight zero are set aside. `heights` brings an answer back.
    """

    BLOCKS, CHUNK = 32, 1 << 14
    FEWEST = 10  # targets in a group

    def __init__(
        self, source: Source, target: Discrete, generator: torch.Generator | int | None, compiled: bool = True
    ) -> None:
        points, weights = target.points, target.weights.double()
        self.target = target
        self.kept = weights > 0
        kept, self.index = merged(Rows(points, chosen=None if self.kept.all() else self.kept.nonzero()[:, 0]))
        nu = torch.zeros(len(kept), dtype=torch.float64, device=points.device)
        self.weights = nu.index_add_(0, self.index, weights[self.kept] / weights.sum())
        self.mean = kept.mean(nu)
        spread = (replace(kept, centre=self.mean).each(lambda y: y.square().sum(1)) @ nu).div(target.dim).sqrt().item()
        self.scale = spread if spread > 0 else 1.0
        self.y, self.nu = replace(kept, centre=self.mean, scale=self.scale), nu.to(points.dtype)
        self.sampler = Sampler(source, self.nu, generator)
        self.planes = laid_out(self.y, torch.zeros_like(self.nu), compiled)

    @cached_property
    def wide(self) -> Tensor:
        """The targets (n, d) all at once, float64, for the exact methods."""
        return self.y[:]

    @cached_property
    def groups(self) -> Tensor:
        """Labels (n,) of nested groups, each of FEWEST targets at least: 8, 64, 512, ... of them."""
        return bisect(self.y, 3 * max(0, int(math.log2(self.n / self.FEWEST)) // 3))

    @cached_property
    def spreads(self) -> list[Tensor]:
        """Root mean square radii of the whole and of the groups, level by level."""
        return spreads(self.y, self.nu, self.groups, 8)

    @property
    def n(self) -> int:
        """Number of distinct targets of positive weight."""
        return len(self.nu)

    def bures(self) -> Tensor:
        """The heights of the best affine map: h_i = −½ y_iᵀ A⁻¹ y_i, A = S^(-1/2) (S^(1/2) C S^(1/2))^(1/2) S^(-1/2).

        S and C are the covariances of source and target (mean 0), the inverse is a pseudo-inverse. Source: Bures.
        """
        root, inverse_root = _power(self.sampler.covariance, 0.5), _power(self.sampler.covariance, -0.5)
        covariance = torch.zeros_like(root)
        for span, y in self.y.chunks():
            covariance += (y.T * self.weights[span]) @ y
        middle = root @ covariance @ root
        inverse = _power(inverse_root @ _power(middle, 0.5) @ inverse_root, -1.0)
        return self.y.each(lambda y: -0.5 * ((y @ inverse) * y).sum(1)).to(self.nu)

    def spacing(self, references: int = 4096) -> Tensor:
        """Distance (n,) from each target to the nearest other one of at most `references` targets, evenly chosen."""
        if self.n == 1:
            return torch.ones_like(self.nu)
        chosen = torch.linspace(0, self.n - 1, min(self.n, references), dtype=torch.float64).long()
        others = self.y[chosen.to(self.nu.device)]

        def least(y: Tensor) -> Tensor:
            near = nearest(y, others, 2, self.planes.compiled)  # itself may be the nearest
            distances = (y[:, None] - others[near]).norm(dim=2)
            return distances.masked_fill_(distances == 0, math.inf).amin(1)

        return self.y.each(least).nan_to_num(posinf=torch.finfo(torch.float64).eps).to(self.nu)

    def counts(self, h: Tensor, m: int) -> Tensor:
        """How many of m fresh samples fall into each cell, (n,): all that a step needs."""
        _, _, cells = self.sampler.top(self.planes.at(h), m, 1)
        return torch.bincount(cells[:, 0], minlength=self.n).to(self.nu)

    def check(self, h: Tensor, m: int, deadline: float = math.inf) -> Check:
        """The error of h on about m fresh samples, in BLOCKS blocks, in fewer when the clock passes `deadline`.

        chi2 = Σ_i (C_i² − Σ_b c_ib²) / nu_i / (pairs of samples from different blocks) − 1, with C_i the total and c_ib
        the counts of block b: unbiased, though samples of one block may be correlated. Its standard error is the
        jackknife's over blocks.
        """
        planes, rounds = self.planes.at(h), -(-m // (self.BLOCKS * self.CHUNK))
        nu, duals, few = self.weights, self.duals(h), self.n <= AFFORDABLE
        size = Sampler.BLOCK * -(-m // (self.BLOCKS * rounds * Sampler.BLOCK))
        counts = torch.zeros(self.BLOCKS, self.n, dtype=torch.int32, device=nu.device)
        sums = nu.new_zeros(self.n, self.target.dim) if few else None
        costs, done = torch.zeros(()), 0
        while done < rounds:  # a round adds one chunk to every block; only the first may stop early, after 4 blocks
            fresh, paid = [], []
            for b in range(self.BLOCKS):
                if done + b >= 4 and time.perf_counter() > deadline:
                    break
                x, _, cells = self.sampler.top(planes, size, 1)
                fresh.append(cells[:, 0])
                cost = self._cost(x, cells[:, 0])
                paid.append(torch.stack([cost, cost + duals @ nu - duals[cells[:, 0]].mean()]))
                if sums is not None:
                    sums.index_add_(0, cells[:, 0], x.double())
            if done and len(fresh) < self.BLOCKS:
                break
            for block, cells in zip(counts, fresh, strict=False):
                block += torch.bincount(cells, minlength=self.n)
            costs, done = costs + torch.stack(paid), done + 1
            if len(fresh) < self.BLOCKS:
                counts = counts[: len(fresh)]
                break
        m = done * size
        moved, bound = (_mean(part) for part in (costs / done).T)
        moves = None
        if sums is not None:
            total = counts.sum(0).double()
            middles = self.sampler.scale * sums / total[:, None].clamp(min=1)
            seen = self._seen(self.y[:])
            moves = Moves(moved, *(part.cpu().numpy() for part in (total / total.sum(), middles, seen, nu)))
        return Check(_chi2(counts, m, nu), moved, bound, moves, len(counts) * m)

    def duals(self, h: Tensor) -> Tensor:
        """The dual variables (n,) of heights h: w_i = |E T + scale y_i − E x|² + 2 scale scale' h_i, float64."""
        return self.y.each(lambda y: self._seen(y).square().sum(1)) + 2 * self.scale * self.sampler.scale * h.double()

    def _seen(self, y: Tensor) -> Tensor:
        """Targets y (k, d) as seen from the mean of the source, in the user's unit, float64."""
        return self.scale * y + self.mean - self.sampler.mean

    def _cost(self, x: Tensor, cells: Tensor) -> Tensor:
        """Mean |x − T(x)|² of a block in the user's coordinates: T(x) − E T = scale · y and x − E x = scale' · x."""
        parts = zip(x.split(1024), cells.split(1024), strict=True)
        squares = [(self._seen(self.y[i]) - self.sampler.scale * z.double()).square().sum(1) for z, i in parts]
        return torch.cat(squares).mean()

    def measured(self, h: np.ndarray, cells: Diagram, domain: Domain, order: np.ndarray) -> Check:
        """The error and the cost of exact cells, those of heights h of the targets in this order: nothing is estimated.

        E|x − T(x)|² with T(x) − E T = scale · y and x − E x = scale' · x, as in `_cost`, by the moments of the cells.
        """
        y, nu = self.wide.cpu().numpy()[order], self.weights.cpu().numpy()[order]
        share, first, second = (part / domain.mass for part in (cells.masses, cells.first, cells.second))
        chi2 = float((np.square(share - nu) / nu).sum())
        a, b, away = self.scale, self.sampler.scale, (self.mean - self.sampler.mean).cpu().numpy()
        parts = b * b * second - 2 * a * b * (first * y).sum(1) + a * a * share * np.square(y).sum(1)
        cost = float(parts.sum() + 2 * away @ (a * share @ y - b * first.sum(0)) + away @ away)
        lower = below(cost, share, np.square(a * y + away).sum(1) + 2 * a * b * h, nu)
        primal, moves = Estimate(cost, 0.0), None
        if self.n <= AFFORDABLE:
            moves = Moves(primal, share, b * first / share.clip(1e-300)[:, None], a * y + away, nu)
        return Check(Estimate(chi2, 0.0), primal, Estimate(lower, 0.0), moves, 0)

    def heights(self, h: Tensor) -> Tensor:
        """The heights (n,) of all given targets in the user's coordinates, mean 0 over nu.

        A target of weight zero gets a plane that lies under all others wherever |x − E x| is less than 1,000 times the
        source's root mean square radius: its cell is empty.
        """
        back = self.scale * self.sampler.scale * h.double() - self.scale * self._tilt
        back = back - self.weights @ back
        out = torch.empty(len(self.kept), dtype=torch.float64, device=h.device)
        out[self.kept] = back[self.index]
        if not self.kept.all():
            reach = 1e3 * self.sampler.scale * math.sqrt(self.target.dim)
            widest = 2 * Rows(self.target.points, self.mean).each(lambda y: y.norm(dim=1)).amax()
            out[~self.kept] = back.amin() - (reach + self.sampler.mean.norm()) * widest - 1
        return out.to(h)

    def own(self, heights: Tensor) -> Tensor:
        """Heights (n of the targets given,) in the problem's own coordinates: where a warm start begins."""
        given = heights.to(self.nu.device).double()[self.kept]
        first = torch.empty(self.n, dtype=torch.float64, device=given.device).index_copy_(0, self.index, given)
        first = first + self.scale * self._tilt
        return first / (self.scale * self.sampler.scale)

    @property
    def _tilt(self) -> Tensor:
        """<y_i, E x>, (n,): what heights change by when the source is moved to mean 0."""
        return self.y.each(lambda y: y @ self.sampler.mean)


class Check(NamedTuple):
    """The error of a potential on fresh samples: chi2, the cost, bounds of W2², and how many samples it took."""

    chi2: Estimate
    cost: Estimate
    lower: Estimate
    moves: Moves | None
    samples: int

    def within(self, tol: float) -> bool:
        """Whether chi2 + 2 standard errors ≤ tol²."""
        return self.chi2.mean + 2 * self.chi2.sem <= tol**2

    @property
    def relrms(self) -> Estimate:
        """sqrt(chi2), its error bar the step from chi2 to chi2 + sem; chi2, being unbiased, may fall just below 0."""
        root = math.sqrt(max(self.chi2.mean, 0.0))
        return Estimate(root, math.sqrt(max(self.chi2.mean, 0.0) + self.chi2.sem) - root)


def _chi2(counts: Tensor, m: int, nu: Tensor) -> Estimate:
    """The U-statistic of counts (B, n) over pairs of samples from different blocks of m, and its jackknife."""
    blocks, gram = len(counts), nu.new_zeros(len(counts), len(counts))
    for some, weights in zip(counts.split(CHUNK // blocks, 1), nu.split(CHUNK // blocks), strict=True):
        scaled = some / weights.sqrt()
        gram += scaled @ scaled.T
    gram.fill_diagonal_(0.0)
    total, lost = gram.sum(), 2 * gram.sum(1)
    chi2 = total / (m * m * blocks * (blocks - 1)) - 1
    left = (total - lost) / (m * m * (blocks - 1) * (blocks - 2)) - 1
    sem = ((blocks - 1) / blocks * (left - left.mean()).square().sum()).sqrt()
    return Estimate(chi2.item(), sem.item())


def _mean(blocks: Tensor) -> Estimate:
    """Mean and standard error of independent blocks."""
    return Estimate(blocks.mean().item(), (blocks.std() / math.sqrt(len(blocks))).item())


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric positive semi-definite matrix, on its range."""
    values, vectors = torch.linalg.eigh(matrix)
    floor = values.amax() * len(values) * torch.finfo(values.dtype).eps
    powers = torch.where(values > floor, values.clamp(min=floor) ** exponent, 0.0)
    return (vectors * powers) @ vectors.T
