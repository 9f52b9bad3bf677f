"""`brenier inspect` end to end on the digits: the data alone, and a small network trained on them."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from brenier import data, report
from brenier.report.networks import seeded, train

NETS = """
from torch import nn
def mlp():
    print("building")
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
"""


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A package with a factory in the current folder, and trained weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "digit_nets").mkdir()
    (tmp_path / "digit_nets" / "__init__.py").write_text(NETS)
    space = {}
    exec(NETS, space)
    network = seeded(space["mlp"], 0)
    digits = data.load("digits")
    x = torch.from_numpy(digits.values)[:, None]
    y = torch.from_numpy(digits.labels).long()
    train(network, lambda rows: x[rows], y, np.random.default_rng(0), epochs=8, batch=64, rate=3e-3, decay=1e-2)
    save_file(network.state_dict(), "mlp.safetensors")
    return tmp_path


def test_a_run_shows_its_encoder(tmp_path, command):
    assert (
        command("fit", "digits", "--out", tmp_path / "run", "--limit", 200, "--epochs", 2, "--tol", 1, "--quiet")[0]
        == 0
    )
    code, out, _ = command("inspect", tmp_path / "run", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["samples"] == 360  # the digits' test split
    assert found["layers"][0]["width"] == 64
    assert found["layers"][-1]["width"] == json.loads((tmp_path / "run" / "metrics.json").read_text())["latent_dim"]
    code, out, err = command("inspect", tmp_path / "run", "--drop", "age")
    assert (code, out) == (2, "")
    assert "is a run, which knows its columns: leave --label and --drop out" in err


def test_the_layers_of_a_trained_network(trained, command):
    options = ("--model", "digit_nets:mlp", "--weights", "mlp.safetensors", "--out", "seen")
    code, out, err = command("inspect", "digits", *options, "--json")
    assert (code, "building" in err) == (0, True)
    found = json.loads(out)
    assert sorted(path.name for path in (trained / "seen").iterdir()) == [
        "inspection.html",
        "inspection.json",
        "inspection.png",
    ]
    assert json.loads((trained / "seen" / "inspection.json").read_text()) == {
        key: value for key, value in found.items() if key != "out"
    }
    layers = found["layers"]
    assert [layer["name"] for layer in layers] == ["input", "1", "2", "3", "4", "5"]
    assert found["accuracy"]["mean"] > 0.9
    assert found["samples"] == 360  # the test split
    assert layers[-1]["separation"]["mean"] > 2 * layers[0]["separation"]["mean"]
    assert layers[1]["turning"]["mean"] < 0.01 < layers[2]["turning"]["mean"]
    assert layers[1]["cells"]["mean"] == 0 < layers[2]["cells"]["mean"] < layers[4]["cells"]["mean"]
    assert all(layer["fisher"]["sem"] > 0 and len(layer["spectrum"]) == 5 for layer in layers)
    page = (trained / "seen" / "inspection.html").read_text(encoding="utf-8")
    assert "Sequential on digits: what each layer does" in page

    code, out, err = command("inspect", "digits", *options)
    assert (code, out) == (2, "")
    assert "pass --overwrite" in err
    code, out, _ = command("inspect", "digits", *options, "--overwrite")
    assert code == 0
    assert "Accuracy of the network" in out


def test_data_alone(command):
    code, out, err = command("inspect", "digits", "--limit", 300, "--picture", "pca", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["samples"], found["shape"], found["duplicates"], found["range"]) == (300, [8, 8], 0, [0.0, 1.0])
    assert 4 < found["dimension"]["two_nn"]["mean"] < 16
    assert set(found["by class"]) == {str(digit) for digit in range(10)}
    assert [net["size"] for net in found["nets"]] == [16, 64, 256]
    radii = [net["covering"] for net in found["nets"]]
    assert radii == sorted(radii, reverse=True)
    assert found["graph"]["components"] == 1
    assert 0.5 < found["picture"]["trustworthiness"]["mean"] < 1
    assert command("inspect", "digits", "--limit", 100, "--quiet") == (0, "", "")


def test_copies_and_parts_stand_out():
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 3)) + 50 * (np.arange(120) % 2)[:, None]
    x[100:] = x[:20]
    labels = np.r_[np.zeros(100), np.ones(20)].astype(int)
    found = report.inspect(data.Samples(x, labels), picture="pca")
    assert found.numbers["duplicates"] == found.numbers["duplicates with another label"] == 20
    assert found.numbers["graph"]["components"] == 2
    said = str(found)
    assert "20 samples equal earlier ones, 20 of them with another label" in said
    assert "falls apart, into parts of 50, 50 samples" in said


def test_a_plane_in_space_is_seen_as_one():
    random = np.random.default_rng(0)
    x = random.uniform(size=(800, 2)) @ random.normal(size=(2, 6))
    found = report.inspect(data.Samples(x), picture="pca")
    for method in ("two_nn", "mle"):
        estimate = found.numbers["dimension"][method]
        assert abs(estimate.mean - 2) < 2 * estimate.sem
    assert found.numbers["dimension"]["pca"].mean == 2
    assert found.numbers["picture"]["trustworthiness"].mean > 0.999
    assert found.numbers["singular"]["share"].mean < 0.1


def test_a_table_is_seen_as_a_model_reads_it(tmp_path, command, monkeypatch):
    pytest.importorskip("pyarrow")
    rows = "".join(f"{i % 7 + i / 100},{'ab'[i % 2]},{'no' if i % 3 else 'yes'},n{i}\n" for i in range(60))
    (tmp_path / "t.csv").write_text("x,kind,ill,name\n" + rows)
    code, out, _ = command(
        "inspect", tmp_path / "t.csv", "--label", "ill", "--drop", "name", "--picture", "pca", "--json"
    )
    found = json.loads(out)
    assert code == 0
    assert (found["shape"], found["classes"]) == ([2], {"no": 40, "yes": 20})
    (tmp_path / "table_nets.py").write_text("from torch import nn\ndef small():\n    return nn.Linear(2, 2)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    code, out, _ = command(
        "inspect", tmp_path / "t.csv", "--drop", "name", "--label", "ill", "--model", "table_nets:small", "--json"
    )
    assert code == 0
    assert [layer["width"] for layer in json.loads(out)["layers"]] == [2, 2]
    run = tmp_path / "run"
    assert command("fit", tmp_path / "t.csv", "--drop", "name", "--tol", 1, "--out", run, "--quiet")[0] == 0
    code, _, err = command("inspect", run)
    assert code == 2
    assert "no layers to inspect" in err
