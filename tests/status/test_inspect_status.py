"""`brenier inspect` with wrong input: exit status 2, one line that names it, nothing on disk."""

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from brenier.cli import main

NETS = """
from torch import nn
number = 3
def mlp(): return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
def wide(): return nn.Linear(7, 2)
def nothing(): return "a network"
class Pair(nn.Module):
    def forward(self, x): return x, x
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Data, a package with networks and weights, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "seen_nets"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "seen_nets").mkdir()
    (tmp_path / "seen_nets" / "__init__.py").write_text("")
    (tmp_path / "seen_nets" / "a.py").write_text(NETS)
    (tmp_path / "seen_nets" / "broken.py").write_text("def mlp(:")
    np.savez("x.npz", x=np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32), y=np.arange(60) % 2)
    np.save("few.npy", np.eye(20))
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    save_file(network.state_dict(), "good.safetensors")
    save_file({"0.weight": torch.zeros(4, 5)}, "part.safetensors")
    save_file(network.state_dict() | {"more": torch.zeros(1)}, "more.safetensors")
    save_file(network.state_dict() | {"0.bias": torch.zeros(9)}, "shape.safetensors")
    (tmp_path / "text.safetensors").write_text("weights")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    return tmp_path


MLP = ["--model", "seen_nets.a:mlp", "--weights"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.npy"], "no file or folder"),
        (["few.npy"], "at least 24 distinct samples, got 20"),
        (["x.npz", "--picture", "magic"], "magic"),
        (["x.npz", "--out", "full"], "full exists and is no inspection"),
        (["x.npz", "--weights", "good.safetensors"], "needs --model"),
        (["x.npz", "--model", "seen_nets.a"], "must be package.module:factory, got 'seen_nets.a'"),
        (["x.npz", "--model", "seen_nets.none:mlp"], "seen_nets.none can't be imported"),
        (["x.npz", "--model", "seen_nets.broken:mlp"], "seen_nets.broken can't be imported, line 1"),
        (["x.npz", "--model", "seen_nets.a:none"], "seen_nets.a has no none"),
        (["x.npz", "--model", "seen_nets.a:number"], "has a number that can't be called"),
        (["x.npz", "--model", "seen_nets.a:nothing"], "must make a torch.nn.Module, got str"),
        (["x.npz", "--model", "seen_nets.a:wide"], "can't read samples of shape (5,)"),
        (["x.npz", "--model", "seen_nets.a:Pair"], "must give a tensor, got tuple"),
        (["x.npz", *MLP, "none.safetensors"], "there is no file none.safetensors"),
        (["x.npz", *MLP, "text.safetensors"], "text.safetensors can't be read as safetensors"),
        (["x.npz", *MLP, "part.safetensors"], "part.safetensors has no 0.bias"),
        (["x.npz", *MLP, "more.safetensors"], "more.safetensors has more, which the network hasn't"),
        (["x.npz", *MLP, "good.safetensors", "--label", "y"], "label and drop name columns of a table, and x is none"),
        (["x.npz", *MLP, "shape.safetensors"], "0.bias has shape (9,) in shape.safetensors, and (4,) in the network"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_on_disk(arguments, words, folder, capsys):
    before = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    out = [] if "--out" in arguments else ["--out", "deep/seen"]
    with pytest.raises(SystemExit) as ended:
        main(["inspect", *arguments, *out])
    printed, err = capsys.readouterr()
    assert (ended.value.code, printed, err.count("\n")) == (2, "", 1)
    assert err.startswith("brenier: ")
    assert words in err
    assert {path for path in folder.rglob("*") if "__pycache__" not in path.parts} == before
