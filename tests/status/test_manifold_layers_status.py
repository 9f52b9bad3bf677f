"""Wrong input to what layers do: one sentence that names it."""

import numpy as np
import pytest
import torch
from torch import nn

from brenier import data, manifold, report

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
LABELS = np.arange(40) % 2


class Pair(nn.Module):
    def forward(self, x):
        return x, x + 1


class Root(nn.Module):
    def forward(self, x):
        return torch.sqrt(x)


class Mean(nn.Module):
    def forward(self, x):
        return (x + 1).mean(0)


@pytest.mark.parametrize(
    ("network", "x", "labels", "error", "words"),
    [
        (lambda x: x, X, None, TypeError, "network must be a torch.nn.Module, got function"),
        (nn.Linear(5, 2), X, None, ValueError, r"can't read samples of shape \(4,\)"),
        (Pair(), X, None, TypeError, "must give a tensor, got tuple"),
        (Mean(), X, None, ValueError, "one row for every sample"),
        (Root(), X, None, ValueError, "layer output must give finite numbers"),
        (nn.Linear(4, 2), X[:10], None, ValueError, "at least 16 distinct samples, got 10"),
        (nn.Linear(4, 2), X[:1].repeat(40, 1), None, ValueError, "at least 16 distinct samples, got 1"),
        (nn.Linear(4, 2), X * torch.nan, None, ValueError, "finite"),
        (nn.Linear(4, 2), X, LABELS[:7], ValueError, r"one entry per sample, got shape \(7,\) for 40"),
        (nn.Linear(4, 2), X, np.arange(40), ValueError, "two values or more, and fewer than samples, got 40"),
        (nn.Linear(4, 2), [[1.0]], None, TypeError, "a tensor or an array, got list"),
    ],
)
def test_bad_input_is_named(network, x, labels, error, words):
    with pytest.raises(error, match=words):
        manifold.layers(network, x, labels)


@pytest.mark.parametrize("verb", [manifold.class_separation, manifold.linear_probe])
@pytest.mark.parametrize("labels", [np.zeros(40), np.arange(40), np.zeros(3)])
def test_labels_must_be_classes(verb, labels):
    with pytest.raises(ValueError, match="labels must have"):
        verb(X, labels)


def test_what_can_not_be_had_is_said():
    found = manifold.layers(nn.Linear(4, 3), X)
    assert "no labels" in found.notes["probe"] == found.notes["separation"]
    assert "classifies" in found.notes["fisher"]
    found = manifold.layers(nn.Linear(4, 70), X, LABELS)
    assert "at most 64 columns" in found.notes["fisher"]
    found = manifold.layers(nn.Linear(4, 3), X, LABELS + 2)
    assert "aren't those of the 2 classes" in found.notes["fisher"]
    assert found.accuracy is None


def test_a_dead_layer_has_no_dimension_and_no_length():
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    nn.init.constant_(network[0].bias, -100.0)
    dead = manifold.layers(network, X, LABELS).layers[2]
    assert dead.dimension is None
    assert (dead.stretch.mean, dead.turning.mean, dead.volume.mean, dead.separation.mean) == (0, 0, 0, 0)


def test_an_inspection_names_what_it_can_not_take():
    with pytest.raises(TypeError, match="must be Samples"):
        report.inspect(X)
    with pytest.raises(ValueError, match="at least 24 distinct samples, got 20"):
        report.inspect(data.Samples(X[:20].numpy()))
    with pytest.raises(ValueError, match="picture must be isomap, pca, tsne or umap, got 'magic'"):
        report.inspect(data.Samples(X.numpy()), picture="magic")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        report.inspect(data.Samples(X.numpy()), picture="pca").write("no/such/folder")
