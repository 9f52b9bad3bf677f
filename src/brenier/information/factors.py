"""The Kronecker factors of layers, and squares of everything else, from one pass through a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from brenier.information.blocks import Kronecker
from brenier.information.layers import Layer, candidates
from brenier.information.linearise import Linearised, Values

CHUNK_FLOATS = 2**24


@dataclass
class Pass:
    """Inputs of layers, and for every field of the likelihood's root the gradients at outputs and other parameters.

    `inputs` [layer][call], `gradients` [field][layer][call], `others` [field].
    """

    layers: list[Layer]
    inputs: list[list[Tensor]]
    gradients: list[list[list[Tensor]]]
    others: list[Values]

    @classmethod
    def of(cls, at: Linearised, layers: list[Layer], fields: list[Tensor], others: list[str]) -> Pass:
        """Run it: one forward pass, a backward pass for each field."""
        inputs, pull = at.layers([layer.module for layer in layers])
        pulled = [pull(field, others) for field in fields]
        return cls(layers, inputs, [gradients for gradients, _ in pulled], [values for _, values in pulled])

    def rows(self, k: int, field: int) -> tuple[Tensor, Tensor]:
        """Left and right rows (m, T, groups, ·) of layer k, its calls side by side."""
        calls = zip(self.inputs[k], self.gradients[field][k], strict=True)
        left, right = zip(*(self.layers[k].rows(a, g) for a, g in calls), strict=True)
        return torch.cat(left, 1), torch.cat(right, 1)

    def factors(self, k: int, scale: float) -> tuple[Tensor, Tensor]:
        """Left and right factor of layer k (groups, ·, ·): second moments of inputs, scale Σ g gᵀ of gradients."""
        layer = self.layers[k]
        sides: tuple[list[Tensor], list[Tensor]] = ([], [])
        for field in range(len(self.gradients)):
            for side, rows in zip(sides, self.rows(k, field), strict=True):
                if field == 0 or (side is sides[0]) != layer.activation_first:
                    side.append(_moments(rows, layer))
        samples = self.rows(k, 0)[0]
        mean, total = 1 / (samples.shape[0] * samples.shape[1]), scale
        weights = (mean, total) if layer.activation_first else (total, mean)
        left, right = (weight * torch.stack(side).sum(0) for side, weight in zip(sides, weights, strict=True))
        return left, right

    def scales(self, k: int, basis: Kronecker, scale: float) -> Tensor:
        """scale Σ_i (Uᵀ V_i W)² of layer k over samples, in the bases of a block: E-KFAC's eigenvalues.

        Source: George, Laurent, Bouthillier, Ballas and Vincent, NeurIPS 2018.
        """
        total = torch.zeros_like(basis.scales)
        for field in range(len(self.gradients)):
            left, right = self.rows(k, field)
            right = torch.einsum("mtgr,grk->mtgk", right, basis.right)
            if basis.left is None:
                total[0] += _embedded_squares(left, right, len(total[0]))
                continue
            total += _squares(torch.einsum("mtgl,glk->mtgk", left, basis.left), right)
        return scale * total


def _moments(rows: Tensor, layer: Layer) -> Tensor:
    if not rows.is_floating_point():
        return torch.bincount(rows.flatten(), minlength=layer.module.num_embeddings).float()[None]  # type: ignore[arg-type]
    grouped = rows.flatten(0, 1).transpose(0, 1)
    return grouped.mT @ grouped


def _squares(left: Tensor, right: Tensor) -> Tensor:
    """Σ_i (Σ_t l_it r_itᵀ)², (groups, l, r)."""
    if left.shape[1] == 1:
        left, right = (rows[:, 0].square().transpose(0, 1) for rows in (left, right))
        return left.mT @ right
    total = left.new_zeros(left.shape[2], left.shape[3], right.shape[3])
    chunk = max(1, CHUNK_FLOATS // total.numel())
    for start in range(0, len(left), chunk):
        rows = slice(start, start + chunk)
        total += torch.einsum("mtgl,mtgr->mglr", left[rows], right[rows]).square().sum(0)
    return total


def _embedded_squares(index: Tensor, right: Tensor, size: int) -> Tensor:
    """The same for unit vectors on the left: rows of one index are summed within a sample, then squared."""
    sample = torch.arange(len(index), device=index.device)[:, None]
    pairs, inverse = torch.unique(sample * size + index[:, :, 0, 0], return_inverse=True)
    summed = right.new_zeros(len(pairs), right.shape[-1]).index_add_(0, inverse.flatten(), right.flatten(0, 2))
    return right.new_zeros(size, right.shape[-1]).index_add_(0, pairs % size, summed.square())


def covered(at: Linearised, generator: torch.Generator) -> list[Layer]:
    """The layers whose outer products give the gradients of their parameters, tried with a random field.

    Tied weights, weights that are used beside their layer (as `nn.MultiheadAttention` does), layers that change what
    they are given: their gradient is another, and they are left out.
    """
    layers = candidates(at.model, at.names)
    field = torch.randn(at.outputs.shape, generator=generator).to(at.outputs)
    run = Pass.of(at, layers, [field], at.names)
    return [layer for k, layer in enumerate(layers) if run.inputs[k] and _explained(run, k)]


def _explained(run: Pass, k: int) -> bool:
    layer = run.layers[k]
    left, right = run.rows(k, 0)
    weight = run.others[0][layer.names[0]]
    if left.is_floating_point():
        sum_ = left.flatten(0, 1).transpose(0, 1).mT @ right.flatten(0, 1).transpose(0, 1)
    else:
        sum_ = torch.zeros_like(weight).index_add_(0, left.flatten(), right.flatten(0, 2))[None]
    parts = (sum_[..., :-1], sum_[..., -1]) if layer.bias else (sum_,)
    truth = (run.others[0][name] for name in layer.names)
    slack = torch.finfo(weight.dtype).eps ** 0.5
    return all(
        part.numel() == g.numel() and bool((part.flatten() - g.flatten()).norm() <= slack * g.norm() + slack)
        for part, g in zip(parts, truth, strict=True)
    )
