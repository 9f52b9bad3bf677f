"""What a model was given and what it answered in the forward passes that a loss was made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from brenier.information.linearise import APART, random_state, tensors


@dataclass
class Call:
    """One forward pass, and the gradient of the loss at its outputs, once it is there."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Tensor
    rng: list[Tensor]
    versions: list[int]
    gradient: Tensor | None = field(default=None)

    def check(self) -> None:
        """Refuse inputs that have changed since."""
        if [x._version for x in tensors((self.args, self.kwargs))] != self.versions:
            raise RuntimeError("an input of the model was changed in place between the forward pass and step()")


class Catcher:
    """Hooks on a model; `calls` holds the forward passes that gradients have come back to.

    A copy of the model has a copy of the hooks, which catches nothing: a copy of the optimiser sets hooks of its own.
    """

    def __init__(self, model: nn.Module) -> None:
        self.active = True
        self.calls: list[Call] = []
        self.strange: str | None = None
        self._rng: list[Tensor] = []
        self._handles: list[RemovableHandle] = [
            model.register_forward_pre_hook(self._before),
            model.register_forward_hook(self._after, with_kwargs=True),
        ]

    def __getstate__(self) -> dict[str, bool]:
        return {"active": False}

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def take(self) -> list[Call]:
        """The calls since the last time, which are then forgotten."""
        calls, self.calls = self.calls, []
        for call in calls:
            call.check()
        return calls

    def _before(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        if self.active and not APART.get() and torch.is_grad_enabled():
            like = next(model.parameters())
            self._rng = random_state(like.device)

    def _after(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        if not self.active or APART.get() or not torch.is_grad_enabled():
            return
        if not isinstance(outputs, Tensor):
            self.strange = type(outputs).__name__
            return
        if not outputs.requires_grad:
            return
        versions = [x._version for x in tensors((args, kwargs))]
        call = Call(args, kwargs, outputs.detach(), self._rng, versions)

        def arrived(gradient: Tensor) -> None:
            if call.gradient is None:
                self.calls.append(call)
                call.gradient = gradient.detach().clone()
            else:
                call.gradient = call.gradient + gradient

        outputs.register_hook(arrived)
