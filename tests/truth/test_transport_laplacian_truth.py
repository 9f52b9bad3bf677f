import numpy as np
import pytest
from scipy.sparse import block_diag, csr_array, diags_array
from scipy.spatial import Delaunay

from brenier.transport.laplacian import solve


def laplacian(i: np.ndarray, j: np.ndarray, w: np.ndarray, n: int) -> csr_array:
    graph = csr_array((np.append(w, w), (np.append(i, j), np.append(j, i))), shape=(n, n))
    return csr_array(diags_array(graph.sum(1)) - graph)


def edges(points: np.ndarray) -> np.ndarray:
    corners = Delaunay(points).simplices
    pairs = [corners[:, [a, b]] for a in range(corners.shape[1]) for b in range(a)]
    return np.unique(np.sort(np.concatenate(pairs), 1), axis=0).T


def graph(kind: str, n: int, d: int) -> csr_array:
    rng = np.random.default_rng(n + d)
    points = rng.random((n, d))
    if kind == "scales":  # ten clusters, each a third of the one before in size
        size = (3.0 ** -np.arange(10)).repeat(n // 10)[:, None]
        points = rng.random((10, d)).repeat(n // 10, 0) + (points - 0.5) * size
    i, j = edges(points)
    w = {
        "even": np.ones(len(i)),
        "lognormal": np.exp(rng.normal(0, 2, len(i))),
        "tiny": np.where(rng.random(len(i)) < 0.1, 1e-12, 1.0) * rng.random(len(i)),
        "decades": 10 ** rng.uniform(-12, 3, len(i)),
        "scales": np.linalg.norm(points[i] - points[j], axis=1) ** -1.0,
    }[kind]
    return laplacian(i, j, w, n)


def random(n: int) -> np.ndarray:
    b = np.random.default_rng(0).standard_normal(n)
    return b - b.mean()


def residual(matrix: csr_array, x: np.ndarray, b: np.ndarray) -> float:
    entries = matrix.tocoo()
    flow = -entries.data * (x[entries.row] - x[entries.col])
    return float(np.linalg.norm(np.bincount(entries.row, flow, len(b)) - b) / np.linalg.norm(b))


@pytest.mark.parametrize("rtol", [1e-2, 1e-6])
@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", ["even", "lognormal", "tiny", "decades", "scales"])
def test_the_residual_is_as_small_as_promised(kind: str, d: int, rtol: float) -> None:
    matrix = graph(kind, 2000, d)
    b = random(2000)
    x = solve(matrix, b, rtol)
    assert residual(matrix, x, b) <= rtol * (1 + 1e-6)
    assert abs(x.mean()) <= 1e-12 * abs(x).max()


@pytest.mark.parametrize("d", [2, 3])
def test_it_is_the_pseudoinverse(d: int) -> None:
    matrix = graph("lognormal", 200, d)
    b = random(200)
    exact = np.linalg.pinv(matrix.toarray(), hermitian=True) @ b
    np.testing.assert_allclose(solve(matrix, b, 1e-12), exact, atol=1e-9 * abs(exact).max())
    np.testing.assert_allclose(solve(matrix, b + 1, 1e-12), exact, atol=1e-9 * abs(exact).max())


def test_every_component_has_its_own_mean() -> None:
    parts = [graph("lognormal", 200, 2), csr_array((1, 1)), graph("even", 100, 3), csr_array((1, 1))]
    matrix = csr_array(block_diag(parts))
    x = solve(matrix, np.arange(302.0), 1e-10)
    for part, begin in zip(parts, (0, 200, 201, 301), strict=True):
        own = slice(begin, begin + part.shape[0])
        b = np.arange(302.0)[own] - np.arange(302.0)[own].mean()
        np.testing.assert_allclose(part @ x[own], b, atol=1e-7)
        assert abs(x[own].mean()) <= 1e-12 * max(1, abs(x).max())


def test_one_node_and_two() -> None:
    assert solve(csr_array((1, 1)), np.array([3.0]), 1e-9).tolist() == [0.0]
    pair = laplacian(np.array([0]), np.array([1]), np.array([4.0]), 2)
    np.testing.assert_allclose(solve(pair, np.array([2.0, -2.0]), 1e-9), [0.25, -0.25])
    assert solve(pair, np.zeros(2), 1e-9).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("hub", [True, False], ids=["star", "path"])
def test_a_tree_is_eliminated_exactly(hub: bool) -> None:
    j = np.arange(1, 301)
    matrix = laplacian(np.zeros_like(j) if hub else j - 1, j, np.random.default_rng(0).random(300), 301)
    b = random(301)
    assert residual(matrix, solve(matrix, b, 1e-10), b) <= 1e-10


def test_a_hub_whose_parallel_edges_outnumber_the_nodes() -> None:
    i, j = edges(np.random.default_rng(0).random((1000, 2)))
    rim = np.arange(1000)
    matrix = laplacian(np.append(i, rim), np.append(j, np.full(1000, 1000)), np.ones(len(i) + 1000), 1001)
    b = random(1001)
    assert residual(matrix, solve(matrix, b, 1e-9), b) <= 1e-9


def test_a_complete_graph() -> None:
    i, j = np.triu_indices(150, 1)
    matrix = laplacian(i, j, 10 ** np.random.default_rng(0).uniform(-12, 3, len(i)), 150)
    b = random(150)
    assert residual(matrix, solve(matrix, b, 1e-8), b) <= 1e-8


def test_zeros_in_the_pattern_and_wide_indices_change_nothing() -> None:
    matrix = graph("even", 300, 2)
    entries = matrix.tocoo()
    i, j = (np.append(part, extra) for part, extra in ((entries.row, [0, 299]), (entries.col, [299, 0])))
    padded = csr_array((np.append(entries.data, [0.0, 0.0]), (i, j)), shape=matrix.shape)
    wide = csr_array((padded.data, padded.indices.astype(np.int64), padded.indptr.astype(np.int64)), shape=matrix.shape)
    b = random(300)
    for other in (padded, wide):
        np.testing.assert_allclose(solve(other, b, 1e-12), solve(matrix, b, 1e-12), atol=1e-9)


def test_the_same_twice() -> None:
    matrix, b = graph("lognormal", 2000, 3), random(2000)
    np.testing.assert_array_equal(solve(matrix, b, 1e-8), solve(matrix, b, 1e-8))


def test_what_cannot_be_reached_is_said() -> None:
    matrix = graph("even", 300, 2)
    with pytest.raises(ArithmeticError, match=r"the residual of 300 linear equations is .*, not 1\.0e-20"):
        solve(matrix, random(300), 1e-20)
    with pytest.raises(ArithmeticError, match="is nan"):
        solve(matrix, np.full(300, np.nan), 1e-2)
