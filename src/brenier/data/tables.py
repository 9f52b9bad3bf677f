"""Tables: columns of numbers, categories, booleans and dates, with gaps, as a network sees them, and back."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from brenier.checks import listed
from brenier.data import arrow
from brenier.data.columns import Column

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class TableLayout:
    """How the user's table looks, and the way to a network's form and back; the counterpart of `Layout`.

    The values of a table are an array (m, c) float64, a number for each entry as `Column` says, NaN where one is
    missing. A network sees float32 (m, d), the entries of each column side by side. Tables come back with the
    columns, the order and the dtypes of the data; each value is one that was there or lies within the range of its
    column, and none is missing where none was.

    `label` is the column that holds the labels, which a network does not see; `schema` is Arrow's, in base64;
    `library` is what the table came as: "pandas", "polars" or "pyarrow".

    Example:
        >>> values, labels, layout = read(arrow.pyarrow().table({"a": [1, 5, 9], "b": ["x", "y", "x"]}))
        >>> layout = layout.fitted(values)
        >>> x = layout.to_network(values)
        >>> x.shape, layout.to_user(x).to_pydict()
        (torch.Size([3, 2]), {'a': [1, 5, 9], 'b': ['x', 'y', 'x']})
    """

    columns: tuple[Column, ...]
    schema: str
    label: Column | None = None
    library: str = "pandas"

    kind = "table"
    dtype = "mixed"
    network_dtype = torch.float32

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> TableLayout:
        """The layout that `asdict` wrote.

        Raises:
            ValueError: a record with other keys or values.
        """
        keys = {"kind", *cls.__dataclass_fields__}
        if set(record) != keys:
            raise ValueError(f"a table must have the keys {', '.join(sorted(keys))}, got {listed(sorted(record))}")
        try:
            columns = tuple(Column.from_dict(each) for each in record["columns"])
            label = record["label"] and Column.from_dict(record["label"])
        except TypeError as error:
            raise ValueError(f"columns of a table must be records of columns: {error}") from None
        return cls(columns, record["schema"], label, record["library"])

    def asdict(self) -> dict[str, Any]:
        """A plain dict that JSON can hold."""
        columns = [column.asdict() for column in self.columns]
        return {
            "kind": self.kind,
            "columns": columns,
            "schema": self.schema,
            "label": self.label and self.label.asdict(),
            "library": self.library,
        }

    @property
    def shape(self) -> tuple[int]:
        """Of a row: the number of its columns, without the label."""
        return (len(self.columns),)

    @property
    def network_shape(self) -> tuple[int]:
        """Of a row in a network's form."""
        return (sum(column.width for column in self.columns),)

    def fitted(self, values: np.ndarray) -> TableLayout:
        """The layout with the scales of its columns taken from values (m, c).

        Raises:
            ValueError: all rows are equal.
        """
        made = replace(self, columns=tuple(c.fitted(v) for c, v in zip(self.columns, values.T, strict=True)))
        if made.network_shape == (0,):
            raise ValueError(f"a table must hold different rows, got {len(values)} equal rows")
        return made

    def unlabelled(self) -> TableLayout:
        """The layout without its column of labels."""
        if self.label is None:
            return self
        schema = self._schema()
        kept = schema.remove(schema.get_field_index(self.label.name))
        return replace(self, label=None, schema=_packed(kept))

    def values(self, table: Any) -> np.ndarray:
        """The values (m, c) of another table, found by the names of its columns; further columns are left out.

        Raises:
            FileNotFoundError, ModuleNotFoundError: as `arrow.read`.
            ValueError: as `arrow.read`; a column is missing or holds what this one's cannot.
        """
        given, schema = arrow.read(table)[0], self._schema()
        return np.stack([arrow.numbers(_cast(given, schema.field(c.name)), c) for c in self.columns], 1)

    def to_network(self, values: Any, name: str = "values") -> Tensor:
        """A new tensor (m, d) float32 of values (m, c), or of a table.

        Raises:
            ValueError: as `values`; values of another shape.
        """
        if not isinstance(values, np.ndarray | Tensor):
            values = self.values(values)
        array = np.asarray(values)
        if array.ndim != 2 or array.shape[1:] != self.shape or array.dtype.kind != "f":
            raise ValueError(
                f"{name} must be a table with the columns {listed((c.name for c in self.columns), 5)}, ..., "
                f"got an array of {array.dtype} of shape {array.shape}"
            )
        blocks = [column.to_network(part) for column, part in zip(self.columns, array.T, strict=True)]
        return torch.from_numpy(np.concatenate(blocks, 1).astype(np.float32))

    def to_user(self, x: Tensor, labels: np.ndarray | None = None) -> Any:
        """The tensor (m, d) as a table of the data's library; with `labels` (m,) in their column.

        Raises:
            ValueError: rows of another shape than `network_shape`.
        """
        if tuple(x.shape[1:]) != self.network_shape:
            raise ValueError(f"each row must have shape {self.network_shape}, got {tuple(x.shape[1:])}")
        return self.frame(np.stack(self._from_network(x), 1), labels)

    def shown(self, x: Tensor) -> dict[str, np.ndarray]:
        """The values (m,) of each column of the tensor (m, d), to be drawn: numbers, dates, or texts."""
        schema, made = self._schema(), {}
        for column, values in zip(self.columns, self._from_network(x), strict=True):
            if column.discrete:
                texts = np.array([*map(str, column.options), "missing"])
                values = texts[np.where(np.isnan(values), -1, values).astype(int)]
            elif column.kind == "date":
                held = arrow.column_of(values, column, schema.field(column.name).type)
                values = held.cast("timestamp[ms]").to_numpy(zero_copy_only=False)
            made[column.name] = values
        return made

    def _from_network(self, x: Tensor) -> list[np.ndarray]:
        ends = np.cumsum([column.width for column in self.columns])[:-1]
        blocks = np.split(x.detach().cpu().double().numpy(), ends, axis=1)
        return [column.from_network(block) for column, block in zip(self.columns, blocks, strict=True)]

    def frame(self, values: np.ndarray, labels: np.ndarray | None = None) -> Any:
        """The table that has these values (m, c), and `labels` (m,) in their column."""
        pa, schema = arrow.pyarrow(), self._schema()
        made = {
            column.name: arrow.column_of(part, column, schema.field(column.name).type)
            for column, part in zip(self.columns, values.T, strict=True)
        }
        if labels is not None and self.label is not None:
            known = {option: place for place, option in enumerate(self.label.options)}
            places = np.array([known.get(each, each) for each in labels.tolist()], dtype=float)
            made[self.label.name] = arrow.column_of(places, self.label, schema.field(self.label.name).type)
        schema = pa.schema([field for field in schema if field.name in made], metadata=schema.metadata)
        return arrow.frame(pa.table([made[name] for name in schema.names], schema=schema), self.library)

    def _schema(self) -> pa.Schema:
        pa = arrow.pyarrow()
        return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(self.schema)))


def read(
    source: Any, label: str | None = None, drop: Sequence[str] = (), limit: int | None = None
) -> tuple[np.ndarray, np.ndarray | None, TableLayout]:
    """Values (m, c), labels (m,) or None and the layout, its columns without scales, of a path or a data frame.

    Raises:
        FileNotFoundError, ModuleNotFoundError: as `arrow.read`.
        ValueError: as `arrow.read` and `arrow.describe`; no column of the name of `label` or in `drop`; labels that
            are missing, all one, or no categories.
    """
    table, library = arrow.read(source)
    for name in (*drop, *([] if label is None else [label])):
        if name not in table.column_names:
            raise ValueError(f"no column {name!r} in the table: its columns are {listed(table.column_names)}")
    table = table.drop_columns(list(dict.fromkeys(drop)))
    if limit is not None and limit < table.num_rows:
        table = table.take([i * table.num_rows // limit for i in range(limit)])
    if label is not None and label not in table.column_names:
        raise ValueError(f"column {label!r} cannot be both dropped and the label")
    arrays = {name: arrow.whole(table.column(name)) for name in table.column_names}
    y = None if label is None else labels(arrays[label], label)
    if y is not None and (y == y[0]).all():
        raise ValueError(f"labels must tell rows apart, got {listed(y[:1])} only in column {label!r}")
    target = None if label is None else arrow.describe(arrays.pop(label), label)
    if not arrays:
        raise ValueError("a table must hold a column besides the label, got none")
    columns = tuple(arrow.describe(array, name) for name, array in arrays.items())
    values = np.stack([arrow.numbers(arrays[column.name], column) for column in columns], 1)
    return values, y, TableLayout(columns, _packed(table.schema), target, library)


def labels(array: pa.Array, name: str) -> np.ndarray:
    """The column `name` as labels (m,).

    Raises:
        ValueError: some are missing, or they are neither texts nor whole numbers nor booleans.
    """
    if array.null_count:
        row = int(array.is_null().to_numpy(zero_copy_only=False).argmax())
        raise ValueError(
            f"labels must not be missing, got {array.null_count} gaps in column {name!r}, first in row {row}"
        )
    kind = array.type.value_type if hasattr(array, "dictionary") else array.type
    pa = arrow.pyarrow()
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or kind in (pa.string(), pa.large_string())):
        raise ValueError(
            f"labels must be texts, whole numbers or booleans, got {kind} in column {name!r}: without --label it is "
            "a column like the others"
        )
    return np.array(array.to_pylist())


def _cast(table: pa.Table, field: pa.Field) -> pa.Array:
    """A column of another table in the dtype of ours."""
    if field.name not in table.column_names:
        raise ValueError(f"the table must have the column {field.name!r}, got {listed(table.column_names)}")
    array = arrow.whole(table.column(field.name))
    if hasattr(array, "dictionary"):
        array = array.dictionary_decode()
    kind = field.type.value_type if hasattr(field.type, "value_type") else field.type
    try:
        return array if array.type == kind else array.cast(kind)
    except arrow.pyarrow().ArrowException as error:
        raise ValueError(f"column {field.name!r} must hold {kind}, got {array.type}: {error}") from None


def _packed(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()
