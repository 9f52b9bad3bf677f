"""Readers give back what was written; synthetic sets obey their formulas."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from brenier import data
from brenier.data.load import SYSTEM

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 9, 8), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def write_idx(path: Path, array: np.ndarray, code: str = "u1") -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[code], array.ndim, *array.shape)
    content = header + array.astype(f">{code}").tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def same(samples: data.Samples, values: np.ndarray, labels: np.ndarray | None) -> bool:
    equal_labels = samples.labels is None if labels is None else samples.labels.tolist() == list(labels)
    return samples.values.dtype == values.dtype and np.array_equal(samples.values, values) and equal_labels


class Pairs(Dataset):
    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, row):
        return Image.fromarray(IMAGES[row]), ["a", "b", "c"][LABELS[row]]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(IMAGES)


def test_arrays_tensors_lists_and_torch_data_sets():
    tensor = torch.from_numpy(IMAGES)
    pairs = TensorDataset(tensor, torch.from_numpy(LABELS))
    assert same(data.load(IMAGES, LABELS), IMAGES, LABELS)
    assert same(data.load(tensor), IMAGES, None)
    assert same(data.load([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]), None)
    assert same(data.load(pairs), IMAGES, LABELS)
    assert same(data.load(DataLoader(pairs, batch_size=4)), IMAGES, LABELS)
    assert same(data.load(DataLoader(tensor, batch_size=4)), IMAGES, None)
    assert same(data.load(Pairs()), IMAGES, ["a", "b", "c", "a", "b", "c"])
    assert same(data.load(Stream()), IMAGES, None)
    assert same(data.load(torch.ones(2, 3, dtype=torch.bfloat16).cumsum(0)), np.float32([[1] * 3, [2] * 3]), None)
    samples = data.Samples(IMAGES, LABELS, "mine")
    assert data.load(samples) is samples


def test_own_labels_come_before_those_of_the_source():
    samples = data.load(TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS)), labels=list("abcdef"))
    assert samples.labels.tolist() == list("abcdef")


def test_npy_and_npz(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    np.savez(tmp_path / "one.npz", anything=IMAGES)
    np.savez(tmp_path / "xy.npz", x=IMAGES, y=LABELS)
    np.savez(tmp_path / "mixed.npz", x=IMAGES, labels=LABELS)
    np.savez_compressed(tmp_path / "named.npz", images=IMAGES, labels=LABELS)
    np.savez(tmp_path / "split.npz", x_train=IMAGES[:4], y_train=LABELS[:4], x_test=IMAGES[4:], y_test=LABELS[4:])
    assert same(data.load(tmp_path / "x.npy"), IMAGES, None)
    assert same(data.load(str(tmp_path / "one.npz")), IMAGES, None)
    assert same(data.load(tmp_path / "xy.npz"), IMAGES, LABELS)
    assert same(data.load(tmp_path / "mixed.npz"), IMAGES, LABELS)
    assert same(data.load(tmp_path / "named.npz"), IMAGES, LABELS)
    assert same(data.load(tmp_path / "split.npz"), IMAGES[:4], LABELS[:4])
    assert same(data.load(tmp_path / "split.npz", split="test"), IMAGES[4:], LABELS[4:])
    assert data.load(tmp_path / "split.npz").name == "split"


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_of_every_type(tmp_path, code, end):
    values = RNG.integers(0, 100, (5, 7)).astype(code)
    write_idx(tmp_path / f"table-idx2{end}", values, code)
    assert same(data.load(tmp_path / f"table-idx2{end}"), values, None)


def test_idx_finds_its_labels_and_its_split(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", IMAGES)
    write_idx(tmp_path / "train-labels-idx1-ubyte", LABELS)
    write_idx(tmp_path / "t10k-images.idx3-ubyte", IMAGES[::-1])
    write_idx(tmp_path / "t10k-labels.idx1-ubyte.gz", LABELS[::-1])
    assert same(data.load(tmp_path / "train-images-idx3-ubyte.gz"), IMAGES, LABELS)
    for source in (tmp_path, "mnist"):
        assert same(data.load(source, data_dir=tmp_path), IMAGES, LABELS)
        assert same(data.load(source, data_dir=tmp_path, split="test"), IMAGES[::-1], LABELS[::-1])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif"])
def test_grey_images_are_read_in_the_order_of_their_names(tmp_path, suffix):
    for row in reversed(range(6)):
        Image.fromarray(IMAGES[row]).save(tmp_path / f"{row}.{suffix}")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not an image")
    assert same(data.load(tmp_path), IMAGES, None)


def test_webp_and_jpeg_are_read(tmp_path):
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.webp", lossless=True)
    Image.new("L", (8, 9), 100).save(tmp_path / "b.jpeg")
    values = data.load(tmp_path).values
    assert np.array_equal(values[0], np.dstack([IMAGES[0]] * 3))
    assert np.abs(values[1].astype(int) - 100).max() <= 1


def test_class_folders_are_labels_and_splits_are_followed(tmp_path):
    for split, rows in (("train", range(4)), ("test", range(4, 6))):
        for row in rows:
            folder = tmp_path / split / ["cat", "dog"][row % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(IMAGES[row]).save(folder / f"{row}.png")
    assert same(data.load(tmp_path), IMAGES[[0, 2, 1, 3]], ["cat", "cat", "dog", "dog"])
    assert same(data.load(tmp_path, split="test"), IMAGES[[4, 5]], ["cat", "dog"])
    assert same(data.load(tmp_path / "train", limit=2), IMAGES[[0, 1]], ["cat", "dog"])


@pytest.mark.parametrize(("mode", "channels"), [("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_colour_and_alpha_are_kept(tmp_path, mode, channels):
    pixels = RNG.integers(0, 256, (3, 8, 9, channels), dtype=np.uint8)
    for row in range(3):
        Image.fromarray(pixels[row]).save(tmp_path / f"{row}.png")
    assert same(data.load(tmp_path), pixels, None)


def test_mixed_modes_meet_in_the_one_that_keeps_all(tmp_path):
    Image.fromarray(IMAGES[0]).convert("LA").save(tmp_path / "a.png")
    Image.fromarray(IMAGES[1]).convert("RGB").convert("P").save(tmp_path / "b.png")
    Image.fromarray(IMAGES[2]).save(tmp_path / "c.png")
    values = data.load(tmp_path).values
    assert values.shape == (3, 9, 8, 4)
    assert np.array_equal(values[2], np.dstack([IMAGES[2]] * 3 + [np.full((9, 8), 255)]))


def test_palettes_keep_their_transparency(tmp_path):
    for row in range(2):
        image = Image.fromarray(np.tile(np.arange(10, dtype=np.uint8) + row, (9, 1)), mode="P")
        image.putpalette([5 * (k // 3) for k in range(768 // 6)])
        image.save(tmp_path / f"{row}.png", transparency=bytes([0, 100]))
    values = data.load(tmp_path).values
    assert values.shape == (2, 9, 10, 2)
    assert values[0, 0, :3].tolist() == [[0, 0], [5, 100], [10, 255]]
    assert values[1, 0, :2].tolist() == [[5, 100], [10, 255]]


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    for row in range(2):
        Image.fromarray(IMAGES[row]).save(tmp_path / f"{row}.png", exif=exif)
    assert same(data.load(tmp_path), np.rot90(IMAGES[:2], -1, axes=(1, 2)), None)


def test_digits_have_a_fixed_stratified_split():
    train, test = data.load("digits"), data.load("digits", split="test")
    assert (train.values.shape, test.values.shape) == ((1437, 8, 8), (360, 8, 8))
    assert (train.values.min(), train.values.max()) == (0, 1)
    assert set(np.bincount(test.labels)) <= {35, 36, 37}
    assert not {row.tobytes() for row in train.values} & {row.tobytes() for row in test.values}


def test_fashion_mnist_where_it_is_installed():
    if not (SYSTEM / "fashion-mnist").is_dir():
        pytest.skip("Fashion-MNIST is missing (Debian's package dataset-fashion-mnist)")
    train, test = data.load("fashion-mnist"), data.load("fashion-mnist", split="test", limit=1000)
    assert train.values.shape == (60_000, 28, 28)
    assert train.values.dtype == np.uint8
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert test.values.shape == (1000, 28, 28)


def test_mixtures_obey_their_formula(generator):
    m, weights = 200_000, np.array([0.0, 0.2, 0.3, 0.5])
    centres, stds = np.arange(12.0).reshape(4, 3), np.array([9.0, 0.1, 0.0, 2.0])
    x = data.blobs(m, centres, stds, weights, generator)
    share = np.bincount(x.labels, minlength=4) / m
    assert share[0] == 0
    assert np.abs(share - weights).max() < 5 * np.sqrt(0.25 / m)
    for k in (1, 2, 3):
        part = x.values[x.labels == k]
        assert np.abs(part.mean(0) - centres[k]).max() <= 5 * stds[k] / np.sqrt(len(part)) + 1e-12
        assert part.std(0) == pytest.approx(np.full(3, stds[k]), rel=0.02, abs=1e-12)


def test_ring_grid_and_blobs_have_the_standard_sizes(generator):
    ring, grid, eleven = data.ring(4000, generator=generator), data.grid(4000), data.eleven_blobs(4000)
    assert ring.truth["centres"].shape == (8, 2)
    assert np.linalg.norm(ring.truth["centres"], axis=1) == pytest.approx(2)
    assert np.unique(grid.truth["centres"]).tolist() == [-4, -2, 0, 2, 4]
    assert grid.truth["stds"].tolist() == [0.05] * 25
    assert eleven.truth["centres"].shape == (11, 3)
    assert eleven.truth["weights"].sum() == pytest.approx(1)
    for x in (ring, grid, eleven):
        nearest = np.linalg.norm(x.values[:, None] - x.truth["centres"], axis=2).argmin(1)
        assert (nearest == x.labels).all()


def test_three_clusters_lie_uniformly_in_their_disks(generator):
    x = data.three_clusters_in_disk(60_000, generator=generator)
    r = np.linalg.norm(x.values - x.truth["centres"][x.labels], axis=1)
    assert r.max() <= 0.25
    assert (r**2).mean() == pytest.approx(0.25**2 / 2, rel=0.02)
    assert np.bincount(x.labels) / 60_000 == pytest.approx([1 / 3] * 3, abs=0.01)


def test_manifolds_satisfy_their_equations(generator):
    swiss, curve = data.swiss_roll(5000, generator=generator), data.s_curve(5000, generator=generator)
    t = np.hypot(swiss.values[:, 0], swiss.values[:, 2])
    assert swiss.values[:, 0] == pytest.approx(t * np.cos(t), abs=1e-9)
    assert swiss.truth["coordinates"][:, 0] == pytest.approx((t * np.sqrt(1 + t**2) + np.arcsinh(t)) / 2)
    assert np.hypot(curve.values[:, 0], np.abs(curve.values[:, 2]) - 1) == pytest.approx(1)
    ball, ring = data.sphere(5000, radius=3, generator=generator), data.torus(5000, generator=generator)
    assert np.linalg.norm(ball.values, axis=1) == pytest.approx(3)
    assert ball.truth["curvature"] == pytest.approx(1 / 9)
    assert np.hypot(np.hypot(ring.values[:, 0], ring.values[:, 1]) - 2, ring.values[:, 2]) == pytest.approx(1)


def test_swiss_roll_and_s_curve_are_isometric_to_their_coordinates(generator):
    for x in (data.swiss_roll(40_000, generator=generator), data.s_curve(40_000, generator=generator)):
        order = np.lexsort(x.truth["coordinates"].T[::-1])
        steps = np.linalg.norm(np.diff(x.truth["coordinates"][order], axis=0), axis=1)
        chords = np.linalg.norm(np.diff(x.values[order], axis=0), axis=1)
        assert chords == pytest.approx(steps, rel=1e-3)
        low, high = x.truth["coordinates"].min(0), x.truth["coordinates"].max(0)
        cells = np.histogramdd((x.truth["coordinates"] - low) / (high - low), bins=5)[0] / 40_000
        assert np.abs(cells - 1 / 25).max() < 0.006  # uniform by area


def test_sphere_and_torus_are_uniform_by_area(generator):
    m = 200_000
    ball, ring = data.sphere(m, generator=generator), data.torus(m, generator=generator)
    assert np.abs(ball.values.mean(0)).max() < 5 / np.sqrt(3 * m)
    assert ball.values.T @ ball.values / m == pytest.approx(np.eye(3) / 3, abs=0.005)
    v = ring.truth["coordinates"][:, 1]
    assert np.cos(v).mean() == pytest.approx(1 / 4, abs=0.005)  # e/2 with e = r/R
    assert np.abs(np.sin(v).mean()) < 0.005
    assert ring.truth["curvature"].mean() == pytest.approx(
        0, abs=0.005
    )  # Gauss-Bonnet: the torus has total curvature 0


def test_spiral_keeps_its_arms_apart(generator):
    x = data.spiral(20_000, generator=generator)
    r, angle = np.linalg.norm(x.values, axis=1), np.arctan2(x.values[:, 1], x.values[:, 0])
    off = (r - angle / (2 * np.pi) + 0.5) % 1 - 0.5  # distance to the nearest arm, gap 1
    assert np.abs(off).max() < 0.2
    assert off.std() == pytest.approx(0.03, rel=0.1)


def test_an_array_of_python_2_is_read_without_a_word(tmp_path):
    x = np.arange(24.0).reshape(12, 2)
    np.save(tmp_path / "x.npy", x)
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content.replace(b"(12, 2), }  ", b"(12L, 2L), }"))
    np.testing.assert_array_equal(data.load(tmp_path / "x.npy").values, x)
