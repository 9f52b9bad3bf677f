"""Second-order jets: values, first and second derivatives of a decoder along all directions in one pass.

One derivative over another runs the decoder at least four times for each pair of directions. A jet carries 1 value, d
first and p second derivatives through the decoder side by side, by the chain rule

    ∂_i f(x) = f'(x) ∂_i x,    ∂_i ∂_j f(x) = f'(x) ∂_i ∂_j x + f''(x) ∂_i x ∂_j x,

so a linear layer is one product of 1 + d + p rows a point. It knows the functions of common decoders; any other raises
`Unknown`, and the caller differentiates in general.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vjp, vmap


class Unknown(Exception):
    """A function that jets don't know."""


class Jet(Tensor):
    """A value x (m, ...) with terms (1 + d + p, m, ...): x, ∂_a x for d directions, ∂_i ∂_j x for pairs i, j (p,)."""

    terms: Tensor
    i: Tensor
    j: Tensor

    @staticmethod
    def of(terms: Tensor, i: Tensor, j: Tensor) -> Jet:
        """The jet of these terms."""
        jet = terms[0].as_subclass(Jet)
        jet.terms, jet.i, jet.j = terms, i, j
        return jet

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        named = kwargs or {}
        if func in ASKING:
            return super().__torch_function__(func, types, args, named)
        if func not in RULES or named.get("inplace") or named.get("training"):
            raise Unknown(getattr(func, "__name__", str(func)))
        return RULES[func](func, *args, **named)


def jets(decode: Callable[[Tensor], Any], z: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
    """∂_a g (m, d, D) and ∂_i ∂_j g (m, p, D) at z (m, d) for p pairs of coordinates i, j (p,).

    Raises:
        Unknown: the decoder uses a function that jets don't know.
    """
    m, d = z.shape
    first = torch.eye(d, dtype=z.dtype, device=z.device)[:, None].expand(d, m, d)
    answer = decode(Jet.of(torch.cat([z[None], first, z.new_zeros(len(i), m, d)]), i, j))
    if not isinstance(answer, Jet) or answer.ndim == 0 or len(answer) != m:
        raise Unknown(type(answer).__name__)
    found = answer.terms.reshape(1 + d + len(i), m, -1).movedim(0, 1)
    return found[:, 1 : 1 + d], found[:, 1 + d :]


def _rows(func: Any, x: Any, *args: Any, **named: Any) -> Jet:
    """An affine function of each row of a batch."""
    _only(x, *args, *named.values())
    flat = x.terms.flatten(0, 1)
    answer = func(flat, *args, **named).unflatten(0, x.terms.shape[:2])
    rest = answer[1:] - func(torch.zeros_like(x.terms[0, :1]), *args, **named)
    return Jet.of(torch.cat([answer[:1], rest]), x.i, x.j)


def _weighted(func: Any, x: Any, weight: Any, bias: Any = None, *args: Any, **named: Any) -> Jet:
    """A linear layer or convolution."""
    _only(x, weight, bias)
    terms = func(x.terms.flatten(0, 1), weight, None, *args, **named).unflatten(0, x.terms.shape[:2])
    if bias is not None:
        shift = bias if func is F.linear else bias.view(-1, *[1] * (terms.ndim - 3))
        terms[:1] += shift
    return Jet.of(terms, x.i, x.j)


def _shape(func: Any, x: Any, *args: Any, **named: Any) -> Jet:
    """A linear function of the whole batch that may name its shape."""
    _only(x, *args, *named.values())
    return Jet.of(vmap(lambda term: func(term, *args, **named))(x.terms), x.i, x.j)


def _pad(func: Any, x: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Jet:
    if value:
        raise Unknown("pad with a value")
    return _shape(func, x, pad, mode)


def _curve(func: Any, x: Any, *args: Any, **named: Any) -> Jet:
    """A function of every number by itself."""
    _only(x, *args, *named.values())
    value, d = x.terms[0], len(x.terms) - 1 - len(x.i)
    one = torch.ones_like(value)

    def slope(y: Tensor) -> Tensor:
        return vjp(lambda y: func(y, *args, **named), y)[1](one)[0]

    y = func(value, *args, **named)
    dy, pull = vjp(slope, value)[:2]
    ddy = pull(one)[0]
    terms = x.terms * dy
    terms[:1] = y
    first = x.terms[1 : 1 + d]
    terms[1 + d :] += first[x.i] * first[x.j] * ddy
    return Jet.of(terms, x.i, x.j)


def _add(func: Any, x: Any, other: Any) -> Jet:
    if not isinstance(x, Jet):
        x, other = other, x
    if isinstance(other, Jet):
        _same([x.ndim], [other.ndim])
        return Jet.of(x.terms + other.terms, x.i, x.j)
    _same(torch.broadcast_shapes(x.shape, getattr(other, "shape", ())), x.shape)
    return Jet.of(torch.cat([x.terms[:1] + other, x.terms[1:]]), x.i, x.j)


def _mul(func: Any, x: Any, other: Any) -> Jet:
    if not isinstance(x, Jet):
        x, other = other, x
    if not isinstance(other, Jet):
        _same(torch.broadcast_shapes(x.shape, getattr(other, "shape", ())), x.shape)
        return Jet.of(x.terms * other, x.i, x.j)
    _same([x.ndim], [other.ndim])
    d = len(x.terms) - 1 - len(x.i)
    (a, da, dda), (b, db, ddb) = (t.terms.split([1, d, len(x.i)]) for t in (x, other))
    cross = da[x.i] * db[x.j] + da[x.j] * db[x.i]
    return Jet.of(torch.cat([a * b, da * b + a * db, dda * b + cross + a * ddb]), x.i, x.j)


def _sub(func: Any, x: Any, other: Any) -> Jet:
    return _add(func, x, -other)


def _only(x: Any, *others: Any) -> None:
    if not isinstance(x, Jet) or any(isinstance(a, Jet) for a in others):
        raise Unknown("a jet among the other arguments")


def _same(one: Any, other: Any) -> None:
    if tuple(one) != tuple(other):
        raise Unknown("numbers that are spread out")


def _named(names: str) -> list[Any]:
    """What these names mean, as functions and as methods."""
    places = (torch, Tensor, F)
    return [getattr(place, name) for name in names.split() for place in places if hasattr(place, name)]


CURVES = """tanh sigmoid exp sin cos sinh cosh square sqrt rsqrt log log1p expm1 erf atan reciprocal softplus silu gelu
    mish celu logsigmoid softsign tanhshrink"""
SHAPES = """flatten unflatten view reshape permute transpose movedim squeeze unsqueeze contiguous sum mean neg __neg__
    __getitem__ narrow"""
ROWS = "batch_norm interpolate avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool2d pixel_shuffle dropout"
LAYERS = "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"
FAMILIES: tuple[tuple[str, Callable[..., Jet]], ...] = (
    (CURVES, _curve),
    (SHAPES, _shape),
    (ROWS, _rows),
    (LAYERS, _weighted),
    ("pad", _pad),
    ("add __add__ __radd__", _add),
    ("sub __sub__", _sub),
    ("mul __mul__ __rmul__", _mul),
)
RULES = {func: rule for names, rule in FAMILIES for func in _named(names)}
ASKING = {Tensor.size, Tensor.dim, Tensor.__len__, Tensor.is_floating_point, Tensor.numel} | {
    getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "requires_grad", "is_sparse")
}
