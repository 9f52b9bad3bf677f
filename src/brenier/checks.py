"""What several parts ask of a number that they are given."""

from __future__ import annotations

import operator


def whole(name: str, value: object, least: int) -> int:
    """`value` as an int of at least `least`.

    Raises:
        TypeError: it is no whole number; ValueError: it is less. Both name it.

    Example:
        >>> whole("limit", 3.0, 2)
        Traceback (most recent call last):
        TypeError: limit must be a whole number, got 3.0
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number
