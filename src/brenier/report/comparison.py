"""Several models judged by the same test samples, in the same features: which differences are clear."""

from __future__ import annotations

import math
from collections.abc import Mapping

from brenier.report.findings import MEANING
from brenier.report.page import Finding, Table, number
from brenier.solution import Estimate

IDEAL = {
    **{"fid": 0.0, "fid_rec": 0.0, "c2st": 0.5, "nn": 1.0, "precision": 1.0, "recall": 1.0, "density": 1.0},
    **{"coverage": 1.0, "mse": 0.0, "relrms": 0.0, "accepted": 1.0},
}
CLEAR = 2.0  # standard errors of a difference


def compare(numbers: Mapping[str, Mapping[str, Estimate]]) -> tuple[list[Finding], Table]:
    """What sets models apart, of their `numbers` by name, in sentences and as one table with a column a model.

    The better of two numbers is nearer to its ideal: 0 of distances and errors, 0.5 of c2st, 1 of the others. A
    difference is clear where it exceeds two standard errors, sqrt(sem_a² + sem_b²) each, and every pair of models has
    one sentence for all of its clear differences. With ten numbers, one in three pairs of equal models has such a
    difference by chance.

    Raises:
        ValueError: fewer than two models.

    Example:
        >>> one, two = {"nn": Estimate(0.9, 0.01)}, {"nn": Estimate(0.5, 0.01)}
        >>> print(*compare({"a": one, "b": two})[0][0])
        1 of 1 a is better than b in nn (0.900 ± 0.010, not 0.500 ± 0.010).
    """
    if len(numbers) < 2:
        raise ValueError(f"there must be two models or more to compare, got {len(numbers)}")
    names = list(numbers)
    shared = [key for key in IDEAL if all(key in values for values in numbers.values())]
    findings = [_sentence(a, b, numbers[a], numbers[b], shared) for i, a in enumerate(names) for b in names[i + 1 :]]
    rows = [(key, [numbers[name][key] for name in names] + [MEANING[key]]) for key in shared]
    return findings, Table("The models, judged by the same test samples", [*names, "what it is"], rows)


def _sentence(a: str, b: str, of_a: Mapping[str, Estimate], of_b: Mapping[str, Estimate], keys: list[str]) -> Finding:
    better: dict[str, list[str]] = {a: [], b: []}
    for key in keys:
        x, y = of_a[key], of_b[key]
        if abs(x.mean - y.mean) <= CLEAR * math.hypot(x.sem, y.sem):
            continue
        ahead, (best, other) = (a, (x, y)) if abs(x.mean - IDEAL[key]) < abs(y.mean - IDEAL[key]) else (b, (y, x))
        better[ahead].append(f"{key} ({number(best)}, not {number(other)})")
    count = sum(map(len, better.values()))
    said = [f"{one} is better than {two} in {', '.join(better[one])}" for one, two in ((a, b), (b, a)) if better[one]]
    return Finding(f"{count} of {len(keys)}", "; ".join(said) + "." if said else f"{a} and {b} do not clearly differ.")
