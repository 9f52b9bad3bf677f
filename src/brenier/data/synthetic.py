"""Sets with known truth: mixtures (`labels` holds the mode) and manifolds sampled uniformly by length or area.

All are float64, drawn from `generator` (torch's own where it is None). `Samples.truth` holds by name: for mixtures
`centres` (k, d), `stds` (k,) and `weights` (k,); for manifolds `coordinates` (m, 1 or 2) and, on surfaces, the Gaussian
`curvature` (m,) at each sample.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from brenier.checks import whole
from brenier.data.samples import Samples, check

Random = torch.Generator | None


def blobs(
    m: int, centres: Any, stds: Any = 1.0, weights: Any = None, generator: Random = None, name: str = "blobs"
) -> Samples:
    """m samples of the mixture Σ_k w_k N(c_k, s_k² I): centres (k, d), stds (k,) or one number, weights (k,) or equal.

    Raises:
        ValueError: fewer than 2 samples, or centres, stds and weights that don't fit.

    Example:
        >>> x = blobs(100, centres=[[0.0, 0.0], [9.0, 0.0]], stds=0.1, weights=[0.0, 1.0])
        >>> set(x.labels.tolist()), x.values.shape
        ({1}, (100, 2))
    """
    centres = check(centres, "centres").astype(np.float64)
    if centres.ndim != 2:
        raise ValueError(f"centres must have shape (k, d), got {centres.shape}")
    k, d = centres.shape
    stds = np.full(k, float(stds)) if np.ndim(stds) == 0 else check(stds, "stds").astype(np.float64)
    weights = np.full(k, 1 / k) if weights is None else check(weights, "weights").astype(np.float64)
    for values, what in ((stds, "stds"), (weights, "weights")):
        if values.shape != (k,):
            raise ValueError(f"{what} must have one entry per centre, got shape {values.shape} for {k} centres")
        if not values.min() >= 0:
            raise ValueError(f"{what} must not be negative, got {values.min():g}")
    if abs(weights.sum() - 1) > 1e-6:
        raise ValueError(f"weights must sum to 1, got {weights.sum():g} over {k} centres")
    labels = np.searchsorted(weights.cumsum()[:-1], _uniform(m, 1, generator)[:, 0], side="right")
    values = centres[labels] + stds[labels, None] * _normal(m, d, generator)
    return Samples(values, labels, name, {"centres": centres, "stds": stds, "weights": weights})


def ring(m: int, modes: int = 8, radius: float = 2.0, std: float = 0.02, generator: Random = None) -> Samples:
    """`modes` equal Gaussians at radius (cos 2πk/modes, sin 2πk/modes): ring-8 of the GAN literature.

    Example:
        >>> ring(1000).truth["centres"][2].round(6)
        array([0., 2.])
    """
    angles = 2 * np.pi * np.arange(modes) / modes
    return blobs(m, radius * np.stack([np.cos(angles), np.sin(angles)], 1), std, None, generator, f"ring-{modes}")


def grid(m: int, side: int = 5, spacing: float = 2.0, std: float = 0.05, generator: Random = None) -> Samples:
    """side² equal Gaussians on a square grid around the origin: grid-25 of the GAN literature.

    Example:
        >>> grid(1000).truth["centres"][[0, -1]]
        array([[-4., -4.],
               [ 4.,  4.]])
    """
    ticks = spacing * (np.arange(side) - (side - 1) / 2)
    centres = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), -1).reshape(-1, 2)
    return blobs(m, centres, std, None, generator, f"grid-{side**2}")


def eleven_blobs(m: int, generator: Random = None) -> Samples:
    """Eleven unequal Gaussians in space: one at the origin, ten on a Fibonacci lattice of the sphere of radius 2.

    Weights (k + 1)/66 and stds 0.03 + 0.01 k for k = 0..10; centres lie at least 1.95 apart.

    Example:
        >>> x = eleven_blobs(1000)
        >>> x.values.shape, float(x.truth["weights"].min().round(4))
        ((1000, 3), 0.0152)
    """
    k = np.arange(10)
    height, angle = 1 - (2 * k + 1) / 10, np.pi * (1 + math.sqrt(5)) * k
    flat = np.sqrt(1 - height**2)
    sphere = np.stack([flat * np.cos(angle), flat * np.sin(angle), height], 1)
    centres = np.concatenate([np.zeros((1, 3)), 2 * sphere])
    return blobs(m, centres, 0.03 + 0.01 * np.arange(11), np.arange(1, 12) / 66, generator, "eleven-blobs")


def three_clusters_in_disk(m: int, spread: float = 0.25, generator: Random = None) -> Samples:
    """Three equal clusters in the unit disk: uniform on disks of radius `spread` around 0.6 (cos 2πk/3, sin 2πk/3).

    The uniform noise disk is carried to them by a map with three cuts (Figalli's regularity theory).

    Example:
        >>> x = three_clusters_in_disk(300)
        >>> float(np.linalg.norm(x.values, axis=1).max()) < 0.85
        True
    """
    if not 0 <= spread <= 0.4:
        raise ValueError(f"spread must lie in 0..0.4 to keep the clusters inside the disk, got {spread}")
    angles = 2 * np.pi * np.arange(3) / 3
    centres = 0.6 * np.stack([np.cos(angles), np.sin(angles)], 1)
    u = _uniform(m, 3, generator)
    labels = (3 * u[:, 0]).astype(np.int64)
    r, phi = spread * np.sqrt(u[:, 1]), 2 * np.pi * u[:, 2]
    values = centres[labels] + np.stack([r * np.cos(phi), r * np.sin(phi)], 1)
    return Samples(values, labels, "three-clusters", {"centres": centres, "radii": np.full(3, spread)})


def swiss_roll(m: int, noise: float = 0.0, generator: Random = None) -> Samples:
    """(t cos t, h, t sin t) with 3π/2 ≤ t ≤ 9π/2, 0 ≤ h ≤ 21, uniform by area.

    Coordinates (s, h), s = ½ (t √(1 + t²) + asinh t) the arc length: an isometry, so geodesic distance on the roll is
    Euclidean there. `noise` is the standard deviation of Gaussian noise in space.

    Example:
        >>> swiss_roll(500).truth["coordinates"].shape
        (500, 2)
    """
    u = _uniform(m, 2, generator)
    s, t = _archimedes(u[:, 0], 1.5 * math.pi, 4.5 * math.pi)
    h = 21 * u[:, 1]
    return _manifold("swiss-roll", [t * np.cos(t), h, t * np.sin(t)], [s, h], 0.0, noise, generator)


def s_curve(m: int, noise: float = 0.0, generator: Random = None) -> Samples:
    """(sin t, h, sign(t) (cos t − 1)) with |t| ≤ 3π/2, 0 ≤ h ≤ 2, uniform by area; (t, h) is an isometry.

    Example:
        >>> s_curve(500).values.shape
        (500, 3)
    """
    u = _uniform(m, 2, generator)
    t, h = 3 * np.pi * (u[:, 0] - 0.5), 2 * u[:, 1]
    return _manifold("s-curve", [np.sin(t), h, np.sign(t) * (np.cos(t) - 1)], [t, h], 0.0, noise, generator)


def sphere(m: int, radius: float = 1.0, noise: float = 0.0, generator: Random = None) -> Samples:
    """radius (sin θ cos φ, sin θ sin φ, cos θ), uniform by area: cos θ uniform on [−1, 1] (Archimedes), φ on [0, 2π).

    Coordinates (θ, φ), metric radius² (dθ² + sin²θ dφ²), curvature 1/radius².

    Example:
        >>> bool(np.allclose(np.linalg.norm(sphere(500, radius=2.0).values, axis=1), 2))
        True
    """
    _positive(radius, "radius")
    u = _uniform(m, 2, generator)
    z, phi = 1 - 2 * u[:, 0], 2 * np.pi * u[:, 1]
    flat = radius * np.sqrt(1 - z**2)
    points = [flat * np.cos(phi), flat * np.sin(phi), radius * z]
    return _manifold("sphere", points, [np.arccos(z), phi], radius**-2, noise, generator)


def torus(m: int, major: float = 2.0, minor: float = 1.0, noise: float = 0.0, generator: Random = None) -> Samples:
    """((R + r cos v) cos u, (R + r cos v) sin u, r sin v), R = major > r = minor, uniform by area.

    v has density (1 + e cos v)/2π, e = r/R: a uniform v stays with probability (1 + e cos v)/2, else it becomes v + π.
    Coordinates (u, v), metric (R + r cos v)² du² + r² dv², curvature cos v / (r (R + r cos v)).

    Example:
        >>> bool(torus(500).truth["curvature"].max() <= 1 / 3)
        True
    """
    _positive(minor, "minor")
    if not minor < major < math.inf:
        raise ValueError(f"a torus needs major above minor, got {major} and {minor}")
    w = _uniform(m, 3, generator)
    u, v = 2 * np.pi * w[:, 0], 2 * np.pi * w[:, 1]
    v = np.where(2 * w[:, 2] < 1 + minor / major * np.cos(v), v, (v + np.pi) % (2 * np.pi))
    away = major + minor * np.cos(v)
    points = [away * np.cos(u), away * np.sin(u), minor * np.sin(v)]
    return _manifold("torus", points, [u, v], np.cos(v) / (minor * away), noise, generator)


def spiral(m: int, turns: float = 3.0, gap: float = 1.0, noise: float = 0.03, generator: Random = None) -> Samples:
    """The plane curve a t (cos t, sin t), π ≤ t ≤ π + 2π turns, a = gap/2π, uniform by length: one mode, close arms.

    Arms lie `gap` apart; the coordinate is the arc length a/2 (t √(1 + t²) + asinh t).

    Example:
        >>> spiral(500).truth["coordinates"].shape
        (500, 1)
    """
    _positive(gap, "gap")
    _positive(turns, "turns")
    a, u = gap / (2 * math.pi), _uniform(m, 1, generator)[:, 0]
    s, t = _archimedes(u, math.pi, math.pi * (1 + 2 * turns))
    return _manifold("spiral", [a * t * np.cos(t), a * t * np.sin(t)], [a * s], None, noise, generator)


def _archimedes(u: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Arc length s and angle t on r = t, a share u of the way from low to high; Newton, as ds/dt = √(1 + t²)."""

    def length(t: Any) -> Any:
        return (t * np.sqrt(1 + t**2) + np.arcsinh(t)) / 2

    s = length(low) + u * (length(high) - length(low))
    t = np.sqrt(2 * s)
    for _ in range(6):
        t = t - (length(t) - s) / np.sqrt(1 + t**2)
    return s, t


def _manifold(
    name: str, points: list[np.ndarray], coordinates: list[np.ndarray], curvature: Any, noise: float, generator: Random
) -> Samples:
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise must be at least 0, got {noise}")
    values, truth = np.stack(points, 1), {"coordinates": np.stack(coordinates, 1)}
    if curvature is not None:
        truth["curvature"] = np.broadcast_to(np.asarray(curvature, dtype=np.float64), len(values)).copy()
    return Samples(values + noise * _normal(len(values), values.shape[1], generator), None, name, truth)


def _uniform(m: int, d: int, generator: Random) -> np.ndarray:
    device = None if generator is None else generator.device
    return torch.rand(whole("m", m, 2), d, generator=generator, device=device, dtype=torch.float64).numpy(force=True)


def _normal(m: int, d: int, generator: Random) -> np.ndarray:
    device = None if generator is None else generator.device
    return torch.randn(whole("m", m, 2), d, generator=generator, device=device, dtype=torch.float64).numpy(force=True)


def _positive(value: float, name: str) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive, got {value}")
