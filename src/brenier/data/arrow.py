"""Tables in and out, by Arrow: `.csv`, `.tsv`, `.parquet` and data frames to numbers and back. Extra `tables`."""

from __future__ import annotations

import re
import reprlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brenier.checks import listed
from brenier.data.columns import Column
from brenier.data.files import check_room

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".tsv", ".parquet")
OPTIONS = 100  # different texts of a column, at most, and no more than half as many as there are rows
COLUMNS = 10_000  # at most
EXACT = 2**53  # below it float64 tells all whole numbers apart
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # in a second


def pyarrow() -> Any:
    """The library.

    Raises:
        ModuleNotFoundError: it is missing; the sentence says what to install.
    """
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise ModuleNotFoundError("tables need pyarrow: pip install 'brenier[tables]'") from None
    return pyarrow


def is_table(source: Any) -> bool:
    """Whether this is a table: a path by its suffix, or a data frame of any library that speaks Arrow."""
    if isinstance(source, str | Path):
        return Path(source).suffix.lower() in SUFFIXES and not Path(source).is_dir()
    return hasattr(source, "__arrow_c_stream__") and hasattr(source, "columns")


def read(source: Any) -> tuple[pa.Table, str]:
    """A path or a data frame as an Arrow table, and what it was: "pandas", "polars" or "pyarrow"; files are "pandas".

    The index of a pandas frame is no column and is left behind.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that cannot be read; columns without a name or of one name; no rows.
        TypeError: it is no table.
    """
    if not is_table(source):
        raise TypeError(f"a table must be a data frame or a .csv, .tsv or .parquet file, got {_kind(source)}")
    pa = pyarrow()
    library, name = "pandas", str(source) if isinstance(source, str | Path) else _kind(source)
    try:
        if isinstance(source, str | Path):
            table = _file(Path(source))
        elif type(source).__module__.startswith("pandas"):
            table = pa.Table.from_pandas(source, preserve_index=False)
        else:
            library = "polars" if type(source).__module__.startswith("polars") else "pyarrow"
            table = pa.table(source)
        _check_names(table, name)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(f"{name} cannot be read: {_reason(error)}") from None
    return table, library


def _kind(source: Any) -> str:
    return f"a {type(source).__name__}"


def _file(path: Path) -> pa.Table:
    from pyarrow import csv, parquet

    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    if path.suffix.lower() == ".parquet":
        with parquet.ParquetFile(path) as file:
            need = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
            check_room(path, need)
            return file.read(use_threads=False)
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty: a table begins with a row of names")
    comma = "\t" if path.suffix.lower() == ".tsv" else ","
    table = csv.read_csv(
        path,
        # one block: the type of a column is inferred from all of its rows
        read_options=csv.ReadOptions(use_threads=False, block_size=min(size + 1, 2**31 - 1)),
        parse_options=csv.ParseOptions(delimiter=comma, newlines_in_values=True),
        convert_options=csv.ConvertOptions(strings_can_be_null=True),
    )
    for column in table.schema:
        if column.type == "binary":
            raise ValueError(f"{path} must be written in UTF-8, got other bytes in column {column.name!r}")
    if len(table.schema) == 1 and (mark := next((each for each in ",;\t|" if each in table.schema[0].name), None)):
        raise ValueError(f"{path} must have {comma!r} between its columns, got {mark!r} in {table.schema[0].name!r}")
    if all(NUMBER.fullmatch(each) for each in table.column_names):
        raise ValueError(f"{path} must begin with a row of names, got {listed(table.column_names, 5)}")
    return table


def _check_names(table: pa.Table, name: str) -> None:
    names = [str(each) for each in table.column_names]
    if len(names) > COLUMNS:
        raise ValueError(f"{name} must have at most {COLUMNS:,} columns, got {len(names):,}")
    for place, each in enumerate(names):
        if not each:
            raise ValueError(f"column {place + 1} of {name} must have a name: if it is a table's index, leave it out")
        if each in names[:place]:
            raise ValueError(f"{name} must have columns of different names, got {each!r} twice")
    if not table.num_rows:
        raise ValueError(f"{name} must have rows, got none below the names {listed(names, 5)}")


def _reason(error: Exception) -> str:
    text = " ".join(str(part) for part in error.args) or type(error).__name__
    return " ".join(text.split())[:300].rstrip(".")


def whole(column: pa.ChunkedArray) -> pa.Array:
    """The chunks of a column as one array; texts of polars' kind, which few functions know, as those of others."""
    if column.type == "string_view":
        column = column.cast("large_string")
    array = column.unify_dictionaries().combine_chunks()
    return array.combine_chunks() if hasattr(array, "combine_chunks") else array


def describe(array: pa.Array, name: str) -> Column:
    """What the values of a column are.

    Raises:
        ValueError: text that is no category, row numbers, a dtype that is none of the kinds.
    """
    from pyarrow import compute, types

    kind, missing, out = array.type, array.null_count > 0, _way_out(name)
    if types.is_null(kind):
        return Column(name, "category", missing=True)
    if types.is_boolean(kind):
        return Column(name, "boolean", (False, True), missing=missing)
    if types.is_floating(kind):
        return Column(name, "number", missing=missing or bool(np.isnan(_floats(array)).any()))
    if types.is_integer(kind):
        known = array.drop_null().to_numpy(zero_copy_only=False)
        if 2 < len(known) == len(array) and (np.diff(known.astype(float)) == 1).all():
            raise ValueError(f"column {name!r} only numbers the rows: {known[0]}, {known[1]}, {known[2]}, ...; {out}")
        return Column(name, "integer", missing=missing)
    if types.is_date(kind) or types.is_timestamp(kind):
        return Column(name, "date", step=_step(array), missing=missing)
    if types.is_dictionary(kind):
        options, count = array.dictionary.to_pylist(), len(compute.unique(array.indices.drop_null()))
    elif types.is_string(kind) or types.is_large_string(kind):
        options = sorted(compute.unique(array.drop_null()).to_pylist())
        count = len(options)
    else:
        raise ValueError(f"column {name!r} must hold numbers, texts, booleans or dates, got {kind}; {out}")
    if count > min(OPTIONS, max(len(array) // 2, 2)):
        raise ValueError(
            f"column {name!r} holds {count:,} different texts in {len(array):,} rows, too many for categories "
            f"(at most {OPTIONS}, and half as many as rows); {out}"
        )
    return Column(name, "category", tuple(options), missing=missing)


def _way_out(name: str) -> str:
    if not name.isprintable():
        return f"to go without it: drop=[{name!r}], or give it a name of one line"
    return f"to go without it: --drop {shlex.quote(name)} (drop=[{name!r}])"


def _step(array: pa.Array) -> int:
    """The coarsest of day, hour, minute, second, ... that all dates are multiples of, in units of the dtype."""
    from pyarrow import types

    if types.is_date32(array.type):
        return 1
    tick = 10**3 if types.is_date64(array.type) else TICKS[array.type.unit]
    counts = array.drop_null().cast("int64").to_numpy()
    steps = [86_400 * tick, 3600 * tick, 60 * tick, tick, *(tick // part for part in (10**3, 10**6) if part < tick)]
    return next((step for step in steps if not (counts % step).any()), 1)


def numbers(array: pa.Array, column: Column) -> np.ndarray:
    """The values of a column (m,), as `Column` says.

    Raises:
        ValueError: an infinite or inexact number, a category or a gap that the column does not know.
    """
    import pyarrow
    from pyarrow import compute

    name = repr(column.name)
    if column.kind == "category":
        if pyarrow.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        array = array.cast(pyarrow.array(column.options).type) if column.options else array
        known = compute.index_in(array, pyarrow.array(column.options, array.type))
        strange = known.is_null().to_numpy(zero_copy_only=False) & array.is_valid().to_numpy(zero_copy_only=False)
        if strange.any():
            shown = listed(column.options, 8) + ", ..." * (len(column.options) > 8)
            row = int(strange.argmax())
            raise ValueError(
                f"column {name} must hold one of {shown}; got {reprlib.repr(array[row].as_py())} in row {row}"
            )
        values = _floats(known)
    elif column.kind == "date":
        days = pyarrow.types.is_date32(array.type)
        counts = (array.cast("int32") if days else array).cast("int64")
        values = _floats(compute.divide(counts, column.step))
    else:
        values = _floats(array.cast("uint8") if column.kind == "boolean" else array)
    if np.isinf(values).any():
        raise ValueError(
            f"column {name} must be finite, got {values[np.isinf(values)][0]} in row {np.isinf(values).argmax()}"
        )
    if column.kind != "number" and (large := np.abs(values) >= EXACT).any():
        raise ValueError(
            f"column {name} must hold whole numbers below 2^53, got {array[int(large.argmax())]} in row "
            f"{large.argmax()}; {_way_out(column.name)}"
        )
    if (absent := np.isnan(values)).any() and not column.missing:
        raise ValueError(f"column {name} has no missing values in the training data, got one in row {absent.argmax()}")
    return values


def _floats(array: pa.Array) -> np.ndarray:
    """As float64, NaN for null."""
    return array.cast("float64", safe=False).to_numpy(zero_copy_only=False)


def column_of(values: np.ndarray, column: Column, kind: pa.DataType) -> pa.Array:
    """The way back: an Arrow array of the dtype `kind`."""
    import pyarrow as pa

    absent = np.isnan(values)
    if pa.types.is_null(kind):
        return pa.nulls(len(values))
    if column.kind == "number":
        return pa.array(values, mask=absent).cast(kind, safe=False)
    counts = pa.array(np.where(absent, 0, values).astype(np.int64) * column.step, mask=absent)
    if column.kind == "category":
        options = pa.array(column.options)
        if pa.types.is_dictionary(kind):
            return pa.DictionaryArray.from_arrays(counts.cast("int32"), options, ordered=kind.ordered).cast(kind)
        return options.take(counts).cast(kind)
    return (counts.cast("int32") if pa.types.is_date32(kind) else counts).cast(kind)


def frame(table: pa.Table, library: str) -> Any:
    """The table as the library has it; in pandas, whole numbers with gaps from a file are Int64."""
    if library == "pandas":
        if table.schema.pandas_metadata:
            return table.to_pandas()
        import pandas

        made = table.to_pandas(date_as_object=False)
        for field in table.schema:
            if pyarrow().types.is_integer(field.type) and table.column(field.name).null_count:
                made[field.name] = table.column(field.name).to_pandas(types_mapper=lambda _: pandas.Int64Dtype())
        return made
    if library == "polars":
        import polars

        return polars.from_arrow(table)
    return table


def write(path: Path, table: Any) -> None:
    """A data frame as `.csv`, `.tsv` or `.parquet`."""
    from pyarrow import csv, parquet

    held = read(table)[0]
    if path.suffix.lower() == ".parquet":
        parquet.write_table(held, path)
    else:
        csv.write_csv(held, path, csv.WriteOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
