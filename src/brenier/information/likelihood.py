"""What a network's outputs say of its labels: categorical, Bernoulli and Gaussian likelihoods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

REDUCTIONS = ("mean", "samples", "sum")
NEAR, ALIKE = 1e-3, 0.05  # of factors of a loss, and a spread of probabilities that tells them from soft labels
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

    def check_factor(self, outputs: Tensor, gradient: Tensor) -> None:
        """Refuse a gradient of the nll that is, label by label, another factor times that of labels.

        Soft labels are not refused, nor what can't be told from them: outputs that are all alike.

        Raises:
            ValueError: the loss has a factor, class weights, weights of samples, or labels that are ignored.
        """

    def _whole(self, targets: Tensor) -> bool:
        return True


def _name_factor(name: str, factor: Tensor, label: Tensor) -> None:
    """Say what factors (R,) of labels (R,) mean, where they are not all 1 or, without a label, 0."""
    off = (factor - 1).abs() > NEAR
    ignored = factor.abs() <= NEAR
    if not bool((off & ~ignored).any()):
        return
    kept = factor[~ignored]
    typical = float(kept.median())
    remedy = f"pass step(scale={typical:.4g})"
    if bool(((kept - typical).abs() <= NEAR * typical).all()):
        if bool(ignored.any()):
            what = f"leaves out {int(ignored.sum())} of {len(factor)} labels, as ignore_index does, so that the others"
            raise ValueError(f"the {name} loss {what} count {typical:.4g} times: {remedy}")
        raise ValueError(f"the loss is {typical:.4g} times the {name} loss: {remedy}")
    for one in label.unique():
        own = factor[label == one]
        if not bool(((own - own.median()).abs() <= NEAR * own.median()).all()):
            raise ValueError(
                f"the {name} loss has weights of samples, from {float(factor.min()):.3g} to {float(factor.max()):.3g}, "
                "which the curvature has not: leave them out"
            )
    raise ValueError(
        f"the {name} loss has class weights, from {float(factor.min()):.3g} to {float(factor.max()):.3g} times the "
        "mean, which the curvature has not: leave them out, or draw the classes by them"
    )


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

    def check_factor(self, outputs: Tensor, gradient: Tensor) -> None:
        """Of a hard label k with the factor f the gradient is f p_j for every other class j."""
        p = self.mean(outputs).movedim(self.axis, -1).flatten(0, -2)
        slope = gradient.movedim(self.axis, -1).flatten(0, -2)
        label = slope.argmin(-1)
        others = torch.ones_like(p, dtype=torch.bool).scatter_(1, label[:, None], False)
        rest = torch.where(others, p, 0.0).sum(-1)
        clear = rest > 0.01
        p, slope, others, rest, label = p[clear], slope[clear], others[clear], rest[clear], label[clear]
        if p.shape[0] == 0:
            return
        factor = torch.where(others, slope, 0.0).sum(-1) / rest
        wrong = torch.where(others, (slope - factor[:, None] * p).abs(), 0.0).sum(-1)
        hard = bool((wrong <= NEAR * rest * factor.abs() + 1e-6).all())
        alike = float(torch.where(others, p / rest[:, None], 0.0)[others].std()) if p.shape[1] > 2 else 0.0
        one = factor.median()
        same = bool(((factor - one).abs() <= NEAR * one.abs()).all())
        told = alike * (p.shape[1] - 1) > ALIKE if p.shape[1] > 2 else same and float(rest.std()) > ALIKE
        if hard and told and bool((factor >= -NEAR).all()):
            _name_factor(self.name, factor, label)

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

    def check_factor(self, outputs: Tensor, gradient: Tensor) -> None:
        """Of an event that is not there the gradient is f p, of one that is −f (1 − p)."""
        p, slope = self.mean(outputs).flatten(), gradient.flatten()
        there = slope < 0
        odds = torch.where(there, 1 - p, p)
        clear = odds > 0.01
        if int(clear.sum()) < 8:
            return
        factor, there, odds = (slope.abs() / odds)[clear], there[clear], odds[clear]
        kinds = [factor[there == kind] for kind in (True, False) if bool((there == kind).any())]
        same = all(bool(((f - f.median()).abs() <= NEAR * f.median()).all()) for f in kinds)
        if same and float(odds.std()) > ALIKE:
            _name_factor(self.name, factor, there)

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
