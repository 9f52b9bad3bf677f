"""Columns in closed form, and data sets of other origins against what they were made of."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.special import ndtri

from brenier import data
from brenier.data.columns import Column
from brenier.runs import train_and_test

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 8, 10), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 8, 10, 3), dtype=np.uint8)


def test_normal_scores_of_three_values():
    column = Column("a", "number").fitted(np.array([5.0, 1.0, 9.0]))
    q = ndtri(5 / 6)
    assert np.allclose(column.scores, np.array([-q, 0, q]) / math.sqrt(2 * q * q / 3))
    assert column.knots == (1.0, 5.0, 9.0)
    assert column.decimals == 0


def test_ties_have_the_middle_rank():
    column = Column("a", "integer").fitted(np.array([0.0, 0.0, 0.0, 1.0]))
    low, high = ndtri(3 / 8), ndtri(7 / 8)
    spread = math.sqrt((3 * low**2 + high**2) / 4 - ((3 * low + high) / 4) ** 2)
    assert np.allclose(column.scores, np.array([low, high]) / spread)
    between = (column.scores[0] + column.scores[1]) / 2
    assert column.from_network(np.array([[between - 1e-9], [between + 1e-9]])).tolist() == [0, 1]


def test_options_are_entries():
    column = Column("k", "category", ("x", "y", "z"), missing=True).fitted(np.array([0.0, 2.0, np.nan, 0.0]))
    assert column.to_network(np.array([0.0, 1.0, 2.0, np.nan])).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert np.array_equal(column.from_network(np.eye(3)), [0, 2, np.nan], equal_nan=True)
    two = Column("b", "boolean", (False, True)).fitted(np.array([0.0, 1.0, 1.0]))
    assert two.to_network(np.array([0.0, 1.0])).tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([1.0, 2.0, 7.0], 0), ([0.5, 2.25], 2), ([0.1 + 0.2, 1.0], None), ([1 / 3, 2.0], None), ([1e-6, 1.0], 6)],
)
def test_decimals(values, decimals):
    assert Column("a", "number").fitted(np.array(values)).decimals == decimals


@pytest.mark.parametrize(
    ("texts", "kind", "step"),
    [
        (["2020-01-01", "2020-03-05", "2021-01-01"], "date", 1),
        (["2020-01-01 10:00:00", "2020-03-05 11:00:00", "2021-01-01 00:00:00"], "date", 3600),
        (["2020-01-01 10:00:07", "2020-03-05 11:00:00", "2021-01-01 00:00:00"], "date", 1),
        (["true", "false", "true"], "boolean", 1),
        (["1", "", "30"], "integer", 1),
        (["1.5", "NA", "30"], "number", 1),
        (["ja", "nein", "ja"], "category", 1),
    ],
)
def test_what_a_column_of_a_file_is(texts, kind, step, tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{i * i},{text}\n" for i, text in enumerate(texts)))
    column = data.load(tmp_path / "x.csv").table.columns[1]
    assert (column.kind, column.step) == (kind, step)
    assert column.missing == (texts[1] in ("", "NA"))


def test_embeddings(tmp_path):
    x = RNG.random((30, 4)).astype(np.float32)
    y = np.arange(30) % 3
    tensors = {"x": torch.from_numpy(x), "y": torch.from_numpy(y)}
    save_file(tensors, tmp_path / "codes.safetensors")
    samples = data.load(tmp_path / "codes.safetensors")
    assert np.array_equal(samples.values, x)
    assert samples.labels.tolist() == y.tolist()
    assert samples.name == "codes"
    save_file({"anything": tensors["x"].bfloat16()}, tmp_path / "one.safetensors")
    assert data.load(tmp_path / "one.safetensors").values.shape == (30, 4)


@pytest.mark.parametrize("kind", ["webp", "png", "tiff", "bmp", "jpeg", "gif"])
def test_images_of_every_kind(kind, tmp_path):
    for number, pixels in enumerate(GREY):
        options = {"webp": {"lossless": True}, "jpeg": {"quality": 100}}.get(kind, {})
        Image.fromarray(pixels).save(tmp_path / f"{number}.{kind}", **options)
    read = data.load(tmp_path).values.astype(int)
    assert read.shape == (GREY.shape if read.ndim == 3 else (*GREY.shape, 3))  # WebP has no grey
    assert abs(read.reshape(6, 8, 10, -1) - GREY[..., None]).max() <= (4 if kind == "jpeg" else 0)


def test_colour_and_alpha_and_the_first_frame(tmp_path):
    Image.fromarray(COLOUR[0]).save(tmp_path / "a.png")
    Image.fromarray(GREY[0]).save(tmp_path / "b.png")
    assert data.load(tmp_path).values.shape == (2, 8, 10, 3)
    Image.fromarray(np.concatenate([COLOUR[1], GREY[1][..., None]], 2)).save(tmp_path / "c.webp")
    assert data.load(tmp_path).values.shape == (3, 8, 10, 4)
    frames = [Image.fromarray(pixels) for pixels in GREY[1:3]]
    frames[0].save(tmp_path / "d.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(data.load(tmp_path).values[3, :, :, 0], GREY[1])


def test_the_camera_is_turned(tmp_path):
    for number, orientation in enumerate((1, 3, 6, 8)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        square = GREY[0, :, :8]
        Image.fromarray(square).save(tmp_path / f"{number}.png", exif=exif)
    read = data.load(tmp_path).values
    for turned, quarters in zip(read, (0, 2, 3, 1), strict=True):
        assert np.array_equal(turned, np.rot90(square, quarters))


def test_bad_images_are_skipped_and_named(tmp_path):
    for number, pixels in enumerate(GREY):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    whole = (tmp_path / "a" / "0.png").read_bytes()
    (tmp_path / "a" / "cut.png").write_bytes(whole[:-30])
    (tmp_path / "b" / "text.jpg").write_text("hello")
    Image.new("I;16", (10, 8)).save(tmp_path / "b" / "deep.png")
    samples = data.load(tmp_path, skip_bad=True)
    assert len(samples) == 6
    assert samples.labels.tolist() == ["a"] * 3 + ["b"] * 3
    assert [line.split(" ")[0].split("/")[-1] for line in samples.skipped] == ["cut.png", "deep.png", "text.jpg"]


def test_images_of_several_sizes_are_scaled(tmp_path):
    Image.fromarray(GREY[0]).save(tmp_path / "a.png")
    Image.fromarray(GREY[1].repeat(2, 0).repeat(2, 1)).save(tmp_path / "b.png")
    read = data.load(tmp_path, size=8).values
    assert read.shape == (2, 8, 8)
    assert np.array_equal(read[0], GREY[0, :, 1:9])


def arrow_folder(folder, table, features, parts=2):
    """What `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{parts:05}.arrow" for number in range(parts)]
    for number, name in enumerate(names):
        rows = table.slice(number * len(table) // parts, len(table) // parts)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(rows)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return {"bytes": buffer.getvalue(), "path": None}


CLASS = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def test_arrow_sets_of_images(tmp_path):
    table = pa.table({"image": [encoded(pixels) for pixels in COLOUR], "label": [0, 1] * 3})
    folder = arrow_folder(tmp_path / "set" / "train", table, {"image": {"_type": "Image"}, "label": CLASS})
    arrow_folder(tmp_path / "set" / "test", table.slice(4), {"image": {"_type": "Image"}, "label": CLASS})
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    for place in (folder, tmp_path / "set"):
        samples = data.load(place)
        assert np.array_equal(samples.values, COLOUR)
        assert samples.labels.tolist() == ["cat", "dog"] * 3
    assert np.array_equal(data.load(tmp_path / "set", split="test").values, COLOUR[4:])
    cells = [encoded(pixels) if row != 1 else {"bytes": b"no image", "path": None} for row, pixels in enumerate(COLOUR)]
    table = table.set_column(0, "image", pa.array(cells))
    folder = arrow_folder(tmp_path / "bad", table, {"image": {"_type": "Image"}, "label": CLASS})
    samples = data.load(folder, skip_bad=True, size=8)
    assert samples.labels.tolist() == ["cat", "cat", "dog", "cat", "dog"]
    assert samples.skipped[0].startswith("the image in row 1 of column 'image' cannot be read")


def test_arrow_sets_of_vectors_and_tables(tmp_path):
    x = RNG.random((20, 3))
    features = {"v": {"feature": {"dtype": "float64", "_type": "Value"}, "_type": "List"}, "label": CLASS}
    folder = arrow_folder(tmp_path / "vectors", pa.table({"v": list(x), "label": [0, 1] * 10}), features)
    samples = data.load(folder, limit=10)
    assert np.array_equal(samples.values, x[::2])
    assert set(samples.labels) == {"cat"}
    features = {name: {"dtype": "float64", "_type": "Value"} for name in "ab"} | {"label": CLASS}
    folder = arrow_folder(tmp_path / "table", pa.table({"a": x[:, 0], "b": x[:, 1], "label": [0, 1] * 10}), features)
    samples = data.load(folder)
    assert [column.name for column in samples.table.columns] == ["a", "b"]
    assert samples.labels.tolist() == ["cat", "dog"] * 10
    assert isinstance(samples.layout.to_user(samples.layout.to_network(samples.values), samples.labels), pd.DataFrame)


def test_the_test_split_of_a_table_has_the_numbers_of_the_training_rows(tmp_path):
    features = {"a": {"dtype": "float64", "_type": "Value"}, "k": {"dtype": "string", "_type": "Value"}}
    for split, texts in (("train", "xyz"), ("test", "zy")):
        rows = RNG.random(60 if split == "train" else 20)
        table = pa.table({"a": rows, "k": [texts[i % len(texts)] for i in range(len(rows))]})
        arrow_folder(tmp_path / split, table, features)
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    train, test = train_and_test(str(tmp_path), None, None, True, 0)
    assert (len(train), len(test)) == (60, 20)
    assert test.values[:4, 1].tolist() == [2, 1, 2, 1]
