"""Natural gradient as an optimiser of torch."""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from brenier.checks import whole
from brenier.information.capture import Call, Catcher
from brenier.information.curvature import Curvature
from brenier.information.fisher import KINDS, STRUCTURES, check_alike, one_of
from brenier.information.likelihood import REDUCTIONS, Likelihood, named, scale
from brenier.information.linearise import Linearised, Values, mapped, unwrapped
from brenier.information.operator import check_damping
from brenier.information.trust import REFUSED, Model, Piece, adapted

RANGE = 1e10  # λ stays within this factor of where it began
OWN = {"adaptive", "likelihood", "reduction", "momentum", "kl_clip", "curvature", "damping"}
OWN |= {"_typical", "_divisible", "_outer"}  # what a copy takes along


class NaturalGradient(Optimizer):
    """θ ← θ − lr (F + λ)⁻¹ ∇L, with the Fisher matrix F of the model's own answers.

    The usual loop: `zero_grad()`, `loss = ...model(x)...`, `loss.backward()`, `step()`. Hooks on the model catch its
    inputs and outputs, and the gradient at its outputs, which tells the targets; nothing else is asked for.

    Args:
        model: a module with one tensor of outputs (m, ...), samples along the first axis.
        params: parameters of the model or groups of them, with `lr`, `weight_decay` or `damping` of their own; all by
            default. Frozen and unused ones are passed over.
        lr: the factor of the step.
        likelihood: "categorical" for `cross_entropy`, "bernoulli" for `binary_cross_entropy_with_logits`, "gaussian"
            for `mse_loss`, or an object, as `Categorical(axis=1)`.
        reduction: how the loss is summed: "mean" and "sum" as torch's own losses are; "samples": −log p of a sample,
            so half of a squared error, and its mean over samples. F is that of the loss, so it has the same factor.
        fisher: "exact", "mc" (labels drawn from the model), "empirical" (the labels of the data); "auto": "mc" for
            "kfac", "ekfac" and "diagonal", else "exact".
        structure: as of `fisher`; "auto": "dense" up to 1,000 parameters, "woodbury" while its kernel is small, "kfac"
            if its layers hold half of the parameters, else "cg".
        damping: λ, or "lm": λ follows Levenberg and Marquardt's rule from the loss before and after each step on the
            samples at hand, and the quadratic model of the loss chooses the length of the step and its momentum; a
            step that raises the loss there is undone. 0 gives the pseudo-inverse.
        momentum: with a number for λ, the factor of the step before. "lm" chooses it, unless it is 0.
        weight_decay: η of a term η|θ|²/2, in gradient and curvature.
        factor_every, inverse_every: steps between new factors, and between their inverses ("kfac", "ekfac").
        kl_clip: with a number for λ, the most that δᵀFδ may be.
        max_iterations, tol: of conjugate gradients ("cg"), which start at the step before and are cut off there.
        seed: of the drawn labels.

    `coverage` says what stands for each parameter after the first step; `damping` is λ.

    Raises:
        ValueError: an unknown name or a number out of range; in `step`, a gradient that is not finite, or one at the
            outputs that is not that of the likelihood and reduction, parameters of several dtypes or devices.
        RuntimeError: a step without a forward and backward pass of the model before it.
        ArithmeticError: F + λ is not positive definite in its precision.

    Source: Amari 1998; Martens and Grosse, ICML 2015 (K-FAC, its damping, step and momentum); Martens, ICML 2010 (CG).

    Example:
        >>> x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
        >>> y = x @ torch.tensor([[1.0], [2.0], [3.0]]) - 1
        >>> model = nn.Linear(3, 1)
        >>> optimiser = NaturalGradient(model, likelihood="gaussian", structure="dense", damping=0.0)
        >>> torch.nn.functional.mse_loss(model(x), y).backward()
        >>> optimiser.step()
        >>> bool(torch.nn.functional.mse_loss(model(x), y) < 1e-10)
        True
    """

    def __init__(
        self,
        model: nn.Module,
        params: Iterable[Any] | None = None,
        *,
        lr: float = 1.0,
        likelihood: str | Likelihood = "categorical",
        reduction: str = "mean",
        fisher: str = "auto",
        structure: str = "auto",
        damping: str | float = "lm",
        momentum: float | None = None,
        weight_decay: float = 0.0,
        factor_every: int = 1,
        inverse_every: int = 20,
        kl_clip: float | None = None,
        max_iterations: int = 50,
        tol: float = 1e-4,
        seed: int = 0,
    ) -> None:
        one_of("fisher", fisher, ("auto", *KINDS))
        one_of("structure", structure, STRUCTURES)
        one_of("reduction", reduction, REDUCTIONS)
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch module, got {type(model).__name__}")
        if isinstance(damping, str) and damping != "lm":
            raise ValueError(f"damping must be 'lm' or a number, got {damping!r}")
        self.adaptive = damping == "lm"
        if self.adaptive and (momentum or kl_clip is not None):
            raise ValueError(
                "damping='lm' chooses step and momentum: give a number for damping, or no momentum and kl_clip"
            )
        check_damping(0.0 if isinstance(damping, str) else damping)
        for name, value in (("lr", lr), ("weight_decay", weight_decay), ("momentum", momentum or 0.0)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be 0 or positive and finite, got {value}")
        if kl_clip is not None and not kl_clip > 0:
            raise ValueError(f"kl_clip must be positive, got {kl_clip}")
        self.model, self.likelihood, self.reduction = unwrapped(model), named(likelihood), reduction
        self.momentum, self.kl_clip = momentum, kl_clip
        self.curvature = Curvature(
            self.likelihood,
            fisher,
            structure,
            factor_every=whole("factor_every", factor_every, 1),
            inverse_every=whole("inverse_every", inverse_every, 1),
            tol=tol,
            max_iterations=whole("max_iterations", max_iterations, 1),
            seed=seed,
        )
        self._names = {parameter: name for name, parameter in self.model.named_parameters()}
        self.damping: float | None = None if isinstance(damping, str) else damping
        self._typical = 0.0
        self._divisible: bool | None = None
        super().__init__(
            list(self._names) if params is None else params,
            {"lr": lr, "weight_decay": weight_decay, "damping": self.damping},
        )
        strange = sum(parameter not in self._names for group in self.param_groups for parameter in group["params"])
        if strange:
            raise ValueError(f"params must be parameters of the model, got {strange} that are not")
        self._watch(model)

    def _watch(self, model: nn.Module) -> None:
        self._outer, self._catcher = model, Catcher(model)
        weakref.finalize(self, self._catcher.remove)

    def __getstate__(self) -> dict[str, Any]:
        own = {key: value for key, value in self.__dict__.items() if key in OWN}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_outer" in state:  # a copy; `load_state_dict` comes this way too
            self.model = unwrapped(self._outer)
            self._names = {parameter: name for name, parameter in self.model.named_parameters()}
            self._watch(self._outer)

    @property
    def coverage(self) -> dict[str, str]:
        """What stands for each parameter; empty before the first step."""
        return self.curvature.coverage

    def __repr__(self) -> str:
        kinds: dict[str, int] = {}
        for kind in self.coverage.values():
            kinds[kind] = kinds.get(kind, 0) + 1
        held = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "before the first step"
        settings = f"{self.likelihood.name}, {self.curvature.structure}, damping={self.damping}"
        return f"NaturalGradient({settings}, tensors: {held})"

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients, and the forward passes that they are of."""
        self._catcher.calls.clear()
        super().zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, scale: float = 1.0) -> Any:
        """One step; `scale` is the factor that the loss of `backward` had, as `scaler.get_scale()`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        active = self._active()
        calls = self._calls()
        self._step(active, calls, scale)
        return loss

    def _active(self) -> dict[str, nn.Parameter]:
        known = {p for group in self.param_groups for p in group["params"] if p.requires_grad and p.grad is not None}
        active = {name: p for p, name in self._names.items() if p in known}
        if not active:
            raise RuntimeError("no parameter has a gradient: call loss.backward() before step()")
        check_alike(active)
        gradients = {name: _dense(p) for name, p in active.items()}
        if not bool(torch.nn.utils.get_total_norm(gradients.values()).isfinite()):
            for name, gradient in gradients.items():
                if not bool(gradient.isfinite().all()):
                    raise ValueError(f"the gradient of {name} is not finite")
        return active

    def _calls(self) -> list[Call]:
        calls = self._catcher.take()
        if not calls:
            strange = self._catcher.strange
            if strange is not None:
                raise TypeError(f"the model must return one tensor, got {strange}")
            raise RuntimeError("no forward pass of the model is part of a loss.backward() since the last step")
        return calls

    def _step(self, active: dict[str, nn.Parameter], calls: list[Call], factor: float) -> None:
        groups = {self._names[p]: group for group in self.param_groups for p in group["params"]}
        pieces = self._pieces(list(active), calls, factor)
        c = scale(self.likelihood, [piece.targets for piece in pieces], self.reduction)
        gradient = {name: _dense(p) + groups[name]["weight_decay"] * p.detach() for name, p in active.items()}
        model = None
        if self.adaptive:
            if self._divisible is None:
                self._divisible = all(piece.at.divisible() for piece in pieces)
            model = Model(pieces, self.likelihood, self.reduction, self._divisible)
            if self.damping is None:
                self.damping = self._typical = model.typical(self.curvature.generator) or 1.0
        damping = {
            name: (self.damping if self.adaptive else groups[name]["damping"]) + groups[name]["weight_decay"]
            for name in active
        }
        starts = self.momentum or self.adaptive or self.curvature.structure == "cg"
        before = self._before(list(active)) if starts else None
        smooth = self.adaptive and self.momentum != 0
        direction = self.curvature.direction(pieces, c, gradient, damping, before, smooth)
        lrs = {name: float(groups[name]["lr"]) for name in active}
        if model is None:
            self._move(active, gradient, direction, before, lrs)
        else:
            self._trust(active, model, gradient, direction, before, damping, lrs)

    def _pieces(self, names: list[str], calls: list[Call], factor: float) -> list[Piece]:
        pieces = []
        for call in calls:
            self.likelihood.check(call.outputs)
        c = factor * scale(self.likelihood, [call.outputs for call in calls], self.reduction)
        for call in calls:
            at = Linearised(self.model, call.args, call.kwargs, names, call.rng)
            assert call.gradient is not None
            outputs, slope = (x.to(at.like.dtype) for x in (call.outputs, call.gradient))
            if call.gradient.dtype == at.like.dtype:
                self.likelihood.check_factor(outputs, slope / c)
            if call.outputs.dtype == at.like.dtype:
                at.outputs = outputs
            pieces.append(Piece(at, self.likelihood.recovered(outputs, slope, c)))
        return pieces

    def _before(self, names: list[str]) -> Values | None:
        """The step before, if every parameter has one."""
        known = {name: p for p, name in self._names.items()}
        found = {name: self.state[known[name]].get("before") for name in names}
        return None if any(value is None for value in found.values()) else found

    def _remember(self, active: dict[str, nn.Parameter], step: Values | None) -> None:
        for name, p in active.items():
            self.state[p]["before"] = None if step is None else torch.empty_like(p).copy_(step[name])

    def _move(
        self,
        active: dict[str, nn.Parameter],
        gradient: Values,
        direction: Values,
        before: Values | None,
        lrs: dict[str, float],
    ) -> None:
        """θ ← θ − lr v, v = (F + λ)⁻¹ g + momentum v."""
        step = {name: -value for name, value in direction.items()}
        if self.kl_clip is not None:
            size = -sum(lrs[name] ** 2 * float((gradient[name] * step[name]).sum()) for name in active)
            shrink = min(1.0, (self.kl_clip / size) ** 0.5) if size > 0 else 1.0
            step = {name: shrink * value for name, value in step.items()}
        if self.momentum and before is not None:
            step = {name: step[name] + self.momentum * before[name] for name in active}
        if self.momentum or self.curvature.structure == "cg":
            self._remember(active, step)
        for name, p in active.items():
            p.add_(step[name], alpha=lrs[name])

    def _trust(
        self,
        active: dict[str, nn.Parameter],
        model: Model,
        gradient: Values,
        direction: Values,
        before: Values | None,
        damping: dict[str, float],
        lrs: dict[str, float],
    ) -> None:
        """The best combination of the new direction and the step before; then λ."""
        most, damped = max(lrs.values()), self.damping
        assert damped is not None
        if most == 0:
            return
        directions = [{name: -lrs[name] / most * direction[name] for name in active}]
        directions += [] if before is None or self.momentum == 0 else [before]
        factors, linear, quadratic = model.combined(directions, gradient, damping)
        pairs = list(zip(factors, directions, strict=True))
        step = {name: torch.stack([f * d[name] for f, d in pairs]).sum(0) for name in active}
        moved = {name: p.detach() + most * step[name] for name, p in active.items()}
        decayed = self._decay(moved) - self._decay({name: p.detach() for name, p in active.items()})
        here, there = model.loss(), model.loss(moved)
        change, rounding = there - here + decayed, torch.finfo(next(iter(moved.values())).dtype).eps * abs(here)
        accepted = change <= rounding
        predicted = most * linear + most**2 * quadratic / 2 + decayed
        follows = adapted(damped, change, predicted, factors[0]) if accepted else REFUSED * damped
        self.damping = min(max(follows, self._typical / RANGE), self._typical * RANGE)
        if not accepted:
            self._remember(active, None)
            return
        self._remember(active, step)
        for name, p in active.items():
            p.copy_(moved[name])

    def _decay(self, values: Values) -> float:
        """Σ η |θ|²/2."""
        groups = ((group["weight_decay"], p) for group in self.param_groups for p in group["params"])
        decays = [(eta, values[self._names[p]]) for eta, p in groups if eta and self._names[p] in values]
        return sum(eta * float(value.double().square().sum()) / 2 for eta, value in decays)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs, in tensors and numbers."""
        own = {"damping": self.damping, "typical": self._typical, "curvature": self.curvature.state()}
        return {**super().state_dict(), "natural": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another run was, on whatever device it was."""
        if "natural" not in state_dict:
            raise ValueError("state_dict must be that of a NaturalGradient: it has no entry 'natural'")
        own = copy.deepcopy(state_dict["natural"])
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "natural"})
        self.damping, self._typical = own["damping"], own["typical"]
        place = next(self.model.parameters()).device
        averages = mapped(lambda x: x.to(place), own["curvature"]["averages"])
        self.curvature.load(own["curvature"] | {"averages": averages})


def _dense(p: nn.Parameter) -> Tensor:
    assert p.grad is not None
    gradient = p.grad.detach()
    return gradient.to_dense() if gradient.is_sparse else gradient
