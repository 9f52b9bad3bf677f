"""What is drawn of a chart and its cells, against the surface and the cells themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba_array

from brenier.manifold.cells import relu_cells, surface_cells
from brenier.manifold.networks import seeded
from brenier.report.cells import AROUND, MIDDLE, cell_figure, chart_figure, places


def dome(n=7):
    """A paraboloid over the square [-1, 1]², its triangles seen from above counterclockwise, and its shadow."""
    z = torch.cartesian_prod(torch.linspace(-1, 1, n), torch.linspace(-1, 1, n)).double()
    quads = [[n * i + j, n * i + j + n, n * i + j + n + 1, n * i + j + 1] for i in range(n - 1) for j in range(n - 1)]
    quads = torch.tensor(quads)
    x = torch.cat([z, (1 - z.square().sum(1) / 2)[:, None]], 1)
    return x, torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]), z


def networks():
    with seeded(0):

        def down_or_up(a, b):
            return torch.nn.Sequential(torch.nn.Linear(a, 6), torch.nn.ReLU(), torch.nn.Linear(6, b)).double()

        return down_or_up(3, 2), down_or_up(2, 3)


def shapes(axes):
    return [path.vertices[:-1] for c in axes.collections if type(c) is PolyCollection for path in c.get_paths()]


def area(corners):
    x, y = (corners - corners.mean(0)).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def lines(axes):
    return [np.array(c.get_segments()) for c in axes.collections if type(c) is LineCollection]


def test_a_surface_seen_from_the_front_is_its_shadow():
    x, f, z = dome()
    left, middle, right = chart_figure(x, f, z, 2 * x, view=(0, 0)).axes
    assert len(shapes(left)) == len(shapes(middle)) == len(shapes(right)) == len(f)
    for axes, scale in ((left, 1), (middle, 1), (right, 4)):
        assert sum(map(area, shapes(axes))) == pytest.approx(4 * scale, rel=1e-12)
    rim = np.linalg.norm(np.diff(lines(middle)[0], axis=1), axis=2).sum()
    assert rim == pytest.approx(8)
    assert left.get_xlim() == right.get_xlim()


def test_what_is_nearer_is_drawn_later_and_turns_move_it_right_and_up():
    x = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5], [1, 0, 5], [0, 1, 5]]).double()
    f = torch.tensor([[3, 4, 5], [0, 1, 2]])
    for view, moved in (((0, 0), (0, 0)), ((30, 0), (-2.5, 0)), ((0, 30), (0, -2.5))):
        left = chart_figure(x, f, x[:, :2], x, view).axes[0]
        far, near = shapes(left)
        np.testing.assert_allclose((near - far).mean(0), moved, atol=1e-12)


def test_cells_cover_the_surface_and_the_plane():
    x, f, z = dome()
    encoder, decoder = networks()
    surface, plane = surface_cells(encoder, x, f), relu_cells(decoder, [[-1.0, -1.0], [1.0, 2.0]])
    left, right = cell_figure(x, f, z, surface, plane, view=(0, 0)).axes
    assert sum(map(area, shapes(left))) == pytest.approx(4, rel=1e-12)
    assert sum(map(area, shapes(right))) == pytest.approx(6, rel=1e-12)
    assert len(shapes(left)) == len(surface)
    assert f"{len(surface.codes.unique(dim=0)):,} cells" in left.get_title(loc="left")
    assert f"{len(plane):,} cells" in right.get_title(loc="left")
    np.testing.assert_allclose(lines(right)[0], plane.borders)
    corners = np.concatenate([part.reshape(-1, 2) for part in lines(left)])
    every = np.concatenate(shapes(left))
    assert all(np.abs(every - corner).sum(1).min() < 1e-12 for corner in corners)
    colours = next(c for c in left.collections if type(c) is PolyCollection).get_facecolors()
    assert len(np.unique(colours, axis=0)) > len(surface) / 2


def test_places_are_coloured_around_a_pale_middle():
    turn = 2 * np.pi * np.arange(len(AROUND)) / len(AROUND)
    box = np.array([[-1.0, -1.0], [1.0, 1.0]])
    np.testing.assert_allclose(places(np.stack([np.cos(turn), np.sin(turn)], 1), box), to_rgba_array(AROUND)[:, :3])
    np.testing.assert_allclose(places(np.zeros((1, 2)), box), to_rgba_array(MIDDLE)[:, :3])
    there = places(np.random.default_rng(0).normal(size=(100, 2)), box)
    assert there.min() >= 0
    assert there.max() <= 1
    np.testing.assert_allclose(
        places(np.array([[0.5, 0.5 - 1e-9]]), box), places(np.array([[0.5, 0.5]]), box), atol=1e-6
    )
    assert np.isfinite(places(np.ones((2, 2)), np.ones((1, 2)))).all()
