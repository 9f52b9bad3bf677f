"""The command from end to end on two hundred digits: fit, sample, evaluate, report."""

import json

import numpy as np
import pytest
from PIL import Image

import brenier
from brenier.cli import main


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "below" / "digits"
    with pytest.raises(SystemExit) as ended:
        main(["fit", "digits", "--out", str(folder), "--limit", "200", "--epochs", "2", "--quiet"])
    assert ended.value.code == 0
    return folder


def size(path):
    """Width and height of an image: samples of 8x8 enlarged eightfold, a pixel of theirs between them."""
    with Image.open(path) as image:
        return image.size


def test_a_run_is_a_folder_that_loads(fitted):
    assert sorted(file.name for file in fitted.iterdir()) == [
        "config.json",
        "history.jsonl",
        "metrics.json",
        "model.safetensors",
        "report.html",
        "samples.png",
    ]
    assert [file.name for file in fitted.parent.iterdir()] == ["digits"]
    assert brenier.load(fitted).sample(3).shape == (3, 8, 8)
    assert size(fitted / "samples.png") == (12 * 9 * 8 - 8, 8 * 9 * 8 - 8)


def test_metrics_hold_every_number_with_its_error(fitted):
    metrics = json.loads((fitted / "metrics.json").read_text())
    model = brenier.load(fitted)
    again = model.evaluate(brenier.data.load("digits", split="test"))
    assert {name: value["mean"] for name, value in metrics["evaluate"].items() if name in again} == pytest.approx(
        {name: value.mean for name, value in again.items()}, rel=1e-3
    )
    assert set(metrics["baselines"]) == {"Gaussian", "GMM-30", "copies"}
    assert metrics["baselines"]["copies"]["nn"] == {"mean": 0, "sem": 0}
    assert metrics["status"]["transport"] == str(model.transport_.status)
    assert {"manifold", "transport", "evaluation"} <= set(metrics["seconds"])
    assert metrics["peak_memory"] > 1e8
    lines = [json.loads(line) for line in (fitted / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["stage"] == "training"] == [1, 2]
    assert sum("chi2" in line for line in lines) >= 2


def test_samples_are_those_of_the_seed_and_of_the_label(fitted, command, tmp_path):
    model = brenier.load(fitted)
    assert command("sample", fitted, "-n", 5, "--seed", 7, "--out", tmp_path / "five.npy")[0] == 0
    assert (np.load(tmp_path / "five.npy") == model.sample(5, seed=7)).all()
    code, out, _ = command("sample", fitted, "-n", 9, "--label", "3", "--out", tmp_path / "threes.npz", "--json")
    assert code == 0
    assert json.loads(out)["samples"] == 9
    drawn = np.load(tmp_path / "threes.npz")
    assert drawn["labels"].tolist() == [3] * 9
    assert drawn["samples"].shape == (9, 8, 8)
    assert drawn["codes"].shape == (9, model.codes_.shape[1])
    assert command("sample", fitted, "-n", 5, "--out", tmp_path / "grid.png")[0] == 0
    assert size(tmp_path / "grid.png") == (3 * 9 * 8 - 8, 2 * 9 * 8 - 8)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["five.npy", "grid.png", "threes.npz"]


def test_evaluate_prints_a_table_or_one_object(fitted, command):
    code, out, _ = command("evaluate", fitted, "digits")
    assert code == 0
    assert "360 test samples" in out
    code, out, _ = command("evaluate", fitted, "digits", "--limit", 100, "--json")
    assert code == 0
    judged = json.loads(out)
    assert judged["test"] == 100
    assert 0.3 < judged["evaluate"]["c2st"]["mean"] <= 1


def test_the_page_is_written_again_without_the_data_at_hand(fitted, command, tmp_path):
    code, out, err = command("report", fitted, "--out", tmp_path / "page.html")
    assert (code, err) == (0, "")
    assert "New samples" in out
    assert "AE-OT on digits" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_vectors_without_a_test_split_hold_a_tenth_out(command, tmp_path):
    x = brenier.data.ring(200).values
    np.save(tmp_path / "ring.npy", x)
    run = tmp_path / "run"
    run.mkdir()  # an empty folder is as good as none
    code, out, err = command("fit", tmp_path / "ring.npy", "--out", run, "--latent-dim", 2, "--epochs", 1, "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["train"], result["test"], result["latent_dim"]) == (180, 20, 2)
    assert "ring: 180 vectors of 2, no labels; 20 to judge by" in err
    model = brenier.load(run)
    assert not {row.tobytes() for row in model.codes_.numpy()} & {row.tobytes() for row in model.sample(40)}
    assert command("report", run, "--quiet") == (0, "", "")
    code, _, err = command("sample", run, "--out", tmp_path / "ring.png")
    assert code == 2
    assert "vectors of 2 numbers" in err
    assert not (tmp_path / "ring.png").exists()


def test_overwriting_replaces_the_run_and_one_that_broke_off(command, tmp_path):
    np.savez(tmp_path / "ring.npz", x=brenier.data.ring(80).values, y=np.arange(80) % 2)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "rest").write_text("")
    arguments = ("fit", tmp_path / "ring.npz", "--out", run, "--epochs", 1, "--no-labels", "--latent-dim", 2)
    assert command(*arguments)[0] == 2
    code, out, err = command(*arguments, "--max-samples", 9, "--overwrite")
    assert code == 0
    assert "Not converged: the sampling error" in " ".join(out.split())
    assert "no labels" in err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ring.npz", "run"]
    assert brenier.load(run).labels_ is None


def test_runs_are_compared_on_the_same_samples(fitted, command, tmp_path):
    other = tmp_path / "other"
    assert command("fit", "digits", "--out", other, "--limit", 200, "--epochs", 1, "--tol", 1, "--quiet")[0] == 0
    code, out, _ = command("report", fitted, other, "--json")
    numbers = json.loads(out)["runs"]
    assert code == 0
    assert list(numbers) == [str(fitted), str(other)]
    assert numbers[str(other)]["fid"]["mean"] > numbers[str(fitted)]["fid"]["mean"]
    code, out, _ = command("report", fitted, other, "--out", tmp_path / "both.html")
    assert code == 0
    assert "is better than" in " ".join(out.split())
    assert "Runs compared" in (tmp_path / "both.html").read_text()
    code, _, err = command("report", fitted, fitted)
    assert code == 2
    assert "each run must be given once" in err
