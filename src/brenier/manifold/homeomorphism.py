"""Is an encoder a homeomorphism on the data: one to one, nowhere folded, and undone by its decoder?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra, minimum_spanning_tree
from torch import nn

from brenier.manifold.chart import Samples, as_network, evaluating, like, place, take
from brenier.manifold.mesh import Topology, half_edges, topology, triangles
from brenier.manifold.overlaps import DEPTH, overlapping, signed_areas
from brenier.manifold.sampled import blocks, frames, linked, neighbours, points, signs

NEIGHBOURS = 10
LANDMARKS = 16
SUSPECTS = 32  # pairs of near codes whose distance on the data is measured along the graph
COLLISION = 0.2  # a chart's own linear distance, as a share of the distance on the data, below which codes coincide
COLLAPSED = 1e-6  # ratio of stretches below which a direction is lost
BATCH = 1024


@dataclass(frozen=True, eq=False)
class Homeomorphism:
    """What was found of an encoder on samples; `holds` is the verdict, `str` says it with its reasons.

    `worst_ratio`: the least ratio, over pairs of near codes, of the distance that the encoder's own linear part gives
    the pair to their distance on the data: about 1 for a one-to-one encoder, 0 where far samples share a code;
    `worst_pair` names the samples. `collisions`: how many of the pairs looked at lie below 0.2.
    `folded` (n,), or (m,) of triangles: those on the wrong side of a fold, where the Jacobian determinant has the sign
    that fewer have. `collapsed` likewise: where a direction, or all area, is lost. `overlapping` (m,): triangles whose
    codes overlap others, `overlap` a pair of them. `form`: the topology of the mesh. Those four are None without faces
    where they need them. `round_trip`: the largest |g(f(x)) − x|, in median distances to a nearest neighbour.
    """

    worst_ratio: float
    worst_pair: tuple[int, int]
    collisions: int
    folded: Samples
    collapsed: Samples
    components: int
    overlapping: Samples | None = None
    overlap: tuple[int, int] | None = None
    form: Topology | None = field(default=None, repr=False)
    round_trip: float | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is no homeomorphism; empty if it is one."""
        what = "samples" if self.form is None else "triangles"
        found = []
        if self.form is not None and not self.form.planar:
            found.append(_no_chart(self.form))
        if self.collisions:
            i, j = self.worst_pair
            found.append(f"codes of far samples coincide, those of {i} and {j} most (ratio {self.worst_ratio:.2g})")
        for flags, happened in ((self.folded, "turned over"), (self.collapsed, "collapsed")):
            if flags.any():
                found.append(f"{float(flags.sum()) / len(flags):.2%} of the {what} are {happened}")
        if self.overlapping is not None and self.overlapping.any():
            found.append(f"{int(self.overlapping.sum())} triangles overlap, such as {self.overlap}")
        return tuple(found)

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons

    def __str__(self) -> str:
        return "a homeomorphism on the samples" if self.holds else "no homeomorphism: " + "; ".join(self.reasons)


def homeomorphism(
    encode: Callable[[Samples], Samples],
    x: Samples,
    decode: Callable[[Samples], Samples] | None = None,
    faces: Samples | None = None,
    k: int = NEIGHBOURS,
) -> Homeomorphism:
    """Whether encode: x (n, D) -> codes (n, d) is one to one on the data and nowhere folded; d counts as its dimension.

    Injectivity: near codes are looked up, and the displacement on the data that the encoder's linear part A gives for
    them, |A⁺ (z_i − z_j)|, is set against their distance along the graph of k neighbours (or the edges of `faces`).
    This does not change with an affine change of the codes. The worst 32 pairs are measured, those of all near pairs
    with the least bound from landmarks.
    Folds: without faces the sign of det of the differential between tangent frames (local PCA), compared between
    neighbours, so that the data need no orientation; where d = D the sign of det itself. The differential comes from
    automatic differentiation where encode is a torch module, else from a linear fit to the neighbours.
    With faces (m, 3) and d = 2 the encoder is taken as the affine map on each triangle: signs of the areas, triangles
    that overlap, and the topology: a closed surface, or one with handles, has no planar chart.

    Samples must be dense enough that the encoder is nearly linear over k neighbours. Surjectivity is not asked.

    Raises:
        ValueError: x or codes not finite matrices, codes wider than x, k ≥ n, copies of a row, faces that are no
            surface or leave samples out, or faces with codes that are not planar.

    Example:
        >>> x = np.random.default_rng(0).random((500, 2))
        >>> homeomorphism(lambda x: x @ np.array([[2.0, 1.0], [0.0, 1.0]]), x).holds
        True
        >>> homeomorphism(lambda x: np.abs(x - [0.5, 0.0]), x).holds
        False
    """
    rows = points(x, rows=3)
    if isinstance(encode, nn.Module) and str(x.dtype).endswith("uint8"):
        rows /= 255  # what the network reads
    z = points(_run(encode, x), "codes")
    if len(z) != len(rows):
        raise ValueError(f"encode must give one code per sample, got {len(z)} for {len(rows)}")
    if z.shape[1] > rows.shape[1]:
        raise ValueError(f"codes must not be wider than x, got {z.shape[1]} columns for {rows.shape[1]}")
    if faces is None:
        found = on_samples(rows, z, k, encode if isinstance(encode, nn.Module) else None, tuple(x.shape[1:]))
    else:
        found = _on_mesh(rows, z, triangles(faces, len(rows)), k)
    if decode is not None:
        back = points(_run(decode, _run(encode, x)), "decoded samples", columns=rows.shape[1])
        farthest = np.linalg.norm(back - rows, axis=1).max()
        found = replace(found, round_trip=float(farthest / np.median(neighbours(rows, 1)[0])))
    if found.overlapping is not None:
        found = replace(found, overlapping=like(x, np.asarray(found.overlapping)))
    return replace(found, folded=like(x, np.asarray(found.folded)), collapsed=like(x, np.asarray(found.collapsed)))


def on_samples(
    x: np.ndarray, z: np.ndarray, k: int, network: nn.Module | None = None, shape: tuple[int, ...] = ()
) -> Homeomorphism:
    """`homeomorphism` of samples x (n, D), their codes z (n, d), and the network that gave them, if one did, which
    reads samples of `shape`; all in numpy.
    """
    distance, index = neighbours(x, k)
    if distance[:, 0].min() == 0:
        i = int(distance[:, 0].argmin())
        raise ValueError(f"x must have distinct rows, but {i} and {index[i, 0]} are the same")
    graph, flat = linked(distance, index), frames(x, index, z.shape[1])
    fit = _fitted(x, z, index, flat)
    differential = fit if network is None else _differential(network, x, flat, shape)
    stretch = np.linalg.svd(differential, compute_uv=False)
    components, member = connected_components(graph, directed=False)
    return Homeomorphism(
        *_collisions(x, z, graph, np.linalg.pinv(fit)),
        folded=_fewer(np.linalg.det(differential) * _orientation(flat, index), member),
        collapsed=stretch[:, -1] <= COLLAPSED * stretch[:, 0],
        components=components,
    )


def _on_mesh(x: np.ndarray, z: np.ndarray, faces: np.ndarray, k: int) -> Homeomorphism:
    if z.shape[1] != 2:
        raise ValueError(f"with faces the codes must be planar, (n, 2), got {z.shape[1]} columns")
    form = topology(faces)
    if form.vertices != len(x):
        raise ValueError(f"faces must use every sample, but {len(x) - form.vertices} of {len(x)} lie in none")
    a, b, *_ = half_edges(faces)
    edges = coo_array((np.linalg.norm(x[a] - x[b], axis=1), (a, b)), shape=(len(x), len(x))).tocsr()
    graph = edges.maximum(edges.T)
    index = neighbours(x, k)[1]
    area = signed_areas(z, faces)
    size = np.linalg.norm(z[np.roll(faces, -1, 1)] - z[faces], axis=2).max(1)
    overlaps, example = overlapping(z, faces)
    return Homeomorphism(
        *_collisions(x, z, graph, np.linalg.pinv(_fitted(x, z, index, frames(x, index, 2)))),
        folded=_fewer(area * (1 if form.signs is None else form.signs), form.member),
        collapsed=np.abs(area) <= DEPTH * size**2,
        components=form.components,
        overlapping=overlaps,
        overlap=example,
        form=form,
    )


def _fewer(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Which values have the sign that fewer have of their part (n,); zeros have none."""
    side = np.sign(values)
    return side == -np.where(np.bincount(member, side) < 0, -1, 1)[member]


def _collisions(
    x: np.ndarray, z: np.ndarray, graph: csr_array, inverse: np.ndarray
) -> tuple[float, tuple[int, int], int]:
    """Ratio and pair of the near codes that lie farthest apart on the data, by the encoder's inverse linear parts
    (n, d, d), and how many pairs count as one code.
    """
    near = neighbours(z, min(2 * NEIGHBOURS, len(z) - 1))[1]
    i, j = np.repeat(np.arange(len(z)), near.shape[1]), near.ravel()
    gap = z[j] - z[i]
    predicted = np.maximum(*(np.linalg.norm(np.einsum("pab,pb->pa", inverse[e], gap), axis=1) for e in (i, j)))
    straight = np.linalg.norm(x[i] - x[j], axis=1)
    least = straight.copy()  # no path on the data is shorter, nor than what landmarks say by the triangle inequality
    for row in dijkstra(graph, indices=np.random.default_rng(0).permutation(len(x))[:LANDMARKS]):
        reached = np.isfinite(row[i]) & np.isfinite(row[j])
        least[reached] = np.maximum(least[reached], np.abs(row[i[reached]] - row[j[reached]]))
    ratio = predicted / least
    worst = np.argsort(ratio)[:SUSPECTS]
    sources, place = np.unique(i[worst], return_inverse=True)
    along = dijkstra(graph, indices=sources)[place, j[worst]]
    ratio[worst] = predicted[worst] / np.where(np.isfinite(along), along, straight[worst])
    first = int(ratio.argmin())
    pairs = np.unique(np.sort(np.stack([i, j], 1)[ratio < COLLISION], 1), axis=0)
    return float(ratio[first]), (int(min(i[first], j[first])), int(max(i[first], j[first]))), len(pairs)


def _fitted(x: np.ndarray, z: np.ndarray, index: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """The linear map (n, d, d) from tangent coordinates to codes that fits best to each sample's neighbours."""
    out = np.empty((len(x), z.shape[1], flat.shape[2]))
    for rows in blocks(len(x), index.shape[1] * x.shape[1]):
        there = np.einsum("nkD,nDd->nkd", x[index[rows]] - x[rows, None], flat[rows])
        out[rows] = (np.linalg.pinv(there) @ (z[index[rows]] - z[rows, None])).swapaxes(1, 2)
    return out


def _differential(network: nn.Module, x: np.ndarray, flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The network's own differential (n, d, d) along the tangent frames, one reverse pass a code entry."""
    parts, parameter = [], next(network.parameters(), None)
    with evaluating(network), torch.enable_grad():
        for start in range(0, len(x), BATCH):
            rows = slice(start, start + BATCH)
            here = place(torch.from_numpy(x[rows]), parameter).reshape(-1, *shape).requires_grad_()
            z = network(here)
            if not z.requires_grad:
                raise ValueError("encode must be differentiable, but its codes carry no gradient")
            slopes = [
                torch.autograd.grad(column.sum(), here, retain_graph=True)[0].flatten(1) for column in z.unbind(1)
            ]
            parts.append(torch.stack(slopes, 1).double().cpu().numpy() @ flat[rows])
    return np.concatenate(parts)


def _orientation(flat: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Signs (n,) that turn the frames (n, D, d) to one orientation, as far as neighbours can: along the tree of the
    best comparable neighbours. Frames of the whole space are compared with it.
    """
    n, d = len(flat), flat.shape[2]
    if flat.shape[1] == d:
        return np.sign(np.linalg.det(flat))
    i, j = np.repeat(np.arange(n), index.shape[1]), index.ravel()
    tree = minimum_spanning_tree(csr_array((2 - np.abs(_cosines(flat, i, j)), (i, j)), shape=(n, n))).tocoo()
    i, j = tree.coords
    return signs(n, i, j, _cosines(flat, i, j) < 0)[0]


def _cosines(flat: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """det(T_iᵀ T_j) of pairs of frames."""
    width = flat.shape[1] * flat.shape[2]
    parts = [np.einsum("pDa,pDb->pab", flat[i[p]], flat[j[p]]) for p in blocks(len(i), 2 * width)]
    return np.linalg.det(np.concatenate(parts))


def _run(function: Callable[[Samples], Samples], x: Samples) -> Samples:
    """What encode or decode gives for x: a network in evaluation mode, without gradients, in batches."""
    if not isinstance(function, nn.Module):
        return function(x)
    parameter = next(function.parameters(), None)
    with evaluating(function):
        starts = range(0, len(x), BATCH)
        return torch.cat([function(place(as_network(take(x, slice(i, i + BATCH))), parameter)) for i in starts])


def _no_chart(form: Topology) -> str:
    """Why a surface has no planar chart."""
    if form.genus is None:
        return "the surface has no orientation: no planar chart"
    kind = f"{form.components} components, of genus {form.genus}, with {len(form.loops)} boundary loops"
    return f"the surface has {kind}: no planar chart"
