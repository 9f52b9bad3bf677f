"""What a metric is, and what every part asks of one on a flat batch of points.

A metric is a function x (d,) -> G (d, d), symmetric and positive definite. It may carry quicker methods, which are used
wherever they are there; all take a flat batch x (m, d) and directions v (m, d):

    tensor(x) -> G (m, d, d)            else by vmap of the function
    squared(x, v) -> vᵀ G(x) v (m,)     else from the tensor; differentiated twice backwards
    acceleration(x, v) -> Γ(v, v) (m, d), for the geodesic equation γ'' = −Γ(γ', γ')
    christoffel(x) -> Γ (m, d, d, d), indices [k, i, j]
    riemann(x) -> R (m, d, d, d, d), indices [i, j, k, l], all lowered
    floats, a number: how many floats one evaluation at one point keeps, for the size of the chunks; else d²

`tensor`, `squared`, `christoffel` and `riemann` carry gradients to x and to what the metric is made of, for a loss that
holds them; the verbs of `brenier.geometry` don't.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from brenier.geometry.blame import complaint
from brenier.geometry.derivative import Function, Way, chosen, sound, sound_twice
from brenier.geometry.forms import Plain

Metric = Callable[[Tensor], Tensor]

PLAIN = (
    "write a metric with torch functions of its point alone, without numpy, float(), lists of numbers, `if` on values "
    "or assignments to entries: torch.where for `if`, torch.stack and torch.diag for a matrix of entries"
)
LOOKS = 4  # points at which the derivatives of a metric are held against differences, at most


def _own(metric: Metric, name: str) -> Callable[..., Any] | None:
    """The quicker method of a metric, if it carries one."""
    found = getattr(metric, name, None)
    return found if callable(found) else None


def tensor(metric: Metric, x: Tensor) -> Tensor:
    """G (m, d, d) at x (m, d), of the right shape, not otherwise checked.

    Raises:
        TypeError: the metric gives no tensor, or runs for one point but not for a batch of them.
        ValueError: its tensor has another shape.
    """
    own = _own(metric, "tensor")
    try:
        with Plain():
            found = own(x) if own else vmap(metric)(x)
    except NotImplementedError:  # a derivative that torch doesn't have
        raise
    except Exception as error:
        if own or not _runs_alone(metric, x):
            raise
        raise TypeError(f"{PLAIN}; torch says: {str(error).splitlines()[0]}") from error
    if not isinstance(found, Tensor):
        raise TypeError(f"a metric must return a tensor, got {type(found).__name__}: {PLAIN}")
    m, d = x.shape
    if found.shape != (m, d, d):
        raise ValueError(f"a metric of {d} coordinates must return ({d}, {d}), got {tuple(found.shape[1:])}")
    return found


def _runs_alone(metric: Metric, x: Tensor) -> bool:
    """Whether the metric runs for one point, so that its way of writing is at fault and not its mathematics."""
    try:
        metric(x[0].detach())
    except Exception:  # noqa: BLE001  whatever it is, the batch has met the same and says so
        return False
    return True


def squared(metric: Metric, x: Tensor, v: Tensor) -> Tensor:
    """vᵀ G(x) v, (m,)."""
    own = _own(metric, "squared")
    return own(x, v) if own else torch.einsum("mi,mij,mj->m", v, tensor(metric, x), v)


def partial(function: Function, x: Tensor, way: Way) -> Tensor:
    """∂_a of a function of a flat batch x (m, d) -> (m, ...): (m, d, ...)."""
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return vmap(lambda e: way(function, x, e.expand_as(x)), out_dims=1)(basis)


def change(metric: Metric, x: Tensor, v: Tensor) -> Tensor:
    """D_v G (m, d, d) at x along v (m, d)."""
    return _way(metric, x, 1)(lambda x: tensor(metric, x), x, v)


def _way(metric: Metric, x: Tensor, order: int) -> Way:
    """How to differentiate the metric, held against differences at some of the points x (m, d).

    Raises:
        ValueError: torch has no derivatives of it, or wrong ones, and of which function.
    """
    near = x[:: -(-len(x) // LOOKS)].detach()
    found = chosen(lambda way: sound(lambda x: tensor(metric, x), near, way, order))
    if not callable(found):
        raise _wrong(metric, near, order, found) from found
    return found


def _wrong(metric: Metric, x: Tensor, order: int, said: Exception | None) -> ValueError:
    return ValueError(complaint("metric", name(x[0]), lambda: metric(x[0]), metric, order, said))


def look(metric: Metric, x: Tensor) -> None:
    """Hold what `lagrangian` and `acceleration` take, derivatives of vᵀ G v, against differences, at some of x (m, d).

    Raises:
        ValueError: torch has no derivatives of the metric, or wrong ones, and of which function.
    """
    if _own(metric, "squared"):
        return  # it looks after itself
    near = x[:: -(-len(x) // LOOKS)].detach()
    said = None
    try:
        if sound_twice(lambda x, v: squared(metric, x, v), near):
            return
    except (NotImplementedError, RuntimeError) as error:
        said = error
    raise _wrong(metric, near, 2, said) from said


def lagrangian(metric: Metric, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of L = ½ vᵀ G(x) v by (x, v): gradient (m, 2 d) and Hessian (m, 2 d, 2 d); and G (m, d, d). Without gradients.

    Backwards twice: forward-mode derivatives of small batches take three times as long.
    """
    with torch.enable_grad():
        x, v = x.detach().requires_grad_(), v.detach().requires_grad_()
        slope = _gradient(squared(metric, x, v) / 2, x, v, again=True)
        rows = [torch.cat(_gradient(slope[0][:, a], x, v), 1).detach() for a in range(x.shape[1])]
    bend, g = torch.stack(rows, 2), tensor(metric, x.detach()).detach()
    bend = torch.cat([bend, torch.cat([bend[:, x.shape[1] :].mT, g], 1)], 2)
    return torch.cat(slope, 1).detach(), bend, g


def acceleration(metric: Metric, x: Tensor, v: Tensor) -> Tensor:
    """Γ(v, v) = G⁻¹ (∂(v·∂L/∂x)/∂v − 2 ∂L/∂x) of L = ½ vᵀ G(x) v, (m, d). Without gradients, but for the own one."""
    own = _own(metric, "acceleration")
    if own:
        return own(x, v)
    with torch.enable_grad():
        x, v = x.detach().requires_grad_(), v.detach().requires_grad_()
        (slope,) = _gradient(squared(metric, x, v) / 2, x, again=True)
        (turned,) = _gradient((slope * v).sum(1), v)
    g = tensor(metric, x.detach()).detach()
    return torch.linalg.solve_ex(g, turned - 2 * slope.detach())[0]


def _gradient(values: Tensor, *by: Tensor, again: bool = False) -> tuple[Tensor, ...]:
    """The slopes of values (m,) by rows; `again`: to be differentiated once more."""
    return torch.autograd.grad(values.sum(), by, retain_graph=True, create_graph=again, materialize_grads=True)


def christoffel(metric: Metric, x: Tensor) -> Tensor:
    """Γ^k_ij = G^kl Γ_lij, (m, d, d, d), indices [k, i, j]."""
    own = _own(metric, "christoffel")
    if own:
        return own(x)
    slope = partial(lambda x: tensor(metric, x), x, _way(metric, x, 1))
    return _raise(tensor(metric, x), _lowered(slope))


def riemann(metric: Metric, x: Tensor) -> Tensor:
    """R_ijkl = ½ (∂_j∂_k G_il + ∂_i∂_l G_jk − ∂_j∂_l G_ik − ∂_i∂_k G_jl) + G_ab (Γ^a_jk Γ^b_il − Γ^a_jl Γ^b_ik).

    (m, d, d, d, d), all indices lowered: R_ijkl = G_ik G_jl − G_il G_jk on the unit sphere.
    """
    own = _own(metric, "riemann")
    if own:
        return own(x)
    way = _way(metric, x, 2)

    def slope(x: Tensor) -> Tensor:
        return partial(lambda x: tensor(metric, x), x, way)

    lowered = _lowered(slope(x))
    raised = _raise(tensor(metric, x), lowered)
    bend = partial(slope, x, way)  # [m, a, b, i, j] = ∂_a ∂_b G_ij
    half = torch.einsum("mjkil->mijkl", bend) - torch.einsum("mjlik->mijkl", bend)
    half = (half - half.transpose(1, 2)) / 2
    product = torch.einsum("majk,mail->mijkl", raised, lowered)
    return half + product - product.transpose(3, 4)


def _lowered(slope: Tensor) -> Tensor:
    """Γ_lij = ½ (∂_i G_jl + ∂_j G_il − ∂_l G_ij), (m, d, d, d), indices [l, i, j]."""
    first = torch.einsum("mijl->mlij", slope)
    return (first + first.transpose(2, 3) - slope) / 2


def _raise(g: Tensor, lowered: Tensor) -> Tensor:
    """G^kl Γ_lij."""
    return torch.linalg.solve_ex(g, lowered.flatten(2))[0].view_as(lowered)


def proper(g: Tensor) -> Tensor:
    """Where G (m, d, d) is finite and positive definite to the precision of its numbers, (m,) bool."""
    factor, failed = torch.linalg.cholesky_ex(torch.nan_to_num(g, nan=-1.0, posinf=-1.0, neginf=-1.0))
    own = g.diagonal(dim1=1, dim2=2)
    pivots = factor.diagonal(dim1=1, dim2=2).square()
    sound = (pivots > g.shape[1] * torch.finfo(g.dtype).eps * own).all(1)
    return (failed == 0) & sound & g.flatten(1).isfinite().all(1)


def checked(metric: Metric, x: Tensor) -> Tensor:
    """G (m, d, d) at x (m, d).

    Raises:
        ValueError: it is not finite, not symmetric or not positive definite; the first such point is named.
    """
    g = tensor(metric, x)
    _refuse(~g.flatten(1).isfinite().all(1), "finite", x, "; is the point outside the chart?")
    skew = (g - g.mT).abs().amax((1, 2))
    _refuse(skew > torch.finfo(g.dtype).eps ** 0.5 * g.abs().amax((1, 2)), "symmetric", x)
    _refuse(~proper(g), "positive definite", x)
    return g


def _refuse(bad: Tensor, what: str, x: Tensor, hint: str = "") -> None:
    if bad.any():
        raise ValueError(f"the metric is not {what} at {name(x[bad][0])}{hint}")


def name(point: Tensor) -> str:
    """The coordinates of a point (d,), the first eight of many.

    Example:
        >>> name(torch.tensor([0.25, -1.0]))
        '(0.25, -1)'
    """
    shown = [f"{value:.6g}" for value in point[:8].tolist()]
    return f"({', '.join(shown + ['...'] * (len(point) > 8))})"
