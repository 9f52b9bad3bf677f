"""Geodesics between points, and what follows from them: logarithm and distance."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from brenier.checks import whole
from brenier.geometry import chain
from brenier.geometry import metric as of
from brenier.geometry.batch import as_points, slices
from brenier.geometry.elements import DEGREE, NODES, Energy, energy, pieces, resample, residual
from brenier.geometry.metric import Metric, checked, name
from brenier.solution import Solution, Status

TOL, LOG_TOL = 1e-6, 1e-10
STEPS = 60  # of Newton's method on one mesh
COARSEST, FINEST = 4, 1024  # elements of a path


@dataclass(frozen=True)
class Geodesic(Solution):
    """Geodesics between pairs of points, each at constant speed in time from 0 to 1.

    path (..., n, d): its nodes at equal times, both ends included; length (...); velocity (..., d) at the first end,
    the logarithm; residual (...): the largest |γ'' + Γ(γ', γ')| / |γ'| of the piecewise cubic path.
    """

    path: Any = field(repr=False)
    length: Any
    velocity: Any = field(repr=False)
    residual: Any


class Found(NamedTuple):
    """Of pairs of points: path (b, n, d), ∂S/∂x and ∂S/∂y (b, 2 d) and second derivatives (b, 2 d, 2 d) of the action
    S = ½ distance² by both ends, length (b,), residual (b,).
    """

    path: Tensor
    slope: Tensor
    bend: Tensor
    length: Tensor
    residual: Tensor


def geodesic(metric: Metric, x: Any, y: Any, n: int = 32, tol: float = TOL, start: Any = None) -> Geodesic:
    """Geodesics from x (..., d) to y (..., d) at n equal times.

    The energy ∫ ½ γ'ᵀ G(γ) γ' dt of a path of cubic elements is minimised by Newton's method, damped where the energy
    is not convex, from the straight line in coordinates or from `start` (..., k, d), k points of a path from x to y,
    such as one along a neighbour graph. Elements are halved until the velocities at both ends are within `tol` of the
    length; the order is 6. It is the shortest path among its neighbours, and within the chart; whether another way
    round is shorter, another `start` tells. In float32 no tol below 1e-4 is reached, nor asked for.

    Raises:
        ValueError: the metric is not finite, symmetric and positive definite at an end, which is named; x and y differ
            in shape, dtype or device; n < 2; tol ≤ 0; a start that doesn't lead from x to y.
        ArithmeticError: no geodesic found within tol, or the first path leaves the domain; the pair is named.

    Source: Marsden and West, Discrete mechanics and variational integrators, Acta Numerica 2001.

    Example:
        >>> half_plane = lambda x: torch.eye(2, dtype=x.dtype) / x[1] ** 2
        >>> x, y = torch.tensor([[1.0, 4.0], [7.0, 4.0]], dtype=torch.float64)
        >>> found = geodesic(half_plane, x, y, n=3)
        >>> found.path[1], found.length
        (tensor([4.0000, 5.0000], dtype=torch.float64), tensor(1.3863, dtype=torch.float64))
    """
    began = time.perf_counter()
    n = whole("n", n, 2)
    (x, y), back = as_points(x=x, y=y)
    lead, d = x.shape[:-1], x.shape[-1]
    history: list[dict[str, Any]] = []
    found = connect(metric, x.reshape(-1, d), y.reshape(-1, d), n, tol, _through(x, y, start), history)
    velocity = _velocity(metric, x.reshape(-1, d), found)
    shaped = (a.reshape((*lead, *a.shape[1:])) for a in (found.path, found.length, velocity, found.residual))
    return Geodesic(Status.GEODESIC, time.perf_counter() - began, history, *map(back, shaped))


def distance(metric: Metric, x: Any, y: Any, tol: float = TOL) -> Any:
    """Length of the geodesic from x (..., d) to y (..., d), (...), to a relative error of `tol`; see `geodesic`.

    Raises:
        ValueError, ArithmeticError: as `geodesic`.

    Example:
        >>> half_plane = lambda x: torch.eye(2, dtype=x.dtype) / x[1] ** 2
        >>> distance(half_plane, torch.tensor([0.0, 1.0]).double(), torch.tensor([0.0, 2.0]).double())
        tensor(0.6931, dtype=torch.float64)
    """
    (x, y), back = as_points(x=x, y=y)
    d = x.shape[-1]
    found = connect(metric, x.reshape(-1, d), y.reshape(-1, d), 2, tol)
    return back(found.length.reshape(x.shape[:-1]))


def log(metric: Metric, x: Any, y: Any, tol: float = LOG_TOL) -> Any:
    """The velocity v (..., d) at x (..., d) of the geodesic that is at y (..., d) at time 1: exp(x, log(x, y)) = y.

    To a relative error of `tol`; zero where x and y coincide. See `geodesic`.

    Raises:
        ValueError, ArithmeticError: as `geodesic`.

    Example:
        >>> half_plane = lambda x: torch.eye(2, dtype=x.dtype) / x[1] ** 2
        >>> log(half_plane, torch.tensor([0.0, 1.0]).double(), torch.tensor([0.0, 2.0]).double())
        tensor([0.0000, 0.6931], dtype=torch.float64)
    """
    (x, y), back = as_points(x=x, y=y)
    d = x.shape[-1]
    found = connect(metric, x.reshape(-1, d), y.reshape(-1, d), 2, tol)
    return back(_velocity(metric, x.reshape(-1, d), found).reshape(x.shape))


def _velocity(metric: Metric, x: Tensor, found: Found) -> Tensor:
    """G⁻¹ p at the first end, p = −∂S/∂x."""
    return torch.linalg.solve(checked(metric, x), -found.slope[:, : x.shape[1]])


def connect(
    metric: Metric,
    x: Tensor,
    y: Tensor,
    n: int,
    tol: float,
    start: Tensor | None = None,
    history: list[dict[str, Any]] | None = None,
) -> Found:
    """Geodesics between x (b, d) and y (b, d); the meshes are written to `history`."""
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}")
    start = torch.stack([x, y], 1) if start is None else start
    with torch.no_grad():
        checked(metric, x), checked(metric, y)
        of.look(metric, x)
        return _connect(metric, start, n, tol, [] if history is None else history)


def reachable(tol: float, x: Tensor) -> float:
    """`tol`, or what the numbers of x allow."""
    return max(tol, 1e3 * torch.finfo(x.dtype).eps)


def _meshes(n: int) -> list[int]:
    """Numbers of elements from coarse to fine, each about twice the one before; the last are multiples of n − 1."""
    least = (n - 1) * -(-2 * COARSEST // (n - 1))
    meshes = [least]
    while meshes[0] > COARSEST:
        meshes.insert(0, -(-meshes[0] // 2))
    while 2 * meshes[-1] <= max(FINEST, 2 * least):
        meshes.append(2 * meshes[-1])
    return meshes


def _connect(metric: Metric, start: Tensor, n: int, tol: float, history: list[dict[str, Any]]) -> Found:
    b, d = start.shape[0], start.shape[2]
    goal = reachable(tol, start)
    rows = torch.arange(b, device=start.device)
    meshes = _meshes(n)
    way = _lay(metric, start, meshes[0])
    answer = Found(*(start.new_empty(b, *shape) for shape in ((n, d), (2 * d,), (2 * d, 2 * d), (), ())))
    before = None
    for elements in meshes:
        here = _mesh(metric, start[rows, 0], resample(way, elements), goal)
        error = _change(metric, start[rows], here, before)
        history.append({"elements": elements, "pairs": len(rows), "error": float(error.amax())})
        fit = here.done & (error <= goal) & (elements % (n - 1) == 0)
        if fit.any():
            at = rows[fit]
            answer.path[at] = start[at, :1] + here.way[fit, :: DEGREE * elements // (n - 1)]
            answer.path[at, -1] = start[at, -1]
            answer.slope[at], answer.bend[at] = -here.load[fit], here.matrix[fit]
            answer.length[at] = here.length[fit]
            answer.residual[at] = residual(metric, start[at, 0], here.way[fit])
        _refuse(~here.done & (elements > max(2 * COARSEST, n - 1)), start[rows], tol, here.proper)
        rows, way, before = rows[~fit], here.way[~fit], here.load[~fit]
        if not len(rows):
            return answer
    raise ArithmeticError(f"{_pair(start[rows[0]], tol)}: its velocity still changes on {elements} elements; raise tol")


class _Mesh(NamedTuple):
    """Paths of one mesh: ways, −∂S/∂(x, y), second derivatives of S, lengths, which are done, which are proper."""

    way: Tensor
    load: Tensor
    matrix: Tensor
    length: Tensor
    done: Tensor
    proper: Tensor


def _mesh(metric: Metric, origin: Tensor, way: Tensor, goal: float) -> _Mesh:
    """Minimise the energy of paths, so many at a time as Newton's systems fit into the budget."""
    d, parts = way.shape[2], []
    for rows in slices(len(way), 4 * way.shape[1] * (4 * d) ** 2):
        found, state, done = minimise(metric, origin[rows], way[rows], goal**0.5 * 1e-3)
        solved = chain.solve(state.hessian, -state.gradient, d)
        parts.append(_Mesh(found, solved.load, solved.matrix, (2 * state.value).sqrt(), done, state.proper))
    return _Mesh(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _pair(start: Tensor, tol: float) -> str:
    return f"no geodesic from {name(start[0])} to {name(start[-1])} within tol {tol:g}"


def _refuse(lost: Tensor, start: Tensor, tol: float, proper: Tensor) -> None:
    """Name a pair that Newton's method gave up."""
    if lost.any():
        i = int(lost.nonzero()[0, 0])
        why = "Newton's method stopped short: is the metric smooth? else raise tol or pass a start"
        outside = "the path that it starts from leaves the domain of the metric: pass a start"
        raise ArithmeticError(f"{_pair(start[i], tol)}: {why if proper[i] else outside}")


def _change(metric: Metric, start: Tensor, here: _Mesh, before: Tensor | None) -> Tensor:
    """A 15th of the change of the momenta at both ends from the mesh before, in lengths, (b,)."""
    if before is None:
        return torch.full_like(here.length, torch.inf)
    d = start.shape[2]
    change = (here.load - before).view(-1, d)
    dual = torch.linalg.solve_ex(of.tensor(metric, start[:, [0, -1]].reshape(-1, d)), change)[0]
    size = (change * dual).sum(1).clamp_min(0).sqrt().view(-1, 2).amax(1)
    return size / here.length.clamp_min(torch.finfo(size.dtype).tiny) / 15


def minimise(metric: Metric, origin: Tensor, way: Tensor, goal: float) -> tuple[Tensor, Energy, Tensor]:
    """Damped Newton on the energy of paths: their ways (b, 3 M + 1, d), energy, and which are done (b,) bool.

    (H + λ K) δ = −∇E with the Hessian H and its part K of a frozen metric, which is positive definite; λ grows where
    the matrix is not, or the energy does not fall, and shrinks to zero where it does.
    """
    d, eps = way.shape[2], torch.finfo(way.dtype).eps
    way, state = way.clone(), energy(metric, origin, way)
    damping = torch.zeros_like(state.value)
    done = torch.zeros_like(state.proper)
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
        live = live[~(good & small) & (damping[live] < 1e12)]
    return way, state, done


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


def _through(x: Tensor, y: Tensor, start: Any) -> Tensor | None:
    """The path to start from, (b, k, d), checked."""
    if start is None:
        return None
    (found,), _ = as_points(start=start)
    if found.ndim != x.ndim + 1 or found.shape != (*x.shape[:-1], found.shape[-2], x.shape[-1]) or found.shape[-2] < 2:
        shapes = f"beside x {tuple(x.shape)}, got {tuple(found.shape)}"
        raise ValueError(f"start must be (..., k, d) with k at least 2 {shapes}")
    found = found.to(x)
    if not (torch.equal(found[..., 0, :], x) and torch.equal(found[..., -1, :], y)):
        raise ValueError("start must lead from x to y, its ends are other points")
    return found.reshape(-1, *found.shape[-2:])
