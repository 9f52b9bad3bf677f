"""What stands out in an inspection, in plain sentences with their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from brenier.manifold import Layer, Layers
from brenier.report.page import Finding, number
from brenier.solution import Estimate


def data_findings(numbers: Mapping[str, Any]) -> Iterator[Finding]:
    """Of the numbers of a data set, as `inspect` collects them."""
    n, entries = numbers["samples"], math.prod(numbers["shape"])
    low, high = numbers["range"]
    what = f"{numbers['kind']} of {' x '.join(map(str, numbers['shape']))}, {numbers['dtype']}"
    constant = numbers["constant entries"]
    idle = f"; {constant:,} of {entries:,} entries never change" if constant else ""
    yield Finding(f"{n:,}", f"Samples: {what}, from {low:.4g} to {high:.4g}{idle}.")
    yield from _copies(numbers)
    yield from _dimension(numbers["dimension"], entries)
    yield from _classes(numbers)
    yield from _graph(numbers["graph"])
    if numbers["nets"]:
        widest = numbers["nets"][-1]
        yield Finding(
            f"{widest['covering']:.3g}",
            f"No sample is farther than this from {widest['size']} samples that are well spread (an ε-net); neighbours "
            f"are typically {numbers['nearest']:.3g} apart.",
        )
    if numbers["singular"] is not None:
        share, chance = numbers["singular"]["share"], numbers["singular"]["by chance"]
        verdict = f"more than the {chance:.0%} by chance"
        if share.mean - 2 * share.sem <= chance:
            verdict = f"no more than the {chance:.0%} by chance"
        if share.mean > 0.5:
            verdict = "so many that noise, or samples too far apart, hide what single ones are"
        yield Finding(
            f"{share.mean:.1%}",
            "The share of samples around which the data look like no smooth manifold of a dimension up to 10: "
            f"{verdict}.",
        )
    trust = numbers["picture"]["trustworthiness"]
    yield Finding(
        number(trust),
        f"Trustworthiness of the picture by {numbers['picture']['method']}, of 1: "
        + ("neighbours in it are neighbours in the data." if trust.mean > 0.95 else "many neighbours in it are none.")
        + f" Continuity is {number(numbers['picture']['continuity'])}.",
    )


def _copies(numbers: Mapping[str, Any]) -> Iterator[Finding]:
    copies, odd = numbers["duplicates"], numbers["duplicates with another label"]
    if not copies:
        yield Finding("0", "No sample is there twice.")
        return
    noun = "sample equals an earlier one" if copies == 1 else "samples equal earlier ones"
    labels = f", {odd:,} of them with another label" if odd else ""
    yield Finding(f"{copies:,}", f"The data have copies: {copies:,} {noun}{labels}.")


def _dimension(dimension: Mapping[str, Any], entries: int) -> Iterator[Finding]:
    if dimension["two_nn"] is None:
        yield Finding("–", "The samples lie on a lattice, where neighbours tell no dimension.")
        return
    others = [f"{number(dimension['mle'])} by maximum likelihood" if dimension["mle"] else ""]
    others.append(f"{dimension['pca'].mean:.0f} principal components hold 95% of the variance")
    yield Finding(
        number(dimension["two_nn"]),
        f"Intrinsic dimension by two nearest neighbours, of {entries:,} entries; {', '.join(filter(None, others))}.",
    )


def _classes(numbers: Mapping[str, Any]) -> Iterator[Finding]:
    known = {k: v["two_nn"] for k, v in numbers["by class"].items() if v["two_nn"] is not None}
    if numbers["probe"] is not None:
        yield Finding(
            number(numbers["probe"]),
            f"Held-out accuracy of a linear classifier of {len(numbers['classes'])} classes; the scatter between "
            f"classes is {number(numbers['separation'])} times that within.",
        )
    if len(known) > 1:
        low, high = min(known, key=lambda k: known[k].mean), max(known, key=lambda k: known[k].mean)
        apart = known[high].mean - known[low].mean > 2 * math.hypot(known[high].sem, known[low].sem)
        yield Finding(
            f"{known[low].mean:.2g} to {known[high].mean:.2g}",
            f"Intrinsic dimension by class, least of {low} ({number(known[low])}), largest of {high} "
            f"({number(known[high])})" + ("." if apart else ": no clear difference."),
        )


def _graph(graph: Mapping[str, Any]) -> Iterator[Finding]:
    parts, k = graph["components"], graph["neighbours"]
    if parts == 1:
        yield Finding("1 part", f"The graph of {k} neighbours is connected.")
        return
    sizes = ", ".join(f"{size:,}" for size in graph["sizes"][:5]) + (", …" if parts > 5 else "")
    yield Finding(
        f"{parts:,} parts",
        f"The graph of {k} neighbours falls apart, into parts of {sizes} samples: no way along the data joins them.",
    )


def layer_findings(found: Layers) -> Iterator[Finding]:
    """Of the layers of a network."""
    start, *inner = found.layers
    last = inner[-1]
    if found.accuracy is not None:
        yield Finding(
            number(found.accuracy),
            f"Accuracy of the network on these samples; the largest class is {found.chance:.3g} of them.",
        )
    if start.dimension and last.dimension:
        largest, name = max((layer.dimension, layer.name) for layer in found.layers if layer.dimension)
        hump = "" if name in (start.name, last.name) else f", at most {number(largest)} at layer {name}"
        yield Finding(
            f"{start.dimension.mean:.2g} → {last.dimension.mean:.2g}",
            f"Intrinsic dimension of the input and of the last layer{hump}.",
        )
    probed = [(layer.name, layer.probe) for layer in found.layers if layer.probe]
    if probed:
        best = max(probe.mean for _, probe in probed)
        name, early = next((name, probe) for name, probe in probed if probe.mean + 2 * probe.sem >= best)
        where = "the input" if name == start.name else f"layer {name}"
        yield Finding(
            number(early), f"Linear accuracy at {where}, from which on no layer is clearly better ({best:.3g})."
        )
        yield Finding(
            f"{_short(start.separation)} → {_short(last.separation)}",
            "Scatter between classes over that within them, at the input and at the last layer.",
        )
    yield from _shape(found)
    if last.fisher is not None and last.spectrum[0] is not None and last.fisher.mean > 0:
        share = last.spectrum[0].mean / last.fisher.mean
        yield Finding(
            f"{share:.0%}",
            "Share of the steepest direction in Fisher's metric of the last layer: how far one direction decides.",
        )
    for what, why in found.notes.items():
        yield Finding("–", f"{what[0].upper()}{what[1:]}: {why}.")


def _shape(found: Layers) -> Iterator[Finding]:
    """Stretch, turning, volume, cells."""
    start, last = found.layers[0], found.layers[-1]
    if last.stretch is not None:
        step, layer = _largest_step(found.layers)
        yield Finding(
            number(last.stretch),
            f"By this factor ways between neighbours of one class get longer; most at layer {layer.name}, "
            f"{step:.3g} times.",
        )
        most, name = max((layer.turning, layer.name) for layer in found.layers[1:] if layer.turning is not None)
        yield Finding(
            number(last.turning),
            "By so many radians these ways, straight in the input, turn at the end"
            + (f"; at most {number(most)} at layer {name}." if most.mean > 0 else "."),
        )
    if last.volume is not None and start.volume is not None:
        d = found.tangent
        change = f"10^{d * math.log10(last.volume.mean):.2g}" if last.volume.mean > 0 else "0"
        yield Finding(
            number(last.volume),
            f"Mean factor of lengths in the {d} directions of the data, so that volumes change about {change} times.",
        )
    counted = [layer for layer in found.layers[1:] if layer.cells is not None]
    if counted:
        yield Finding(
            number(counted[-1].cells),
            "Borders of linear regions that a way along the data between samples of one class crosses"
            + ("." if counted[-1] is last else f", up to layer {counted[-1].name}."),
        )


def _largest_step(layers: tuple[Layer, ...]) -> tuple[float, Layer]:
    steps = [
        (b.stretch.mean / a.stretch.mean, b)
        for a, b in pairwise(layers)
        if a.stretch is not None and b.stretch is not None and a.stretch.mean > 0
    ]
    return max(steps, key=lambda pair: pair[0])


def _short(value: Estimate | None) -> str:
    return "–" if value is None else f"{value.mean:.2g}"
