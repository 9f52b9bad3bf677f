"""Where it runs: folders that can't be written, streams without Greek letters, records nested too deeply."""

from __future__ import annotations

import io
import os
import stat
import sys

import numpy as np
import pytest
import torch
from numba import config
from numba.core import caching

from brenier import AEOT, compiled, load
from brenier.checkpoint import Checkpoint
from brenier.cli import main
from brenier.transport import compiling

DEEP = "[" * 200_000 + "]" * 200_000


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """As in a container of another user: neither beside the source nor in a home is there a place for caches."""
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", caching.CacheImpl._locator_classes[:1])
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(compiled, "kept", True)
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def half(x):
    return x / 2


def test_loops_are_kept_in_a_private_folder_where_no_other_takes_them(nowhere):
    assert compiled.compiled(half)(3.0) == 1.5
    assert compiled.kept
    (folder,) = nowhere.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert any(folder.rglob("*.nbi"))


@pytest.mark.parametrize("spoil", ["a file", "open to others"])
def test_loops_are_compiled_in_every_process_where_nothing_can_be_kept(nowhere, spoil):
    place = nowhere / f"brenier-{os.getuid()}"
    if spoil == "a file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o777)
    assert compiled.compiled(fastmath=True)(half)(3.0) == 1.5
    assert not compiled.kept
    assert not any(nowhere.rglob("*.nbi"))


def test_the_user_reads_whether_compiled_loops_stay(monkeypatch):
    said = []
    for kept in (True, False):
        monkeypatch.setattr(compiled, "kept", kept)
        monkeypatch.setattr(compiling.Thread, "is_alive", lambda self: True)
        compiling.within(0.0, lambda: None, said.append)
    assert said[0].endswith("for this machine, once: up to a minute")
    assert "in every process, since no folder takes them (NUMBA_CACHE_DIR names one)" in said[1]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_stream_without_greek_letters_loses_no_sentence(encoding, monkeypatch, tmp_path):
    x = np.random.default_rng(0).normal(size=(120, 3))
    np.save(tmp_path / "x.npy", x)
    raw = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, sink in raw.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(sink, encoding=encoding, write_through=True))
    with pytest.raises(SystemExit) as end:
        main(["inspect", str(tmp_path / "x.npy")])
    assert end.value.code == 0, raw["stderr"].getvalue()
    text = raw["stdout"].getvalue().decode(encoding)
    assert "dimension" in text


def test_records_nested_too_deeply_are_refused_by_name(tmp_path):
    model = AEOT(chart="identity", max_samples=2000).fit(torch.randn(40, 2, generator=torch.Generator().manual_seed(0)))
    folder = model.save(tmp_path / "model")
    (folder / "config.json").write_text(DEEP)
    with pytest.raises(ValueError, match=r"config\.json is damaged: it isn't the JSON record that was saved"):
        load(folder)
    kept = tmp_path / "kept"
    with Checkpoint(kept, {"data": "one"}):
        pass
    (kept / "fit.json").write_text(DEEP)
    with pytest.raises(ValueError, match=r"fit\.json is damaged or was changed"), Checkpoint(kept, {"data": "one"}):
        pass
