"""Models of the format before: networks, codes and transport are kept, modes and extension are made anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import brenier
from brenier import AEOT, manifold, storage

SHAPES = {"mlp": (60, 5), "convolutional": (60, 9, 8)}


@pytest.fixture(params=["identity", "mlp", "convolutional"])
def earlier(request, tmp_path, monkeypatch):
    """A fitted model with a chart of format 2, and the folder that holds it in that format."""
    kind, rng = request.param, np.random.default_rng(0)
    x = rng.random(SHAPES.get(kind, (60, 3))).astype(np.float32)
    model = AEOT(chart="identity" if kind == "identity" else "network", latent_dim=2, epochs=1, max_samples=5000).fit(x)
    if kind != "identity":
        spec = {name: value for name, value in model.chart_.spec.items() if name != "format"}
        model.chart_ = manifold.build({**spec, "format": 2}, generator=1)
        model.chart_.spec = spec
    config, tensors = storage.pack(model)
    monkeypatch.setattr(storage, "FORMAT", 2)
    del config["dimension"], config["extension"]["frequency"]
    gone = ("local.", "tree.", "parts", "stretch", "shift")
    kept = {name: value for name, value in tensors.items() if not name.startswith(gone)}
    folder = storage.write(tmp_path / "before", config, kept)
    monkeypatch.undo()
    return model, folder, x


def test_a_model_of_the_format_before_loads_and_draws(earlier, tmp_path):
    model, folder, x = earlier
    loaded = brenier.load(folder)
    assert torch.equal(loaded.codes_, model.codes_)
    assert torch.equal(loaded.transport_.potential.heights, model.transport_.potential.heights)
    assert np.array_equal(loaded.encode(x), model.encode(x))
    new = loaded.sample(20)
    assert new.shape == (20, *x.shape[1:])
    assert np.array_equal(new, brenier.load(folder).sample(20))
    again = brenier.load(loaded.save(tmp_path / "after"))
    assert np.array_equal(new, again.sample(20))
    assert (again.modes_ == loaded.modes_).all()
