"""Folders that Hugging Face's `datasets` saved (`save_to_disk`): Arrow files and the JSON beside them.

They are read by pyarrow alone: `datasets` would bring 20 packages for these few lines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brenier.checks import listed
from brenier.data import arrow, tables
from brenier.data.files import Found, rows
from brenier.data.folders import pictures

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"


def is_dataset(folder: Path) -> bool:
    """Whether `datasets` saved this folder: one set, or one for each split."""
    return (folder / STATE).is_file() or (folder / SPLITS).is_file()


def has_test_split(folder: Path) -> bool:
    """Whether it holds the split `test`."""
    return (folder / SPLITS).is_file() and (folder / "test").is_dir()


def read_dataset(
    folder: Path,
    split: str,
    limit: int | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    skip_bad: bool = False,
    size: int | None = None,
) -> Found:
    """Images of the column of images, vectors of the column of lists, or else a table of all columns.

    Labels are those of `label`, by default of the only column of class labels, by their names.

    Raises:
        ValueError: a file that is missing or cannot be read, several columns of images or lists, no such split.
    """
    if (folder / SPLITS).is_file():
        if not (folder / split).is_dir():
            raise ValueError(f"{folder} must hold a split {split!r}, got {listed(sorted(_splits(folder)))}")
        folder = folder / split
    elif split == "test":
        raise ValueError(f"{folder} has no test split; load its test samples by themselves")
    table, features = _table(folder)
    for name in drop:
        if name not in features:
            raise ValueError(f"no column {name!r} in {folder}: its columns are {listed(features)}")
    table = table.drop_columns(list(drop))
    features = {name: each for name, each in features.items() if name not in drop}
    if label is not None and label not in features:
        raise ValueError(f"no column {label!r} in {folder}: its columns are {listed(features)}")
    classes = [name for name, each in features.items() if each.get("_type") == "ClassLabel"]
    label = label or (classes[0] if len(classes) == 1 else None)
    table = table.take(list(rows(table.num_rows, limit)))
    for name in classes:
        table = table.set_column(table.column_names.index(name), name, _names(table, name, features[name]))
    images = [name for name, each in features.items() if each.get("_type") == "Image"]
    lists = [name for name in features if hasattr(table.schema.field(name).type, "value_field")]
    held = images or lists
    if not held:
        values, labels, layout = tables.read(table, label)
        return Found(values, labels, replace(layout, library="pandas"))  # as tables of other files
    if len(held) > 1:
        raise ValueError(f"{folder} must have one column of images or lists, got {listed(held)}; drop all but one")
    labels = None if label is None else tables.labels(arrow.whole(table.column(label)), label)
    if not images:
        return Found(_vectors(table, held[0]), labels)
    values, kept, skipped = pictures(_images(table, held[0]), skip_bad, size)
    return Found(values, None if labels is None else labels[kept], skipped=skipped, pictures=True)


def _splits(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if each.is_dir()]


def _table(folder: Path) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of the Arrow files that the state names, and what each column is."""
    pa = arrow.pyarrow()
    state, info = (_json(folder / name) for name in (STATE, INFO))
    try:
        names = [str(entry["filename"]) for entry in state["_data_files"]]
        features = dict(info["features"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{folder} must say its files and features in {STATE} and {INFO}, as datasets does") from None
    parts = []
    for name in names:
        path = folder / name
        if path.parent != folder or not path.is_file():
            raise ValueError(f"{folder / STATE} names the file {name!r}, which is not in the folder")
        try:
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                parts.append(stream.read_all())
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if not parts or not sum(part.num_rows for part in parts):
        raise ValueError(f"{folder} must hold rows, got none in {len(parts)} files")
    table = pa.concat_tables(parts)
    if set(features) != set(table.column_names):
        raise ValueError(
            f"{folder / INFO} must describe the columns {listed(table.column_names)}, got {listed(features)}"
        )
    return table.replace_schema_metadata(None), features


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: the folder is no data set that was saved whole") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _names(table: pa.Table, name: str, feature: dict[str, Any]) -> pa.Array:
    """Class labels by their names."""
    pa = arrow.pyarrow()
    names, codes = feature.get("names") or [], arrow.whole(table.column(name))
    known = codes.drop_null().to_numpy(zero_copy_only=False)
    if len(known) and (known.min() < 0 or known.max() >= len(names)):
        raise ValueError(f"class labels in column {name!r} must count the {len(names)} names, got {known.max()}")
    return pa.array(names, pa.string()).take(codes)


def _images(table: pa.Table, name: str) -> list[tuple[str, bytes]]:
    cells = table.column(name).to_pylist()
    empty = [row for row, cell in enumerate(cells) if not (isinstance(cell, dict) and cell.get("bytes"))]
    if empty:
        raise ValueError(f"column {name!r} must hold the bytes of its images, got none in row {empty[0]}")
    return [(f"the image in row {row} of column {name!r}", cell["bytes"]) for row, cell in enumerate(cells)]


def _vectors(table: pa.Table, name: str) -> np.ndarray:
    """Lists of one length, or nested ones, as an array (m, ...)."""
    array, shape = arrow.whole(table.column(name)), [table.num_rows]
    while hasattr(array.type, "value_field"):
        if array.null_count:
            raise ValueError(f"column {name!r} must hold a list in each row, got {array.null_count} rows without")
        inner = array.flatten()
        length = len(inner) // max(len(array), 1)
        if length * len(array) != len(inner) or any(len(array[row]) != length for row in range(len(array))):
            raise ValueError(f"lists in column {name!r} must have one length, got {len(array[0])} and others")
        array, shape = inner, [*shape, length]
    return array.to_numpy(zero_copy_only=False).reshape(shape)
