"""Malformed options, arrays, models and unfinished runs: one sentence with the value, and nothing left behind."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import brenier
from brenier import AEOT, checkpoint, geometry, manifold, measures, transport
from brenier.cli import main

X = np.random.default_rng(0).random((60, 4))
CLOUD = measures.Discrete(torch.randn(30, 3, generator=torch.Generator().manual_seed(0)))
FIT = ("fit", "x.npy", "--out", "run", "--quiet")


def holding(value, row=5):
    """X with one entry that is something else."""
    x = X.copy()
    x[row, 1] = value
    return x


FEWER = transport.BrenierPotential(CLOUD.points[:9], torch.zeros(9))


def start(heights):
    return transport.BrenierPotential(CLOUD.points, heights)


def fitted():
    return AEOT(chart="identity", tol=0.9, max_samples=2000).fit(X, np.arange(60) % 2)


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    return model.save(tmp_path_factory.mktemp("models") / "model")


OPTIONS = {  # arguments of the command, and words of the line on stderr
    "no data": (("fit", "--out", "run"), "Missing argument 'DATA'"),
    "no place": (("fit", "x.npy"), "Missing option '--out'"),
    "two data sets": (("fit", "x.npy", "y.npy", "--out", "run"), "y.npy"),
    "an unknown command": (("learn", "x.npy"), "learn"),
    "an unknown option": ((*FIT, "--speed", 3), "--speed"),
    "no number of codes": ((*FIT, "--latent-dim", "two"), "'two'"),
    "no codes": ((*FIT, "--latent-dim", 0), "got '0'"),
    "fewer than none": ((*FIT, "--latent-dim", -3), "got '-3'"),
    "half an epoch": ((*FIT, "--epochs", 0.5), "'0.5'"),
    "no epochs": ((*FIT, "--epochs", 0), "got '0'"),
    "no noise samples": ((*FIT, "--max-samples", 0), "got '0'"),
    "a tol of nothing": ((*FIT, "--tol", "0"), "--tol must be positive and finite, got 0.0"),
    "a negative tol": ((*FIT, "--tol", "-0.1"), "--tol must be positive and finite, got -0.1"),
    "an endless tol": ((*FIT, "--tol", "inf"), "--tol must be positive and finite, got inf"),
    "a tol that is none": ((*FIT, "--tol", "nan"), "--tol must be positive and finite, got nan"),
    "a tol in words": ((*FIT, "--tol", "small"), "'small'"),
    "a negative seed": ((*FIT, "--seed", -1), "got '-1'"),
    "a limit of one": ((*FIT, "--limit", 1), "got '1'"),
    "an unknown extension": ((*FIT, "--extension", "cubic"), "'cubic' is not one of"),
    "an unknown device": ((*FIT, "--device", "abacus"), "device 'abacus' can't be used here"),
    "a device that isn't there": ((*FIT, "--device", "cuda:99"), "device 'cuda:99' can't be used here"),
    "more codes than samples": ((*FIT, "--latent-dim", 100), "got 100 for 54 samples"),
    "a data folder that isn't there": (
        ("fit", "mnist", "--out", "run", "--data-dir", "none"),
        "none' to look for mnist in",
    ),
    "data that aren't there": (("fit", "y.npy", "--out", "run"), "y.npy"),
    "a place below a file": (("fit", "x.npy", "--out", "x.npy/run"), "x.npy is a file: no run can be written below it"),
    "a place that is a file": (("fit", "x.npy", "--out", "x.npy"), "x.npy exists and is no run"),
    "a place with other things": (("fit", "x.npy", "--out", "thesis", "--overwrite"), "thesis exists and is no run"),
    "a place that is a run": (("fit", "x.npy", "--out", "model"), "pass --overwrite to replace it"),
    "a run that was of other data": (
        ("fit", "x.npy", "--out", "model", "--resume", "--quiet", "--tol", "0.9"),
        "model was begun with",
    ),
    "samples of no number": (("sample", "model", "-n", 0, "--out", "new.npy"), "n must be at least 1, got 0"),
    "samples in words": (("sample", "model", "-n", "few", "--out", "new.npy"), "'few'"),
    "samples of no file": (("sample", "model"), "Missing option '--out'"),
    "samples of an unknown kind": (("sample", "model", "--out", "new.jpg"), "must end in .png, .npz, .npy"),
    "samples without a kind": (("sample", "model", "--out", "new"), "must end in .png, .npz, .npy"),
    "a picture of vectors": (("sample", "model", "--out", "new.png"), "vectors of 4 numbers, no .png"),
    "samples to no folder": (("sample", "model", "--out", "none/new.npy"), "there is no folder"),
    "samples to a folder": (("sample", "model", "--out", "folder.npy"), "is a folder; name a file"),
    "an unknown label": (("sample", "model", "--label", "7", "--out", "new.npy"), "label must be one of 0, 1, got '7'"),
    "an unknown mode": (("sample", "model", "--mode", 99, "--out", "new.npy"), "got 99"),
    "a negative mode": (("sample", "model", "--mode", -1, "--out", "new.npy"), "got -1"),
    "no run to draw from": (("sample", "none", "--out", "new.npy"), "none is missing: no model to load"),
    "a file to draw from": (("sample", "x.npy", "--out", "new.npy"), "no model to load"),
    "a folder without a model": (("evaluate", "thesis", "x.npy"), "config.json is missing"),
    "a test of other samples": (("evaluate", "model", "digits"), "must have shape (4,), got (8, 8)"),
    "a test without data": (("evaluate", "model"), "Missing argument 'DATA'"),
    "a report without data": (("report", "model"), "give test samples as DATA"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_malformed_options_end_with_2_and_one_line(case, saved, capsys, tmp_path, monkeypatch):
    arguments, words = OPTIONS[case]
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    shutil.copytree(saved, "model")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("brenier: ")
    assert words in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


ARRAYS = {  # a call, the type of its error, and words of the sentence
    "NaN": (lambda _: AEOT().fit(holding(np.nan)), ValueError, "got 1 NaN or Inf, the first in row 5"),
    "Inf": (lambda _: AEOT().fit(holding(-np.inf, 7)), ValueError, "got 1 NaN or Inf, the first in row 7"),
    "complex numbers": (lambda _: AEOT().fit(X * 1j), TypeError, "got complex128"),
    "strings": (lambda _: AEOT().fit(X.astype(str)), TypeError, "got strings"),
    "objects": (lambda _: AEOT().fit(X.astype(object)), TypeError, "got Python objects"),
    "ragged rows": (lambda _: AEOT().fit([[1.0, 2.0], [3.0]]), ValueError, "rows of one length"),
    "a number": (lambda _: AEOT().fit(3.0), TypeError, "got float"),
    "None": (lambda _: AEOT().fit(None), TypeError, "got NoneType"),
    "no rows": (lambda _: AEOT().fit(X[:0]), ValueError, "an array of shape (0, 4)"),
    "one row": (lambda _: AEOT().fit(X[:1]), ValueError, "at least 2 samples, got 1"),
    "equal rows": (lambda _: AEOT().fit(X[:1].repeat(60, 0)), ValueError, "got 60 equal rows"),
    "one axis": (lambda _: AEOT().fit(X[:, 0]), ValueError, "got (60,)"),
    "five axes": (lambda _: AEOT().fit(np.zeros((2, 3, 4, 5, 6)) + X[:2, :1, None, None, None]), ValueError, "shape"),
    "fewer labels": (lambda _: AEOT().fit(X, np.arange(59)), ValueError, "got 59 for 60 samples"),
    "labels in a table": (lambda _: AEOT().fit(X, np.zeros((60, 2), int)), ValueError, "got shape (60, 2)"),
    "labels that are reals": (lambda _: AEOT().fit(X, X[:, 0]), TypeError, "got float64"),
    "a chart in words": (lambda _: AEOT(chart="linear").fit(X), ValueError, "got 'linear'"),
    "a chart of one module": (lambda _: AEOT(chart=(nn.Linear(4, 2), 3)).fit(X), TypeError, "got int"),
    "a chart of other samples": (
        lambda _: AEOT(chart=(nn.Linear(4, 2), nn.Linear(2, 5))).fit(X),
        ValueError,
        "got (5,)",
    ),
    "a tol of NaN": (lambda _: AEOT(tol=float("nan")).fit(X), ValueError, "tol must be positive, got nan"),
    "a tol in words": (lambda _: AEOT(tol="small").fit(X), TypeError, "tol must be a number, got 'small'"),
    "half an epoch": (lambda _: AEOT(epochs=0.5).fit(X), TypeError, "epochs must be a whole number, got 0.5"),
    "two and a half codes": (
        lambda _: AEOT(latent_dim=2.5).fit(X),
        TypeError,
        "latent_dim must be a whole number",
    ),
    "a share above 1": (
        lambda _: AEOT(validation=1.0).fit(X),
        ValueError,
        "a share from 0 up to 1, got 1.0",
    ),
    "a share in words": (
        lambda _: AEOT(validation="half").fit(X),
        TypeError,
        "must be a number, got 'half'",
    ),
    "a seed in words": (lambda _: AEOT(seed="now").fit(X), TypeError, "seed must be a whole number, got 'now'"),
    "a negative seed": (lambda _: AEOT(seed=-1).fit(X), ValueError, "seed must be at least 0, got -1"),
    "an unfitted model": (lambda _: AEOT().sample(3), ValueError, "not fitted"),
    "half a sample": (lambda model: model.sample(0.5), TypeError, "n must be a whole number, got 0.5"),
    "fewer samples than none": (lambda model: model.sample(-2), ValueError, "n must be at least 1, got -2"),
    "codes of another dimension": (lambda model: model.decode(X[:, :3]), ValueError, "(m, 4), got (60, 3)"),
    "samples of another shape": (lambda model: model.encode(X[:, :3]), ValueError, "must have shape (4,), got (3,)"),
    "samples with a NaN": (lambda model: model.encode(holding(np.nan)), ValueError, "in row 5"),
    "weights of another sum": (lambda model: model.reweight(np.full(60, 1.0)), ValueError, "must sum to 1, got 60"),
    "weights below zero": (
        lambda model: model.reweight(np.eye(60)[0] - np.eye(60)[1]),
        ValueError,
        "got -1 at point 1",
    ),
    "pairs that aren't": (lambda model: model.interpolate(X[:2], X[:3]), ValueError, "got 2 and 3"),
    "noise with a NaN": (lambda model: model.noise_to_code(holding(np.nan)), ValueError, "row 5"),
    "points with a NaN": (lambda _: measures.Discrete(holding(np.nan)), ValueError, "the first in row 5"),
    "points on a line": (lambda _: measures.Discrete(X[0]), ValueError, "got (4,)"),
    "points in words": (lambda _: measures.Discrete(X.astype(str)), TypeError, "got an array of <U"),
    "more weights than points": (lambda _: measures.Discrete(X, np.full(61, 1 / 61)), ValueError, "got (61,) for 60"),
    "a cube inside out": (lambda _: measures.UniformCube(2, 1.0, 0.0), ValueError, "1"),
    "a Gaussian of no dimension": (lambda _: measures.Gaussian(0), ValueError, "0"),
    "a target that is an array": (lambda _: transport.solve(measures.Gaussian(3), X), TypeError, "got ndarray"),
    "a source that is none": (lambda _: transport.solve(X, CLOUD), TypeError, "got ndarray"),
    "two dimensions": (lambda _: transport.solve(measures.Gaussian(2), CLOUD), ValueError, "got 2 and 3"),
    "an unknown method": (lambda _: transport.solve(measures.Gaussian(3), CLOUD, "magic"), ValueError, "got 'magic'"),
    "cells that aren't exact": (
        lambda _: transport.solve(measures.Gaussian(3), CLOUD, "newton"),
        ValueError,
        "got Gaussian",
    ),
    "no samples": (lambda _: transport.solve(measures.Gaussian(3), CLOUD, max_samples=0), ValueError, "got 0"),
    "no time": (lambda _: transport.solve(measures.Gaussian(3), CLOUD, max_seconds=0), ValueError, "got 0"),
    "a start of other points": (
        lambda _: transport.solve(measures.Gaussian(3), CLOUD, start=FEWER),
        ValueError,
        "got 9 for 30",
    ),
    "a start with a NaN": (
        lambda _: transport.solve(measures.Gaussian(3), CLOUD, start=start(torch.full((30,), torch.nan))),
        ValueError,
        "got 30 NaN or Inf",
    ),
    "a strength above 1": (
        lambda _: transport.extend(start(torch.zeros(30)), measures.Gaussian(3), strength=1.5),
        ValueError,
        "got 1.5",
    ),
    "few samples for cells": (
        lambda _: transport.cells(start(torch.zeros(30)), measures.Gaussian(3), samples=7),
        ValueError,
        "at least 32, got 7",
    ),
    "heights of other points": (
        lambda _: transport.BrenierPotential(CLOUD.points, torch.zeros(29)),
        ValueError,
        "got (30, 3) and (29,)",
    ),
    "no neighbours": (lambda _: manifold.neighbour_graph(X, 0), ValueError, "0"),
    "an unknown estimator": (lambda _: manifold.intrinsic_dimension(X, "magic"), ValueError, "got 'magic'"),
    "a metric that is none": (
        lambda _: geometry.geodesic(lambda x: -torch.eye(2, dtype=x.dtype), torch.zeros(2), torch.ones(2)),
        ValueError,
        "positive",
    ),
    "more codes than samples, kept": (
        lambda _: AEOT(latent_dim=60).fit(X, checkpoint="kept"),
        ValueError,
        "got 60 for 60 samples",
    ),
    "no tol": (lambda _: AEOT(tol=None).fit(X), TypeError, "tol must be a number, got None"),
    "a checkpoint in a file": (lambda _: AEOT().fit(X, checkpoint=__file__), FileExistsError, "test_malformed"),
    "a model in a file": (lambda model: model.save(__file__), ValueError, "is no model folder"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_malformed_arrays_and_arguments_raise_one_sentence(case, model, tmp_path, monkeypatch):
    call, error, words = ARRAYS[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as raised:
        call(model)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value).strip()
    assert list(tmp_path.iterdir()) == []


def edited(name, old, new):
    def edit(folder):
        path = folder / name
        text = path.read_bytes()
        assert old in text
        path.write_bytes(text.replace(old, new, 1))

    return edit


def made(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def longer(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b"\0")


def cut(name, share):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[: int(share * 1000)])


def signed(**changes):
    """A config of which everything is right but what it says."""

    def edit(folder):
        record = json.loads((folder / "config.json").read_text()) | changes
        record["checksums"]["config.json"] = brenier.storage._checksum(record)
        (folder / "config.json").write_text(json.dumps(record))

    return edit


FOLDERS = {  # what happens to a model folder, the type of the error, and words of the sentence
    "a setting was changed": (
        edited("config.json", b'"tol": 0.9', b'"tol": 0.8'),
        ValueError,
        "config.json was changed",
    ),
    "a key was renamed": (edited("config.json", b'"classes"', b'"klasses"'), ValueError, "config.json was changed"),
    "half a config": (cut("config.json", 0.5), ValueError, "config.json is damaged"),
    "an empty config": (made("config.json", b""), ValueError, "config.json is damaged"),
    "a config of nothing": (made("config.json", b"{}"), ValueError, "config.json is damaged"),
    "a config that is a list": (made("config.json", b"[1, 2]"), ValueError, "config.json is damaged"),
    "a config that is no text": (made("config.json", b"\xff\xfe\x00"), ValueError, "config.json is damaged"),
    "a config without checksums": (
        edited("config.json", b'"checksums"', b'"sums"'),
        ValueError,
        "config.json is damaged",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), FileNotFoundError, "config.json is missing"),
    "an older format": (
        signed(format=1),
        ValueError,
        "has format 1, this version reads formats 2 and 3: fit again",
    ),
    "a newer format": (
        signed(format=99),
        ValueError,
        "this version reads formats 2 and 3: load it with a newer",
    ),
    "a format in words": (signed(format="two"), ValueError, "has format two"),
    "half the weights": (cut("model.safetensors", 0.5), ValueError, "model.safetensors was changed or cut"),
    "no bytes of weights": (made("model.safetensors", b""), ValueError, "model.safetensors was changed or cut"),
    "weights of another kind": (made("model.safetensors", b"PK\x03\x04"), ValueError, "model.safetensors was changed"),
    "weights and more": (longer("model.safetensors"), ValueError, "model.safetensors was changed"),
    "a config and more": (longer("config.json"), ValueError, "config.json is damaged"),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        FileNotFoundError,
        "model.safetensors is missing",
    ),
    "a folder for the weights": (
        lambda folder: ((folder / "model.safetensors").unlink(), (folder / "model.safetensors").mkdir()),
        FileNotFoundError,
        "model.safetensors is missing",
    ),
    "nothing": (shutil.rmtree, FileNotFoundError, "model is missing: no model to load"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_malformed_model_folders_are_refused_by_name(case, saved, capsys, tmp_path):
    harm, error, words = FOLDERS[case]
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    harm(folder)
    with pytest.raises(error, match=re.escape(words)) as raised:
        brenier.load(folder)
    assert "\n" not in str(raised.value)
    with pytest.raises(SystemExit) as ended:
        main(["sample", str(folder), "--out", str(tmp_path / "new.npy")])
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert not (tmp_path / "new.npy").exists()


def test_files_beside_a_model_harm_nothing(saved, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "config.json.orig").write_text("{")
    assert brenier.load(folder).sample(2).shape == (2, 4)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_any_changed_byte_is_refused_by_name(name, saved, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    right, chance = (folder / name).read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        place, bit = int(chance.integers(len(right))), 1 << int(chance.integers(8))
        changed = bytearray(right)
        changed[place] ^= bit
        (folder / name).write_bytes(changed)
        with pytest.raises(ValueError, match=re.escape(name)) as raised:
            brenier.load(folder)
        assert "\n" not in str(raised.value)
    (folder / name).write_bytes(right)
    brenier.load(folder)


def begun(folder, x=X, labels=None, **changes):
    """A checkpoint of X, all stages done."""
    return AEOT(**{"chart": "identity", "tol": 0.9, "max_samples": 2000, **changes}).fit(x, labels, checkpoint=folder)


UNFINISHED = {  # what happens to the folder of an unfinished fit, or is asked for, and words of the sentence
    "another tol": (lambda folder: begun(folder, tol=0.8), "was begun with tol 0.9, got tol 0.8"),
    "another seed": (lambda folder: begun(folder, seed=7), "was begun with seed 0, got seed 7"),
    "another chart": (lambda folder: begun(folder, chart=None), "was begun with chart 'identity', got chart None"),
    "another budget": (lambda folder: begun(folder, max_samples=None), "max_samples 2000, got max_samples None"),
    "another extension": (lambda folder: begun(folder, extension="barycentric"), "extension 'local', got extension"),
    "other data": (
        lambda folder: begun(folder, x=X + 1),
        "other data",
    ),
    "labels that weren't there": (
        lambda folder: begun(folder, labels=np.arange(60)),
        "other data",
    ),
    "a setting that was changed": (
        lambda folder: (edited("fit.json", b"0.9", b"0.7")(folder), begun(folder)),
        "fit.json is damaged or was changed",
    ),
    "half the settings": (
        lambda folder: (cut("fit.json", 0.05)(folder), begun(folder)),
        "fit.json is damaged or was changed",
    ),
    "a stage that was cut": (
        lambda folder: (cut("transport.safetensors", 0.3)(folder), begun(folder)),
        "transport.safetensors was changed or cut",
    ),
    "an empty stage": (
        lambda folder: (made("cells.safetensors", b"")(folder), begun(folder)),
        "cells.safetensors was changed or cut",
    ),
    "a folder of something else": (
        lambda folder: ((folder / "fit.json").unlink(), begun(folder)),
        "holds something else than a checkpoint",
    ),
}


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unfinished") / "checkpoint"
    begun(folder)
    return folder


@pytest.mark.parametrize("case", UNFINISHED)
def test_malformed_checkpoints_are_refused_by_name(case, unfinished, tmp_path):
    call, words = UNFINISHED[case]
    folder = tmp_path / "checkpoint"
    shutil.copytree(unfinished, folder)
    with pytest.raises(ValueError, match=re.escape(words)) as raised:
        call(folder)
    assert "\n" not in str(raised.value)
    assert len(list(folder.glob("*.safetensors"))) == 6


def test_any_changed_byte_of_a_checkpoint_is_refused_by_name(unfinished, tmp_path):
    folder, chance = tmp_path / "checkpoint", np.random.default_rng(1)
    shutil.copytree(unfinished, folder)
    for path in (file for file in folder.iterdir() if file.name != "lock"):
        right = path.read_bytes()
        for place in chance.integers(len(right), size=20):
            changed = bytearray(right)
            changed[place] ^= 1 << int(chance.integers(8))
            path.write_bytes(changed)
            with pytest.raises(ValueError, match=re.escape(path.name)):
                begun(folder)
        path.write_bytes(right)
    assert begun(folder).sample(2).shape == (2, 4)


def test_a_checkpoint_of_another_format_is_refused(unfinished, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoint"
    shutil.copytree(unfinished, folder)
    monkeypatch.setattr(checkpoint, "FORMAT", 3)
    with pytest.raises(
        ValueError, match=r"fit\.json has format 2, this version reads format 3: remove .* to start anew"
    ):
        begun(folder)


def test_the_table_is_long_enough():
    assert len(OPTIONS) + len(ARRAYS) + len(FOLDERS) + len(UNFINISHED) >= 120
