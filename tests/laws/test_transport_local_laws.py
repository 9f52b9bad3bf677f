"""Local Gaussians in many dimensions: no more covariances at hand than memory is meant for."""

from __future__ import annotations

import math

import torch

from brenier.transport.local import NUMBERS, LocalGaussians, choose, log_likelihood


def test_covariances_are_made_a_bounded_number_at_a_time(monkeypatch, generator):
    n, d = 100, 400
    points = torch.randn(n, d, generator=generator, dtype=torch.float64)
    local, _ = choose(points, torch.full((n,), 1 / n), torch.zeros(n, dtype=torch.long), 0.7, None)
    asked, deviations = [], LocalGaussians._deviations

    def counted(self, i):
        for some, rows in deviations(self, i):
            asked.append(len(some) * d * max(d, rows.shape[1]))
            yield some, rows

    monkeypatch.setattr(LocalGaussians, "_deviations", counted)
    cells = torch.arange(250) % n
    xi = torch.randn(250, d, generator=generator, dtype=torch.float64)
    drawn = local.draw(cells, xi)
    torch.testing.assert_close(drawn[200:203], local.draw(cells[200:203], xi[200:203]))
    assert math.isfinite(log_likelihood(local, points[:3]))
    assert len(asked) >= 2
    assert max(asked) <= NUMBERS
