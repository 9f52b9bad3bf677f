"""Where a network bends: its piecewise-linear functions, each written with one ramp r(a) = max(a, 0).

A TorchFunctionMode rewrites them while a decoder runs, whatever calls them: modules, functions or methods. With r =
relu nothing changes, but the ramps' arguments are seen: their zero sets are the creases. With r = softplus_β the
decoder is smooth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, reduce
from inspect import isfunction, signature
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Ramp = Callable[[Tensor], Tensor]


def softplus(beta: float) -> Ramp:
    """r_β(a) = log(1 + exp(β a)) / β: smooth, above max(a, 0) by log(2)/β at most, which it reaches at 0."""

    def ramp(a: Tensor) -> Tensor:
        return F.softplus(a, beta, 40.0 if a.dtype == torch.float64 else 20.0)

    return ramp


def _clamp(r: Ramp, x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    if min is not None and max is not None:
        return min + r(x - min) - r(x - max)
    return x + r(min - x) if min is not None else x - r(x - max)


def _largest(r: Ramp, parts: Iterable[Tensor]) -> Tensor:
    return reduce(lambda most, part: most + r(part - most), parts)


def _prelu(r: Ramp, x: Tensor, weight: Tensor) -> Tensor:
    slope = weight.reshape(-1, *[1] * (x.ndim - 2)) if weight.numel() > 1 else weight
    return slope * x + (1 - slope) * r(x)


def _rrelu(r: Ramp, x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Tensor:
    if training:
        raise ValueError("the decoder draws random slopes (rrelu in training): call its eval() first")
    return _leaky(r, x, (lower + upper) / 2)


def _leaky(r: Ramp, x: Tensor, negative_slope: float = 0.01) -> Tensor:
    return negative_slope * x + (1 - negative_slope) * r(x)


def _elu(r: Ramp, x: Tensor, alpha: float = 1.0) -> Tensor:
    return r(x) + alpha * torch.expm1(-r(-x))


def _hardsigmoid(r: Ramp, x: Tensor) -> Tensor:
    return (r(x + 3) - r(x - 3)) / 6


def _amax(r: Ramp, x: Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
    dims = (dim,) if isinstance(dim, int) else dim
    for side in dims:
        x = _largest(r, x.split(1, side))
    return x if keepdim else x.squeeze(dims)


def _pool(sides: int) -> Callable[..., Tensor]:
    def pool(
        r: Ramp,
        x: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Tensor:
        kernel, step, pad, spread = (
            (value,) * sides if isinstance(value, int) else tuple(value)
            for value in (kernel_size, stride or kernel_size, padding, dilation)
        )
        if set(spread) != {1} or ceil_mode or return_indices:
            raise ValueError(
                "max pooling with dilation, ceil_mode or return_indices is not taken apart: use it without"
            )
        windows = _padded(x, pad) if any(pad) else x
        for side, (width, stride_) in enumerate(zip(kernel, step, strict=True)):
            windows = windows.unfold(x.ndim - sides + side, width, stride_)
        places: Any = product(*(range(width) for width in kernel))
        return _largest(r, (windows[(..., *place)] for place in places))

    return pool


def _padded(x: Tensor, pad: tuple[int, ...]) -> Tensor:
    """Framed by a number below all of x, so that it never is the largest of a window."""
    both = [side for width in reversed(pad) for side in (width, width)]
    below = -1 - 4 * x.detach().abs().amax()
    return torch.where(F.pad(torch.ones_like(x), both) > 0, F.pad(x, both), below)


FORMS: dict[Any, Callable[..., Tensor]] = {
    F.relu: lambda r, x: r(x),
    F.leaky_relu: _leaky,
    F.prelu: _prelu,
    F.rrelu: _rrelu,
    F.hardtanh: lambda r, x, min_val=-1.0, max_val=1.0: _clamp(r, x, min_val, max_val),
    F.relu6: lambda r, x: _clamp(r, x, 0.0, 6.0),
    F.hardsigmoid: _hardsigmoid,
    F.hardswish: lambda r, x: x * _hardsigmoid(r, x),
    F.softshrink: lambda r, x, lambd=0.5: r(x - lambd) - r(-x - lambd),
    F.elu: _elu,
    F.selu: lambda r, x: 1.0507009873554805 * _elu(r, x, 1.6732632423543772),
    F.max_pool1d: _pool(1),
    F.max_pool2d: _pool(2),
    F.max_pool3d: _pool(3),
    torch.clamp: _clamp,
    torch.clamp_min: lambda r, x, min: _clamp(r, x, min=min),
    torch.clamp_max: lambda r, x, max: _clamp(r, x, max=max),
    torch.abs: lambda r, x: r(x) + r(-x),
    torch.maximum: lambda r, x, other: x + r(other - x),
    torch.minimum: lambda r, x, other: x - r(x - other),
    torch.amax: _amax,
    torch.amin: lambda r, x, dim, keepdim=False: -_amax(r, -x, dim, keepdim),
}
ALIASES = {
    F.relu: (torch.relu, Tensor.relu, torch.relu_, Tensor.relu_),
    F.leaky_relu: (F.leaky_relu_,),
    F.prelu: (torch.prelu, Tensor.prelu),
    F.rrelu: (torch.rrelu, F.rrelu_),
    F.hardtanh: (F.hardtanh_,),
    F.elu: (F.elu_,),
    F.selu: (torch.selu, torch.selu_, F.selu_),
    torch.clamp: (torch.clip, Tensor.clamp, Tensor.clip, torch.clamp_, Tensor.clamp_, torch.clip_, Tensor.clip_),
    torch.clamp_min: (Tensor.clamp_min, torch.clamp_min_, Tensor.clamp_min_),
    torch.clamp_max: (Tensor.clamp_max, torch.clamp_max_, Tensor.clamp_max_),
    torch.abs: (torch.absolute, Tensor.abs, Tensor.absolute, Tensor.__abs__, torch.abs_, Tensor.abs_, Tensor.absolute_),
    torch.maximum: (Tensor.maximum,),
    torch.minimum: (Tensor.minimum,),
    torch.amax: (Tensor.amax,),
    torch.amin: (Tensor.amin,),
}
KINKED = FORMS | {alias: FORMS[key] for key, aliases in ALIASES.items() for alias in aliases}
INPLACE = {key for key in KINKED if key.__name__.endswith("_") and not key.__name__.startswith("__")}


class Ramps(TorchFunctionMode):
    """Runs piecewise-linear functions by their formula in the given ramp; the rest as it is, so also ELU with alpha 1,
    whose metric has no jumps.

    Example:
        >>> with Ramps(softplus(1.0)):
        ...     torch.nn.ReLU()(torch.zeros(1))
        tensor([0.6931])
    """

    def __init__(self, ramp: Ramp) -> None:
        super().__init__()
        self.ramp = ramp
        self.running = ""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        form, named = KINKED.get(func), dict(kwargs or {})
        if form is None:
            return func(*args, **named)
        rest, inplace = list(args), func in INPLACE
        if "inplace" in _parameters(func):
            rest, named = [], dict(zip(_parameters(func), args, strict=False)) | named
            inplace = named.pop("inplace", False)
        x = rest.pop(0) if rest else named.pop("input")
        if not x.is_floating_point() or (func is F.elu and named.get("alpha", 1.0) == 1.0):
            return func(*args, **(kwargs or {}))
        self.running = func.__name__.strip("_")
        answer = form(self.ramp, x.clone() if inplace else x, *rest, **named)
        return x.copy_(answer) if inplace else answer


@cache
def _parameters(func: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(signature(func).parameters) if isfunction(func) else ()


class Watch(Ramps):
    """Changes nothing and notes `bends`, (name, a) for every ramp's argument a in order, and `floats`, how many all
    results together hold.
    """

    def __init__(self) -> None:
        super().__init__(self._note)
        self.bends: list[tuple[str, Tensor]] = []
        self.floats = 0

    def _note(self, a: Tensor) -> Tensor:
        self.bends.append((self.running, a))
        return torch.relu(a)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        answer = super().__torch_function__(func, types, args, kwargs)
        if isinstance(answer, Tensor):
            self.floats += answer.numel()
        return answer
