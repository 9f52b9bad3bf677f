"""The device that a name means, if it is there."""

from __future__ import annotations

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
