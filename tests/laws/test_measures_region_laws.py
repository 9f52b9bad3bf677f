"""Polytopes move with their vertices, grids with their values; the same generator gives the same samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brenier.measures import Discrete, GridDensity, UniformPolytope

REGIONS = [
    UniformPolytope([[0.0, 0.0], [4.0, 1.0], [1.0, 3.0], [3.0, 3.0]]),
    GridDensity([[1.0, 0.0, 2.0], [4.0, 0.5, 0.0]], -1.0, [1.0, 2.5]),
]
BUMPS = torch.tensor([[[1.0, 0.0], [2.0, 5.0], [0.0, 3.0]], [[4.0, 1.0], [0.0, 0.0], [1.0, 7.0]]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cloud(d, n=40):
    return torch.randn(n, d, generator=seeded(), dtype=torch.float64)


def same(a, b, rtol=1e-11):
    return all(torch.allclose(one, two, rtol=rtol, atol=1e-12) for one, two in zip(a, b, strict=True))


def rows(matrix):
    """In an order of their own."""
    return matrix[np.lexsort(matrix.round(decimals=9).numpy().T)]


@pytest.mark.parametrize("source", REGIONS, ids=lambda s: type(s).__name__)
def test_the_generator_alone_decides_in_regions(source):
    first = source.sample(50, seeded())
    before = torch.random.get_rng_state()
    assert torch.equal(source.sample(50, seeded()), first)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(source.sample(50, seeded(1)), first)


@pytest.mark.parametrize("source", REGIONS, ids=lambda s: type(s).__name__)
def test_without_a_generator_torch_own_decides_in_regions(source):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = source.sample(5)
        torch.manual_seed(3)
        assert torch.equal(source.sample(5), first)


@pytest.mark.parametrize("source", REGIONS, ids=lambda s: type(s).__name__)
def test_a_sample_of_a_region_is_the_same_in_any_batch(source):
    assert torch.equal(source.sample(100, seeded())[:7], source.sample(7, seeded()))


@pytest.mark.parametrize("source", REGIONS, ids=lambda s: type(s).__name__)
def test_regions_are_frozen(source):
    for place in ("dim", *vars(source)):
        with pytest.raises(AttributeError):
            setattr(source, place, 2)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_hull_depends_on_its_corners_alone(d):
    points = cloud(d)
    hull = UniformPolytope(points)
    more = torch.cat([points.flip(0), points * 0.5 + points.mean(0) * 0.5, hull.vertices])
    for other in (UniformPolytope(hull.vertices), UniformPolytope(more)):
        assert same([rows(other.vertices), rows(other.planes)], [rows(hull.vertices), rows(hull.planes)])
        assert other.volume == pytest.approx(hull.volume, rel=1e-12)
        assert same(other.moments(), hull.moments())


@pytest.mark.parametrize("size", [1e-60, 1e-6, 1.0, 1e6, 1e60])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_an_affine_image_of_a_polytope(d, size):
    """By x ↦ A x + c: volume |det A| V, mean A m + c, covariance A C Aᵀ, planes (a A⁻¹, b + a A⁻¹ c) over |a A⁻¹|."""
    points, a, c = cloud(d), size * (cloud(d, d) + 2 * torch.eye(d)), size * cloud(1, d)[:, 0]
    hull, image = UniformPolytope(points), UniformPolytope(points @ a.T + c)
    mean, covariance = hull.moments()
    assert same([rows(image.vertices / size)], [rows((hull.vertices @ a.T + c) / size)])
    assert image.volume == pytest.approx(abs(torch.linalg.det(a).item()) * hull.volume, rel=1e-10)
    assert same([x / size for x in image.moments()], [(a @ mean + c) / size, a @ covariance @ a.T / size], 1e-10)
    normals = hull.planes[:, :-1] @ torch.linalg.inv(a)
    planes = torch.cat([normals, (hull.planes[:, -1] + normals @ c)[:, None]], 1) / normals.norm(dim=1, keepdim=True)
    unit = torch.tensor([1.0] * d + [size], dtype=torch.float64)
    assert same([rows(image.planes / unit)], [rows(planes / unit)], 1e-9)


@pytest.mark.parametrize("turn", [1, -1])
def test_corners_in_the_plane_run_counterclockwise(turn):
    corners = UniformPolytope(cloud(2) * torch.tensor([1.0, turn])).vertices
    step = corners.roll(-1, 0) - corners
    after = step.roll(-1, 0)
    assert (step[:, 0] * after[:, 1] > step[:, 1] * after[:, 0]).all()


def test_the_unit_of_the_values_does_not_matter():
    grid = GridDensity(BUMPS)
    for unit in (1e-300, 0.25, 3.0, 1e300):
        other = GridDensity(BUMPS.double() * unit)
        assert same([other.density, *other.moments()], [grid.density, *grid.moments()])
    assert torch.equal(GridDensity(BUMPS * 4).sample(50, seeded()), grid.sample(50, seeded()))


@pytest.mark.parametrize("values", [BUMPS[0, :, 0], BUMPS[0], BUMPS], ids=["1", "2", "3"])
def test_the_density_has_the_integral_one(values):
    d = values.ndim
    low, high = torch.tensor([-1.0, 0.0, 5.0])[:d], torch.tensor([1.0, 0.5, 7.0])[:d]
    grid = GridDensity(values, low, high)
    assert (grid.density.mean() * (high - low).prod()).item() == pytest.approx(1, rel=1e-14)
    assert torch.allclose(grid.density / grid.density.sum(), values.double() / values.double().sum())


def test_boxes_cut_in_two_are_the_same_measure():
    fine = BUMPS
    for axis in range(3):
        fine = fine.repeat_interleave(2, axis)
        assert same(GridDensity(fine, -1.0, 3.0).moments(), GridDensity(BUMPS, -1.0, 3.0).moments())


def test_axes_of_the_values_are_axes_of_space():
    grid, order = GridDensity(BUMPS, [0.0, 1.0, 2.0], [1.0, 3.0, 5.0]), [2, 0, 1]
    mean, covariance = grid.moments()
    turned = GridDensity(BUMPS.permute(order), grid.low[order], grid.high[order])
    assert same(turned.moments(), (mean[order], covariance[order][:, order]))


def test_a_mirrored_grid_has_mirrored_moments():
    mean, covariance = GridDensity(BUMPS, -1.0).moments()
    sign = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    assert same(GridDensity(BUMPS.flip(0), -1.0).moments(), (sign * mean, sign * covariance * sign[:, None]))


def test_grids_of_the_same_seed_are_affine_images():
    unit = GridDensity(BUMPS).sample(20, seeded())
    assert torch.allclose(GridDensity(BUMPS, -2.0, 6.0).sample(20, seeded()), -2 + 8 * unit)


@pytest.mark.parametrize("given", ["f2", "f4", "f8", ">f4", "u1", "u2", ">i2", "i8", "?"])
def test_regions_keep_values_in_float64(given):
    array = np.array([[1, 0], [0, 1], [1, 1]], given)
    for kept in (UniformPolytope(array).vertices, GridDensity(array).values, GridDensity(array, [-1, -1], 2).low):
        assert kept.dtype == torch.float64
    assert GridDensity(array).values.tolist() == array.tolist()


def test_a_target_takes_numbers_of_either_byte_order():
    points = Discrete(np.array([[1.0, 2.0]], ">f4")).points
    assert points.dtype == torch.float32
    assert points.tolist() == [[1, 2]]


def test_whole_numbers_keep_every_digit():
    large = 2**24 + 1
    for numbers in (np.array([[large], [0]]), torch.tensor([[large], [0]])):
        assert UniformPolytope(numbers).vertices.tolist() == [[0.0], [large]]
        assert GridDensity(numbers).values.tolist() == [[large], [0.0]]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_regions_own_their_values(kind):
    values, vertices, low = (kind(np.array(part, float)) for part in ([[1, 2], [3, 4]], [[0], [1]], [0, 0]))
    grid, interval = GridDensity(values, low), UniformPolytope(vertices)
    values[:], vertices[:], low[:] = 7, 7, -7
    assert grid.values.tolist() == [[1, 2], [3, 4]]
    assert grid.low.tolist() == [0, 0]
    assert interval.vertices.tolist() == [[0], [1]]


def test_regions_owe_nothing_to_a_gradient():
    points = torch.eye(3, 2, requires_grad=True)
    assert not UniformPolytope(points * 2).vertices.requires_grad
    assert not GridDensity(points * 2).values.requires_grad
