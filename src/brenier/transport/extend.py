"""The extension of the transport from finitely many targets to new codes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from brenier.device import seeded
from brenier.measures import Source, moments
from brenier.transport.affine import bures, moments_of
from brenier.transport.cells import Cells, cells
from brenier.transport.local import LocalGaussians, choose, lone
from brenier.transport.potential import Array, BrenierPotential, like
from brenier.transport.singular import BAND, SingularSet, crossing, interpolation_weights, singular_set

KINDS = ("local", "barycentric")
CHUNK = 256  # rows whose highest planes are looked for together
TOGETHER = 1 << 16  # rows that share the axes of their cells
JUDGED = 1 << 17  # draws whose moments are held beside the targets'
NUMBERS = 1 << 30  # of their second moments, summed; fewer draws in many dimensions
TURNS = 2.5  # radians of a ripple within a deviation of the noise in its cell: its mean there is 0 to 4 %
ENOUGH = 20  # draws a dimension that a part must have for its covariance to be known


@dataclass(frozen=True, eq=False)
class Extension:
    """T: noise (m, d) -> (codes (m, d), accepted (m,)), a function of the noise alone.

    kind "local": inside cell i, T_i(x) = m_i + C_i^{1/2} ξ(x), with m_i and C_i the mean and covariance of the
    neighbourhood of y_i (`LocalGaussians`). The coarse place of x has chosen the cell, its fine place ξ(x), see
    `ripples`, moves the code inside the neighbourhood: ξ has mean 0 and covariance I inside every cell, so that the
    first two moments of the targets stay.
    kind "barycentric": T_i(x) = y_i, and y_i itself at the centroid of its cell.

    Near facets T blends the T_j of the cells that meet there with continuous weights. Where that would join two targets
    across a singular facet, `accepted` is False: that noise is to be drawn again. Blends lie between what they join,
    and cells have not quite the masses of their targets: therefore, in each connected part p that is large enough,
    kind "local" ends with the affine map z -> A_p z + b_p that gives the accepted codes the mean and the covariance of
    the targets, `stretch` (q, d, d) and `shift` (q, d) for the first q parts.
    """

    u: BrenierPotential
    masses: Tensor
    kind: str
    singular: SingularSet
    centroids: Tensor
    frequency: float
    local: LocalGaussians
    strength: float
    band: float
    stretch: Tensor
    shift: Tensor

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Codes (m, d) in the points' dtype and device, and which of them are accepted (m,) bool."""
        rows = self.u.to_points(x)
        nothing = rows.clone(), torch.ones(0, dtype=torch.bool, device=rows.device)
        parts = [self._map(part) for part in rows.split(TOGETHER)] if len(rows) else [nothing]
        codes, accepted = (torch.cat(part) for part in zip(*parts, strict=True))
        return like(x, codes), like(x, accepted)

    def weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (m, k) and targets (m, k) that T blends at x (m, d).

        A shortlist in the points' own precision, scores and order in float64: no batch size shows in the result.
        """
        parts = [self._weights(rows) for rows in x.split(CHUNK)]
        weights, indices = zip(*parts, strict=True)
        return torch.cat(weights), torch.cat(indices)

    def _weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
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
            moved = self.local.draw(cell, ripples(x, self.frequency)[row])
        codes = torch.zeros(len(x), self.u.dim, dtype=torch.float64, device=x.device)
        codes.index_add_(0, row, weights[row, place, None] * moved)
        part = self.singular.parts[indices[:, 0]]
        large = (part < len(self.shift)).nonzero()[:, 0]
        part = part[large]
        codes[large] = (self.stretch[part] @ codes[large, :, None])[:, :, 0] + self.shift[part]
        return codes.to(self.u.points), accepted


def ripples(x: Tensor, frequency: float) -> Tensor:
    """Return the fine place ξ (m, d) of noise x (m, d): ξ_k = √2 cos(ω x_k), smooth, at most √2; float64.

    Where the noise spreads over some turns, as it does inside a cell, ξ has mean 0 and covariance I whatever the
    density is there: it is new noise, made from the fine digits of the old one.

    Example:
        >>> x = torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
        >>> torch.cov(ripples(3 + 0.1 * x, 25.0).T).round(decimals=1) + 0.0
        tensor([[1., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    return math.sqrt(2) * (frequency * x.double()).cos()


def extend(
    u: BrenierPotential,
    source: Source,
    kind: str = "local",
    strength: float | None = None,
    judges: Tensor | None = None,
    found: Cells | None = None,
    singular: SingularSet | None = None,
    generator: torch.Generator | int | None = None,
    weights: Tensor | None = None,
) -> Extension:
    """The extension of grad u, which only knows its targets, to new codes.

    Args:
        u: a solved potential.
        source: the measure it carries.
        kind: "local" or "barycentric", see `Extension`.
        strength: s from 0 (targets only) to 1; by default the least whose local Gaussians give points 0.9 times as
            new as targets that were set aside. The number of neighbours is the one under which those are most likely.
        judges: indices of the targets to set aside while choosing; by default a tenth of them.
        found, singular: cells and singular set where they are known already.
        generator: where the randomness comes from, or a seed.
        weights: of the targets, (n,); by default the masses of their cells.

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
    generator = seeded(generator)
    found = cells(u, source, generator=generator) if found is None else found
    singular = singular_set(u, source, found, generator) if singular is None else singular
    nu = (found.masses if weights is None else weights).double()
    if kind == "local":
        local, strength = choose(u.points, nu, singular.parts, strength, judges)
    else:
        local, strength = lone(u.points), 1.0
    none = nu.new_zeros(0, u.dim, u.dim)
    bare = Extension(
        u=u,
        masses=found.masses,
        kind=kind,
        singular=singular,
        centroids=_shrunk_centroids(u, source, found, generator),
        frequency=_frequency(u, source, found, generator),
        local=local,
        strength=strength,
        band=BAND,
        stretch=none,
        shift=none[:, 0],
    )
    return _with_moments(bare, source, nu, generator) if kind == "local" and strength > 0 else bare


def _with_moments(bare: Extension, source: Source, nu: Tensor, generator: torch.Generator | None) -> Extension:
    """The extension with the affine map of each part that gives its codes mean and covariance of its targets.

    z -> b + A (z − a) with a, S the mean and covariance of codes drawn from fresh noise, b, R those of the targets,
    and A = `bures`(S, R). It is near the identity: what blends have lost, and cells have too much or too little.
    """
    d = bare.u.dim
    x = source.sample(min(JUDGED, NUMBERS // d**2), generator).to(bare.u.points)
    codes, accepted = bare(x)
    part = bare.singular.parts[torch.cat([bare.u.cell(rows) for rows in x.split(CHUNK)])]
    stretch, shift = [], []
    for p in range(int(bare.singular.parts.max()) + 1):
        drawn, own = codes[accepted & (part == p)].double(), bare.singular.parts == p
        if len(drawn) < ENOUGH * d:  # parts come by size: the others are smaller
            break
        (mean, covariance), (goal, spread) = moments_of(drawn), moments_of(bare.u.points[own], nu[own])
        a = bures(covariance, spread)
        stretch.append(a)
        shift.append(goal - a @ mean)
    if not shift:
        return bare
    return replace(bare, stretch=torch.stack(stretch), shift=torch.stack(shift))


def _shrunk_centroids(u: BrenierPotential, source: Source, found: Cells, generator: torch.Generator | None) -> Tensor:
    """Centroids (n, d) pulled to their regression on the targets, the more the fewer samples a cell has.

    Empirical Bayes: with N_i samples, their variance v inside cells and the variance t of the true centroids around the
    regression, a share N_i t / (N_i t + v) of the distance to the regression is kept, all of it of exact ones
    (everything below is over the number of all samples, which may be infinite).
    """
    seen = found.masses > 0
    y = (u.points - u.centre).double()
    x = torch.cat([y, torch.ones_like(y[:, :1])], 1)
    share, one = found.masses[seen].double(), 1 / found.samples
    c = found.centroids[seen].double()
    root = share.sqrt()[:, None]
    # by singular values, on the CPU: the driver that is the same bit for bit from call to call, at any rank
    slopes = torch.linalg.lstsq((x[seen] * root).cpu(), (c * root).cpu(), driver="gelsd").solution
    prior = x @ slopes.to(x)
    away = c - prior[seen]
    repeated = (share - one).clamp(min=0).sum()
    inside = (share * found.radii[seen].double().square()).sum() / repeated
    within = inside.item() if repeated > 0 else moments(source, generator)[1].trace().item()
    spread = ((share[:, None] * away.square()).sum() - one * within * len(c)).clamp(min=0) / share.sum()
    keep = share * spread / (share * spread + one * within).clamp(min=1e-300)
    centroids = prior.clone()
    centroids[seen] += keep[:, None] * away
    return centroids


def _frequency(u: BrenierPotential, source: Source, found: Cells, generator: torch.Generator | None) -> float:
    """Return TURNS over the deviation of the noise along a line inside a small cell: one in ten is smaller."""
    radii = found.radii[found.masses > 0].double()
    radii = radii[radii > 0]  # cells of one sample have no size
    if not len(radii):
        return TURNS / moments(source, generator)[1].diagonal().mean().sqrt().item()
    return TURNS * math.sqrt(u.dim) / radii.quantile(0.1).item()
