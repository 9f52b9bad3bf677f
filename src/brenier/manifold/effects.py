"""The parts of `layers`: curves and their images, volumes of tangent spaces, cells on paths, Fisher's metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components, dijkstra
from torch import Tensor, nn

from brenier.geometry.fisher import FAMILIES
from brenier.manifold.activation import checked
from brenier.manifold.chart import evaluating
from brenier.manifold.crossings import crossings
from brenier.manifold.graph import NEIGHBOURS, nearest, neighbour_graph
from brenier.manifold.piecewise import record
from brenier.manifold.tapping import BUDGET, INPUT, prefix, pushed, tapped
from brenier.solution import Estimate

NODES = 17  # on a segment
ROUNDINGS = 64  # below so many of them a chord has no direction
UNITS = 20_000  # that bend, at most, for cells to be counted
CLASSES = 64  # of a head, at most: one backward run for each
TOP = 5  # eigenvalues
Head = Callable[[Tensor], Tensor]


def mean(values: Tensor) -> Estimate | None:
    """The mean of values (m,) and its standard error; of none, None.

    Example:
        >>> mean(torch.tensor([1.0, 3.0]))
        Estimate(mean=2.0, sem=1.0)
    """
    if not len(values):
        return None
    values = values.double()
    sem = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(values.mean().item(), sem)


def segments(x: Tensor, labels: np.ndarray, count: int, seed: int) -> Tensor:
    """Straight ways (c, NODES, ...) from at most `count` of samples x (n, ...) to their nearest distinct ones alike."""
    flat = x.flatten(1).cpu().double()
    start = torch.from_numpy(np.random.default_rng(seed).permutation(len(x))[:count])
    apart = torch.cdist(flat[start], flat, compute_mode="donot_use_mm_for_euclid_dist")
    apart[torch.from_numpy(labels[start.numpy()][:, None] != labels) | (apart == 0)] = math.inf
    length, end = apart.min(1)
    start, end = start[length.isfinite()].to(x.device), end[length.isfinite()].to(x.device)
    t = torch.linspace(0, 1, NODES, dtype=x.dtype, device=x.device).view(-1, *[1] * (x.ndim - 1))
    return torch.lerp(x[start][:, None], x[end][:, None], t)


def length_and_turning(curves: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths (c,) of curves (c, nodes, D) by chords, and their total curvature (c,) by the angles between these.

    The angles count (nodes − 1) / (nodes − 2) times: those at the two ends are not seen.

    Example:
        >>> t = torch.linspace(0, 1, 17, dtype=torch.float64)
        >>> length, turning = length_and_turning(torch.stack([t.cos(), t.sin()], 1)[None])
        >>> round(length.item(), 3), round(turning.item(), 9)
        (1.0, 1.0)
    """
    rounding = ROUNDINGS * torch.finfo(curves.dtype).eps
    chords = curves.double().diff(dim=1)
    lengths = chords.norm(dim=2)
    known = lengths > rounding * curves.double().norm(dim=2).amax(1, keepdim=True)
    u = chords / lengths.where(known, torch.inf)[..., None]
    a, b = u[:, :-1], u[:, 1:]
    angles = 2 * torch.atan2((a - b).norm(dim=2), (a + b).norm(dim=2))
    both = known[:, :-1] & known[:, 1:]
    ends = (curves.shape[1] - 1) / (curves.shape[1] - 2)
    return lengths.sum(1), ends * angles.where(both, 0.0).sum(1)


def volumes(
    network: nn.Module, x: Tensor, dim: int, names: list[str], *, count: int, most: int, seed: int
) -> dict[str, Estimate | None]:
    """By layer (det Tᵀ Jᵀ J T)^(1 / 2 dim) at `count` of distinct samples x (n, ...): `layers` says what these are.

    Raises:
        NotImplementedError: torch has no forward-mode derivative of a step.
    """
    flat = x.flatten(1).cpu().double()
    near = nearest(flat, min(max(2 * dim, 20), len(flat) - 1))[1]
    chosen = torch.from_numpy(np.random.default_rng(seed).permutation(len(x))[:count])
    step = max(1, BUDGET // (dim * max(flat.shape[1], most) * len(names)))
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    for rows in chosen.split(step):
        local = flat[near[rows]]
        frame = torch.linalg.svd(local - local.mean(1, keepdim=True), full_matrices=False).Vh[:, :dim]
        for name, images in pushed(network, x[rows.to(x.device)], frame, names, most, seed).items():
            sigma = torch.linalg.svdvals(images.double())
            sigma = torch.nn.functional.pad(sigma, (0, dim - sigma.shape[1]))
            small = 8 * torch.finfo(x.dtype).eps * dim * sigma[:, :1]
            parts[name].append(sigma.where(sigma > small, 0.0).log().mean(1).exp())
    return {name: mean(torch.cat(found)) for name, found in parts.items() if found}


def paths(x: Tensor, labels: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    """Rows on shortest ways along the graph of neighbours between random distinct samples x (n, ...) of one label."""
    flat = x.flatten(1).cpu().double().numpy()
    graph = neighbour_graph(flat, min(NEIGHBOURS, len(flat) - 1))
    parts = connected_components(graph, directed=False)[1]
    random, found = np.random.default_rng(seed), list[np.ndarray]()
    for start in random.permutation(len(flat)):
        ends = np.flatnonzero((labels == labels[start]) & (parts == parts[start]) & (np.arange(len(flat)) != start))
        if not len(ends):
            continue
        before = dijkstra(graph, indices=start, return_predecessors=True)[1]
        way = [random.choice(ends)]
        while way[-1] != start:
            way.append(before[way[-1]])
        found.append(np.array(way[::-1]))
        if len(found) == count:
            break
    return found


def cells(
    network: nn.Module, x: Tensor, ways: list[np.ndarray], names: list[str]
) -> tuple[dict[str, Estimate | None], str | None]:
    """By layer how often the code of the network up to it changes on the ways, and why that is not known further on."""
    found: dict[str, Estimate | None] = {}
    if not ways:
        return found, "no two samples of one class are connected in the graph of neighbours"
    whose = torch.from_numpy(np.repeat(np.arange(len(ways)), [len(way) - 1 for way in ways]))
    a, b = (x[torch.from_numpy(np.concatenate(ends)).to(x.device)] for ends in zip(*_ends(ways), strict=True))
    with evaluating(network):
        units = sum(pieces.shape[1] for pieces in record(network, x[:1])[0].noted)
        if units > UNITS:
            return found, f"the network has {units:,} units that bend, more than {UNITS:,}"
        bends, counts = 0, torch.zeros(len(ways), dtype=torch.float64)
        for name in names:
            part = prefix(network, name)
            own = len(record(part, x[:1])[0].noted)
            try:
                checked(part, a[:8])
                if own > bends:
                    on_edges = crossings(part, a, b).counts.cpu().double()
                    bends, counts = own, torch.zeros_like(counts).index_add(0, whose, on_edges)
            except ValueError as error:
                return found, f"from layer {name} on: {error}"
            found[name] = mean(counts)
    return found, None


def _ends(ways: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(way[:-1], way[1:]) for way in ways]


def head_of(answer: Tensor, labels: np.ndarray | None) -> tuple[Head | None, str]:
    """From a classifier's answers (n, C) the way to 2 √p (n, C'), isometric for Fisher's metric; or why there is none.

    Rows of numbers that are not negative and sum to 1 are p, others logits; one column is the logit of the second of
    two classes.
    """
    if labels is None:
        return None, "without labels nothing says that the network classifies"
    classes = len(np.unique(labels))
    if answer.ndim != 2 or not min(2, answer.shape[1]) <= answer.shape[1] <= CLASSES:
        return None, f"a head has at most {CLASSES} columns, and this one gives {tuple(answer.shape[1:])}"
    columns = 2 if answer.shape[1] == 1 else answer.shape[1]
    if classes > columns or (labels.dtype.kind in "iu" and not 0 <= labels.min() <= labels.max() < columns):
        return None, f"the answer has {answer.shape[1]} columns, which aren't those of the {classes} classes"
    if answer.shape[1] == 1:
        return lambda logit: FAMILIES["categorical"][0](torch.cat([torch.zeros_like(logit), logit], 1)), ""
    if bool((answer >= 0).all()) and torch.allclose(answer.sum(1), torch.ones_like(answer[:, 0]), atol=1e-4):
        return lambda p: 2 * p.clamp(min=torch.finfo(p.dtype).tiny).sqrt(), ""
    return FAMILIES["categorical"][0], ""


def spectra(
    network: nn.Module, x: Tensor, head: Head, widths: dict[str, int]
) -> dict[str, tuple[Estimate | None, tuple[Estimate | None, ...]]]:
    """By layer trace and largest eigenvalues of Fisher's metric of the head at samples x, pulled back to its values."""
    parts: dict[str, list[Tensor]] = {name: [] for name in widths}
    for rows in x.split(max(1, BUDGET // (CLASSES * sum(widths.values())))):
        for name, values in _eigenvalues(network, rows, head, widths).items():
            parts[name].append(values)
    found = {}
    for name, some in parts.items():
        values = torch.cat(some).double().cpu()
        found[name] = (mean(values.sum(1)), tuple(mean(column) for column in values[:, :TOP].T))
    return found


def _eigenvalues(network: nn.Module, x: Tensor, head: Head, widths: dict[str, int]) -> dict[str, Tensor]:
    leaf = x.detach().clone().requires_grad_()
    values: dict[str, Tensor] = {INPUT: leaf}

    def keep(name: str, y: Tensor) -> Tensor | None:
        if name not in widths:
            return None
        values[name] = y
        return y.clone()  # what a later step changes in place

    with evaluating(network), torch.enable_grad():
        start = leaf.clone()
        with tapped(network, start, keep):
            embedded = head(network(start))
        slopes: dict[str, list[Tensor]] = {name: [] for name in values}
        for column in embedded.unbind(1):
            gradients = torch.autograd.grad(column.sum(), list(values.values()), retain_graph=True, allow_unused=True)
            for (name, y), gradient in zip(values.items(), gradients, strict=True):
                slopes[name].append((torch.zeros_like(y) if gradient is None else gradient).flatten(1).double())
    grams = {name: (a := torch.stack(some, 1)) @ a.mT for name, some in slopes.items()}
    return {name: torch.linalg.eigvalsh(gram).flip(1).clamp(min=0) for name, gram in grams.items()}


def accuracy_of(answer: Tensor, labels: Any) -> Estimate | None:
    """Share of answers (n, C) whose largest column, of one the sign, is the label, integers from 0; else None."""
    if labels is None or labels.dtype.kind not in "iu":
        return None
    said = answer.argmax(1) if answer.shape[1] > 1 else (answer[:, 0] > 0).long()
    share = float((said.cpu().numpy() == labels).mean())
    return Estimate(share, math.sqrt(share * (1 - share) / len(labels)))
