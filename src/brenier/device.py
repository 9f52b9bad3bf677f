"""The device that a name means, if it is there; the generator that a seed means."""

from __future__ import annotations

import operator

import torch


def find(device: torch.device | str | None) -> torch.device:
    """The device, the CPU for None.

    Raises:
        ValueError: the device is unknown or not on this machine.

    Example:
        >>> find(None)
        device(type='cpu')
    """
    try:
        return torch.empty(0, device=device or "cpu").device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device {str(device)!r} can't be used here: {reason}") from None


def seeded(generator: torch.Generator | int | None, device: torch.device | str = "cpu") -> torch.Generator | None:
    """The generator; a new one on that device for a seed; None, torch's own generator, for None.

    Raises:
        TypeError: another kind of value.

    Example:
        >>> torch.equal(torch.rand(3, generator=seeded(0)), torch.rand(3, generator=seeded(0)))
        True
    """
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    if isinstance(generator, bool) or not hasattr(generator, "__index__"):
        raise TypeError(f"generator must be a torch.Generator, a seed or None, got {type(generator).__name__}")
    return torch.Generator(device).manual_seed(operator.index(generator))
