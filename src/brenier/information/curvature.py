"""From a batch to the direction (F + λ)⁻¹ g, by any structure; what is averaged over steps lives here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from brenier.information.amortised import EARLY, Amortised
from brenier.information.factors import covered
from brenier.information.fisher import Part, build, fields
from brenier.information.krylov import conjugate_gradients
from brenier.information.layers import Layer
from brenier.information.likelihood import Likelihood
from brenier.information.linearise import Linearised, Values
from brenier.information.operator import Fisher
from brenier.information.trust import Piece

SMALL, WORK = 1_000, 2**32  # parameters of a dense matrix, multiplications of a kernel, where the choice is automatic
FEW = 200  # columns for which there may be a backward pass each, where samples are coupled
AVERAGED = ("kfac", "ekfac", "diagonal")


class Curvature:
    """The settings of F, and its averages; `coverage` says what stands for each parameter."""

    def __init__(
        self,
        likelihood: Likelihood,
        fisher: str,
        structure: str,
        factor_every: int,
        inverse_every: int,
        tol: float,
        max_iterations: int,
        seed: int,
    ) -> None:
        self.likelihood, self.fisher, self.structure = likelihood, fisher, structure
        self.factor_every, self.inverse_every = factor_every, inverse_every
        self.tol, self.max_iterations = tol, max_iterations
        self.generator = torch.Generator().manual_seed(seed)
        self.coverage: dict[str, str] = {}
        self._steps = 0
        self._amortised: Amortised | None = None
        self._loaded: dict[str, Any] | None = None

    def direction(
        self,
        pieces: list[Piece],
        c: float,
        gradient: Values,
        damping: dict[str, float],
        before: Values | None,
        smooth: bool,
    ) -> Values:
        """(F + λ)⁻¹ g for a loss c Σ −log p over the pieces; `before` is where conjugate gradients start.

        Where F is averaged over steps, the gradient is too if it is to be `smooth`.
        """
        if self.structure == "auto":
            self.structure = self._chosen(pieces)
        kind = self.fisher
        if kind == "auto":
            kind = "mc" if self.structure in AVERAGED else "exact"
        self._steps += 1
        if self.structure in ("kfac", "ekfac") or (self.structure == "diagonal" and kind == "mc"):
            return self._averaged(pieces, kind, c, gradient, damping, smooth)
        blocks = build([self._part(piece, kind) for piece in pieces], self.structure, c, self.tol, self.max_iterations)
        operator = Fisher(pieces[0].at.parameters, blocks)
        self.coverage = operator.coverage
        if self.structure == "cg":
            return self._truncated(operator, gradient, damping, before)
        return operator.solved(gradient, damping)

    def _truncated(
        self, operator: Fisher, gradient: Values, damping: dict[str, float], before: Values | None
    ) -> Values:
        def flat(values: Values) -> Tensor:
            return torch.cat([values[name].reshape(-1) for name in operator.names])

        added = flat({name: torch.full_like(value, damping[name]) for name, value in gradient.items()})
        start = None if before is None else -flat(before)
        times = lambda v: operator @ v + added * v  # noqa: E731
        x, _ = conjugate_gradients(times, flat(gradient), self.tol, self.max_iterations, start)
        pieces = x.split([gradient[name].numel() for name in operator.names])
        return {name: piece.reshape(gradient[name].shape) for name, piece in zip(operator.names, pieces, strict=True)}

    def _averaged(
        self, pieces: list[Piece], kind: str, c: float, gradient: Values, damping: dict[str, float], smooth: bool
    ) -> Values:
        if self._amortised is None:
            layers = [] if self.structure == "diagonal" else _covered(pieces[0].at)
            others = [name for name in gradient if all(name not in layer.names for layer in layers)]
            self._amortised = Amortised(layers, others, self.structure == "ekfac", self._loaded)
            self.coverage = {name: "diagonal" if name in others else self.structure for name in gradient}
        if set(gradient) != set(self.coverage):
            raise ValueError("the parameters with gradients must stay the same: make a new optimiser for others")
        if self._steps <= EARLY or (self._steps - 1) % self.factor_every == 0:
            self._amortised.update([self._part(piece, kind) for piece in pieces], c, self.generator)
        self._amortised.invert(damping, self.inverse_every)
        return self._amortised.solve(self._amortised.smoothed(gradient) if smooth else gradient, damping)

    def _part(self, piece: Piece, kind: str) -> Part:
        if kind == "exact" and self.structure == "cg":
            return Part(piece.at, self.likelihood, [], True)
        found = fields(self.likelihood, piece.at.outputs, kind, piece.targets, 1, self.generator)
        return Part(piece.at, self.likelihood, found, kind == "exact")

    def _chosen(self, pieces: list[Piece]) -> str:
        parameters = pieces[0].at.parameters
        p = sum(value.numel() for value in parameters.values())
        columns = sum(len(piece.targets) if self.fisher == "mc" else piece.targets.numel() for piece in pieces)
        apart = columns <= FEW or not any(piece.at.coupled for piece in pieces)
        if apart and p <= SMALL and columns * p * p <= WORK:
            return "dense"
        if apart and columns * columns * p <= WORK:
            return "woodbury"
        held = sum(parameters[name].numel() for layer in _covered(pieces[0].at) for name in layer.names)
        return "kfac" if 2 * held >= p else "cg"

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        averages = self._loaded if self._amortised is None else self._amortised.state
        return {
            "structure": self.structure,
            "steps": self._steps,
            "generator": self.generator.get_state(),
            "averages": averages,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.structure, self._steps = state["structure"], state["steps"]
        self.generator.set_state(state["generator"])
        self._amortised, self._loaded = None, state["averages"]


def _covered(at: Linearised) -> list[Layer]:
    return covered(at, torch.Generator().manual_seed(0))
