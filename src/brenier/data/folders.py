"""Folders of images: flat or with a sub-folder for each class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from brenier.data.files import BROKEN, Found, rows, unreadable

T = TypeVar("T")

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
MODES = ("L", "LA", "RGB", "RGBA")  # bit 1: alpha, bit 2: colour


def read_folder(folder: Path, limit: int | None, skip_bad: bool = False, size: int | None = None) -> Found:
    """The images of a folder in the order of their names; class sub-folders, where there are any, are the labels.

    All must have one size, unless `size` scales the middle square of each to size x size. Grey images give (m, h, w)
    uint8; with colour or alpha in one, all give (m, h, w, c). Of several frames the first is taken; what EXIF says of
    the camera's position is followed. Images that cannot be read are an error, or with `skip_bad` left out and named.

    Raises:
        ValueError: no images, or images both in the folder and below; an image that cannot be read, has more than 8
            bits a channel or another size.
    """
    flat = _images(folder)
    nested = [file for sub in _entries(folder) if sub.is_dir() for file in _images(sub)]
    if flat and nested:
        raise ValueError(f"{folder} must hold images either directly or in sub-folders, got both")
    files = flat or nested
    if not files:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(IMAGES))})")
    files = [files[row] for row in rows(len(files), limit)]
    values, kept, skipped = pictures([(str(file), file) for file in files], skip_bad, size)
    labels = None if flat else np.array([files[row].parent.name for row in kept])
    return Found(values, labels, skipped=skipped, pictures=True)


def pictures(
    sources: Sequence[tuple[str, Path | bytes]], skip_bad: bool = False, size: int | None = None
) -> tuple[np.ndarray, list[int], tuple[str, ...]]:
    """Pixels (m, h, w) or (m, h, w, c) uint8 of named images, which of them these are, and why the others are not."""
    modes, skipped = {}, []
    for row, (name, source) in enumerate(sources):
        try:
            mode = _opened(name, source, _mode(name))
            if skip_bad:  # what is broken behind its header must be known before the others are read
                _opened(name, source, lambda image: image.load())
            modes[row] = mode
        except ValueError as error:
            if not skip_bad:
                raise
            skipped.append(str(error))
    if not modes:
        raise ValueError(f"none of {len(sources)} images can be read: {skipped[0]}")
    mode, kept = MODES[int(np.bitwise_or.reduce([MODES.index(each) for each in modes.values()]))], list(modes)
    first = _pixels(*sources[kept[0]], mode, size)
    values = np.empty((len(kept), *first.shape), np.uint8)
    for place, row in enumerate(kept):
        pixels = _pixels(*sources[row], mode, size)
        if pixels.shape != first.shape:
            pairs = ((sources[kept[0]][0], first), (sources[row][0], pixels))
            one, other = (f"{p.shape[1]}x{p.shape[0]} of {name}" for name, p in pairs)
            raise ValueError(f"images must have one size, got {one} and {other}; --size N (size=N) scales them to NxN")
        values[place] = pixels
    return values, kept, tuple(skipped)


def _images(folder: Path) -> list[Path]:
    return [file for file in _entries(folder) if file.suffix.lower() in IMAGES and file.is_file()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from None


def _mode(name: str) -> Callable[[Image.Image], str]:
    """The mode of `MODES` that keeps all that the image holds."""

    def held(image: Image.Image) -> str:
        mode = {"1": "L", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}.get(image.mode, image.mode)
        if mode in ("P", "PA"):
            palette = np.array(image.getpalette()).reshape(-1, 3)
            mode = ("L" if (palette == palette[:, :1]).all() else "RGB") + "A" * image.has_transparency_data
        if mode not in MODES:
            raise ValueError(f"{name} must have 8 bits a channel, got the image mode {mode}: convert it first")
        return mode

    return held


def _pixels(name: str, source: Path | bytes, mode: str, size: int | None) -> np.ndarray:
    """The pixels (h, w) or (h, w, c), upright."""

    def upright(image: Image.Image) -> np.ndarray:
        turned = ImageOps.exif_transpose(image).convert(mode)
        return np.asarray(turned if size is None else ImageOps.fit(turned, (size, size)))

    return _opened(name, source, upright)


def _opened(name: str, source: Path | bytes, verb: Callable[[Image.Image], T]) -> T:
    """What `verb` makes of the image, or one ValueError for all that a broken file can raise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that say nothing about the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
                return verb(image)
    except BROKEN as error:
        raise unreadable(name, error) from None
