"""The potential is convex, its gradient monotone; Planes finds what brute force finds, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from brenier.measures import Discrete, Gaussian
from brenier.transport import BrenierPotential, cells, extend, singular_set, solve
from brenier.transport.planes import BLOCK, Planes, sums


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def potential(n=60, d=3, dtype=torch.float64, offset=0.0):
    y = torch.randn(n, d, dtype=torch.float64, generator=seeded(n + d)) + offset
    h = -0.5 * (y - offset).square().sum(1) + 0.3 * torch.randn(n, dtype=torch.float64, generator=seeded(1))
    return BrenierPotential(y.to(dtype), h.to(dtype))


def noise(m, d, dtype=torch.float64, seed=9):
    return 2 * torch.randn(m, d, dtype=dtype, generator=seeded(seed))


class Largest(TorchDispatchMode):
    """The number of elements in the largest tensor that any operation made."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(part, torch.Tensor) and part.untyped_storage().nbytes():
                self.numel = max(self.numel, part.untyped_storage().nbytes() // part.element_size())
        return out


@pytest.mark.parametrize("d", [1, 2, 7])
def test_u_is_convex(d):
    u, x, z = potential(d=d), noise(500, d), noise(500, d, seed=8)
    t = torch.rand(500, 1, dtype=torch.float64, generator=seeded())
    middle = u(t * x + (1 - t) * z)
    assert (middle <= t[:, 0] * u(x) + (1 - t[:, 0]) * u(z) + 1e-10).all()


@pytest.mark.parametrize("d", [1, 2, 7])
def test_the_gradient_supports_u_and_is_monotone(d):
    """u(z) ≥ u(x) + <∇u(x), z − x> and <∇u(x) − ∇u(z), x − z> ≥ 0."""
    u, x, z = potential(d=d), noise(500, d), noise(500, d, seed=8)
    assert (u(z) >= u(x) + (u.gradient(x) * (z - x)).sum(1) - 1e-10).all()
    assert (((u.gradient(x) - u.gradient(z)) * (x - z)).sum(1) >= 0).all()


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_u_is_the_maximum_of_its_planes(offset):
    u, x = potential(offset=offset), noise(200, 3)
    scores = x @ u.points.T + u.heights
    assert torch.allclose(u(x), scores.amax(1), rtol=1e-12)
    assert torch.allclose(scores.gather(1, u.cell(x)[:, None])[:, 0], scores.amax(1), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("xtype", [torch.float32, torch.float64, torch.float16, torch.int64])
def test_gradient_rows_are_points_bit_for_bit(dtype, xtype):
    u, x = potential(dtype=dtype, offset=1 / 3), noise(300, 3).to(xtype)
    assert u.gradient(x).dtype == dtype
    assert torch.equal(u.gradient(x), u.points[u.cell(x)])
    assert u.cell(x).dtype == torch.long


def test_numpy_in_numpy_out():
    u, x = potential(), noise(20, 3)
    for f in (u, u.cell, u.gradient):
        assert isinstance(f(x.numpy()), np.ndarray)
        assert np.array_equal(f(x.numpy()), f(x).numpy())


def test_no_rows_in_no_rows_out():
    u = potential()
    assert u(torch.zeros(0, 3)).shape == u.cell(torch.zeros(0, 3)).shape == (0,)
    assert u.gradient(torch.zeros(0, 3)).shape == (0, 3)


def test_a_constant_moves_no_cell():
    u, x = potential(), noise(500, 3)
    moved = BrenierPotential(u.points, u.heights + 64)
    assert torch.equal(moved.cell(x), u.cell(x))
    assert torch.allclose(moved(x), u(x) + 64)


def test_moving_all_points_moves_no_cell():
    """u + <x, v> has the cells of u: the centre of the points costs no digits, even far off in float32."""
    u, x = potential(dtype=torch.float64), noise(2000, 3)
    near = BrenierPotential((u.points * 1024).round() / 1024, u.heights)
    far = BrenierPotential((near.points + 2048).float(), u.heights.float())
    assert (far.cell(x) == near.cell(x)).double().mean() >= 0.999


def test_a_coarser_potential_lies_below():
    u, x = potential(n=80), noise(200, 3)
    assert (BrenierPotential(u.points[:40], u.heights[:40])(x) <= u(x) + 1e-12).all()


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 255, 1000, 5000])
@pytest.mark.parametrize("k", [1, 2, 5, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_top_is_brute_force(n, k, dtype):
    k, y, x = min(k, n), torch.randn(n, 3, generator=seeded(n), dtype=dtype), noise(37, 3, dtype)
    h = torch.randn(n, generator=seeded(k), dtype=dtype)
    scores = torch.addmm(h, x, y.T)
    planes = Planes(y, h)
    for top in (planes.top, planes._top_by_products):  # on a CPU, and elsewhere
        values, indices = top(x, k)
        assert values.shape == indices.shape == (37, k)
        assert torch.allclose(values, scores.topk(k).values, rtol=1e-5, atol=1e-5)
        assert torch.allclose(scores.gather(1, indices), values, rtol=1e-5, atol=1e-5)
        assert all(len(set(row)) == k for row in indices.tolist())


@pytest.mark.parametrize("n", [1, 16, 100, 3000])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(("j", "m"), [(1, 1), (8, 16), (3, 200)])
def test_top_of_sums_is_top_of_all_pairs(n, k, j, m):
    """At every ± a_j ± b_l, in the order of `sums`."""
    k, y = min(k, n), torch.randn(n, 4, generator=seeded(n), dtype=torch.float64)
    planes = Planes(y, torch.randn(n, generator=seeded(k), dtype=torch.float64))
    a, b = noise(2 * j, 4).view(2, j, 4), noise(2 * m, 4, seed=8).view(2, m, 4)
    values, indices = planes.top_of_sums(a, b, k)
    expected = planes.top(sums(a, b), k)
    assert torch.allclose(values, expected[0])
    assert torch.equal(indices, expected[1])
    one_block = planes._top_of_block(a[0], b[0], k)  # what runs where no CPU does
    assert torch.allclose(one_block[0], values[: 4 * j * m])
    assert torch.equal(one_block[1], indices[: 4 * j * m])


@pytest.mark.parametrize("d", [1, 3, 4, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernel_is_top_of_all_pairs_on_any_number_of_threads(d, dtype):
    """Dimensions beside multiples of four, planes beside multiples of a tile, blocks dealt to one thread and to two."""
    n, k = 1100, 4
    y = torch.randn(n, d, generator=seeded(d), dtype=dtype)
    planes = Planes(y, torch.zeros(n, dtype=dtype)).at(torch.randn(n, generator=seeded(1), dtype=dtype))
    a, b = (
        torch.randn(9, 8, d, generator=seeded(2), dtype=dtype),
        torch.randn(9, 16, d, generator=seeded(3), dtype=dtype),
    )
    threads, found = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        found.append(planes.top_of_sums(a, b, k))
    torch.set_num_threads(threads)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
    scores = planes.top(sums(a, b), k)[0]
    assert torch.allclose(found[0][0], scores, rtol=1e-4, atol=1e-5)
    assert all(len(set(row)) == k for row in found[0][1].tolist())


@pytest.mark.parametrize("d", [2, 9])
def test_autograd_of_u_is_the_map(d):
    """u is differentiable in x, points and heights, though the kernel of the search isn't."""
    y, h = torch.randn(300, d, generator=seeded(1), requires_grad=True), torch.zeros(300, requires_grad=True)
    x = torch.randn(20, d, generator=seeded(2), requires_grad=True)
    u = BrenierPotential(y, h)
    by_x, by_h = torch.autograd.grad(u(x).sum(), (x, h))
    cells = u.cell(x.detach())
    assert torch.allclose(by_x, y[cells], atol=1e-6)
    assert torch.equal(by_h, cells.bincount(minlength=300).float())


def test_half_precision_points_are_searched_too():
    y, x = torch.randn(300, 9, generator=seeded(1)).bfloat16(), torch.randn(20, 9, generator=seeded(2)).bfloat16()
    cells = BrenierPotential(y, torch.zeros(300).bfloat16()).cell(x)
    scores = x.float() @ y.float().T
    assert (scores.gather(1, cells[:, None])[:, 0] >= scores.amax(1) - 0.1).all()


def test_planes_stay_within_their_block():
    """3,000 × 3,000 scores are 9 million numbers; no tensor is larger than a block of them."""
    planes = Planes(torch.randn(3000, 2), torch.zeros(3000))
    with Largest() as largest:
        planes.top(torch.randn(3000, 2), 2)
        planes._top_by_products(torch.randn(3000, 2), 2)
        planes.top_of_sums(torch.randn(1, 8, 2), torch.randn(1, 750, 2), 2)
    assert 3000 * 2 <= largest.numel <= BLOCK["cpu"] * 1.01


def test_the_pipeline_stays_within_a_block():
    """solve, cells, singular_set, extend and their use at n = 1,000: never samples × targets, 131 million numbers."""
    y = torch.randn(1000, 2, generator=seeded())
    with Largest() as largest:
        u = solve(Gaussian(2), Discrete(y), tol=1.0, max_samples=10_000, generator=seeded()).potential
        found = cells(u, Gaussian(2), generator=seeded())
        singular = singular_set(u, Gaussian(2), found, seeded())
        extend(u, Gaussian(2), found=found, singular=singular, generator=seeded())(torch.randn(1000, 2))
    assert largest.numel <= BLOCK["cpu"] * 1.1


@pytest.mark.parametrize("n", [2, 64])
def test_a_strict_tolerance_does_not_enlarge_a_check(n):
    """The samples of a check grow as 1/tol², what lies in memory at once must not."""
    y = torch.randn(n, 2, generator=seeded())
    with Largest() as largest:
        solve(Gaussian(2), Discrete(y), tol=1e-3, max_samples=1000, max_seconds=2.0, generator=seeded())
    assert largest.numel <= BLOCK["cpu"] * 1.1
