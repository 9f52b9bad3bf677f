"""A sampler of codes against held-out samples: every number of `evaluate` that asks nothing of the transport."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from brenier.report.features import Features
from brenier.report.numbers import c2st, frechet, nn_ratio, precision_recall_density_coverage
from brenier.solution import Estimate

AT_MOST = 10_000  # new codes, and test samples, that are compared


def evaluate(
    codes: Tensor,
    x_test: Tensor,
    train_codes: Tensor,
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    features: Features,
) -> dict[str, Estimate]:
    """fid, fid_rec, c2st, nn, precision, recall, density, coverage and mse of new codes (m, d).

    Args:
        codes: new codes (m, d).
        x_test: held-out samples in network form; evenly spread ones of them where there are more than 10,000.
        train_codes: the codes (n, d) of the training samples.
        encode: samples to codes.
        decode: codes to samples.
        features: of the Fréchet distances.

    Raises:
        ValueError: shapes that do not fit, or too few rows for a number.

    Example:
        >>> x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
        >>> same = evaluate(x[:100], x[100:200], x[200:], torch.clone, torch.clone, Features.fit(x))
        >>> same["mse"].mean, sorted(same)[:3]
        (0.0, ['c2st', 'coverage', 'density'])
    """
    x = x_test[torch.linspace(0, len(x_test) - 1, min(len(x_test), AT_MOST)).long()]
    test = encode(x)
    rebuilt = decode(test)
    new = codes[: len(x)].cpu()
    pictures = features.features(decode(new))
    errors = (rebuilt - x).double().square().flatten(1).mean(1)
    return {
        "fid": frechet(pictures, features.features(x)),
        "fid_rec": frechet(pictures, features.features(rebuilt)),
        "c2st": c2st(new, test),
        "nn": nn_ratio(new, test, train_codes),
        **precision_recall_density_coverage(test, new),
        "mse": Estimate(errors.mean().item(), errors.std().item() / len(errors) ** 0.5),
    }
