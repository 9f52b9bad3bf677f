"""The first use in a fresh environment compiles the inner loops: said to the user, and counted against the time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Thread

import numpy as np
import torch

from brenier import compiled as loops
from brenier.transport.diagram import diagram
from brenier.transport.domain import Domain
from brenier.transport.laplacian import of_distances, solve
from brenier.transport.mirror import both_ways
from brenier.transport.planes import Planes

COMPILING = "  compiling the inner loops for this machine, {}: up to a minute"
KEPT, LOST = "once", "in every process, since no folder takes them (NUMBA_CACHE_DIR names one)"


def within(deadline: float, work: Callable[[], None], say: Callable[[str], None] | None = None) -> bool:
    """Whether `work` ends before the deadline; it goes on in a thread of its own. After a second, the user is told.

    Example:
        >>> within(math.inf, lambda: None)
        True
    """
    thread = Thread(target=work)
    thread.start()
    thread.join(max(0.0, min(1.0, deadline - time.perf_counter())))
    if thread.is_alive() and say is not None:
        say(COMPILING.format(KEPT if loops.kept else LOST))
    thread.join(None if deadline == math.inf else max(0.0, deadline - time.perf_counter()))
    return not thread.is_alive()


def exact(dim: int) -> None:
    """Compiles what exact cells and Newton's method need, by using it once."""
    y = np.eye(dim + 1, dim)
    cells = diagram(y, np.zeros(dim + 1), Domain.box([0.0] * dim, [1.0] * dim))
    solve(of_distances(both_ways(cells.facets), y), np.eye(dim + 1)[0] - 1 / (dim + 1), 0.1)


def highest(dtype: torch.dtype) -> None:
    """Compiles the search for the highest plane, by using it once; distances between targets take it in float64."""
    x = torch.zeros(1, 4, 4, dtype=dtype)
    planes = Planes(x[0], x[0, 0])
    planes.top(x[0], 1)
    planes.top_of_sums(x, x, 1)
    Planes(x[0].double(), x[0, 0].double()).top(x[0].double(), 1)
