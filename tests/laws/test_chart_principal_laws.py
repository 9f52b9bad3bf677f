"""What must not change a chart that starts at principal components, and data without some directions."""

from __future__ import annotations

import pytest
import torch

from brenier.manifold import Chart, build, fit, mlp
from brenier.solution import Status


def rebuilt(x, d, **options):
    chart = Chart(*mlp(x.shape[1], latent_dim=d, width=32, generator=0)).to(x.dtype)
    solution = fit(chart, x, epochs=4, generator=0, **options)
    return chart.decode(chart.encode(x)), solution, chart


@pytest.mark.parametrize("curved", [False, True])
def test_a_constant_or_a_scale_moves_the_chart_with_the_data(curved, generator):
    x = torch.randn(300, 5, generator=generator, dtype=torch.float64)
    if curved:
        x[:, 2:] = x[:, :1].square() * torch.ones(3, dtype=torch.float64)
    plain, solution, _ = rebuilt(x, 2)
    moved, other, _ = rebuilt(3 * x + 7, 2)
    assert other.status is solution.status
    assert solution.verdict.keeps_network is curved
    torch.testing.assert_close((moved - 7) / 3, plain, atol=1e-5, rtol=0)  # rounding grows in training


def test_a_rotation_turns_principal_components_with_the_data(generator):
    x = torch.randn(200, 6, generator=generator, dtype=torch.float64) * torch.arange(1.0, 7.0, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    plain, solution, chart = rebuilt(x, 3)
    turned, _, other = rebuilt(x @ turn, 3)
    assert solution.status is Status.PRINCIPAL
    torch.testing.assert_close(turned, plain @ turn, atol=1e-6, rtol=0)
    torch.testing.assert_close(other.encode(x @ turn).abs(), chart.encode(x).abs(), atol=1e-6, rtol=0)


def test_codes_keep_the_ratios_of_deviations_and_have_mean_variance_one(generator):
    x = torch.randn(400, 5, generator=generator, dtype=torch.float64) * torch.tensor([4.0, 2.0, 1.0, 0.1, 0.1])
    _, _, chart = rebuilt(x, 3)
    variances = chart.encode(x).var(0, correction=0)
    assert variances.mean().item() == pytest.approx(1, abs=1e-6)
    spread = torch.linalg.svdvals(x - x.mean(0))[:3].square()
    torch.testing.assert_close(variances / variances.sum(), spread / spread.sum(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", ["constant columns", "duplicates", "a line"])
def test_data_of_low_rank_come_back_as_they_are(case, generator):
    x = torch.randn(60, 5, generator=generator)
    if case == "constant columns":
        x[:, 2:] = torch.tensor([1 / 3, 0.0, -1e6])
    if case == "duplicates":
        x = x[:3].repeat(20, 1)
    if case == "a line":
        x = x[:, :1] * torch.ones(5) + 2
    back, solution, chart = rebuilt(x, 2)
    assert solution.status is Status.PRINCIPAL
    torch.testing.assert_close(back, x, atol=1e-5, rtol=1e-6)
    codes = chart.encode(x)
    assert codes.isfinite().all()
    assert (codes.var(0)[1] == 0) == (case == "a line")


def test_constant_pixels_come_back_as_they_are(generator):
    x = torch.rand(60, 1, 8, 8, generator=generator)
    x[:, :, :2] = 0.3
    chart = build({"kind": "convolutional", "shape": [1, 8, 8], "latent_dim": 3, "width": 4}, generator=0)
    fit(chart, x, epochs=2, generator=0)
    assert chart.decode(chart.encode(x))[:, :, :2].sub(0.3).abs().max() < 1e-6


def test_two_samples_make_a_line():
    x = torch.tensor([[0.0, 1.0, 2.0], [1.0, 1.0, 0.0]])
    back, solution, _ = rebuilt(x, 1, validation=0)
    assert solution.verdict is None
    torch.testing.assert_close(back, x, atol=0.1, rtol=0)


def test_images_are_cut_to_their_range_and_the_decoder_is_smooth(generator):
    """Far out every pixel leaves 0..1: samples are cut there, the module that geometry differentiates is not."""
    x = torch.rand(40, 1, 8, 8, generator=generator)
    chart = build({"kind": "convolutional", "shape": [1, 8, 8], "latent_dim": 2, "width": 4}, generator=0)
    fit(chart, x, epochs=1, generator=0)
    far = 100 * torch.ones(1, 2)
    bare = chart.decoder(far).detach()
    assert bare.min() < 0
    assert bare.max() > 1
    assert torch.equal(chart.decode(far), bare.clamp(0, 1))
    for way in (torch.func.jacfwd, torch.func.jacrev):
        assert (way(chart.decoder)(far).abs().flatten(0, 3).amax(0) > 0).all()
