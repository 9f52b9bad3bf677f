"""Surfaces of which everything is known: distances, curvature, spectrum; and samples of them, with their triangles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.spatial import ConvexHull, Delaunay

from brenier.manifold.planar import reconstruct

GOLDEN = math.pi * (3 - math.sqrt(5))  # the angle whose multiples leave no gaps
EIGENVALUES = 8
Points = np.ndarray


@dataclass(frozen=True, eq=False)
class TrueSurface:
    """A surface in space and what is known of it.

    `sample(n)` gives about n points on it and triangles; `foot` the nearest point on it and `normal` the outer normal
    there, rows to rows; `cloud` many points on it; `geodesic` the distances from the first of points on it, NaN where
    unknown; `gauss` and `mean` are ∫K dA and ∫H dA, `gauss_region` the first over `region`; `eigenvalues` the least
    non-zero ones of −Δ, each as often as it is one.
    """

    name: str
    sample: Callable[[int], tuple[Points, np.ndarray]]
    foot: Callable[[Points], Points]
    normal: Callable[[Points], Points]
    geodesic: Callable[[Points], np.ndarray]
    region: Callable[[Points], np.ndarray]
    cloud: Points
    area: float
    gauss: float
    gauss_region: float
    mean: float
    eigenvalues: tuple[float, ...]


def true_sphere() -> TrueSurface:
    """The unit sphere: K = H = 1, eigenvalues l (l + 1), each 2l + 1 times; the region is the cap z > 1/4.

    Example:
        >>> true_sphere().eigenvalues
        (2.0, 2.0, 2.0, 6.0, 6.0, 6.0, 6.0, 6.0)
    """

    def sample(n: int) -> tuple[Points, np.ndarray]:
        z, turn = 1 - (2 * np.arange(n) + 1) / n, GOLDEN * np.arange(n)
        flat = np.sqrt(1 - z**2)
        x = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], 1)
        return x, ConvexHull(x).simplices.astype(np.int64)

    def unit(x: Points) -> Points:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    return TrueSurface(
        name="sphere",
        sample=sample,
        foot=unit,
        normal=unit,
        geodesic=lambda x: 2 * np.arcsin((np.linalg.norm(x - x[0], axis=1) / 2).clip(0, 1)),
        region=lambda x: x[:, 2] > 0.25,
        cloud=sample(2000)[0],
        area=4 * math.pi,
        gauss=4 * math.pi,
        gauss_region=1.5 * math.pi,
        mean=4 * math.pi,
        eigenvalues=(2.0,) * 3 + (6.0,) * 5,
    )


def true_torus(major: float = 2.0, minor: float = 1.0) -> TrueSurface:
    """The torus of revolution: ∫K = 0, 4π over its outer half (the region), ∫H = 2π² major; meridians are geodesics.

    Its Laplacian separates: −y'' and m² y / w² along the meridian, w = major + minor cos v, by Fourier series.

    Example:
        >>> round(true_torus().area / math.pi**2, 6)
        8.0
    """

    def place(u: np.ndarray, v: np.ndarray) -> Points:
        away = major + minor * np.cos(v)
        return np.stack([away * np.cos(u), away * np.sin(u), minor * np.sin(v)], 1)

    def coordinates(x: Points) -> tuple[np.ndarray, np.ndarray]:
        return np.arctan2(x[:, 1], x[:, 0]), np.arctan2(x[:, 2], np.hypot(x[:, 0], x[:, 1]) - major)

    def normal(x: Points) -> Points:
        u, v = coordinates(x)
        return np.stack([np.cos(v) * np.cos(u), np.cos(v) * np.sin(u), np.sin(v)], 1)

    def sample(n: int) -> tuple[Points, np.ndarray]:
        rings = round(math.sqrt(n * major / minor))
        round_each = round(n / rings)
        i, j = (grid.ravel() for grid in np.meshgrid(np.arange(rings), np.arange(round_each), indexing="ij"))
        shift = 0.2 * np.random.default_rng(0).uniform(-1, 1, (2, len(i))) * (i > 0)
        u, v = 2 * math.pi * (i + shift[0]) / rings, 2 * math.pi * (j + i % 2 / 2 + shift[1] * (i > 0)) / round_each
        x, scale = place(u, v), np.array([major, minor])
        return x, np.asarray(reconstruct(x, np.stack([u, v], 1) * scale, periods=tuple(2 * math.pi * scale)))

    def geodesic(x: Points) -> np.ndarray:
        u, v = coordinates(x)
        apart = np.abs(np.angle(np.exp(1j * (v - v[0]))))
        return np.where(np.abs(np.angle(np.exp(1j * (u - u[0])))) < 1e-9, minor * apart, np.nan)

    steps = 2 * math.pi * np.random.default_rng(1).random((2, 2000))
    return TrueSurface(
        name="torus",
        sample=sample,
        foot=lambda x: place(*coordinates(x)),
        normal=normal,
        geodesic=geodesic,
        region=lambda x: np.hypot(x[:, 0], x[:, 1]) > major,
        cloud=place(*steps),
        area=4 * math.pi**2 * major * minor,
        gauss=0.0,
        gauss_region=4 * math.pi,
        mean=2 * math.pi**2 * major,
        eigenvalues=_first(lambda m: _torus_spectrum(major, minor, m)),
    )


def true_paraboloid(bend: float = 1.0) -> TrueSurface:
    """The graph z = bend r²/2 over the unit disk; bend = 0 is the flat disk, with the eigenvalues j'² of Bessel.

    Its Laplacian separates into polynomials in r²; the region is r < 1/2, distances are known from the apex.

    Example:
        >>> [round(value, 4) for value in true_paraboloid(0.0).eigenvalues[:3]]
        [3.39, 3.39, 9.3284]
    """

    def lifted(r: np.ndarray, turn: np.ndarray) -> Points:
        return np.stack([r * np.cos(turn), r * np.sin(turn), bend * r**2 / 2], 1)

    def sample(n: int) -> tuple[Points, np.ndarray]:
        rim = round(3.5 * math.sqrt(n))
        inner = np.arange(n - rim)
        r = np.sqrt(inner / (n - rim)) * (1 - 1.5 / math.sqrt(n))
        around = 2 * math.pi * np.arange(rim) / rim
        x = np.concatenate([lifted(r, GOLDEN * inner), lifted(np.ones(rim), around)])
        return x, Delaunay(x[:, :2]).simplices.astype(np.int64)

    def foot(x: Points) -> Points:
        away = np.hypot(x[:, 0], x[:, 1])
        r = away.copy()
        for _ in range(30):  # Newton for the cubic (bend r)² r / 2 + (1 − bend z) r = away
            r -= (0.5 * bend**2 * r**3 + (1 - bend * x[:, 2]) * r - away) / (1.5 * bend**2 * r**2 + 1 - bend * x[:, 2])
        return lifted(r.clip(0, 1), np.arctan2(x[:, 1], x[:, 0]))

    def normal(x: Points) -> Points:
        out = np.stack([bend * x[:, 0], bend * x[:, 1], -np.ones(len(x))], 1)
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    def arc(r: np.ndarray) -> np.ndarray:
        s = bend * r
        return r if bend == 0 else (s * np.sqrt(1 + s**2) + np.arcsinh(s)) / (2 * bend)

    def curvature(r: float) -> float:
        return 2 * math.pi * (1 - 1 / math.sqrt(1 + (bend * r) ** 2))

    nodes, weights = np.polynomial.legendre.leggauss(64)
    r, dr = (nodes + 1) / 2, weights / 2
    slope = np.sqrt(1 + (bend * r) ** 2)
    principal = (bend / slope**3 + bend / slope) / 2
    many = np.arange(2000)
    return TrueSurface(
        name="disk" if bend == 0 else "paraboloid",
        sample=sample,
        foot=foot,
        normal=normal,
        geodesic=lambda x: arc(np.hypot(x[:, 0], x[:, 1])),
        region=lambda x: np.hypot(x[:, 0], x[:, 1]) < 0.5,
        cloud=lifted(np.minimum(np.sqrt(many / 1500), 1), GOLDEN * many),  # a quarter of it on the rim
        area=float(2 * math.pi * (slope * r * dr).sum()),
        gauss=curvature(1.0),
        gauss_region=curvature(0.5),
        mean=float(2 * math.pi * (principal * slope * r * dr).sum()),
        eigenvalues=_first(lambda m: _paraboloid_spectrum(bend, m)),
    )


def lantern(layers: Callable[[int], int], height: float = 2.0) -> TrueSurface:
    """The cylinder of radius 1, sampled as Schwarz's lantern: k points a ring and `layers(k)` bands of triangles.

    All vertices lie on the cylinder and the Hausdorff distance goes to 0, but with k² bands or more normals, area and
    mean curvature do not converge (Schwarz 1880). Its angle defects are 0, as the cylinder's curvature.

    Example:
        >>> x, faces = lantern(lambda k: k * k).sample(300)
        >>> x.shape, faces.shape
        ((350, 3), (686, 3))
    """

    def sample(n: int) -> tuple[Points, np.ndarray]:
        k = next(k for k in range(3, n) if k * (layers(k) + 1) >= n)
        bands = layers(k)
        level, place = (grid.ravel() for grid in np.meshgrid(np.arange(bands + 1), np.arange(k), indexing="ij"))
        turn = 2 * math.pi * (place + level % 2 / 2) / k
        x = np.stack([np.cos(turn), np.sin(turn), height * level / bands], 1)
        low = level < bands
        here, on, odd = level[low] * k + place[low], level[low] * k + (place[low] + 1) % k, level[low] % 2
        above = (level[low] + 1) * k + (place[low] + odd) % k
        beside = (level[low] + 1) * k + (place[low] + odd - 1) % k
        return x, np.concatenate([np.stack([here, on, above], 1), np.stack([here, above, beside], 1)])

    def round_foot(x: Points) -> Points:
        return np.concatenate([x[:, :2] / np.linalg.norm(x[:, :2], axis=1, keepdims=True), x[:, 2:]], 1)

    def geodesic(x: Points) -> np.ndarray:
        turn = np.arctan2(x[:, 1], x[:, 0])
        return np.hypot(np.angle(np.exp(1j * (turn - turn[0]))), x[:, 2] - x[0, 2])

    many = np.arange(2000)
    cloud = np.stack([np.cos(GOLDEN * many), np.sin(GOLDEN * many), height * (many + 0.5) / 2000], 1)
    return TrueSurface(
        name="lantern",
        sample=sample,
        foot=round_foot,
        normal=lambda x: np.concatenate([x[:, :2], np.zeros((len(x), 1))], 1),
        geodesic=geodesic,
        region=lambda x: x[:, 2] < height / 2,
        cloud=cloud,
        area=2 * math.pi * height,
        gauss=0.0,
        gauss_region=0.0,
        mean=math.pi * height,
        eigenvalues=_first(lambda m: m**2 + (np.arange(12) * math.pi / height) ** 2),
    )


def _first(spectrum: Callable[[int], np.ndarray]) -> tuple[float, ...]:
    """The least non-zero eigenvalues of a surface of revolution, those with angle m > 0 twice."""
    parts = [np.repeat(np.sort(spectrum(m)), 1 if m == 0 else 2) for m in range(12)]
    return tuple(np.sort(np.concatenate([parts[0][1:], *parts[1:]]))[:EIGENVALUES].tolist())


def _torus_spectrum(major: float, minor: float, m: int, terms: int = 32) -> np.ndarray:
    k = np.arange(-terms, terms + 1)
    apart = k[:, None] - k
    width = major * (apart == 0) + minor / 2 * (np.abs(apart) == 1)
    inverse = np.fft.fft(1 / (major + minor * np.cos(2 * math.pi * np.arange(512) / 512))).real / 512
    stiffness = k[:, None] * k * width / minor + m**2 * minor * inverse[apart % 512]
    return eigh(stiffness, minor * width, eigvals_only=True)[:12]


def _paraboloid_spectrum(bend: float, m: int, terms: int = 14) -> np.ndarray:
    nodes, weights = np.polynomial.legendre.leggauss(80)
    r, dr = (nodes + 1) / 2, weights / 2
    chebyshev = np.polynomial.chebyshev.Chebyshev
    series = [chebyshev.basis(j) for j in range(terms)]
    y = np.stack([r**m * p(2 * r**2 - 1) for p in series])
    slope = np.stack(
        [m * r ** max(m - 1, 0) * p(2 * r**2 - 1) + r**m * 4 * r * p.deriv()(2 * r**2 - 1) for p in series]
    )
    metric = np.sqrt(1 + (bend * r) ** 2)
    stiffness = (slope * r / metric * dr) @ slope.T + m**2 * (y * metric / r * dr) @ y.T
    return eigh(stiffness, (y * metric * r * dr) @ y.T, eigvals_only=True)[:12]
