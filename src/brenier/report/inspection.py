"""What a data set is like, and what each layer of a network does to it: numbers, what stands out, one figure."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from brenier import manifold
from brenier.data import Samples
from brenier.manifold.tapping import projection
from brenier.report.inspection_figures import data_figure, layer_figure
from brenier.report.page import Finding, Picture, Table, number, write_page
from brenier.report.sentences import data_findings, layer_findings
from brenier.solution import Estimate

FEWEST = 24  # distinct samples
LOOKED_AT = 4000  # samples, at most
CORRECTED = 512  # distinct samples from which a dimension is corrected for their number and for noise
NEIGHBOURS, AROUND = 10, 40  # of the graph, and for singular points
NETS = (16, 64, 256)
WIDEST = 1024  # entries that a linear classifier reads as they are; of more, so many random directions
METHODS = ("two_nn", "mle", "pca")
OF_A_CLASS = {
    "samples": "How many there are.",
    "two_nn": "Intrinsic dimension by the ratio of the distances to the two nearest neighbours.",
    "mle": "The same by maximum likelihood from ten neighbours.",
    "pca": "How many principal components hold 95 % of the variance.",
}
OF_A_LAYER = {
    "module": "Its kind.",
    "width": "How many numbers it gives for a sample.",
    "dim": "Intrinsic dimension of its values, by two nearest neighbours.",
    "sep": "Scatter between classes over scatter within them.",
    "probe": "Held-out accuracy of a linear classifier of its values.",
    "stretch": "Length of the image of a straight way between neighbours of one class, over its length.",
    "turning": "By how many radians this image turns: its total curvature, 0 for an affine map.",
    "volume": "By which factor lengths change on average over the directions of the data: the d-th root of that of "
    "volumes.",
    "cells": "How many linear regions a way along the graph between samples of one class crosses.",
    "Fisher": "Trace of Fisher's metric of the answer: how much a small step in the values changes the probabilities.",
    "top": "Its largest eigenvalue, of the steepest direction.",
}


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found: `numbers` by name (estimates, counts, texts, lists), `findings` in plain sentences, one `table`
    and one `picture`; `layers` of a network, if there was one; `settings` and `seconds`.
    """

    title: str
    numbers: Mapping[str, Any] = field(repr=False)
    findings: tuple[Finding, ...] = field(repr=False)
    table: Table = field(repr=False)
    picture: Picture = field(repr=False)
    layers: manifold.Layers | None
    settings: Mapping[str, Any] = field(repr=False)
    seconds: Mapping[str, float] = field(repr=False)

    def __str__(self) -> str:
        said = "\n".join(f"  {finding.number}: {finding.sentence}" for finding in self.findings)
        return f"{self.title}\n{said}"

    def asdict(self) -> dict[str, Any]:
        """Everything as JSON knows it: an estimate as {"mean", "sem"}, None for NaN and infinity."""
        said = [f"{finding.number}: {finding.sentence}" for finding in self.findings]
        return _plain({"title": self.title, **self.numbers, "findings": said, "settings": self.settings})

    def write(self, folder: str | Path) -> Path:
        """Write inspection.json, inspection.html and inspection.png into a folder that is there; gives the page's path.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder} to write the inspection to")
        (folder / "inspection.json").write_text(json.dumps(self.asdict(), indent=1), encoding="utf-8")
        self.picture.figure.savefig(folder / "inspection.png", metadata={"Software": None})
        return write_page(
            folder / "inspection.html",
            self.title,
            self.findings,
            [self.table],
            {"What was found": self.picture},
            {**self.settings, "versions": f"Brenier {version('brenier')}, torch {torch.__version__}"},
            self.seconds,
            subtitle=f"{self.numbers['samples']:,} samples · {date.today():%d %B %Y}",
        )


def inspect(
    data: Samples, network: nn.Module | None = None, *, picture: str = "isomap", limit: int = LOOKED_AT, seed: int = 0
) -> Inspection:
    """What a data set is like, or, with a network, what each of its layers does to it: it should be held out then.

    Of the data alone: number, shape, range, copies; intrinsic dimension by three methods and by class (corrected for
    the number of samples and noise from 512 on), parts of the graph of ten neighbours, covering and packing radii of
    nets of 16, 64 and 256 samples, share of singular points, class separation, and a picture by `picture` ("isomap",
    "pca"; "tsne" or "umap" with the extra "embed") with how far to trust it. Of a network: `manifold.layers`.

    Of a table the columns are looked at as a model reads them, scaled or coded. Above `limit` samples as many, evenly
    spread, are looked at; copies are counted among all.

    Raises:
        ValueError: fewer than 24 distinct samples, an unknown method, what `manifold.layers` raises; ImportError: the
            library of a method is missing.

    Example:
        >>> from brenier.data import ring
        >>> found = inspect(ring(200), picture="pca")
        >>> found.numbers["samples"], found.numbers["graph"]["components"]
        (200, 8)
    """
    if not isinstance(data, Samples):
        raise TypeError(f"data must be Samples, as data.load gives them, got {type(data).__name__}")
    if picture not in ("isomap", "pca", "tsne", "umap"):
        raise ValueError(f"picture must be isomap, pca, tsne or umap, got {picture!r}")
    if data.table is not None:
        data = Samples(data.layout.to_network(data.values).numpy(), data.labels, data.name)
    rows = data.values.reshape(len(data), -1)
    _, first, owner = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    if len(first) < FEWEST:
        raise ValueError(f"{data.name} must have at least {FEWEST} distinct samples, got {len(first)}")
    kept = np.linspace(0, len(data) - 1, min(len(data), limit)).astype(int)
    labels = data.labels
    if labels is not None and not 2 <= len(np.unique(labels)) < len(labels):
        labels = None
    numbers = _basics(data, first, owner.ravel())
    seen, names = data.values[kept], None if labels is None else labels[kept]
    if network is not None:
        return _of_network(data, network, numbers, seen, names, seed)
    return _of_data(data, numbers, seen, names, picture, seed)


def _basics(data: Samples, first: np.ndarray, owner: np.ndarray) -> dict[str, Any]:
    """What needs no geometry."""
    x = data.values
    at_odds = 0 if data.labels is None else int((data.labels != data.labels[first][owner]).sum())
    classes = {} if data.labels is None else dict(zip(*np.unique(data.labels, return_counts=True), strict=True))
    return {
        "name": data.name,
        "samples": len(x),
        "shape": list(x.shape[1:]),
        "kind": data.layout.kind,
        "dtype": str(x.dtype),
        "range": [float(x.min()), float(x.max())],
        "duplicates": len(x) - len(first),
        "duplicates with another label": at_odds,
        "constant entries": int((x == x[:1]).all(0).sum()),
        "classes": {str(name): int(count) for name, count in classes.items()},
    }


def _of_data(
    data: Samples, numbers: dict[str, Any], seen: np.ndarray, names: np.ndarray | None, picture: str, seed: int
) -> Inspection:
    x = np.unique(seen.reshape(len(seen), -1).astype(np.float64), axis=0)
    rows = seen.reshape(len(seen), -1).astype(np.float64)
    corrected = len(x) >= CORRECTED
    clock = _Clock()
    by_class: dict[str, dict[str, Any]] = {"all": {"samples": len(seen)} | _dimensions(x, corrected, seed)}
    for name in [] if names is None else np.unique(names):
        own = rows[names == name]
        by_class[str(name)] = {"samples": len(own)} | _dimensions(own, False, seed)
    clock.took("dimension")
    graph = manifold.neighbour_graph(x, NEIGHBOURS)
    parts = manifold.graph_geodesics(graph, 1).components
    sizes = np.sort(np.bincount(parts))[::-1]
    clock.took("graph")
    nets = [manifold.epsilon_net(x, size=size, seed=seed) for size in NETS if size < len(x)]
    clock.took("nets")
    singular = None
    if len(x) > AROUND + 1:
        marks = manifold.singular_points(x, AROUND)
        share = float(np.asarray(marks.mask).mean())
        singular = {"share": Estimate(share, math.sqrt(share * (1 - share) / len(x))), "by chance": marks.rate}
    clock.took("singular points")
    embedding = manifold.embed(x, picture, min(2, x.shape[1]), seed=seed)
    clock.took("picture")
    numbers |= {
        "looked at": len(seen),
        "dimension": {method: by_class["all"][method] for method in METHODS} | {"corrected": corrected},
        "by class": {name: values for name, values in by_class.items() if name != "all"},
        "separation": None if names is None else manifold.class_separation(rows, names),
        "probe": None
        if names is None
        else manifold.linear_probe(projection(torch.from_numpy(rows), WIDEST, seed), names),
        "graph": {"neighbours": NEIGHBOURS, "components": len(sizes), "sizes": sizes[:20].tolist()},
        "nets": [
            {"size": len(net.indices), "covering": net.covering_radius, "packing": net.packing_radius} for net in nets
        ],
        "nearest": float(np.median(graph.data[graph.data > 0])),
        "singular": singular,
        "picture": {"method": picture}
        | {name: getattr(embedding, name) for name in ("trustworthiness", "continuity", "stress")},
    }
    clock.took("classes")
    groups = None if names is None else names[np.unique(rows, axis=0, return_index=True)[1]]
    table = Table(
        "Intrinsic dimension" + (" (of all: corrected for the number of samples and for noise)" if corrected else ""),
        list(OF_A_CLASS),
        [(name, [values[key] for key in OF_A_CLASS]) for name, values in by_class.items()],
        list(OF_A_CLASS.values()),
    )
    made = data_figure(np.asarray(embedding.codes), groups, by_class, numbers["nets"], picture)
    caption = (
        f"Left, the samples by {picture}, trustworthiness {number(embedding.trustworthiness)}, continuity "
        f"{number(embedding.continuity)} of 1. Middle, intrinsic dimension with two standard errors. Right, how far "
        "the farthest sample is from a net of so many samples, and half the least distance inside the net."
    )
    shown = Picture(made, caption, "A picture of the samples, their dimension by class, radii of nets")
    settings = {"samples looked at": f"{len(seen):,}", "picture": picture, "seed": seed}
    return Inspection(
        f"{data.name}: what the data are like",
        numbers,
        tuple(data_findings(numbers)),
        table,
        shown,
        None,
        settings,
        clock.seconds,
    )


def _dimensions(x: np.ndarray, corrected: bool, seed: int) -> dict[str, Estimate | None]:
    """By method; None where a class has too few distinct samples, or lies on a lattice."""
    found: dict[str, Estimate | None] = {}
    for method in METHODS:
        try:
            found[method] = manifold.intrinsic_dimension(x, method, corrected=corrected and method != "pca", seed=seed)
        except ValueError:
            found[method] = None
    return found


def _of_network(
    data: Samples,
    network: nn.Module,
    numbers: dict[str, Any],
    seen: np.ndarray,
    names: np.ndarray | None,
    seed: int,
) -> Inspection:
    clock = _Clock()
    found = manifold.layers(network, data.layout.to_network(seen), names, seed=seed)
    clock.took("layers")
    rows = [(layer.name, _row(layer)) for layer in found.layers]
    numbers |= {
        "network": type(network).__name__,
        "looked at": found.samples,
        "tangent": found.tangent,
        "accuracy": found.accuracy,
        "chance": found.chance,
        "notes": found.notes,
        "layers": [layer._asdict() for layer in found.layers],
    }
    table = Table(
        f"The layers of {type(network).__name__}, in the order in which they run",
        list(OF_A_LAYER),
        rows,
        list(OF_A_LAYER.values()),
    )
    made: Figure = layer_figure(found)
    shown = Picture(
        made,
        "Each panel follows one quantity from the input through the layers, with two standard errors; the table says "
        "what they are.",
        "Small panels of eight quantities over the layers",
    )
    clock.took("figure")
    return Inspection(
        f"{type(network).__name__} on {data.name}: what each layer does",
        numbers,
        tuple(layer_findings(found)),
        table,
        shown,
        found,
        {"samples looked at": f"{found.samples:,}", "seed": seed, **found.notes},
        clock.seconds,
    )


def _row(layer: manifold.Layer) -> list[Estimate | float | str | None]:
    width = f"{layer.width:,}" if layer.seen == layer.width else f"{layer.width:,} by {layer.seen}"
    values = [layer.dimension, layer.separation, layer.probe, layer.stretch, layer.turning, layer.volume, layer.cells]
    return [layer.kind, width, *values, layer.fisher, layer.spectrum[0] if layer.spectrum else None]


class _Clock:
    """Seconds of stages that follow each other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def took(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now


def _plain(value: Any) -> Any:
    """For JSON, which knows no NaN and no tuples with names."""
    if isinstance(value, Estimate):
        return {key: _plain(part) for key, part in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
