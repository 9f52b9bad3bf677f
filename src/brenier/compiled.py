"""Inner loops compiled by numba for the CPU at hand, and kept for the next process where a folder takes them."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit

kept = True  # whether the loops compiled here stay for the next process


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Return the function as numba compiles it at its first call, without Python's lock.

    What was compiled is kept beside the source, in the user's cache, or in a private folder of the temporary one: the
    first of these that can be written; where none can, nothing is kept. `options` are numba's.

    Example:
        >>> @compiled
        ... def twice(x):
        ...     return 2 * x
        >>> twice(3)
        6
    """
    global kept
    if function is None:
        return lambda given: compiled(given, **options)
    for place in (lambda: True, _private_folder):
        try:
            if place():
                return njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # numba found no place for its cache
            continue
    kept = False
    return njit(nogil=True, **options)(function)


def _private_folder() -> bool:
    """Let numba keep its files in a folder that nobody else can write: they are code. False where there is none."""
    place = Path(tempfile.gettempdir()) / f"brenier-{getattr(os, 'getuid', lambda: 'loops')()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
    except OSError:
        return False
    own = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
    if not (stat.S_ISDIR(found.st_mode) and own and os.access(place, os.W_OK)):
        return False
    config.CACHE_DIR = str(place)  # type: ignore[attr-defined]
    return True
