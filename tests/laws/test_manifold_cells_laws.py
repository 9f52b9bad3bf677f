"""What must not change the cells of a network, and what must change them in a known way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from brenier.manifold import activation, slices
from brenier.manifold.activation import activation_codes, affine_maps
from brenier.manifold.cells import relu_cells, surface_cells
from brenier.manifold.crossings import cells_between, crossings, local_complexity
from brenier.manifold.networks import seeded

SQUARE = [[-1.0, -1.0], [1.0, 1.0]]


def network(seed=0, dim=2, bend=nn.ReLU, dtype=torch.float64):
    with seeded(seed):
        return nn.Sequential(nn.Linear(dim, 10), bend(), nn.Linear(10, 8), bend(), nn.Linear(8, 3)).to(dtype)


def areas(cells):
    """The area of each code."""
    codes, name = cells.codes.unique(dim=0, return_inverse=True)
    total = torch.zeros(len(codes), dtype=cells.areas.dtype).index_add(0, name, cells.areas)
    return {bytes(code.numpy()): area for code, area in zip(codes, total.tolist(), strict=True)}


def assert_same(one, other, tol=1e-13):
    """The same codes on the same areas; cells below the tolerance may be missing."""
    for code in one.keys() | other.keys():
        assert one.get(code, 0) == pytest.approx(other.get(code, 0), abs=tol)


def test_the_order_of_units_and_their_scale_change_only_the_names():
    first, second = network(), network()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    scale = torch.linspace(0.5, 3, 10).double()
    second[0].weight.data = (scale[:, None] * second[0].weight.data)[order]
    second[0].bias.data = (scale * second[0].bias.data)[order]
    second[2].weight.data = (second[2].weight.data / scale)[:, order]
    one, other = relu_cells(first, SQUARE), relu_cells(second, SQUARE)
    renamed = one.codes.clone()
    renamed[:, :10] = one.codes[:, :10][:, order]
    assert_same({bytes(c.numpy()): a for c, a in zip(renamed, one.areas.tolist(), strict=True)}, areas(other))
    torch.testing.assert_close(one.distortion.sort().values, other.distortion.sort().values, rtol=1e-9, atol=1e-13)


def test_cells_of_two_halves_are_those_of_the_whole():
    left = relu_cells(network(), [[-1.0, -1.0], [0.3, 1.0]])
    right = relu_cells(network(), [[0.3, -1.0], [1.0, 1.0]])
    both = areas(left)
    for code, area in areas(right).items():
        both[code] = both.get(code, 0) + area
    assert_same(both, areas(relu_cells(network(), SQUARE)))


def test_a_polygon_is_a_domain_either_way_round():
    triangle = torch.tensor([[-1.0, -1.0], [1.0, -0.5], [0.0, 1.0]])
    one, other = (relu_cells(network(), part) for part in (triangle, triangle.flip(0)))
    assert one.areas.sum().item() == pytest.approx(1.75, rel=1e-13)
    assert_same(areas(one), areas(other))


def test_another_frame_of_the_slice_moves_nothing_in_the_input_space(generator):
    origin, u, v = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    deep = network(dim=5)
    one = relu_cells(deep, SQUARE, origin, u, v)
    other = relu_cells(deep, [[-2.0, -0.5], [2.0, 0.5]], origin, u / 2, 2 * v)
    slanted = relu_cells(deep, [[-2, -1], [0, -1], [2, 1], [0, 1.0]], origin, u, v - u)  # x = (s − t) u + t v
    assert_same(areas(one), areas(other))
    assert_same(areas(one), areas(slanted), 1e-12)
    key, same = one.codes.unique(dim=0, return_inverse=True), slanted.codes.unique(dim=0, return_inverse=True)
    assert torch.equal(key[0], same[0])
    torch.testing.assert_close(one.distortion[key[1].argsort()], slanted.distortion[same[1].argsort()])


@pytest.mark.parametrize("bend", [nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.Hardtanh])
def test_float32_gives_the_cells_to_its_rounding(bend):
    exact, coarse = (relu_cells(network(bend=bend, dtype=d), SQUARE) for d in (torch.float64, torch.float32))
    assert coarse.areas.dtype == torch.float64
    assert coarse.areas.sum().item() == pytest.approx(4, rel=1e-12)
    assert_same(areas(coarse), areas(exact), 1e-4)


def test_few_at_a_time_give_the_same(monkeypatch, generator):
    deep, x = network(dim=4), torch.randn(2, 40, 4, generator=generator, dtype=torch.float64)
    plane = torch.randn(3, 4, generator=generator, dtype=torch.float64)

    def everything():
        found = crossings(deep, *x)
        return areas(relu_cells(deep, SQUARE, *plane)), found.t, found.counts, affine_maps(deep, x[0]).matrix

    whole = everything()
    monkeypatch.setattr(activation, "ENTRIES", 100)
    monkeypatch.setattr(slices, "NUMBERS", 500)
    parts = everything()
    assert_same(whole[0], parts[0])
    for one, other in zip(whole[1:], parts[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


def test_numpy_gives_numpy_and_lists_are_domains():
    x = np.random.default_rng(0).normal(size=(6, 2))
    assert isinstance(activation_codes(network(), x), np.ndarray)
    assert all(isinstance(part, np.ndarray) for part in affine_maps(network(), x))
    assert all(isinstance(part, np.ndarray) for part in crossings(network(), x[:3], x[3:]))
    assert isinstance(local_complexity(network(), x, 0.5, generator=0).mean, np.ndarray)
    assert isinstance(cells_between(network(), x.reshape(3, 2, 2)), np.ndarray)
    np.testing.assert_array_equal(
        activation_codes(network(), x), activation_codes(network(), torch.from_numpy(x)).numpy()
    )
    assert_same(areas(relu_cells(network(), SQUARE)), areas(relu_cells(network(), np.array(SQUARE))))


class Functions(nn.Module):
    """The same bends as functions, methods and in place."""

    def __init__(self, plain, way):
        super().__init__()
        self.plain, self.way = plain, way

    def forward(self, x):
        y = self.plain[0](x)
        y = WAYS[self.way](y)
        return self.plain[4](F.relu(self.plain[2](y), inplace=self.way == "place"))


WAYS = {
    "function": F.relu,
    "torch": torch.relu,
    "method": lambda y: y.relu(),
    "clamp": lambda y: y.clamp(min=0),
    "place": torch.relu_,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_rectifier_is_one_however_it_is_called(way):
    assert_same(areas(relu_cells(Functions(network(), way), SQUARE)), areas(relu_cells(network(), SQUARE)))


def test_other_bends_are_sums_of_rectifiers(generator):
    z = 4 * torch.randn(50, 1, generator=generator, dtype=torch.float64)
    for bend, pieces in ((nn.ReLU6(), 3), (nn.Hardtanh(-2, 1), 3), (torch.abs, 2), (nn.PReLU(init=-0.3).double(), 2)):
        maps = affine_maps(bend, z)
        torch.testing.assert_close(maps.matrix[:, 0] * z + maps.offset, bend(z).detach(), rtol=1e-14, atol=1e-14)
        assert len((maps.matrix * 2**30).round().unique()) == 2
        assert len(activation_codes(bend, z).unique()) == pieces


def test_crossings_are_those_of_the_way_back_and_of_its_parts(generator):
    a, b = torch.randn(2, 30, 2, generator=generator, dtype=torch.float64)
    there, back = crossings(network(), a, b), crossings(network(), b, a)
    assert torch.equal(there.counts, back.counts)
    assert there.counts.sum() == len(there.t) > 100
    for k in range(30):
        one, other = there.t[there.segment == k], back.t[back.segment == k]
        torch.testing.assert_close(one, (1 - other).flip(0), rtol=0, atol=1e-12)
        assert (one.diff() > 0).all()
    middle = torch.lerp(a, b, 0.37)
    assert torch.equal(crossings(network(), a, middle).counts + crossings(network(), middle, b).counts, there.counts)


def test_a_segment_crosses_the_borders_of_the_polygons_it_meets(generator):
    cells = relu_cells(network(), SQUARE)
    a, b = 2 * torch.rand(2, 20, 2, generator=generator, dtype=torch.float64) - 1
    found = crossings(network(), a, b)
    start, end = cells.borders.unbind(1)

    def left(p, q, r):
        return (q - p)[..., 0] * (r - p)[..., 1] - (q - p)[..., 1] * (r - p)[..., 0]

    for k in range(20):
        apart = left(start, end, a[k]) * left(start, end, b[k]) < 0
        across = left(a[k], b[k], start) * left(a[k], b[k], end) < 0
        assert (apart & across).sum() == found.counts[k]


def test_points_have_one_code_exactly_when_no_bend_lies_between(generator):
    a = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    b = a + 0.05 * torch.randn(400, 2, generator=generator, dtype=torch.float64)
    same = (activation_codes(network(), a) == activation_codes(network(), b)).all(1)
    assert torch.equal(cells_between(network(), torch.stack([a, b], 1)) == 0, same)
    assert 50 < same.sum() < 350


def test_complexity_grows_with_the_radius_and_the_generator_alone_decides():
    x = torch.zeros(3, 2).double()
    means = [local_complexity(network(), x, r, 200, 0).mean.mean() for r in (0.1, 0.5, 2.0)]
    assert means == sorted(means)
    assert means[0] < means[2]
    before = torch.random.get_rng_state()
    one = local_complexity(network(), x, 0.5, generator=torch.Generator().manual_seed(4))
    other = local_complexity(network(), x, 0.5, generator=4)
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.overall.sem == pytest.approx(one.sem.norm().item() / 3)


def test_nothing_is_left_behind_in_the_network_or_the_points():
    deep = nn.Sequential(network(), nn.ReLU(inplace=True))
    x = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
    for _ in range(2):
        codes = activation_codes(deep, x)
        assert not codes.requires_grad
        assert not affine_maps(deep, x).matrix.requires_grad
    assert x.tolist() == [[1, 1]] * 4
    assert all(p.grad is None for p in deep.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in deep.modules())


def test_affine_networks_are_one_cell_and_nothing_is_no_points():
    plain = nn.Sequential(nn.Linear(2, 3), nn.Flatten()).double()
    cells = relu_cells(plain, SQUARE)
    assert (len(cells), cells.codes.shape, len(cells.neighbours)) == (1, (1, 0), 0)
    torch.testing.assert_close(cells.matrix[0], plain[0].weight.detach())
    assert crossings(plain, torch.zeros(2, 2).double(), torch.ones(2, 2).double()).counts.tolist() == [0, 0]
    none = crossings(network(), torch.zeros(0, 2).double(), torch.zeros(0, 2).double())
    assert (len(none.counts), len(none.t)) == (0, 0)
    assert surface_cells(network(dim=3), torch.eye(3).double(), torch.tensor([[0, 1, 2], [2, 1, 0]])).plane.max() == 1


def test_a_plateau_is_one_cell_and_ties_go_to_the_first():
    """Dead units after a dead layer are zero on whole cells, and equal pixels tie on all of the plane."""
    dead = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3, bias=False), nn.ReLU()).double()
    dead[0].weight.data = torch.eye(2).double()
    dead[0].bias.data.zero_()
    dead[2].weight.data = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]]).double()
    assert len(relu_cells(dead, SQUARE)) == 5  # four quadrants, one of them halved by the diagonal
    tied = nn.Sequential(nn.Unflatten(1, (1, 2)), nn.ConstantPad1d((0, 2), 0.25), nn.MaxPool1d(4)).double()
    cells = relu_cells(tied, [[0.0, 0.0], [1.0, 1.0]])
    assert {int(c): a for c, a in zip(cells.codes, cells.areas.tolist(), strict=True)} == pytest.approx(
        {0: 15 / 32, 1: 15 / 32, 2: 1 / 16}
    )
    assert math.isclose(cells.borders.diff(dim=1).norm(dim=2).sum(), 0.5 + 0.75 * math.sqrt(2))
