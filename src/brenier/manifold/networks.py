"""The charts' networks: convolutions for images of any size, perceptrons for vectors; built from a plain dict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from brenier.manifold.chart import Chart
from brenier.manifold.principal import FromAxes, FromAxesToImages, ToAxes

COMPONENTS = 256  # principal components that a network reads, and along which a perceptron moves vectors


class Standardise(nn.Module):
    """x -> (x − mean) / std with fixed numbers (*shape), buffers that `fit` sets; an entry with std 0 becomes 0."""

    mean: Tensor
    std: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def set(self, mean: Tensor, std: Tensor) -> None:
        """Take these numbers; a deviation below the rounding of the mean is none."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > torch.finfo(torch.float32).eps * mean.abs(), std, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """(x − mean) / std."""
        return (x - self.mean) * torch.where(self.std > 0, 1 / self.std, 0.0)


class Restore(Standardise):
    """z -> z std + mean: the inverse of `Standardise` with the same numbers."""

    def forward(self, x: Tensor) -> Tensor:
        """The data of standardised x."""
        return x * self.std + self.mean


class RestorePixels(Restore):
    """z -> z std + mean for images, whose samples are `cut` to 0..1; the module itself stays smooth."""

    def cut(self, x: Tensor) -> Tensor:
        """Images as they are shown: values outside 0..1 become 0 or 1."""
        return x.clamp(0, 1)


class Encoder(nn.Module):
    """code(body(data(x))): standardised data of one shape in, normalised codes out."""

    def __init__(self, body: nn.Module, data: nn.Module, shape: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.data, self.body, self.code, self.shape = data, body, Standardise(latent_dim), tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (m, d) of data (m, *shape)."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"samples must have shape {self.shape} each, got {tuple(x.shape[1:])}")
        return self.code(self.body(self.data(x)))


class Decoder(nn.Module):
    """data(body(code(z))): the inverses of an `Encoder`'s steps, last to first."""

    def __init__(self, body: nn.Module, data: nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.code, self.body, self.data = Restore(latent_dim), body, data

    def forward(self, z: Tensor) -> Tensor:
        """Data (m, ...) of codes (m, d); pixels are not cut, so that the geometry of a decoder is smooth."""
        return self.data(self.body(self.code(z)))


class Crop(nn.Module):
    """The top left (h, w) of an image."""

    def __init__(self, h: int, w: int) -> None:
        super().__init__()
        self.h, self.w = h, w

    def forward(self, x: Tensor) -> Tensor:
        """The cropped images."""
        return x[..., : self.h, : self.w]


def convolutional(
    shape: Sequence[int], latent_dim: int, width: int = 16, generator: torch.Generator | int | None = None
) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder for images (c, h, w) in [0, 1], 1 to 4 channels, any size from 8x8.

    Both start at principal components (`fit` sets them) and add a network: to the code a perceptron of the 256 leading
    components, to the image two linear layers, then transposed 4x4 convolutions that double a grid of at most 7 a side.
    `Chart.decode` cuts pixels to [0, 1]. SiLU between: smooth, so that geometry has second derivatives.

    Raises:
        ValueError: the image is too small, has too many channels, or latent_dim or width is out of range.

    Example:
        >>> encoder, decoder = convolutional((1, 9, 13), latent_dim=3, width=4)
        >>> decoder(encoder(torch.zeros(2, 1, 9, 13))).shape
        torch.Size([2, 1, 9, 13])
    """
    if len(shape) != 3:
        raise ValueError(f"shape must be (channels, height, width), got {tuple(shape)}")
    c, h, w = shape
    if not 1 <= c <= 4:
        raise ValueError(f"images must have 1 to 4 channels, got {c}")
    if min(h, w) < 8:
        raise ValueError(f"images must be at least 8x8, got {h}x{w}")
    _check_sizes(latent_dim, c * h * w, width)
    stages = max(1, math.ceil(math.log2(max(h, w) / 7)))
    grid = math.ceil(h / 2**stages), math.ceil(w / 2**stages)
    channels = [c, *(width * 2 ** min(i, 2) for i in range(stages))]
    flat, hidden = channels[-1] * grid[0] * grid[1], 32 * width
    k = max(min(COMPONENTS, c * h * w), latent_dim)
    with seeded(generator):
        read = perceptron([k, hidden, hidden, latent_dim])
        tail = [*perceptron([latent_dim, hidden, flat]), nn.Unflatten(1, (channels[-1], *grid))]
        up = [step for a, b in pairwise(channels[::-1]) for step in (nn.SiLU(), nn.ConvTranspose2d(a, b, 4, 2, 1))]
        encoder = Encoder(ToAxes(read, latent_dim, k, c * h * w), Standardise(*shape), shape, latent_dim)
        draw = FromAxesToImages([*tail, *up, Crop(h, w)], latent_dim, latent_dim, c * h * w)
        decoder = Decoder(draw, RestorePixels(*shape), latent_dim)
    return encoder.to(memory_format=torch.channels_last), decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def mlp(
    dim: int, latent_dim: int, width: int = 256, depth: int = 2, generator: torch.Generator | int | None = None
) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder for vectors (dim,) of any scale: depth hidden layers of `width` SiLU units each.

    Both start at principal components (`fit` sets them) and add a perceptron that reads, or moves the vector along, the
    256 leading components. The data are centred and scaled inside. depth = 0 is linear: a PCA.

    Raises:
        ValueError: a size is out of range.

    Example:
        >>> encoder, decoder = mlp(5, latent_dim=2)
        >>> decoder(encoder(torch.zeros(3, 5))).shape
        torch.Size([3, 5])
    """
    if dim < 1:
        raise ValueError(f"vectors must have at least 1 entry, got {dim}")
    if depth < 0:
        raise ValueError(f"depth must be at least 0, got {depth}")
    _check_sizes(latent_dim, dim, width)
    k = max(min(COMPONENTS, dim), latent_dim)
    sizes = [k, *[width] * depth, latent_dim]
    with seeded(generator):
        encoder = Encoder(ToAxes(perceptron(sizes), latent_dim, k, dim), Standardise(dim), (dim,), latent_dim)
        decoder = Decoder(FromAxes(perceptron(sizes[::-1]), latent_dim, k, dim), Restore(dim), latent_dim)
    return encoder, decoder


def build(spec: dict[str, Any], generator: torch.Generator | int | None = None) -> Chart:
    """The chart of a plain dict, as `chart.spec` gives it back: {"kind": "convolutional" | "mlp" | "identity", ...}.

    The other keys are the arguments of `convolutional` or `mlp`; weights are drawn from the generator or seed. "latent"
    is "euclidean" (the default), "sphere" or "hyperbolic", see `riemannian.latent_heads`; "format": 2 stands for the
    networks that models of that format hold.

    Raises:
        ValueError: the kind is unknown, a key is missing or unknown, or a size is out of range.

    Example:
        >>> build({"kind": "mlp", "dim": 5, "latent_dim": 2}).spec
        {'kind': 'mlp', 'dim': 5, 'latent_dim': 2, 'width': 256, 'depth': 2}
    """
    sizes = dict(spec)
    kind = sizes.pop("kind", None)
    if kind == "identity":
        return Chart.identity()
    if kind not in ("convolutional", "mlp"):
        raise ValueError(f"kind must be convolutional, mlp or identity, got {kind!r}")
    latent, form = sizes.pop("latent", "euclidean"), sizes.pop("format", None)
    make = convolutional if kind == "convolutional" else mlp
    try:
        arguments = signature(make).bind(**sizes)
    except TypeError as error:
        raise ValueError(f"the spec of a chart of kind {kind} has other keys: {error}") from None
    arguments.apply_defaults()
    arguments.arguments.pop("generator")
    spec = {"kind": kind, **arguments.arguments}
    if form == 2:
        from brenier.manifold import earlier

        encoder, decoder = getattr(earlier, kind)(**arguments.arguments)
        spec["format"] = form
    else:
        encoder, decoder = make(**arguments.arguments, generator=generator)
    if latent != "euclidean":
        from brenier.riemannian import latent_heads  # here, since geoopt takes half a second to import

        ends, begins = latent_heads(latent)
        encoder.add_module("body", nn.Sequential(encoder.get_submodule("body"), ends))
        decoder.add_module("body", nn.Sequential(begins, decoder.get_submodule("body")))
        spec["latent"] = latent
    return Chart(encoder, decoder, spec=spec)


@contextmanager
def seeded(generator: torch.Generator | int | None) -> Iterator[None]:
    """Draw initial weights from a generator or seed (None: torch's own state) and leave torch's state as it was."""
    seed = generator if isinstance(generator, int) else draw_seed(generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def draw_seed(generator: torch.Generator | None) -> int:
    """A seed drawn from a generator; None is torch's own."""
    device = None if generator is None else generator.device
    return int(torch.randint(2**62, (), generator=generator, device=device))


def perceptron(sizes: Sequence[int]) -> list[nn.Module]:
    """Return linear layers from size to size, SiLU between them."""
    steps: list[nn.Module] = [step for a, b in pairwise(sizes) for step in (nn.Linear(a, b), nn.SiLU())]
    return steps[:-1]


def _check_sizes(latent_dim: int, dim: int, width: int) -> None:
    if not 1 <= latent_dim <= dim:
        raise ValueError(f"latent_dim must lie between 1 and the {dim} entries of a sample, got {latent_dim}")
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
