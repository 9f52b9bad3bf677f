"""Tables: there and back without loss, and whatever a network says comes back as a table like the data."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from brenier import data
from brenier.data import Layout

M = 200


def people(seed=0):
    """A table with a column of every kind, with and without gaps."""
    rng = np.random.default_rng(seed)
    day = pd.Timestamp("2020-02-01")
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 90, M),
            "children": rng.poisson(1.2, M).astype(np.int8),
            "height": rng.normal(170, 10, M).round(1),
            "weight": rng.lognormal(4, 0.2, M).astype(np.float32).round(2),
            "town": rng.choice(["Lviv", "Łódź", "Graz"], M),
            "size": pd.Categorical(rng.choice(["S", "M", "L"], M), ["S", "M", "L", "XL"], ordered=True),
            "room": pd.Categorical(rng.choice([101, 202, 303], M)),
            "smokes": rng.random(M) < 0.3,
            "born": day - pd.to_timedelta(rng.integers(8000, 30_000, M), "D"),
            "seen": (day + pd.to_timedelta(rng.integers(0, 10**6, M), "s")).tz_localize("Europe/Berlin"),
            "visits": pd.array(rng.integers(0, 900, M), "Int16"),
            "consents": pd.array(rng.random(M) < 0.5, "boolean"),
            "planet": "Earth",
            "note": None,
        }
    )
    for column, step in (("height", 7), ("town", 11), ("size", 5), ("visits", 9), ("consents", 6), ("born", 50)):
        table.loc[::step, column] = None
    return table


def equal(a, b):
    """Whether two columns hold the same, gaps included."""
    return bool((a.eq(b) | (a.isna() & b.isna())).all())


def test_every_kind_of_column_comes_back():
    table = people()
    samples = data.load(table)
    layout = samples.layout
    back = layout.to_user(layout.to_network(table))
    assert back.dtypes.equals(table.dtypes)
    assert list(back.columns) == list(table.columns)
    for column in table:
        if column != "weight":
            assert equal(back[column], table[column]), column
    assert np.allclose(back["weight"], table["weight"], atol=0.011)  # two decimals, from float32 scores
    assert torch.equal(layout.to_network(table), layout.to_network(samples.values))


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_whatever_a_network_says_is_a_table_like_the_data(scale, generator):
    table = people()
    layout = data.load(table).layout
    drawn = layout.to_user(scale * torch.randn(500, *layout.network_shape, generator=generator))
    assert drawn.dtypes.equals(table.dtypes)
    for column in table:
        known, new = table[column].dropna(), drawn[column].dropna()
        if table[column].notna().all():
            assert drawn[column].notna().all(), column
        if column in ("town", "size", "room", "planet", "children"):
            assert set(new) <= set(known), column
        elif column not in ("smokes", "consents", "note"):
            assert known.min() <= new.min(), column
            assert new.max() <= known.max(), column
    assert drawn["height"].dropna().round(1).eq(drawn["height"].dropna()).all()
    assert (drawn["born"].dropna().dt.normalize() == drawn["born"].dropna()).all()
    assert drawn["height"].isna().any() == (scale >= 1)


def test_a_layout_survives_json(generator):
    table = people()
    layout = data.load(table, label="smokes").layout
    again = Layout.from_dict(json.loads(json.dumps(layout.asdict())))
    assert again == layout
    x = torch.randn(20, *layout.network_shape, generator=generator)
    pd.testing.assert_frame_equal(again.to_user(x), layout.to_user(x))


def test_a_monotone_change_of_a_column_does_not_change_what_a_network_sees():
    table = people()[["age", "weight"]]
    bent = table.assign(weight=np.exp(table["weight"].astype(float) / 20))
    one, other = (data.load(each).layout.to_network(each) for each in (table, bent))
    assert torch.allclose(one, other, atol=1e-6)


def test_numbers_have_variance_one_and_keep_their_order():
    layout = data.load(people()).layout
    x = layout.to_network(people())
    age = torch.from_numpy(people()["age"].to_numpy(copy=True))
    assert x[:, 0].var(correction=0) == pytest.approx(1, rel=1e-5)
    assert (x[age.argsort(stable=True), 0].diff() >= 0).all()


def test_values_beyond_the_range_are_seen_as_such():
    layout = data.load(pd.DataFrame({"a": np.arange(100.0) ** 2})).layout
    x = layout.to_network(pd.DataFrame({"a": [-1e6, 0.0, 9801.0, 1e6]}))[:, 0]
    assert x[0] < x[1] - 100
    assert x[3] > x[2] + 100
    assert layout.to_user(x[:, None])["a"].tolist() == [0, 0, 9801, 9801]


def test_scales_are_those_of_the_samples_and_the_columns_those_of_the_table():
    table = pd.DataFrame({"a": [*range(50)][::-1], "k": ["x", "y"] * 24 + ["z", "z"]})
    samples = data.load(table)
    some = data.Samples(samples.values[:40], table=samples.table)
    assert some.layout.columns[0].knots[0] == 10
    assert some.layout.columns[1].seen == (0, 1)
    drawn = some.layout.to_user(torch.tensor([[9.0, -9.0], [-9.0, 9.0]]))
    assert drawn["k"].tolist() == ["x", "y"]
    assert some.layout.to_network(table).shape == (50, 2)  # z is known to the table: no error, but no column either


def test_labels_come_back_in_their_place(generator):
    table = people()
    samples = data.load(table.dropna(subset="size"), label="size", drop=["height", "note"])
    layout = samples.layout
    assert set(samples.labels) == {"S", "M", "L"}
    x = layout.to_network(samples.values)
    back = layout.to_user(x, samples.labels)
    assert list(back.columns) == [name for name in table if name not in ("height", "note")]
    assert back["size"].dtype == table["size"].dtype
    assert (back["size"].astype(str).to_numpy() == samples.labels).all()
    assert "size" not in layout.to_user(x)


def test_columns_are_found_by_name():
    table = people()
    layout = data.load(table).layout
    assert torch.equal(layout.to_network(table[table.columns[::-1]].assign(more=1)), layout.to_network(table))


def test_arrow_gives_arrow_and_polars_polars():
    held = pa.Table.from_pandas(people(), preserve_index=False).replace_schema_metadata(None)
    layout = data.load(held).layout
    back = layout.to_user(layout.to_network(held))
    assert isinstance(back, pa.Table)
    assert back.schema == held.schema
    polars = pytest.importorskip("polars")
    frame = polars.from_arrow(held.drop_columns(["note", "room", "size"]))
    layout = data.load(frame).layout
    assert layout.to_user(layout.to_network(frame)).schema == frame.schema


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_files_give_what_frames_give(suffix, tmp_path):
    table = people().drop(columns=["note", "room", "size", "seen"])
    held = pa.Table.from_pandas(table, preserve_index=False)
    data.arrow.write(tmp_path / f"x.{suffix}", held)
    samples = data.load(tmp_path / f"x.{suffix}")
    assert np.allclose(samples.values, data.load(table).values, rtol=1e-6, equal_nan=True)
    assert samples.name == "x"


def test_limits_and_the_index():
    table = people().set_index("age")
    assert "age" not in [column.name for column in data.load(table).table.columns]
    few = data.load(people(), limit=50, label="smokes")
    assert len(few) == len(few.labels) == 50
    again = data.load(few, limit=10)
    assert len(again) == 10
    assert again.table is few.table
