"""The quadratic model of the loss along given directions, and the damping that keeps it honest."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from brenier.information import parallel
from brenier.information.krylov import random_signs
from brenier.information.likelihood import Likelihood, scale
from brenier.information.linearise import Linearised, Values

SHARE, LEAST = 4, 128  # the quadratic model takes a quarter of the samples, but not fewer than these
RATE = 0.9  # factor of λ in a step
SHORT = (0.05, 0.15)  # α below which λ grows, and up to which it does not shrink
PROBES = 8  # vectors of random signs for the first λ
REFUSED = 2.0  # factor of λ where a step is undone


class Piece(NamedTuple):
    """Some samples, and their targets."""

    at: Linearised
    targets: Tensor


class Model:
    """M(δ) = L + gᵀδ + ½ δᵀ(F + λ)δ on a part of the batch, F exact, by forward-mode products."""

    def __init__(self, pieces: list[Piece], likelihood: Likelihood, reduction: str, divisible: bool) -> None:
        self.pieces = [_part(piece) for piece in pieces] if divisible else pieces
        self.likelihood = likelihood
        self.c = scale(likelihood, [piece.targets for piece in self.pieces], reduction)

    def loss(self, parameters: Values | None = None) -> float:
        """The loss, here or elsewhere, the mean over processes."""
        outputs = [piece.at.outputs if parameters is None else piece.at(parameters) for piece in self.pieces]
        pairs = zip(outputs, self.pieces, strict=True)
        total = torch.stack([self.likelihood.nll(o.double(), piece.targets.double()) for o, piece in pairs]).sum()
        return float(parallel.mean(self.c * total))

    def typical(self, generator: torch.Generator) -> float:
        """The mean eigenvalue of F, from vectors of random signs; 0 where they show nothing but rounding."""
        parameters = self.pieces[0].at.parameters
        probes = [
            {
                name: random_signs(value.numel(), 1, value, generator).view_as(value)
                for name, value in parameters.items()
            }
            for _ in range(PROBES)
        ]
        images = self._images(probes)
        seen = torch.stack([image.double().square().sum() for found in images for image in found]).sum()
        rounding = torch.finfo(self.pieces[0].at.like.dtype).eps * float(parallel.mean(self.c * seen))
        total = float(self._curvature(images).trace())
        p = sum(value.numel() for value in parameters.values())
        return total / (PROBES * p) if total > rounding else 0.0

    def combined(
        self, directions: list[Values], gradient: Values, damping: dict[str, float]
    ) -> tuple[list[float], float, float]:
        """The least of M over sums of directions: factors, and what L is to fall by: its linear part, its quadratic."""
        images = self._images(directions)
        curvature, k = self._curvature(images), range(len(directions))
        rows, damped = _rows(directions), _rows([{n: damping[n] * d[n] for n in d} for d in directions])
        products = (rows @ torch.cat([damped, _rows([gradient])]).T).double().cpu()
        matrix, slope = curvature + products[:, :-1], products[:, -1]
        size = matrix.diagonal().clamp_min(torch.finfo(torch.float64).tiny).sqrt()
        factors = (
            -(torch.linalg.pinv(matrix / torch.outer(size, size), rtol=1e-7, hermitian=True) @ (slope / size)) / size
        )
        own = [
            torch.stack([self._slope(piece, image[j]) for piece, image in zip(self.pieces, images, strict=True)]).sum()
            for j in k
        ]
        linear = parallel.mean(self.c * torch.stack(own).double().cpu()) @ factors
        return factors.tolist(), float(linear), float(factors @ curvature @ factors)

    def _images(self, directions: list[Values]) -> list[list[Tensor]]:
        return [piece.at.jvps(directions) for piece in self.pieces]

    def _curvature(self, images: list[list[Tensor]]) -> Tensor:
        total = torch.zeros(len(images[0]), len(images[0]), dtype=torch.float64)
        for piece, found in zip(self.pieces, images, strict=True):
            rows = torch.stack([image.flatten() for image in found]).double()
            times = [self.likelihood.times(piece.at.outputs, image).flatten() for image in found]
            total += (rows @ torch.stack(times).double().T).cpu()
        return parallel.mean(self.c * total)

    def _slope(self, piece: Piece, image: Tensor) -> Tensor:
        return ((self.likelihood.mean(piece.at.outputs) - piece.targets) * image).sum()


def _part(piece: Piece) -> Piece:
    m = len(piece.targets)
    k = min(m, max(LEAST, m // SHARE))
    return piece if k == m else Piece(piece.at.part(slice(0, k)), piece.targets[:k])


def _rows(several: list[Values]) -> Tensor:
    """Vectors over the same parameters, (k, p)."""
    return torch.stack([torch.cat([values[name].flatten() for name in several[0]]) for values in several])


def adapted(damping: float, change: float, predicted: float, length: float) -> float:
    """λ by Levenberg and Marquardt's rule from the ratio of the change to the predicted one, and from α.

    An α far below 1 says that F̃ + λ is too small along its direction, however well the model foretells the loss.
    """
    if predicted >= 0:
        return damping
    ratio = change / predicted
    if ratio < 0.25 or length < SHORT[0]:
        return damping / RATE
    return damping * RATE if ratio > 0.75 and length > SHORT[1] else damping
