"""The metric that a decoder pulls back from its data space, with curvature by the Gauss equation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from brenier.geometry.blame import complaint
from brenier.geometry.decoder import (
    CREASES,
    Decode,
    Facts,
    bend,
    company,
    examine,
    flat,
    jacobian,
    push,
    refuse_hidden_creases,
    second_order,
)
from brenier.geometry.derivative import Way, agree, along, chosen, directions, forward, reverse, sound, sound_twice
from brenier.geometry.jet import Unknown, jets
from brenier.geometry.kinks import Ramps, softplus
from brenier.geometry.metric import name, proper
from brenier.geometry.uncertainty import rbf_deviation

BUDGET = 1 << 22  # floats of all layers' results that one chunk of rows makes


class Tangent(NamedTuple):
    """A tangent space in the data space: ∂_i g and η ∂_i g (m, d, D), the Cholesky factor of G (m, d, d)."""

    jacobian: Tensor
    lowered: Tensor
    factor: Tensor

    def coordinates(self, x: Tensor) -> Tensor:
        """c^k (m, p, d) with x − c^k ∂_k g normal, for x (m, p, D); corrected once, which spares the square of the
        condition of J.
        """
        return self.nearly(x) + self.nearly(self.normal(x))

    def nearly(self, x: Tensor) -> Tensor:
        """`coordinates`, not corrected."""
        return torch.cholesky_solve(self.lowered @ x.mT, self.factor).mT

    def normal(self, x: Tensor) -> Tensor:
        """The normal part of x (m, p, D); an error in its tangential part changes products of normals by its square."""
        return torch.baddbmm(x, self.nearly(x), self.jacobian, alpha=-1)


class Pullback:
    """G(z) = Jᵀ η J of a map g: z (m, d) -> x (m, ...) with J = Dg: a metric x -> G(x) that carries quicker methods.

    η is a constant diagonal of signs, the identity unless the data space isn't Euclidean; `signs` is repeated along the
    coordinates of x. With H_ij = ∂_i ∂_j g,

        Γ^k_ij = G^kl <∂_l g, H_ij>,    II_ij = H_ij − Γ^k_ij ∂_k g,
        R_ijkl = <II_ik, II_jl> − <II_il, II_jk>    (the Gauss equation):

    curvature takes second derivatives only, by jets or one way over itself in a row of its own. Memory goes with a
    chunk of rows: neither all points nor, if a point has many, all its H_ij are ever held. `decode` is what the user
    gave, `through` the map that is differentiated, `asked` the one whose derivatives are held against differences, its
    part without an embedding that moves with the point. Source: do Carmo, Riemannian Geometry, chapter 6.
    """

    def __init__(
        self,
        decode: Decode,
        through: Decode | None = None,
        signs: tuple[int, ...] = (1,),
        asked: Decode | None = None,
    ) -> None:
        if not callable(decode):
            raise TypeError(f"decode must be a function or module z (m, d) -> x (m, ...), got {type(decode).__name__}")
        self.decode = decode
        self.through = decode if through is None else through
        self.signs = signs
        self.floats = 0  # that one row makes on its way; known after the first look
        self._asked = self.through if asked is None else asked
        self._facts: Facts | None = None
        self._way: Way = forward
        self._order = 0  # up to which its derivatives are known to be sound
        self._jets = False  # whether those by jets are

    def __call__(self, z: Tensor) -> Tensor:
        """G (d, d) at one point z (d,)."""
        try:
            return self._tensor(z[None])[0]
        except NotImplementedError:  # it has no forward mode
            if self._way is reverse:
                raise
            self._way = reverse
            return self._tensor(z[None])[0]

    def tensor(self, z: Tensor) -> Tensor:
        """G (m, d, d) at z (m, d)."""
        return self._each(self._tensor, z.shape[-1], z)

    def squared(self, z: Tensor, v: Tensor) -> Tensor:
        """vᵀ G v = <J v, J v>, (m,), for z and v (m, d)."""
        self._settle(z, 2)
        moved = push(self.through, z, v, self._way)
        return (self._lower(moved) * moved).sum(1)

    def acceleration(self, z: Tensor, v: Tensor) -> Tensor:
        """Γ(v, v) = G⁻¹ Jᵀ η D²g(v, v), (m, d), for z and v (m, d).

        Raises:
            ValueError: the decoder has creases, or its Jacobian is rank-deficient at a point, which is named.
        """
        return self._each(self._acceleration, z.shape[-1] + 1, z, v, second=True)

    def christoffel(self, z: Tensor) -> Tensor:
        """Γ^k_ij (m, d, d, d), indices [k, i, j], at z (m, d).

        Raises:
            ValueError: as `acceleration`.
        """
        return self._each(self._christoffel, _pairs(z)[0].numel(), z, second=True)

    def riemann(self, z: Tensor) -> Tensor:
        """R_ijkl (m, d, d, d, d), all indices lowered, at z (m, d).

        Raises:
            ValueError: as `acceleration`.
        """
        return self._each(self._riemann, _pairs(z)[0].numel(), z, second=True)

    def _each(self, function: Callable[..., Tensor], rows: int, *arrays: Tensor, second: bool = False) -> Tensor:
        """The function of chunks of points, of which each takes that many rows."""
        z = arrays[0]
        facts = self._settle(z, 1)
        if second:
            if facts.bends:
                raise ValueError(CREASES.format(", ".join(facts.bends)))
            self._settle(z, 2)
        step = max(BUDGET // (self.floats * rows), 1)
        answer = torch.cat([function(*parts) for parts in zip(*(a.split(step) for a in arrays), strict=True)])
        if second and not answer.any():
            refuse_hidden_creases(self.through, z, self._way)
        return answer

    def _settle(self, z: Tensor, order: int) -> Facts:
        """A look at the decoder and at its derivatives up to an order, once each, at the first of the codes z (m, d).

        Raises:
            TypeError, ValueError: as `examine`; torch has no derivatives, or wrong ones, and what they are of.
        """
        if self._facts is None:
            self._facts = examine(self.decode, self.through, z)
            self.floats = self._facts.floats
        if self._order < order:
            near = company(z)
            g = partial(flat, self._asked)
            found = chosen(lambda way: sound(g, near, way, order) and (order == 1 or self._bends_soundly(near, way)))
            if not callable(found):
                raise ValueError(
                    complaint("decoder", name(near[0]), lambda: g(near), self.decode, order, found)
                ) from found
            self._way, self._order = found, order
            self._jets = order == 2 and self._jets_are_sound(near)
        return self._facts

    def _bends_soundly(self, z: Tensor, way: Way) -> bool:
        return sound_twice(lambda z, v: push(self._asked, z, v, way).square().sum(1), z)

    def _jets_are_sound(self, z: Tensor) -> bool:
        """Whether jets know all functions of the decoder, and give D²g(v, v) for v along the first few coordinates."""
        few = min(z.shape[1], 6)
        i, j = torch.triu_indices(few, few, device=z.device)
        v = directions(z)
        v[:, few:] = 0
        g = partial(flat, self._asked)
        try:
            second = jets(g, z, i, j)[1]
        except Unknown:
            return False
        weights = v[:, i] * v[:, j] * torch.where(i == j, 1, 2)
        return agree(torch.einsum("mp,mpx->mx", weights, second), along(g, v, self._way), z, v)

    def _lower(self, x: Tensor) -> Tensor:
        """η x for x (..., D)."""
        return x if self.signs == (1,) else x * x.new_tensor(self.signs).repeat(x.shape[-1] // len(self.signs))

    def _tensor(self, z: Tensor) -> Tensor:
        own = jacobian(self.through, z, self._way)
        return self._lower(own) @ own.mT

    def _tangent(self, z: Tensor, own: Tensor) -> Tangent:
        lowered = self._lower(own)
        g = lowered @ own.mT
        lost = ~proper(g)
        if lost.any():
            raise ValueError(f"the decoder's Jacobian is rank-deficient or not finite at {name(z[lost][0])}")
        return Tangent(own, lowered, torch.linalg.cholesky(g))

    def _acceleration(self, z: Tensor, v: Tensor) -> Tensor:
        tangent = self._tangent(z, jacobian(self.through, z, self._way))
        return tangent.coordinates(bend(self.through, z, v, v, self._way)[:, None])[:, 0]

    def _christoffel(self, z: Tensor) -> Tensor:
        parts = []
        for some in self._blocks(z):
            tangent, second = self._second(z, some)
            parts.append(tangent.coordinates(second))
        return torch.cat(parts, 1).mT[:, :, _pairs(z)[2]]

    def _riemann(self, z: Tensor) -> Tensor:
        i, _, place = _pairs(z)
        blocks, gram = self._blocks(z), z.new_empty(len(z), len(i), len(i))
        for a, rows in enumerate(blocks):
            left = self._normal(z, rows)
            for columns in blocks[a:]:
                right = left if columns is rows else self._normal(z, columns)
                gram[:, rows, columns] = self._lower(left) @ right.mT
        gram = gram.triu() + gram.triu(1).mT
        first = gram[:, place[:, None, :, None], place[None, :, None, :]]
        return first - first.mT

    def _second(self, z: Tensor, some: slice) -> tuple[Tangent, Tensor]:
        """The tangent space and ∂_i ∂_j g (m, p, D) of some of the pairs."""
        i, j, _ = _pairs(z)
        own, second = second_order(self.through, z, i[some], j[some], self._way, self._jets)
        return self._tangent(z, own), second

    def _normal(self, z: Tensor, some: slice) -> Tensor:
        """II_ij (m, p, D) of some of the pairs."""
        tangent, second = self._second(z, some)
        return tangent.normal(second)

    def _blocks(self, z: Tensor) -> list[slice]:
        """The pairs of coordinates in blocks within the budget."""
        count, step = len(_pairs(z)[0]), max(BUDGET // (self.floats * len(z)), 1)
        return [slice(k, k + step) for k in range(0, count, step)]


def _pairs(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """i ≤ j (p,) of all pairs of coordinates, and the place of a pair among them (d, d)."""
    d = z.shape[-1]
    i, j = torch.triu_indices(d, d, device=z.device)
    place = torch.zeros(d, d, dtype=torch.long, device=z.device)
    place[i, j] = place[j, i] = torch.arange(len(i), device=z.device)
    return i, j, place


def pullback(
    decode: Decode, smooth: float | None = None, *, codes: Tensor | None = None, deviation: Decode | None = None
) -> Pullback:
    """The metric G = JᵀJ that a decoder g: z (m, d) -> x (m, ...) gives its codes: lengths are those of decoded curves.

    Any module or function of a batch will do, if a row's answer depends on that row alone: evaluation mode, for
    BatchNorm and Dropout. All verbs of this package take the metric, and its curvature by the Gauss equation.

    A decoder with ReLUs or other bends has a metric that jumps. First derivatives (tensor, lengths, distances) are
    right; connection and curvature sit on the creases, and asking for them raises, also if a smooth layer follows.
    `smooth=beta` replaces every bend max(a, 0) by log(1 + exp(β a))/β, at most log(2)/β above it, whatever calls it:
    relu, leaky_relu, prelu, rrelu, hardtanh, relu6, hardsigmoid, hardswish, softshrink, elu, selu, max_pool, clamp,
    abs, maximum, minimum, amax, amin. The decoder is not changed.

    Where data are scarce a decoder extrapolates. With `deviation` σ(z) (m, ...) beside the mean the metric is the
    expected one, E[JᵀJ] = JᵀJ + J_σᵀJ_σ, which is long wherever σ grows (Arvanitidis, Hansen and Hauberg, ICLR 2018);
    `codes` (n, d) of data makes one, `rbf_deviation(decode, codes)`.

    Raises:
        TypeError: decode is not callable. ValueError: smooth is not positive and finite; codes and deviation together.
        Later: NaN or Inf, rank-deficient Jacobians (the point is named), rows that depend on each other.

    Example:
        >>> sphere = pullback(lambda z: torch.stack([z[:, 0].sin() * z[:, 1].cos(), z[:, 0].sin() * z[:, 1].sin(),
        ...                                          z[:, 0].cos()], 1))
        >>> z = torch.tensor([[1.0, 2.0]])
        >>> torch.allclose(sphere.riemann(z)[:, 0, 1, 0, 1], torch.linalg.det(sphere.tensor(z)))
        True
    """
    if codes is not None and deviation is not None:
        raise ValueError("pass codes or a deviation, not both")
    through = decode if smooth is None else smoothed(decode, smooth)
    sigma = deviation if codes is None else rbf_deviation(through, codes)
    return Pullback(decode, through if sigma is None else _beside(through, sigma))


def smoothed(decode: Decode, beta: float) -> Decode:
    """A decoder with softplus_β for every ramp.

    Raises:
        ValueError: beta is not positive and finite.

    Example:
        >>> smoothed(torch.relu, 2.0)(torch.zeros(1))
        tensor([0.3466])
    """
    if not (isinstance(beta, (int, float)) and math.isfinite(beta) and beta > 0):
        raise ValueError(f"smooth must be a positive finite number, got {beta}")

    def run(z: Tensor) -> Tensor:
        with Ramps(softplus(beta)):
            return decode(z)

    return run


def _beside(mean: Decode, deviation: Decode) -> Decode:
    return lambda z: torch.cat([flat(mean, z), flat(deviation, z)], 1)
