"""Derivatives of a decoder along batches of directions, and what is asked of a decoder before it is differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from brenier.geometry.derivative import Way, forward
from brenier.geometry.forms import Plain
from brenier.geometry.jet import Unknown, jets
from brenier.geometry.kinks import Watch
from brenier.geometry.metric import name

Decode = Callable[[Tensor], Tensor]

CREASES = (
    "the decoder has creases ({}): its metric jumps across them, its curvature sits on them, and derivatives inside "
    "the cells miss both; take geometry.pullback(decode, smooth=beta) or geometry.crease_curvature"
)


class Facts(NamedTuple):
    """What is known of a decoder: floats of all results on the way of one row, names of the functions that bend it."""

    floats: int
    bends: tuple[str, ...]


def flat(decode: Decode, z: Tensor) -> Tensor:
    """g(z) as rows, (m, D).

    Raises:
        TypeError: not a tensor, or of another dtype. ValueError: another number of rows.
    """
    with Plain():
        x = decode(z)
    if not isinstance(x, Tensor):
        raise TypeError(f"the decoder must return a tensor, got {type(x).__name__}")
    if x.shape[:1] != z.shape[:1]:
        raise ValueError(f"the decoder must return one row for each of the {len(z)} codes, got shape {tuple(x.shape)}")
    if x.dtype != z.dtype:
        raise TypeError(f"the decoder must keep the dtype of its codes, {z.dtype}, got {x.dtype}")
    return x.reshape(len(z), -1)


def push(decode: Decode, z: Tensor, v: Tensor, way: Way = forward) -> Tensor:
    """Dg(v), (m, D), at z (m, d) along v (m, d)."""
    return way(lambda y: flat(decode, y), z, v)


def bend(decode: Decode, z: Tensor, u: Tensor, v: Tensor, way: Way = forward) -> Tensor:
    """D²g(u, v), (m, D), one way over itself."""
    return way(lambda y: push(decode, y, u, way), z, v)


def jacobian(decode: Decode, z: Tensor, way: Way = forward) -> Tensor:
    """∂_i g, (m, d, D)."""
    m, d = z.shape
    return push(decode, z.repeat_interleave(d, 0), basis(z).repeat(m, 1), way).view(m, d, -1)


def second_order(
    decode: Decode, z: Tensor, i: Tensor, j: Tensor, way: Way = forward, quick: bool = True
) -> tuple[Tensor, Tensor]:
    """∂_a g (m, d, D) and ∂_i ∂_j g (m, p, D) for p pairs of coordinates i, j (p,), one way over itself.

    `quick`: by jets, where they know all functions of the decoder.
    """
    if quick:
        try:
            return jets(lambda y: flat(decode, y), z, i, j)
        except Unknown:
            pass
    p = len(i)
    u, v = (basis(z)[k].repeat(len(z), 1) for k in (i, j))
    return jacobian(decode, z, way), bend(decode, z.repeat_interleave(p, 0), u, v, way).view(len(z), p, -1)


def basis(z: Tensor) -> Tensor:
    """The unit vectors of the code space, (d, d)."""
    return torch.eye(z.shape[1], dtype=z.dtype, device=z.device)


def examine(module: Decode, decode: Decode, z: Tensor) -> Facts:
    """A look at `decode`, which runs `module`, at the first code of z (m, d).

    Raises:
        TypeError, ValueError: one clear sentence for each way in which a decoder has no geometry.
    """
    if not isinstance(z, Tensor) or z.ndim != 2 or 0 in z.shape:
        raise ValueError(f"codes must be a tensor (m, d) with m and d at least 1, got {_shape(z)}")
    if isinstance(module, nn.Module):
        _refuse_module(module, z)
    rows = company(z)
    with torch.no_grad():
        alone = flat(decode, rows[:2])[0]
    if not alone.isfinite().all():
        raise ValueError(f"the decoder gives NaN or Inf at {name(z[0])}")
    with torch.enable_grad(), Watch() as watch:
        leaf = rows.clone().requires_grad_()
        together = flat(decode, leaf)
        bends = [of for of, a in watch.bends if _follows(a, leaf)]
    if not together.requires_grad:
        raise ValueError("the decoder cuts gradients (no_grad, detach) or ignores its codes: pass a differentiable one")
    if (together[0] - alone).abs().amax() > torch.finfo(z.dtype).eps ** 0.5 * (1 + alone.abs().amax()):
        raise ValueError(
            f"the decoder's answer at {name(z[0])} depends on the other rows or on chance (BatchNorm or Dropout in "
            "training?): call its eval() first"
        )
    return Facts(-(-watch.floats // len(rows)), tuple(dict.fromkeys(bends)))


def refuse_hidden_creases(decode: Decode, z: Tensor, way: Way = forward) -> None:
    """Tell an affine map from a piecewise-linear one whose bends are not in `kinks`; asked where D²g vanishes at z.

    Raises:
        ValueError: D²g also vanishes around z, at distances from 0.01 to 100, where g leaves its tangent plane.
    """
    near = z[:1].detach()
    turn = torch.randn(5, 8, z.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(near)
    turn = turn * torch.logspace(-2, 2, 5, dtype=torch.float64).to(near)[:, None, None] * (1 + near.abs().amax())
    step = turn.flatten(0, 1)
    with torch.no_grad():
        second = bend(decode, near + step, step, step, way)
        tangent = flat(decode, near) + push(decode, near.repeat(len(step), 1), step, way)
        away = (flat(decode, near + step) - tangent).abs().amax(1)
    known = second.isfinite().all(1) & away.isfinite()
    off = away > torch.finfo(z.dtype).eps ** 0.5 * (1 + tangent.abs().amax(1))
    if not second[known].any() and off[known].any():
        raise ValueError(CREASES.format("it is piecewise linear"))


def _refuse_module(module: nn.Module, z: Tensor) -> None:
    for part in module.modules():
        if part.training and (isinstance(part, _BatchNorm) or (isinstance(part, _DropoutNd) and part.p > 0)):
            raise ValueError(f"the decoder's {type(part).__name__} is in training mode: call its eval() first")
    own = next((p for p in module.parameters() if p.is_floating_point()), z)
    if own.dtype != z.dtype:
        raise TypeError(f"codes and decoder must have one dtype, got {z.dtype} and {own.dtype}")
    if own.device != z.device:
        raise ValueError(f"codes and decoder must be on one device, got {z.device} and {own.device}")


def _follows(a: Tensor, leaf: Tensor) -> bool:
    """Whether autograd's graph leads from a back to the leaf."""
    waiting: list[Any] = [a.grad_fn]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if getattr(node, "variable", None) is leaf:
            return True
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
    return False


def company(z: Tensor) -> Tensor:
    """The first code and three others beside it, (4, d)."""
    first = z[:1].detach()
    away = torch.arange(4 * z.shape[1], dtype=z.dtype, device=z.device).cos().view(4, -1)
    away[0] = 0
    return first + 0.1 * (1 + first.abs().amax()) * away


def _shape(z: object) -> str:
    return f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
