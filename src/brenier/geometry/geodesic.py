"""Geodesics between points, and what follows from them: logarithm and distance."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from brenier.checks import whole
from brenier.geometry import metric as of
from brenier.geometry.batch import as_points
from brenier.geometry.metric import Metric, checked, name
from brenier.geometry.paths import ENDS, Found, nothing, reachable, trace
from brenier.geometry.starts import shortest
from brenier.solution import Solution, Status

TOL, LOG_TOL = 1e-6, 1e-10
STARTS = 3  # arcs that are tried where the straight line does not do
FINER = 32  # elements that they begin with


@dataclass(frozen=True)
class Geodesic(Solution):
    """Geodesics between pairs of points, each at constant speed in time from 0 to 1.

    path (..., n, d): its nodes at equal times, both ends included; length (...); velocity (..., d) at the first end,
    the logarithm; residual (...): the largest |γ'' + Γ(γ', γ')| / |γ'| of the piecewise cubic path, by how many radians
    it turns against a geodesic at most; found (...), bool: where that and the change of the velocities are within the
    tolerance, all numbers are NaN elsewhere; ends: the status of each pair in order. `status` is that of the first pair
    that was not found.
    """

    path: Any = field(repr=False)
    length: Any
    velocity: Any = field(repr=False)
    residual: Any
    found: Any = field(repr=False)
    ends: tuple[Status, ...] = field(repr=False)


def geodesic(metric: Metric, x: Any, y: Any, n: int = 32, tol: float = TOL, start: Any = None) -> Geodesic:
    """Geodesics from x (..., d) to y (..., d) at n equal times.

    The energy ∫ ½ γ'ᵀ G(γ) γ' dt of a path of cubic elements is minimised by Newton's method, damped where the energy
    is not convex, from the straight line in coordinates or from `start` (..., k, d), k points of a path from x to y,
    such as one along a neighbour graph. Elements are halved until the velocities at both ends are within `tol` of the
    length and the residual is at most 10 √tol; the order is 6. Where the straight line fails, or is not the shortest
    among its neighbours on the way, arcs to its sides are tried on finer meshes, and the shortest geodesic is kept. It
    is the shortest among its neighbours, and within the chart; whether another way round is shorter, another `start`
    tells. In float32 no tol below 1e-4 is reached, nor asked for.

    Of several pairs those without a geodesic are NaN and named by `found` and `ends`; the others are not lost.

    Raises:
        ValueError: the metric is not finite, symmetric and positive definite at an end, which is named; x and y differ
            in shape, dtype or device; n < 2; tol ≤ 0; a start that doesn't lead from x to y.
        ArithmeticError: no geodesic found within tol between any pair; the first is named.

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
    path = _through(x, y, start)
    x, y = x.reshape(-1, d), y.reshape(-1, d)
    found = connect(metric, x, y, n, tol, path, history)
    ends = tuple(ENDS[i] for i in found.end.tolist())
    if ends and Status.GEODESIC not in ends:
        all_found(found, x, y, tol)
    status = next((end for end in ends if end is not Status.GEODESIC), Status.GEODESIC)
    parts = (found.path, found.length, _velocity(metric, x, found), found.residual, found.end == 0)
    shaped = (back(a.reshape((*lead, *a.shape[1:]))) for a in parts)
    return Geodesic(status, time.perf_counter() - began, history, *(*shaped, ends))


def distance(metric: Metric, x: Any, y: Any, tol: float = TOL) -> Any:
    """Length of the geodesic from x (..., d) to y (..., d), (...), to a relative error of `tol`; see `geodesic`.

    Raises:
        ValueError: as `geodesic`. ArithmeticError: no geodesic between a pair, which is named; `geodesic` keeps others.

    Example:
        >>> half_plane = lambda x: torch.eye(2, dtype=x.dtype) / x[1] ** 2
        >>> distance(half_plane, torch.tensor([0.0, 1.0]).double(), torch.tensor([0.0, 2.0]).double())
        tensor(0.6931, dtype=torch.float64)
    """
    (x, y), back = as_points(x=x, y=y)
    d = x.shape[-1]
    x, y, lead = x.reshape(-1, d), y.reshape(-1, d), x.shape[:-1]
    found = all_found(connect(metric, x, y, 2, tol), x, y, tol)
    return back(found.length.reshape(lead))


def log(metric: Metric, x: Any, y: Any, tol: float = LOG_TOL) -> Any:
    """The velocity v (..., d) at x (..., d) of the geodesic that is at y (..., d) at time 1: exp(x, log(x, y)) = y.

    To a relative error of `tol`; zero where x and y coincide. See `geodesic`.

    Raises:
        ValueError: as `geodesic`. ArithmeticError: no geodesic between a pair, which is named; `geodesic` keeps others.

    Example:
        >>> half_plane = lambda x: torch.eye(2, dtype=x.dtype) / x[1] ** 2
        >>> log(half_plane, torch.tensor([0.0, 1.0]).double(), torch.tensor([0.0, 2.0]).double())
        tensor([0.0000, 0.6931], dtype=torch.float64)
    """
    (x, y), back = as_points(x=x, y=y)
    d = x.shape[-1]
    shape, x, y = x.shape, x.reshape(-1, d), y.reshape(-1, d)
    found = all_found(connect(metric, x, y, 2, tol), x, y, tol)
    return back(_velocity(metric, x, found).reshape(shape))


def _velocity(metric: Metric, x: Tensor, found: Found) -> Tensor:
    """G⁻¹ p at the first end, p = −∂S/∂x."""
    if not len(x):
        return x
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
    """Geodesics between x (b, d) and y (b, d); the meshes are written to `history`.

    From the straight line first. Where that fails, or meets an energy that is not convex, the shortest arcs that leave
    it to some side are tried on finer meshes, if they are shorter than what is found; the shortest geodesic is kept.
    """
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}")
    history = [] if history is None else history
    goal = reachable(tol, x)
    path = torch.stack([x, y], 1) if start is None else start
    if not len(x):
        return nothing(path, n)
    with torch.no_grad():
        checked(metric, x), checked(metric, y)
        of.look(metric, x)
        found = trace(metric, path, n, goal, history)
        hard = (found.end.bool() | found.bent).nonzero()[:, 0]
        if start is not None or not len(hard):
            return found
        arcs, size = shortest(metric, x[hard], y[hard], STARTS)
        for arc, long in zip(arcs.unbind(1), size.unbind(1), strict=True):
            length = torch.where(found.end.bool(), torch.inf, found.length * (1 - goal))
            some = (long < length[hard]).nonzero()[:, 0]
            if len(some):
                other = trace(metric, arc[some], n, goal, history, FINER)
                better = (other.end == 0) & (other.length < length[hard[some]])
                found.put(hard[some[better]], Found(*(part[better] for part in other)))
    return found


def all_found(found: Found, x: Tensor, y: Tensor, tol: float) -> Found:
    """What was found, if it was for all pairs.

    Raises:
        ArithmeticError: no geodesic between a pair, which is named.
    """
    lost = found.end.nonzero()[:, 0]
    if len(lost):
        i = int(lost[0])
        why = str(ENDS[int(found.end[i])]).removeprefix("not converged: ")
        others = f" ({len(lost)} of {len(x)} pairs are lost; geometry.geodesic keeps the others)" if len(x) > 1 else ""
        raise ArithmeticError(f"no geodesic from {name(x[i])} to {name(y[i])} within tol {tol:g}: {why}{others}")
    return found


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
