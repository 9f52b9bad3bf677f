"""A table through the whole of AE-OT and of the command."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

import brenier
from brenier import data
from brenier.cli import main

M = 120


def flowers(seed=0):
    """Two kinds of flowers, told apart by size and colour; some were not weighed."""
    rng = np.random.default_rng(seed)
    kind = rng.random(M) < 0.5
    table = pd.DataFrame(
        {
            "petals": np.where(kind, rng.integers(4, 6, M), rng.integers(8, 12, M)),
            "colour": np.where(kind, "red", rng.choice(["white", "blue"], M)),
            "kind": np.where(kind, "rose", "daisy"),
            "grams": np.where(kind, rng.normal(9, 1, M), rng.normal(3, 0.5, M)).round(2),
            "picked": pd.Timestamp("2024-05-01") + pd.to_timedelta(rng.integers(0, 90, M), "D"),
        }
    )
    table.loc[::8, "grams"] = None
    return table


@pytest.fixture(scope="module")
def model():
    return brenier.AEOT(tol=0.4).fit(data.load(flowers(), label="kind"))


def test_a_sampled_table_is_like_the_data(model):
    table, drawn = flowers(), model.sample(300)
    assert drawn.dtypes.equals(table.dtypes)
    assert list(drawn.columns) == list(table.columns)
    assert set(drawn["colour"]) == {"red", "white", "blue"}
    assert drawn["petals"].between(4, 11).all()
    assert drawn["picked"].between(table["picked"].min(), table["picked"].max()).all()
    assert 0.02 < drawn["grams"].isna().mean() < 0.25
    assert ((drawn["kind"] == "rose") == (drawn["colour"] == "red")).mean() > 0.95
    assert model.chart_.spec == {"kind": "identity"}


def test_verbs_take_and_give_tables(model):
    table = flowers(1)
    codes = model.encode(table)
    assert codes.shape == (M, *model.layout_.network_shape)
    back = model.decode(codes)
    assert (back["petals"] == table["petals"]).all()
    assert "kind" not in back
    assert (model.labels_of(table) == table["kind"]).mean() > 0.95
    assert model.sample(20, label="rose")["kind"].eq("rose").all()
    assert model.novelty(table).mean() == pytest.approx(1, abs=0.5)
    assert len(model.interpolate(table[:2], table[2:4], steps=5)) == 10
    numbers = model.evaluate(table)
    assert numbers["mse"].mean == pytest.approx(0, abs=1e-9)
    assert numbers["c2st"].mean < 0.75
    with pytest.raises(TypeError, match="must be a data frame"):
        model.encode(np.zeros((3, 4)))


def test_a_model_of_a_table_is_saved_and_read(model, tmp_path):
    again = brenier.load(model.save(tmp_path / "model"))
    pd.testing.assert_frame_equal(again.sample(10, seed=3), model.sample(10, seed=3))
    assert np.array_equal(again.encode(flowers()), model.encode(flowers()))


def test_a_chart_of_a_table_can_be_learned():
    learned = brenier.AEOT(chart="network", latent_dim=2, epochs=5, tol=0.5).fit(flowers())
    assert learned.codes_.shape == (M, 2)
    assert learned.sample(5).dtypes.equals(flowers().dtypes)


def command(capsys, *arguments):
    """Its stdout, after exit 0."""
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert exit.value.code == 0, err
    return out, err


def test_the_command_on_a_table(tmp_path, capsys):
    height = pd.array([None if i % 10 == 0 else 3 + i % 4 for i in range(M)], "Int64")
    table = flowers().assign(name=[f"flower {i}" for i in range(M)], height=height)
    table[["name", "height", *flowers().columns]].to_csv(tmp_path / "flowers.csv", index=False)
    run = tmp_path / "run"
    out, _ = command(
        capsys,
        "fit",
        tmp_path / "flowers.csv",
        "--label",
        "kind",
        "--drop",
        "name",
        "--out",
        run,
        "--tol",
        0.5,
        "--json",
    )
    assert json.loads(out)["train"] == 108
    assert "column of the table" in (run / "report.html").read_text()
    for suffix, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        command(capsys, "sample", run, "-n", 30, "--out", tmp_path / f"new.{suffix}")
        new = read(tmp_path / f"new.{suffix}")
        assert list(new.columns) == ["height", *flowers().columns]
        assert len(new) == 30
    kinds = {column.name: column.kind for column in data.load(tmp_path / "new.csv", drop=["height"]).table.columns}
    assert kinds == {"petals": "integer", "colour": "category", "kind": "category", "grams": "number", "picked": "date"}
    assert (tmp_path / "new.csv").read_text().splitlines()[1].rsplit(",", 1)[1].startswith("2024-")
    assert set(pd.read_csv(tmp_path / "new.csv", dtype=str)["height"].dropna()) <= {"3", "4", "5", "6"}
    assert pd.to_datetime(new["picked"]).between("2024-05-01", "2024-07-30").all()
    out, _ = command(capsys, "evaluate", run, tmp_path / "flowers.csv", "--json")
    assert json.loads(out)["test"] == M
    command(capsys, "report", run, "--out", tmp_path / "again.html", "--quiet")


def test_the_command_on_embeddings_and_images_with_bad_ones(tmp_path, capsys):
    rng = np.random.default_rng(0)
    save_file({"x": rng.normal(size=(100, 3)), "y": np.arange(100) % 2}, tmp_path / "codes.safetensors")
    arguments = ("--out", tmp_path / "run", "--chart", "identity", "--tol", 0.5)
    command(capsys, "fit", tmp_path / "codes.safetensors", *arguments, "--quiet")
    assert brenier.load(tmp_path / "run").chart_.spec == {"kind": "identity"}
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(rng.integers(0, 256, (70, 9, 8), dtype=np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "bad.png").write_text("hello")
    arguments = ("--skip-bad", "--size", 8, "--latent-dim", 2, "--epochs", 1, "--tol", 0.5, "--overwrite", "--json")
    out, err = command(capsys, "fit", tmp_path / "images", "--out", tmp_path / "run", *arguments)
    assert "skipped 1 bad images" in err
    assert "bad.png cannot be read" in err
    assert "bad.png" in json.loads(out)["skipped"][0]
    out, err = command(capsys, "evaluate", tmp_path / "run", tmp_path / "images", "--json")
    assert json.loads(out)["test"] == 70
    assert "bad.png cannot be read" in err
