"""Points as a solver sees them, read a chunk at a time: they may lie in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

CHUNK = 1 << 20  # numbers of a chunk
HELD = 1 << 24  # numbers of points that are laid out once and kept
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a number


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows (points[chosen] − centre)/scale, (n, d), made where they are read and never all at once.

    points (k, d); centre (d,) and scale of the coordinates; chosen (n,) long, all points in their order where None.

    Example:
        >>> rows = Rows(torch.tensor([[0.0], [2.0], [6.0]]), torch.tensor([2.0]), 2.0)
        >>> len(rows), rows[1:], rows.each(lambda y: y.square().sum(1))
        (3, tensor([[0.],
                [2.]], dtype=torch.float64), tensor([1., 0., 4.], dtype=torch.float64))
    """

    points: Tensor
    centre: Tensor | float = 0.0
    scale: float = 1.0
    chosen: Tensor | None = None

    @staticmethod
    def of(points: Tensor | Rows) -> Rows:
        """The rows of a tensor as they are."""
        return points if isinstance(points, Rows) else Rows(points)

    def __len__(self) -> int:
        return len(self.points) if self.chosen is None else len(self.chosen)

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.points.shape[1]

    def given(self, places: Tensor | slice) -> Tensor:
        """Rows of the points themselves."""
        return self.points[places if self.chosen is None else self.chosen[places]]

    def __getitem__(self, places: Tensor | slice) -> Tensor:
        """Rows in float64."""
        return (self.given(places).double() - self.centre).div_(self.scale)

    def narrow(self, places: Tensor | slice) -> Tensor:
        """Rows in the points' dtype; all may be off by the rounding of the centre, one and the same vector."""
        centre = self.centre.to(self.points) if isinstance(self.centre, Tensor) else self.centre
        return (self.given(places) - centre).div_(self.scale)

    def entries(self, columns: Tensor) -> Tensor:
        """Of every row the number in its one of `columns` (n,), float64."""
        rows = torch.arange(len(self), device=columns.device) if self.chosen is None else self.chosen
        centre = self.centre[columns] if isinstance(self.centre, Tensor) else self.centre
        return (self.points[rows, columns].double() - centre).div_(self.scale)

    def spans(self) -> Iterator[slice]:
        """Slices of whole rows, CHUNK numbers long and one row at least."""
        n, size = len(self), max(1, CHUNK // self.dim)
        return (slice(first, min(first + size, n)) for first in range(0, n, size))

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """The rows in float64, chunk by chunk, and where they lie."""
        return ((span, self[span]) for span in self.spans())

    def each(self, value: Callable[[Tensor], Tensor]) -> Tensor:
        """What `value` makes of the rows of every chunk, one after the other."""
        return torch.cat([value(rows) for _, rows in self.chunks()])

    def mean(self, weights: Tensor) -> Tensor:
        """Σ weights_i row_i, (d,) float64."""
        return torch.stack([weights[span].double() @ rows for span, rows in self.chunks()]).sum(0)


def merged(rows: Rows, beside: Tensor | None = None) -> tuple[Rows, Tensor]:
    """The distinct ones of rows (n, d), the first of each kind, and which of them each row is, (n,). With `beside`,
    (n,), rows are equal where these numbers are, too.

    Their order is decided by values; as given where they are too many to be laid out anew, and may lie in a file.

    Example:
        >>> kept, index = merged(Rows(torch.tensor([[2.0, 0.0], [1.0, 0.0], [2.0, 0.0]])))
        >>> kept[:], index
        (tensor([[1., 0.],
                [2., 0.]], dtype=torch.float64), tensor([1, 0, 1]))
    """
    chosen, index = _distinct(rows, beside)
    if len(rows) * rows.dim > HELD:
        chosen, order = chosen.sort()
        index = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))[index]
        if len(chosen) == len(rows):
            return rows, index
    return replace(rows, chosen=chosen if rows.chosen is None else rows.chosen[chosen]), index


def _distinct(rows: Rows, beside: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where the first of every set of equal rows is, (k,), by first coordinates, and which set each row is in, (n,).

    Rows are told apart by 64 bits made of all of theirs; where these agree, the rows are compared. O(n) beside them.
    """
    lead = rows.points[:, 0].contiguous()  # a sort of a column would take the memory of all columns
    lead = lead if rows.chosen is None else lead[rows.chosen]
    ordered, order = lead.sort(stable=True)
    new = torch.ones_like(order, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=new[1:])
    if not new.all():
        for salt in count():
            marks = _marks(rows, salt)
            if beside is not None:
                marks += _marks(Rows(beside[:, None]), salt + 1)
            order = marks.argsort(stable=True)
            order = order[lead[order].argsort(stable=True)]
            new[1:] = (marks[order[1:]] != marks[order[:-1]]) | (lead[order[1:]] != lead[order[:-1]])
            a, b = order[1:][~new[1:]], order[:-1][~new[1:]]
            if _equal(rows, a, b) and (beside is None or torch.equal(beside[a], beside[b])):
                break
    index = torch.empty_like(order).index_copy_(0, order, new.cumsum(0) - 1)
    return order[new], index


def _marks(rows: Rows, salt: int) -> Tensor:
    """64 bits (n,) for every row of the points, the same for equal ones."""
    generator = torch.Generator().manual_seed(salt)
    factors = torch.randint(-(1 << 62), 1 << 62, (rows.dim,), generator=generator).to(rows.points.device) | 1

    def marked(points: Tensor) -> Tensor:
        bits = (points + 0.0).view(BITS[points.element_size()]).long()  # −0 is 0
        bits = (bits ^ (bits >> 32)) * -7046029254386353131
        return ((bits ^ (bits >> 29)) * factors).sum(1)

    return torch.cat([marked(rows.given(span)) for span in rows.spans()])


def _equal(rows: Rows, a: Tensor, b: Tensor) -> bool:
    """Whether rows a and b are equal one by one."""
    size = max(1, CHUNK // rows.dim)
    return all(torch.equal(rows.given(i), rows.given(j)) for i, j in zip(a.split(size), b.split(size), strict=True))
