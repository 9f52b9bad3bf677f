"""Readers of files: `.npy`, `.npz`, `.safetensors`, IDX. Each returns (values, labels or None)."""

from __future__ import annotations

import lzma
import math
import os
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from brenier.checks import listed

if TYPE_CHECKING:
    from brenier.data.tables import TableLayout

Pair = tuple[np.ndarray, np.ndarray | None]

KEYS = {  # arrays of an .npz, by split
    "train": (("x_train", "y_train"), ("x", "y"), ("images", "labels")),
    "test": (("x_test", "y_test"),),
}
IDX_SIZES = 8  # dimensions, at most
LONGEST = 300  # characters of a reason
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
BROKEN = (  # what a broken file makes its reader raise
    *(OSError, ValueError, KeyError, EOFError, SyntaxError, RuntimeError, OverflowError, MemoryError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)


class Found(NamedTuple):
    """What a reader found: values, labels, the layout of a table, why files were skipped, whether it opened images."""

    x: Any
    y: Any = None
    table: TableLayout | None = None
    skipped: tuple[str, ...] = ()
    pictures: bool = False


def read_npy(path: Path) -> Pair:
    """The array of an `.npy` file."""
    try:
        with path.open("rb") as file:
            return _array(file, path, path.stat().st_size), None
    except BROKEN as error:
        raise unreadable(path, error) from None


def _array(file: IO[bytes], path: Path, size: int) -> np.ndarray:
    """The array of a stream in NumPy's format, which must hold as many of its `size` bytes as its header says."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of headers that Python 2 wrote: they are read all the same
        shape, _, dtype = read(file)
        need = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and (min(shape, default=0) < 0 or need > size - file.tell()):
            raise ValueError(f"its header says {dtype} of shape {shape}, it holds {size - file.tell():,} bytes")
        check_room(path, need)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def check_room(path: Path, need: int) -> None:
    """Raise ValueError where a file says that it holds more bytes than this machine has memory."""
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**40
    if need > have:
        raise ValueError(f"{path} says that it holds {need:,} bytes, more than this machine's {have:,} bytes of memory")


def read_npz(path: Path, split: str) -> Pair:
    """The arrays of an `.npz` file under the keys of `KEYS`, labels under any of theirs, or its only array."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} isn't a zip archive, or it is truncated")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}

            def array(key: str) -> np.ndarray:
                with archive.open(members[key]) as file:
                    return _array(file, path, members[key].file_size)

            x, y = _keys(list(members), path, split)
            return array(x), None if y is None else array(y)
    except BROKEN as error:
        raise unreadable(path, error) from None


def read_safetensors(path: Path, split: str) -> tuple[Any, Any]:
    """The tensors of a `.safetensors` file, found as `read_npz` finds arrays."""
    try:
        tensors = load_file(path)
        x, y = _keys(list(tensors), path, split)
        return tensors[x], None if y is None else tensors[y]
    except (*BROKEN, SafetensorError) as error:
        raise unreadable(path, error) from None


def _keys(keys: list[str], path: Path, split: str) -> tuple[str, str | None]:
    """The names of values and labels."""
    for x, y in KEYS[split]:
        if x in keys:
            return x, next((name for name in (y, *dict(KEYS[split]).values()) if name in keys), None)
    if len(keys) == 1 and split == "train":
        return keys[0], None
    wanted = " or ".join("/".join(pair) for pair in KEYS[split])
    raise ValueError(f"{path} must hold the keys {wanted} for its {split} split, got {listed(keys) or 'none'}")


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
            data = _unpacked(data, path)
    except BROKEN as error:
        raise unreadable(path, error) from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_TYPES or not 0 < data[3] <= IDX_SIZES:
        raise ValueError(f"{path} isn't an IDX file: its first bytes are {data[:4].hex(' ') or 'missing'}")
    start = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:start].ljust(start - 4, b"\0"), ">u4").tolist()
    dtype = np.dtype(IDX_TYPES[data[2]])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise ValueError(f"{path} must hold {expected} bytes for the sizes {shape}, found {len(data)}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _unpacked(packed: bytes, path: Path) -> bytes:
    """The bytes that the header of an IDX file announces and one more, if there are as many: no bomb goes off."""
    head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, 4 + 4 * 255)
    sizes = (
        np.frombuffer(head[4 : 4 + 4 * head[3]][: (len(head) - 4) // 4 * 4], ">u4").tolist() if len(head) > 4 else []
    )
    need = min(len(head) + 8 * math.prod(sizes) + 1, 1100 * len(packed))  # deflate gives 1,032 bytes for one at most
    check_room(path, need)
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, need)


def rows(m: int, limit: int | None) -> Sequence[int]:
    """`limit` of m rows, evenly spread and in order: floor(i m / limit)."""
    return range(m) if limit is None or limit >= m else [i * m // limit for i in range(limit)]


def unreadable(path: Path | str, error: Exception) -> ValueError:
    """One sentence for whatever a reader met."""
    if str(error).startswith(str(path)):
        return ValueError(str(error))
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("\n")[0]
    if not reason.strip():
        reason = {"EOFError": "it ends too early"}.get(type(error).__name__, type(error).__name__)
    if "Object arrays" in str(error):
        reason = "it holds Python objects, which are never unpickled"
    if len(reason) > LONGEST:  # some libraries repeat what they read, byte by byte
        reason = reason[:LONGEST] + " …"
    return ValueError(f"{path} cannot be read: {reason}")
