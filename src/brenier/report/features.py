"""The features in which the Fréchet distance is measured: of a small classifier, or principal components."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from brenier.report.arrays import random
from brenier.report.networks import Convert, apply, mlp, seeded, tensor, train
from brenier.report.numbers import share
from brenier.solution import Estimate

WIDTH = 128  # features, at most
EPOCHS, STEPS, BATCH = 3, 600, 64  # of a training: so many epochs, or more until so many steps are made


def _convolutions(shape: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Three convolutions of stride 2 (the first of stride 1 below 16 pixels) and a hidden layer of `WIDTH`."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate([(shape[0], 16), (16, 32), (32, 64)]):
        layers += [nn.Conv2d(before, after, 3, stride=2 if i or min(shape[1:]) >= 16 else 1, padding=1), nn.ReLU()]
    size = nn.Sequential(*layers)(torch.zeros(1, *shape)).numel()
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs))


def _network(kind: str, shape: tuple[int, ...], outputs: int) -> nn.Sequential:
    if kind == "pca":
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), outputs), nn.Identity())
    return _convolutions(shape, outputs) if len(shape) == 3 else mlp(shape[0], WIDTH, outputs)


class Features(nn.Module):
    """The map from samples to at most 128 features: a classifier's last hidden layer, or principal components.

    `Features.fit` makes one. `Features(spec)` and `load_state_dict` rebuild it; `spec` is plain JSON: the `kind`
    ("classifier" or "pca"), the `shape` of a sample, the number of `outputs` (classes or components) and the
    `accuracy` (mean and standard error, held out; null for "pca").

    Example:
        >>> x = torch.rand(200, 5, generator=torch.Generator().manual_seed(0))
        >>> features = Features.fit(x)
        >>> features.kind, features(x).shape
        ('pca', torch.Size([200, 5]))
    """

    network: nn.Sequential
    mean: Tensor
    scale: Tensor

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        self.spec = spec
        shape = tuple(spec["shape"])
        self.network = _network(spec["kind"], shape, spec["outputs"])
        each = shape if len(shape) == 1 else ()
        self.register_buffer("mean", torch.zeros(each))
        self.register_buffer("scale", torch.ones(each))

    @property
    def kind(self) -> str:
        """Which features: "classifier" or "pca"."""
        return self.spec["kind"]

    @property
    def accuracy(self) -> Estimate | None:
        """The classifier's share of right answers on a tenth of the rows that it was not trained on; None for "pca"."""
        return self.spec["accuracy"] and Estimate(*self.spec["accuracy"])

    def standardised(self, x: Tensor) -> Tensor:
        """The input of the network: mean 0 and deviation 1 for each column of vectors, or over all pixels."""
        return (x.to(self.scale) - self.mean) / self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Features (m, ≤ 128) of network-form samples (m, c, h, w) or (m, d)."""
        return self.network[:-1](self.standardised(x))

    def features(self, x: Any, convert: Convert = tensor) -> Tensor:
        """Features (m, ≤ 128) on the CPU, chunk by chunk; `convert` makes rows of `x` network-form tensors."""
        return apply(lambda rows: self(convert(rows)), x)

    @classmethod
    def fit(cls, x: Any, labels: Any = None, seed: int | torch.Generator = 0, convert: Convert = tensor) -> Features:
        """Train the classifier on (m, ...) samples and their labels (m,), or take principal components without labels.

        Classifier: three convolutions (images) or two layers (vectors), its last hidden layer of 128 after the ReLU;
        nine tenths of the rows train it, one tenth measures `accuracy`.

        Args:
            x: rows that `convert` turns to tensors (m, c, h, w) in 0..1 or (m, d), a batch at a time.
            labels: integers or strings, one per row, of at least two classes; None for principal components.
            seed: of the weights, the held-out tenth and the order of the rows.
            convert: from rows of `x` to tensors; the default takes arrays and tensors in network form.

        Raises:
            ValueError: for labels of another length or of one class, fewer than 10 rows, samples of another shape.
        """
        rng = random(seed)
        if len(x) < 10:
            raise ValueError(f"x must have at least 10 rows to fit features, got {len(x)}")
        shape = tuple(convert(x[:1]).shape[1:])
        if len(shape) not in (1, 3):
            raise ValueError(f"x must have shape (m, d) or (m, c, h, w) in network form, got {(len(x), *shape)}")
        return cls._pca(x, shape, convert) if labels is None else cls._classifier(x, shape, labels, rng, convert)

    @classmethod
    def _pca(cls, x: Any, shape: tuple[int, ...], convert: Convert) -> Features:
        flat = apply(lambda rows: convert(rows).flatten(1).double(), x)
        mean = flat.mean(0)
        _, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean))
        axes = vectors.flip(1)[:, : min(WIDTH, len(mean))].T
        features = cls({"kind": "pca", "shape": list(shape), "outputs": len(axes), "accuracy": None})
        features.load_state_dict(
            {"mean": features.mean, "scale": features.scale, "network.1.weight": axes, "network.1.bias": -axes @ mean}
        )
        return features.requires_grad_(False)

    @classmethod
    def _classifier(
        cls, x: Any, shape: tuple[int, ...], labels: Any, rng: np.random.Generator, convert: Convert
    ) -> Features:
        classes, y = np.unique(np.asarray(labels), return_inverse=True)
        if len(y) != len(x):
            raise ValueError(f"labels must have one entry per sample, got {len(y)} for {len(x)} samples")
        if len(classes) < 2:
            raise ValueError(f"labels must have at least two classes, got {classes.tolist()} only")
        rows = rng.permutation(len(x))
        held, kept = np.split(rows, [len(x) // 10])
        spec: dict[str, Any] = {"kind": "classifier", "shape": list(shape), "outputs": len(classes), "accuracy": None}
        features = seeded(lambda: cls(spec), int(rng.integers(2**31)))
        sample = convert(x[kept[:10000]]).float()
        axes = 0 if len(shape) == 1 else tuple(range(4))
        features.mean, features.scale = sample.mean(axes), sample.std(axes).clamp(min=1e-6)
        targets = torch.from_numpy(y)
        train(
            features.network,
            lambda batch: features.standardised(convert(x[kept[batch]])),
            targets[kept],
            rng,
            epochs=max(EPOCHS, math.ceil(STEPS * BATCH / len(kept))),
            batch=BATCH,
            rate=3e-3,
            decay=1e-2,
        )
        logits = apply(lambda rows: features.network(features.standardised(convert(rows))), x[held])
        spec["accuracy"] = list(share((logits.argmax(1) == targets[held]).numpy()))
        return features.requires_grad_(False)
