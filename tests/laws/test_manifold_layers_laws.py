"""Laws of what layers do: what a layer is, invariance under scale and rotation, wide layers, the network as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from brenier import manifold
from brenier.manifold.tapping import projection


class Block(nn.Module):
    """A residual block with steps in place, a layer called twice and one called by nobody."""

    def __init__(self):
        super().__init__()
        self.linear, self.relu, self.idle = nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Linear(6, 6)
        self.after = nn.Sequential(nn.Identity(), nn.Linear(6, 6), nn.Dropout(0.5))

    def forward(self, x):
        y = self.relu(self.after(self.relu(self.linear(x))))
        y += x
        return y


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), Block(), nn.Sequential(nn.Linear(6, 3))).double()


@pytest.fixture
def x(generator):
    return torch.randn(200, 1, 2, 3, generator=generator, dtype=torch.float64)


LABELS = np.arange(200) % 3


def test_layers_are_the_modules_with_answers_of_their_own(network, x):
    found = manifold.layers(network, x, LABELS)
    names = ["input", "1.linear", "1.relu", "1.after.1", "1.relu (2)", "1", "2.0"]
    assert [layer.name for layer in found.layers] == names
    assert [layer.kind for layer in found.layers[1:4]] == ["Linear", "ReLU", "Linear"]
    assert found.notes == {}
    counts = [layer.cells.mean for layer in found.layers]
    assert counts == sorted(counts)
    assert counts[1] == 0 < counts[2] == counts[3] < counts[4]


def test_the_network_is_as_it_was(network, x):
    network.train()
    network[1].after.eval()
    modes = [module.training for module in network.modules()]
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    manifold.layers(network, x, LABELS)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_it_is_the_same_again_and_for_numpy(network, x):
    once, again = manifold.layers(network, x, LABELS, seed=1), manifold.layers(network, x.numpy(), LABELS, seed=1)
    assert once == again


def test_scale_of_the_data_goes_through_a_network_without_bias(generator):
    """f(s x) = s f(x) for rectifiers without bias: only Fisher's metric has a unit."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)).double()
    x = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    one, four = (manifold.layers(network, s * x, LABELS).layers for s in (1, 4))
    for a, b in zip(one, four, strict=True):
        for name in ("dimension", "separation", "probe", "stretch", "turning", "volume", "cells"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-6, abs=1e-7), (a.name, name)


def test_a_rotation_of_the_data_that_the_network_undoes_changes_no_layer(network, generator):
    x = torch.randn(150, 6, generator=generator, dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    back = nn.Linear(6, 6, bias=False).double()
    back.weight.data.copy_(q)
    block = network[1]
    plain = manifold.layers(block, x, LABELS[:150]).layers
    turned = manifold.layers(nn.Sequential(back, block), x @ q, LABELS[:150]).layers
    for a, b in zip(plain[1:], turned[2:], strict=True):
        for name in ("dimension", "separation", "probe", "stretch", "turning", "volume"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-6, abs=1e-7), (a.name, name)


@pytest.mark.parametrize("verb", [manifold.class_separation, manifold.linear_probe])
def test_classes_know_no_scale_shift_or_rotation(verb, generator):
    x = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    x[:, 0] += torch.from_numpy(LABELS)
    q = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    assert verb(3 * x @ q + 7, LABELS) == pytest.approx(verb(x, LABELS), rel=1e-9)
    assert verb(x.numpy(), np.array(["a", "b", "c"])[LABELS]) == verb(x, LABELS)


def test_wide_layers_are_seen_through_a_projection(x, generator):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(6, 600), nn.ReLU(), nn.Linear(600, 3)).double()
    every = manifold.layers(network, x, LABELS, max_width=600).layers
    few = manifold.layers(network, x, LABELS, max_width=200).layers
    assert [layer.seen for layer in few] == [6, 200, 200, 3]
    for a, b in zip(every, few, strict=True):
        assert a.stretch.mean == pytest.approx(b.stretch.mean, rel=0.15)
        assert a.volume.mean == pytest.approx(b.volume.mean, rel=0.15)
        assert a.turning.mean == pytest.approx(b.turning.mean, rel=0.15, abs=1e-6)
        assert abs(a.dimension.mean - b.dimension.mean) < 3 * a.dimension.sem


def test_a_projection_on_all_directions_is_a_rotation(generator):
    y = torch.randn(20, 64, generator=generator, dtype=torch.float64)
    seen = projection(torch.cat([y, y.new_zeros(20, 1)], 1), 64, seed=0)
    assert seen.shape == (20, 64)
    share = (seen.norm(dim=1) / y.norm(dim=1)).numpy()
    assert abs(share.mean() - 1) < 0.05


def test_a_step_that_is_not_piecewise_linear_ends_the_counting_of_cells(generator):
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    found = manifold.layers(network, x, np.arange(60) % 2)
    assert [layer.cells is None for layer in found.layers] == [False, False, False, False, True, True]
    assert "from layer 3 on" in found.notes["cells"]
    assert "tanh" in found.notes["cells"]
    assert all(layer.volume is not None for layer in found.layers)


def test_copies_count_once_and_convolutions_pool(generator):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
        )
    x = torch.randn(60, 1, 8, 8, generator=generator)
    found = manifold.layers(network, torch.cat([x, x]), np.r_[np.arange(60), np.arange(60)] % 4)
    assert found.samples == 60
    assert [layer.name for layer in found.layers] == ["input", "0", "1", "2", "3", "5"]
    assert [layer.width for layer in found.layers] == [64, 108, 108, 108, 27, 4]
    assert all(layer.cells is not None and layer.fisher is not None for layer in found.layers)
