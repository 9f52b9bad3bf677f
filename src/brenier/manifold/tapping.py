"""What every layer of a network gives: values, their derivatives along directions, all in the order of execution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor, nn
from torch.autograd import forward_ad

from brenier.manifold.chart import evaluating

CHUNK = 128  # rows that go through a network at a time
BUDGET = 2**25  # floats of activations that are held at once
INPUT = "input"
OUTPUT = "output"  # what a network does by itself, after its last layer
Take = Callable[[str, Tensor], Tensor | None]


class _Stop(Exception):
    """A layer was reached."""


@contextmanager
def tapped(network: nn.Module, x: Tensor, take: Take) -> Iterator[None]:
    """While the network runs on x, call take(name, y) with the answer y of each layer; a tensor it gives goes on as y.

    A layer is a module whose answer is new: neither its argument nor the answer of a module inside it, nor one of these
    in another shape. Its name is that of `named_modules`, from its second call on with the number of the call; the
    network itself is "output", and "input" stays free for x. Of several tensors in an answer the first is meant.
    """
    seen, kept, calls = {_identity(x)}, [x], Counter({INPUT: 1})

    def hook(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def after(module: nn.Module, _: Any, answer: Any) -> Any:
            y = answer[0] if isinstance(answer, tuple) and answer else answer
            if not isinstance(y, Tensor) or _identity(y) in seen:
                return None
            calls[name] += 1
            given = take(name if calls[name] == 1 else f"{name} ({calls[name]})", y)
            y = y if given is None else given
            seen.add(_identity(y))
            kept.append(y)  # or its memory would be another's, and be taken for it
            return (y, *answer[1:]) if isinstance(answer, tuple) else y

        return after

    handles = [module.register_forward_hook(hook(name or OUTPUT)) for name, module in network.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _identity(y: Tensor) -> tuple[int, ...]:
    return y.data_ptr(), y.numel(), y._version


def layer_names(network: nn.Module, x: Tensor) -> tuple[dict[str, int], list[str]]:
    """Each layer's width at samples x (n, ...), and the names of those that don't give one row for every sample.

    Raises:
        ValueError: the network can't read x. TypeError: its answer is no tensor. Both say which shape x has.
    """
    widths: dict[str, int] = {}
    others: list[str] = []

    def take(name: str, y: Tensor) -> None:
        if y.ndim > 1 and len(y) == len(x) and y.is_floating_point():
            widths[name] = y[0].numel()
        else:
            others.append(name)

    shape = tuple(x.shape[1:])
    try:
        with evaluating(network), tapped(network, x, take):
            answer = network(x)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"the network can't read samples of shape {shape}: {said}") from None
    if not isinstance(answer, Tensor):
        raise TypeError(f"the network must give a tensor, got {type(answer).__name__} for samples of shape {shape}")
    if not widths:
        raise ValueError(f"the network must give one row for every sample, got {tuple(answer.shape)} for {len(x)}")
    return widths, others


def activations(
    network: nn.Module, x: Tensor, widths: dict[str, int], most: int, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Name after name what each layer gives at x (n, ...): (n, min(width, most)), wider ones through `projection`.

    The network runs again for every group of layers that fits into memory.

    Raises:
        ValueError: NaN or Inf, by layer and row.
    """
    for group in _groups(widths, max(1, BUDGET // (len(x) * most))):
        kept = {name: x.new_empty(len(x), min(widths[name], most), device="cpu") for name in group}
        for rows in torch.arange(len(x)).split(CHUNK):

            def take(name: str, y: Tensor, rows: Tensor = rows, kept: dict[str, Tensor] = kept) -> None:
                if name in kept:
                    kept[name][rows] = projection(y.flatten(1).cpu(), most, seed).to(kept[name].dtype)

            with evaluating(network), tapped(network, x[rows], take):
                network(x[rows])
        for name, values in kept.items():
            bad = (~values.isfinite().all(1)).nonzero()
            if len(bad):
                raise ValueError(f"layer {name} must give finite numbers, got NaN or Inf for sample {bad[0, 0]}")
            yield name, values


def _groups(widths: dict[str, int], size: int) -> Iterator[list[str]]:
    names = list(widths)
    return (names[i : i + size] for i in range(0, len(names), size))


def projection(y: Tensor, most: int, seed: int) -> Tensor:
    """Rows y (n, D) with D > most on so many random orthonormal directions, times √(D / most); narrower ones as is.

    Random signs, the orthonormal cosine transform, a draw of its coordinates: on average squared lengths stay what they
    are, with a relative deviation of about √(2 / most). Source: Ailon and Chazelle, STOC 2006.

    Example:
        >>> y = torch.randn(50, 4096, generator=torch.Generator().manual_seed(0))
        >>> ratio = projection(y, 1024, seed=0).norm(dim=1) / y.norm(dim=1)
        >>> bool((ratio - 1).abs().max() < 0.1)
        True
    """
    width = y.shape[1]
    if width <= most:
        return y
    random = np.random.default_rng(seed)
    signs = (2 * random.integers(2, size=width) - 1).astype(np.float32)
    columns = np.sort(random.choice(width, most, replace=False))
    turned = dct(y.numpy() * signs.astype(y.numpy().dtype), norm="ortho")[:, columns]
    return torch.from_numpy(turned * np.sqrt(width / most).astype(turned.dtype))


def pushed(
    network: nn.Module, x: Tensor, directions: Tensor, names: Sequence[str], most: int, seed: int
) -> dict[str, Tensor]:
    """By layer the derivative at points x (m, ...) along directions (m, d, D): (m, d, min(width, most)), one run.

    Forward-mode derivatives; a bend counts as the piece it is on.

    Raises:
        NotImplementedError: torch has no such derivative of a step.
    """
    m, d = directions.shape[:2]
    found: dict[str, Tensor] = {}

    def take(name: str, y: Tensor) -> None:
        if name in names:
            slope = forward_ad.unpack_dual(y).tangent
            slope = torch.zeros_like(y) if slope is None else slope
            found[name] = projection(slope.detach().flatten(1).cpu(), most, seed).unflatten(0, (m, d))

    with evaluating(network), forward_ad.dual_level():
        points = x.repeat_interleave(d, 0)
        dual = forward_ad.make_dual(points, directions.to(points).reshape(points.shape))
        with tapped(network, dual, take):
            network(dual)
    return found


def prefix(network: nn.Module, layer: str) -> Callable[[Tensor], Tensor]:
    """The network up to one of its layers, as a function."""

    def run(x: Tensor) -> Tensor:
        reached: list[Tensor] = []

        def take(name: str, y: Tensor) -> None:
            if name == layer:
                reached.append(y)
                raise _Stop

        with tapped(network, x, take), suppress(_Stop):
            network(x)
        return reached[0]

    return run
