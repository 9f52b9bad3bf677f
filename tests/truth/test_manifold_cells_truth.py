"""Exact cells against brute force, closed forms and bounds."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from brenier.manifold.activation import activation_codes, affine_maps
from brenier.manifold.cells import relu_cells, surface_cells
from brenier.manifold.counting import cells_bound, count_cells
from brenier.manifold.crossings import cells_between, crossings, local_complexity
from brenier.manifold.networks import seeded

BENDS = [nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.Hardtanh, lambda: nn.MaxPool1d(2)]
SQUARE = [[-1.0, -1.0], [1.0, 1.0]]


def perceptron(widths, bends=(nn.ReLU,), seed=0):
    """Linear layers with biases that put the bends inside the square, a bend after each but the last."""
    with seeded(seed):
        steps = []
        for k, (a, b) in enumerate(pairwise(widths)):
            linear = nn.Linear(a, b)
            nn.init.normal_(linear.weight, std=math.sqrt(2 / a))
            nn.init.normal_(linear.bias, std=0.4)
            steps += [linear, bends[k % len(bends)]()]
    return nn.Sequential(*steps[:-1]).double()


class Residual(nn.Module):
    """Convolutions, batch norm, pooling of both kinds and a sum of branches; bends as modules and as functions."""

    def __init__(self):
        super().__init__()
        with seeded(0):
            self.first, self.norm = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.second, self.up = nn.Conv2d(3, 3, 3, padding=1), nn.ConvTranspose2d(3, 2, 2, 2)
            self.pool, self.mean, self.act = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.LeakyReLU(0.1, inplace=True)
            self.last, self.drop = nn.Linear(18, 4), nn.Dropout()
            self.norm.running_mean.normal_(0, 0.1)
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        y = torch.relu(self.norm(self.first(x)))
        y = y + self.act(self.second(y))
        y = F.relu(self.up(self.pool(y)), inplace=True)
        return self.last(self.drop(self.mean(y).flatten(1)))


def on(slices, points):
    origin, u, v = slices
    s, t = points.T.reshape(2, -1, *[1] * origin.ndim)
    return origin + s * u + t * v


def inside(cells, which, points):
    """How far the points (m, 2) lie inside the cells `which` (m,), by their nearest edge; negative outside."""
    corners = nn.utils.rnn.pad_sequence(cells.polygons, batch_first=True, padding_value=math.nan)
    ahead = corners.roll(-1, 1)
    ahead = torch.where(ahead.isnan(), corners[:, :1], ahead)
    edge, away = (ahead - corners)[which], points[:, None] - corners[which]
    far = (edge[..., 0] * away[..., 1] - edge[..., 1] * away[..., 0]) / edge.norm(dim=2)
    return far.nan_to_num(math.inf).amin(1)


def check(cells, network, slices, points):
    """Every law that ties cells to the network itself: codes, who holds which point, and the affine maps."""
    assert torch.equal(activation_codes(network, on(slices, cells.centres)), cells.codes)
    known, name = torch.cat([cells.codes, activation_codes(network, on(slices, points))]).unique(
        dim=0, return_inverse=True
    )
    assert len(known) == len(cells)  # no two cells share a code, and no point has another one
    row = torch.empty(len(known), dtype=torch.long)
    row[name[: len(cells)]] = torch.arange(len(cells))
    which = row[name[len(cells) :]]
    assert inside(cells, which, points).min() > -1e-12
    with torch.no_grad():
        values = network(on(slices, points)).flatten(1)
    mapped = (cells.matrix[which] @ points[:, :, None])[..., 0] + cells.offset[which]
    torch.testing.assert_close(mapped, values, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("seed", range(50))
def test_cells_of_random_networks_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    depth, first = rng.integers(1, 4), rng.integers(0, len(BENDS))
    bends = [BENDS[(first + k) % len(BENDS)] for k in range(depth)]
    widths, inputs = [2], []
    for bend in bends:
        widths.append(int(rng.integers(2, 8)) * 2)
        inputs.append(widths[-1] // 2 if bend is BENDS[-1] else widths[-1])
    network = perceptron([*widths, 3], bends, seed)
    for k, linear in enumerate(m for m in network if isinstance(m, nn.Linear)):
        if k and inputs[k - 1] != linear.in_features:  # after pooling
            linear.weight = nn.Parameter(linear.weight[:, : inputs[k - 1]])
    network = nn.Sequential(*(Unpooled(m) if isinstance(m, nn.MaxPool1d) else m for m in network))
    cells = relu_cells(network, SQUARE)
    assert cells.areas.sum().item() == pytest.approx(4, rel=1e-13)
    points = torch.from_numpy(rng.uniform(-1, 1, (1500, 2)))
    check(cells, network, (torch.zeros(2).double(), *torch.eye(2).double()), points)


class Unpooled(nn.Module):
    """Pooling over the units of a layer."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        return self.pool(x[:, None])[:, 0]


def test_cells_of_convolutions_with_pooling_and_a_residual_branch():
    network = Residual().double().eval()
    generator = torch.Generator().manual_seed(1)
    slices = torch.randn(3, 1, 6, 6, generator=generator, dtype=torch.float64)
    cells = relu_cells(network, [[-0.2, -0.1], [0.2, 0.2]], *slices)
    u, v = slices[1:].flatten(1)
    element = math.sqrt(u.dot(u) * v.dot(v) - u.dot(v) ** 2)
    assert len(cells) > 300
    assert cells.areas.sum().item() == pytest.approx(0.12 * element, rel=1e-12)
    points = torch.rand(3000, 2, generator=generator, dtype=torch.float64) * torch.tensor([0.4, 0.3]) - torch.tensor(
        [0.2, 0.1]
    )
    check(cells, network, slices, points)


def test_neighbours_differ_in_one_unit_and_the_complex_is_a_disk():
    network = perceptron([2, 12, 12, 2])
    cells = relu_cells(network, SQUARE)
    a, b = cells.codes[cells.neighbours].unbind(1)
    assert torch.equal((a != b).nonzero()[:, 1], cells.units)
    corners = (cells.corners * 2**36).round().unique(dim=0)
    rim = sum((c.abs() > 1 - 1e-12).any() for c in corners / 2**36)  # as many edges as corners
    assert len(corners) - (len(cells.neighbours) + rim) + len(cells) == 1  # Euler
    jump = (cells.matrix[cells.neighbours] @ cells.borders.mT[:, None]) + cells.offset[cells.neighbours][..., None]
    torch.testing.assert_close(jump[:, 0], jump[:, 1], rtol=0, atol=1e-12)  # f is continuous
    ends = cells.borders[cells.units == 0]
    weight, bias = network[0].weight[0].detach(), network[0].bias[0].detach()
    assert (ends @ weight + bias).abs().max() < 1e-13
    length = (ends[:, 1] - ends[:, 0]).norm(dim=1).sum().item()
    walk = torch.linspace(-2, 2, 400_001, dtype=torch.float64)  # along the line of the first unit
    line = -bias * weight / weight.dot(weight) + walk[:, None] * torch.stack([-weight[1], weight[0]]) / weight.norm()
    assert length == pytest.approx(1e-5 * (line.abs() <= 1).all(1).sum().item(), abs=3e-5)


@pytest.mark.parametrize(("d", "n"), [(1, 7), (2, 7), (3, 6), (4, 5), (5, 6)])
def test_one_layer_in_general_position_attains_the_bound(d, n):
    assert count_cells(perceptron([d, n, 1]), d) == cells_bound([d, n]) == sum(math.comb(n, k) for k in range(d + 1))


@pytest.mark.parametrize("widths", [[2, 5, 4, 1], [2, 3, 3, 3, 1]])
def test_linear_programs_and_polygons_count_the_same_below_the_bound(widths):
    network = perceptron(widths)
    found = count_cells(network, 2, (-1.0, 1.0))
    assert found == len(relu_cells(network, SQUARE))
    assert found <= count_cells(network, 2) <= cells_bound(widths[:-1])


def test_a_deep_network_in_space_has_the_cells_that_samples_of_all_scales_find(generator):
    network = perceptron([3, 4, 4, 1])
    scale = 10 ** (4 * torch.rand(100_000, 1, generator=generator, dtype=torch.float64) - 1)
    x = scale * torch.randn(100_000, 3, generator=generator, dtype=torch.float64)
    sampled = len(activation_codes(network, x).unique(dim=0))
    assert 0.9 * (found := count_cells(network, 3)) < sampled <= found


@pytest.mark.parametrize("depth", [1, 4, 8])
def test_iterated_tents_cross_at_dyadic_points(depth):
    """T(x) = 2 min(x, 1 − x) as rectifiers: T^k is 1/2 at the odd multiples of 2^−(k+1)."""
    steps = []
    for _ in range(depth):
        up, down = nn.Linear(1, 2), nn.Linear(2, 1)
        up.weight.data, up.bias.data = torch.ones(2, 1), torch.tensor([0.0, -0.5])
        down.weight.data, down.bias.data = torch.tensor([[2.0, -4.0]]), torch.zeros(1)
        steps += [up, nn.ReLU(), down]
    found = crossings(nn.Sequential(*steps).double(), torch.zeros(1, 1).double(), torch.ones(1, 1).double())
    torch.testing.assert_close(found.t, torch.arange(1, 2**depth).double() / 2**depth, rtol=0, atol=1e-15)


def test_crossings_part_the_codes_of_a_fine_walk(generator):
    network = Residual().double().eval()
    a, b = torch.randn(2, 3, 1, 6, 6, generator=generator, dtype=torch.float64)
    found = crossings(network, a, b)
    for k in range(3):
        t = torch.cat([torch.zeros(1), found.t[found.segment == k], torch.ones(1)]).double()
        middle = torch.lerp(a[k], b[k], ((t[1:] + t[:-1]) / 2)[:, None, None, None])
        codes = activation_codes(network, middle)
        assert len(codes.unique(dim=0)) == len(codes) == found.counts[k] + 1  # cells are convex: none comes twice
        walk = torch.linspace(0, 1, 4001, dtype=torch.float64)
        seen = activation_codes(network, torch.lerp(a[k], b[k], walk[:, None, None, None]))
        assert torch.equal(seen, codes[torch.searchsorted(t, walk).clamp(min=1) - 1])


def test_affine_maps_are_the_derivatives(generator):
    network = Residual().double().eval()
    x = torch.randn(5, 1, 6, 6, generator=generator, dtype=torch.float64)
    maps = affine_maps(network, x)
    for k in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda p: network(p[None])[0], x[k]).reshape(4, 36)
        torch.testing.assert_close(maps.matrix[k], jacobian, rtol=1e-11, atol=1e-13)
        volume = torch.linalg.det(jacobian @ jacobian.T).sqrt()
        assert maps.volume[k].item() == pytest.approx(volume.item(), rel=1e-9)
        torch.testing.assert_close(maps.offset[k], network(x[k : k + 1])[0] - jacobian @ x[k].flatten())
    assert maps.rank.tolist() == [4] * 5


def test_rank_and_distortion_of_a_fold():
    """(x, y) → (|x|, 3 max(y, 0)): area times 3 above, collapsed below."""
    network = nn.Sequential(Fold()).double()
    cells = relu_cells(network, SQUARE)
    above = cells.centres[:, 1] > 0
    assert len(cells) == 4
    assert cells.distortion.tolist() == pytest.approx(torch.where(above, 3.0, 0.0).tolist(), abs=1e-13)
    assert cells.rank.tolist() == torch.where(above, 2, 1).tolist()
    maps = affine_maps(network, cells.centres)
    torch.testing.assert_close(maps.volume, cells.distortion)
    assert torch.equal(maps.rank, cells.rank)


class Fold(nn.Module):
    def forward(self, x):
        return torch.stack([x[:, 0].abs(), 3 * x[:, 1].clamp(min=0)], 1)


@pytest.mark.parametrize("d", [2, 3, 6])
def test_local_complexity_of_one_wall(d):
    """A wall at distance h from x: a chord of half length r meets it when r |e_1| > h."""
    h, r = 0.3, 0.8
    wall = nn.Sequential(nn.Linear(d, 1), nn.ReLU()).double()
    wall[0].weight.data.zero_()[0, 0] = 2.0
    wall[0].bias.data.fill_(-2 * h)
    found = local_complexity(wall, torch.zeros(1, d).double(), r, chords=20_000, generator=0)
    z = torch.randn(400_000, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    share = (r * z[:, 0].abs() > h * z.norm(dim=1)).double().mean().item()
    if d == 2:
        assert share == pytest.approx(2 / math.pi * math.acos(h / r), abs=4e-3)
    assert abs(found.mean.item() - share) < 4 * found.sem.item()
    assert found.sem.item() == pytest.approx(math.sqrt(share * (1 - share) / 20_000), rel=0.02)
    assert found.overall.mean == found.mean.item()


def test_cells_on_a_triangulated_square_are_those_of_the_square():
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    network = perceptron([3, 8, 8, 2], seed=5)
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 4)).double()
    quads = torch.tensor([[4 * i + j, 4 * i + j + 4, 4 * i + j + 5, 4 * i + j + 1] for i in range(3) for j in range(3)])
    faces = torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    surface = surface_cells(network, grid @ turn[:2], faces)
    plane = relu_cells(network, SQUARE, torch.zeros(3).double(), *turn[:2])
    codes, name = torch.cat([plane.codes, surface.codes]).unique(dim=0, return_inverse=True)
    whole, parts = (
        torch.zeros(len(codes)).double().index_add(0, n, c.areas)
        for n, c in ((name[: len(plane)], plane), (name[len(plane) :], surface))
    )
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-13)
    stretch = torch.zeros(len(codes)).double()
    stretch[name[: len(plane)]] = plane.distortion
    torch.testing.assert_close(surface.distortion, stretch[name[len(plane) :]], rtol=1e-9, atol=1e-12)


def test_modes_in_one_cell_and_modes_apart():
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).double()
    network[0].weight.data = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).double()
    network[0].bias.data = torch.tensor([0.0, -0.5, 0.0]).double()
    pairs = torch.tensor([[[-1.0, 1.0], [-0.1, 2.0]], [[-1.0, 1.0], [1.0, 1.0]], [[-1.0, 1.0], [1.0, -2.0]]]).double()
    assert cells_between(network, pairs).tolist() == [0, 2, 3]
