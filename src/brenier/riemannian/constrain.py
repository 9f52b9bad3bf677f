"""Weights that stay on a manifold, whatever optimiser moves them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import geoopt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from brenier.riemannian.base import Checked
from brenier.riemannian.matrices import Grassmann, Stiefel
from brenier.riemannian.positive import SPD
from brenier.riemannian.vectors import PoincareBall, Sphere

MANIFOLDS = {"stiefel": Stiefel, "grassmann": Grassmann, "sphere": Sphere, "spd": SPD, "ball": PoincareBall}


def named(manifold: str | geoopt.Manifold) -> geoopt.Manifold:
    """The manifold of a name: stiefel, grassmann, sphere, spd, ball; a manifold passes.

    Raises:
        ValueError: no such name. TypeError: neither a name nor a manifold of this package.
    """
    if isinstance(manifold, Checked):
        return manifold
    if not isinstance(manifold, str):
        raise TypeError(f"a constraint must be a manifold of this package or its name, got {type(manifold).__name__}")
    if manifold not in MANIFOLDS:
        raise ValueError(f"a constraint must be one of {', '.join(MANIFOLDS)}, got {manifold!r}")
    return MANIFOLDS[manifold]()


def constrain(module: nn.Module, name: str, manifold: str | geoopt.Manifold) -> nn.Module:
    """Keep the parameter `name` of a module on a manifold from now on; any optimiser may move it.

    The weight is what the module reads; the parameter below it is pulled back to the manifold whenever it is read,
    and its gradient is tangent. So a step of any optimiser is followed by the projection, a retraction: plain SGD
    becomes Riemannian gradient descent, Adam keeps its moments in the coordinates of the space around.

    For manifolds of matrices a weight (out, ...) is seen as the matrix (out, rest): convolutions are flattened. Stiefel
    and Grassmann take it tall: rows are orthonormal where out < rest. For manifolds of vectors the last axis counts.

    `state_dict` holds the parameter as `parametrizations.<name>.original`; load it into a module constrained alike, and
    `torch.nn.utils.parametrize.remove_parametrizations` makes it an ordinary weight again.

    Returns:
        The module, changed in place.

    Raises:
        ValueError: the module has no such parameter, it is constrained already, or has a shape the manifold lacks.

    Example:
        >>> layer = constrain(nn.Linear(8, 3), "weight", "stiefel")
        >>> float(constraint_error(layer)) < 1e-6
        True
    """
    space = named(manifold)
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"{type(module).__name__} has no parameter {name!r} to constrain")
    if parametrize.is_parametrized(module, name):
        raise ValueError(f"{name} of {type(module).__name__} is constrained already")
    if not isinstance(weight, nn.Parameter):
        raise ValueError(f"{name} of {type(module).__name__} is no parameter")
    tied = OnManifold(space, tuple(weight.shape))
    ok, reason = space.check_point(tied.points(weight), explain=True)
    if not ok:
        raise ValueError(f"{name} of shape {tuple(weight.shape)} can't lie on {space.name}: {reason}")
    parametrize.register_parametrization(module, name, tied)
    return module


def constrain_layers(network: nn.Module, constraints: str | Mapping[str, str]) -> list[nn.Module]:
    """Constrain weights by the names of their layers, {"encoder.body.0": "stiefel"}, and give the layers back.

    A manifold's name alone stands for the last linear layer of the network's `encoder`, or of the network.

    Raises:
        ValueError: the network has no such layer, or a constraint doesn't fit its weight.
    """
    if isinstance(constraints, str):
        linear = [m for m in getattr(network, "encoder", network).modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise ValueError(f"{type(network).__name__} has no linear layer to constrain to {constraints!r}")
        return [constrain(linear[-1], "weight", constraints)]
    layers = dict(network.named_modules())
    for name in constraints:
        if name not in layers:
            known = ", ".join(key for key, m in layers.items() if isinstance(getattr(m, "weight", None), nn.Parameter))
            raise ValueError(f"constraints must name a layer, one of {known}, got {name!r}")
    return [constrain(layers[name], "weight", manifold) for name, manifold in constraints.items()]


def constraint_error(module: nn.Module) -> float:
    """The largest distance of the weights of a module from their manifolds, 0 where nothing is constrained.

    max |wᵀw − I| for Stiefel and Grassmann, max ||w| − 1| for the sphere, as each manifold's `error`.
    """
    worst = 0.0
    for part in module.modules():
        for name, chain in getattr(part, "parametrizations", {}).items():
            for tied in chain:
                if isinstance(tied, OnManifold):
                    with torch.no_grad():
                        worst = max(worst, float(tied.error(getattr(part, name)).amax()))
    return worst


class OnManifold(nn.Module):
    """A parametrisation: the parameter itself is moved to the nearest point of the manifold, then read."""

    def __init__(self, manifold: geoopt.Manifold, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.manifold, self.shape = manifold, shape
        self.flat = manifold.ndim == 2 and len(shape) >= 2
        self.wide = self.flat and not isinstance(manifold, SPD) and shape[0] < math.prod(shape[1:])

    def points(self, weight: Tensor) -> Tensor:
        """The weight as points of the manifold."""
        if not self.flat:
            return weight
        matrix = weight.flatten(1)
        return matrix.mT if self.wide else matrix

    def weights(self, points: Tensor) -> Tensor:
        """Points in the shape of the weight."""
        return (points.mT if self.wide else points).reshape(self.shape) if self.flat else points

    def error(self, weight: Tensor) -> Tensor:
        """How far each point is off."""
        return self.manifold.error(self.points(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, on the manifold; a parameter that has left it is moved there too."""
        with torch.no_grad():
            if not bool((self.error(weight) <= 4 * torch.finfo(weight.dtype).eps).all()):
                weight.copy_(self.weights(self.manifold.projx(self.points(weight))))
        return self.weights(_Tangent.apply(self.points(weight), self.manifold))

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The parameter of a weight: itself."""
        return weight.clone()


class _Tangent(torch.autograd.Function):
    """The identity on points of a manifold; the gradient is projected on the tangent space.

    That is the derivative of the projection on the manifold, at its own points.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(points: Tensor, manifold: Any) -> Tensor:
        return points.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Any], output: Tensor) -> None:
        ctx.manifold = inputs[1]
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.manifold.proju(ctx.saved_tensors[0], grads[0]), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return ctx.manifold.proju(ctx.saved_tensors[0], tangents[0])
