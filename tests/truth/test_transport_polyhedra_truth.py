"""Exact cells in space against Qhull, brute force and the identities that integrals over a partition satisfy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection, cKDTree

from brenier.transport.polyhedra import clipped, shares

LOW, HIGH, UNIFORM = np.zeros(3), np.ones(3), np.ones((1, 1, 1))
NO_PLANES, INNER = np.empty((0, 4)), np.array([0.5, 0.5, 0.5, 1.0])


def everyone(n):
    """All others as candidates."""
    return np.arange(n + 1) * (n - 1), np.concatenate([np.delete(np.arange(n), i) for i in range(n)])


def nearest(y, k):
    return np.arange(len(y) + 1) * k, cKDTree(y).query(y, k + 1)[1][:, 1:].ravel().copy()


def cells(y, h, start, near, density=UNIFORM, planes=NO_PLANES, inner=INNER, low=LOW, high=HIGH):
    mass, first, second = np.full(len(y), np.nan), np.full((len(y), 3), np.nan), np.full(len(y), np.nan)
    found = [
        clipped(y, h, low, high, planes, inner, density, start, near, rows, 2, mass, first, second)
        for rows in np.split(np.arange(len(y)), [len(y) // 3])
    ]
    count, names, sizes = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    assert count.sum() == len(names) == len(sizes)
    return mass, first, second, count, names, sizes


def matrix(count, names, sizes):
    """sizes as a matrix."""
    dense = np.zeros((len(count), len(count)))
    np.add.at(dense, (np.repeat(np.arange(len(count)), count), names), sizes)
    return dense


def voronoi(n, seed=0):
    y = np.random.default_rng(seed).random((n, 3))
    return y, -(y**2).sum(1) / 2


def ball(q=500, centre=(0.5, 0.5, 0.5), radius=0.45):
    u = np.random.default_rng(9).normal(size=(q, 3))
    u /= np.linalg.norm(u, axis=1)[:, None]
    return np.column_stack([u, u @ np.array(centre) + radius]), np.array([*centre, radius])


def qhull(y, h, i, planes=NO_PLANES):
    """The corners of cell i, as Qhull has them, from the linear program's deepest point."""
    others = np.arange(len(y)) != i
    walls = np.vstack([np.eye(3), -np.eye(3)])
    a = np.vstack([y[others] - y[i], walls, planes[:, :3]])
    b = np.concatenate([h[i] - h[others], [1, 1, 1, 0, 0, 0], planes[:, 3]])
    norm = np.linalg.norm(a, axis=1)
    deep = linprog([0, 0, 0, -1], np.column_stack([a, norm]), b, bounds=[(None, None)] * 3 + [(None, None)])
    if deep.x[3] < 1e-9:
        return None
    return HalfspaceIntersection(np.column_stack([a, -b]), deep.x[:3]).intersections


def moments(points):
    """∫1, ∫x, ∫|x|² over a convex hull, by tetrahedra from its mean."""
    hull, o = ConvexHull(points), points.mean(0)
    corners = points[hull.simplices] - o
    volume = np.abs(np.linalg.det(corners)) / 6
    first = (volume[:, None] * corners.sum(1) / 4).sum(0)
    second = (volume / 20 * ((corners**2).sum((1, 2)) + (corners.sum(1) ** 2).sum(1))).sum()
    mass = volume.sum()
    return mass, first + o * mass, second + 2 * o @ first + o @ o * mass


def test_voronoi_cells_of_the_nearest_fill_the_cube():
    y, h = voronoi(1000)
    mass, first, second, count, names, sizes = cells(y, h, *nearest(y, 40))
    assert mass.sum() == pytest.approx(1, abs=1e-12)
    assert first.sum(0) == pytest.approx(np.full(3, 0.5), abs=1e-12)
    assert second.sum() == pytest.approx(1, abs=1e-12)
    again = cells(y, h, np.concatenate([[0], np.cumsum(count)]), names)
    assert again[0] == pytest.approx(mass, abs=1e-15)
    assert matrix(*again[3:]) == pytest.approx(matrix(count, names, sizes), abs=1e-13)


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("planes", [NO_PLANES, ball(60)[0]], ids=["cube", "ball"])
def test_cells_agree_with_qhull(spread, planes):
    y, h = voronoi(60, 1)
    h = h + spread * np.random.default_rng(2).random(60)
    mass, first, second, count, _, _ = cells(y, h, *everyone(60), planes=planes, inner=ball()[1])
    for i in range(60):
        corners = qhull(y, h, i, planes)
        if corners is None:
            assert mass[i] == pytest.approx(0, abs=1e-9)
            continue
        expected = moments(corners)
        assert mass[i] == pytest.approx(expected[0], rel=1e-9, abs=1e-13)
        assert first[i] == pytest.approx(expected[1], rel=1e-9, abs=1e-13)
        assert second[i] == pytest.approx(expected[2], rel=1e-9, abs=1e-13)
    assert (count == 0).any() or spread == 0
    if len(planes) == 0:
        assert mass.sum() == pytest.approx(1, abs=1e-13)


def test_facets_are_seen_alike_from_both_sides_and_close():
    y, h = voronoi(400, 3)
    h += 0.01 * np.random.default_rng(4).random(400)
    density = np.random.default_rng(5).random((3, 4, 5))
    for rho in (UNIFORM, density):
        *_, count, names, sizes = cells(y, h, *everyone(400), density=rho)
        dense = matrix(count, names, sizes)
        assert dense == pytest.approx(dense.T, abs=1e-12)
        if rho is UNIFORM:
            gap = y[None] - y[:, None]
            normal = gap / np.maximum(np.linalg.norm(gap, axis=2), 1e-300)[..., None]
            flux = np.einsum("ij,ijk->ik", dense, normal)
            corners = [qhull(y, h, i) for i in range(60)]
            interior = [i for i, c in enumerate(corners) if c is not None and c.min() > 1e-6 and c.max() < 1 - 1e-6]
            assert len(interior) > 5
            assert flux[interior] == pytest.approx(0, abs=1e-12)


def test_masses_move_by_facets():
    y, h = voronoi(50, 6)
    density = np.random.default_rng(5).random((3, 4, 5))
    up, down = h.copy(), h.copy()
    up[7] += 1e-6
    down[7] -= 1e-6
    *_, count, names, sizes = cells(y, h, *everyone(50), density=density)
    expected = -matrix(count, names, sizes)[7] / np.maximum(np.linalg.norm(y - y[7], axis=1), 1e-300)
    expected[7] = -expected.sum()
    rate = (cells(y, up, *everyone(50), density)[0] - cells(y, down, *everyone(50), density)[0]) / 2e-6
    assert rate == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("m", [3, 4, 5])
@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_a_cubic_lattice_has_equal_cells(m, tilt):
    axis = (np.arange(m) + 0.5) / m
    y = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    n = len(y)
    rng = np.random.default_rng(m)
    start, near = everyone(n)
    near = np.concatenate([rng.permutation(near[start[i] : start[i + 1]]) for i in range(n)])
    low, high = LOW, HIGH
    if tilt:  # far away from 0, where heights keep fewer digits
        low, high, y = LOW + 30, HIGH + 30, y + 30
    for density in (UNIFORM, np.ones((m, m, m)), np.ones((2, 3, 2 * m))):
        mass, first, _, count, names, sizes = cells(
            y, -(y**2).sum(1) / 2, start, near, density, low=low, high=high, inner=INNER + 30 * tilt
        )
        digits = 1e-13 if tilt == 0 else 1e-10
        assert mass * n == pytest.approx(1, rel=digits)
        assert first == pytest.approx(y * mass[:, None], rel=digits)
        if tilt == 0:
            big = sizes > 1e-10
            assert sizes[big] == pytest.approx(1 / m**2, rel=1e-12)
            assert sizes[~big].sum() < 1e-12
            owner = np.repeat(np.arange(n), count)[big]
            assert np.linalg.norm(y[owner] - y[names[big]], axis=1) == pytest.approx(1 / m)


@pytest.mark.parametrize("basis", ["bcc", "fcc", "integers", "coplanar", "collinear", "twice"])
def test_degenerate_points_fill_the_cube(basis):
    m, rng = 4, np.random.default_rng(8)
    corner = np.stack(np.meshgrid(*[np.arange(m)] * 3, indexing="ij"), -1).reshape(-1, 3)
    steps = {"bcc": [[0, 0, 0], [0.5, 0.5, 0.5]], "fcc": [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]}
    if basis in steps:
        y = (corner[None] + np.array(steps[basis])[:, None]).reshape(-1, 3) / m
    elif basis == "integers":
        y = np.unique(rng.integers(0, 7, (120, 3)), axis=0) / 6
    elif basis == "coplanar":
        y = np.column_stack([rng.random((40, 2)), np.full(40, 0.5)])
    elif basis == "collinear":
        y = np.linspace(0.05, 0.95, 30)[:, None] * np.ones(3)
    else:  # two sites on one plane at every distance: only the nearer is seen
        y = np.concatenate([[[0.5, 0.5, 0.5]], 0.5 + np.repeat(np.vstack([np.eye(3), -np.eye(3)]), 4, 0) * 0.1])
        y[1:] += np.tile([0, 0.1, 0.2, 0.1], 6)[:, None] * (y[1:] - 0.5) * 10
    h = -(y**2).sum(1) / 2
    if basis == "twice":  # all meet the first at distance 0.1
        d = np.linalg.norm(y[1:] - y[0], axis=1)
        h[1:] += d * (d - 0.2) / 2
    start, near = everyone(len(y))
    mass, _, _, count, names, sizes = cells(y, h, start, near)
    if basis == "twice":
        assert mass[0] == pytest.approx(0.2**3, rel=1e-13)
        assert sizes[: count[0]] == pytest.approx(0.2**2, rel=1e-13)
        assert count[0] == 6
    else:
        assert mass.sum() == pytest.approx(1, abs=1e-12)
        dense = matrix(count, names, sizes)
        assert dense == pytest.approx(dense.T, abs=1e-12)


@pytest.mark.parametrize("q", [350, 2000])
def test_a_cell_with_hundreds_of_facets(q):
    planes, inner = ball(q, radius=0.4)
    y = np.vstack([inner[:3], inner[:3] + 0.8 * planes[:, :3]])
    h = -(y**2).sum(1) / 2
    start = np.concatenate([[0, q], np.full(q, q)])
    mass, *_ = cells(y[:1], h[:1], np.zeros(2, np.int64), np.zeros(0, np.int64), planes=planes, inner=inner)
    many = np.zeros(q + 1), np.zeros((q + 1, 3)), np.zeros(q + 1)
    count, _, sizes = clipped(
        y, h, LOW, HIGH, NO_PLANES, INNER, UNIFORM, start, np.arange(1, q + 1), np.array([0]), 2, *many
    )
    assert count[0] == q
    assert many[0][0] == pytest.approx(mass[0], rel=1e-13)
    assert many[0][0] == pytest.approx(sizes.sum() * 0.4 / 3, rel=1e-12)  # all facets at one distance
    assert many[0][0] == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=20 / q)


def test_cells_in_a_ball_fill_it():
    planes, inner = ball()
    y, h = voronoi(300, 7)
    h += 0.01 * np.random.default_rng(7).random(300)
    mass, first, second, *facets = cells(y, h, *everyone(300), planes=planes, inner=inner)
    whole = cells(y[:1], h[:1], np.zeros(2, np.int64), np.zeros(0, np.int64), planes=planes, inner=inner)
    assert whole[0][0] == pytest.approx(4 / 3 * np.pi * inner[3] ** 3, rel=0.03)
    assert mass.sum() == pytest.approx(whole[0][0], abs=1e-12)
    assert first.sum(0) == pytest.approx(whole[1][0], abs=1e-12)
    assert second.sum() == pytest.approx(whole[2][0], abs=1e-12)
    tried = cells(y, h, *everyone(300), planes=planes, inner=np.array([0.5, 0.5, 0.5, 0.0]))
    assert tried[0] == pytest.approx(mass, abs=1e-15)
    assert matrix(*facets) == pytest.approx(matrix(*facets).T, abs=1e-12)


def test_a_grid_of_densities_is_shared_out():
    y, h = voronoi(200, 10)
    candidates = everyone(200)
    density = np.random.default_rng(11).random((3, 4, 5))
    density[1, :2] = 0
    mass, first, second, *_ = cells(y, h, *candidates, density=density)
    assert mass.sum() == pytest.approx(density.mean(), abs=1e-12)
    middle = np.stack(np.meshgrid(*[(np.arange(k) + 0.5) / k for k in density.shape], indexing="ij"), -1)
    assert first.sum(0) == pytest.approx((density[..., None] * middle).mean((0, 1, 2)), abs=1e-12)
    square = (middle**2).sum(-1) + sum(1 / k**2 for k in density.shape) / 12
    assert second.sum() == pytest.approx((density * square).mean(), abs=1e-12)
    uniform, constant = cells(y, h, *candidates, 2 * UNIFORM), cells(y, h, *candidates, np.full((3, 4, 5), 2.0))
    for one, other in zip(uniform[:3], constant[:3], strict=True):
        assert one == pytest.approx(other, abs=1e-14)
    assert matrix(*uniform[3:]) == pytest.approx(matrix(*constant[3:]), abs=1e-13)


def test_facets_on_the_grid_count_once():
    axis = (np.arange(4) + 0.5) / 4
    y = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    for m in (4, 2, 8):
        *_, count, names, sizes = cells(y, -(y**2).sum(1) / 2, *everyone(64), density=np.ones((m, m, m)))
        assert matrix(count, names, sizes).sum() == pytest.approx(6 * 3, rel=1e-12)  # 3 layers along 3 axes, twice


def test_facets_where_there_is_no_mass_are_named():
    y = np.array([[0.25, 0.5, 0.5], [0.75, 0.5, 0.5]])
    density = np.array([1.0, 0, 0, 1])[:, None, None]
    mass, *_, count, names, sizes = cells(y, -(y**2).sum(1) / 2, *everyone(2), density=density)
    assert mass == pytest.approx([0.25, 0.25])
    assert count.tolist() == [1, 1]
    assert names.tolist() == [1, 0]
    assert sizes.tolist() == [0, 0]


@pytest.mark.parametrize("where", ["cube", "ball", "grid"])
def test_shares_are_the_cells_of_the_second_highest(where):
    y, h = voronoi(80, 12)
    h += 0.02 * np.random.default_rng(13).random(80)
    density = np.random.default_rng(14).random((3, 4, 5)) if where == "grid" else UNIFORM
    planes, inner = ball() if where == "ball" else (NO_PLANES, INNER)
    mass, *_, count, names, _ = cells(y, h, *everyone(80), density, planes, inner)
    start = np.concatenate([[0], np.cumsum(count)])
    domain = LOW, HIGH, planes, inner, density
    share = np.concatenate([shares(y, h, *domain, start, names, rows) for rows in (np.arange(30), np.arange(30, 80))])
    assert share.min() >= 0
    owner = np.repeat(np.arange(80), count)
    assert np.bincount(owner, share, 80) == pytest.approx(mass, abs=1e-13)
    x = np.random.default_rng(15).random((200_000, 3))
    x = x[(x @ planes[:, :3].T <= planes[:, 3]).all(1)] if len(planes) else x
    weight = density[tuple((x * density.shape).astype(int).T)] / 200_000
    height = x @ y.T + h
    best = height.argmax(1)
    met, seen, expected = np.zeros((80, 80), bool), np.zeros((80, 80)), np.zeros((80, 80))
    met[owner, names] = True  # at the domain's boundary the second highest of all may have no facet in it
    np.add.at(seen, (best, np.where(met[best], height, -np.inf).argmax(1)), weight)
    expected[owner, names] = share
    assert (np.abs(seen - expected) < 5 * np.sqrt(expected / 200_000) + 5e-5).all()


def test_no_cells_and_single_cells():
    y, h = voronoi(5)
    empty = np.zeros(6, np.int64), np.zeros(0, np.int64)
    mass, first, second, count, *_ = cells(y, h, *empty)
    assert mass == pytest.approx(1)
    assert second == pytest.approx(1)
    assert count.sum() == 0
    count, names, sizes = clipped(
        y, h, LOW, HIGH, NO_PLANES, INNER, UNIFORM, *empty, empty[1][:0], 2, mass, first, second
    )
    assert len(count) == len(names) == len(sizes) == 0
    hidden = h - np.array([9, 0, 0, 0, 0.0])
    mass, first, second, count, *_ = cells(y, hidden, *everyone(5))
    assert mass[0] == second[0] == count[0] == 0
    assert (first[0] == 0).all()
