"""The bends of piecewise-linear networks: what bends, in how many pieces, and how to go on with chosen pieces.

A bend takes the largest of w affine functions of the network so far, its entries: a rectifier that of 0 and z, a
pooling window that of its pixels. Which one, the piece, is the unit's activation; with pieces chosen for every unit, a
network is affine on all of its input space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

MOST_PIECES = 254  # of a unit: a byte holds them, and one value for undecided
Network = nn.Module | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Elementwise:
    """y = slopes[r] z + offsets[r] between breaks[r − 1] and breaks[r], for every entry of z (m, ...)."""

    breaks: Sequence[float]
    slopes: Sequence[float | Tensor]
    offsets: Sequence[float]

    def entries(self, z: Tensor) -> Tensor:
        """r z − Σ_{j<r} breaks[j], (..., w): entry r is largest on piece r."""
        lines = [torch.zeros_like(z)]
        for at in self.breaks:
            lines.append(lines[-1] + z - at)
        return torch.stack(lines, -1)

    def pieces(self, z: Tensor) -> Tensor:
        """Which piece each entry of z lies on, uint8."""
        found = torch.zeros_like(z, dtype=torch.uint8)
        for at in self.breaks:
            found += z > at
        return found

    def apply(self, z: Tensor, pieces: Tensor) -> Tensor:
        """The lines of the chosen pieces at z, wherever z lies."""
        chosen = pieces.view(z.shape)
        first, *others = ((slope * z).add_(offset) for slope, offset in zip(self.slopes, self.offsets, strict=True))
        for r, line in enumerate(others, 1):
            first = torch.where(chosen == r, line, first)
        return first


@dataclass(frozen=True)
class Pool:
    """The largest entry of each window; z (..., *grid) is flattened over its last `dims` axes, windows (q, w) index it.

    Windows at the rim hold their first entry more than once: of equal entries the first one counts.
    """

    windows: Tensor
    dims: int
    grid: tuple[int, ...]

    def entries(self, z: Tensor) -> Tensor:
        """What stands in each window, (..., q, w)."""
        return z.flatten(-self.dims)[..., self.windows]

    def pieces(self, z: Tensor) -> Tensor:
        """Which entry of its window is largest, the first of several, uint8 (..., q)."""
        return self.entries(z).argmax(-1).to(torch.uint8)

    def apply(self, z: Tensor, pieces: Tensor) -> Tensor:
        """The chosen entries, (..., *out)."""
        lead = z.shape[: -self.dims]
        rank = pieces.view(*lead, len(self.windows), 1).long()
        chosen = self.windows.expand(*lead, *self.windows.shape).gather(-1, rank)[..., 0]
        return z.flatten(-self.dims).gather(-1, chosen).unflatten(-1, self.grid)


Bend = Elementwise | Pool


def _value(args: Sequence[Any], kwargs: dict[str, Any], place: int, names: Sequence[str], default: Any) -> Any:
    """An argument that may be given by place or by name."""
    if len(args) > place:
        return args[place]
    return next((kwargs[name] for name in names if name in kwargs), default)


def _clamp(low: float | None, high: float | None) -> Elementwise:
    breaks, slopes, offsets = [], [1.0], [0.0]
    if low is not None:
        breaks, slopes, offsets = [low], [0.0, 1.0], [low, 0.0]
    if high is not None:
        breaks, slopes, offsets = [*breaks, high], [*slopes, 0.0], [*offsets, high]
    return Elementwise(breaks, slopes, offsets)


def _relu(args: Sequence[Any], kwargs: dict[str, Any]) -> Elementwise:
    return Elementwise([0.0], [0.0, 1.0], [0.0, 0.0])


def _leaky(args: Sequence[Any], kwargs: dict[str, Any]) -> Elementwise:
    return Elementwise([0.0], [_value(args, kwargs, 1, ["negative_slope"], 0.01), 1.0], [0.0, 0.0])


def _prelu(args: Sequence[Any], kwargs: dict[str, Any]) -> Elementwise:
    z, weight = args[0], _value(args, kwargs, 1, ["weight"], None)
    if weight.numel() > 1:
        weight = weight.view(-1, *[1] * (z.ndim - 2))
    return Elementwise([0.0], [weight, 1.0], [0.0, 0.0])


def _rrelu(args: Sequence[Any], kwargs: dict[str, Any]) -> Elementwise | None:
    low, high = _value(args, kwargs, 1, ["lower"], 1 / 8), _value(args, kwargs, 2, ["upper"], 1 / 3)
    random = _value(args, kwargs, 3, ["training"], False)
    return None if random else Elementwise([0.0], [(low + high) / 2, 1.0], [0.0, 0.0])


def _abs(args: Sequence[Any], kwargs: dict[str, Any]) -> Elementwise:
    return Elementwise([0.0], [-1.0, 1.0], [0.0, 0.0])


def _hardtanh(args: Sequence[Any], kwargs: dict[str, Any]) -> Elementwise:
    return _clamp(_value(args, kwargs, 1, ["min_val"], -1.0), _value(args, kwargs, 2, ["max_val"], 1.0))


def _clamped(args: Sequence[Any], kwargs: dict[str, Any]) -> Elementwise | None:
    low, high = _value(args, kwargs, 1, ["min"], None), _value(args, kwargs, 2, ["max"], None)
    return None if isinstance(low, Tensor) or isinstance(high, Tensor) else _clamp(low, high)


def _clamp_min(args: Sequence[Any], kwargs: dict[str, Any]) -> Elementwise:
    return _clamp(_value(args, kwargs, 1, ["min"], None), None)


def _clamp_max(args: Sequence[Any], kwargs: dict[str, Any]) -> Elementwise:
    return _clamp(None, _value(args, kwargs, 1, ["max"], None))


def _pool(dims: int) -> Callable[[Sequence[Any], dict[str, Any]], Pool]:
    def read(args: Sequence[Any], kwargs: dict[str, Any]) -> Pool:
        z, kernel = args[0], _value(args, kwargs, 1, ["kernel_size"], None)
        stride = _value(args, kwargs, 2, ["stride"], None) or kernel
        padding, dilation = _value(args, kwargs, 3, ["padding"], 0), _value(args, kwargs, 4, ["dilation"], 1)
        ceil = _value(args, kwargs, 5, ["ceil_mode"], False)
        sizes = [
            [a] * dims if isinstance(a, int) else list(a) * (dims if len(a) == 1 else 1)
            for a in (kernel, stride, padding, dilation)
        ]
        full = tuple(z.shape[-dims:])
        out = tuple(_POOLS[dims](torch.zeros(1, 1, *full), kernel, stride, padding, dilation, ceil).shape[-dims:])
        return Pool(_windows(full, out, tuple(zip(*sizes, strict=True))).to(z.device), dims, out)

    return read


@lru_cache(maxsize=64)
def _windows(full: tuple[int, ...], out: tuple[int, ...], sizes: tuple[tuple[int, ...], ...]) -> Tensor:
    """Flat places (q, w) that each of the `out` windows reads on a `full` grid; kernel, stride, padding, dilation."""
    axes = [
        [[p for k in range(kernel) if 0 <= (p := o * stride - padding + k * dilation) < n] for o in range(q)]
        for n, q, (kernel, stride, padding, dilation) in zip(full, out, sizes, strict=True)
    ]
    strides = [prod(full[i + 1 :]) for i in range(len(full))]
    flat = [
        [sum(p * s for p, s in zip(place, strides, strict=True)) for place in product(*window)]
        for window in product(*axes)
    ]
    widest = max(map(len, flat))
    if widest > MOST_PIECES:
        raise ValueError(f"a pooling window may have at most {MOST_PIECES} entries, got {widest}")
    return torch.tensor([window + window[:1] * (widest - len(window)) for window in flat])


_POOLS: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_BENDS: dict[Callable[..., Any], Callable[[Sequence[Any], dict[str, Any]], Bend | None]] = {
    **dict.fromkeys([F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_], _relu),
    **dict.fromkeys([F.leaky_relu, F.leaky_relu_], _leaky),
    **dict.fromkeys([torch.prelu, Tensor.prelu], _prelu),
    **dict.fromkeys([F.rrelu, F.rrelu_, torch.rrelu, torch.rrelu_], _rrelu),
    **dict.fromkeys([torch.abs, torch.abs_, Tensor.abs, Tensor.abs_, torch.absolute, Tensor.absolute], _abs),
    **dict.fromkeys([F.hardtanh, F.hardtanh_], _hardtanh),
    F.relu6: lambda args, kwargs: _clamp(0.0, 6.0),
    **dict.fromkeys([torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_, torch.clip, Tensor.clip], _clamped),
    **dict.fromkeys([torch.clamp_min, Tensor.clamp_min, Tensor.clamp_min_], _clamp_min),
    **dict.fromkeys([torch.clamp_max, Tensor.clamp_max, Tensor.clamp_max_], _clamp_max),
    **dict.fromkeys([F.max_pool1d, torch.max_pool1d], _pool(1)),
    **dict.fromkeys([F.max_pool2d, torch.max_pool2d], _pool(2)),
    **dict.fromkeys([F.max_pool3d, torch.max_pool3d], _pool(3)),
}


def _bend(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Bend | None:
    """The bend that a torch function is, if it is one."""
    read = _BENDS.get(func)
    if read is None:
        return None
    if kwargs.get("input") is not None:
        args = (kwargs["input"], *args)
    return read(args, kwargs)


class _Reached(Exception):
    """How a run stops at a bend, whose entries it carries."""

    def __init__(self, entries: Tensor) -> None:
        self.entries = entries


class Run(TorchFunctionMode):
    """Watches one run of a network on m rows; `given` pieces are followed, without them its own are noted.

    With pieces (m, k) for the first few bends only, the run stops at the next one.
    """

    def __init__(self, m: int, given: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.m, self.given, self.noted, self.widths = m, given, list[Tensor](), list[int]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replaces bends by their chosen lines."""
        kwargs = kwargs or {}
        bend = _bend(func, args, kwargs)
        return self.other(func, args, kwargs) if bend is None else self.bent(bend, func, args, kwargs)

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What does not bend."""
        return func(*args, **kwargs)

    def bent(self, bend: Bend, func: Any, args: Any, kwargs: Any) -> Tensor:
        """The chosen lines of a bend at its argument."""
        z = args[0] if args else kwargs["input"]
        step = len(self.noted)
        if self.given is None:
            pieces = _rows(bend.pieces(z), self.m)
        elif step < len(self.given):
            pieces = self.given[step]
        else:
            raise _Reached(_rows(bend.entries(z), self.m, 1))
        self.noted.append(pieces)
        self.widths.append(len(bend.breaks) + 1 if isinstance(bend, Elementwise) else bend.windows.shape[1])
        y = bend.apply(z, pieces)
        inplace = kwargs.get("inplace") or (func.__name__.endswith("_") and not func.__name__.endswith("__"))
        return z.copy_(y) if inplace else y


def _rows(z: Tensor, m: int, last: int = 0) -> Tensor:
    """z as m rows; its last axis, if asked for, is kept."""
    return z.reshape(m, -1, *z.shape[z.ndim - last :]) if m else z.flatten(1, -1 - last)


def record(network: Network, x: Tensor) -> tuple[Run, Tensor]:
    """The run of a network at x (m, ...), which notes the pieces (m, k) of every bend in order; and its answer."""
    with torch.no_grad(), Run(len(x)) as run:
        return run, network(x)


def follow(network: Network, x: Tensor, given: Sequence[Tensor]) -> Tensor:
    """The answer at x (m, ...) with every row's pieces given, or the entries (m, k, w) at the first bend without."""
    try:
        with torch.no_grad(), Run(len(x), given):
            return network(x)
    except _Reached as reached:
        return reached.entries
