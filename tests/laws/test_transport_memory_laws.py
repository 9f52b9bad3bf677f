"""Targets may lie in a file and be read in parts; what is found does not depend on it, and no copy of them is made."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from brenier.measures import Discrete, Gaussian
from brenier.transport import BrenierPotential, cells, planes, rows, solve
from brenier.transport.planes import Parts, Planes
from brenier.transport.problem import SemiDiscrete
from brenier.transport.rows import Rows, merged
from brenier.transport.stochastic import AveragedAdam


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def small_parts(monkeypatch):
    """Few numbers are many, a part is seventy rows in three dimensions."""
    for module in (planes, rows):
        monkeypatch.setattr(module, "HELD", 0)
    monkeypatch.setattr(rows, "CHUNK", 210)


@pytest.mark.parametrize("n", [1, 69, 70, 71, 500])
@pytest.mark.parametrize("k", [1, 3, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_best_of_parts_are_the_best(small_parts, n, k, dtype):
    y, k = torch.randn(n, 3, generator=seeded(n), dtype=dtype), min(k, n)
    h = torch.randn(n, generator=seeded(1), dtype=dtype)
    whole, parts = Planes(y, torch.zeros_like(h)).at(h), Parts(Rows(y), torch.zeros_like(h)).at(h)
    a, b = (torch.randn(5, m, 3, generator=seeded(m), dtype=dtype) for m in (4, 8))
    for x in ((torch.randn(37, 3, generator=seeded(2), dtype=dtype),), (a, b)):
        values, indices = parts.top(*x, k) if len(x) == 1 else parts.top_of_sums(*x, k)
        expected = whole.top(*x, k) if len(x) == 1 else whole.top_of_sums(*x, k)
        assert torch.allclose(values, expected[0], rtol=1e-5, atol=1e-5)
        assert (indices == expected[1]).double().mean() >= 0.999


def test_of_equal_planes_in_different_parts_the_first_is_given(small_parts):
    y = torch.ones(300, 3)
    assert (Parts(Rows(y), torch.zeros(300)).top(torch.randn(20, 3), 1)[1] == 0).all()


def test_a_solve_in_parts_finds_the_same(monkeypatch, small_parts):
    y = torch.randn(300, 3, dtype=torch.float64, generator=seeded())
    weights = torch.linspace(0, 2, 330, dtype=torch.float64) / 330
    target = Discrete(torch.cat([y, y[:30]]), weights / weights.sum())
    source, x = Gaussian(3), torch.randn(500, 3, dtype=torch.float64, generator=seeded(1))
    parts = solve(source, target, "multiscale", generator=seeded())
    seen = cells(parts.potential, source, generator=seeded(2))
    assert isinstance(parts.potential.planes, Parts)
    monkeypatch.undo()
    whole = solve(source, target, "multiscale", generator=seeded())
    assert isinstance(whole.potential.planes, Planes)
    assert parts.converged
    assert whole.converged
    assert (parts.potential.cell(x) == whole.potential.cell(x)).double().mean() >= 0.9
    again = BrenierPotential(parts.potential.points, parts.potential.heights)
    assert torch.equal(again.cell(x), parts.potential.cell(x))
    assert torch.allclose(again(x), parts.potential(x))
    expected = cells(again, source, generator=seeded(2))
    for name in ("masses", "masses_sem", "centroids", "radii"):
        assert torch.allclose(getattr(seen, name), getattr(expected, name), atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("held", [0, 1 << 24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rows_are_found_and_only_they(monkeypatch, held, dtype):
    """Rows of few small numbers, whose bits are mostly zeros, all with one first coordinate; −0 is 0."""
    monkeypatch.setattr(rows, "HELD", held)
    y = torch.cat([torch.ones(5000, 1), torch.randint(-3, 4, (5000, 4), generator=seeded())], 1).to(dtype)
    y[::2] = torch.where(y[::2] == 0, -0.0, y[::2])
    kept, index = merged(Rows(y))
    assert len(kept) == len(torch.unique(y, dim=0))
    assert torch.equal(kept[index], y.double())
    assert torch.equal(kept.chosen[index[kept.chosen]], kept.chosen)
    assert all(bool((y[: int(i)] != y[int(i)]).any(1).all()) for i in kept.chosen[:50])  # the first of its kind


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_points_in_a_file_stay_there(tmp_path, mode):
    y = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    np.save(tmp_path / "y.npy", y)
    mapped = np.load(tmp_path / "y.npy", mmap_mode=mode)
    target = Discrete(mapped)
    assert target.points.data_ptr() == mapped.ctypes.data
    solution = solve(Gaussian(3), target, generator=seeded())
    assert solution.converged
    assert solution.potential.points.data_ptr() == mapped.ctypes.data
    assert torch.equal(
        solution.potential.heights, solve(Gaussian(3), Discrete(y), generator=seeded()).potential.heights
    )


def test_points_in_a_file_of_another_byte_order_are_read(tmp_path):
    np.save(tmp_path / "y.npy", np.arange(6, dtype=">f4").reshape(3, 2))
    assert Discrete(np.load(tmp_path / "y.npy", mmap_mode="r")).points.tolist() == [[0, 1], [2, 3], [4, 5]]


PEAK = """
import resource, sys
import numpy as np, torch
from brenier.measures import Discrete, Gaussian
from brenier.transport import solve

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

torch.set_num_threads(1)
d, seeded = int(sys.argv[2]), torch.Generator().manual_seed(0)
few = Discrete(torch.randn(300, d))
u = solve(Gaussian(d), few, sys.argv[3], 0.5, max_samples=512, generator=seeded).potential
u(torch.randn(512, d))
before = peak()
target = Discrete(np.load(sys.argv[1], mmap_mode="r"))
u = solve(Gaussian(d), target, sys.argv[3], 0.5, max_samples=512, generator=seeded).potential
x = torch.randn(512, d)
u(x), u.cell(x), u.gradient(x)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["stochastic", "multiscale"])
def test_the_peak_of_a_solve_has_no_room_for_a_copy(tmp_path, method):
    """200,000 targets in 128 dimensions, 98 MiB in a float32 file: with the file's own pages less than 98 + 195 MiB,
    which is what they and one copy in float64 take.
    """
    n, d = 200_000, 128
    np.save(tmp_path / "y.npy", np.random.default_rng(0).standard_normal((n, d), dtype=np.float32))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "y.npy"), str(d), method]
    taken = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    targets = n * d * 4 / 2**20
    assert taken <= 3 * targets


def test_counts_are_all_that_a_step_needs():
    """Two half batches whose counts are summed give the step, and the answer, of the whole batch."""
    target = Discrete(torch.randn(700, 9, generator=seeded()))
    whole, halves = (SemiDiscrete(Gaussian(9), target, seeded(1)) for _ in range(2))
    one, two = (
        AveragedAdam(p.bures(), p.nu, 0.05, 1e-3 * p.spacing(), 20, p.groups, p.spreads) for p in (whole, halves)
    )
    for _ in range(20):
        counts = whole.counts(one.h, 512)
        parts = [halves.counts(two.h, 256) for _ in range(2)]
        assert counts.shape == (700,)
        assert torch.equal(sum(parts), counts)
        one.step(counts, 512)
        two.step(sum(parts), 512)
        assert torch.equal(one.h, two.h)
    assert torch.equal(one.answer, two.answer)
