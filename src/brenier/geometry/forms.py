"""Functions whose higher derivatives torch gets wrong, or does not have, written with others that it has right.

torch 2.13 keeps what a normalisation or a factorisation has computed as a constant when it differentiates again: nested
forward mode and reverse over forward mode are wrong for `layer_norm`, `instance_norm`, `solve`, `det`, `slogdet` and
`logdet`, the third derivative of `layer_norm` is wrong in every mode, and the first of `cholesky_inverse` in forward
mode. Attention, `cdist`, `glu` and `huber_loss` have no forward or no second derivatives, `mish` none under `vmap`.
Whatever calls them, a network or a metric runs with the formulas below while it is differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class SolvedEx(NamedTuple):
    """What `torch.linalg.solve_ex` returns."""

    result: Tensor
    info: Tensor


class SignLogDet(NamedTuple):
    """What `torch.linalg.slogdet` returns."""

    sign: Tensor
    logabsdet: Tensor


def _standard(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    """(x − mean) / √(variance + eps) over some of the sides."""
    apart = x - x.mean(dims, keepdim=True)
    return apart * (apart.square().mean(dims, keepdim=True) + eps).rsqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _channels(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    shape = (-1, *[1] * (x.ndim - 2))
    return _affine(x, *(None if a is None else a.view(shape) for a in (weight, bias)))


def layer_norm(
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    """`F.layer_norm` (whose last argument, of cuDNN, means nothing here).

    Example:
        >>> layer_norm(torch.tensor([[-1.0, 1.0]]), (2,))
        tensor([[-1.0000,  1.0000]])
    """
    return _affine(_standard(x, tuple(range(-len(normalized_shape), 0)), eps), weight, bias)


def _rms_norm(x: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    dims, least = tuple(range(-len(normalized_shape), 0)), torch.finfo(x.dtype).eps if eps is None else eps
    return _affine(x * (x.square().mean(dims, keepdim=True) + least).rsqrt(), weight, None)


def _group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    groups = x.reshape(x.shape[0], num_groups, -1)
    return _channels(_standard(groups, (2,), eps).reshape(x.shape), weight, bias)


def _instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    if not use_input_stats:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return _channels(_standard(x, tuple(range(2, x.ndim)), eps), weight, bias)


def _solve(a: Tensor, b: Tensor, *, left: bool = True) -> Tensor:
    column = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    factors = torch.linalg.lu_factor(a)
    found = torch.linalg.lu_solve(*factors, b[..., None] if column else b, left=left)
    return found[..., 0] if column else found


def _solve_ex(a: Tensor, b: Tensor, *, left: bool = True, check_errors: bool = False) -> SolvedEx:
    info = torch.linalg.inv_ex(a.detach(), check_errors=check_errors)[1]
    return SolvedEx(_solve(a, b, left=left), info)


def _pivots(a: Tensor) -> tuple[Tensor, Tensor]:
    """The diagonal of U in A = P L U, and det P."""
    packed, order = torch.linalg.lu_factor_ex(a)[:2]
    moved = order != torch.arange(1, a.shape[-1] + 1, device=a.device)
    return packed.diagonal(dim1=-2, dim2=-1), 1 - 2 * (moved.sum(-1) % 2).to(a.dtype)


def det(a: Tensor) -> Tensor:
    """`torch.linalg.det`, the product of the pivots.

    Example:
        >>> det(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))
        tensor(-2.)
    """
    pivots, sign = _pivots(a)
    return pivots.prod(-1) * sign


def _slogdet(a: Tensor) -> SignLogDet:
    pivots, sign = _pivots(a)
    return SignLogDet(pivots.sign().prod(-1) * sign, pivots.square().log().sum(-1) / 2)


def _logdet(a: Tensor) -> Tensor:
    sign, size = _slogdet(a)
    return torch.where(sign > 0, size, torch.where(sign < 0, torch.nan, -torch.inf))


def _cholesky_inverse(factor: Tensor, upper: bool = False) -> Tensor:
    triangle = factor.triu() if upper else factor.tril()
    return torch.linalg.inv(triangle.mT @ triangle if upper else triangle @ triangle.mT)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if enable_gqa:
        key, value = (a.repeat_interleave(query.shape[-3] // a.shape[-3], -3) for a in (key, value))
    scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        hidden = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if hidden else scores + attn_mask
    return F.dropout(torch.softmax(scores, -1), dropout_p) @ value


def _multi_head(*args: Any, **named: Any) -> tuple[Tensor, Tensor | None]:
    """Asked for its weights, it computes them by a softmax."""
    call = SIGNATURE.bind(*args, **named)
    wanted = call.arguments.get("need_weights", True)
    call.arguments["need_weights"] = True
    attended, weights = F.multi_head_attention_forward(*call.args, **call.kwargs)
    return attended, weights if wanted else None


def _cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "") -> Tensor:
    return torch.linalg.vector_norm(x1[..., :, None, :] - x2[..., None, :, :], p, dim=-1)


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    half = x.shape[dim] // 2
    if x.shape[dim] % 2:
        raise ValueError(f"glu halves a side, got one of {x.shape[dim]}")
    return x.narrow(dim, 0, half) * torch.sigmoid(x.narrow(dim, half, half))


def _huber(x: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Tensor:
    apart = x - target
    size = torch.where(apart < 0, -apart, apart)
    loss = torch.where(size < delta, apart.square() / 2, delta * (size - delta / 2))
    loss = loss if weight is None else loss * weight
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


SIGNATURE = signature(F.multi_head_attention_forward)
FORMS: dict[Any, Callable[..., Any]] = {
    form: rule
    for forms, rule in (
        ((F.layer_norm, torch.layer_norm), layer_norm),
        ((F.rms_norm, torch.rms_norm), _rms_norm),
        ((F.group_norm, torch.group_norm), _group_norm),
        ((F.instance_norm,), _instance_norm),
        ((torch.linalg.solve,), _solve),
        ((torch.linalg.solve_ex,), _solve_ex),
        ((torch.linalg.det, torch.det, Tensor.det), det),
        ((torch.linalg.slogdet, torch.slogdet, Tensor.slogdet), _slogdet),
        ((torch.logdet, Tensor.logdet), _logdet),
        ((torch.cholesky_inverse, Tensor.cholesky_inverse), _cholesky_inverse),
        ((F.scaled_dot_product_attention,), _attention),
        ((F.multi_head_attention_forward,), _multi_head),
        ((torch.cdist,), _cdist),
        ((F.glu,), _glu),
        ((F.mish,), lambda x, inplace=False: x * torch.tanh(F.softplus(x))),
        ((F.huber_loss,), _huber),
    )
    for form in forms
}


class Plain(TorchFunctionMode):
    """Runs the functions of `FORMS` by their formulas, the rest as it is."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        named = dict(kwargs or {})
        form = FORMS.get(func)
        if form is None or named.get("out") is not None:
            return func(*args, **named)
        if not args and "input" in named:
            args = (named.pop("input"),)
        return form(*args, **named)
