"""Local Gaussians in many dimensions: no more covariances at hand than memory is meant for."""

from __future__ import annotations

import torch

from brenier.transport.local import LocalGaussians, local_gaussians, log_likelihood


def test_covariances_are_made_a_bounded_number_at_a_time(monkeypatch, generator):
    n, d = 100, 400
    points = torch.randn(n, d, generator=generator, dtype=torch.float64)
    local = local_gaussians(points, torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool), 16)
    asked, moments = [], LocalGaussians.moments

    def counted(self, i):
        asked.append(len(i))
        return moments(self, i)

    monkeypatch.setattr(LocalGaussians, "moments", counted)
    cells = torch.arange(250) % n
    place = torch.randn(250, d, generator=generator, dtype=torch.float64)
    drawn = local.draw(cells, place, 0.7)
    torch.testing.assert_close(drawn[200:203], local.draw(cells[200:203], place[200:203], 0.7))
    assert log_likelihood(local, points[:3], (0.5, 1.0)).shape == (2,)
    assert max(asked) * d * d <= 1 << 24
