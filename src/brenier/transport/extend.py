"""The extension of the transport from finitely many targets to new codes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from brenier.measures import Source, moments
from brenier.transport.cells import Cells, NoiseView, cells
from brenier.transport.local import LocalGaussians, choose
from brenier.transport.potential import Array, BrenierPotential, like
from brenier.transport.singular import BAND, SingularSet, crossing, interpolation_weights, singular_set

KINDS = ("local", "barycentric")
CHUNK = 256  # rows evaluated together


@dataclass(frozen=True, eq=False)
class Extension:
    """T: noise (m, d) -> (codes (m, d), accepted (m,)), a function of the noise alone.

    kind "local": inside cell i, T_i(x) = m_i + √(1 − s²)(y_i − m_i) + s L_i ξ_i(x), with m_i and L_i L_iᵀ the mean and
    covariance of y_i and its nearest targets of the same mode and ξ_i(x) the whitened place of x in its cell, in units
    of the cell's radius: mean 0 and covariance I, so that the first two moments of the targets stay. Its length is at
    most √d + 1.5, as it is for nearly all samples of a Gaussian: no code is taken far out along an endless cell.
    kind "barycentric": T_i(x) = y_i, and y_i itself at the centroid of its cell.

    Near facets T blends the T_j of the cells that meet there with continuous weights. Where that would join two targets
    across a singular facet, `accepted` is False: that noise is to be drawn again.
    """

    u: BrenierPotential
    masses: Tensor
    kind: str
    singular: SingularSet
    centroids: Tensor
    radii: Tensor
    whiten: Tensor
    local: LocalGaussians
    strength: float
    band: float

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Codes (m, d) in the points' dtype and device, and which of them are accepted (m,) bool."""
        rows = self.u.to_points(x)
        nothing = rows.clone(), torch.ones(0, dtype=torch.bool, device=rows.device)
        parts = [self._map(part) for part in rows.split(CHUNK)] if len(rows) else [nothing]
        codes, accepted = (torch.cat(part) for part in zip(*parts, strict=True))
        return like(x, codes), like(x, accepted)

    def weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (m, k) and targets (m, k) that T blends at x (m, d).

        A shortlist in the points' own precision, scores and order in float64: no batch size shows in the result.
        """
        n = len(self.u.points)
        indices = self.u.planes.top(x, min(self.u.dim + 4, n))[1]
        wide = x.double()
        y = (self.u.points[indices] - self.u.centre).double()
        scores = (y * wide[:, None]).sum(2) + self.u.heights[indices].double()
        scores, order = torch.sort(scores, dim=1, descending=True, stable=True)
        weights = interpolation_weights(scores[:, : self.u.dim + 2], self.band)
        indices = indices.gather(1, order)[:, : weights.shape[1]]
        if self.kind == "barycentric":
            weights = weights / (wide[:, None] - self.centroids[indices]).norm(dim=2).clamp(min=1e-300)
            weights = weights / weights.sum(1, keepdim=True)
        return weights, indices

    def _map(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights, indices = self.weights(x)
        accepted = ~crossing(self.u.points, weights, indices, self.singular)
        row, place = (weights > 0).nonzero(as_tuple=True)
        cell = indices[row, place]
        moved = self.u.points[cell].double()
        if self.kind == "local" and self.strength > 0:
            moved = self.local.draw(cell, self._place(x[row].double(), cell), self.strength)
        codes = torch.zeros(len(x), self.u.dim, dtype=torch.float64, device=x.device)
        codes.index_add_(0, row, weights[row, place, None] * moved)
        return codes.to(self.u.points), accepted

    def _place(self, x: Tensor, cell: Tensor) -> Tensor:
        """ξ (p, d), the whitened place of x (p, d) in its cell (p,)."""
        place = (x - self.centroids[cell]) / self.radii[cell, None] @ self.whiten
        longest = math.sqrt(self.u.dim) + 1.5
        return place * (longest / place.norm(dim=1, keepdim=True)).clamp(max=1)


def extend(
    u: BrenierPotential,
    source: Source,
    kind: str = "local",
    strength: float | None = None,
    judges: Tensor | None = None,
    found: Cells | None = None,
    singular: SingularSet | None = None,
    generator: torch.Generator | None = None,
) -> Extension:
    """The extension of grad u, which only knows its targets, to new codes.

    Args:
        u: a solved potential.
        source: the measure it carries.
        kind: "local" or "barycentric", see `Extension`.
        strength: s from 0 (targets only) to 1; by default chosen, as is the number of neighbours, so that targets which
            were set aside are most likely under the codes drawn and the codes are at least 0.9 times as new as they.
        judges: indices of the targets to set aside while choosing; by default a tenth of them.
        found, singular: cells and singular set where they are known already.
        generator: where the randomness comes from.

    Raises:
        ValueError: an unknown kind, a strength outside 0 to 1, judges that are no targets.

    Source: An et al., AE-OT, ICLR 2020 (barycentric); docs/transport.md for the local map.

    Example:
        >>> from brenier.measures import Gaussian
        >>> y = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
        >>> u = BrenierPotential(y, -0.5 * y.square().sum(1))
        >>> T = extend(u, Gaussian(2), generator=torch.Generator().manual_seed(0))
        >>> codes, accepted = T(torch.zeros(3, 2))
        >>> codes.shape, accepted.all()
        (torch.Size([3, 2]), tensor(True))
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if strength is not None and not 0 <= strength <= 1:
        raise ValueError(f"strength must be from 0 to 1, got {strength}")
    if judges is not None and len(judges) and not 0 <= judges.min() <= judges.max() < len(u.points):
        raise ValueError(f"judges must index the {len(u.points)} targets, got {judges.min()} to {judges.max()}")
    found = cells(u, source, generator=generator) if found is None else found
    singular = singular_set(u, source, found, generator) if singular is None else singular
    local = LocalGaussians(u.points, torch.zeros(len(u.points), 0, dtype=torch.long), {})
    if kind == "local":
        local, strength = choose(u.points, singular.modes, found.masses > 0, strength, judges)
    centroids = _shrunk_centroids(u, source, found, generator)
    radii = _shrunk_radii(found)
    return Extension(
        u=u,
        masses=found.masses,
        kind=kind,
        singular=singular,
        centroids=centroids,
        radii=radii,
        whiten=_whitening(u, source, centroids, radii, generator),
        local=local,
        strength=1.0 if strength is None else strength,
        band=BAND,
    )


def _shrunk_centroids(u: BrenierPotential, source: Source, found: Cells, generator: torch.Generator | None) -> Tensor:
    """Centroids (n, d) pulled to their regression on the targets, the more the fewer samples a cell has.

    Empirical Bayes: with N_i samples, their variance v (at most the source's) and the variance t of the true centroids
    around the regression, a share N_i t / (N_i t + v) of the distance to the regression is kept.
    """
    seen = found.masses > 0
    y = (u.points - u.centre).double()
    design = torch.cat([y, torch.ones_like(y[:, :1])], 1)
    count = found.masses[seen].double() * found.samples
    c = found.centroids[seen].double()
    root = count.sqrt()[:, None]
    prior = design @ torch.linalg.lstsq(design[seen] * root, c * root).solution
    away = c - prior[seen]
    within = moments(source, generator)[1].trace().item()
    spread = ((count[:, None] * away.square()).sum() / count.sum() - within * len(c) / count.sum()).clamp(min=0)
    keep = count * spread / (count * spread + within)
    centroids = prior.clone()
    centroids[seen] += keep[:, None] * away
    return centroids


def _shrunk_radii(found: Cells) -> Tensor:
    """Radii (n,) of the cells, pulled to their common value as if by eight samples more."""
    seen = found.masses > 0
    count = found.masses.double() * found.samples
    squares = torch.where(seen, found.radii.double().square(), 0.0)
    common = (count * squares).sum() / count.sum()
    return ((count * squares + 8 * common) / (count + 8)).sqrt()


def _whitening(
    u: BrenierPotential, source: Source, centroids: Tensor, radii: Tensor, generator: torch.Generator | None
) -> Tensor:
    """W (d, d) with Cov((x − c(x))/r(x) W) = I on fresh samples, c(x) and r(x) centroid and radius of the cell of x."""
    view = NoiseView(u, source, generator)
    away = []
    for _ in range(16):
        x, _, indices = view.top(2048, 1)
        cell = view.first[indices[:, 0]]
        away.append((view.back(x) - centroids[cell]) / radii[cell, None])
    rows = torch.cat(away)
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    return (vectors * values.clamp(min=values.amax() * 1e-12).rsqrt()) @ vectors.T
