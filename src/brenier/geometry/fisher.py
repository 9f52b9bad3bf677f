"""The Fisher metric of a classifier, pulled back to its inputs or codes."""

from __future__ import annotations

import torch
from torch import Tensor

from brenier.geometry.decoder import Decode, flat
from brenier.geometry.pullback import Pullback, smoothed


def _categorical(logits: Tensor) -> Tensor:
    """2 sqrt(p) on the sphere of radius 2, p = softmax(logits)."""
    return 2 * torch.exp(torch.log_softmax(logits, 1) / 2)


def _bernoulli(logits: Tensor) -> Tensor:
    """The angle 2 arcsin sqrt(p), up to a constant, p = sigmoid(logits)."""
    return 2 * torch.atan(torch.tanh(logits / 4))


def _gaussian(head: Tensor) -> Tensor:
    """N(μ, σ²) on a hyperboloid −X₀² + X₁² + X₂² = −2, moved so that the point at hand is (√2, 0, 0).

    The motion is an isometry with constant numbers: it changes no derivative of the metric, and spares the cancellation
    of large X₀ and X₂.
    """
    mean, log_deviation = head.chunk(2, 1)
    x = (mean - mean.detach()) * torch.exp(-log_deviation.detach()) / 2**0.5
    y = torch.exp(log_deviation - log_deviation.detach())
    square = x.square() + y.square()
    points = torch.stack([(square + 1) / (2 * y), x / y, (square - 1) / (2 * y)], 2)
    return 2**0.5 * points.flatten(1)


FAMILIES = {
    "categorical": (_categorical, (1,)),
    "bernoulli": (_bernoulli, (1,)),
    "gaussian": (_gaussian, (-1, 1, 1)),
}


def fisher_metric(classifier: Decode, family: str = "categorical", smooth: float | None = None) -> Pullback:
    """The Fisher metric G = Jᵀ F J of p(y | z), whose parameters a classifier gives for z (m, d).

    "categorical": logits (m, C), F = diag(p) − p pᵀ with p = softmax(logits).
    "bernoulli": logits (m, C) of independent events, F = diag(p (1 − p)) with p = sigmoid(logits).
    "gaussian": (m, 2 C), C means and then C logarithms of standard deviations, F = diag(1/σ²) and diag(2).

    Every family is embedded isometrically in a space with a constant inner product: 2 sqrt(p) on the sphere of radius
    2, an angle on a circle, a hyperboloid of curvature −1/2 in Minkowski space. So the metric is a `Pullback`, with the
    same quick methods, curvature by the Gauss equation, and the same `smooth` for classifiers with bends.

    Raises:
        ValueError: unknown family; smooth is not positive and finite; later, outputs of another shape than the
            family's and whatever `pullback` raises. With C classes G is singular for d ≥ C.

    Source: Amari, Information Geometry and Its Applications, 2016, chapters 2 and 3.

    Example:
        >>> simplex = fisher_metric(lambda z: torch.cat([z, torch.zeros(len(z), 1)], 1))
        >>> simplex(torch.zeros(2))
        tensor([[ 0.2222, -0.1111],
                [-0.1111,  0.2222]])
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    embed, signs = FAMILIES[family]
    through = classifier if smooth is None else smoothed(classifier, smooth)

    def embedded(z: Tensor) -> Tensor:
        head = flat(through, z)
        if family == "gaussian" and head.shape[1] % 2:
            raise ValueError(f"a Gaussian head gives a mean and a logarithm each, got {head.shape[1]} outputs")
        return embed(head)

    return Pullback(classifier, embedded, signs, through)
