"""Pictures of data (t-SNE, UMAP, Isomap, PCA) and how far to trust them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brenier.checks import whole
from brenier.manifold.chart import Samples, like
from brenier.manifold.graph import NEIGHBOURS, as_rows, graph_geodesics, library
from brenier.manifold.isomap import isomap, stress_of, stress_sums
from brenier.solution import Estimate

METHODS = ("tsne", "umap", "isomap", "pca")
JUDGED = 2000  # samples whose neighbours are judged
LANDMARKS = 50  # samples from which geodesic distances are judged
BLOCK = 2**22  # entries of a block of distances


@dataclass(frozen=True)
class Embedding:
    """Codes (n, dim), of the kind of the samples, the method, and how far to trust them."""

    codes: Samples = field(repr=False)
    method: str
    trustworthiness: Estimate
    continuity: Estimate
    stress: Estimate

    def __str__(self) -> str:
        return (
            f"{self.method}: trustworthiness {self.trustworthiness}, continuity {self.continuity}, "
            f"geodesic stress {self.stress}"
        )


def embed(
    x: Samples, method: str = "tsne", dim: int = 2, k: int = NEIGHBOURS, seed: int = 0, **settings: Any
) -> Embedding:
    """Codes (n, dim) of samples x (n, ...) by t-SNE, UMAP, Isomap or PCA, with their quality at k neighbours.

    "tsne": openTSNE's `TSNE(**settings)`; "umap": umap-learn's `UMAP(**settings)`, both drawn by `seed`; "isomap":
    `isomap(x, dim, k=k, **settings)`; "pca": projection on the principal axes.

    Raises:
        ValueError: an unknown method; what `trustworthiness` and the graph refuse. ImportError: the library is missing.

    Example:
        >>> t = np.linspace(0, 6, 200)
        >>> picture = embed(np.stack([np.cos(t), np.sin(t), t], 1), "isomap", dim=1)
        >>> picture.trustworthiness.mean > 0.99, picture.stress.mean < 0.01
        (True, True)
    """
    if method not in METHODS:
        raise ValueError(f"method must be {', '.join(METHODS[:-1])} or {METHODS[-1]}, got {method!r}")
    rows = as_rows(x)
    if whole("dim", dim, 1) > rows.shape[1]:
        raise ValueError(f"dim must not exceed the {rows.shape[1]} entries of a sample, got {dim}")
    codes = _codes(rows, method, dim, k, seed, settings)
    return Embedding(
        like(x, codes),
        method,
        trustworthiness(rows, codes, k, seed=seed),
        continuity(rows, codes, k, seed=seed),
        geodesic_stress(rows, codes, k, seed=seed),
    )


def _codes(rows: Tensor, method: str, dim: int, k: int, seed: int, settings: dict[str, Any]) -> np.ndarray:
    if method == "isomap":
        return np.asarray(isomap(rows.cpu().double().numpy(), dim, k=k, seed=seed, **settings).codes)
    if method == "pca":
        centred = (rows - rows.mean(0)).double()
        axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :dim]
        return (centred @ axes).cpu().numpy()
    values = rows.cpu().numpy()
    if method == "umap":
        umap = library("umap", "umap-learn", "method umap").UMAP(
            n_components=dim, random_state=seed, n_jobs=1, **settings
        )
        return np.asarray(umap.fit_transform(values), dtype=np.float64)
    tsne = library("openTSNE", "openTSNE", "method tsne").TSNE(n_components=dim, random_state=seed, **settings)
    return np.asarray(tsne.fit(values), dtype=np.float64)


def trustworthiness(
    x: Samples, codes: Samples, k: int = NEIGHBOURS, *, max_samples: int = JUDGED, seed: int = 0
) -> Estimate:
    """How few of the neighbours in the codes are strangers in the data: 1 none, about 1/2 in random codes.

    T = 1 − 2 / (n k (2n − 3k − 1)) Σ_i Σ_j (r(i, j) − k) over the j among i's k nearest codes that are not among its
    k nearest samples, r(i, j) the rank of j by distance to i in the data (Venna and Kaski 2001). Of the n samples i at
    most `max_samples` are taken, drawn by `seed`; the error is that of this draw, 0 when all are taken.

    x (n, ...), codes (n, ...). Memory: blocks of 2^22 distances.

    Raises:
        ValueError: k from n/2 on, another number of codes than samples, NaN or Inf.

    Example:
        >>> x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
        >>> trustworthiness(x, x, k=5)
        Estimate(mean=1.0, sem=0.0)
    """
    return _kept(as_rows(x), as_rows(codes), k, max_samples, seed)


def continuity(
    x: Samples, codes: Samples, k: int = NEIGHBOURS, *, max_samples: int = JUDGED, seed: int = 0
) -> Estimate:
    """How few of the neighbours in the data are lost in the codes: `trustworthiness` with the two exchanged.

    Example:
        >>> circle = torch.linspace(0, 6.2, 100)
        >>> continuity(torch.stack([circle.cos(), circle.sin()], 1), circle[:, None], k=5).mean < 0.99  # it was cut
        True
    """
    return _kept(as_rows(codes), as_rows(x), k, max_samples, seed)


def _kept(space: Tensor, other: Tensor, k: int, max_samples: int, seed: int) -> Estimate:
    """1 − the mean excess rank in `space` of the k nearest in `other`, normalised; over a draw of rows."""
    n = len(space)
    if len(other) != n:
        raise ValueError(f"there must be one code for each sample, got {min(n, len(other))} and {max(n, len(other))}")
    if not whole("k", k, 1) < n / 2:
        raise ValueError(f"k must be less than half the number of samples, got k {k} for {n}")
    m = min(n, whole("max_samples", max_samples, 2))
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:m].sort().values
    space, other = (values.double() - values.double().mean(0) for values in (space, other.to(space.device)))
    excess = []
    for rows in chosen.to(space.device).split(max(1, BLOCK // n)):
        near = _squares(other, rows).topk(k, largest=False).indices
        squares = _squares(space, rows)
        rank = torch.searchsorted(squares.sort(1).values, squares.gather(1, near)) + 1
        excess.append((rank - k).clamp(min=0).sum(1))
    score = torch.cat(excess).double() * (2 / (k * (2 * n - 3 * k - 1)))
    error = score.std().item() * ((1 - m / n) / m) ** 0.5
    return Estimate(1 - score.mean().item(), error)


def _squares(x: Tensor, rows: Tensor) -> Tensor:
    """Squared distances (m, n) from some rows of x to all, itself inf."""
    norms = x.square().sum(1)
    squares = torch.addmm(norms, x[rows], x.T, alpha=-2)
    squares[torch.arange(len(rows)), rows] = torch.inf
    return squares


def geodesic_stress(
    x: Samples, codes: Samples, k: int = NEIGHBOURS, *, landmarks: int = LANDMARKS, seed: int = 0
) -> Estimate:
    """√(Σ (g − s r)² / Σ g²): how far the codes' distances r, at the best scale s, are from geodesic distances g.

    Over pairs of a landmark and a sample of the same component of the graph of k neighbours; its error by a jackknife
    over the landmarks, at most so many, farthest points.

    Raises:
        ValueError: another number of codes than samples; what `graph_geodesics` refuses.

    Example:
        >>> x = torch.rand(100, 1, generator=torch.Generator().manual_seed(0))
        >>> geodesic_stress(x, -3 * x).mean < 1e-3
        True
    """
    rows, places = as_rows(x), as_rows(codes).cpu().double().numpy()
    if len(places) != len(rows):
        raise ValueError(f"there must be one code for each sample, got {len(places)} for {len(rows)}")
    found = graph_geodesics(rows, min(landmarks, len(rows)), k, seed=seed)
    return stress_of(stress_sums(found.distances, places, found.landmarks), scaled=True)
