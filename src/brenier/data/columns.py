"""A column of a table: its values as numbers, and those numbers as a network sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtri

KINDS = ("number", "integer", "date", "boolean", "category")
KNOTS = 256  # points of a column's scale, at most
FEW = 20  # distinct values, at most, of a column that brings back these alone and nothing between them
DECIMALS = 6  # digits behind the point, at most, that a column keeps


@dataclass(frozen=True)
class Column:
    """One column: what its numbers mean, and how a network sees them.

    A value is a number: itself (number, integer), a count of steps of the dtype's unit since 1970 (date), 0 or 1
    (boolean), its place among `options` (category); NaN where it is missing. A network sees

    - number, integer, date: its normal score, Φ⁻¹ of its rank, over the deviation of all scores: the line through
      `knots` and `scores`, beyond the ends a line of the column's deviation; the median where it is missing, and an
      entry more, 1 where it is missing;
    - boolean and category: an entry 0 or 1 for each option seen, and one for missing; one entry where two are left.

    `missing` and `options` are of the whole table, `gaps`, `seen`, `knots`, `scores`, `deviation` and `decimals` of
    the rows that `fitted` was given. What comes back is one of the options seen, or lies between the first and the
    last knot, with no more decimals than the data; of at most 20 distinct values it is one of these.

    Example:
        >>> age = Column("age", "integer", missing=True).fitted(np.array([20.0, 30.0, np.nan, 60.0]))
        >>> age.width, age.from_network(age.to_network(np.array([30.0, np.nan]))).tolist()
        (2, [30.0, nan])
    """

    name: str
    kind: str
    options: tuple[Any, ...] = ()
    step: int = 1
    missing: bool = False
    gaps: bool = False
    seen: tuple[int, ...] = ()
    knots: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    deviation: float = 1.0
    decimals: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind of a column must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if len(self.knots) != len(self.scores):
            raise ValueError(
                f"column {self.name!r} must have a score for each knot, got {len(self.scores)} for {len(self.knots)}"
            )

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Column:
        """The column that `asdict` wrote, lists for tuples."""
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
        return cls(**fields)

    def asdict(self) -> dict[str, Any]:
        """A plain dict that JSON can hold."""
        return asdict(self)

    @property
    def discrete(self) -> bool:
        """Whether its values are options."""
        return self.kind in ("boolean", "category")

    @property
    def width(self) -> int:
        """Entries in a network's form; none for a column that is all one."""
        if self.discrete:
            count = len(self.seen) + self.gaps
            return count if count > 2 else max(count - 1, 0)
        return (len(self.knots) > 1) + (self.gaps and len(self.knots) > 0)

    def fitted(self, values: np.ndarray) -> Column:
        """The column with its scale taken from these values (m,)."""
        known = values[~np.isnan(values)]
        gaps = len(known) < len(values)
        if self.discrete:
            return replace(self, gaps=gaps, seen=tuple(np.unique(known).astype(int).tolist()))
        if not len(known):
            return replace(self, gaps=gaps, knots=(), scores=())
        distinct, counts = np.unique(known, return_counts=True)
        rank = (np.cumsum(counts) - counts / 2) / len(known)  # the middle one of equal values
        scores = ndtri(rank)
        spread = np.sqrt((counts * scores**2).sum() / len(known) - ((counts * scores).sum() / len(known)) ** 2)
        kept = np.arange(len(distinct))
        if len(distinct) > KNOTS:
            kept = np.unique(np.append(np.searchsorted(rank, np.linspace(0, rank[-1], KNOTS - 1)), len(distinct) - 1))
        return replace(
            self,
            gaps=gaps,
            knots=tuple(distinct[kept].tolist()),
            scores=tuple((scores[kept] / (spread or 1)).tolist()),
            deviation=float(known.std()) or 1.0,
            decimals=_decimals(distinct) if self.kind == "number" else 0,
        )

    def to_network(self, values: np.ndarray) -> np.ndarray:
        """Values (m,) as a network sees them (m, width). An option that was not seen is 0 in every entry."""
        if self.discrete:
            place = np.where(np.isnan(values), -1, values)
            block = place[:, None] == np.array([*self.seen, -1] if self.gaps else self.seen)
            return block[:, -self.width :].astype(float) if self.width else np.empty((len(values), 0))
        absent = np.isnan(values)
        blocks = []
        if len(self.knots) > 1:
            low, high = self.knots[0], self.knots[-1]
            inside = np.interp(values, self.knots, self.scores)
            beyond = (values - values.clip(low, high)) / self.deviation
            blocks.append(np.where(absent, np.interp(0.0, self.scores, self.scores), inside + beyond))
        if self.gaps and self.knots:
            blocks.append(absent.astype(float))
        return np.stack(blocks, 1) if blocks else np.empty((len(values), 0))

    def from_network(self, block: np.ndarray) -> np.ndarray:
        """The way back, from any numbers (m, width): the likeliest option; a value within the range."""
        m = len(block)
        if self.discrete:
            places = np.array(self.seen + (math.nan,) * (self.gaps or not self.seen), dtype=float)
            if self.width == 1:
                return places[(block[:, 0] > 0.5).astype(int)]
            return places[block.argmax(1)] if self.width else np.full(m, places[0])
        if not self.knots:
            return np.full(m, np.nan)
        knots, scores = np.array(self.knots), np.array(self.scores)
        values = np.full(m, knots[0])
        if len(knots) > 1 and len(knots) <= FEW:
            values = knots[np.searchsorted((scores[1:] + scores[:-1]) / 2, block[:, 0])]
        elif len(knots) > 1:
            values = np.interp(block[:, 0], scores, knots)
        values = values if self.decimals is None else np.round(values, self.decimals)
        return np.where(block[:, -1] > 0.5, np.nan, values) if self.gaps else values


def _decimals(values: np.ndarray) -> int | None:
    """How many digits behind the point say all of the values, None for more than `DECIMALS`."""
    return next((k for k in range(DECIMALS + 1) if (np.round(values, k) == values).all()), None)
