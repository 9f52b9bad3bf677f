"""How every measured number and every iterative answer is reported: `Estimate`, `Status`, `Solution`; `Keeper`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol


class Estimate(NamedTuple):
    """A measured number and its standard error, both floats.

    Example:
        >>> print(Estimate(0.25, 0.01))
        0.25 ± 0.01
    """

    mean: float
    sem: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.sem:.2g}"


class Status(Enum):
    """How an iteration ended; `str(status)` is the sentence for the user, with what to change."""

    CONVERGED = "converged: the error on fresh samples, two standard errors added, is within tol"
    SOLVED = "converged: every cell, exactly measured, has its mass within tol"
    OUT_OF_SAMPLES = "not converged: the sampling error is larger than tol; raise max_samples or tol"
    OUT_OF_TIME = "not converged: the time ran out before the error was within tol; raise max_seconds or tol"
    OUT_OF_PRECISION = "not converged: the numbers are too coarse for a smaller error; pass float64 points or raise tol"
    EPOCHS_DONE = "done: every epoch was trained, the weights best on held-out samples are kept; more epochs may help"
    PRINCIPAL = "done: no network was clearly better on held-out samples than principal components, which are kept"
    STOPPED_EARLY = "done: the error on held-out samples stopped falling, the best weights are kept"
    GEODESIC = "converged: velocities at both ends stay what they are on a finer mesh, and the residual is small"
    STOPPED_SHORT = "not converged: Newton's method stopped short: is the metric smooth? else raise tol or pass a start"
    OUTSIDE = "not converged: the path that it starts from leaves the domain of the metric: pass a start"
    TOO_COARSE = (
        "not converged: on the finest mesh the velocity or the residual still changes; raise tol or pass a start"
    )
    MEAN = "converged: the weighted logarithms at the mean add up to nothing within tol"
    STATIONARY = "converged: the norm of every problem's gradient is within tol"
    UNBOUNDED = (
        "not converged: the cost falls without end, it seems unbounded below; pass a cost with a term that bounds it"
    )
    CLUSTERED = "converged: no point changes its cluster"
    OUT_OF_STEPS = "not converged: the steps ran out before the error was within tol; raise max_steps or tol"
    STUCK = "not converged: no step from the mean so far comes nearer to all points; pass a start"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Solution:
    """The answer of an iteration: how it ended, how long it took (seconds of wall time), what it went through.

    `history` has one dict per check of the error, in order.
    """

    status: Status
    seconds: float
    history: list[dict[str, Any]] = field(repr=False)

    @property
    def converged(self) -> bool:
        """Whether the stated error is within the tolerance: exactly, or confirmed on samples never seen before."""
        return str(self.status).startswith("converged")


class Keeper(Protocol):
    """Where a long iteration leaves its state, to go on from there if it is interrupted.

    A state is a dict of numbers, strings, tensors, arrays, answers of this library, and lists and dicts of these.
    """

    def recall(self) -> dict[str, Any] | None:
        """The state that an interrupted iteration left, None where there is none."""

    def keep(self, state: Callable[[], dict[str, Any]]) -> None:
        """Offer a state after every step: it is made and taken only when it is time for one."""
