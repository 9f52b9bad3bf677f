"""The Fisher matrix of a model at a batch, exact, by samples or empirical, in any structure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from brenier.checks import whole
from brenier.information import parallel
from brenier.information.blocks import Block, Dense, Diagonal, Kronecker, LowRank, Products
from brenier.information.factors import Pass, covered
from brenier.information.layers import Layer
from brenier.information.likelihood import Likelihood, named, scale
from brenier.information.linearise import Linearised, Values, unwrapped
from brenier.information.operator import Fisher, check_damping, refuse_large

KINDS = ("exact", "mc", "empirical")
STRUCTURES = ("auto", "dense", "woodbury", "cg", "block", "diagonal", "kfac", "ekfac")
SMALL, FEW = 2_000, 4_000  # parameters of a dense matrix, columns of a low-rank one, where the choice is automatic
Blocks = list[tuple[tuple[str, ...], Block]]


class Part(NamedTuple):
    """A batch and fields s (m, ...) of its outputs: F = c Σ_i J_iᵀ (Σ s_i s_iᵀ) J_i; `exact` if they are all of it."""

    at: Linearised
    likelihood: Likelihood
    fields: list[Tensor]
    exact: bool

    def product(self, v: Values) -> Values:
        """F v without c."""
        image = self.at.jvp(v)
        if self.exact:
            return self.at.vjp(self.likelihood.times(self.at.outputs, image))
        inner = [(s * image).flatten(1).sum(1).reshape(-1, *[1] * (s.ndim - 1)) for s in self.fields]
        return self.at.vjp(torch.stack([s * along for s, along in zip(self.fields, inner, strict=True)]).sum(0))


def fields(
    likelihood: Likelihood, outputs: Tensor, kind: str, targets: Tensor | None, draws: int, generator: torch.Generator
) -> list[Tensor]:
    """Fields s with Σ s_i s_iᵀ = ∇²A(o_i), exactly or on average, or those of the given targets."""
    if kind == "exact":
        return list(likelihood.root(outputs))
    if kind == "empirical":
        assert targets is not None
        return [likelihood.mean(outputs) - targets]
    mean = likelihood.mean(outputs)
    return [(mean - likelihood.sample(outputs, generator)) / draws**0.5 for _ in range(draws)]


def fisher(
    model: nn.Module,
    x: Any,
    y: Tensor | None = None,
    *,
    likelihood: str | Likelihood = "categorical",
    fisher: str = "exact",
    structure: str = "auto",
    damping: float = 0.0,
    draws: int = 1,
    generator: torch.Generator | int = 0,
    tol: float = 1e-6,
    max_iterations: int = 1000,
) -> Fisher:
    """The Fisher matrix F = 1/M Σ_i E[∇log p(y|x_i) ∇log p(y|x_i)ᵀ] of a model at a batch, over its free parameters.

    M is the number of labels of the batch, so F belongs to a loss that is their mean: m samples, for "categorical" all
    axes but that of the classes. With natural parameters as outputs it is the Gauss–Newton matrix 1/M Jᵀ ∇²A J too.

    Args:
        model: any module with one tensor of outputs (m, ...), in the mode that it is in.
        x: the batch; a tuple of arguments, or a dict of named ones.
        y: labels, for "empirical" alone.
        likelihood: "categorical" (logits along the last axis), "bernoulli" (logits), "gaussian" (means, variance 1).
        fisher: "exact": over all labels; "mc": over `draws` labels drawn from the model for each sample, by
            `generator`; "empirical": over the labels y, which is another matrix unless the model is right.
        structure: "dense"; "woodbury": B Bᵀ with a column for every label; "cg": products alone, the solution to `tol`
            by conjugate gradients; "block": an exact block for every module; "diagonal"; "kfac", "ekfac": Kronecker
            factors for linear, convolutional and embedding layers, the exact diagonal for what is left, as `coverage`
            says; "auto": "dense" up to 2,000 parameters, "woodbury" up to 4,000 columns, else "cg".
        damping: λ of `solve`.

    Raises:
        ValueError: an unknown name, outputs that are not the likelihood's, no free parameters, or of several dtypes or
            devices, y missing or of another shape, NaN or Inf among outputs.
        TypeError: the model does not return one tensor.

    Source: Amari, Neural Computation 1998; Kunstner, Balles and Hennig, NeurIPS 2019 (empirical); Martens, JMLR 2020.

    Example:
        >>> model, x = nn.Linear(1, 1, bias=False), torch.tensor([[1.0], [3.0]])
        >>> F = fisher(model, x, likelihood="gaussian")
        >>> F.dense(), F @ torch.ones(1), F.solve(torch.ones(1))
        (tensor([[5.]]), tensor([5.]), tensor([0.2000]))
    """
    one_of("fisher", fisher, KINDS)
    one_of("structure", structure, STRUCTURES)
    check_damping(damping)
    family, draws = named(likelihood), whole("draws", draws, 1)
    names = free_names(model)
    if (inner := unwrapped(model)) is not model:
        model, names = inner, free_names(inner)
    args, kwargs = ((), x) if isinstance(x, dict) else (x if isinstance(x, tuple) else (x,), {})
    at = Linearised(model, args, kwargs, names)
    family.check(at.outputs)
    if not bool(at.outputs.isfinite().all()):
        raise ValueError("the outputs of the model are not finite")
    if (fisher == "empirical") != (y is not None):
        raise ValueError(
            f"labels y belong to fisher='empirical', got fisher={fisher!r} {'with' if y is not None else 'without'} y"
        )
    seed = torch.Generator().manual_seed(generator) if isinstance(generator, int) else generator
    targets = None if y is None else family.targets(at.outputs, y)
    if structure == "auto":
        structure = chosen(sum(value.numel() for value in at.parameters.values()), at.outputs, fisher, draws)
    found = [] if structure == "cg" and fisher == "exact" else fields(family, at.outputs, fisher, targets, draws, seed)
    part = Part(at, family, found, fisher == "exact")
    blocks = build([part], structure, scale(family, [at.outputs], "samples"), tol, max_iterations)
    return Fisher(at.parameters, blocks, damping)


def chosen(p: int, outputs: Tensor, kind: str, draws: int) -> str:
    """The structure for p parameters."""
    columns = outputs.numel() if kind == "exact" else len(outputs) * draws
    if p <= SMALL:
        return "dense"
    return "woodbury" if columns <= FEW and columns * p < 2**28 else "cg"


def build(parts: list[Part], structure: str, c: float, tol: float, max_iterations: int) -> Blocks:
    """The blocks of F = c Σ over the parts, the mean over processes."""
    names = parts[0].at.names
    if structure == "cg":
        return [(tuple(names), Products(lambda v: _product(parts, c, v), _size(parts, names), tol, max_iterations))]
    if structure == "woodbury":
        columns = torch.cat([c**0.5 * block for block in _columns(parts, names)], 1)
        return [(tuple(names), LowRank(parallel.joined_columns(columns)))]
    if structure == "dense":
        return [(tuple(names), _dense(parts, names, c))]
    if structure == "block":
        return [(group, _dense(parts, list(group), c)) for group in _modules(names)]
    if structure == "diagonal":
        return _diagonal(parts, names, c)
    layers = covered(parts[0].at, torch.Generator().manual_seed(0))
    if not layers:
        raise ValueError(
            f"structure={structure!r} needs a linear, convolutional or embedding layer that is used by itself, "
            "the model has none: take 'diagonal', 'block' or 'cg'"
        )
    left = [name for name in names if all(name not in layer.names for layer in layers)]
    return [*_kronecker(parts[0], layers, c, structure == "ekfac"), *(_diagonal(parts, left, c) if left else [])]


def _kronecker(part: Part, layers: list[Layer], c: float, eigenvalues: bool) -> Blocks:
    run = Pass.of(part.at, layers, part.fields, [])
    blocks: Blocks = []
    for k, layer in enumerate(layers):
        block = Kronecker.of_factors(*run.factors(k, c), layer.bias)
        if eigenvalues:
            block = Kronecker(block.left, block.right, run.scales(k, block, c), layer.bias)
        blocks.append((layer.names, block))
    return blocks


def _dense(parts: list[Part], names: list[str], c: float) -> Dense:
    refuse_large(_size(parts, names))
    products = (block @ block.T for block in _columns(parts, names))
    total = next(products)
    for product in products:
        total += product
    return Dense(parallel.mean(c * total))


def _diagonal(parts: list[Part], names: list[str], c: float) -> Blocks:
    total = c * torch.stack([block.square().sum(1) for block in _columns(parts, names)]).sum(0)
    sizes = [parts[0].at.parameters[name].numel() for name in names]
    split = zip(names, parallel.mean(total).split(sizes), strict=True)
    return [((name,), Diagonal(values)) for name, values in split]


def _product(parts: list[Part], c: float, v: Tensor) -> Tensor:
    parameters = parts[0].at.parameters
    pieces = v.split([value.numel() for value in parameters.values()])
    values = {name: piece.reshape(parameters[name].shape) for name, piece in zip(parameters, pieces, strict=True)}
    images = [part.product(values) for part in parts]
    flat = [torch.cat([image[name].reshape(-1) for name in parameters]) for image in images]
    return parallel.mean(c * torch.stack(flat).sum(0))


def _columns(parts: list[Part], names: list[str]) -> Iterable[Tensor]:
    return (block for part in parts for block in part.at.columns(part.fields, names))


def _size(parts: list[Part], names: list[str]) -> int:
    return sum(parts[0].at.parameters[name].numel() for name in names)


def _modules(names: list[str]) -> list[tuple[str, ...]]:
    """The names by module."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    return [tuple(group) for group in groups.values()]


def free_names(model: nn.Module) -> list[str]:
    """The parameters that require gradients, all of one dtype on one device."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module, got {type(model).__name__}")
    free = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not free:
        raise ValueError("the model has no parameter that requires a gradient")
    check_alike(free)
    return list(free)


def check_alike(parameters: dict[str, Any]) -> None:
    """One dtype, which linear algebra is made for, and one device."""
    (first, one), *others = parameters.items()
    if one.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"parameters must be float32 or float64 (autocast may be coarser), got {one.dtype} for {first}"
        )
    for name, parameter in others:
        if (parameter.dtype, parameter.device) != (one.dtype, one.device):
            raise ValueError(
                f"parameters must have one dtype and device, got {one.dtype} on {one.device} for {first} and "
                f"{parameter.dtype} on {parameter.device} for {name}"
            )


def one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    """`value` is among them."""
    if value not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}, got {value!r}")
