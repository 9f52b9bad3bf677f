"""Malformed files, arrays, tables and images: exit code 2, one line that names the value, nothing left behind."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from safetensors.numpy import save_file

import brenier
from brenier.cli import main

RNG = np.random.default_rng(0)
X = RNG.random((80, 5))
GREY = RNG.integers(0, 256, (30, 8, 8), dtype=np.uint8)
HOLE = X.copy()
HOLE[3, 1] = np.nan
ENDLESS = X.copy()
ENDLESS[7, 0] = np.inf


def everything(folder):
    """All that is in a folder, with its content."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(capsys, folder, arguments, parts):
    before = everything(folder)
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert exit.value.code == 2
    assert out == ""
    assert err.startswith("brenier: ")
    assert err.count("\n") == 1, err
    for part in parts:
        assert part in err, f"{part!r} is not in {err!r}"
    assert everything(folder) == before


# --- files, each a function of a folder to the path that it wrote ----------------------------------------------------


def raw(name, content):
    def make(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


def npy(values, cut=None, name="x.npy"):
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return raw(name, buffer.getvalue()[:cut])


def header(shape, descr="<f8", body=b"\0" * 64, version=b"\1\0"):
    """A file in NumPy's format whose header says what it likes."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + body


def npz(cut=None, spoilt=None, **arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    content = bytearray(buffer.getvalue()[:cut])
    if spoilt is not None:
        content[spoilt : spoilt + 40] = b"!" * 40
    return raw("x.npz", bytes(content))


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return raw("x.npz", buffer.getvalue())


def encrypted():
    buffer = io.BytesIO()
    np.savez(buffer, x=X)
    content = bytearray(buffer.getvalue())
    content[6] |= 1
    content[content.rfind(b"PK\1\2") + 8] |= 1
    return raw("x.npz", bytes(content))


def idx(head, body=b"", packed=False, name="x.idx"):
    content = bytes(head) + body
    return raw(name + ".gz" * packed, gzip.compress(content) if packed else content)


def sizes(*shape, kind=8):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)


def labelled_idx(labels):
    def make(folder):
        (folder / "a-images-idx3-ubyte").write_bytes(sizes(*GREY.shape) + GREY.tobytes())
        (folder / "a-labels-idx1-ubyte").write_bytes(labels)
        return folder / "a-images-idx3-ubyte"

    return make


def tensors(cut=None, **arrays):
    def make(folder):
        save_file(arrays, folder / "x.safetensors")
        content = (folder / "x.safetensors").read_bytes()
        (folder / "x.safetensors").write_bytes(content[:cut])
        return folder / "x.safetensors"

    return make


def lines(*rows, name="x.csv", repeat=1):
    first, *rest = rows
    return raw(name, ("\n".join([first, *rest * repeat]) + "\n").encode())


def numbered(column, name="x.csv", m=40):
    """A table of a number and of what `column` makes of the row."""
    return lines(f"a,{name.split('.')[0]}", *(f"{i * i % 17},{column(i)}" for i in range(m)))


def arrow(**columns):
    def make(folder):
        parquet.write_table(pa.table(columns), folder / "x.parquet")
        return folder / "x.parquet"

    return make


def images(*made, folder_name="images", **named):
    """A folder of images, each an array, a PIL image or bytes under its name."""

    def make(folder):
        place = folder / folder_name
        place.mkdir()
        for number, image in enumerate(made):
            (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(place / f"{number:02}.png")
        for name, content in named.items():
            path = place / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return place

    return make


def picture(values=GREY[0], kind="png", mode=None):
    buffer = io.BytesIO()
    (Image.fromarray(values) if mode is None else Image.new(mode, (8, 8))).save(buffer, kind)
    return buffer.getvalue()


def png_of(width, height):
    """The header of a huge image."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    data = struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data


def saved(table, features, state=None, info=None, cut=None, broken=None):
    """A folder as `datasets` saves it."""

    def make(folder):
        place = folder / "set"
        place.mkdir()
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        (place / "data.arrow").write_bytes(sink.getvalue()[:cut])
        files = {"_data_files": [{"filename": "data.arrow"}]} if state is None else state
        (place / "state.json").write_text(json.dumps(files) if broken is None else broken)
        if info is not False:
            (place / "dataset_info.json").write_text(json.dumps({"features": features}))
        return place

    return make


def value(kind="float64"):
    return {"dtype": kind, "_type": "Value"}


NUMBERS = pa.table({"a": X[:, 0], "b": X[:, 1]})
CELLS = pa.array([{"bytes": picture(image), "path": None} for image in GREY])
IMAGE = {"_type": "Image"}
CLASSES = {"names": ["cat", "dog"], "_type": "ClassLabel"}

ROWS = {
    # paths
    "no such file": (lambda folder: folder / "gone.npy", ["no file or folder", "gone.npy", "digits"]),
    "no such table": (lambda folder: folder / "gone.csv", ["no file", "gone.csv"]),
    "another suffix": (raw("x.docx", b"x"), ["must be an .npy", "the suffix .docx"]),
    "no suffix": (raw("x", b"x"), ["got no suffix"]),
    # .npy
    "npy: empty": (raw("x.npy", b""), ["x.npy cannot be read"]),
    "npy: text": (raw("x.npy", b"hello, world"), ["x.npy cannot be read", "magic"]),
    "npy: cut in its header": (npy(X, 40), ["x.npy cannot be read"]),
    "npy: cut in its values": (npy(X, -100), ["x.npy cannot be read", "(80, 5)", "3,100 bytes"]),
    "npy: says 8 PB": (raw("x.npy", header((10**9, 10**6))), ["(1000000000, 1000000)", "64 bytes"]),
    "npy: says a negative size": (raw("x.npy", header((-4, 2))), ["(-4, 2)"]),
    "npy: says an unknown dtype": (raw("x.npy", header((4, 2), "<q9")), ["x.npy cannot be read"]),
    "npy: says a huge dtype": (raw("x.npy", header((4, 2), "|V999999999")), ["x.npy cannot be read"]),
    "npy: a later version": (raw("x.npy", header((4, 2), version=b"\x09\0")), ["x.npy cannot be read"]),
    "npy: a header that is code": (raw("x.npy", header("__import__('os').getcwd()")), ["x.npy cannot be read"]),
    "npy: pickled": (npy(np.array([{}, {}])), ["Python objects, which are never unpickled"]),
    "npy: NaN": (npy(HOLE), ["1 NaN or Inf, the first in row 3"]),
    "npy: infinity": (npy(ENDLESS), ["1 NaN or Inf, the first in row 7"]),
    "npy: complex": (npy(X + 1j), ["real numbers, got complex128"]),
    "npy: strings": (npy(np.array([["a", "b"]] * 30)), ["real numbers, got strings"]),
    "npy: dates": (npy(np.array([["2020-01-01"]] * 30, "M8[D]")), ["real numbers, got datetime64[D]"]),
    "npy: a number": (npy(np.array(3.0)), ["at least one sample", "shape ()"]),
    "npy: one dimension": (npy(np.arange(50.0)), ["shape (m, d)", "(50,)"]),
    "npy: five dimensions": (npy(RNG.random((2, 2, 2, 2, 2))), ["(2, 2, 2, 2, 2)"]),
    "npy: no rows": (npy(np.zeros((0, 5))), ["at least one sample", "(0, 5)"]),
    "npy: no columns": (npy(np.zeros((40, 0))), ["at least one sample", "(40, 0)"]),
    "npy: one row": (npy(X[:1]), ["at least 2 samples, got 1"]),
    "npy: a few rows": (npy(X[:20]), ["at least 20 samples to fit and 6 to judge by, got 18 and 2"]),
    "npy: equal rows": (npy(np.ones((40, 3))), ["different samples, got 40 equal rows"]),
    "npy: small images": (npy(RNG.random((40, 5, 7))), ["at least 8x8", "5x7"]),
    "npy: bright images": (npy(GREY / 100), ["floats 0..1", "2.5"]),
    "npy: whole numbers past 255": (npy(GREY.astype(int) * 2), ["whole numbers 0..255"]),
    "npy: whole numbers up to 1": (npy(GREY % 2), ["0..255", "up to 1"]),
    # .npz
    "npz: empty": (raw("x.npz", b""), ["isn't a zip archive"]),
    "npz: text": (raw("x.npz", b"hello"), ["isn't a zip archive"]),
    "npz: cut": (npz(cut=-500, x=X), ["isn't a zip archive, or it is truncated"]),
    "npz: no arrays": (zipped(), ["x_train/y_train", "got none"]),
    "npz: other keys": (npz(a=X, b=X), ["x_train/y_train or x/y or images/labels", "got a, b"]),
    "npz: a changed byte": (npz(spoilt=1000, x=X), ["x.npz cannot be read", "CRC"]),
    "npz: no array within": (zipped(x=b"hello, world"), ["x.npz cannot be read"]),
    "npz: an empty member": (zipped(x=b""), ["x.npz cannot be read"]),
    "npz: says 8 PB": (zipped(x=header((10**9, 10**6))), ["(1000000000, 1000000)", "64 bytes"]),
    "npz: with a password": (encrypted(), ["x.npz cannot be read", "password"]),
    "npz: pickled": (npz(x=np.array([{}, {}])), ["never unpickled"]),
    "npz: NaN": (npz(x=HOLE), ["1 NaN or Inf, the first in row 3"]),
    "npz: too few labels": (npz(x=X, y=np.arange(79)), ["one entry per sample, got 79 for 80"]),
    "npz: labels of two dimensions": (npz(x=X, y=X.astype(int)), ["labels must have one dimension, got shape (80, 5)"]),
    "npz: fractions as labels": (npz(x=X, y=X[:, 0]), ["labels must be integers or strings, got float64"]),
    "npz: test samples of another shape": (npz(x_train=X, x_test=X[:, :3]), ["one shape, got (5,) and (3,)"]),
    "npz: test samples that were seen": (
        npz(x_train=X, x_test=X[:30]),
        ["all 30 test samples", "training samples too"],
    ),
    # IDX
    "idx: empty": (idx(b""), ["isn't an IDX file", "missing"]),
    "idx: text": (idx(b"hello"), ["isn't an IDX file", "68 65 6c 6c"]),
    "idx: an unknown type": (idx([0, 0, 7, 1]), ["isn't an IDX file", "00 00 07 01"]),
    "idx: no dimensions": (idx([0, 0, 8, 0]), ["isn't an IDX file", "00 00 08 00"]),
    "idx: cut in its sizes": (idx(sizes(30, 8, 8)[:9]), ["must hold", "found 9"]),
    "idx: cut in its values": (idx(sizes(30, 8, 8), GREY.tobytes()[:-5]), ["must hold 1936 bytes", "found 1931"]),
    "idx: more than it says": (idx(sizes(30, 8, 8), GREY.tobytes() + b"more"), ["must hold 1936", "found 1940"]),
    "idx: says 2^96 bytes": (idx(sizes(2**32 - 1, 2**32 - 1, 2**32 - 1)), ["must hold 79228162458924105385300197391"]),
    "idx: one dimension": (idx(sizes(50), bytes(range(50))), ["shape (m, d)", "(50,)"]),
    "idx.gz: not packed": (raw("x.idx.gz", sizes(2)), ["x.idx.gz cannot be read"]),
    "idx.gz: cut": (raw("x.idx.gz", gzip.compress(sizes(30, 8, 8) + GREY.tobytes())[:-300]), ["must hold 1936 bytes"]),
    "idx.gz: a bomb": (idx(sizes(30, 8, 8), bytes(10**7), packed=True), ["must hold 1936 bytes", "found"]),
    "idx: too few labels": (labelled_idx(sizes(29) + bytes(29)), ["one entry per sample, got 29 for 30"]),
    "idx: broken labels": (labelled_idx(b"\0\0"), ["a-labels-idx1-ubyte isn't an IDX file"]),
    # .safetensors
    "safetensors: empty": (raw("x.safetensors", b""), ["x.safetensors cannot be read"]),
    "safetensors: text": (raw("x.safetensors", b"hello, world"), ["x.safetensors cannot be read"]),
    "safetensors: cut": (tensors(cut=-10, x=X), ["x.safetensors cannot be read"]),
    "safetensors: says a long header": (
        raw("x.safetensors", struct.pack("<Q", 2**60) + b"{}"),
        ["x.safetensors cannot be read"],
    ),
    "safetensors: several": (tensors(a=X, b=X), ["x_train/y_train or x/y or images/labels", "got a, b"]),
    "safetensors: NaN": (tensors(x=HOLE), ["1 NaN or Inf, the first in row 3"]),
    "safetensors: fractions as labels": (tensors(x=X, y=X[:, 0].copy()), ["labels must be integers or strings"]),
    # tables
    "csv: empty": (raw("x.csv", b""), ["x.csv is empty"]),
    "csv: names alone": (lines("a,b"), ["must have rows, got none below the names a, b"]),
    "csv: no names": (lines("1,2", "3,4"), ["must begin with a row of names, got 1, 2"]),
    "csv: a nameless column": (lines(",a", "0,3", "1,4"), ["column 1", "must have a name", "index"]),
    "csv: a name twice": (lines("a,a", "1,2", "3,4"), ["columns of different names, got 'a' twice"]),
    "csv: semicolons": (lines("a;b", "1;2", "3;4"), ["must have ',' between its columns, got ';' in 'a;b'"]),
    "csv: a long row": (lines("a,b", "1,2", "3,4,5"), ["cannot be read", "Expected 2 columns, got 3"]),
    "csv: a short row": (lines("a,b", "1,2", "3"), ["cannot be read", "Expected 2 columns, got 1"]),
    "csv: no UTF-8": (raw("x.csv", b"a,b\n1,caf\xe9\n"), ["must be written in UTF-8", "column 'b'"]),
    "csv: no UTF-8 in a name": (raw("x.csv", b"a,caf\xe9\n1,2\n"), ["cannot be read"]),
    "csv: noise": (raw("x.csv", RNG.bytes(500)), ["x.csv"]),
    "csv: one row": (lines("a,b", "1,2"), ["at least 2 samples, got 1"]),
    "csv: equal rows": (lines("a,b", "1,x", repeat=80), ["all 8 test samples", "training samples too"]),
    "csv: a few rows": (numbered(lambda i: i % 3, m=12), ["at least 20 samples to fit", "got 10 and 2"]),
    "csv: names of people": (
        numbered(lambda i: f"person{i}", "name.csv"),
        ["'name' holds 40 different texts in 40 rows", "--drop name"],
    ),
    "csv: row numbers": (
        numbered(lambda i: 1000 + i, "id.csv"),
        ["'id' only numbers the rows: 1000, 1001", "--drop id"],
    ),
    "csv: infinity": (numbered(lambda i: "inf" if i == 4 else 0.5 * i), ["'x' must be finite, got inf in row 4"]),
    "csv: whole numbers past 2^53": (numbered(lambda i: 2**60 + 7 * i), ["'x' must hold whole numbers below 2^53"]),
    "csv: times of day": (numbered(lambda i: f"12:00:{i:02}"), ["'x' must hold numbers", "time32[s]", "--drop x"]),
    "tsv: commas": (
        lines(*("a,b", "1,2", "3,4"), name="x.tsv", repeat=20),
        [r"must have '\t' between its columns, got ',' in 'a,b'"],
    ),
    "parquet: empty": (raw("x.parquet", b""), ["x.parquet cannot be read"]),
    "parquet: text": (raw("x.parquet", b"hello, world"), ["x.parquet cannot be read"]),
    "parquet: cut": (lambda folder: cut(arrow(a=X[:, 0])(folder), 300), ["x.parquet cannot be read"]),
    "parquet: lists": (
        arrow(a=X[:, 0], b=[[1, 2]] * 80),
        ["'b' must hold numbers, texts, booleans or dates, got list"],
    ),
    "parquet: bytes": (arrow(a=X[:, 0], b=[b"x"] * 80), ["'b' must hold numbers", "got binary"]),
    "parquet: no rows": (arrow(a=pa.array([], pa.float64())), ["must have rows, got none"]),
    "parquet: no columns": (arrow(), ["must have rows, got none"]),
    # folders of images
    "images: none": (images(), ["holds no images", ".png"]),
    "images: one": (images(GREY[0]), ["at least 2 samples, got 1"]),
    "images: a few": (images(*GREY[:8]), ["at least 20 samples to fit", "got 7 and 1"]),
    "images: equal": (images(*[GREY[0]] * 30), ["different samples, got 30 equal rows"]),
    "images: here and below": (images(GREY[0], cat__a_png=picture()), ["either directly or in sub-folders, got both"]),
    "images: text": (images(*GREY, x_png=b"hello"), ["x.png cannot be read", "cannot identify"]),
    "images: empty files": (images(*GREY, x_webp=b""), ["x.webp cannot be read"]),
    "images: a cut PNG": (images(*GREY, x_png=picture()[:60]), ["x.png cannot be read"]),
    "images: a cut JPEG": (images(*GREY, x_jpg=picture(kind="jpeg")[:-200]), ["x.jpg cannot be read"]),
    "images: a cut WebP": (images(*GREY, x_webp=picture(kind="webp")[:-30]), ["x.webp cannot be read"]),
    "images: a cut TIFF": (images(*GREY, x_tif=picture(kind="tiff")[:-40]), ["x.tif cannot be read"]),
    "images: a cut GIF": (images(*GREY, x_gif=picture(kind="gif")[:40]), ["x.gif cannot be read"]),
    "images: a huge PNG": (images(*GREY, x_png=png_of(60_000, 60_000)), ["x.png cannot be read", "3600000000 pixels"]),
    "images: a large PNG": (images(*GREY, x_png=png_of(10_000, 10_000)), ["x.png cannot be read", "100000000 pixels"]),
    "images: 16 bits": (images(*GREY, x_png=picture(mode="I;16")), ["8 bits a channel", "I;16"]),
    "images: 16 bits in a TIFF": (images(*GREY, x_tif=picture(kind="tiff", mode="I;16")), ["8 bits a channel", "I;16"]),
    "images: floats": (images(*GREY, x_tif=picture(kind="tiff", mode="F")), ["8 bits a channel", "mode F"]),
    "images: two sizes": (images(*GREY, GREY[0].repeat(2, 0)), ["one size, got 8x8 of", "8x16 of", "--size N"]),
    "images: small": (images(*GREY[:, :4, :4]), ["at least 8x8", "4x4"]),
    # folders that datasets saved
    "arrow: not whole": (saved(NUMBERS, {}, info=False), ["dataset_info.json is missing"]),
    "arrow: no JSON": (saved(NUMBERS, {}, broken="{"), ["state.json cannot be read"]),
    "arrow: no files named": (saved(NUMBERS, {}, state={}), ["must say its files and features"]),
    "arrow: a list for a record": (saved(NUMBERS, {}, broken="[1]"), ["must say its files and features"]),
    "arrow: a missing file": (
        saved(NUMBERS, {}, state={"_data_files": [{"filename": "gone.arrow"}]}),
        ["'gone.arrow', which is not in the folder"],
    ),
    "arrow: a file elsewhere": (
        saved(NUMBERS, {}, state={"_data_files": [{"filename": "../../etc/passwd"}]}),
        ["'../../etc/passwd', which is not in the folder"],
    ),
    "arrow: cut": (saved(NUMBERS, {"a": value(), "b": value()}, cut=200), ["data.arrow cannot be read"]),
    "arrow: other columns": (saved(NUMBERS, {"a": value()}), ["must describe the columns a, b, got a"]),
    "arrow: no rows": (saved(NUMBERS[:0], {"a": value(), "b": value()}), ["must hold rows, got none in 1 files"]),
    "arrow: lists of two lengths": (
        saved(pa.table({"v": [[1.0, 2.0], [3.0]] * 20}), {"v": {"feature": value(), "_type": "List"}}),
        ["lists in column 'v' must have one length, got 2 and others"],
    ),
    "arrow: a class too many": (
        saved(pa.table({"a": X[:, 0], "k": [2] * 80}), {"a": value(), "k": CLASSES}),
        ["class labels in column 'k' must count the 2 names, got 2"],
    ),
    "arrow: two columns of images": (
        saved(pa.table({"p": CELLS, "q": CELLS}), {"p": IMAGE, "q": IMAGE}),
        ["one column of images or lists, got p, q"],
    ),
    "arrow: images elsewhere": (
        saved(pa.table({"p": pa.array([{"bytes": None, "path": "a.png"}] * 30)}), {"p": IMAGE}),
        ["column 'p' must hold the bytes of its images, got none in row 0"],
    ),
    "arrow: no image": (
        saved(pa.table({"p": pa.array([{"bytes": b"hello", "path": None}] * 30)}), {"p": IMAGE}),
        ["the image in row 0 of column 'p' cannot be read"],
    ),
}


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])
    return path


@pytest.mark.parametrize("name", ROWS)
def test_data_that_cannot_be_fitted(name, tmp_path, capsys):
    make, parts = ROWS[name]
    refused(capsys, tmp_path, ["fit", make(tmp_path), "--out", tmp_path / "run", "--quiet"], parts)


FRAMES = {
    "numbers and texts": (pd.DataFrame({"a": [1, "x"] * 20}, dtype=object), "a DataFrame cannot be read", "column a"),
    "lists": (pd.DataFrame({"a": [[1], [2]] * 20}), "'a' must hold numbers", "list"),
    "complex numbers": (pd.DataFrame({"a": [1j, 2.0] * 20}), "a DataFrame cannot be read", "complex"),
    "durations": (pd.DataFrame({"a": pd.to_timedelta([1, 2] * 20, "h")}), "'a' must hold numbers", "duration"),
    "periods": (pd.DataFrame({"a": pd.period_range("2020", periods=40, freq="D")}), "'a'", "period"),
    "one name twice": (pd.DataFrame(X[:, :2], columns=["a", "a"]), "a", "uplicate"),
    "no rows": (pd.DataFrame({"a": [1.0]}).iloc[:0], "a DataFrame must have rows", "the names a"),
    "no columns": (pd.DataFrame(index=range(9)), "a DataFrame must have", "got none"),
    "infinity": (pd.DataFrame({"a": [1.0, np.inf]}), "'a' must be finite, got inf in row 1", ""),
    "an id": (pd.DataFrame({"a": range(7, 50)}), "'a' only numbers the rows: 7, 8, 9", "drop=['a']"),
    "decimals": (pa.table({"a": pa.array([1, 2] * 9).cast(pa.decimal128(30, 2))}), "'a' must hold numbers", "decimal"),
    "one column of a frame": (pd.Series(range(40)), "values of data must have shape (m, d)", "(40,)"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_that_are_no_tables(name):
    frame, *parts = FRAMES[name]
    with pytest.raises(ValueError, match=r"^[^\n]+$") as raised:
        brenier.AEOT().fit(frame)
    for part in parts:
        assert part in str(raised.value)


PEOPLE = [f"{20 + i % 37},{'xyz'[i % 3]},{'' if i % 9 == 0 else i % 5},{0.1 * (i * i % 31):.1f}" for i in range(60)]
TABLE = lines("age,kind,grade,score", *PEOPLE)
OPTIONS = {
    "a label that isn't there": (TABLE, ["--label", "kinds"], ["no column 'kinds' in the table", "age, kind, grade"]),
    "a label with gaps": (TABLE, ["--label", "grade"], ["labels must not be missing, got 7 gaps in column 'grade'"]),
    "a label of fractions": (TABLE, ["--label", "score"], ["labels must be texts", "double in column 'score'"]),
    "one label only": (
        lines("a,k", *(f"{i * i},z" for i in range(40))),
        ["--label", "k"],
        ["labels must tell rows apart, got z only in column 'k'"],
    ),
    "a column to drop that isn't there": (TABLE, ["--drop", "height"], ["no column 'height' in the table"]),
    "the label dropped": (
        TABLE,
        ["--drop", "kind", "--label", "kind"],
        ["'kind' cannot be both dropped and the label"],
    ),
    "all columns dropped": (
        TABLE,
        ["--drop", "age", "--drop", "grade", "--drop", "score", "--label", "kind"],
        ["must hold a column besides the label"],
    ),
    "a label of an array": (npy(X), ["--label", "a"], ["label and drop name columns of a table, and x is none"]),
    "columns of images dropped": (images(*GREY), ["--drop", "a"], ["label and drop name columns of a table"]),
    "bad rows skipped": (TABLE, ["--skip-bad"], ["skip_bad and size are for folders of images, and x is none"]),
    "an array scaled": (npy(X), ["--size", "16"], ["skip_bad and size are for folders of images"]),
    "images scaled to 4 pixels": (images(*GREY), ["--size", "4"], ["--size", "8"]),
    "nothing but bad images": (
        images(a_png=b"a", b_png=b"b"),
        ["--skip-bad"],
        ["none of 2 images can be read", "a.png cannot be read"],
    ),
    "an unknown chart": (TABLE, ["--chart", "sphere"], ["'sphere' is not one of"]),
    "a column of an Arrow set that isn't there": (
        saved(NUMBERS, {"a": value(), "b": value()}),
        ["--label", "c"],
        ["no column 'c' in", "its columns are a, b"],
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_do_not_fit_the_data(name, tmp_path, capsys):
    make, options, parts = OPTIONS[name]
    refused(capsys, tmp_path, ["fit", make(tmp_path), "--out", tmp_path / "run", *options], parts)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    samples = brenier.data.load(TABLE(folder), label="kind")
    brenier.AEOT(tol=0.5).fit(samples).save(folder / "model")
    return folder / "model"


AGES = [f"{20 + i % 37}" for i in range(60)]
OTHERS = {
    "a column less": (lines("age,kind", "30,x", "40,y", repeat=10), ["must have the column 'grade'", "age, kind"]),
    "another dtype": (lines("age,grade,score", "old,1,1.5", "young,2,2.5", repeat=10), ["'age' must hold int64"]),
    "a fraction among whole numbers": (lines("age,grade,score", "30.5,1,1.5", repeat=20), ["'age' must hold int64"]),
    "a gap where there was none": (
        lines("age,grade,score", "30,1,1.5", ",2,2.5", repeat=10),
        ["'age' has no missing values in the training data, got one in row 1"],
    ),
    "infinity": (
        lines("age,grade,score", "30,1,1.5", "31,2,inf", repeat=10),
        ["'score' must be finite, got inf in row 1"],
    ),
    "an array": (npy(X), ["a table must be a data frame or a .csv", "got a ndarray"]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_tables_that_the_model_does_not_know(name, run, tmp_path, capsys):
    make, parts = OTHERS[name]
    refused(capsys, tmp_path, ["evaluate", run, make(tmp_path)], parts)


@pytest.mark.parametrize("suffix", ["png", "npz", "npy"])
def test_tables_are_written_as_tables(suffix, run, tmp_path, capsys):
    refused(
        capsys,
        tmp_path,
        ["sample", run, "--out", tmp_path / f"new.{suffix}"],
        ["makes tables of 3 columns, no", "write .csv, .tsv or .parquet"],
    )
