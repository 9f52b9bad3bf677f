"""The polygons and faces that are drawn, against the exact cells and the potential itself."""

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PolyCollection

from brenier.measures import GridDensity, UniformBall, UniformCube, UniformPolytope
from brenier.report.polytope import brenier_surface, power_diagram
from brenier.report.tiles import tiles
from brenier.transport import BrenierPotential, cells

TRIANGLE = UniformPolytope([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
PRISM = UniformPolytope([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
SOURCES = {
    "square": (UniformCube(2, -1.0, 1.0), 4.0),
    "far square": (UniformCube(2, 1000.0, 1000.5), 0.25),
    "disk": (UniformBall(2, 0.7), 0.49 * np.pi),
    "triangle": (TRIANGLE, 1.0),
    "density": (GridDensity(torch.rand(4, 3, generator=torch.Generator().manual_seed(0)), high=torch.ones(2)), 1.0),
    "cube": (UniformCube(3), 1.0),
    "simplex": (PRISM, 0.25),
}


def potential(source, n=120, seed=0):
    """Cells of many sizes, some of them empty, around the middle of a source."""
    rng, d = np.random.default_rng(seed), source.dim
    mean, covariance = source.moments()
    y = rng.normal(size=(n, d)) * covariance.trace().sqrt().item()
    h = -0.5 * np.square(y).sum(1) + 0.03 * covariance.trace().item() * rng.normal(size=n) - y @ mean.numpy()
    return BrenierPotential(torch.from_numpy(y), torch.from_numpy(h))


def area(corners):
    x, y = (corners - corners.mean(0)).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@pytest.mark.parametrize("name", SOURCES)
def test_tiles_lie_in_their_cells_and_cover_the_region(name):
    source, whole = SOURCES[name]
    u = potential(source)
    found = tiles(u, source)
    assert 4 < len(found) < 120
    assert len({tile.target for tile in found}) == len(found)
    assert sum(area(tile.corners) for tile in found) == pytest.approx(whole, rel=1e-12)
    for tile in found:
        height = np.full((len(tile.corners), source.dim - 2), middle(source))
        x = np.concatenate([tile.corners, height], 1)
        np.testing.assert_allclose(tile.values, u(x), rtol=1e-12, atol=1e-12)
        own = x @ u.points[tile.target].numpy() + u.heights[tile.target].item()
        np.testing.assert_allclose(tile.values, own, rtol=1e-12, atol=1e-12)


def middle(source):
    """The third coordinate halfway up a source in space."""
    return 1.5 if source is PRISM else 0.5


@pytest.mark.parametrize("name", ["square", "far square", "disk", "triangle"])
def test_areas_are_the_masses_of_the_cells_and_edges_their_facets(name):
    source, whole = SOURCES[name]
    u = potential(source, 40)
    exact, found = cells(u, source), tiles(u, source)
    areas, lengths = np.zeros(40), {}
    for tile in found:
        areas[tile.target] = area(tile.corners)
        steps = np.linalg.norm(np.roll(tile.corners, -1, 0) - tile.corners, axis=1)
        for other, step in zip(tile.across, steps, strict=True):
            lengths[tile.target, other] = lengths.get((tile.target, other), 0) + step
    np.testing.assert_allclose(areas, whole * exact.masses.numpy(), atol=1e-12 * whole)
    for (i, j), mass in zip(exact.facets.tolist(), exact.facet_masses.tolist(), strict=True):
        assert [lengths.get((i, j), 0), lengths.get((j, i), 0)] == pytest.approx([mass * whole] * 2, abs=1e-10)


def test_the_rim_of_a_disk_is_as_long_as_its_circle():
    u = potential(UniformBall(2))
    rim = 0.0
    for tile in tiles(u, UniformBall(2)):
        steps = np.linalg.norm(np.roll(tile.corners, -1, 0) - tile.corners, axis=1)
        rim += steps[tile.across < 0].sum()
    assert rim == pytest.approx(2 * np.pi, rel=1e-6)


@pytest.mark.parametrize("height", [0.01, 0.3, 0.99])
def test_cells_of_a_slab_are_cut_at_the_height_that_is_asked_for(height):
    y = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]], dtype=torch.float64)
    u = BrenierPotential(y, torch.tensor([0.0, -1.0], dtype=torch.float64))  # parted by x_1 + x_3 = 1
    first, second = tiles(u, UniformCube(3), height)
    assert [area(first.corners), area(second.corners)] == pytest.approx([1 - height, height], abs=1e-14)


@pytest.mark.parametrize("source", [UniformCube(2), UniformBall(2), UniformCube(3)])
def test_one_cell_covers_all_and_of_equal_planes_one_stands_for_both(source):
    y = torch.eye(3, dtype=torch.float64)[:, : source.dim]
    whole = np.pi if isinstance(source, UniformBall) else 1.0
    for u in (
        BrenierPotential(y[:1], torch.zeros(1)),
        BrenierPotential(y, torch.tensor([9.0, 0.0, 0.0])),
        BrenierPotential(y[[0, 0]], torch.zeros(2)),
    ):
        (tile,) = tiles(u, source)
        assert tile.target == 0
        assert area(tile.corners) == pytest.approx(whole, rel=1e-12)
        assert set(tile.across) == {-1}
    twice = tiles(BrenierPotential(y[[0, 1, 0]], torch.zeros(3)), source)
    assert [tile.target for tile in twice] == [0, 1]


def test_targets_have_the_colours_of_their_cells_and_jumps_are_dark():
    source = UniformCube(2)
    u = potential(source)
    exact = cells(u, source)
    jumps = exact.facets[::7]
    left, right = power_diagram(u, source, torch.arange(120) % 12, jumps).axes
    shapes, lines = (next(c for c in left.collections if type(c) is kind) for kind in (PolyCollection, LineCollection))
    length = sum(np.linalg.norm(end - start) for start, end in lines.get_segments())
    assert length == pytest.approx(exact.facet_masses[::7].sum().item(), rel=1e-9)
    drawn = [tile.target for tile in tiles(u, source)]
    np.testing.assert_array_equal(right.collections[1].get_offsets(), u.points[drawn].numpy())
    np.testing.assert_allclose(right.collections[1].get_facecolors(), shapes.get_facecolors())
    assert len(right.collections[0].get_offsets()) == 120 - len(drawn)
    assert len(np.unique(shapes.get_facecolors(), axis=0)) == 12


def test_one_face_is_drawn_flat():
    u = BrenierPotential(torch.tensor([[3.0, 1.0]]), torch.tensor([7.0]))
    floor, top = (trace for trace in brenier_surface(u, TRIANGLE).data if trace.type == "mesh3d")
    np.testing.assert_allclose(top.z, 0, atol=1e-6)
    assert floor.z[0] < -1


@pytest.mark.parametrize("name", ["disk", "triangle", "cube"])
def test_the_surface_is_u_less_an_affine_function_and_convex(name):
    source = SOURCES[name][0]
    u = potential(source)
    floor, top = (trace for trace in brenier_surface(u, source).data if trace.type == "mesh3d")
    x, z = np.stack([top.x, top.y], 1).astype(float), np.array(top.z, dtype=float)
    np.testing.assert_array_equal(np.stack([floor.x, floor.y], 1), x.astype(np.float32))
    assert len(set(floor.z)) == 1
    assert floor.z[0] < z.min()
    place = x if source.dim == 2 else np.column_stack([x, np.full(len(x), 0.5)])
    basis = np.column_stack([x, np.ones(len(x))])
    off = u(place) - z
    affine = np.linalg.lstsq(basis, off)[0]
    np.testing.assert_allclose(basis @ affine, off, atol=1e-5 * np.ptp(z))
    np.testing.assert_allclose(basis.T @ z / len(z), 0, atol=1e-5 * np.ptp(z))
    faces = np.stack([top.i, top.j, top.k], 1)
    corners = np.column_stack([x, z])[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    fat = normals[:, 2] > 1e-3 * normals[:, 2].max()  # slivers have no direction in float32
    assert (normals[:, 2] > -1e-6).all()
    slopes = -normals[fat, :2] / normals[fat, 2:]
    away = x[:, None] - corners[fat, 0, :2]
    below = corners[fat, 0, 2] + (away * slopes).sum(-1)
    assert (below <= z[:, None] + 1e-4 * np.ptp(z)).all()
