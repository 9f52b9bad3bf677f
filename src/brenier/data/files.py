"""Readers of files: `.npy`, `.npz`, IDX, folders of images. Each returns (values, labels or None)."""

from __future__ import annotations

import math
import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

T = TypeVar("T")
Pair = tuple[np.ndarray, np.ndarray | None]

KEYS = {  # arrays of an .npz, by split
    "train": (("x_train", "y_train"), ("x", "y"), ("images", "labels")),
    "test": (("x_test", "y_test"),),
}
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
MODES = ("L", "LA", "RGB", "RGBA")  # bit 1: alpha, bit 2: colour
BROKEN = (  # what a broken file makes its reader raise
    *(OSError, ValueError, KeyError, EOFError, SyntaxError, RuntimeError, OverflowError, MemoryError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error, Image.DecompressionBombError),
)


def read_npy(path: Path) -> Pair:
    """The array of an `.npy` file."""
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False), None
    except BROKEN as error:
        raise _unreadable(path, error) from None


def read_npz(path: Path, split: str) -> Pair:
    """The arrays of an `.npz` file under the keys of `KEYS`, labels under any of theirs, or its only array."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} isn't a zip archive, or it is truncated")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            keys = list(archive)
            for x, y in KEYS[split]:
                if x in keys:
                    labels = next((name for name in (y, *dict(KEYS[split]).values()) if name in keys), None)
                    return archive[x], None if labels is None else archive[labels]
            if len(keys) == 1 and split == "train":
                return archive[keys[0]], None
    except BROKEN as error:
        raise _unreadable(path, error) from None
    wanted = " or ".join("/".join(pair) for pair in KEYS[split])
    raise ValueError(f"{path} must hold the keys {wanted} for its {split} split, got {', '.join(keys) or 'none'}")


def is_idx(path: Path) -> bool:
    """Whether the name says IDX: `train-images-idx3-ubyte.gz`, `labels.idx1-ubyte`, `x.idx`."""
    return re.search(r"[.-]idx(\d|\.|$)", path.name) is not None


def read_idx(path: Path) -> Pair:
    """The array of an IDX file, `.gz` or plain, and its labels file's: the name with `labels-idx1` for `images-idx3`.

    Format: two zero bytes, a type, the number k of dimensions, k sizes of 4 bytes, the entries; all big-endian.
    """
    name = re.sub(r"images([.-])idx\d", r"labels\1idx1", path.name).removesuffix(".gz")
    siblings = [path.with_name(name), path.with_name(f"{name}.gz")]
    labels = next((file for file in siblings if name != path.name.removesuffix(".gz") and file.is_file()), None)
    return _idx(path), None if labels is None else _idx(labels)


def _idx(path: Path) -> np.ndarray:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data)
    except BROKEN as error:
        raise _unreadable(path, error) from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_TYPES or data[3] == 0:
        raise ValueError(f"{path} isn't an IDX file: its first bytes are {data[:4].hex(' ') or 'missing'}")
    start = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:start].ljust(start - 4, b"\0"), ">u4").tolist()
    dtype = np.dtype(IDX_TYPES[data[2]])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise ValueError(f"{path} must hold {expected} bytes for the sizes {shape}, found {len(data)}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_folder(folder: Path, limit: int | None) -> Pair:
    """The images of a folder in the order of their names; class sub-folders, where there are any, are the labels.

    All must have one size. Grey images give (m, h, w) uint8; with colour or alpha in one, all give (m, h, w, c).
    """
    flat = _images(folder)
    nested = [file for sub in _entries(folder) if sub.is_dir() for file in _images(sub)]
    if flat and nested:
        raise ValueError(f"{folder} must hold images either directly or in sub-folders, got both")
    files = flat or nested
    if not files:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(IMAGES))})")
    files = [files[row] for row in rows(len(files), limit)]
    mode = MODES[int(np.bitwise_or.reduce([MODES.index(_mode(file)) for file in files]))]
    first = _pixels(files[0], mode)
    values = np.empty((len(files), *first.shape), np.uint8)
    for row, file in enumerate(files):
        pixels = _pixels(file, mode)
        if pixels.shape != first.shape:
            one, other = (f"{p.shape[1]}x{p.shape[0]} of {f}" for f, p in ((files[0], first), (file, pixels)))
            raise ValueError(f"images must have one size, got {one} and {other}")
        values[row] = pixels
    return values, None if flat else np.array([file.parent.name for file in files])


def rows(m: int, limit: int | None) -> Sequence[int]:
    """`limit` of m rows, evenly spread and in order: floor(i m / limit)."""
    return range(m) if limit is None or limit >= m else [i * m // limit for i in range(limit)]


def _images(folder: Path) -> list[Path]:
    return [file for file in _entries(folder) if file.suffix.lower() in IMAGES and file.is_file()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise _unreadable(folder, error) from None


def _mode(file: Path) -> str:
    """The mode of `MODES` that keeps all that the image holds."""

    def held(image: Image.Image) -> str:
        if image.mode in ("P", "PA"):
            palette = np.array(image.getpalette()).reshape(-1, 3)
            colours = "L" if (palette == palette[:, :1]).all() else "RGB"
            return colours + "A" * image.has_transparency_data
        return {"1": "L", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}.get(image.mode, image.mode)

    mode = _opened(file, held)
    if mode not in MODES:
        raise ValueError(f"{file} must have 8 bits a channel, got the image mode {mode}")
    return mode


def _pixels(file: Path, mode: str) -> np.ndarray:
    """The pixels (h, w) or (h, w, c), upright."""

    def upright(image: Image.Image) -> np.ndarray:
        return np.asarray(ImageOps.exif_transpose(image).convert(mode))

    return _opened(file, upright)


def _opened(file: Path, verb: Callable[[Image.Image], T]) -> T:
    """What `verb` makes of the image, or one ValueError for all that a broken file can raise."""
    try:
        with Image.open(file) as image:
            return verb(image)
    except BROKEN as error:
        raise _unreadable(file, error) from None


def _unreadable(path: Path, error: Exception) -> ValueError:
    """One sentence for whatever a reader met."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("\n")[0]
    if "Object arrays" in str(error):
        reason = "it holds Python objects, which are never unpickled"
    return ValueError(f"{path} cannot be read: {reason}")
