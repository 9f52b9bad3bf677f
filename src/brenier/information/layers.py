"""Layers whose weight meets inputs and gradients as a sum of outer products: what K-FAC needs of them.

For every layer here the gradient of its weight is Σ_t l_t r_tᵀ over calls and positions t, a matrix (groups, l, r).

Source: Martens and Grosse 2015 (linear), Grosse and Martens 2016 (convolutions: every position counts as a sample).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rows = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]


class Layer(NamedTuple):
    """A covered layer: its module, its parameters' names (weight, then bias), whether the bias is a last column."""

    module: nn.Module
    names: tuple[str, ...]
    bias: bool

    def rows(self, a: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """l (m, T, groups, l) and r (m, T, groups, r) from the input a and the gradient g at the output."""
        left, right = _rule(self.module)(self.module, a, g)
        if self.bias:
            right = torch.cat([right, right.new_ones(*right.shape[:-1], 1)], -1)
        return left, right

    @property
    def activation_first(self) -> bool:
        """Whether l is the input and r the gradient: transposed convolutions and embeddings."""
        return isinstance(self.module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Embedding))


def _linear(module: nn.Module, a: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    return g.reshape(len(g), -1, 1, g.shape[-1]), a.reshape(len(a), -1, 1, a.shape[-1])


def _embedding(module: nn.Module, a: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """The left row is the index of a unit vector."""
    assert isinstance(module, nn.Embedding)
    g = g if module.padding_idx is None else g * (a != module.padding_idx)[..., None]
    return a.reshape(len(a), -1, 1, 1), g.reshape(len(g), -1, 1, g.shape[-1])


def _convolution(module: nn.Module, a: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(module, (nn.Conv1d, nn.Conv2d))
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = F.pad(a, module._reversed_padding_repeated_twice, mode=mode)
    flat = isinstance(module, nn.Conv1d)
    patches = _patches(padded, module, flat)
    return _positions(g.flatten(2), module.groups), _positions(patches, module.groups)


def _transposed(module: nn.Module, a: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d))
    padding = [p for width in reversed(cast(tuple[int, ...], module.padding)) for p in (width, width)]
    flat = isinstance(module, nn.ConvTranspose1d)
    patches = _patches(F.pad(g, padding), module, flat)
    positions = a.flatten(2)
    return _positions(positions, module.groups), _positions(patches[..., : positions.shape[2]], module.groups)


def _patches(x: Tensor, module: nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d, flat: bool) -> Tensor:
    """(m, channels · kernel, positions) of a padded input."""
    one = (1,) if flat else ()
    x = x[:, :, None] if flat else x
    kernel, dilation, stride = (one + tuple(t) for t in (module.kernel_size, module.dilation, module.stride))
    return F.unfold(x, kernel, dilation=dilation, stride=stride)


def _positions(x: Tensor, groups: int) -> Tensor:
    """(m, groups · c, T) as (m, T, groups, c)."""
    return x.unflatten(1, (groups, -1)).permute(0, 3, 1, 2)


def _rule(module: nn.Module) -> Rows:
    return RULES[next(kind for kind in RULES if isinstance(module, kind))]


RULES: dict[type[nn.Module], Rows] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.ConvTranspose1d: _transposed,
    nn.ConvTranspose2d: _transposed,
    nn.Embedding: _embedding,
}


def candidates(model: nn.Module, names: list[str]) -> list[Layer]:
    """Layers of the kinds above, with those of the parameters `names` that K-FAC would answer for.

    The bias of a transposed convolution has other positions than its weight, so it is left out.
    """
    found = []
    modules: list[tuple[str, nn.Module]] = list(model.named_modules())
    for path, module in modules:
        if not any(isinstance(module, kind) for kind in RULES):
            continue
        weight, bias = (f"{path}.{leaf}" if path else leaf for leaf in ("weight", "bias"))
        joined = bias in names and not isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d))
        if weight in names:
            found.append(Layer(module, (weight, bias) if joined else (weight,), joined))
    return found
