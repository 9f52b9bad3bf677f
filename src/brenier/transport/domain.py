"""Where a source lives when its cells are computed exactly: a convex region of at most three dimensions, a density."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from brenier.measures import GridDensity, Source, UniformBall, UniformCube, UniformPolytope

FAINT = 1e-13  # the light that falls into the dark parts of a density, so that cells there have neighbours
CHUNK = 4096  # steps whose ends are looked at together
SIDES = 4096  # of the polygon that stands for a disk: 4e-7 radii from it


@dataclass(frozen=True, eq=False)
class Domain:
    """{x in the box [low, high] : planes[:, :d] x ≤ planes[:, d]} in d ≤ 3 dimensions, under a density.

    low and high (d,); planes (q, d + 1), which all hold in the ball `inner`, its centre and radius (d + 1,); density,
    an array of d axes, constant on the equal boxes of [low, high], a single one where it is uniform; mass = ∫ρ; all
    float64.
    """

    low: np.ndarray
    high: np.ndarray
    planes: np.ndarray
    inner: np.ndarray
    density: np.ndarray
    mass: float

    @classmethod
    def of(cls, source: Source) -> Domain | None:
        """The region and density of a source, or None where there is no exact one."""
        d = source.dim
        if d > 3:
            return None
        if isinstance(source, UniformCube):
            return cls.box([source.low] * d, [source.high] * d)
        if isinstance(source, GridDensity):
            low, high = source.low.numpy(), source.high.numpy()
            density = source.density.numpy().astype(float)
            return replace(cls.box(low, high), density=density, mass=1.0).lit(FAINT)
        if isinstance(source, UniformPolytope):
            return cls.hull(source.vertices.numpy(), source.planes.numpy(), source.volume)
        if isinstance(source, UniformBall) and d == 1:
            return cls.box([-source.radius], [source.radius])
        if isinstance(source, UniformBall) and d == 2:
            angle = 2 * np.pi * np.arange(SIDES) / SIDES
            area = SIDES * np.sin(2 * np.pi / SIDES) / 2  # of the polygon inscribed in the unit circle
            across = source.radius * np.sqrt(np.pi / area) * np.cos(np.pi / SIDES)  # equal in area: some bits outside
            normals = np.stack([np.cos(angle), np.sin(angle)], 1)
            planes = np.concatenate([normals, np.full((SIDES, 1), across)], 1)
            box = cls.box([-across] * 2, [across] * 2)
            return replace(box, planes=planes, inner=np.array([0, 0, across]), mass=np.pi * source.radius**2)
        return None

    @classmethod
    def box(cls, low: np.ndarray | list[float], high: np.ndarray | list[float]) -> Domain:
        """The uniform density 1 on a box."""
        low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
        d = len(low)
        middle = np.append((low + high) / 2, np.inf)  # no planes: they hold everywhere
        return cls(low, high, np.zeros((0, d + 1)), middle, np.ones((1,) * d), float(np.prod(high - low)))

    @classmethod
    def hull(cls, corners: np.ndarray, planes: np.ndarray, volume: float) -> Domain:
        """The uniform density 1 on a convex polytope."""
        middle = corners.mean(0)
        radius = (planes[:, -1] - planes[:, :-1] @ middle).min()
        box = cls.box(corners.min(0), corners.max(0))
        return replace(box, planes=planes.copy(), inner=np.append(middle, radius), mass=volume)

    @property
    def dim(self) -> int:
        """Dimension d."""
        return len(self.low)

    @property
    def corners(self) -> np.ndarray:
        """The corners (2^d, d) of the box."""
        ends = np.meshgrid(*np.stack([self.low, self.high], 1), indexing="ij")
        return np.stack(ends, -1).reshape(-1, self.dim)

    def moved(self, mean: np.ndarray, scale: float) -> Domain:
        """The same region and density in the coordinates x' = (x − mean)/scale."""
        planes = self.planes.copy()
        planes[:, -1] = (planes[:, -1] - planes[:, :-1] @ mean) / scale
        middle = np.append((self.inner[:-1] - mean) / scale, self.inner[-1] / scale)
        low, high = (self.low - mean) / scale, (self.high - mean) / scale
        return Domain(low, high, planes, middle, self.density, self.mass / scale**self.dim)

    def lit(self, share: float) -> Domain:
        """The same domain with this share of its mass spread evenly over it."""
        even = self.mass / np.prod(self.high - self.low)
        return replace(self, density=(1 - share) * self.density + share * even)

    def reach(self, ways: np.ndarray) -> float:
        """How many times `ways` (n, d), steps from the middle of the region, may be taken until one leaves it."""
        faces = np.concatenate([np.eye(self.dim), -np.eye(self.dim), self.planes[:, :-1]])
        room = np.concatenate([self.high, -self.low, self.planes[:, -1]]) - faces @ self.inner[:-1]
        farthest = np.max([(part @ faces.T).max(0) for part in np.array_split(ways, -(-len(ways) // CHUNK))], 0)
        return float((room / np.maximum(farthest, 1e-300)).min())
