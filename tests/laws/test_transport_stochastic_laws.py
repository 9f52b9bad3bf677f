from __future__ import annotations

import pytest
import torch

from brenier.measures import Discrete, Gaussian
from brenier.transport import cells, solve
from brenier.transport.hierarchy import bisect
from brenier.transport.stochastic import AveragedAdam


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_cells_that_get_their_samples_in_clumps_settle_at_the_same_mass():
    n, m, clump, steps = 1024, 8, 2, 8000  # a cell is hit once in 128 steps, or twice at once in 256
    nu, generator = torch.full((n,), 1 / n), seeded()
    clumped = torch.arange(n) % 2 == 0
    method = AveragedAdam(
        torch.zeros(n), nu, 0.03, torch.full((n,), 1e-3), steps, torch.zeros(n, dtype=torch.long), [torch.ones(1)]
    )

    def mass(h):
        return torch.softmax(h.double(), 0)

    for _ in range(steps):
        p = mass(method.h)
        single = torch.multinomial(torch.where(clumped, 0.0, p), m // 2, True, generator=generator)
        double = torch.multinomial(torch.where(clumped, p, 0.0), m // 2 // clump, True, generator=generator)
        share = p[clumped].sum()
        counts = torch.bincount(single, minlength=n) * (2 * (1 - share))
        counts = counts + torch.bincount(double, minlength=n) * (2 * clump * share)
        method.step(counts.float(), m)
    assert mass(method.answer)[clumped].sum().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("n", [1, 8, 61, 1000])
def test_groups_are_equal_and_groups_of_groups_are_the_coarser_ones(n):
    y = torch.randn(n, 3, dtype=torch.float64, generator=seeded())
    for times in range(0, n.bit_length() - 1, 3):
        labels = bisect(y, times)
        sizes = torch.bincount(labels, minlength=2**times)
        assert sizes.max() - sizes.min() <= 1 or sizes.max() <= 1.2 * sizes.min()
        assert torch.equal(bisect(y, max(0, times - 3)), labels >> min(times, 3))


def test_equal_points_are_halved_too():
    assert torch.bincount(bisect(torch.ones(16, 2), 3)).tolist() == [2] * 8


def test_a_warm_start_moves_the_mass_of_whole_regions():
    y = torch.randn(3000, 5, generator=seeded())
    source, region = Gaussian(5), y[:, 0] > 0.5
    first = solve(source, Discrete(y), generator=seeded(1)).potential
    weights = torch.where(region, 4.0, 1.0).double()
    weights /= weights.sum()
    second = solve(source, Discrete(y, weights), generator=seeded(2), start=first)
    assert second.converged
    masses = cells(second.potential, source, generator=seeded(3)).masses
    for part in (region, y[:, 1] > 0.5, y.norm(dim=1) > 2.5):
        assert masses[part].sum().item() == pytest.approx(weights[part].sum().item(), rel=0.03)
