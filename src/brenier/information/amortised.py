"""Kronecker factors that are averaged over steps, and inverted now and then."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from brenier.information import parallel
from brenier.information.blocks import Kronecker, factorised, matrices
from brenier.information.factors import Pass
from brenier.information.fisher import Part
from brenier.information.krylov import random_signs
from brenier.information.layers import Layer
from brenier.information.linearise import Values

DECAY = 0.95
MEMORY = 0.9  # of the gradient
EARLY = 3  # steps that are all looked at
DRIFT = 2.0  # the change of λ that calls for new inverses


class Amortised:
    """K-FAC or E-KFAC for `layers` and a diagonal for the parameters `others`, as averages over steps.

    The diagonal is that of m ĝ ĝᵀ with ĝ the mean gradient of fields with random signs, an unbiased estimate for any
    layer. `state` holds tensors and numbers only, and is all there is.

    Source: Martens and Grosse, ICML 2015; George et al., NeurIPS 2018; Liu et al., ICLR 2024 (the diagonal).
    """

    def __init__(self, layers: list[Layer], others: list[str], rotate: bool, state: dict[str, Any] | None) -> None:
        self.layers, self.others, self.rotate = layers, others, rotate
        counts = {"updates": 0, "inverted": 0, "age": 0, "damping": 0.0, "gradients": 0}
        fresh: dict[str, Any] = {**counts, "layers": {}, "squares": {}, "gradient": {}}
        self.state = fresh if state is None else state

    def update(self, parts: list[Part], c: float, generator: torch.Generator) -> None:
        """Take in a batch."""
        runs = [Pass.of(part.at, self.layers, _signed(part.fields, generator), self.others) for part in parts]
        self.state["updates"] += 1
        keep = min(1 - 1 / self.state["updates"], DECAY)
        for k, layer in enumerate(self.layers):
            held = self.state["layers"].setdefault(layer.names[0], {})
            sides = [torch.stack(side) for side in zip(*(run.factors(k, c) for run in runs), strict=True)]
            left, right = (
                side.mean(0) if first else side.sum(0) for side, first in zip(sides, _inputs(layer), strict=True)
            )
            _average(held, "left", parallel.mean(left), keep)
            _average(held, "right", parallel.mean(right), keep)
            if "scales" in held:
                basis = Kronecker(held["left_basis"], held["right_basis"], held["scales"], layer.bias)
                scales = torch.stack([run.scales(k, basis, c) for run in runs]).sum(0)
                _average(held, "scales", parallel.mean(scales), DECAY)
        for name in self.others:
            square = c * torch.stack([values[name].square() for run in runs for values in run.others]).sum(0)
            _average(self.state["squares"], name, parallel.mean(square), keep)

    def invert(self, damping: dict[str, float], every: int) -> None:
        """New inverses or bases: every so many steps, after each of the first updates, where λ has moved far."""
        updates, size = self.state["updates"], max(damping.values())
        self.state["age"] += 1
        early = updates <= EARLY and updates != self.state["inverted"]
        moved = not self.rotate and not self.state["damping"] / DRIFT <= size <= self.state["damping"] * DRIFT
        if not (early or moved or self.state["age"] >= every):
            return
        self.state.update(inverted=updates, age=0, damping=size)
        for layer in self.layers:
            held = self.state["layers"][layer.names[0]]
            if self.rotate:
                block = Kronecker.of_factors(held["left"], held["right"], layer.bias)
                found = {"left_basis": block.left, "right_basis": block.right, "scales": block.scales}
            else:
                left, right = _inverses(held["left"], held["right"], damping[layer.names[0]])
                found = {"left_inverse": left, "right_inverse": right}
            held.update({name: None if value is None else value.contiguous() for name, value in found.items()})

    def smoothed(self, gradient: Values) -> Values:
        """The gradient averaged over steps.

        (F̃ + λ)⁻¹ g of one batch fits its samples one by one wherever parameters are more than samples: along it the
        batch shows a curvature many times that of other samples, and no length is right for both.
        """
        self.state["gradients"] += 1
        keep = 1 - (1 - MEMORY) / (1 - MEMORY ** self.state["gradients"])
        for name, value in gradient.items():
            _average(self.state["gradient"], name, value, keep)
        return dict(self.state["gradient"])

    def solve(self, gradient: Values, damping: dict[str, float]) -> Values:
        """(F + λ)⁻¹ g, for K-FAC with factored damping."""
        answer = {
            name: gradient[name] * _reciprocal(self.state["squares"][name] + damping[name]) for name in self.others
        }
        for layer in self.layers:
            held = self.state["layers"][layer.names[0]]
            column = torch.cat([gradient[name].reshape(-1, 1) for name in layer.names])
            if self.rotate:
                block = Kronecker(held["left_basis"], held["right_basis"], held["scales"], layer.bias)
                solved = block.solve(column, damping[layer.names[0]])
            else:
                left, right = held["left_inverse"], held["right_inverse"]
                matrix = matrices(column, torch.Size((len(right), left.shape[1], right.shape[1])), layer.bias)
                inner = left[..., None] * matrix if left.ndim == 2 else left @ matrix
                solved = Kronecker(None, right, torch.empty(inner.shape[1:]), layer.bias).columns(inner @ right)
            pieces = solved[:, 0].split([gradient[name].numel() for name in layer.names])
            answer.update(
                {name: piece.reshape(gradient[name].shape) for name, piece in zip(layer.names, pieces, strict=True)}
            )
        return answer


def _inputs(layer: Layer) -> tuple[bool, bool]:
    return layer.activation_first, not layer.activation_first


def _inverses(left: Tensor, right: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Inverses of L + π√λ and R + √λ/π, π² the ratio of their mean eigenvalues; without λ pseudo-inverses."""
    if damping == 0:
        return (_reciprocal(left) if left.ndim == 2 else _pseudo(left)), _pseudo(right)
    along = left.mean() if left.ndim == 2 else left.diagonal(dim1=1, dim2=2).mean()
    across = right.diagonal(dim1=1, dim2=2).mean()
    balance = torch.where((along > 0) & (across > 0), along / across, torch.ones_like(along)).sqrt()
    root = damping**0.5
    right = _inverse(right, root / balance)
    return (1 / (left + root * balance) if left.ndim == 2 else _inverse(left, root * balance)), right


def _inverse(matrix: Tensor, added: Tensor) -> Tensor:
    damped = matrix.clone()
    damped.diagonal(dim1=1, dim2=2).add_(added)
    return torch.cholesky_inverse(factorised(damped))


def _pseudo(matrix: Tensor) -> Tensor:
    return torch.linalg.pinv(matrix, hermitian=True)


def _reciprocal(values: Tensor) -> Tensor:
    return torch.where(values > 0, 1 / values, 0)


def _average(held: dict[str, Any], key: str, value: Tensor, keep: float) -> None:
    """Contiguous, as from a file: sums in another order round otherwise, and a resumed run would be another."""
    held[key] = (value if key not in held else held[key].lerp(value, 1 - keep)).contiguous()


def _signed(fields: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """The fields with a random sign for each sample."""
    signs = [random_signs(len(s), 1, s, generator) for s in fields]
    return [s * sign.reshape(-1, *[1] * (s.ndim - 1)) for s, sign in zip(fields, signs, strict=True)]
