"""Samples in: `load` reads arrays, tensors, torch data sets, files, folders and known names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from torch.utils.data import DataLoader, Dataset, IterableDataset

from brenier.checks import whole
from brenier.data import tables
from brenier.data.arrow import is_table
from brenier.data.datasets import is_dataset, read_dataset
from brenier.data.files import Found, Pair, is_idx, read_idx, read_npy, read_npz, read_safetensors, rows
from brenier.data.folders import read_folder
from brenier.data.samples import SMALLEST, Samples, check, check_labels

SYSTEM = Path("/usr/share/datasets")  # where Debian's packages put theirs
IDX_IMAGES = {"train": "train-images", "test": "t10k-images"}
SPLITS = tuple(IDX_IMAGES)
FILES = (
    "its four IDX files (train-images-idx3-ubyte.gz, ...) or {0}.npz into data_dir (--data-dir) or ~/.cache/brenier/{0}"
)
NAMES = {  # and how to get them
    "digits": "",
    "fashion-mnist": "run `apt-get install dataset-fashion-mnist`, or put " + FILES.format("fashion-mnist"),
    "mnist": "put " + FILES.format("mnist"),
}


def load(
    source: Any,
    labels: Any = None,
    data_dir: str | Path | None = None,
    split: str = "train",
    limit: int | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    skip_bad: bool = False,
    size: int | None = None,
) -> Samples:
    """A data set as `Samples`.

    source: an array, tensor or list of lists; a data frame of pandas, polars or Arrow; a torch Dataset or DataLoader
    with items x or (x, y); `Samples`; a path to an `.npy`, an `.npz` (one array, or the keys x/y, images/labels,
    x_train/y_train/x_test/y_test), a `.safetensors` (one tensor, or x and y), a table (`.csv`, `.tsv`, `.parquet`), an
    IDX file (`.gz` or not; its labels file is found by its name), a folder of images, flat or with a sub-folder for
    each class (either may lie in sub-folders `train` and `test`), a folder that `datasets` saved, a folder of MNIST's
    four IDX files; or a name: `digits`, `fashion-mnist`, `mnist`, looked up in `data_dir`, then in Debian's place, then
    in ~/.cache/brenier/NAME.
    labels: (m,) integers or strings, instead of those of the source.
    split: "train", which is everything where a source has no split, or "test".
    limit: at most so many samples, evenly spread over the set.
    label: the column of a table that holds the labels; it comes back with the samples.
    drop: columns of a table to leave out.
    skip_bad: leave out images that cannot be read, and name them in `Samples.skipped`.
    size: of images in a folder, in pixels: the middle square of each is scaled to size x size.

    Nothing is ever unpickled. Values keep their dtype; a tensor becomes an array.

    Raises:
        FileNotFoundError: no such path, or where to get a known set that isn't there.
        ValueError: a file that cannot be read, or values that aren't a valid set (see `Samples`).
        TypeError: a source of another kind.

    Example:
        >>> digits = load("digits", split="test")
        >>> digits.values.shape, digits.values.dtype, digits.name
        ((360, 8, 8), dtype('float32'), 'digits')
    """
    if split not in SPLITS:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if limit is not None:
        limit = whole("limit", limit, 2)
    if size is not None:
        size = whole("size", size, SMALLEST)
    if isinstance(source, Samples) and labels is None and limit is None and split == "train":
        return source
    early = limit if labels is None else None  # labels count the whole set
    if isinstance(source, str) and source in NAMES:
        name, found = source, Found(*_from_name(source, data_dir, split))
    elif is_table(source):
        _without_test_split(split, _named(source))
        name = Path(source).name.split(".")[0] if isinstance(source, str | Path) else "data"
        found = Found(*tables.read(source, label, drop, early))
    elif isinstance(source, str | Path):
        path = Path(source)
        name, found = path.absolute().name.split(".")[0], _from_path(path, split, early, label, drop, skip_bad, size)
    else:
        _without_test_split(split, _named(source))
        name, found = source.name if isinstance(source, Samples) else "data", _from_memory(source, early)
    if (label is not None or drop) and found.table is None:
        raise ValueError(f"label and drop name columns of a table, and {name} is none")
    if (skip_bad or size) and not found.pictures:
        raise ValueError(f"skip_bad and size are for folders of images, and {name} is none")
    x = check(found.x, f"values of {name}") if found.table is None else found.x
    y, table = (found.y, found.table) if labels is None else (labels, found.table and found.table.unlabelled())
    if y is not None:
        y = check_labels(y, len(x))
    if limit is not None and limit < len(x):
        kept = rows(len(x), limit)
        x, y = x[kept], y if y is None else y[kept]
    return Samples(x, y, name, table=table, skipped=found.skipped)


def _from_name(name: str, data_dir: str | Path | None, split: str) -> Pair:
    if name == "digits":
        return _digits(split)
    places = [SYSTEM / name, Path(os.path.expanduser("~/.cache/brenier")) / name]
    if data_dir is not None:
        if not os.path.isdir(data_dir):
            raise FileNotFoundError(f"no folder {str(data_dir)!r} to look for {name} in")
        places = [Path(data_dir) / name, Path(data_dir), *places]
    for place in places:
        if (place / f"{name}.npz").is_file():
            return read_npz(place / f"{name}.npz", split)
        if images := _idx_images(place, split):
            return read_idx(images)
    raise FileNotFoundError(f"{name} isn't on this machine: {NAMES[name]}")


def _digits(split: str) -> Pair:
    """scikit-learn's 1,797 digits, 8x8, scaled from 0..16 to 0..1; a fixed fifth of every class is the test split."""
    from sklearn.datasets import load_digits  # here, as importing it takes a second
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=0)
    kept = np.sort(parts[SPLITS.index(split)])
    return (x[kept].reshape(-1, 8, 8) / 16).astype(np.float32), y[kept]


def _from_path(
    path: Path, split: str, limit: int | None, label: str | None, drop: Sequence[str], skip_bad: bool, size: int | None
) -> Found:
    if not os.path.exists(path):
        raise FileNotFoundError(f"no file or folder {str(path)!r}; known names are {', '.join(NAMES)}")
    if path.is_dir():
        if is_dataset(path):
            return read_dataset(path, split, limit, label, drop, skip_bad, size)
        if images := _idx_images(path, split):
            return Found(*read_idx(images))
        if all((path / each).is_dir() for each in SPLITS):
            return read_folder(path / split, limit, skip_bad, size)
    elif path.suffix.lower() == ".npz":
        return Found(*read_npz(path, split))
    elif path.suffix.lower() == ".safetensors":
        return Found(*read_safetensors(path, split))
    _without_test_split(split, str(path))
    if path.is_dir():
        return read_folder(path, limit, skip_bad, size)
    if is_idx(path):
        return Found(*read_idx(path))
    if path.suffix.lower() == ".npy":
        return Found(*read_npy(path))
    suffix = f"the suffix {path.suffix}" if path.suffix else "no suffix"
    raise ValueError(
        f"{path} must be an .npy, .npz, .safetensors, .csv, .tsv, .parquet or IDX file (.gz or not) or a folder of "
        f"images, got {suffix}"
    )


def _named(source: Any) -> str:
    """A path's last part, or what an object is."""
    return Path(source).absolute().name if isinstance(source, str | Path) else f"a {type(source).__name__}"


def _from_memory(source: Any, limit: int | None) -> Found:
    if isinstance(source, Samples):
        return Found(source.values, source.labels, source.table, source.skipped)
    if issparse(source):
        raise TypeError(f"source must be dense, got a sparse {type(source).__name__}: pass source.toarray()")
    if isinstance(source, DataLoader):
        xs, ys = _columns(source, batched=1)
        return Found(np.concatenate(xs), np.concatenate(ys) if ys else None)
    if isinstance(source, Dataset):
        items = source if isinstance(source, IterableDataset) else (source[i] for i in rows(len(source), limit))  # type: ignore[arg-type]
        xs, ys = _columns(items, batched=0)
        return Found(np.stack(xs), np.stack(ys) if ys else None)
    if isinstance(source, list | tuple | torch.Tensor) or hasattr(source, "__array__"):
        return Found(source)
    raise TypeError(
        "source must be an array, a tensor, a list of rows, a data frame, a torch Dataset or DataLoader, a path or a "
        f"name, got {type(source).__name__}"
    )


def _columns(items: Iterable[Any], batched: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The x and the y of items x or (x, y), all x of one shape, but for the size of a batch in front."""
    xs: list[np.ndarray] = []
    ys: list[np.ndarray] = []
    for row, item in enumerate(items):
        parts = item if isinstance(item, tuple | list) else (item,)
        if len(parts) not in (1, 2):
            raise ValueError(f"items of a data set must be x or (x, y), got {len(parts)} parts in item {row}")
        x = check(parts[0], f"item {row} of the data set")
        if xs and x.shape[batched:] != xs[0].shape[batched:]:
            raise ValueError(f"items of a data set must have one shape, got {xs[0].shape} and {x.shape} in item {row}")
        xs.append(x)
        ys.extend(np.asarray(y) for y in parts[1:])
    if not xs:
        raise ValueError("a data set must hold at least one item, got none")
    return xs, ys


def _idx_images(folder: Path, split: str) -> Path | None:
    """The images file of MNIST's four, if it is there."""
    names = (f"{IDX_IMAGES[split]}{mark}idx3-ubyte{end}" for mark in "-." for end in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _without_test_split(split: str, what: str) -> None:
    if split == "test":
        raise ValueError(f"{what} has no test split; load its test samples by themselves")
