"""What every data set becomes: `Samples`, valid from birth, and `Layout`, the way to a network's form and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brenier.data.tables import TableLayout

SHAPES = "(m, d) for vectors; (m, h, w), (m, h, w, c) or (m, c, h, w) with c in 1..4 for images"
SMALLEST = 8  # pixels on a side of an image
SLACK = 1e-6  # how far float images may leave 0..1
FLOATS = ("float16", "bfloat16", "float32", "float64")
WHOLE = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")


def check(values: Any, name: str = "values", varied: bool = False) -> np.ndarray:
    """`values` (array, tensor, table or nested list) as a numpy array of finite real numbers, in place where possible.

    `varied` asks for what a fit needs besides: two rows or more, not all equal.

    Raises:
        TypeError: complex numbers, strings, Python objects.
        ValueError: 0-d, empty, ragged, NaN or Inf; with `varied` a single row or rows all equal.

    Example:
        >>> check([[1.0, 2.0], [float("nan"), 3.0]], name="x")
        Traceback (most recent call last):
        ...
        ValueError: x must be finite, got 1 NaN or Inf, the first in row 1
    """
    array = _array(values, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got {_kind(array)}")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} must hold at least one sample, got an array of shape {array.shape}")
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        bad = (~finite).reshape(len(array), -1).sum(1)
        raise ValueError(f"{name} must be finite, got {bad.sum()} NaN or Inf, the first in row {bad.nonzero()[0][0]}")
    if varied and len(array) < 2:
        raise ValueError(f"{name} must hold at least 2 samples, got 1")
    if varied and bool((array == array[:1]).all()):
        raise ValueError(f"{name} must hold different samples, got {len(array)} equal rows")
    return array


def check_labels(labels: Any, m: int, name: str = "labels") -> np.ndarray:
    """`labels` as an array (m,) of integers or strings.

    Raises:
        TypeError: labels that are neither integers nor strings.
        ValueError: more than one dimension, or another length than `m`.

    Example:
        >>> check_labels(["shoe", "bag", "shoe"], m=3).tolist()
        ['shoe', 'bag', 'shoe']
    """
    array = _array(labels, name)
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array.flat):
        array = array.astype(str)
    if array.dtype.kind not in "iubU":
        raise TypeError(f"{name} must be integers or strings, got {_kind(array)}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    if len(array) != m:
        raise ValueError(f"{name} must have one entry per sample, got {len(array)} for {m} samples")
    return array


@dataclass(frozen=True, eq=False)
class Samples:
    """A data set, valid from birth: `values` (m, ...) images or vectors, `labels` (m,) integers or strings, `name`.

    Images: integers 0..255 or floats 0..1, (m, h, w), (m, h, w, c) or (m, c, h, w) with c in 1..4; vectors: (m, d).
    `values` keep their dtype (a uint8 set stays uint8). `truth` holds what is known of a synthetic set, by name.
    Of a table, which `data.load` reads, `values` are numbers (m, c) as `table` says, NaN where one is missing.
    `skipped` names the files that could not be read, and why.

    Raises:
        TypeError, ValueError: as `check`, `check_labels` and `Layout.of`.

    Example:
        >>> x = Samples(np.eye(3), labels=[0, 1, 1], name="corners")
        >>> len(x), x.layout.kind, x.labels.tolist()
        (3, 'vectors', [0, 1, 1])
    """

    values: np.ndarray
    labels: np.ndarray | None = None
    name: str = "data"
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    table: TableLayout | None = None
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.table is None:
            values = check(self.values, f"values of {self.name}", varied=True)
            Layout.of(values, f"values of {self.name}")
            object.__setattr__(self, "values", values)
        elif len(self.values) < 2:
            raise ValueError(f"values of {self.name} must hold at least 2 samples, got {len(self.values)}")
        if self.labels is not None:
            object.__setattr__(self, "labels", check_labels(self.labels, len(self.values)))

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def layout(self) -> Layout | TableLayout:
        """How the values look; the columns of a table are scaled by these values."""
        return Layout.of(self.values) if self.table is None else self.table.fitted(self.values)


@dataclass(frozen=True)
class Layout:
    """How the user's arrays look, and the way to a network's form and back.

    `kind` "images" or "vectors", `shape` of one sample, `channels` "none", "first" or "last", `dtype` by name,
    `library` "numpy" or "torch". A network sees images as float32 (m, c, h, w) in 0..1 and vectors (m, d) as float64
    where they are float64, else as float32. The two ways are inverse to each other: bit for bit for images of whole
    numbers or float32 and for vectors of float32 or float64.

    Raises:
        ValueError: a field that isn't one of these.

    Example:
        >>> images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8)
        >>> layout = Layout.of(images)
        >>> x = layout.to_network(images)
        >>> x.shape, x.dtype, bool((layout.to_user(x) == images).all())
        (torch.Size([2, 1, 8, 8]), torch.float32, True)
    """

    kind: str
    shape: tuple[int, ...]
    channels: str
    dtype: str
    library: str

    def __post_init__(self) -> None:
        allowed = {
            "kind": ("images", "vectors"),
            "channels": ("first", "last", "none"),
            "library": ("numpy", "torch"),
            "dtype": (*FLOATS, *WHOLE, "bool"),
        }
        for key, choices in allowed.items():
            if getattr(self, key) not in choices:
                raise ValueError(f"{key} of a layout must be one of {', '.join(choices)}, got {getattr(self, key)!r}")
        ndim = 1 if self.kind == "vectors" else 2 if self.channels == "none" else 3
        if len(self.shape) != ndim or not all(isinstance(n, int) and n > 0 for n in self.shape):
            raise ValueError(f"shape of a layout of {self.kind} must be {ndim} positive sizes, got {self.shape}")

    @classmethod
    def of(cls, values: Any, name: str = "values") -> Layout:
        """The layout of `values`: (m, d) are vectors, all others images, with channels last where c in 1..4 is last.

        Raises:
            TypeError, ValueError: as `check`; another shape; images below 8x8 or outside 0..255 or 0..1.
        """
        array = check(values, name)
        shape, channels = array.shape[1:], "none"
        if array.ndim == 4 and (shape[2] <= 4 or shape[0] <= 4):
            channels = "last" if shape[2] <= 4 else "first"
        elif array.ndim not in (2, 3):
            raise ValueError(f"{name} must have shape {SHAPES}, got {array.shape}")
        kind = "vectors" if array.ndim == 2 else "images"
        if kind == "images":
            height, width = shape[1:] if channels == "first" else shape[:2]
            if min(height, width) < SMALLEST:
                raise ValueError(f"images in {name} must be at least {SMALLEST}x{SMALLEST}, got {height}x{width}")
            _check_range(array, name)
            if array.dtype.kind in "iu" and array.max() == 1:
                raise ValueError(
                    f"images in {name} must use 0..255, got whole numbers up to 1; pass bool or float for 0..1"
                )
        is_tensor = isinstance(values, Tensor)
        dtype = str(values.dtype).removeprefix("torch.") if is_tensor else array.dtype.name
        return cls(kind, shape, channels, dtype, "torch" if is_tensor else "numpy")

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Layout | TableLayout:
        """The layout that `asdict` wrote, of a table a `TableLayout`.

        Raises:
            ValueError: a record with other keys or values.

        Example:
            >>> layout = Layout.of(np.ones((2, 3)))
            >>> Layout.from_dict(layout.asdict()) == layout
            True
        """
        if record.get("kind") == TableLayout.kind:
            return TableLayout.from_dict(record)
        keys = set(cls.__dataclass_fields__)
        if set(record) != keys:
            raise ValueError(f"a layout must have the keys {', '.join(sorted(keys))}, got {', '.join(sorted(record))}")
        if not isinstance(record["shape"], (list, tuple)):
            raise ValueError(f"shape of a layout must be a list of sizes, got {record['shape']!r}")
        return cls(**{**record, "shape": tuple(record["shape"])})

    def asdict(self) -> dict[str, Any]:
        """A plain dict that JSON can hold."""
        return {**asdict(self), "shape": list(self.shape)}

    @property
    def network_shape(self) -> tuple[int, ...]:
        """Shape of one sample in a network's form: (c, h, w) or (d,)."""
        if self.channels == "last":
            return (self.shape[2], *self.shape[:2])
        return (1, *self.shape) if self.kind == "images" and self.channels == "none" else self.shape

    @property
    def network_dtype(self) -> torch.dtype:
        """float64 for float64 vectors, float32 for all others."""
        return torch.float64 if (self.kind, self.dtype) == ("vectors", "float64") else torch.float32

    def to_network(self, values: Any, name: str = "values") -> Tensor:
        """A new tensor (m, c, h, w) in 0..1, or (m, d). Whole numbers count as 0..255, floats and bools as 0..1.

        Raises:
            TypeError, ValueError: as `check`; samples of another shape or range.
        """
        array = check(values, name)
        if array.shape[1:] != self.shape:
            raise ValueError(f"each sample of {name} must have shape {self.shape}, got {array.shape[1:]}")
        dtype = np.float64 if self.network_dtype == torch.float64 else np.float32
        x = torch.from_numpy(array.astype(dtype, order="C"))
        if self.kind == "vectors":
            return x
        _check_range(array, name)
        x = x.div_(255) if array.dtype.kind in "iu" else x.clamp_(0, 1)
        return x.permute(0, 3, 1, 2).contiguous() if self.channels == "last" else x.reshape(-1, *self.network_shape)

    def to_user(self, x: Tensor) -> np.ndarray | Tensor:
        """The tensor (m, c, h, w) or (m, d) in the layout, dtype, range and library of the data, on the CPU.

        Images are clipped to their range; whole numbers are rounded. Vectors of whole numbers come back as float32.

        Raises:
            ValueError: samples of another shape than `network_shape`.
        """
        if tuple(x.shape[1:]) != self.network_shape:
            raise ValueError(f"each sample must have shape {self.network_shape}, got {tuple(x.shape[1:])}")
        x, dtype = x.detach().to("cpu", self.network_dtype), self.dtype
        if self.kind == "images":
            x = x.permute(0, 2, 3, 1) if self.channels == "last" else x.reshape(-1, *self.shape)
            x = x.mul(255).round() if dtype in WHOLE else x.round() if dtype == "bool" else x
            x = x.clamp(0, {"bool": 1, "int8": 127}.get(dtype, 255 if dtype in WHOLE else 1)).contiguous()
        elif dtype not in FLOATS:
            dtype = "float32"
        return x.to(getattr(torch, dtype)) if self.library == "torch" else x.numpy().astype(dtype)


def _array(values: Any, name: str) -> np.ndarray:
    """As numpy in native byte order, without a copy where possible; bfloat16, which numpy lacks, as float32."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return values.float().numpy() if values.dtype == torch.bfloat16 else values.numpy()
    try:
        array = np.asarray(values)
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    except ValueError as error:
        raise ValueError(f"{name} must have rows of one length: {str(error).rstrip('.')}") from None


def _kind(array: np.ndarray) -> str:
    """What an array holds, in words."""
    return {"U": "strings", "S": "bytes", "O": "Python objects"}.get(array.dtype.kind, str(array.dtype))


def _check_range(images: np.ndarray, name: str) -> None:
    if images.dtype in (np.uint8, np.bool_):
        return
    low, high = images.min(), images.max()
    whole = images.dtype.kind in "iu"
    if low < (0 if whole else -SLACK) or high > (255 if whole else 1 + SLACK):
        wanted = "whole numbers 0..255" if whole else "floats 0..1"
        raise ValueError(f"images in {name} must hold {wanted}, got {images.dtype} from {low:g} to {high:g}")
