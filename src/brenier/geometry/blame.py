"""Which function or module of a network or metric has derivatives that disagree with differences."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from brenier.geometry.derivative import chosen, sound


def complaint(
    what: str, where: str, run: Callable[[], Any], module: Any, order: int, said: Exception | None = None
) -> str:
    """The sentence about derivatives of a decoder or metric near a point that torch gets wrong, or does not have."""
    kind = ("first", "second")[order - 1]
    if isinstance(said, Exception):
        return f"torch has no {kind} derivatives of the {what}: {str(said).splitlines()[0]}"
    found = ", ".join(suspects(run, module, order)) or f"the {what}"
    return (
        f"{kind} derivatives of the {what} near {where} disagree with differences: those of {found} are wrong in "
        f"torch {torch.__version__} or cut off (detach); write it with other functions"
    )


class _Parts(TorchFunctionMode):
    """Notes the torch functions that run, and with what."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Callable[..., Any], tuple, dict[str, Any]]] = []

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        named = kwargs or {}
        kept = tuple(a.clone() if isinstance(a, Tensor) else a for a in args)
        answer = func(*args, **named)
        if isinstance(answer, Tensor):
            self.calls.append((getattr(func, "__name__", str(func)), func, kept, named))
        return answer


def suspects(run: Callable[[], Any], module: Any, order: int) -> list[str]:
    """Names of the functions in a run, else of the module's parts, whose derivatives up to the order are not sound.

    Each is asked alone, at the values that it met, along one direction of all its arguments together.

    Example:
        >>> suspects(lambda: torch.ones(3).tanh(), None, 2)
        []
    """
    layers: list[tuple[str, Callable[..., Any], tuple, dict[str, Any]]] = []
    with torch.no_grad(), _Parts() as parts, ExitStack() as hooks:
        for part in module.modules() if isinstance(module, nn.Module) else ():
            if not list(part.children()):
                note = lambda own, args: layers.append((type(own).__name__, own, args, {}))  # noqa: E731
                hooks.callback(part.register_forward_pre_hook(note).remove)
        run()
    for calls in (parts.calls, layers):
        found = [called for called, func, args, named in calls if not _sound(func, args, named, order)]
        if found:
            return list(dict.fromkeys(found))
    return []


def _sound(func: Callable[..., Any], args: tuple, named: dict[str, Any], order: int) -> bool:
    moving = [k for k, a in enumerate(args) if isinstance(a, Tensor) and a.is_floating_point() and a.numel()]
    if not moving:
        return True
    ways = {k: torch.arange(args[k].numel()).to(args[k]).add(1).cos().view_as(args[k]) for k in moving}

    def along(t: Tensor) -> Tensor:
        """The function's answers with its arguments moved, for t (m, 1)."""
        rows = []
        for step in t[:, 0]:
            answer = func(*(a + step * ways[k] if k in ways else a for k, a in enumerate(args)), **named)
            rows.append(torch.view_as_real(answer) if answer.is_complex() else answer)
        return torch.stack(rows)

    start = torch.zeros(1, 1, dtype=args[moving[0]].dtype, device=args[moving[0]].device)
    try:
        return callable(chosen(lambda way: sound(along, start, way, order)))
    except (TypeError, ValueError, IndexError):  # a function that can't be asked alone, such as an assignment
        return True
