"""Polytopes and grids have the corners, faces, moments and laws of closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest, ortho_group

from brenier.measures import GridDensity, Source, UniformCube, UniformPolytope

CUBE = list(itertools.product([0.0, 1.0], repeat=3))
HEXAGON = [[math.cos(k * math.pi / 3), math.sin(k * math.pi / 3)] for k in range(6)]
BUMPS = [[[1.0, 0.0], [2.0, 5.0], [0.0, 3.0]], [[4.0, 1.0], [0.0, 0.0], [1.0, 7.0]]]
REGIONS = [
    UniformPolytope([[2.0], [-1.0], [0.5]]),
    UniformPolytope([[0.0, 0.0], [4.0, 1.0], [1.0, 3.0]]),
    UniformPolytope(HEXAGON),
    UniformPolytope(CUBE),
    UniformPolytope([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [2, 2, 2]]),
    GridDensity([0.0, 1.0, 3.0], -1.0, 2.0),
    GridDensity([[1.0, 0.0, 2.0], [4.0, 0.5, 0.0]], [-1.0, 2.0], [1.0, 2.5]),
    GridDensity(BUMPS, high=[1.0, 2.0, 3.0]),
]
RARE = 1e-5  # a correct law fails a test of this level once in 100,000 seeds


def name(source):
    return f"{type(source).__name__}-{source.dim}"


def close(a, b, rtol=1e-12):
    return torch.allclose(a, torch.as_tensor(b, dtype=torch.float64), rtol=rtol, atol=1e-13)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_simplex_has_the_moments_of_equal_shares(d):
    """Uniform on {x ≥ 0, Σ x ≤ 1}: mean 1/(d + 1), variance d/((d + 1)²(d + 2)), covariance −1/((d + 1)²(d + 2))."""
    simplex = UniformPolytope(np.eye(d + 1, d))
    mean, covariance = simplex.moments()
    assert simplex.volume == pytest.approx(1 / math.factorial(d), rel=1e-14)
    assert close(mean, [1 / (d + 1)] * d)
    assert close(covariance, ((d + 1) * np.eye(d) - 1) / ((d + 1) ** 2 * (d + 2)))


def test_any_triangle_has_the_moments_of_its_corners():
    v = torch.tensor([[2.0, 7.0], [-1.0, 3.0], [4.0, -5.0]], dtype=torch.float64)
    mean, covariance = UniformPolytope(v).moments()
    assert close(mean, v.mean(0))
    assert close(covariance, (v - v.mean(0)).T @ (v - v.mean(0)) / 12)


def test_a_cube_is_a_cube():
    cube = UniformPolytope(CUBE)
    sides = {(*(s * e for e in row), float(s > 0)) for row in np.eye(3).tolist() for s in (-1, 1)}
    assert len(cube.planes) == 6
    assert {tuple((plane.round(decimals=12) + 0.0).tolist()) for plane in cube.planes} == sides
    assert cube.volume == pytest.approx(1, rel=1e-14)
    for own, true in zip(cube.moments(), UniformCube(3).moments(), strict=True):
        assert close(own, true)


@pytest.mark.parametrize("side", [2, 3, 6])
@pytest.mark.parametrize("sides", [[1.0, 1.0, 1.0], [100.0, 1.0, 0.01]], ids=["cube", "plank"])
def test_points_in_faces_and_edges_are_no_corners(sides, side):
    """side³ points on and in a box, turned and moved: up to round-off many are on one edge and in one face."""
    turn = ortho_group.rvs(3, random_state=np.random.default_rng(0))
    grid = np.array(list(itertools.product(np.linspace(0, 1, side), repeat=3))) * sides
    box = UniformPolytope(grid @ turn + [50.0, -30.0, 1.0])
    assert len(box.vertices) == 8
    assert len(box.planes) == 6
    assert box.volume == pytest.approx(1, rel=1e-10)
    assert close(box.moments()[1], turn.T @ np.diag(np.square(sides) / 12) @ turn, rtol=1e-10)


def test_a_polygon_keeps_its_corners_alone():
    """Interior points, middles of edges and corners given twice go; a hexagon of side 1 has the covariance 5/24 I."""
    corners = torch.tensor(HEXAGON, dtype=torch.float64)
    middles = (corners + corners.roll(1, 0)) / 2
    hexagon = UniformPolytope(torch.cat([middles, corners * 0.3, corners.flip(0), corners]))
    start = int((hexagon.vertices - corners[0]).norm(dim=1).argmin())
    assert close(hexagon.vertices.roll(-start, 0), corners)
    assert len(hexagon.planes) == 6
    assert close(hexagon.planes[:, :-1].norm(dim=1), [1.0] * 6)
    assert close(hexagon.planes[:, -1], [math.sqrt(3) / 2] * 6)
    assert hexagon.volume == pytest.approx(1.5 * math.sqrt(3), rel=1e-14)
    mean, covariance = hexagon.moments()
    assert close(mean, [0.0, 0.0])
    assert close(covariance, np.eye(2) * 5 / 24)


def test_an_interval_is_a_polytope():
    interval = UniformPolytope([[2.0], [-1.0], [0.5], [2.0]])
    assert interval.vertices.tolist() == [[-1.0], [2.0]]
    assert close(interval.planes, [[-1.0, 1.0], [1.0, 2.0]])
    assert interval.volume == pytest.approx(3, rel=1e-14)
    assert close(interval.moments()[1], [[9 / 12]])


@pytest.mark.parametrize("polytope", [r for r in REGIONS if isinstance(r, UniformPolytope)], ids=name)
def test_corners_lie_on_planes_and_every_plane_has_d_of_them(polytope):
    slack = polytope.planes[:, -1] - polytope.vertices @ polytope.planes[:, :-1].T
    assert (slack > -1e-12).all()
    assert ((slack < 1e-12).sum(0) >= polytope.dim).all()
    assert ((slack < 1e-12).sum(1) >= polytope.dim).all()


@pytest.mark.parametrize("d", [1, 2, 3])
def test_one_box_is_a_cube(d):
    box, cube = GridDensity(np.full((1,) * d, 7.0), -1.0, 3.0), UniformCube(d, -1.0, 3.0)
    assert close(box.density, np.full((1,) * d, 4.0**-d))
    for own, true in zip(box.moments(), cube.moments(), strict=True):
        assert close(own, true)


def test_two_boxes_are_a_mixture():
    """¼ U[0, ½] + ¾ U[½, 1]: mean 5/8, E x² = ¼ · 1/12 + ¾ · 7/12."""
    mean, covariance = GridDensity([1.0, 3.0]).moments()
    assert close(mean, [5 / 8])
    assert close(covariance, [[1 / 48 + 21 / 48 - 25 / 64]])


def test_the_second_order_of_a_finer_grid():
    """The density 2x on [0, 1] has mean 2/3 and variance 1/18; boxes at their middles' values are off by O(1/n²)."""
    off = []
    for n in (8, 16, 32):
        mean, covariance = GridDensity(np.arange(n) + 0.5).moments()
        off.append([abs(mean.item() - 2 / 3), abs(covariance.item() - 1 / 18)])
    assert np.allclose(np.log2(np.divide(off[:-1], off[1:])), 2, atol=0.02)


def test_a_product_has_the_moments_of_its_factors():
    a, b, c = [1.0, 4.0, 0.0], [2.0, 1.0], [0.0, 1.0, 1.0, 5.0]
    low, high = [0.0, -1.0, 10.0], [1.0, 3.0, 11.0]
    mean, covariance = GridDensity(np.einsum("i,j,k->ijk", a, b, c), low, high).moments()
    factors = [GridDensity(*factor).moments() for factor in zip((a, b, c), low, high, strict=True)]
    assert close(mean, torch.cat([one for one, _ in factors]))
    assert close(covariance, torch.block_diag(*(one for _, one in factors)))


def test_correlation_has_its_sign():
    """Equal masses on the diagonal boxes of [0, 1]²: covariance 1/16."""
    mean, covariance = GridDensity([[1, 0], [0, 1]]).moments()
    assert close(mean, [0.5, 0.5])
    assert close(covariance, [[1 / 12, 1 / 16], [1 / 16, 1 / 12]])


def test_an_image_looks_upright():
    """The top right pixel of an image of 2 rows and 4 columns has its middle at (7/8, 3/4)."""
    image = np.zeros((2, 4), np.uint8)
    image[0, 3] = 200
    for values in (image[::-1].T, torch.from_numpy(image).flip(0).T):
        assert close(GridDensity(values).moments()[0], [7 / 8, 3 / 4])


@pytest.mark.parametrize("source", REGIONS, ids=name)
def test_stated_moments_of_regions_are_those_of_samples(source, generator):
    m, (mean, covariance) = 20_000, source.moments()
    away = source.sample(m, generator).double() - mean
    product = away[:, :, None] * away[:, None, :]
    assert mean.dtype == covariance.dtype == torch.float64
    assert (away.mean(0).abs() <= 5 * away.std(0) / math.sqrt(m)).all()
    assert ((product.mean(0) - covariance).abs() <= 5 * product.std(0) / math.sqrt(m)).all()


@pytest.mark.parametrize("source", REGIONS, ids=name)
def test_every_region_is_a_source_and_keeps_to_the_default_dtype(source, generator):
    assert isinstance(source, Source)
    assert source.sample(0, generator).shape == (0, source.dim)
    assert source.sample(4, generator).dtype == torch.get_default_dtype()


@pytest.mark.parametrize("polytope", [r for r in REGIONS if isinstance(r, UniformPolytope)], ids=name)
def test_samples_of_a_polytope_are_inside(polytope, generator):
    x = polytope.sample(4000, generator).double()
    assert (x @ polytope.planes[:, :-1].T <= polytope.planes[:, -1] + 1e-6).all()


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_simplex_is_uniform(d, generator):
    """Uniform on {x ≥ 0, Σ x ≤ 1}: 1 − Σ x and each x_i are Beta(1, d)."""
    x = UniformPolytope(np.eye(d + 1, d)).sample(4000, generator).double()
    for share in (*x.T, 1 - x.sum(1)):
        assert kstest(share.numpy(), "beta", args=(1, d)).pvalue > RARE


@pytest.mark.parametrize("side", [2, 4])
def test_a_cube_of_corners_is_uniform(side, generator):
    cells = (UniformPolytope(CUBE).sample(20_000, generator) * side).long().clamp(max=side - 1)
    counts = torch.bincount(cells @ torch.tensor([side**2, side, 1]), minlength=side**3)
    assert chisquare(counts.numpy()).pvalue > RARE


@pytest.mark.parametrize("grid", [r for r in REGIONS if isinstance(r, GridDensity)], ids=name)
def test_boxes_are_hit_by_their_mass_and_evenly_inside(grid, generator):
    """Each box in two halves along each axis: counts as their masses say, none where the mass is zero."""
    m, shape = 20_000, torch.tensor(grid.values.shape)
    x = grid.sample(m, generator).double()
    places = torch.minimum(((x - grid.low) / (grid.high - grid.low) * 2 * shape).long(), 2 * shape - 1)
    counts = torch.zeros(*(2 * shape)).index_put_(tuple(places.T), torch.ones(m), accumulate=True)
    expected = grid.values / grid.values.sum() * m / 2**grid.dim
    for axis in range(grid.dim):
        expected = expected.repeat_interleave(2, axis)
    assert (counts[expected == 0] == 0).all()
    assert chisquare(counts[expected > 0].numpy(), expected[expected > 0].numpy()).pvalue > RARE
