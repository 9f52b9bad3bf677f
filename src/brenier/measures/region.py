"""Source measures with a shape: uniform on a convex polytope, and a density on a grid, such as an image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from scipy.spatial import ConvexHull
from torch import Tensor

from brenier.device import seeded
from brenier.measures.discrete import _finite, _tensor

FLAT = 1e-10  # of the largest coordinate: points no thicker than this have no volume
ROUNDING = 1e-13  # of the largest coordinate: so far from a face a point may lie and count as in it


@dataclass(frozen=True, eq=False)
class UniformPolytope:
    """The uniform measure on the convex hull of `vertices` (p, d), d = 1, 2 or 3.

    `vertices` keeps the corners of the hull alone, in the plane counterclockwise. planes (q, d + 1) has one row (a, b)
    for each face, |a| = 1: the hull is where <a, x> ≤ b for all. `volume` is its length, area or volume. All float64.

    Raises:
        ValueError: a shape, a NaN or Inf, another dimension, too few points, or points in one hyperplane.
        TypeError: vertices that aren't real numbers.

    Example:
        >>> triangle = UniformPolytope([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.2, 0.2]])
        >>> len(triangle.vertices), round(triangle.volume, 9), triangle.moments()[0]
        (3, 0.5, tensor([0.3333, 0.3333], dtype=torch.float64))
    """

    vertices: Tensor
    planes: Tensor = field(init=False, repr=False)
    volume: float = field(init=False)
    _simplices: Tensor = field(init=False, repr=False)  # (s, d + 1, d), from a point inside to the faces
    _rising: Tensor = field(init=False, repr=False)  # (s,), their shares of the volume, summed

    def __post_init__(self) -> None:
        points = _tensor(self.vertices, "vertices").cpu().double()
        if points.ndim != 2:
            raise ValueError(f"vertices must have shape (p, d), got {tuple(points.shape)}")
        p, d = points.shape
        if d not in (1, 2, 3):
            raise ValueError(f"a polytope must have dimension 1, 2 or 3, got {d}")
        if p <= d:
            raise ValueError(f"a polytope in {d} dimensions needs at least {d + 1} vertices, got {p}")
        _finite(points, "vertices")
        size, inside = points.abs().amax(), points.mean(0)
        rank = int(torch.linalg.matrix_rank(points - inside, atol=FLAT * size))
        if rank < d:
            raise ValueError(f"a polytope must have a volume, got {p} vertices that span {rank} of {d} dimensions")
        corners, facets, planes = _hull((points - inside) / size)
        planes[:, -1] = size * planes[:, -1] + planes[:, :-1] @ inside
        simplices = torch.cat([inside.expand(len(facets), 1, d), points[facets]], 1)
        volumes = torch.linalg.det(points[facets] - inside).abs() / math.factorial(d)
        volume = volumes.sum().item()
        if not 0 < volume < math.inf:
            raise ValueError(f"a polytope must have a positive, finite volume, got {volume:g}")
        object.__setattr__(self, "vertices", points[corners])
        object.__setattr__(self, "planes", planes)
        object.__setattr__(self, "volume", volume)
        object.__setattr__(self, "_simplices", simplices)
        object.__setattr__(self, "_rising", _rising(volumes))

    @property
    def dim(self) -> int:
        """Dimension d of the space."""
        return self.vertices.shape[1]

    def sample(self, m: int, generator: torch.Generator | int | None = None) -> Tensor:
        """m independent samples, (m, d), on the generator's device: a simplex by its volume, then a point in it."""
        k, u = _draw(self._rising, m, self.dim, generator)
        corners = self._simplices.to(u.device)[k]
        ends = torch.nn.functional.pad(u.sort(1).values, (1, 0))
        shares = torch.diff(ends, dim=1, append=torch.ones_like(ends[:, :1]))  # of each corner: gaps between uniforms
        return (shares[:, :, None] * corners).sum(1).to(torch.get_default_dtype())

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d), float64.

        A simplex with corners v_0, ..., v_d and mean c has the covariance Σ_k (v_k − c)(v_k − c)ᵀ/((d + 1)(d + 2)).
        """
        shares, d = self._rising.diff(prepend=torch.zeros(1)), self.dim
        middles = self._simplices.mean(1)
        away = self._simplices - middles[:, None]
        within = torch.einsum("s,ski,skj->ij", shares, away, away) / ((d + 1) * (d + 2))
        mean, between = _moments(shares, middles)
        return mean, within + between


@dataclass(frozen=True, eq=False)
class GridDensity:
    """The measure on the box [low, high] whose density is constant on equal boxes and proportional to `values`.

    values (p,), (p, q) or (p, q, r) has d = 1, 2 or 3 axes, and axis k is coordinate k of x. low and high are numbers,
    or d of them, and kept as (d,). All become float64; zero is allowed in places.

    An image has rows from the top down: values = image[::-1].T, or image.flip(0).T of a tensor, looks upright, x to the
    right and y upwards. It must be grey, and bright is dense: with 255 − image ink is.

    Raises:
        ValueError: a shape, a NaN or Inf, a negative value, a sum that is zero or infinite, a box without low < high.
        TypeError: values, low or high that aren't real numbers.

    Example:
        >>> grid = GridDensity([[1.0, 1.0], [0.0, 2.0]], high=2.0)
        >>> grid.density[0, 0].item(), grid.moments()[0]
        (0.25, tensor([1.0000, 1.2500], dtype=torch.float64))
    """

    values: Tensor
    low: Tensor = 0.0  # type: ignore[assignment]  # (d,) from birth
    high: Tensor = 1.0  # type: ignore[assignment]
    _rising: Tensor = field(init=False, repr=False)  # (boxes,), their masses, summed

    def __post_init__(self) -> None:
        values = _tensor(self.values, "values").cpu().double().clone()
        if values.ndim not in (1, 2, 3) or 0 in values.shape:
            raise ValueError(f"values must have 1, 2 or 3 axes, none of them empty, got shape {tuple(values.shape)}")
        _finite(values, "values")
        if (values < 0).any():
            box = tuple((values < 0).nonzero()[0].tolist())
            raise ValueError(f"values must not be negative, got {values[box]:g} at {box}")
        total = values.sum().item()
        if not 0 < total < math.inf:
            raise ValueError(f"values must have a positive, finite sum, got {total:g} over {values.numel()} boxes")
        low, high = _end(self.low, "low", values.ndim), _end(self.high, "high", values.ndim)
        bad = ~((low < high) & (high - low).isfinite())
        if bad.any():
            k = int(bad.nonzero()[0])
            raise ValueError(f"a box needs finite low < high, got low {low[k]:g} and high {high[k]:g} on axis {k}")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        object.__setattr__(self, "_rising", _rising(values.flatten()))

    @property
    def dim(self) -> int:
        """Dimension d of the space."""
        return self.values.ndim

    @property
    def density(self) -> Tensor:
        """The density on each box, shaped as `values`: its integral is 1."""
        return self.values / self.values.sum() / self._widths.prod()

    @property
    def _widths(self) -> Tensor:
        return (self.high - self.low) / torch.tensor(self.values.shape)

    def sample(self, m: int, generator: torch.Generator | int | None = None) -> Tensor:
        """m independent samples, (m, d), on the generator's device: a box by its mass, then a point in it."""
        k, u = _draw(self._rising, m, self.dim, generator)
        box = torch.stack([k // math.prod(self.values.shape[a + 1 :]) % n for a, n in enumerate(self.values.shape)], 1)
        return (self.low.to(u) + (box + u) * self._widths.to(u)).to(torch.get_default_dtype())

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d), float64: those of the boxes' middles, and w²/12 for boxes w wide."""
        lines = [(torch.arange(n).double() + 0.5) * w for n, w in zip(self.values.shape, self._widths, strict=True)]
        middles = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).reshape(-1, self.dim)
        mean, between = _moments(self.values.flatten() / self.values.sum(), middles)
        return self.low + mean, torch.diag(self._widths.square() / 12) + between


def _end(end: object, name: str, d: int) -> Tensor:
    values = _tensor(end, name).cpu().double()
    if values.shape not in ((), (d,)):
        raise ValueError(f"{name} must be a number or one for each of {d} axes, got shape {tuple(values.shape)}")
    return values.expand(d).clone()


def _hull(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the hull of x (p, d): corners (c,) and facets (f, d), points, edges or triangles, as rows of x; planes."""
    if x.shape[1] == 1:
        ends = torch.cat([x.argmin(0), x.argmax(0)])
        sides = torch.tensor([[-1.0], [1.0]], dtype=x.dtype)
        return ends, ends[:, None], torch.cat([sides, sides * x[ends]], 1)
    hull = ConvexHull(x.numpy(), qhull_options=f"Qt C-{ROUNDING}")  # merges what is flat, then cuts it into triangles
    planes = torch.from_numpy(hull.equations).unique(dim=0)
    planes[:, -1] *= -1
    return torch.from_numpy(hull.vertices).long(), torch.from_numpy(hull.simplices).long(), planes


def _rising(masses: Tensor) -> Tensor:
    rising = masses.cumsum(0)
    return rising / rising[-1]


def _draw(rising: Tensor, m: int, d: int, generator: torch.Generator | int | None) -> tuple[Tensor, Tensor]:
    """m parts (m,), each k with probability rising[k] − rising[k − 1], and uniforms (m, d) for the place in them."""
    generator = seeded(generator)
    device = generator.device if generator is not None else None
    u = torch.rand(m, d + 1, generator=generator, device=device, dtype=torch.float64)  # float32 has but 2^24 values
    return torch.searchsorted(rising.to(u.device), u[:, 0].contiguous(), right=True), u[:, 1:]


def _moments(shares: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    mean = shares @ x
    return mean, (shares * (x - mean).T) @ (x - mean)
