"""The exponential map: the geodesic equation γ'' = −Γ(γ', γ') by a Runge–Kutta method of order 8 with its own steps."""

from __future__ import annotations

from typing import Any

import torch
from scipy.integrate import DOP853
from torch import Tensor

from brenier.geometry import metric as of
from brenier.geometry.batch import each
from brenier.geometry.metric import Metric, name

STEPS = 10_000
FIRST = 0.1


def exp(metric: Metric, x: Any, v: Any) -> Any:
    """Where the geodesic from x (..., d) with velocity v (..., d) is at time 1, (..., d).

    γ'' = −Γ(γ', γ') by the method of Dormand and Prince of order 8, every geodesic with steps of its own, to a relative
    error of about 1e-11 a step in float64 and 1e-5 in float32. Its speed |γ'| must stay what it was: that is checked.

    Raises:
        ValueError: the metric is not finite, symmetric and positive definite at a point of x; x and v differ in shape,
            dtype or device.
        ArithmeticError: a geodesic leaves the domain of the metric, or its speed changes because the metric is not
            smooth; its first point and the last one reached are named.

    Source: Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, section II.5 and the code DOP853.

    Example:
        >>> half_plane = lambda x: torch.eye(2, dtype=x.dtype) / x[1] ** 2
        >>> up = torch.tensor([0.0, 1.0], dtype=torch.float64)
        >>> exp(half_plane, up, up)
        tensor([0.0000, 2.7183], dtype=torch.float64)
    """

    def ends(g: Tensor, x: Tensor, v: Tensor) -> Tensor:
        of.look(metric, x)
        return shoot(metric, x, v)

    return each(metric, ends, 60, 1, x=x, v=v)


def shoot(metric: Metric, x: Tensor, v: Tensor) -> Tensor:
    """The ends (m, d) of the geodesics from x (m, d), where the metric is known to be proper, with velocities v."""
    rate = max(torch.finfo(x.dtype).eps * 100, 1e-11)
    speed = of.squared(metric, x, v)
    point, velocity = x.clone(), v.clone()
    t, h = torch.zeros_like(speed), torch.full_like(speed, FIRST)
    t[v.abs().amax(1) == 0] = 1
    for _ in range(STEPS):
        rows = (t < 1).nonzero()[:, 0]
        if not len(rows):
            break
        step = torch.minimum(h[rows], 1 - t[rows])
        error, there, then = _step(metric, point[rows], velocity[rows], step, rate)
        good = (error < 1) & of.proper(of.tensor(metric, there))
        kept = rows[good]
        last = step >= 1 - t[rows]
        point[kept], velocity[kept] = there[good], then[good]
        t[rows] = torch.where(good, torch.where(last, torch.ones_like(step), t[rows] + step), t[rows])
        growth = torch.nan_to_num(0.9 * error.clamp_min(1e-12) ** (-1 / 8), nan=0.2).clamp(0.2, 5)
        h[rows] = step * torch.where(good, growth, growth.clamp_max(0.5))
        lost = h[rows] < 100 * torch.finfo(x.dtype).eps * t[rows].clamp_min(1e-3)
        _refuse(lost & (t[rows] < 1), "leaves the domain of the metric", x[rows], v[rows], point[rows])
    _refuse(t < 1, f"needs more than {STEPS} steps", x, v, point)
    drift = (of.squared(metric, point, velocity) - speed).abs() > rate**0.5 * speed
    _refuse(drift, "changes its speed: the metric is not smooth, it ends", x, v, point)
    return point


def _refuse(bad: Tensor, what: str, x: Tensor, v: Tensor, point: Tensor) -> None:
    if bad.any():
        i = int(bad.nonzero()[0, 0])
        raise ArithmeticError(f"the geodesic from {name(x[i])} with velocity {name(v[i])} {what} at {name(point[i])}")


def _step(metric: Metric, x: Tensor, v: Tensor, h: Tensor, rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """One step h (m,) each: its error in units of the tolerance (m,), and the new point and velocity."""
    tables = (torch.as_tensor(table).to(x) for table in (DOP853.A, DOP853.B, DOP853.E3, DOP853.E5))
    a, b, third, fifth = tables
    h = h[:, None]
    speeds = x.new_zeros(13, *x.shape)
    forces = torch.zeros_like(speeds)
    for i in range(12):
        speeds[i] = v + h * torch.tensordot(a[i, :i], forces[:i], 1)
        forces[i] = -of.acceleration(metric, x + h * torch.tensordot(a[i, :i], speeds[:i], 1), speeds[i])
    there, then = (z + h * torch.tensordot(b, k[:12], 1) for z, k in ((x, speeds), (v, forces)))
    speeds[12], forces[12] = then, -of.acceleration(metric, there, then)
    fast = torch.maximum(v.abs().amax(1, True), then.abs().amax(1, True))
    scales = (rate * (torch.maximum(x.abs().amax(1, True), there.abs().amax(1, True)) + fast), rate * fast)
    e3, e5 = (
        sum(
            (torch.tensordot(e, k, 1) / scale).square().mean(1)
            for k, scale in zip((speeds, forces), scales, strict=True)
        )
        for e in (third, fifth)
    )
    return h[:, 0] * e5 / (e5 + 0.01 * e3).sqrt().clamp_min(torch.finfo(x.dtype).tiny), there, then
