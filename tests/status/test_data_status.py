"""Bad data gets one sentence with the value and the place."""

from __future__ import annotations

import gzip
import importlib
import re
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from brenier import data
from brenier.data import Layout, Samples, load

HOLES = np.ones((4, 3))
HOLES[2, 1], HOLES[3, 0] = np.nan, np.inf
GREY = np.arange(128, dtype=np.uint8).reshape(2, 8, 8)


def says(error, *parts):
    return pytest.raises(error, match=r"^[^\n]*" + r"[^\n]*".join(re.escape(part) for part in parts) + r"[^\n]*$")


@pytest.mark.parametrize(
    ("values", "error", "parts"),
    [
        (HOLES, ValueError, ["finite", "2 NaN or Inf", "row 2"]),
        (torch.from_numpy(HOLES), ValueError, ["2 NaN or Inf", "row 2"]),
        (np.ones((3, 2), complex), TypeError, ["real numbers", "complex128"]),
        (torch.ones(3, 2, dtype=torch.complex64), TypeError, ["complex64"]),
        (np.array([["a", "b"], ["c", "d"]]), TypeError, ["strings"]),
        (np.array([[1, None], [2, 3]]), TypeError, ["Python objects"]),
        (np.array([["2020-01-01"]], "datetime64[D]"), TypeError, ["datetime64"]),
        (np.array(3.0), ValueError, ["at least one sample", "()"]),
        (np.zeros((0, 5)), ValueError, ["at least one sample", "(0, 5)"]),
        (np.zeros((5, 0)), ValueError, ["(5, 0)"]),
        (np.ones((1, 5)), ValueError, ["at least 2 samples", "1"]),
        (np.ones((7, 5)), ValueError, ["different samples", "7 equal rows"]),
        (np.arange(5.0), ValueError, ["shape (m, d)", "(5,)"]),
        (np.eye(8).reshape(2, 2, 2, 2, 4), ValueError, ["shape (m, d)"]),
        ([[1.0, 2.0], [3.0]], ValueError, ["rows of one length"]),
        (np.eye(5 * 7).reshape(-1, 5, 7), ValueError, ["at least 8x8", "5x7"]),
        (np.eye(64 * 6).reshape(-1, 8, 6, 8), ValueError, ["(m, h, w, c)", "(384, 8, 6, 8)"]),
        (np.eye(64).reshape(-1, 8, 8) * 1.5, ValueError, ["0..1", "from 0 to 1.5"]),
        (np.eye(64).reshape(-1, 8, 8) - 0.1, ValueError, ["0..1", "from -0.1 to 0.9"]),
        (np.eye(64, dtype=int).reshape(-1, 8, 8) * 300, ValueError, ["0..255", "from 0 to 300"]),
        (np.eye(64, dtype=np.uint8).reshape(-1, 8, 8), ValueError, ["0..255", "up to 1", "bool"]),
    ],
)
def test_values_that_are_no_data_set(values, error, parts):
    with says(error, *parts):
        load(values)


@pytest.mark.parametrize(
    ("labels", "error", "parts"),
    [
        ([1, 2, 3], ValueError, ["one entry per sample, got 3 for 2 samples"]),
        ([[1], [2]], ValueError, ["one dimension", "(2, 1)"]),
        ([0.5, 1.0], TypeError, ["integers or strings", "float64"]),
        ([None, "a"], TypeError, ["integers or strings", "Python objects"]),
    ],
)
def test_labels_that_fit_not(labels, error, parts):
    with says(error, *parts):
        Samples(np.eye(2), labels)


def test_labels_of_a_table_column_are_strings():
    assert Samples(np.eye(2), np.array(["a", "b"], dtype=object)).labels.dtype.kind == "U"


def test_a_single_sample_has_a_layout():
    assert Layout.of(GREY[:1]).to_network(GREY[:1]).shape == (1, 1, 8, 8)


def test_layouts_refuse_other_samples():
    layout = Layout.of(GREY)
    with says(ValueError, "each sample of x must have shape (8, 8), got (9, 8)"):
        layout.to_network(np.zeros((2, 9, 8)), "x")
    with says(ValueError, "x must be finite"):
        layout.to_network(np.full((1, 8, 8), np.nan), "x")
    with says(ValueError, "0..1", "to 2"):
        layout.to_network(np.full((1, 8, 8), 2.0))
    with says(ValueError, "each sample must have shape (1, 8, 8), got (8, 8)"):
        layout.to_user(torch.zeros(2, 8, 8))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"kind": "sounds"}, ["kind", "images, vectors", "'sounds'"]),
        ({"channels": "middle"}, ["channels", "'middle'"]),
        ({"library": "jax"}, ["library", "'jax'"]),
        ({"dtype": "object"}, ["dtype", "'object'"]),
        ({"dtype": ["uint8"]}, ["dtype"]),
        ({"shape": [8]}, ["shape", "2 positive sizes", "(8,)"]),
        ({"shape": [8, -1]}, ["shape", "(8, -1)"]),
        ({"shape": "8x8"}, ["shape", "'8x8'"]),
        ({"colour": 1}, ["keys", "colour"]),
    ],
)
def test_edited_layouts(change, parts):
    with says(ValueError, *parts):
        Layout.from_dict({**Layout.of(GREY).asdict(), **change})


class Items(Dataset):
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


def test_torch_data_sets():
    with says(ValueError, "at least one item, got none"):
        load(Items())
    with says(ValueError, "x or (x, y), got 3 parts in item 0"):
        load(TensorDataset(*[torch.eye(3)] * 3))
    with says(ValueError, "one shape, got (3,) and (2,) in item 1"):
        load(Items(np.ones(3), np.ones(2)))
    with says(ValueError, "item 1 of the data set must be finite"):
        load(Items(np.ones(3), np.full(3, np.nan)))
    with says(TypeError, "item 0 of the data set must hold real numbers, got Python objects"):
        load(Items({"image": 1}))
    with says(TypeError, "labels must be integers or strings, got float64"):
        load(Items((np.ones(3), 0.5), (np.zeros(3), 1.5)))


def test_sources_splits_and_limits():
    with says(TypeError, "source must be an array", "got int"):
        load(3)
    with says(ValueError, "split must be 'train' or 'test', got 'valid'"):
        load("digits", split="valid")
    with says(ValueError, "a ndarray has no test split"):
        load(np.eye(3), split="test")
    with says(ValueError, "limit must be at least 2, got 1"):
        load("digits", limit=1)
    with says(TypeError, "limit must be a whole number, got 2.5"):
        load("digits", limit=2.5)


def test_missing_paths_and_names(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("brenier.data.load"), "SYSTEM", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with says(FileNotFoundError, "no file or folder 'nowhere.npy'; known names are digits, fashion-mnist, mnist"):
        load("nowhere.npy")
    with says(FileNotFoundError, "no file or folder"):
        load("x" * 5000)
    with says(
        FileNotFoundError, "fashion-mnist isn't on this machine", "apt-get install dataset-fashion-mnist", "--data-dir"
    ):
        load("fashion-mnist")
    with says(FileNotFoundError, "mnist isn't on this machine", "mnist.npz", "~/.cache/brenier/mnist"):
        load("mnist", data_dir=tmp_path)
    with says(FileNotFoundError, "no folder", "gone"):
        load("mnist", data_dir=tmp_path / "gone")


def test_files_of_another_kind(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with says(ValueError, "notes.txt must be an .npy, .npz, ", "or IDX file", "the suffix .txt"):
        load(tmp_path / "notes.txt")
    np.save(tmp_path / "x.npy", np.eye(3))
    with says(ValueError, "x.npy has no test split"):
        load(tmp_path / "x.npy", split="test")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_numpy_files_are_never_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([Trap(), 1], dtype=object))
    np.savez(tmp_path / "x.npz", x=np.array([Trap(), 1], dtype=object))
    for name in ("x.npy", "x.npz"):
        with says(ValueError, name, "Python objects, which are never unpickled"):
            load(tmp_path / name)


def test_broken_numpy_files(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(50))
    np.savez(tmp_path / "x.npz", x=np.eye(50))
    whole, archive = (tmp_path / "x.npy").read_bytes(), (tmp_path / "x.npz").read_bytes()
    for content in (b"", b"hello", whole[:60], whole[:-1000], whole.replace(b"}", b" "), archive):
        (tmp_path / "x.npy").write_bytes(content)
        with says(ValueError, "x.npy cannot be read: "):
            load(tmp_path / "x.npy")
    for content in (b"", b"hello", archive[:-1000]):
        (tmp_path / "x.npz").write_bytes(content)
        with says(ValueError, "x.npz isn't a zip archive, or it is truncated"):
            load(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes(archive[:5000] + b"!" * 100 + archive[5100:])
    with says(ValueError, "x.npz cannot be read: "):
        load(tmp_path / "x.npz")


def test_npz_with_other_keys(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.eye(3), b=np.eye(3))
    with says(ValueError, "x.npz must hold the keys x_train/y_train or x/y or images/labels", "got a, b"):
        load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", x=np.eye(3))
    with says(ValueError, "x_test/y_test", "test split", "got x"):
        load(tmp_path / "x.npz", split="test")


def test_broken_idx_files(tmp_path):
    content = struct.pack(">BBBB3I", 0, 0, 8, 3, *GREY.shape) + GREY.tobytes()
    plain, packed = tmp_path / "images-idx3-ubyte", tmp_path / "images-idx3-ubyte.gz"
    for broken in (content[:-10], content + b"more"):
        plain.write_bytes(broken)
        with says(ValueError, f"{plain} must hold 144 bytes", f"found {len(broken)}"):
            load(plain)
    plain.write_bytes(content[:7])
    with says(ValueError, f"{plain} must hold", "found 7"):
        load(plain)
    packed.write_bytes(gzip.compress(content)[:-40])
    with says(ValueError, f"{packed} must hold 144 bytes", "found"):
        load(packed)
    packed.write_bytes(b"not packed")
    with says(ValueError, f"{packed} cannot be read"):
        load(packed)
    for magic in (b"", b"PK\3\4", b"\0\0\7\3"):
        plain.write_bytes(magic)
        with says(ValueError, f"{plain} isn't an IDX file", magic.hex(" ") or "missing"):
            load(plain)
    plain.write_bytes(content)
    packed.unlink()
    (tmp_path / "labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 3) + bytes(3))
    with says(ValueError, "one entry per sample, got 3 for 2 samples"):
        load(plain)


def test_folders_of_images(tmp_path):
    with says(ValueError, f"{tmp_path} holds no images", ".png"):
        load(tmp_path)
    Image.fromarray(GREY[0]).save(tmp_path / "a.png")
    with says(ValueError, "at least 2 samples"):
        load(tmp_path)
    Image.new("L", (12, 10)).save(tmp_path / "b.png")
    with says(ValueError, "one size, got 8x8 of", "a.png and 12x10 of", "b.png"):
        load(tmp_path)
    Image.new("I;16", (8, 8)).save(tmp_path / "b.png")
    with says(ValueError, "b.png must have 8 bits a channel", "I;16"):
        load(tmp_path)
    (tmp_path / "b.png").write_bytes(b"no image")
    with says(ValueError, "b.png cannot be read"):
        load(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    for suffix in ("png", "jpg"):
        Image.fromarray(noise).save(tmp_path / f"b.{suffix}")
        content = (tmp_path / f"b.{suffix}").read_bytes()
        (tmp_path / "b.png").write_bytes(content[: -len(content) // 3])
        (tmp_path / "b.jpg").unlink(missing_ok=True)
        with says(ValueError, "b.png cannot be read"):
            load(tmp_path)
    (tmp_path / "b.png").unlink()
    (tmp_path / "cat").mkdir()
    Image.fromarray(GREY[1]).save(tmp_path / "cat" / "c.png")
    with says(ValueError, "either directly or in sub-folders, got both"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("call", "error", "parts"),
    [
        (lambda: data.ring(1), ValueError, ["m must be at least 2, got 1"]),
        (lambda: data.torus(2.5), TypeError, ["m must be a whole number, got 2.5"]),
        (lambda: data.ring(9, std=-1), ValueError, ["stds must not be negative, got -1"]),
        (lambda: data.ring(9, std=float("nan")), ValueError, ["stds", "nan"]),
        (lambda: data.ring(9, modes=0), ValueError, ["centres", "(0, 2)"]),
        (lambda: data.blobs(9, [1.0, 2.0]), ValueError, ["centres must have shape (k, d), got (2,)"]),
        (lambda: data.blobs(9, [[1.0]], [1.0, 2.0]), ValueError, ["stds must have one entry per centre", "1 centres"]),
        (lambda: data.blobs(9, [[1.0]], 1.0, [0.9]), ValueError, ["weights must sum to 1, got 0.9 over 1 centres"]),
        (lambda: data.three_clusters_in_disk(9, spread=0.5), ValueError, ["spread", "0.5"]),
        (lambda: data.sphere(9, radius=0), ValueError, ["radius must be positive, got 0"]),
        (lambda: data.torus(9, major=1), ValueError, ["major above minor, got 1 and 1"]),
        (lambda: data.swiss_roll(9, noise=-1), ValueError, ["noise must be at least 0, got -1"]),
        (lambda: data.spiral(9, gap=0), ValueError, ["gap must be positive, got 0"]),
    ],
)
def test_synthetic_sets(call, error, parts):
    with says(error, *parts):
        call()
