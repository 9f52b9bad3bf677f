"""The guide's first page and its example do what they say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[2]


def test_the_code_of_the_page_runs():
    page = (ROOT / "docs" / "natural_gradient.md").read_text()
    formula, loop = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[:2]
    names: dict = {}
    with torch.random.fork_rng():
        exec(formula, names)
    assert F.cross_entropy(names["model"](names["x"]), names["y"]) < 0.1
    exec(loop, names)
    assert F.cross_entropy(names["model"](names["x"]), names["y"]) < 0.01


def test_the_optimiser_is_the_formula():
    example = runpy.run_path(str(ROOT / "examples" / "natural_gradient.py"))
    x, y = example["sectors"](60)
    written = example["written_out"](x, y, 0.5, 1e-3, 6)
    assert example["by_optimiser"](x, y, 6, lr=0.5, structure="dense", damping=1e-3) == pytest.approx(written, rel=1e-6)
