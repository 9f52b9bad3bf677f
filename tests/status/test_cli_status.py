"""Wrong input ends with exit code 2 and one line that names it, and leaves nothing on disk."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import brenier
from brenier import data
from brenier.cli import main

X = np.random.default_rng(0).random((80, 5))


def ended(capsys, *arguments):
    """Exit code, stdout and stderr of the command."""
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    return exit.value.code, *capsys.readouterr()


def array(folder, values, pickled=False):
    np.save(folder / "x.npy", values, allow_pickle=pickled)
    return folder / "x.npy"


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])
    return path


def nan(folder):
    values = X.copy()
    values[3, 1] = np.nan
    return array(folder, values)


def empty(folder):
    (folder / "images").mkdir()
    return folder / "images"


def png(folder):
    Image.new("L", (8, 8)).save(empty(folder) / "0.png")
    cut(folder / "images" / "0.png", 40)
    return folder / "images"


def mixed(folder):
    empty(folder)
    for size in (8, 9):
        Image.new("L", (size, size)).save(folder / "images" / f"{size}.png")
    return folder / "images"


def idx(folder):
    path = folder / "x-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 3] + 40 * [0])))
    return cut(path, 20)


def npz(folder):
    np.savez(folder / "x.npz", x=X)
    return cut(folder / "x.npz", 200)


BAD = {
    "a missing path": (lambda folder: folder / "none.npy", "no file or folder"),
    "an empty folder": (empty, "holds no images"),
    "a truncated npy": (lambda folder: cut(array(folder, X), 90), "cannot be read"),
    "a truncated npz": (npz, "truncated"),
    "a truncated gz": (idx, "idx3"),
    "a truncated png": (png, "0.png cannot be read"),
    "images of two sizes": (mixed, "8x8 of"),
    "NaN": (nan, "1 NaN or Inf, the first in row 3"),
    "complex": (lambda folder: array(folder, X + 1j), "got complex128"),
    "strings": (lambda folder: array(folder, np.array(["a", "b"])), "got strings"),
    "objects": (lambda folder: array(folder, np.array([{}, 1], object), pickled=True), "never unpickled"),
    "no axis": (lambda folder: array(folder, np.array(3.0)), "shape ()"),
    "no rows": (lambda folder: array(folder, X[:0]), "shape (0, 5)"),
    "one row": (lambda folder: array(folder, X[:1]), "at least 2 samples, got 1"),
    "few rows": (lambda folder: array(folder, X[:7]), "got 6 and 1"),
    "rows all equal": (lambda folder: array(folder, np.ones((80, 3))), "80 equal rows"),
    "nothing unseen": (lambda folder: array(folder, X[:2].repeat(40, 0)), "all 8 test samples"),
    "an unknown kind of file": (lambda folder: folder / "x.txt", "no file or folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_are_refused(case, capsys, tmp_path):
    make, words = BAD[case]
    source = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = ended(capsys, "fit", source, "--out", tmp_path / "a" / "run")
    assert (code, out) == (2, "")
    assert err.startswith("brenier: ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--latent-dim", 100], "got 100 for 72 samples"),
        (["--latent-dim", 0], "--latent-dim"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--device", "abacus"], "abacus"),
        (["--tol", 0], "--tol must be positive and finite, got 0.0"),
        (["--extension", "magic"], "magic"),
        (["--epochs", "many"], "--epochs"),
        (["--limit", 1], "--limit"),
        (["--magic"], "--magic"),
    ],
)
def test_bad_options_are_refused(options, words, capsys, tmp_path):
    source = array(tmp_path, X)
    code, out, err = ended(capsys, "fit", source, "--out", tmp_path / "run", "--quiet", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]


def test_a_place_that_is_taken_is_refused_before_any_work(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    for name, more, words in (
        ("file", ["--overwrite"], "is no run"),
        ("full", ["--overwrite"], "is no run"),
        ("run", [], "pass --overwrite"),
        ("file/below", [], "file"),
    ):
        code, out, err = ended(capsys, "fit", "digits", "--out", tmp_path / name, *more)
        assert (code, out) == (2, "")
        assert words in err
    assert len(sorted(tmp_path.rglob("*"))) == 5


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "ring"
    x = data.ring(400).values
    return brenier.AEOT(chart="identity").fit(x, np.arange(400) % 2).save(folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-n", 0], "n must be at least 1, got 0"),
        (["--label", "7"], "label must be one of 0, 1, got '7'"),
        (["--mode", 99], "mode must be one of"),
        (["--out", "new.jpg"], "new.jpg"),
        (["--out", "new.png"], "vectors of 2 numbers"),
        (["--out", "none/new.npz"], "there is no folder"),
        (["--out", "folder.npy"], "folder.npy"),
    ],
)
def test_bad_wishes_for_samples_are_refused(options, words, saved, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npy").mkdir()
    code, out, err = ended(capsys, "sample", saved, "--out", "new.npz", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert [file.name for file in tmp_path.iterdir()] == ["folder.npy"]


def test_a_damaged_model_is_refused(saved, capsys, tmp_path):
    config, weights = ((saved / name).read_bytes() for name in ("config.json", "model.safetensors"))
    for edited, cut_off, words in (
        (config.replace(b'"tol": 0.2', b'"tol": 0.3'), weights, "was changed after it was saved"),
        (config[:100], weights, "is damaged"),
        (config, weights[:1000], "was changed or cut"),
    ):
        (tmp_path / "config.json").write_bytes(edited)
        (tmp_path / "model.safetensors").write_bytes(cut_off)
        code, _, err = ended(capsys, "evaluate", tmp_path, "digits")
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
    assert "no model to load" in ended(capsys, "report", tmp_path / "none")[2]


def test_test_samples_must_fit_the_model(saved, capsys, tmp_path):
    assert "must have shape (2,)" in ended(capsys, "evaluate", saved, "digits")[2]
    assert "give test samples as DATA" in ended(capsys, "report", saved)[2]
    assert ended(capsys, "report", saved, array(tmp_path, X))[0] == 2
    assert not (saved / "report.html").exists()


def test_a_fit_that_breaks_off_leaves_nothing(capsys, tmp_path, monkeypatch):
    def breaks(*_):
        raise ArithmeticError("the loss became nan")

    monkeypatch.setattr(brenier.AEOT, "report", breaks)
    source = array(tmp_path, X)
    options = ("--latent-dim", 2, "--epochs", 1, "--quiet")
    code, out, err = ended(capsys, "fit", source, "--out", tmp_path / "deep" / "run", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the loss became nan" in err
    assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]


def test_help_and_version_teach(capsys):
    assert ended(capsys, "--version")[:2] == (0, f"brenier {brenier.__version__}\n")
    assert ended(capsys)[:2] == ended(capsys, "--help")[:2]
    for command, example in (
        ("fit", "brenier fit digits --out runs/digits"),
        ("sample", "brenier sample runs/digits -n 64 --out new.png"),
        ("evaluate", "brenier evaluate runs/digits digits"),
        ("report", "brenier report runs/digits"),
        ("inspect", "brenier inspect digits"),
    ):
        code, out, _ = ended(capsys, command, "--help")
        assert code == 0
        assert example in out


def test_the_module_is_the_command_too():
    answer = subprocess.run([sys.executable, "-m", "brenier", "sample"], capture_output=True, text=True)
    assert answer.returncode == 2
    assert answer.stderr == "brenier: Missing argument 'RUN'; see brenier --help\n"
