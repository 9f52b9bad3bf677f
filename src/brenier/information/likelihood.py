"""What a network's outputs say of its labels: categorical, Bernoulli and Gaussian likelihoods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

REDUCTIONS = ("mean", "samples", "sum")
SLACK = 0.05  # of a target's range, for gradients in half precision


@dataclass(frozen=True)
class Likelihood:
    """An exponential family whose natural parameters are the outputs o (m, ...): −log p(t | o) = A(o) − <t, o>.

    Its gradient is ∇A(o) − t and its Hessian ∇²A(o) the covariance of the labels, whatever the target t. So the
    Gauss–Newton matrix of the loss is the exact Fisher matrix, and a gradient caught at the outputs tells the targets.
    """

    name = ""
    bounded = True

    def mean(self, outputs: Tensor) -> Tensor:
        """∇A(o), the expected target, of the outputs' shape."""
        raise NotImplementedError

    def nll(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Σ −log p(t | o) over the batch, up to a constant of the targets; a scalar."""
        raise NotImplementedError

    def times(self, outputs: Tensor, u: Tensor) -> Tensor:
        """∇²A(o) u, of the outputs' shape."""
        raise NotImplementedError

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Targets drawn from the model; the generator lives on the CPU."""
        raise NotImplementedError

    def root(self, outputs: Tensor) -> Iterator[Tensor]:
        """Fields s with Σ s_i s_iᵀ = ∇²A(o_i) for every sample i, as many as a sample has outputs."""
        raise NotImplementedError

    def targets(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The labels y as targets of the outputs' shape."""
        if y.shape != outputs.shape:
            raise ValueError(f"{self.name} targets must have the outputs' shape {_of(outputs)}, got {_of(y)}")
        return y.to(outputs)

    def rows(self, outputs: Tensor) -> int:
        """How many labels a batch has, each a row of outputs."""
        return outputs.shape[0]

    def terms(self, outputs: Tensor) -> float:
        """Σ −log p over torch's own mean loss of this family, "mean" in `scale`."""
        return float(outputs.numel())

    def check(self, outputs: Tensor) -> None:
        """Refuse outputs that are no parameters of this family."""
        if outputs.ndim == 0:
            raise ValueError(f"{self.name} outputs must be (m, ...), got a scalar")

    def recovered(self, outputs: Tensor, gradient: Tensor, scale: float) -> Tensor:
        """The targets that a gradient of scale · nll speaks of.

        Raises:
            ValueError: there are none, since the loss is another.
        """
        targets = self.mean(outputs) - gradient / scale
        if not self.bounded or targets.numel() == 0:
            return targets
        least, most = float(targets.min()), float(targets.max())
        if not (least >= -SLACK and most <= 1 + SLACK and self._whole(targets)):
            raise ValueError(
                f"the gradient at the outputs is not that of a {self.name} loss, it would have targets from "
                f"{least:.3g} to {most:.3g}: name the loss by likelihood= and reduction=, or its factor by step(scale=)"
            )
        return targets.clamp(0, 1)

    def _whole(self, targets: Tensor) -> bool:
        return True


@dataclass(frozen=True)
class Categorical(Likelihood):
    """Logits of one label among C along `axis`, the loss `F.cross_entropy`; every other axis counts labels."""

    axis: int = -1
    name = "categorical"

    def mean(self, outputs: Tensor) -> Tensor:
        """p = softmax(o)."""
        return outputs.softmax(self.axis)

    def nll(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Σ log Σ exp(o) − <t, o>."""
        return -(targets * outputs.log_softmax(self.axis)).sum()

    def times(self, outputs: Tensor, u: Tensor) -> Tensor:
        """(diag(p) − p pᵀ) u."""
        p = self.mean(outputs)
        return p * (u - (p * u).sum(self.axis, keepdim=True))

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """One-hot."""
        p = self.mean(outputs).movedim(self.axis, -1)
        flat = p.reshape(-1, p.shape[-1]).double().cpu()
        drawn = torch.multinomial(flat, 1, generator=generator).to(outputs.device)
        return torch.zeros_like(p).reshape(flat.shape).scatter_(1, drawn, 1).reshape(p.shape).movedim(-1, self.axis)

    def root(self, outputs: Tensor) -> Iterator[Tensor]:
        """The columns of diag(√p) − p √pᵀ of one label of each sample, the labels in turn."""
        p = self.mean(outputs).movedim(self.axis, -1)
        p = p.reshape(p.shape[0], -1, p.shape[-1])
        for label in range(p.shape[1]):
            for c in range(p.shape[2]):
                field = torch.zeros_like(p)
                field[:, label] = -p[:, label] * p[:, label, c : c + 1].sqrt()
                field[:, label, c] += p[:, label, c].sqrt()
                yield field.reshape(outputs.movedim(self.axis, -1).shape).movedim(-1, self.axis)

    def targets(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Classes (long, without the axis of classes) as one-hot, or probabilities as they are."""
        if y.is_floating_point():
            return super().targets(outputs, y)
        shape = outputs.movedim(self.axis, -1).shape
        if y.shape != shape[:-1]:
            raise ValueError(f"classes must have the shape {tuple(shape[:-1])}, got {_of(y)}")
        if y.numel() and not 0 <= int(y.min()) <= int(y.max()) < shape[-1]:
            raise ValueError(f"classes must be from 0 to {shape[-1] - 1}, got {int(y.min())} to {int(y.max())}")
        return F.one_hot(y.long(), shape[-1]).to(outputs).movedim(-1, self.axis)

    def rows(self, outputs: Tensor) -> int:
        """Every other axis counts labels."""
        return outputs.numel() // outputs.shape[self.axis]

    def terms(self, outputs: Tensor) -> float:
        """The mean is over labels."""
        return float(self.rows(outputs))

    def check(self, outputs: Tensor) -> None:
        """There are two classes or more."""
        if outputs.ndim < 2 or outputs.shape[self.axis] < 2:
            raise ValueError(f"categorical outputs must be logits (m, ..., C) with C ≥ 2, got {_of(outputs)}")

    def _whole(self, targets: Tensor) -> bool:
        return bool(((targets.sum(self.axis) - 1).abs() < 2 * SLACK).all())


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Logits of independent events, the loss `F.binary_cross_entropy_with_logits`."""

    name = "bernoulli"

    def mean(self, outputs: Tensor) -> Tensor:
        """p = sigmoid(o)."""
        return outputs.sigmoid()

    def nll(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Σ log(1 + exp(o)) − t o."""
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")

    def times(self, outputs: Tensor, u: Tensor) -> Tensor:
        """p (1 − p) u."""
        p = self.mean(outputs)
        return p * (1 - p) * u

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """0 or 1."""
        uniform = torch.rand(outputs.shape, generator=generator).to(outputs.device)
        return (uniform < self.mean(outputs)).to(outputs)

    def root(self, outputs: Tensor) -> Iterator[Tensor]:
        """√(p (1 − p)) of one output of each sample in turn."""
        p = self.mean(outputs)
        yield from _one_by_one((p * (1 - p)).sqrt())


@dataclass(frozen=True)
class Gaussian(Likelihood):
    """Means of normal laws with variance 1, A(o) = |o|²/2; the loss `F.mse_loss`, or half of it summed."""

    name = "gaussian"
    bounded = False

    def mean(self, outputs: Tensor) -> Tensor:
        """The outputs."""
        return outputs

    def nll(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Σ (o − t)²/2."""
        return (outputs - targets).square().sum() / 2

    def times(self, outputs: Tensor, u: Tensor) -> Tensor:
        """u itself."""
        return u

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """The outputs and standard normal noise."""
        return outputs + torch.randn(outputs.shape, generator=generator).to(outputs)

    def root(self, outputs: Tensor) -> Iterator[Tensor]:
        """1 at one output of each sample in turn."""
        yield from _one_by_one(torch.ones_like(outputs))

    def terms(self, outputs: Tensor) -> float:
        """`F.mse_loss` leaves out the half."""
        return outputs.numel() / 2


LIKELIHOODS = {"categorical": Categorical(), "bernoulli": Bernoulli(), "gaussian": Gaussian()}


def named(likelihood: str | Likelihood) -> Likelihood:
    """The likelihood of that name, or the one given.

    Example:
        >>> named("bernoulli").times(torch.zeros(1, 1), torch.ones(1, 1))
        tensor([[0.2500]])
    """
    if isinstance(likelihood, Likelihood):
        return likelihood
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood must be one of {', '.join(LIKELIHOODS)}, got {likelihood!r}")
    return LIKELIHOODS[likelihood]


def scale(likelihood: Likelihood, outputs: list[Tensor], reduction: str) -> float:
    """The factor c of a loss c Σ −log p over several batches.

    "mean": torch's own mean loss (`cross_entropy`: over labels; `binary_cross_entropy_with_logits`: over outputs;
    `mse_loss`: over outputs, without the half). "samples": −log p, its mean over labels. "sum": torch's own sum.
    """
    labels = sum(likelihood.rows(o) for o in outputs)
    terms = sum(likelihood.terms(o) for o in outputs)
    size = sum(o.numel() for o in outputs)
    if reduction == "sum":
        return 1.0 if isinstance(likelihood, Categorical) else size / terms
    return 1 / labels if reduction == "samples" else 1 / terms


def _one_by_one(values: Tensor) -> Iterator[Tensor]:
    flat = values.reshape(len(values), -1)
    for j in range(flat.shape[1]):
        field = torch.zeros_like(flat)
        field[:, j] = flat[:, j]
        yield field.reshape(values.shape)


def _of(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)
