"""From a path to the geodesic near it: Newton's method on its energy, on meshes from coarse to fine."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from brenier.geometry import chain
from brenier.geometry import metric as of
from brenier.geometry.batch import slices
from brenier.geometry.elements import DEGREE, NODES, Energy, energy, pieces, resample, residual
from brenier.geometry.metric import Metric
from brenier.solution import Status

STEPS = 60  # of Newton's method on one mesh
COARSEST, FINEST = 4, 1024  # elements of a path
ENDS = (Status.GEODESIC, Status.STOPPED_SHORT, Status.OUTSIDE, Status.TOO_COARSE)  # of a pair, by its number


class Found(NamedTuple):
    """Of pairs of points: path (b, n, d), ∂S/∂x and ∂S/∂y (b, 2 d) and second derivatives (b, 2 d, 2 d) of the action
    S = ½ distance² by both ends, length (b,), residual (b,); how each ended (b,), a place in `ENDS`, the rest is NaN
    where it is not 0; and where the energy was not convex all the way (b,) bool.
    """

    path: Tensor
    slope: Tensor
    bend: Tensor
    length: Tensor
    residual: Tensor
    end: Tensor
    bent: Tensor

    def put(self, rows: Tensor, other: Found) -> None:
        """Replace some of the pairs by others."""
        for mine, its in zip(self, other, strict=True):
            mine[rows] = its


def reachable(tol: float, x: Tensor) -> float:
    """`tol`, or what the numbers of x allow."""
    return max(tol, 1e3 * torch.finfo(x.dtype).eps)


def meshes(n: int, first: int = COARSEST) -> list[int]:
    """Numbers of elements from `first` or so, each about twice the one before; the last are multiples of n − 1.

    Example:
        >>> meshes(32)[:5]
        [4, 8, 16, 31, 62]
    """
    least = (n - 1) * -(-2 * first // (n - 1))
    found = [least]
    while found[0] > first:
        found.insert(0, -(-found[0] // 2))
    while 2 * found[-1] <= max(FINEST, 2 * least):
        found.append(2 * found[-1])
    return found


def nothing(start: Tensor, n: int) -> Found:
    """What is known of geodesics near paths (b, k, d) before any is found."""
    b, _, d = start.shape
    parts = (start.new_full((b, *shape), torch.nan) for shape in ((n, d), (2 * d,), (2 * d, 2 * d), (), ()))
    end = torch.full((b,), ENDS.index(Status.TOO_COARSE), device=start.device)
    return Found(*(*parts, end, torch.zeros_like(end).bool()))


def trace(
    metric: Metric, start: Tensor, n: int, goal: float, history: list[dict[str, Any]], first: int = COARSEST
) -> Found:
    """The geodesics near paths (b, k, d), each from its first point to its last, on meshes of `first` elements or more.

    A pair is done where its velocities at both ends no longer change and its residual is at most 10 √goal: a path that
    turns, against a geodesic, by a hundredth of a radian in all where the goal is 1e-6.
    """
    rows = torch.arange(len(start), device=start.device)
    sizes = meshes(n, first)
    way = _lay(metric, start, sizes[0])
    answer = nothing(start, n)
    before = None
    for elements in sizes:
        here = _mesh(metric, start[rows, 0], resample(way, elements), goal)
        error = _change(metric, start[rows], here, before)
        history.append({"elements": elements, "pairs": len(rows), "error": float(error.amax())})
        answer.bent[rows] |= here.bent
        fit = here.done & (error <= goal) & (elements % (n - 1) == 0)
        left = residual(metric, start[rows, 0], here.way)
        fit &= left <= 10 * goal**0.5
        if fit.any():
            at = rows[fit]
            answer.path[at] = start[at, :1] + here.way[fit, :: DEGREE * elements // (n - 1)]
            answer.path[at, -1] = start[at, -1]
            answer.slope[at], answer.bend[at] = -here.load[fit], here.matrix[fit]
            answer.length[at], answer.residual[at] = here.length[fit], left[fit]
            answer.end[at] = ENDS.index(Status.GEODESIC)
        lost = ~here.done & (elements > max(2 * sizes[0], n - 1))
        short, outside = ENDS.index(Status.STOPPED_SHORT), ENDS.index(Status.OUTSIDE)
        answer.end[rows[lost]] = torch.where(here.proper[lost], short, outside)
        on = ~fit & ~lost
        rows, way, before = rows[on], here.way[on], here.load[on]
        if not len(rows):
            break
    return answer


class _Mesh(NamedTuple):
    """Paths of one mesh: ways, −∂S/∂(x, y), second derivatives of S, lengths; which are done, proper, bent."""

    way: Tensor
    load: Tensor
    matrix: Tensor
    length: Tensor
    done: Tensor
    proper: Tensor
    bent: Tensor


def _mesh(metric: Metric, origin: Tensor, way: Tensor, goal: float) -> _Mesh:
    """Minimise the energy of paths, so many at a time as Newton's systems fit into the budget."""
    d, parts = way.shape[2], []
    for rows in slices(len(way), 4 * way.shape[1] * (4 * d) ** 2):
        found, state, done, bent = minimise(metric, origin[rows], way[rows], goal**0.5 * 1e-3)
        solved = chain.solve(state.hessian, -state.gradient, d)
        parts.append(_Mesh(found, solved.load, solved.matrix, (2 * state.value).sqrt(), done, state.proper, bent))
    return _Mesh(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _change(metric: Metric, start: Tensor, here: _Mesh, before: Tensor | None) -> Tensor:
    """A 15th of the change of the momenta at both ends from the mesh before, in lengths, (b,)."""
    if before is None:
        return torch.full_like(here.length, torch.inf)
    d = start.shape[2]
    change = (here.load - before).view(-1, d)
    dual = torch.linalg.solve_ex(of.tensor(metric, start[:, [0, -1]].reshape(-1, d)), change)[0]
    size = (change * dual).sum(1).clamp_min(0).sqrt().view(-1, 2).amax(1)
    return size / here.length.clamp_min(torch.finfo(size.dtype).tiny) / 15


def minimise(metric: Metric, origin: Tensor, way: Tensor, goal: float) -> tuple[Tensor, Energy, Tensor, Tensor]:
    """Damped Newton on the energy of paths: their ways (b, 3 M + 1, d), energy, which are done, and which needed
    damping (b,) bool.

    (H + λ K) δ = −∇E with the Hessian H and its part K of a frozen metric, which is positive definite; λ grows where
    the matrix is not, or the energy does not fall, and shrinks to zero where it does.
    """
    d, eps = way.shape[2], torch.finfo(way.dtype).eps
    way, state = way.clone(), energy(metric, origin, way)
    damping = torch.zeros_like(state.value)
    done, bent = torch.zeros_like(state.proper), torch.zeros_like(state.proper)
    live = state.proper.nonzero()[:, 0]
    for _ in range(STEPS):
        if not len(live):
            break
        here = state.at(live)
        solved = chain.solve(here.hessian + damping[live, None, None, None] * here.frozen, -here.gradient, d)
        trial = way[live] + solved.nodes
        there = energy(metric, origin[live], trial)
        step = pieces(solved.nodes).flatten(2)
        stretch = torch.einsum("bmi,bmij,bmj->b", step, here.frozen, step).clamp_min(0)
        size = (stretch / (2 * here.value).clamp_min(torch.finfo(way.dtype).tiny)).sqrt()
        expected = torch.einsum("bmi,bmi->b", step, here.gradient)
        falls = there.value <= here.value * (1 + 10 * eps) + 1e-4 * expected
        small = (size <= goal) & (damping[live] == 0)
        good = solved.definite & there.proper & (falls | small)
        way[live[good]] = trial[good]
        state.put(live[good], there.at(good))
        less = torch.where(damping[live] > 2e-3, damping[live] / 8, 0.0)
        damping[live] = torch.where(good, less, (8 * damping[live]).clamp_min(1e-2))
        done[live] = good & small
        bent[live] |= ~good
        live = live[~(good & small) & (damping[live] < 1e12)]
    return way, state, done, bent


def _lay(metric: Metric, points: Tensor, elements: int) -> Tensor:
    """The polygon (b, k, d) as the way (b, 3 M + 1, d) from its first point, at constant speed."""
    b, k, d = points.shape
    sides = points.diff(dim=1)
    middles = points[:, :-1] + sides / 2
    lengths = of.squared(metric, middles.reshape(-1, d), sides.reshape(-1, d)).clamp_min(0).sqrt().view(b, k - 1)
    total = torch.cat([lengths.new_zeros(b, 1), lengths.cumsum(1)], 1)
    wanted = (torch.arange(elements).to(points)[:, None] + torch.as_tensor(NODES[:-1]).to(points)) / elements
    wanted = wanted.flatten() * total[:, -1:]
    side = (torch.searchsorted(total, wanted, right=True) - 1).clamp(0, k - 2)
    share = (wanted - total.gather(1, side)) / lengths.gather(1, side).clamp_min(torch.finfo(points.dtype).tiny)
    rows = torch.arange(b, device=points.device)[:, None]
    corners = points - points[:, :1]
    way = corners[rows, side] + share.clamp(0, 1)[..., None] * sides[rows, side]
    return torch.cat([way, corners[:, -1:]], 1)
