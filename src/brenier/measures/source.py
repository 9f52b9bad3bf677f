"""The source measures: standard Gaussian, uniform on a cube, uniform on a ball."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from brenier.checks import whole
from brenier.device import seeded


@runtime_checkable
class Source(Protocol):
    """What every source offers: `dim` and one verb.

    Two more verbs are used where a source has them: `moments() -> (mean (d,), covariance (d, d))` spares an estimate
    from samples, and `halves(blocks, j, k, generator) -> (a (blocks, j, d), b (blocks, k, d))` with mean ± a_j ± b_k a
    sample, for all of a block, lets one product with the targets serve 4 j k samples.
    """

    @property
    def dim(self) -> int:
        """Dimension d of the space."""

    def sample(self, m: int, generator: torch.Generator | int | None = None) -> Tensor:
        """m independent samples, (m, d); the verbs of this library pass a generator, never a seed."""


def _number(name: str, value: object) -> None:
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")


def _draw(kind: str, m: int, dim: int, generator: torch.Generator | int | None) -> Tensor:
    generator = seeded(generator)
    device = generator.device if generator is not None else None
    make = torch.randn if kind == "normal" else torch.rand
    return make(m, dim, generator=generator, device=device, dtype=torch.get_default_dtype())


@dataclass(frozen=True)
class Gaussian:
    """The standard Gaussian N(0, I) in `dim` dimensions.

    Example:
        >>> Gaussian(3).sample(5, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 3])
    """

    dim: int

    def __post_init__(self) -> None:
        whole("dim", self.dim, 1)

    def sample(self, m: int, generator: torch.Generator | int | None = None) -> Tensor:
        """m independent samples, (m, d), on the generator's device."""
        return _draw("normal", m, self.dim, generator)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d), float64."""
        return torch.zeros(self.dim, dtype=torch.float64), torch.eye(self.dim, dtype=torch.float64)

    def halves(
        self, blocks: int, j: int, k: int, generator: torch.Generator | int | None = None
    ) -> tuple[Tensor, Tensor]:
        """a (blocks, j, d) and b (blocks, k, d), all N(0, I/2): every ± a_j ± b_k of a block is N(0, I).

        Up to d rows of a block's a, or of its b, are orthogonal, so that fewer of the sums fall into one cell: columns
        of a uniform rotation, with the lengths of independent rows. Source of the rotation: Mezzadri 2007.
        """
        rows = [-(-count // self.dim) * min(count, self.dim) for count in (j, k)]  # whole frames
        both = self.sample(blocks * sum(rows), generator).view(blocks, sum(rows), self.dim) / math.sqrt(2)
        a, b = (_turned(half) for half in both.split(rows, 1))
        return a[:, :j], b[:, :k]


def _turned(x: Tensor) -> Tensor:
    """Gaussian rows x (blocks, k, d) made orthogonal, d at a time: their lengths don't depend on their directions."""
    rows = x.reshape(-1, min(x.shape[1:]), x.shape[2])
    frames, r = torch.linalg.qr(rows.mT)
    lengths = rows.norm(dim=2) * r.diagonal(dim1=1, dim2=2).sign()
    return (frames.mT * lengths[:, :, None]).reshape(x.shape)


@dataclass(frozen=True)
class UniformCube:
    """The uniform measure on the cube [low, high]^dim.

    Example:
        >>> UniformCube(2).moments()[1].diagonal()
        tensor([0.0833, 0.0833], dtype=torch.float64)
    """

    dim: int
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        whole("dim", self.dim, 1)
        _number("low", self.low)
        _number("high", self.high)
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a cube needs finite low < high, got low {self.low} and high {self.high}")

    def sample(self, m: int, generator: torch.Generator | int | None = None) -> Tensor:
        """m independent samples, (m, d), on the generator's device."""
        return self.low + (self.high - self.low) * _draw("uniform", m, self.dim, generator)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d), float64."""
        mean = torch.full((self.dim,), (self.low + self.high) / 2, dtype=torch.float64)
        return mean, torch.eye(self.dim, dtype=torch.float64) * (self.high - self.low) ** 2 / 12


@dataclass(frozen=True)
class UniformBall:
    """The uniform measure on the ball of `radius` around the origin of R^dim: radius · U^(1/d) · a uniform direction.

    Example:
        >>> bool((UniformBall(3, radius=2.0).sample(100).norm(dim=1) <= 2).all())
        True
    """

    dim: int
    radius: float = 1.0

    def __post_init__(self) -> None:
        whole("dim", self.dim, 1)
        _number("radius", self.radius)
        if not (math.isfinite(self.radius) and self.radius > 0):
            raise ValueError(f"radius must be positive and finite, got {self.radius}")

    def sample(self, m: int, generator: torch.Generator | int | None = None) -> Tensor:
        """m independent samples, (m, d), on the generator's device."""
        generator = seeded(generator)
        direction = torch.nn.functional.normalize(_draw("normal", m, self.dim, generator), dim=1)
        return self.radius * _draw("uniform", m, 1, generator) ** (1 / self.dim) * direction

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance r²/(d + 2) I, float64."""
        eye = torch.eye(self.dim, dtype=torch.float64)
        return torch.zeros(self.dim, dtype=torch.float64), eye * self.radius**2 / (self.dim + 2)


def moments(source: Source, generator: torch.Generator | int | None = None, m: int = 65_536) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of a source, float64: its own closed form, or an estimate from m samples.

    Example:
        >>> mean, covariance = moments(UniformBall(2))
        >>> covariance.trace().item()
        0.5
    """
    own = getattr(source, "moments", None)
    if own is not None:
        return own()
    x = source.sample(m, seeded(generator)).double()
    return x.mean(0), torch.atleast_2d(torch.cov(x.T))
