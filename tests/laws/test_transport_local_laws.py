"""Local Gaussians in many dimensions: no more covariances at hand than memory is meant for."""

from __future__ import annotations

import math

import torch

from brenier.transport.local import LocalGaussians, local_gaussians, log_likelihood


def test_covariances_are_made_a_bounded_number_at_a_time(monkeypatch, generator):
    n, d = 100, 400
    points = torch.randn(n, d, generator=generator, dtype=torch.float64)
    local = local_gaussians(points, torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool), 16)
    asked, deviations = [], LocalGaussians.deviations

    def counted(self, i):
        asked.append(len(i))
        return deviations(self, i)

    monkeypatch.setattr(LocalGaussians, "deviations", counted)
    cells = torch.arange(250) % n
    place = torch.randn(250, d, generator=generator, dtype=torch.float64)
    drawn = local.draw(cells, place, torch.ones(17), 0.7)
    torch.testing.assert_close(drawn[200:203], local.draw(cells[200:203], place[200:203], torch.ones(17), 0.7))
    assert math.isfinite(log_likelihood(local, points[:3], 0.5))
    assert max(asked) * d * d <= 1 << 24
