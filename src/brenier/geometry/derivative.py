"""Derivatives of functions of rows, x (m, d) -> f(x) (m, ...), in two ways, each held against differences before use.

Forward mode gives Df(v) in one pass. Reverse mode gives it as the derivative of u -> Df(x)ᵀ u, which is linear: for
functions that have no forward mode. Second derivatives are one way over itself. No framework is trusted with them: Df
and D²f are compared with central differences of f and Df at a few points, and a way that disagrees is not taken.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vjp

Function = Callable[[Tensor], Tensor]
Way = Callable[[Function, Tensor, Tensor], Tensor]

STEPS = (1e-3, 1e-4, 1e-5, 1e-2, 1e-6, 1e-7, 1e-1)  # of differences, in units of `scale`, the likeliest first
SLACK = 1e-3  # how far derivative and difference may be apart, relative
NOISE = 10  # roundings that a value may hold


def forward(f: Function, x: Tensor, v: Tensor) -> Tensor:
    """Df(v) (m, ...) by forward mode.

    Gradients are on meanwhile: without them torch takes formulas that have no second derivatives (SiLU, Mish).

    Example:
        >>> forward(torch.square, torch.tensor([[3.0]]), torch.ones(1, 1))
        tensor([[6.]])
    """
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        found = jvp(f, (x,), (v,))[1]
    return found if wanted else found.detach()


def reverse(f: Function, x: Tensor, v: Tensor) -> Tensor:
    """Df(v) (m, ...) by reverse mode, twice: u -> Df(x)ᵀ u is linear, and its own reverse gives v -> Df(x) v.

    Example:
        >>> reverse(torch.square, torch.tensor([[3.0]]), torch.ones(1, 1))
        tensor([[6.]])
    """
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        value, pull = vjp(f, x)[:2]
        found = vjp(lambda u: pull(u)[0], torch.zeros_like(value))[1](v)[0]
    return found if wanted else found.detach()


WAYS: tuple[Way, ...] = (forward, reverse)


def scale(x: Tensor) -> Tensor:
    """The size of every coordinate of x (m, d), at least a thousandth of the largest; 1 where all are zero.

    Steps in these units change no sign, so they stay in charts such as the half-space, however near the border.
    """
    most = x.abs().amax(1, True)
    return torch.where(most > 0, x.abs().maximum(most / 1000), 1.0)


def directions(x: Tensor) -> Tensor:
    """Directions in general position, in units of `scale`, one for each row: (m, d)."""
    place = torch.arange(x.numel(), dtype=x.dtype, device=x.device).view(x.shape)
    return (1.3 * place + 0.4).cos() * scale(x)


def agree(slope: Tensor, f: Function, x: Tensor, v: Tensor) -> bool:
    """Whether slopes (m, ...) of f along v (m, d) are those of central differences, at half of the rows at least.

    Differences are taken with several steps until they agree, each in one evaluation of f: one of them must be as near
    as its own rounding and a thousandth allow. Rows count where two differences of different steps agree to a
    twentieth; elsewhere f has no finite values, a bend, or lost its digits, and nothing can be told.
    """
    m = len(x)
    found = slope.detach().reshape(m, -1)
    near = torch.zeros(m, dtype=torch.bool, device=x.device)
    known, before = near.clone(), torch.full_like(found, torch.nan)
    eps = torch.finfo(x.dtype).eps
    for step in STEPS:
        if step < eps**0.5:
            continue
        try:
            with torch.no_grad():
                ends = f(torch.cat([x + step * v, x - step * v])).detach().reshape(2, m, -1)
        except torch.linalg.LinAlgError:  # a factorisation outside the chart
            continue
        difference = (ends[0] - ends[1]) / (2 * step)
        apart = (found - difference).abs().amax(1)
        size = torch.maximum(found.abs().amax(1), difference.abs().amax(1))
        rounding = NOISE * eps * ends.abs().amax((0, 2)) / step
        near |= (apart <= (SLACK + NOISE * eps / step) * size + rounding) & apart.isfinite()
        known |= near | ((difference - before).abs().amax(1) < difference.abs().amax(1) / 20)
        before = difference
        if near.all():
            return True
    return 2 * int((near & known).sum()) >= int(known.sum())


def sound(f: Function, x: Tensor, way: Way, order: int) -> bool:
    """Whether the derivatives of f at x (m, d) in this way, up to the order, agree with differences.

    Raises:
        NotImplementedError, RuntimeError: torch has no such derivative.
    """
    v = directions(x)
    if not agree(way(f, x, v), f, x, v):
        return False
    slope = along(f, v, way)
    return order == 1 or agree(way(slope, x, v), slope, x, v)


def along(f: Function, v: Tensor, way: Way) -> Function:
    """x -> Df(x) v, for x in copies of the rows of v (m, d)."""
    return lambda x: way(f, x, v.repeat(len(x) // len(v), 1))


def sound_twice(f: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> bool:
    """Whether gradient and Hessian of f(x, v) (m,) by x, backwards and backwards again, agree with differences.

    Raises:
        NotImplementedError, RuntimeError: torch has no such derivative.
    """
    v = directions(x)

    def fixed(y: Tensor) -> Tensor:
        return v.flip(1).repeat(len(y) // len(v), 1)

    def slope(leaf: Tensor) -> Tensor:
        value = f(leaf, fixed(leaf)).sum() + 0 * leaf.sum()
        (found,) = torch.autograd.grad(value, leaf, create_graph=True, materialize_grads=True)
        return (found * v.repeat(len(leaf) // len(v), 1)).sum(1)

    def alone(y: Tensor) -> Tensor:
        with torch.enable_grad():
            return slope(y.detach().requires_grad_()).detach()

    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        first = slope(leaf)
        (second,) = torch.autograd.grad(first.sum() + 0 * leaf.sum(), leaf)
    return agree(first, lambda y: f(y, fixed(y)), x, v) and agree((second * v).sum(1), alone, x, v)


def chosen(check: Callable[[Way], bool]) -> Way | Exception | None:
    """The first way that passes a check; else None where one ran and disagreed, or what torch said of the last."""
    said: list[Exception] = []
    for way in WAYS:
        try:
            if check(way):
                return way
        except (NotImplementedError, RuntimeError) as error:
            said.append(error)
    return said[-1] if len(said) == len(WAYS) else None
