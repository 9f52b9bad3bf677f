"""Manifolds of matrices with orthonormal columns, the last two axes: Stiefel and Grassmann."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from brenier.riemannian.base import Checked, Reason
from brenier.riemannian.spectral import eye_like, spectral, sym
from brenier.smooth import root, slopes

SHOTS, LEGS = 200, 4


def polar(x: Tensor) -> Tensor:
    """The matrix with orthonormal columns that is nearest to x (..., n, p): x (xᵀx)^(−1/2).

    Newton and Schulz' iteration x ← x (3 − xᵀx)/2 where x is near, the singular value decomposition where it is not.
    Two steps at least, so that the second derivative is right too.
    """
    gap = eye_like(x) - x.mT @ x
    if bool((~(gap.detach().abs().sum(-1) < 0.5)).any()):
        return _polar_far(x)
    floor = 4 * torch.finfo(x.dtype).eps * x.shape[-1] ** 0.5
    for step in range(6):
        x = x + x @ gap / 2
        gap = eye_like(x) - x.mT @ x
        if step and bool((gap.detach().abs() <= floor).all()):
            break
    return x


def _polar_far(x: Tensor) -> Tensor:
    """u vᵀ of x = u s vᵀ, with the derivatives of x (xᵀx)^(−1/2); those are 0 where x has not full rank."""
    finite = x.detach().isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    u, size, v = torch.linalg.svd(torch.where(finite, x.detach(), 1.0), full_matrices=False)
    exact = torch.where(finite, u @ v, torch.nan)
    full = (size[..., -1:] > torch.finfo(x.dtype).eps ** 0.5 * size[..., :1])[..., None]
    whole = torch.where(full, x, exact)
    smooth = whole @ spectral(whole.mT @ whole, "rsqrt")
    return smooth + (exact - smooth).detach()


def flow(u: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """The blocks c and s (..., p, p) of e^[[a, −uᵀu], [1, a]] [1; 0]: geodesics are x c + u s up to a turn.

    No decomposition is taken, so they have derivatives of all orders, at u = 0 too. The exponent is balanced by |u|.

    Source: Edelman, Arias and Smith, The geometry of algorithms with orthogonality constraints, SIMAX 1998.
    """
    scale = u.detach().norm(dim=(-2, -1), keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    one = eye_like(a).expand_as(a)
    block = torch.cat([torch.cat([a, -(u.mT @ u) / scale], -1), torch.cat([scale * one, a], -1)], -2)
    both = torch.linalg.matrix_exp(block)[..., : a.shape[-1]]
    return both[..., : a.shape[-1], :], both[..., a.shape[-1] :, :] / scale


class Orthonormal(Checked):
    """What Stiefel and Grassmann share: points (..., n, p) with xᵀx = I, the metric tr uᵀv."""

    ndim = 2

    def _check_shape(self, shape: tuple[int, ...], name: str) -> Reason:
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
        """The Q factor of x + u, by Cholesky's factor R of its Gram matrix; of long u by reflections."""
        y = x + u
        factor, failed = torch.linalg.cholesky_ex(y.mT @ y, upper=True)
        if bool(failed.any()):
            q, r = torch.linalg.qr(y)
            return q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)[..., None, :]
        return torch.linalg.solve_triangular(factor, y, upper=True, left=False)

    def _dim(self, shape: tuple[int, ...]) -> int:
        return self.free(*shape[-2:])

    def free(self, n: int, p: int) -> int:
        """The dimension for points (n, p)."""
        raise NotImplementedError

    def _origin(self, zero: Tensor) -> Tensor:
        zero.diagonal(dim1=-2, dim2=-1).fill_(1)
        return zero


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

    name, regular = "Stiefel", math.pi / 2

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """u − x sym(xᵀu)."""
        return u - x @ sym(x.mT @ u)

    egrad2rgrad = proju

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """The projection of v on the tangent space at y."""
        return self.proju(y, v)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """The geodesic's end, [x u] e^[[a, −uᵀu], [1, a]] [1; 0] e^(−a) with a = xᵀu."""
        u = self.proju(x, u)
        along, across = self._parts(x, u)
        return polar(x @ along + u @ across)

    def _parts(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """c and s with exp_x(u) = x c + u s."""
        a = x.mT @ u
        a = (a - a.mT) / 2
        back = torch.linalg.matrix_exp(-a)
        along, across = flow(u, a)
        return along @ back, across @ back

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The tangent vector u at x with exp_x(u) = y, found in the span of x and y."""
        x, y = torch.broadcast_tensors(x, y)
        n, p = x.shape[-2:]
        for name, value in (("x", x), ("y", y)):
            good, reason = self.check_point_on_manifold(value, explain=True, atol=1e-3)
            if not good:
                raise ValueError(f"{name} must lie on {self.name}: {reason}")
        x, y = polar(x), polar(y)
        if n <= 2 * p:
            return self._found(x, y)
        basis = torch.linalg.qr(torch.cat([x, y], -1).detach()).Q
        u = self._found(basis.mT @ x, basis.mT @ y)
        if not torch.is_grad_enabled() or not (x.requires_grad or y.requires_grad):
            return basis @ u
        along, across = self._parts((basis.mT @ x).detach(), u.detach())  # how u turns where x or y leave the basis
        left = (y - basis @ (basis.mT @ y)) - (x - basis @ (basis.mT @ x)) @ along
        return basis @ u + left @ torch.linalg.inv(across)

    def _found(self, x: Tensor, y: Tensor) -> Tensor:
        """The logarithm, and that it is one."""
        u, error = _Shot.apply(x, y, self)
        p = x.shape[-1]
        if not bool((error < 1e3 * torch.finfo(x.dtype).eps * p).all()):
            pair = int(error.reshape(-1).nan_to_num(torch.inf).argmax())
            far = float((x - y).detach().reshape(-1, *x.shape[-2:])[pair].norm())
            raise ArithmeticError(f"no logarithm found between the points of pair {pair}, which are {far:.3g} apart")
        return u

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

    def free(self, n: int, p: int) -> int:
        """n p − p (p + 1)/2."""
        return n * p - p * (p + 1) // 2


class _Shot(torch.autograd.Function):
    """The logarithm u (..., n, p) by shooting, and |exp_x(u) − y|; one derivative, of exp_x(u) = y solved for u."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, manifold: Stiefel) -> tuple[Tensor, Tensor]:
        return manifold._shoot(x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        x, _, ctx.manifold = inputs
        u, error = output
        ctx.save_for_backward(x, u)
        ctx.mark_non_differentiable(error)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        if torch.is_grad_enabled():
            raise NotImplementedError('the logarithm on Stiefel has one derivative, no second: take method="lbfgs"')
        x, u = ctx.saved_tensors
        manifold, lead, n = ctx.manifold, x.shape[:-2], x.shape[-2] * x.shape[-1]
        with torch.enable_grad():
            x, u = x.detach().requires_grad_(), u.detach().requires_grad_()
            tangent = manifold.proju(x, u)
            end = manifold.expmap(x, tangent)
            rows = torch.eye(n, dtype=x.dtype, device=x.device).reshape(n, *(1,) * len(lead), *x.shape[-2:])
            rows = rows.expand(n, *x.shape)
            (turned,) = torch.autograd.grad(end, u, rows, retain_graph=True, is_grads_batched=True)
            jacobian = turned.reshape(n, *lead, n).movedim(0, -2)
            rank = manifold.free(*x.shape[-2:])
            back = _pinv(jacobian, rank)
            weight = (grads[0].reshape(*lead, 1, n) @ back).reshape(x.shape)
            (at,) = torch.autograd.grad([tangent, end], x, [grads[0], -weight], retain_graph=True)
        return at, weight, None


def _pinv(a: Tensor, rank: int) -> Tensor:
    """The pseudo-inverse of matrices of a known rank."""
    u, size, v = torch.linalg.svd(a, full_matrices=False)
    return v[..., :rank, :].mT / size[..., None, :rank] @ u[..., :rank].mT


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

    name, regular = "Grassmann", math.pi / 4

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """u − x xᵀu."""
        return u - x @ (x.mT @ u)

    egrad2rgrad = proju

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """The geodesic's end, a basis of it: x cos m + u sin m / m with m² = uᵀu."""
        u = self.proju(x, u)
        along, across = flow(u, torch.zeros_like(x.mT @ u))
        return polar(x @ along + u @ across)

    def nearest_basis(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """z = y o, the basis of the span of y that is nearest to x, and the rotation o."""
        turn = _polar_far(y.mT @ x)
        return y @ turn, turn

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """|θ|, θ the principal angles."""
        return root(self.dist2(x, y, keepdim=keepdim))

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The horizontal vector at x that leads to the span of y: (z − x xᵀz) f(q), f = θ / sin θ.

        q = (z − x)ᵀ(z − x)/4 has the eigenvalues sin²(θ/2) ≤ 1/2, where the series of f converges.
        """
        z, _ = self.nearest_basis(x, y)
        d = z - x
        q = d.mT @ d / 4
        total = torch.zeros_like(q)
        for c in reversed(slopes(60)):
            total = total @ q + c * eye_like(q)
        return (z - x @ (x.mT @ z)) @ total

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport from x to the basis y."""
        z, turn = self.nearest_basis(x, y)
        return (v - (x + z) @ torch.linalg.solve(eye_like(turn) + x.mT @ z, z.mT @ v)) @ turn.mT

    def free(self, n: int, p: int) -> int:
        """p (n − p)."""
        return p * (n - p)
