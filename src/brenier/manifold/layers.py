"""What each layer of a network does to data: dimension, classes, lengths, bends, volume, cells, Fisher's metric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from brenier.checks import whole
from brenier.manifold import effects
from brenier.manifold.chart import Samples, as_network, evaluating, place, take
from brenier.manifold.dimension import intrinsic_dimension
from brenier.manifold.separation import class_separation, linear_probe
from brenier.manifold.tapping import CHUNK, INPUT, activations, layer_names, projection, tapped
from brenier.solution import Estimate

FEWEST = 16  # distinct samples
CURVES = 128  # segments whose lengths and angles are followed
POINTS = 32  # at which volumes are taken
PATHS = 16  # along the graph, whose cells are counted
FISHER = 128  # samples at which Fisher's metric is taken


class Layer(NamedTuple):
    """One layer; a number that can't be had is None, and `Layers.notes` says why. Definitions: `layers`.

    name, kind: of the module; width: of its answer, of which `seen` random orthogonal directions were looked at.
    """

    name: str
    kind: str
    width: int
    seen: int
    dimension: Estimate | None
    separation: Estimate | None
    probe: Estimate | None
    stretch: Estimate | None
    turning: Estimate | None
    volume: Estimate | None
    cells: Estimate | None
    fisher: Estimate | None
    spectrum: tuple[Estimate, ...]


@dataclass(frozen=True)
class Layers:
    """The input and every layer, in the order of execution, for so many `samples`.

    tangent: dimension of the tangent spaces whose volume was followed, that of the data. accuracy: of the network on
    these samples, where its answer has a column for each class 0, 1, …; chance: the share of the largest class.
    notes: by quantity, why it is missing, where it is; "left out" names layers without a row for every sample.
    """

    layers: tuple[Layer, ...] = field(repr=False)
    samples: int
    tangent: int
    accuracy: Estimate | None
    chance: float | None
    notes: dict[str, str]


def layers(
    network: nn.Module,
    x: Samples,
    labels: Any = None,
    *,
    max_samples: int = 2000,
    max_width: int = 512,
    seed: int = 0,
) -> Layers:
    """What each layer of a network does to held-out samples x (n, ...) with labels (n,).

    A layer is a module whose answer is new: Linear, convolutions, norms, nonlinearities, poolings, and blocks or the
    network where they add a step of their own (a residual sum, a function called in `forward`); not Identity, Flatten,
    Dropout in evaluation, nor Sequential. Layers wider than `max_width` are seen through as many random orthonormal
    directions (`tapping.projection`); above `max_samples` a draw by `seed` is taken. With f the network up to the
    layer:

    dimension: `intrinsic_dimension` by two_nn; None below 12 distinct rows and on lattices.
    separation: `class_separation`; probe: accuracy of `linear_probe`. Both need labels.
    stretch: |f∘c| / |c|, lengths of the straight segments c from samples to their nearest neighbours of the same class,
    by 16 chords, mean over 128 of them. turning: the sum of the angles between successive chords, in radians, times
    16/15 for the ends (exact for arcs): total curvature, 0 where f is affine (Poole et al., NIPS 2016).
    volume: (det Tᵀ Jᵀ J T)^(1/2d), J the differential of f and T an orthonormal frame of the data's tangent space by
    local PCA of max(2 d, 20) neighbours, d the rounded intrinsic dimension of x; mean over 32 samples. So the
    volume of the data changes by its d-th power; 0 where a direction is lost.
    cells: how often the activation code of f changes on a shortest path along the graph of 10 neighbours, between
    random samples of one class, mean over 16 paths; for piecewise-linear f, exact (`crossings`).
    fisher, spectrum: trace and largest five eigenvalues of G = Aᵀ (diag p − p pᵀ) A, Fisher's metric of the head
    pulled back to the layer's values, A their derivative to the logits and p = softmax; each a mean over 128
    samples. For heads of 2 to 64 columns, and of one for two classes (a logit); rows that are not negative and sum to
    1 are probabilities.

    Errors are standard errors over samples, segments, points or paths. The network runs in evaluation mode.

    Raises:
        TypeError: network is no Module, or its answer no tensor. ValueError: fewer than 16 samples, samples that the
            network can't read (their shape is said), labels that don't fit, an answer that is not finite (by layer).

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        >>> found = layers(network, torch.randn(50, 3, generator=torch.Generator().manual_seed(0)))
        >>> [layer.name for layer in found.layers], round(found.layers[0].stretch.mean, 3)
        (['input', '0', '1'], 1.0)
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a torch.nn.Module, got {type(network).__name__}")
    whole("max_width", max_width, 2)
    points, names = _drawn(network, x, labels, whole("max_samples", max_samples, FEWEST), seed)
    inner, others = layer_names(network, points[:2])
    answer = _answer(network, points)
    widths = {INPUT: points[0].numel()} | inner
    dimension = _dimension(points.flatten(1))
    tangent = min(max(1, round(dimension.mean if dimension else 1)), widths[INPUT], FEWEST // 2)
    notes = {"left out": ", ".join(others)} if others else {}
    if names is None:
        notes |= dict.fromkeys(("separation", "probe"), "there are no labels of two classes or more")
    parts = _parts(network, points, names, answer, widths, tangent, max_width, seed, notes)

    groups = np.zeros(len(points)) if names is None else names
    curves = effects.segments(points, groups, CURVES, seed)
    kinds = {name: type(module).__name__ for name, module in network.named_modules()}
    found, straight = list[Layer](), None
    for name, values in _values(network, torch.cat([points, curves.flatten(0, 1)]), inner, max_width, seed):
        here = values[: len(points)].double()
        length, turning = effects.length_and_turning(values[len(points) :].unflatten(0, curves.shape[:2]))
        straight = length if straight is None else straight
        found.append(
            Layer(
                name=name,
                kind="" if name == INPUT else kinds.get(name.partition(" ")[0], type(network).__name__),
                width=widths[name],
                seen=values.shape[1],
                dimension=_dimension(here),
                separation=None if names is None else class_separation(here, names),
                probe=None if names is None else linear_probe(here, names),
                stretch=effects.mean(length / straight),
                turning=effects.mean(turning),
                **parts.get(name, {}),
            )
        )
    classified = "fisher" not in notes
    return Layers(
        layers=tuple(found),
        samples=len(points),
        tangent=tangent,
        accuracy=effects.accuracy_of(answer, names) if classified else None,
        chance=None if names is None else float(np.unique(names, return_counts=True)[1].max() / len(names)),
        notes=notes,
    )


def _drawn(network: nn.Module, x: Samples, labels: Any, most: int, seed: int) -> tuple[Tensor, np.ndarray | None]:
    """Distinct samples as the network reads them, at most so many; their labels where there are two classes or more."""
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(f"x must be a tensor or an array, got {type(x).__name__}")
    names = None if labels is None else np.asarray(labels)
    if names is not None and names.shape != (len(x),):
        raise ValueError(f"labels must have one entry per sample, got shape {names.shape} for {len(x)}")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    points = place(as_network(take(x, order).detach()), next(network.parameters(), None))
    if not points.isfinite().all():
        raise ValueError("x must be finite, got NaN or Inf")
    rows = points.flatten(1).cpu().numpy()
    first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
    if len(first) < FEWEST:
        raise ValueError(f"x must have at least {FEWEST} distinct samples, got {len(first)}")
    kept = torch.from_numpy(first)
    names = None if names is None else names[order.numpy()][first]
    return points[kept.to(points.device)], None if names is None or (names == names[0]).all() else names


def _answer(network: nn.Module, x: Tensor) -> Tensor:
    """What the network gives, (n, D); every layer must give finite numbers."""

    def check(name: str, y: Tensor) -> None:
        if y.is_floating_point() and not y.isfinite().all():
            raise ValueError(f"layer {name} must give finite numbers, got NaN or Inf")

    found = []
    for rows in x.split(CHUNK):
        with evaluating(network), tapped(network, rows, check):
            found.append(network(rows))
    return torch.cat(found).flatten(1)


def _values(
    network: nn.Module, x: Tensor, widths: dict[str, int], most: int, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """The input and what every layer gives, by name."""
    yield INPUT, projection(x.flatten(1).cpu(), most, seed)
    yield from activations(network, x, widths, most, seed)


def _dimension(x: Tensor) -> Estimate | None:
    """None where all but a few rows fall together, or lie on a lattice."""
    try:
        return intrinsic_dimension(x)
    except ValueError:
        return None


def _parts(
    network: nn.Module,
    x: Tensor,
    names: np.ndarray | None,
    answer: Tensor,
    widths: dict[str, int],
    tangent: int,
    most: int,
    seed: int,
    notes: dict[str, str],
) -> dict[str, dict[str, Any]]:
    """By layer its volume, cells and Fisher spectrum; in `notes` what can't be had."""
    inner = [name for name in widths if name != INPUT]
    groups = np.zeros(len(x)) if names is None else names
    volume: dict[str, Estimate | None] = {INPUT: Estimate(1.0, 0.0)}
    try:
        volume |= effects.volumes(network, x, tangent, inner, count=POINTS, most=most, seed=seed)
    except NotImplementedError as error:
        notes["volume"] = str(error).splitlines()[0]
    cells, reason = effects.cells(network, x, effects.paths(x, groups, PATHS, seed), inner)
    if reason:
        notes["cells"] = reason
    head, reason = effects.head_of(answer, names)
    spectra = {}
    if head is None:
        notes["fisher"] = reason
    else:
        some = np.random.default_rng(seed).permutation(len(x))[:FISHER]
        spectra = effects.spectra(network, x[torch.from_numpy(some).to(x.device)], head, widths)
    found: dict[str, dict[str, Any]] = {}
    for name in widths:
        fisher, spectrum = spectra.get(name, (None, ()))
        count = Estimate(0.0, 0.0) if name == INPUT else cells.get(name)
        found[name] = {"volume": volume.get(name), "cells": count, "fisher": fisher, "spectrum": spectrum}
    return found
