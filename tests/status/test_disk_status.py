"""What stays on disk when writing fails, a process is killed, or two of them want one folder."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

import brenier
from brenier import AEOT, checkpoint, disk, folders
from brenier.checkpoint import Stage
from brenier.cli import main

X = np.random.default_rng(0).random((80, 3))


@pytest.fixture
def fit(tmp_path, capsys, monkeypatch):
    """Runs `brenier fit` on X in an empty folder: exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)

    def run(*more):
        options = ("--latent-dim", "2", "--epochs", "2", "--tol", "0.9", "--max-samples", "4000", "--quiet")
        with pytest.raises(SystemExit) as ended:
            main(["fit", "x.npy", "--out", "run", *options, *more])
        return ended.value.code, capsys.readouterr().err

    return run


def names(folder="."):
    return sorted(os.listdir(folder))


def failing(monkeypatch, after, error):
    """From the save number `after` on, each flush raises."""
    flushed, times = os.fsync, [0]

    def fsync(descriptor):
        times[0] += 1
        if times[0] > after:
            raise error
        flushed(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    disk.write(path, b"old")
    with monkeypatch.context() as patch:
        failing(patch, 0, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError, match="No space left on device") as raised:
            disk.write(path, b"new")
        assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.json"]
    disk.write(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_an_error_that_does_not_say_where_gets_the_place(tmp_path):
    with pytest.raises(OSError, match="No space left") as raised, disk.named(tmp_path / "run"):
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    assert raised.value.filename == str(tmp_path / "run")


@pytest.mark.parametrize("after", [0, 9])
def test_a_disk_that_is_full_gets_one_line_and_the_fit_goes_on_later(after, fit, monkeypatch):
    with monkeypatch.context() as patch:
        failing(patch, after, OSError(errno.ENOSPC, "No space left on device"))
        code, err = fit()
    assert (code, err.count("\n")) == (2, 1)
    assert "No space left on device" in err
    if after == 0:
        assert names() == ["x.npy"]
    else:
        assert err.endswith("--quiet --resume\n")
        assert names() == ["run.partial", "x.npy"]
    assert fit("--resume") == (0, "")
    assert names() == ["run", "x.npy"]
    assert brenier.load("run").sample(2).shape == (2, 3)


def test_a_place_that_cannot_be_written_is_refused_before_any_work(fit, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    code, err = fit()
    assert (code, err.count("\n")) == (2, 1)
    assert "can't be written to: choose another place" in err
    assert names() == ["x.npy"]


@pytest.mark.parametrize("stop", [4])
def test_ctrl_c_says_how_to_go_on_and_the_end_is_the_same(stop, fit, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    monkeypatch.setattr(checkpoint, "FIRST", 0.0)
    save, times = Stage.save, [0]

    def interrupted(stage, record):
        save(stage, record)
        times[0] += 1
        if times[0] == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(Stage, "save", interrupted)
    code, err = fit()
    assert (code, err.count("\n")) == (130, 1)
    assert err.startswith("brenier: interrupted; go on with: brenier fit x.npy --out run ")
    assert names() == ["run.partial", "x.npy"]
    code, err = fit()
    assert code == 2
    assert "run.partial is an unfinished run: pass --resume to go on, --overwrite to start anew" in err
    code, err = fit("--resume", "--tol", "0.5")
    assert code == 2
    assert "was begun with tol 0.9, got tol 0.5" in err
    assert fit("--resume") == (0, "")
    assert names() == ["run", "x.npy"]
    assert names("run") == [
        "config.json",
        "history.jsonl",
        "metrics.json",
        "model.safetensors",
        "report.html",
        "samples.png",
    ]
    resumed = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert fit("--resume") == (0, "")  # is finished
    assert "run was begun with tol 0.9, got tol 0.5" in fit("--resume", "--tol", "0.5")[1]
    assert fit("--overwrite") == (0, "")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == resumed


def test_ctrl_c_before_anything_was_kept_leaves_nothing(fit, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, "_refuse", interrupted)
    code, err = fit()
    assert (code, err.count("\n")) == (130, 1)
    assert "interrupted; nothing was written" in err
    assert names() == ["x.npy"]


def test_two_runs_on_one_folder_get_one_line_and_a_dead_one_is_no_obstacle(fit, tmp_path):
    (tmp_path / "run.partial").mkdir()
    hold = "import sys; from pathlib import Path; from brenier import disk\n"
    hold += "with disk.locked(Path('run.partial')): print('held', flush=True); sys.stdin.read()"
    place = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(brenier.__file__))}
    with subprocess.Popen([sys.executable, "-c", hold], stdin=-1, stdout=-1, text=True, env=place) as other:
        assert other.stdout.readline() == "held\n"
        for more in ([], ["--resume"], ["--overwrite"]):
            code, err = fit(*more)
            assert (code, err.count("\n")) == (2, 1)
            assert "run.partial is in use: another process writes there" in err
        other.kill()
    assert names("run.partial") == ["lock"]
    assert fit() == (0, "")


def test_two_fits_on_one_checkpoint_are_refused(tmp_path):
    with disk.locked(tmp_path), pytest.raises(BlockingIOError, match="is in use: another process"):
        AEOT(chart="identity").fit(X, checkpoint=tmp_path)


def test_a_folder_that_is_replaced_is_never_missing(tmp_path, monkeypatch):
    model = AEOT(chart="identity", tol=0.9, max_samples=2000).fit(X)
    folder = model.save(tmp_path / "model")
    other = AEOT(chart="identity", tol=0.8, max_samples=2000).fit(X)
    moved, left = os.replace, [0]

    def killed(old, new):
        if os.path.isdir(old):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
        moved(old, new)

    for left[0] in (1, 2):  # before the old one steps aside, and before the new one steps in
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                other.save(folder)
        assert brenier.load(folder).tol == 0.9
    assert names(tmp_path) == [".model.former"]
    other.save(folder)
    assert brenier.load(folder).tol == 0.8
    assert names(tmp_path) == ["model"]


def test_recover_keeps_the_new_folder_where_both_are_there(tmp_path):
    for name in ("run", ".run.former"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "which").write_text(name)
    disk.recover(tmp_path / "run")
    assert names(tmp_path) == ["run"]
    assert (tmp_path / "run" / "which").read_text() == "run"
