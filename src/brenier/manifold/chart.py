"""A chart of the data manifold: an encoder to codes and a decoder back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Samples = Tensor | np.ndarray
Convert = Callable[[Tensor], Tensor]


class Chart(nn.Module):
    """An encoder f: x (m, ...) -> z (m, d) and a decoder g: z (m, d) -> x (m, ...), any two modules.

    `encode` and `decode` are for inference: evaluation mode, no gradient, chunks of `batch_size` rows, so memory stays
    bounded and a row's answer does not depend on its company. `chart.encoder` and `chart.decoder` are plain modules:
    to differentiate, call them. `spec` is the dict of which `build` makes the same chart (weights aside), or None.

    Example:
        >>> chart = Chart(nn.Linear(5, 2), nn.Linear(2, 5))
        >>> z = chart.encode(torch.zeros(3, 5))
        >>> z.shape, chart.decode(z).shape
        (torch.Size([3, 2]), torch.Size([3, 5]))
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, spec: dict[str, Any] | None = None) -> None:
        super().__init__()
        for name, module in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(module, nn.Module):
                raise TypeError(f"{name} must be a torch.nn.Module, got {type(module).__name__}")
        self.encoder = encoder
        self.decoder = decoder
        self.spec = spec

    @classmethod
    def identity(cls) -> Chart:
        """The chart of codes that are given directly: z = x.

        Example:
            >>> Chart.identity().encode(torch.ones(1, 2))
            tensor([[1., 1.]])
        """
        return cls(nn.Identity(), nn.Identity(), spec={"kind": "identity"})

    def encode(self, x: Samples, batch_size: int = 1024, to_network: Convert | None = None) -> Tensor:
        """Codes (m, d) of samples x (m, ...), a tensor or an array; `to_network` converts a chunk first (`as_network`).

        Raises:
            ValueError: the encoder's answer is not (m, d).
        """
        z = self._apply_in_chunks(self.encoder, x, batch_size, to_network or as_network)
        if z.ndim != 2:
            raise ValueError(f"the encoder must give codes of shape (m, d), got {tuple(z.shape)}")
        return z

    def decode(self, z: Samples, batch_size: int = 1024) -> Tensor:
        """Samples (m, ...) of codes z (m, d); pixels of the library's own charts are cut to 0..1.

        Raises:
            ValueError: z is not (m, d).
        """
        if z.ndim != 2:
            raise ValueError(f"codes must have shape (m, d), got {tuple(z.shape)}")
        x, cut = self._apply_in_chunks(self.decoder, z, batch_size, as_network), pixel_range(self.decoder)
        return x if cut is None else cut(x)

    def _apply_in_chunks(self, module: nn.Module, rows: Samples, batch_size: int, convert: Convert) -> Tensor:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        like = next(iter(self.parameters()), None)
        with evaluating(module):
            chunks = [
                module(place(convert(take(rows, slice(i, i + batch_size))), like))
                for i in range(0, max(len(rows), 1), batch_size)
            ]
        return torch.cat(chunks)


def pixel_range(decoder: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Return what cuts the images of one of the library's own decoders to 0..1; None for any other decoder."""
    return getattr(getattr(decoder, "data", None), "cut", None)


def take(x: Samples, rows: Tensor | slice) -> Tensor:
    """Some rows of a tensor or array as a tensor; of an array, which may be read-only or mapped from disk, a copy."""
    if isinstance(x, Tensor):
        return x[rows.to(x.device)] if isinstance(rows, Tensor) else x[rows]
    return torch.from_numpy(np.array(x[rows.numpy() if isinstance(rows, Tensor) else rows]))


def like(x: Samples, array: np.ndarray) -> Samples:
    """An array as x is: numpy or a tensor on its device; real numbers in the dtype of x where that is real too."""
    real = array.dtype.kind == "f"
    if isinstance(x, Tensor):
        return torch.from_numpy(array).to(x.device, x.dtype if real and x.is_floating_point() else None)
    return array.astype(x.dtype) if real and x.dtype.kind == "f" else array


def as_network(x: Tensor) -> Tensor:
    """What a network reads: uint8 0..255 becomes float32 0..1, float tensors pass.

    Raises:
        TypeError: any other dtype.
    """
    if x.dtype == torch.uint8:
        return x.float() / 255
    if not x.is_floating_point():
        raise TypeError(f"samples must be float or uint8, got {x.dtype}")
    return x


def place(x: Tensor, like: Tensor | None) -> Tensor:
    """Cast x to the device and dtype of a network's parameter; without one x passes."""
    return x if like is None else x.to(like.device, like.dtype)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every sub-module's own mode comes back."""
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m in training:
            m.training = True
