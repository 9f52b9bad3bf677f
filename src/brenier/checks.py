"""What several parts ask of a number that they are given."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from itertools import islice


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


def listed(names: Iterable[object], most: int = 20) -> str:
    """The first names of someone's data in a sentence: on one line, none long.

    Example:
        >>> listed(["age", "income\\n(euro)"])
        'age, income (euro)'
    """
    return ", ".join(" ".join(str(name).split())[:60] for name in islice(names, most))
