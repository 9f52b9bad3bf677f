"""Readers of IDX, .npz, .npy, CSV and .safetensors on spoilt files: data, or one sentence; nothing else, no bomb.

A short seeded run in the suite. For longer, on files that differ from run to run:

    python tests/status/test_data_fuzz_status.py --seconds 600
"""

from __future__ import annotations

import argparse
import gzip
import io
import struct
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from brenier import data

RNG = np.random.default_rng(0)
ROOM = 4 * 2**30  # bytes of address space in a long run: a bomb must not go off
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def stored(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", content)
    return buffer.getvalue()


def idx(array, code):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


IMAGES = RNG.integers(0, 256, (4, 8, 8), dtype=np.uint8)
X = RNG.random((12, 3))
GOOD = {
    "x.idx": [idx(IMAGES, 8), idx(X.astype(">f8"), 14), idx(X.astype(">f4"), 13), idx(IMAGES[:, 0].astype(">i2"), 11)],
    "x.idx.gz": [
        gzip.compress(idx(IMAGES, 8), mtime=0),
        gzip.compress(idx((np.arange(180_000) % 251).astype(np.uint8).reshape(2, 300, 300), 8), mtime=0),
    ],
    "x.npy": [npy(X), npy(IMAGES), npy(np.asfortranarray(X)), npy(X > 0.5)],
    "x.npz": [npz(x=X), npz(x_train=X, y_train=np.arange(12), x_test=X), npz(x=X, y=np.array(list("abcabcabcabc")))],
    "x.safetensors": [save({"x": X}), save({"x": X.astype(np.float16), "y": np.arange(12)})],
    "x.csv": [
        b"a,b,c\n" + b"".join(b"%d,%c,%.2f\n" % (i * i, 97 + i % 3, i / 7) for i in range(20)),
        b'day,"n, m",yes\r\n' + b"".join(b'2020-01-%02d,"q ""%d""",%s\r\n' % (i, i % 2, b"true") for i in range(1, 20)),
        b"t,u\n" + b"".join(b"2020-01-01T00:%02d:%02d.5,%d\n" % (i, i, 10**i) for i in range(16)),
        b"a\n1\n\n3\nNA\n" + b"5\n" * 9,
    ],
}
WORDS = [
    b"\0\0\x08\3",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\0",
    b"99999999999999999999",
    b"-1",
    b"nan",
    b"inf",
]
WORDS += [
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\xff",
    b"1e999",
    b"(",
    b"'",
    b"{",
    b"|O",
    b"<U9",
    b"PK\1\2",
    b"true",
    b"2020-13-45",
]

edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "replace", "repeat", "remove"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 255),
        st.sampled_from(WORDS) | st.binary(max_size=6),
    ),
    max_size=6,
)


def spoilt(content, changes):
    """The content after some edits."""
    for kind, where, number, word in changes:
        at = int(where * len(content))
        end = at + (1 if kind == "flip" else number if kind in ("remove", "repeat") else len(word))
        new = {
            "flip": bytes([content[at] ^ number]) if at < len(content) else b"",
            "cut": content[:0],
            "insert": word + content[at:end],
            "replace": word,
            "repeat": content[at:end] * 3,
            "remove": b"",
        }[kind]
        content = content[:at] + new + (b"" if kind == "cut" else content[end:])
    return content


def survives(name, content):
    """Read it as a data set, or be told in one sentence why that cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            samples = data.load(path)
            layout = samples.layout
            back = layout.to_user(layout.to_network(samples.values))
            assert len(back) == len(samples)
        except (ValueError, TypeError) as error:
            said = str(error)
            assert said.strip()
            assert "\n" not in said
            assert len(said) < 1000
            assert "allocate" not in said  # memory was asked for before the sizes were checked


def fuzz(name, examples):
    """A test of spoilt files of a kind."""

    @settings(max_examples=examples, deadline=None, database=None, derandomize=False, suppress_health_check=QUIET)
    @given(base=st.sampled_from(GOOD[name]), changes=edits)
    def run(base, changes):
        survives(name, spoilt(base, changes))

    return run


@pytest.mark.parametrize("name", GOOD)
def test_spoilt_files_are_refused_in_a_sentence(name):
    seed(1)(fuzz(name, 120))()


@pytest.mark.parametrize("name", GOOD)
def test_whole_files_are_read(name, tmp_path):
    for content in GOOD[name]:
        (tmp_path / name).write_bytes(content)
        assert len(data.load(tmp_path / name)) >= 2


CRASHES = [  # what once raised something else than a sentence
    ("x.idx.gz", b""),
    ("x.idx", b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"x"),
    ("x.idx", b"\0\0\x08\x1b" + bytes(range(200))),
    ("x.idx.gz", gzip.compress(b"\0\0\x08\3\0\0", mtime=0)),
    (
        "x.npz",
        spoilt(GOOD["x.npz"][1], [("flip", 0.5, 1, b""), ("replace", 0.021484375, 1, b"\xff\xff\xff\xff")]),
    ),
    ("x.npy", spoilt(GOOD["x.npy"][3], [("insert", 0.5, 1, b"\n")])),
    ("x.csv", b'"\n1"\n2\n3\n'),
    ("x.csv", b'a,"b\nc"\n1,x\n5,y\n3,z\n'),
]


@pytest.mark.parametrize(("name", "content"), CRASHES, ids=lambda part: part if isinstance(part, str) else "")
def test_what_once_crashed(name, content):
    survives(name, content)


def main() -> None:
    """Fuzz for a while and say how many files were tried."""
    import resource

    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    seconds = parser.parse_args().seconds
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    warnings.simplefilter("error")
    began, rounds, first = time.monotonic(), 0, time.time_ns() % 10**9
    while time.monotonic() - began < seconds:
        for name in GOOD:
            seed(first + rounds)(fuzz(name, 200))()
        rounds += 1
    print(f"{200 * rounds:,} files of each kind ({', '.join(GOOD)}) in {time.monotonic() - began:.0f} s, no crash")


if __name__ == "__main__":
    main()
