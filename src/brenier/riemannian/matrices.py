"""Manifolds of matrices, the last two axes: Stiefel, Grassmann, and symmetric positive definite."""

from __future__ import annotations

import geoopt
import torch
from torch import Tensor

from brenier.riemannian.vectors import Checked

SHOTS, LEGS = 200, 4


def sym(a: Tensor) -> Tensor:
    """(a + aᵀ) / 2."""
    return (a + a.mT) / 2


def eye_like(a: Tensor) -> Tensor:
    """The identity of the size of the last axis of a."""
    return torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)


def polar(x: Tensor) -> Tensor:
    """The matrix with orthonormal columns that is nearest to x (..., n, p): x (xᵀx)^(−1/2).

    Newton and Schulz' iteration x ← x (3 − xᵀx)/2 where x is near, the singular value decomposition where it is not.
    """
    gap = eye_like(x) - x.mT @ x
    if not bool(gap.abs().sum(-1).amax() < 0.5):
        u, _, v = torch.linalg.svd(x, full_matrices=False)
        return u @ v
    floor = 4 * torch.finfo(x.dtype).eps * x.shape[-1] ** 0.5
    for _ in range(6):
        x = x + x @ gap / 2
        gap = eye_like(x) - x.mT @ x
        if bool(gap.abs().amax() <= floor):
            break
    return x


class Orthonormal(Checked):
    """What Stiefel and Grassmann share: points (..., n, p) with xᵀx = I, the metric tr uᵀv."""

    ndim = 2

    def _check_shape(self, shape: tuple[int, ...], name: str) -> tuple[bool, str | None]:
        if len(shape) < 2 or shape[-2] < shape[-1]:
            return False, f"{name} must be (..., n, p) with n ≥ p, got {tuple(shape)}"
        return True, None

    def error(self, x: Tensor) -> Tensor:
        """max |xᵀx − I|."""
        return (x.mT @ x - eye_like(x)).abs().amax((-2, -1))

    def projx(self, x: Tensor) -> Tensor:
        """The polar factor x (xᵀx)^(−1/2)."""
        return polar(x)

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """tr uᵀv."""
        return (u * (u if v is None else v)).sum((-2, -1), keepdim=keepdim)

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """The Q factor of x + u, by Cholesky's factor R of its Gram matrix."""
        y = x + u
        factor = torch.linalg.cholesky(y.mT @ y, upper=True)
        return torch.linalg.solve_triangular(factor, y, upper=True, left=False)


class Stiefel(Orthonormal):
    """Matrices (..., n, p) with orthonormal columns, n ≥ p, with the metric of the space around: tr uᵀv.

    `retr` is the Q factor of x + u, of first order; `projx(x + u)`, the polar factor, is of second order. `expmap` is
    Edelman's closed form; `logmap` inverts it by shooting, until exp_x(log) = y to rounding, and raises ArithmeticError
    where that fails (far points: seldom below a distance of 2.5). `transp` projects: it is no isometry.

    Source: Edelman, Arias and Smith, The geometry of algorithms with orthogonality constraints, SIMAX 1998; Zimmermann
    and Hüper, Computing the Riemannian logarithm on the Stiefel manifold, SIMAX 2022 (shooting).

    Example:
        >>> x = Stiefel().projx(torch.tensor([[3.0], [4.0]]))
        >>> x.T
        tensor([[0.6000, 0.8000]])
    """

    name = "Stiefel"

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """u − x sym(xᵀu)."""
        return u - x @ sym(x.mT @ u)

    egrad2rgrad = proju

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """The projection of v on the tangent space at y."""
        return self.proju(y, v)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """The geodesic's end: with u = x a + q r, [x q] e^[[2a, −rᵀ], [r, 0]] [e^(−a); 0]."""
        a = x.mT @ u
        a = (a - a.mT) / 2
        q, size, v = torch.linalg.svd(u - x @ (x.mT @ u), full_matrices=False)
        r = size[..., None] * v
        block = torch.cat([torch.cat([2 * a, -r.mT], -1), torch.cat([r, torch.zeros_like(a)], -1)], -2)
        flow = torch.linalg.matrix_exp(block)[..., : a.shape[-1]] @ torch.linalg.matrix_exp(-a)
        return polar(torch.cat([x, q], -1) @ flow)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The tangent vector u at x with exp_x(u) = y, found in the span of x and y."""
        x, y = torch.broadcast_tensors(x, y)
        n, p = x.shape[-2:]
        basis = torch.linalg.qr(torch.cat([x, y], -1)).Q if n > 2 * p else None
        start, end = (x, y) if basis is None else (basis.mT @ x, basis.mT @ y)
        u, error = self._shoot(start, end)
        if not bool((error < 1e3 * torch.finfo(x.dtype).eps * p).all()):
            pair = int(error.reshape(-1).nan_to_num(torch.inf).argmax())
            far = float((x - y).reshape(-1, n, p)[pair].norm())
            raise ArithmeticError(f"no logarithm found between the points of pair {pair}, which are {far:.3g} apart")
        return u if basis is None else basis @ u

    def _shoot(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """u with exp_x(u) near y, and |exp_x(u) − y| (...): the gap is carried back along the geodesic, leg by leg."""
        u = self.proju(x, y - x)
        best, least = u, torch.full_like(x[..., 0, 0], torch.inf)
        eps = torch.finfo(x.dtype).eps
        for _ in range(SHOTS):
            path = [self.expmap(x, u * (leg / LEGS)) for leg in range(1, LEGS + 1)]
            gap = y - path[-1]
            error = gap.norm(dim=(-2, -1))
            better = error < least
            best = torch.where(better[..., None, None], u, best)
            least = torch.where(better, error, least)
            if bool((least < 4 * eps * x.shape[-1] ** 0.5).all()):
                break
            for p in (*reversed(path), x):
                gap = self.proju(p, gap)
            u = u + gap * (error / gap.norm(dim=(-2, -1)).clamp_min(torch.finfo(x.dtype).tiny))[..., None, None]
        return best, least


class Grassmann(Orthonormal):
    """Subspaces of dimension p in n, each given by an orthonormal basis (..., n, p): bases of one span are one point.

    Tangent vectors are horizontal, xᵀu = 0. With principal angles θ between the spans,

        d = |θ|,   exp_x(u) = x v cos θ vᵀ + q sin θ vᵀ of u = q θ vᵀ,
        transport: v − (x + z)(I + xᵀz)⁻¹ zᵀv,  z the basis of y that is nearest to x.

    `logmap(x, y)` leads to z, another basis of y. `retr` is the Q factor of x + u, of second order on subspaces.

    Source: Edelman, Arias and Smith 1998; Bendokat, Zimmermann and Absil, A Grassmann manifold handbook, 2024 (log).

    Example:
        >>> x, y = torch.eye(3)[:, :1], torch.eye(3)[:, 1:2]
        >>> Grassmann().dist(x, y)
        tensor(1.5708)
    """

    name = "Grassmann"

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """u − x xᵀu."""
        return u - x @ (x.mT @ u)

    egrad2rgrad = proju

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """The geodesic's end, a basis of it."""
        q, angle, v = torch.linalg.svd(u, full_matrices=False)
        return polar((x @ (v.mT * angle.cos()[..., None, :]) + q * angle.sin()[..., None, :]) @ v)

    def nearest_basis(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """z = y o, the basis of the span of y that is nearest to x, and the rotation o."""
        u, _, v = torch.linalg.svd(y.mT @ x)
        turn = u @ v
        return y @ turn, turn

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """|θ|, θ the principal angles."""
        cross = x.mT @ y
        sine = torch.linalg.svdvals(y - x @ cross)
        cosine = torch.linalg.svdvals(cross).flip(-1)
        length = torch.atan2(sine, cosine).norm(dim=-1)
        return length[..., None, None] if keepdim else length

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The horizontal vector at x that leads to the span of y."""
        z, _ = self.nearest_basis(x, y)
        cross = x.mT @ z
        q, sine, v = torch.linalg.svd(z - x @ cross, full_matrices=False)
        cosine = ((v @ cross) * v).sum(-1)
        return q * torch.atan2(sine, cosine)[..., None, :] @ v

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport from x to the basis y."""
        z, turn = self.nearest_basis(x, y)
        return (v - (x + z) @ torch.linalg.solve(eye_like(turn) + x.mT @ z, z.mT @ v)) @ turn.mT


class SPD(Checked):
    """Symmetric positive definite matrices (..., n, n) with the affine-invariant metric tr x⁻¹u x⁻¹v.

    With x = l lᵀ and y' = l⁻¹ y l⁻ᵀ:  exp = l e^(l⁻¹ u l⁻ᵀ) lᵀ,  log = l (log y') lᵀ,  d = |log y'|, transport by
    e = l y'^(1/2) l⁻¹: e v eᵀ. `retr` is x + u + u x⁻¹u/2, of second order and positive definite for every u.

    A matrix that is not positive definite raises ValueError with its least eigenvalue.

    Source: Pennec, Fillard and Ayache, A Riemannian framework for tensor computing, IJCV 2006.

    Example:
        >>> SPD().dist(torch.eye(2), torch.e * torch.eye(2))
        tensor(1.4142)
    """

    name, ndim = "SPD", 2

    def _check_shape(self, shape: tuple[int, ...], name: str) -> tuple[bool, str | None]:
        if len(shape) < 2 or shape[-2] != shape[-1]:
            return False, f"{name} must be (..., n, n), got {tuple(shape)}"
        return True, None

    def error(self, x: Tensor) -> Tensor:
        """max |x − xᵀ|, or how negative the least eigenvalue is."""
        least = torch.linalg.eigvalsh(sym(x))[..., 0]
        skew = (x - x.mT).abs().amax((-2, -1))
        return torch.where(least > 0, skew, torch.maximum(skew, torch.finfo(x.dtype).tiny - least))

    def _check_point_on_manifold(self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5) -> tuple[bool, str | None]:
        if not bool((least := torch.linalg.eigvalsh(sym(x))[..., 0].reshape(-1)).amin() > 0):
            worst = int(least.nan_to_num(-torch.inf).argmin())
            return False, f"matrix {worst} has the eigenvalue {float(least[worst]):.3g}"
        return super()._check_point_on_manifold(x, atol=atol * float(x.abs().amax()), rtol=rtol)

    def factor(self, x: Tensor) -> Tensor:
        """Cholesky's factor l of x = l lᵀ."""
        factor, failed = torch.linalg.cholesky_ex(x)
        if bool(failed.any()):
            worst = int(failed.reshape(-1).argmax())
            least = float(torch.linalg.eigvalsh(sym(x)).reshape(-1, x.shape[-1])[worst, 0])
            raise ValueError(f"matrices must be positive definite, got the eigenvalue {least:.3g} in matrix {worst}")
        return factor

    def _whiten(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """l and l⁻¹ y l⁻ᵀ."""
        factor = self.factor(x)
        half = torch.linalg.solve_triangular(factor, y, upper=False)
        return factor, sym(torch.linalg.solve_triangular(factor, half.mT, upper=False))

    def _spectrum(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """l, and eigenvalues and eigenvectors of l⁻¹ y l⁻ᵀ, y positive definite."""
        factor, white = self._whiten(x, y)
        values, vectors = torch.linalg.eigh(white)
        if not bool((values[..., 0] > 0).all()):
            self.factor(y)
        return factor, values, vectors

    def projx(self, x: Tensor) -> Tensor:
        """The symmetric part, its eigenvalues not below eps times the largest."""
        values, vectors = torch.linalg.eigh(sym(x))
        floor = torch.finfo(x.dtype).eps * values.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        positive = bool((values >= floor).all())
        return sym(x) if positive else sym(vectors * torch.maximum(values, floor)[..., None, :] @ vectors.mT)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """(u + uᵀ) / 2."""
        return sym(u)

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """x sym(u) x."""
        return sym(x @ sym(u) @ x)

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """tr x⁻¹u x⁻¹v."""
        factor = self.factor(x)
        left = torch.cholesky_solve(u, factor)
        right = left if v is None else torch.cholesky_solve(v, factor)
        return (left * right.mT).sum((-2, -1), keepdim=keepdim)

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """x + u + u x⁻¹u / 2."""
        return sym(x + u + u @ torch.cholesky_solve(u, self.factor(x)) / 2)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """l e^(l⁻¹ u l⁻ᵀ) lᵀ."""
        factor, white = self._whiten(x, u)
        values, vectors = torch.linalg.eigh(white)
        half = factor @ vectors * (values / 2).exp()[..., None, :]
        return half @ half.mT

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """l log(l⁻¹ y l⁻ᵀ) lᵀ."""
        factor, values, vectors = self._spectrum(x, y)
        side = factor @ vectors
        return sym(side * values.log()[..., None, :] @ side.mT)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """|log λ|, λ the eigenvalues of x⁻¹y."""
        length = self._spectrum(x, y)[1].log().norm(dim=-1)
        return length[..., None, None] if keepdim else length

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport: e v eᵀ, e = (y x⁻¹)^(1/2)."""
        factor, values, vectors = self._spectrum(x, y)
        _, inside = self._whiten(x, v)
        root = vectors * values.sqrt()[..., None, :] @ vectors.mT
        side = factor @ root
        return sym(side @ inside @ side.mT)


Euclidean = geoopt.Euclidean
Product = geoopt.ProductManifold
