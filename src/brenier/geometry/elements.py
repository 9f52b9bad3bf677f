"""Paths made of cubic elements and their energy ∫ ½ |γ'|² dt over t in [0, 1], with its gradient and Hessian.

A path of M elements has 3 M + 1 nodes, those of Lobatto in each element. It is kept as the way (b, 3 M + 1, d) from
its first point, its origin (b, d): the velocities of a short path far from zero keep their digits. The energy is summed
at three Gauss points an element: a Galerkin variational integrator of order 6 in the nodes between elements, in length,
and in the momenta at the ends (Marsden and West, Acta Numerica 2001; Ober-Blöbaum and Saake, 2015).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from brenier.geometry import metric as of
from brenier.geometry.batch import chunks
from brenier.geometry.metric import Metric

DEGREE = 3
ORDER = 2 * DEGREE
NODES = (1 + np.array([-1.0, -(0.2**0.5), 0.2**0.5, 1.0])) / 2
GAUSS, WEIGHTS = ((1 + np.polynomial.legendre.leggauss(3)[0]) / 2, np.polynomial.legendre.leggauss(3)[1] / 2)


def basis(at: np.ndarray, derivative: int = 0) -> np.ndarray:
    """The Lagrange polynomials of an element, or a derivative of them, at places in [0, 1]: (len(at), 4)."""
    coefficients = np.linalg.inv(np.polynomial.polynomial.polyvander(NODES, DEGREE))
    return np.polynomial.polynomial.polyval(at, np.polynomial.polynomial.polyder(coefficients, derivative)).T


def resample(way: Tensor, elements: int) -> Tensor:
    """A way (b, 3 M + 1, d) as one of another number of elements."""
    old = (way.shape[1] - 1) // DEGREE
    t = np.concatenate([(np.arange(elements)[:, None] + NODES[:-1]).ravel() / elements, [1.0]]) * old
    cell = np.minimum(t.astype(int), old - 1)
    weights = torch.as_tensor(basis(t - cell), dtype=way.dtype, device=way.device)
    near = torch.as_tensor(cell[:, None] * DEGREE + np.arange(DEGREE + 1), device=way.device)
    return torch.einsum("ja,bjad->bjd", weights, way[:, near])


class Energy(NamedTuple):
    """The energy of paths (b,), its gradient (b, M, 4 d), Hessian and its part of a frozen metric (b, M, 4 d, 4 d) per
    element, and where the metric is proper all along (b,) bool.
    """

    value: Tensor
    gradient: Tensor
    hessian: Tensor
    frozen: Tensor
    proper: Tensor

    def at(self, rows: Tensor) -> Energy:
        """Some of the paths."""
        return Energy(*(part[rows] for part in self))

    def put(self, rows: Tensor, other: Energy) -> None:
        """Replace some of the paths by others."""
        for mine, its in zip(self, other, strict=True):
            mine[rows] = its


def energy(metric: Metric, origin: Tensor, way: Tensor) -> Energy:
    """The energy of paths from origin (b, d) on their way (b, 3 M + 1, d), and its derivatives."""
    b, _, d = way.shape
    m = (way.shape[1] - 1) // DEGREE
    along, across, weights = (torch.as_tensor(a).to(way) for a in (basis(GAUSS, 1) * m, basis(GAUSS), WEIGHTS / m))
    x, v = _at(origin, way, GAUSS, 2)
    parts = [of.lagrangian(metric, x[rows], v[rows]) for rows in chunks(metric, len(x), d, 4 * d)]
    slope, bend, g = (torch.cat(part) for part in zip(*parts, strict=True))
    value = torch.einsum("bmqd,bmqd,q->b", v.view(b, m, 3, d), slope[:, d:].view(b, m, 3, d), weights) / 2
    frame = torch.stack([across, along], 1)  # (q, 2, 4)
    gradient = torch.einsum("q,qra,bmqri->bmai", weights, frame, slope.view(b, m, 3, 2, d))
    hessian = torch.einsum("q,qra,qsc,bmqrisj->bmaicj", weights, frame, frame, bend.view(b, m, 3, 2, d, 2, d))
    stiff = torch.einsum("q,qa,qc,bmqij->bmaicj", weights, along, along, g.view(b, m, 3, d, d))
    size = (DEGREE + 1) * d
    return Energy(
        value,
        gradient.reshape(b, m, size),
        hessian.reshape(b, m, size, size),
        stiff.reshape(b, m, size, size),
        of.proper(g).view(b, -1).all(1),
    )


def pieces(way: Tensor) -> Tensor:
    """The nodes of every element, (b, M, 4, d), of (b, 3 M + 1, d)."""
    return way.unfold(1, DEGREE + 1, DEGREE).mT


def _at(origin: Tensor, way: Tensor, places: np.ndarray, count: int) -> list[Tensor]:
    """Points, velocities, accelerations, the first `count`, at places of every element: (b M places, d) each."""
    elements, d = pieces(way), way.shape[2]
    m = elements.shape[1]
    weights = [torch.as_tensor(basis(places, k) * m**k).to(way) for k in range(count)]
    found = [torch.einsum("qa,bmad->bmqd", weight, elements) for weight in weights]
    found[0] = found[0] + origin[:, None, None]
    return [part.reshape(-1, d) for part in found]


def residual(metric: Metric, origin: Tensor, way: Tensor) -> Tensor:
    """The largest |γ'' + Γ(γ', γ')| / |γ'| of paths at the inner nodes of their elements, (b,).

    G (γ'' + Γ(γ', γ')) = ∂²L/∂v∂x γ' + ∂²L/∂v² γ'' − ∂L/∂x.
    """
    d = way.shape[2]
    x, v, a = _at(origin, way, NODES[1:-1], 3)
    parts = []
    for rows in chunks(metric, len(x), d, 4 * d):
        slope, bend, g = of.lagrangian(metric, x[rows], v[rows])
        both = torch.cat([v[rows], a[rows]], 1)
        force = torch.einsum("mij,mj->mi", bend[:, d:], both) - slope[:, :d]
        size = (force * torch.linalg.solve_ex(g, force)[0]).sum(1)
        parts.append(size / (v[rows] * slope[:, d:]).sum(1).clamp_min(torch.finfo(way.dtype).tiny))
    return torch.cat(parts).clamp_min(0).sqrt().view(len(way), -1).amax(1)
