"""Which piece every unit of a piecewise-linear network is on at a point, and the affine map that it is around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from brenier.manifold.piecewise import Network, Run, follow, record

PROBES = 8  # points at which a network is asked whether it is affine between its bends
SLACK = 1e4  # roundings that such an answer may be off by
ENTRIES = 2**21  # numbers that one run of a network may meet at its bends
Array = Tensor | np.ndarray
T = TypeVar("T", bound=tuple[Any, ...])


class AffineMaps(NamedTuple):
    """f(x) = matrix x + offset in the cells of m points, x flattened to d entries and f(x) to D.

    matrix (m, D, d); offset (m, D); rank (m,) long; volume (m,), the product of the min(d, D) singular values: how
    much larger the image of a small ball is (D ≥ d), or of its part across the kernel (D < d); 0 when rank falls.
    """

    matrix: Tensor
    offset: Tensor
    rank: Tensor
    volume: Tensor


def activation_codes(network: Network, x: Array) -> Tensor:
    """The activation code of each point x (m, ...): the piece of every unit, uint8 (m, K). Equal codes: one cell.

    A unit of a rectifier (ReLU, leaky, PReLU, abs) has 0 for z ≤ 0 and 1 for z > 0; one of ReLU6, hardtanh or clamp the
    number of its breaks below z; a pooling window the place of its largest entry, the first of several. Units come in
    the order in which the network is run, also those of functions called inside `forward`. Any other step must be
    affine: Linear, convolutions, BatchNorm in evaluation, mean pooling, sums of branches, reshaping.

    Raises:
        ValueError: a layer is neither affine nor one of these (named); a layer in training mode; weights or points that
            are not finite or of another dtype; a row's code depends on other rows.

    Example:
        >>> network = nn.Sequential(nn.Linear(1, 2), nn.ReLU())
        >>> _ = network[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]])), network[0].bias.data.zero_()
        >>> activation_codes(network, torch.tensor([[-1.0], [2.0]]))
        tensor([[0, 1],
                [1, 0]], dtype=torch.uint8)
    """
    points = checked(network, x)
    per_run = rows_per_run(network, points)
    return like(x, torch.cat([torch.cat(record(network, rows)[0].noted, 1) for rows in points.split(per_run)]))


def affine_maps(network: Network, x: Array) -> AffineMaps:
    """The affine maps that a network is in the cells of points x (m, ...), with their rank and volume distortion.

    With the pieces at x held, the network is affine everywhere; its columns are f(x + h e_k) − f(x) over h, free of
    truncation. A rank counts singular values above rounding.

    Raises:
        ValueError: what `activation_codes` raises.

    Example:
        >>> maps = affine_maps(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.randn(5, 3))
        >>> maps.matrix.shape, maps.rank.max().item() <= 2
        (torch.Size([5, 2, 3]), True)
    """
    points = checked(network, x)
    step = magnitude(points)
    matrices, offsets, noise = [], [], []
    for rows in points.split(rows_per_run(network, points)):
        run, value = record(network, rows)
        columns = []
        for k in range(rows[0].numel()):
            ahead = rows.flatten(1).clone()
            ahead[:, k] += step
            columns.append((follow(network, ahead.view_as(rows), run.noted) - value).flatten(1) / step)
        matrix = torch.stack(columns, 2)
        matrices.append(matrix)
        noise.append(value.flatten(1).abs().amax(1) * torch.finfo(points.dtype).eps / step)
        offsets.append(value.flatten(1) - (matrix @ rows.flatten(1)[:, :, None])[..., 0])
    found = torch.cat(matrices)
    rank, volume = rank_and_volume(found, torch.cat(noise))
    return AffineMaps(*(like(x, part) for part in (found, torch.cat(offsets), rank, volume)))


def rank_and_volume(matrix: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Rank (m,) of matrices (m, D, d), and the product of their min(d, D) singular values (m,), 0 where rank falls.

    Singular values count when they are above max(d, D) eps of the largest and above the noise (m,) of the entries.
    """
    sigma = torch.linalg.svdvals(matrix)
    small = torch.maximum(torch.finfo(matrix.dtype).eps * sigma[:, 0], noise) * max(matrix.shape[1:])
    large = sigma > small[:, None]
    rank = large.sum(1)
    return rank, torch.where(rank == sigma.shape[1], sigma.prod(1), 0.0)


def magnitude(points: Tensor) -> float:
    """A power of two no less than the largest entry, at least 1: a step that is exact and of the points' own size."""
    return 2.0 ** float(points.abs().max().clamp(min=1).log2().ceil()) if points.numel() else 1.0


def rows_per_run(network: Network, points: Tensor) -> int:
    """How many rows a run may hold for its bends to meet no more than ENTRIES numbers."""
    if not len(points):
        return 1
    run, value = record(network, points[:1])
    largest = max([p.shape[1] * w for p, w in zip(run.noted, run.widths, strict=True)] + [value.numel()])
    return max(1, ENTRIES // max(largest, points[0].numel()))


def like(x: Array, answer: Tensor) -> Any:
    """Numpy for numpy."""
    return answer.cpu().numpy() if isinstance(x, np.ndarray) else answer


def first_weight(network: Network) -> Tensor | None:
    """What says where a network computes, and in which dtype; None for a function or a network without weights."""
    return next(network.parameters(), None) if isinstance(network, nn.Module) else None


def beside(network: Network, x: Tensor) -> Tensor:
    """x where the network computes, in its own dtype."""
    weight = first_weight(network)
    return x if weight is None else x.to(weight.device)


def checked(network: Network, x: Array, name: str = "x") -> Tensor:
    """Points (m, ...) as a tensor, once the network has been found piecewise linear around them.

    Raises:
        TypeError: x is no array; ValueError: what `activation_codes` raises.
    """
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(f"{name} must be a tensor or an array, got {type(x).__name__}")
    points = beside(network, torch.from_numpy(x)) if isinstance(x, np.ndarray) else x.detach()
    if points.ndim < 2:
        raise ValueError(f"{name} must have shape (m, ...), one row per point, got {tuple(points.shape)}")
    if not points.is_floating_point():
        raise ValueError(f"{name} must be float, got {points.dtype}")
    if points.itemsize < 4:
        raise ValueError(
            f"{name} must be float32 or float64, got {points.dtype}, too coarse for a network's cells: "
            "network.float() has the same weights"
        )
    if not points.isfinite().all():
        row = (~points.flatten(1).isfinite().all(1)).nonzero()[0, 0]
        raise ValueError(f"{name} must be finite, got NaN or Inf in row {row}")
    if isinstance(network, nn.Module):
        _check_module(network, points, name)
    if len(points):
        try:
            record(network, points[:1])
        except RuntimeError as error:
            said = str(error).splitlines()[0]
            raise ValueError(f"the network can't read {name} of shape {tuple(points.shape)}: {said}") from None
        _check_affine(network, points)
    return points


def _check_module(network: nn.Module, points: Tensor, name: str) -> None:
    kinds = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    for label, module in network.named_modules():
        if isinstance(module, kinds) and module.training:
            what = f"layer {label or 0} ({type(module).__name__})"
            raise ValueError(f"{what} is in training mode, where rows change each other or by chance: call eval()")
    for label, weight in [*network.named_parameters(), *network.named_buffers()]:
        if not weight.is_floating_point():
            continue
        if not weight.isfinite().all():
            raise ValueError(f"the network's weights must be finite, got NaN or Inf in {label}")
        if (weight.dtype, weight.device) != (points.dtype, points.device):
            network_has, given = (f"{a.dtype} on {a.device}" for a in (weight, points))
            raise ValueError(f"{name} must have the network's dtype and device, got {given} for {network_has}")


def _check_affine(network: Network, points: Tensor) -> None:
    """Raise unless f(x + a + b) − f(x + a) − f(x + b) + f(x) = 0, step for step, with the pieces at x held."""
    x = points[torch.arange(PROBES, device=points.device) % len(points)]
    seed = torch.Generator().manual_seed(0)
    size = magnitude(x) * 2.0 ** torch.arange(-3, PROBES - 3).view(-1, *[1] * (x.ndim - 1))
    a, b = ((size * torch.randn(x.shape, generator=seed, dtype=torch.float64)).to(x) for _ in range(2))
    with torch.no_grad(), _named_layers(network) as layer:
        first = _probed(network, x, layer)
        others = [_probed(network, x + step, layer, first.noted) for step in (a, b, a + b)]
        alone, _ = record(network, x[-1:])
    for name, *parts in zip(first.names, first.steps, *(run.steps for run in others), strict=True):
        values = torch.stack([value for value, _ in parts])
        scale = max(float(values.abs().max()), *(size for _, size in parts))
        defect = float((values[0] - values[1] - values[2] + values[3]).abs().max())
        if not defect <= SLACK * torch.finfo(x.dtype).eps * scale:
            raise ValueError(f"{name}, which is neither affine nor a bend that is known")
    if any(not torch.equal(one[0], many[-1]) for one, many in zip(alone.noted, first.noted, strict=True)):
        raise ValueError("a row's activation code must not depend on the other rows, nor on chance")


class _Probe(Run):
    """A run that keeps what each step gives that should be affine, beside its size, and in which layer it was."""

    def __init__(self, m: int, layer: list[str], given: list[Tensor] | None = None) -> None:
        super().__init__(m, given)
        self.layer, self.names, self.steps = layer, list[str](), list[tuple[Tensor, float]]()

    def other(self, func: Any, args: Any, kwargs: Any) -> Any:
        met = [a for a in (*args, *kwargs.values()) if _is_float(a)]
        size = max([float(a.abs().max()) for a in met], default=0.0)
        answer = func(*args, **kwargs)
        for part in answer if isinstance(answer, tuple) else (answer,):
            if _is_float(part):
                where = self.layer[-1] if self.layer else "the network"
                self.names.append(f"{where} is not piecewise linear: it calls {func.__name__}")
                self.steps.append((part.clone(), size))
        return answer


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.numel() > 0


def _probed(network: Network, x: Tensor, layer: list[str], given: list[Tensor] | None = None) -> _Probe:
    with _Probe(len(x), layer, given) as run:
        network(x)
    return run


@contextmanager
def _named_layers(network: Network) -> Iterator[list[str]]:
    """A list whose last entry names the layer of a module that is being run."""
    layers: list[str] = []

    def entering(label: str) -> Callable[..., None]:
        return lambda module, _: layers.append(f"layer {label} ({type(module).__name__})" if label else "the network")

    handles = []
    if isinstance(network, nn.Module):
        for label, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(entering(label)))
            handles.append(module.register_forward_hook(lambda *_: layers.pop() and None))
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()
