"""The cells of a piecewise-linear network: the exact polygons in which it is affine, on planes and on surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from brenier.checks import whole
from brenier.manifold.activation import Array, checked, first_weight, rank_and_volume
from brenier.manifold.piecewise import Network
from brenier.manifold.polygons import shared
from brenier.manifold.slices import ROUNDINGS, Slices, Subdivision, affine, subdivide


@dataclass(frozen=True, eq=False)
class Cells:
    """The p cells of a network on a slice x(s, t) = origin + s u + t v, or of a surface's triangles, each a slice.

    corners (c, 2): (s, t), of cell i rows start[i] to start[i + 1], counterclockwise; float64
    start (p + 1,) long
    plane (p,) long: the slice, or the triangle, that a cell lies in
    codes (p, K) uint8: its activation code, as `activation_codes` gives it
    areas (p,): in the units of the input space; their sum is the area of the domain
    matrix (p, D, 2), offset (p, D): on the cell f(x(s, t)) = matrix (s, t) + offset
    rank (p,) long: of the matrix
    distortion (p,): area of the image over area, sqrt(det AᵀA / det UᵀU) with A = matrix, U = (u, v); 0 when rank < 2
    neighbours (e, 2) long: cells of one slice that share an edge
    borders (e, 2, 2): the two ends (s, t) of that edge
    units (e,) long: the unit that bends there
    """

    corners: Tensor
    start: Tensor
    plane: Tensor
    codes: Tensor
    areas: Tensor
    matrix: Tensor
    offset: Tensor
    rank: Tensor
    distortion: Tensor
    neighbours: Tensor
    borders: Tensor
    units: Tensor

    def __len__(self) -> int:
        return len(self.plane)

    @property
    def polygons(self) -> list[Tensor]:
        """The corners (k, 2) of each cell."""
        return list(self.corners.tensor_split(self.start[1:-1].cpu()))

    @property
    def centres(self) -> Tensor:
        """The mean of each cell's corners (p, 2), an interior point."""
        size = self.start.diff()
        cell = torch.arange(len(self), device=size.device).repeat_interleave(size)
        total = torch.zeros(len(self), 2, dtype=self.corners.dtype, device=size.device)
        return total.index_add(0, cell, self.corners) / size[:, None]


def relu_cells(
    network: Network,
    domain: Array,
    origin: Array | None = None,
    u: Array | None = None,
    v: Array | None = None,
    limit: int = 100_000,
) -> Cells:
    """The exact cells of a piecewise-linear network on a two-dimensional slice of its input space.

    Each polygon is cut layer by layer along the lines where a unit bends; before that line is drawn the network is
    affine on the polygon, so its line is found from three points. Takes every network that `activation_codes` takes,
    in its own dtype: cells are exact to its rounding. Memory is about K + 24 D bytes a cell.

    Args:
        network: maps (m, ...) to (m, ...).
        domain: where to look in (s, t): a rectangle, its corners low and high (2, 2), or a convex polygon (k, 2).
        origin: of the slice, in the shape of one input; by default zero in the plane.
        u: the direction of s, in that shape; by default the first axis of the plane.
        v: the direction of t; by default the second axis.
        limit: the most cells that are made.

    Returns:
        The cells; the sum of their areas is the area of the domain, to rounding.

    Raises:
        ValueError: a domain that is not a convex polygon of positive area; directions that are zero, parallel or of
            another shape; more cells than `limit`; what `activation_codes` raises.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU()).double()
        >>> _ = network[0].weight.data.copy_(torch.tensor([[1.0, 1.0]])), network[0].bias.data.fill_(-1.0)
        >>> found = relu_cells(network, [[0.0, 0.0], [1.0, 1.0]])
        >>> found.areas, found.codes.flatten()
        (tensor([0.5000, 0.5000], dtype=torch.float64), tensor([0, 1], dtype=torch.uint8))
    """
    like = first_weight(network)
    plane = [_vector(name, part, like) for name, part in (("origin", origin), ("u", u), ("v", v))]
    given = [part for part in plane if part is not None]
    if given and len(given) < 3:
        raise ValueError("a slice needs origin, u and v, or none of them for the plane of two inputs")
    eye = torch.eye(2) if like is None else torch.eye(2, dtype=like.dtype, device=like.device)
    slices = Slices(*(p[None] for p in given)) if given else Slices(torch.zeros_like(eye[:1]), eye[:1], eye[1:])
    if not slices.origin.shape == slices.u.shape == slices.v.shape:
        shapes = ", ".join(str(tuple(part.shape[1:])) for part in slices)
        raise ValueError(f"origin, u and v must have the shape of one input each, got {shapes}")
    corners = _domain(domain).to(slices.origin.device)
    return _cells(network, slices, corners, limit)


def surface_cells(network: Network, vertices: Array, faces: Array, limit: int = 1_000_000) -> Cells:
    """The exact cells of a piecewise-linear network on a triangulated surface in its input space.

    Triangle k is the slice with origin vertices[faces[k, 0]] and the two edges from there as u and v; a cell that
    reaches over several triangles comes as one polygon in each, with one code.

    Args:
        network: maps (m, d) to (m, ...).
        vertices: (n, d).
        faces: (f, 3), rows of vertices.
        limit: the most polygons that are made.

    Raises:
        ValueError: shapes; a face that names no vertex or has no area (named); what `relu_cells` raises.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
        >>> found = surface_cells(network, torch.eye(3), torch.tensor([[0, 1, 2]]))
        >>> round(found.areas.sum().item(), 5)  # of a triangle whose sides are sqrt 2
        0.86603
    """
    points, index = torch.as_tensor(vertices), torch.as_tensor(faces)
    if points.ndim != 2 or index.ndim != 2 or index.shape[1] != 3 or index.is_floating_point():
        raise ValueError(
            f"a surface has vertices (n, d) and whole faces (f, 3), got {tuple(points.shape)} and {tuple(index.shape)}"
        )
    if not len(index):
        raise ValueError("a surface must have a face at least, got none")
    if not 0 <= int(index.min()) <= int(index.max()) < len(points):
        raise ValueError(f"faces must name vertices 0..{len(points) - 1}, got {index.min()}..{index.max()}")
    a, b, c = points[index.long()].unbind(1)
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64, device=points.device)
    return _cells(network, Slices(a, b - a, c - a), corners, limit)


def _vector(name: str, value: Array | None, like: Tensor | None) -> Tensor | None:
    if value is None:
        return None
    part = torch.as_tensor(value)
    return part.to(like.dtype) if like is not None and not isinstance(value, Tensor | np.ndarray) else part


def _domain(domain: Array) -> Tensor:
    """The corners (k, 2) of a convex polygon, counterclockwise."""
    corners = torch.as_tensor(domain, dtype=torch.float64).detach()
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 2:
        raise ValueError(f"domain must be low and high (2, 2) or corners (k, 2), got {tuple(corners.shape)}")
    if not corners.isfinite().all():
        raise ValueError("domain must be finite, got NaN or Inf")
    if len(corners) == 2:
        (left, low), (right, high) = corners.tolist()
        if not (left < right and low < high):
            raise ValueError(f"domain must have low < high, got {corners[0].tolist()} and {corners[1].tolist()}")
        corners = torch.tensor([[left, low], [right, low], [right, high], [left, high]], dtype=corners.dtype)
    edge = corners.roll(-1, 0) - corners
    after = edge.roll(-1, 0)
    turn = edge[:, 0] * after[:, 1] - edge[:, 1] * after[:, 0]
    around = torch.atan2(turn, (edge * after).sum(1)).sum().abs() / (2 * torch.pi)
    if not ((turn >= 0).all() or (turn <= 0).all()) or turn.sum() == 0 or around.round() != 1:
        raise ValueError("domain must be a convex polygon of positive area, its corners in order around it")
    return corners if turn.sum() > 0 else corners.flip(0)


def _cells(network: Network, slices: Slices, corners: Tensor, limit: int) -> Cells:
    """The cells on the part of every slice that has these corners."""
    whole("limit", limit, 1)
    planes = torch.arange(len(slices.origin), device=corners.device)
    checked(network, slices.at(planes, corners.mean(0).expand(len(planes), 2)), "the slice")
    scale = _area_elements(slices)
    found = subdivide(network, slices, corners, limit)
    polygons = found.polygons
    f = torch.cat([_maps(network, slices, found, r) for r in planes.new_tensor(range(len(found.codes))).split(4096)])
    matrix, offset = f[..., 1:], f[..., 0]
    noise = ROUNDINGS * torch.finfo(slices.origin.dtype).eps / found.reach
    rank, volume = rank_and_volume(matrix, noise * offset.abs().amax(1))
    pairs, borders, cuts = shared(polygons)
    return Cells(
        corners=polygons.corners[polygons.inside()],
        start=F.pad(polygons.size.cumsum(0), (1, 0)),
        plane=polygons.plane,
        codes=found.codes,
        areas=polygons.area() * scale[polygons.plane],
        matrix=matrix,
        offset=offset - (matrix @ polygons.centre()[:, :, None])[..., 0],
        rank=rank,
        distortion=torch.where(rank == 2, volume, 0.0) / scale[polygons.plane],
        neighbours=pairs,
        borders=borders,
        units=cuts % found.naming.k,
    )


def _maps(network: Network, slices: Slices, found: Subdivision, rows: Tensor) -> Tensor:
    """The network's values at the centres of some polygons and its slopes, (m, D, 3)."""
    part, pieces = found.polygons.take(rows), found.codes[rows].split(found.widths, 1)
    return affine(network, slices, part.plane, part.centre(), found.reach, pieces).flatten(1, -2)


def _area_elements(slices: Slices) -> Tensor:
    """sqrt(det UᵀU) of each slice (q,), float64.

    Raises:
        ValueError: directions that are zero or parallel.
    """
    directions = torch.stack([slices.u.flatten(1), slices.v.flatten(1)], 2).double()
    lengths = directions.norm(dim=1, keepdim=True)
    sigma = torch.linalg.svdvals(directions / torch.where(lengths > 0, lengths, 1.0))
    bad = (sigma[:, 1] <= ROUNDINGS * torch.finfo(slices.u.dtype).eps) | (lengths == 0).flatten(1).any(1)
    if bad.any():
        k = int(bad.nonzero()[0, 0])
        where, found = f" of triangle {k}" if len(bad) > 1 else "", lengths[k, 0].tolist()
        raise ValueError(f"u and v{where} must not be zero nor parallel, got lengths {found[0]:.3g} and {found[1]:.3g}")
    return lengths.prod(2)[:, 0] * sigma.prod(1)
