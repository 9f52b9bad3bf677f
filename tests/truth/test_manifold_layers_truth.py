"""What layers do where it is known: linear maps of known stretch, volume and rank, arcs, Gaussian classes, heads."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from brenier import data, manifold


def linear(matrix):
    """A layer x -> matrix x in float64."""
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False).double()
    layer.weight.data.copy_(matrix)
    return layer


def gaussian(n, d, generator):
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def test_a_scaling_stretches_everything_by_itself_and_bends_nothing(generator):
    first, last = manifold.layers(linear(3 * torch.eye(4).double()), gaussian(300, 4, generator)).layers
    assert last.stretch == pytest.approx((3, 0), abs=1e-9)
    assert last.volume == pytest.approx((3, 0), abs=1e-9)
    assert last.turning == pytest.approx((0, 0), abs=1e-9)
    assert last.dimension == pytest.approx(first.dimension, rel=1e-6)
    assert last.cells == (0, 0)
    assert (first.stretch, first.volume) == ((1, 0), (1, 0))
    assert first.turning == pytest.approx((0, 0), abs=1e-9)


def test_the_volume_of_a_linear_map_on_a_plane_is_its_area(generator):
    """Data on a plane in five dimensions: det of the map on it, whatever it does beside it."""
    plane = torch.linalg.qr(gaussian(5, 2, generator)).Q
    matrix = gaussian(7, 5, generator)
    x = gaussian(400, 2, generator) @ plane.T
    found = manifold.layers(linear(matrix), x)
    assert found.tangent == 2
    area = torch.linalg.svdvals(matrix @ plane).prod().item()
    assert found.layers[1].volume.mean == pytest.approx(math.sqrt(area), rel=1e-9)
    assert found.layers[1].volume.sem == pytest.approx(0, abs=1e-9)


def test_a_rotation_changes_nothing(generator):
    x = torch.from_numpy(data.swiss_roll(400).values.astype(np.float64))
    labels = (x[:, 1] > x[:, 1].median()).long().numpy()
    first, last = manifold.layers(linear(torch.linalg.qr(gaussian(3, 3, generator)).Q), x, labels).layers
    for name in ("dimension", "separation", "probe", "stretch", "turning", "volume"):
        assert getattr(last, name) == pytest.approx(getattr(first, name), rel=1e-6, abs=1e-9), name


def test_a_projection_drops_the_dimension_to_its_rank(generator):
    matrix = gaussian(6, 2, generator) @ gaussian(2, 6, generator)
    first, last = manifold.layers(linear(matrix), gaussian(1500, 6, generator)).layers
    assert abs(first.dimension.mean - 6) < 1  # biased down at the border of the data
    assert abs(last.dimension.mean - 2) < 4 * last.dimension.sem
    assert last.volume == (0, 0)  # four of six directions are lost


def test_a_circle_turns_by_its_angle(generator):
    """x -> (cos, sin) x: a way of length θ becomes an arc of length θ that turns by θ."""

    class Circle(nn.Module):
        def forward(self, x):
            return torch.cat([x.cos(), x.sin()], 1)

    x = torch.linspace(0, 40, 21, dtype=torch.float64)[:, None]
    arc = manifold.layers(Circle(), x).layers[1]
    assert arc.name == "output"
    assert arc.turning == pytest.approx((2, 0), abs=1e-9)
    assert arc.stretch.mean == pytest.approx(16 * math.sin(1 / 16), abs=1e-9)  # chords of a sixteenth
    assert arc.cells is None


def test_a_rectifier_is_crossed_once_on_the_line():
    """|x| by two units that bend at 0: a way from −1 to 1 crosses one border, one on a side none."""
    network = nn.Sequential(linear(torch.tensor([[1.0], [-1.0]]).double()), nn.ReLU())
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    found = manifold.layers(network, x, np.r_[np.zeros(20), np.ones(20)])
    assert [layer.cells for layer in found.layers] == [(0, 0)] * 3
    found = manifold.layers(network, x, np.arange(40) % 2)
    assert 0 < found.layers[2].cells.mean < 1


@pytest.mark.parametrize(("distance", "dim"), [(2.0, 4), (6.0, 4), (3.0, 20)])
def test_two_gaussians_are_apart_by_their_distance(distance, dim):
    random = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    x = random.normal(size=(4000, dim))
    x[:, 0] += distance * labels
    found = manifold.class_separation(x, labels)
    assert abs(found.mean - distance**2 / (4 * dim)) < 3 * found.sem
    probe = manifold.linear_probe(x, labels)
    best = (1 + math.erf(distance / math.sqrt(8))) / 2  # Φ(distance / 2)
    assert abs(probe.mean - best) < 3 * probe.sem + 2 * dim / 4000


def test_labels_that_say_nothing_separate_nothing():
    random = np.random.default_rng(0)
    ratios = [manifold.class_separation(random.normal(size=(300, 10)), random.integers(5, size=300)) for _ in range(40)]
    assert abs(np.mean([r.mean for r in ratios])) < 3 * np.std([r.mean for r in ratios]) / math.sqrt(40)


def test_fisher_of_a_softmax_is_that_of_its_logits(generator):
    """At the logits G = diag p − p pᵀ, with trace 1 − |p|²; at the input of W the same between Wᵀ and W."""
    matrix, x = gaussian(3, 5, generator), gaussian(100, 5, generator)
    labels = np.arange(100) % 3
    first, logits = manifold.layers(linear(matrix), x, labels).layers
    p = torch.softmax(x @ matrix.T, 1)
    metric = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    assert logits.fisher.mean == pytest.approx((1 - p.square().sum(1)).mean().item(), rel=1e-9)
    for layer, expected in ((logits, metric), (first, matrix.T @ metric @ matrix)):
        values = torch.linalg.eigvalsh(expected).flip(1)[:, :2].mean(0).tolist()
        assert [each.mean for each in layer.spectrum[:2]] == pytest.approx(values, rel=1e-9)
    assert logits.spectrum[2].mean == pytest.approx(0, abs=1e-12)


def test_probabilities_and_one_logit_have_the_same_fisher_metric(generator):
    x, labels = gaussian(60, 2, generator), np.arange(60) % 2
    row = gaussian(1, 2, generator)
    both = linear(torch.cat([torch.zeros_like(row), row]))
    traces = [
        manifold.layers(network, x, labels).layers[0].fisher
        for network in (both, nn.Sequential(both, nn.Softmax(1)), linear(row))
    ]
    assert traces[1] == pytest.approx(traces[0], rel=1e-9)
    assert traces[2] == pytest.approx(traces[0], rel=1e-9)
