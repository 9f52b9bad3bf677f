"""Principal components of many samples, and the layers that start a chart there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXACT = 1024  # entries or samples: eigenvectors of larger matrices come from subspace iterations
MORE = 16  # axes that a subspace iteration carries beyond those asked for
ITERATIONS, SETTLED = 12, 1e-5  # of a subspace, and the relative change of its variance that ends them


class Axes(NamedTuple):
    """Orthonormal axes (k, D) and the standard deviations (k,) along them, the largest first.

    Axes beyond the rank of the samples are zero, and so are their deviations.
    """

    axes: Tensor
    spread: Tensor


def principal_axes(chunks: Callable[[], Iterable[Tensor]], n: int, dim: int, k: int) -> Axes:
    """Return the k leading axes of n centred samples u (n, D): S = Σ u uᵀ / n, S a_i = spread_i² a_i.

    `chunks()` gives the samples again and again, some rows (m, D) at a time: memory is bounded by the chunks and the
    axes. With at most 1,024 entries S is decomposed exactly, with at most 1,024 samples their Gram matrix; otherwise a
    random subspace is iterated, S Q → Q, until its variance settles.

    Source: Halko, Martinsson, Tropp, Finding structure with randomness, 2011, algorithm 4.4.

    Example:
        >>> u = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> principal_axes(lambda: [u], n=4, dim=2, k=1)
        Axes(axes=tensor([[1., 0.]], dtype=torch.float64), spread=tensor([2.1213], dtype=torch.float64))
    """
    if dim <= EXACT:
        scatter = torch.zeros(dim, dim, dtype=torch.float64)
        for u in chunks():
            scatter += u.double().mT @ u.double()
        values, vectors = torch.linalg.eigh(scatter)
        axes = vectors.mT
    elif n <= EXACT:
        rows = torch.cat(list(chunks()))
        values, vectors = torch.linalg.eigh(sum(u.double() @ u.double().mT for u in rows.split(EXACT, 1)))
        values, vectors = values[-k:], vectors[:, -k:]
        axes = (vectors.mT.to(rows.dtype) @ rows).double() / values.clamp(min=torch.finfo(values.dtype).tiny).sqrt()[
            :, None
        ]
    else:
        values, axes = _iterated(chunks, dim, min(k + MORE, dim, n))
    values, axes = values.flip(0)[:k], axes.flip(0)[:k]
    real = values > dim * torch.finfo(torch.float32).eps ** 2 * values[:1]
    values, axes = F.pad(values * real, (0, k - len(values))), F.pad(axes * real[:, None], (0, 0, 0, k - len(axes)))
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return Axes(axes * torch.where(largest < 0, -1.0, 1.0), (values / n).sqrt())


def _iterated(chunks: Callable[[], Iterable[Tensor]], dim: int, q: int) -> tuple[Tensor, Tensor]:
    """Leading eigenvalues (q,), rising, and eigenvectors (q, D) of Σ u uᵀ by iterations of a random subspace."""
    start = torch.randn(dim, q, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis, before = torch.linalg.qr(start).Q, 0.0
    for _ in range(ITERATIONS):
        moved = torch.zeros(dim, q, dtype=torch.float64)
        for u in chunks():
            moved += (u.mT @ (u @ basis.to(u.dtype))).double()
        values, turn = torch.linalg.eigh(basis.mT @ moved)
        axes, variance = (basis @ turn).mT, values.sum().item()
        if variance - before <= SETTLED * variance:
            break
        basis, before = torch.linalg.qr(moved).Q, variance
    return values, axes


class OnAxes(nn.Sequential):
    """A network beside k principal axes A (k, D) and the deviations along them, which `fit` sets.

    Until then the axes are the leading entries themselves.
    """

    axes: Tensor
    spread: Tensor
    known: Tensor

    def __init__(self, network: Iterable[nn.Module], latent_dim: int, k: int, dim: int) -> None:
        super().__init__(*network)
        self.latent_dim = latent_dim
        self.register_buffer("axes", torch.eye(k, dim))
        self.register_buffer("spread", torch.ones(k))
        self.register_buffer("known", torch.tensor(False))


class ToAxes(OnAxes):
    """u (m, ...) -> w: standardised data to whitened principal components, moved by a network of them.

    c = A u, w_i = c_i / spread_i for the d leading axes, plus network(c): with a network that ends in zeros these are
    principal components.
    """

    def forward(self, u: Tensor) -> Tensor:
        """Codes (m, d) of standardised data."""
        c = F.linear(u.flatten(1), self.axes)
        return c[:, : self.latent_dim] * _inverse(self.spread[: self.latent_dim]) + super().forward(c)


class FromAxes(OnAxes):
    """w (m, d) -> u (m, D): the inverse of whitened principal components, moved by a network along k axes.

    u = Aᵀ spread (w, 0) + Aᵀ network(w).
    """

    def forward(self, w: Tensor) -> Tensor:
        """Standardised data of codes."""
        c = F.pad(w * self.spread[: self.latent_dim], (0, len(self.axes) - self.latent_dim))
        return F.linear(c + super().forward(w), self.axes.mT)


class FromAxesToImages(FromAxes):
    """w (m, d) -> u (m, c, h, w): as `FromAxes`, but the network makes an image: u = Aᵀ spread w + network(w)."""

    def forward(self, w: Tensor) -> Tensor:
        """Standardised images of codes."""
        moved = nn.Sequential.forward(self, w)
        return F.linear(w * self.spread, self.axes.mT).view(moved.shape) + moved


def _inverse(spread: Tensor) -> Tensor:
    return torch.where(spread > 0, 1 / spread, 0.0)


def ends(module: nn.Module) -> list[OnAxes]:
    """Return the layers of a module that hold principal axes."""
    return [part for part in module.modules() if isinstance(part, OnAxes)]


def set_axes(chart: nn.Module, found: Axes) -> None:
    """Set the axes and deviations of every layer that holds some."""
    for end in ends(chart):
        end.known.fill_(True)
        end.axes.copy_(found.axes[: len(end.axes)])
        end.spread.copy_(found.spread[: len(end.spread)])


def silence(chart: nn.Module) -> None:
    """Set the last layer of each network beside principal axes to zero: principal components are left."""
    for end in ends(chart):
        last = [layer for layer in end if next(layer.parameters(), None) is not None][-1]
        for weights in last.parameters():
            nn.init.zeros_(weights)
