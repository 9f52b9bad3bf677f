"""Charts that start at principal components, against scikit-learn's and against curved surfaces."""

from __future__ import annotations

import pytest
import torch
from sklearn.decomposition import PCA

from brenier.manifold import Chart, convolutional, fit, mlp
from brenier.manifold.principal import principal_axes
from brenier.solution import Status


def pca(x, d):
    fitted = PCA(d, svd_solver="full").fit(x.flatten(1).double().numpy())

    def rebuilt(y):
        flat = fitted.inverse_transform(fitted.transform(y.flatten(1).double().numpy()))
        return torch.from_numpy(flat).view(y.shape)

    return rebuilt


@pytest.mark.parametrize(("n", "dim"), [(500, 40), (30, 40), (100, 1200), (1100, 1200)], ids=str)
def test_axes_are_the_singular_vectors_of_many_or_few_rows_and_columns(n, dim, generator):
    scales = 2.0 ** -torch.arange(dim, dtype=torch.float64).clamp(max=30)
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64) * scales
    x -= x.mean(0)
    found = principal_axes(lambda: x.split(64), n, dim, 8)
    _, values, axes = torch.linalg.svd(x, full_matrices=False)
    torch.testing.assert_close(found.spread, values[:8] / n**0.5, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        (found.axes * axes[:8]).sum(1).abs(), torch.ones(8, dtype=torch.float64), atol=1e-4, rtol=0
    )


def test_linear_data_with_noise_keep_principal_components_of_all_rows(generator):
    x = torch.randn(300, 3, generator=generator) @ torch.randn(3, 12, generator=generator)
    x = x + 0.3 * torch.randn(300, 12, generator=generator) + 5
    chart = Chart(*mlp(12, latent_dim=3, generator=0))
    solution = fit(chart, x, epochs=5, generator=0)
    assert solution.status is Status.PRINCIPAL
    assert (solution.epochs, solution.rows, solution.verdict.keeps_network) == (0, 300, False)
    torch.testing.assert_close(chart.decode(chart.encode(x)).double(), pca(x, 3)(x), atol=2e-5, rtol=0)


def test_images_begin_at_principal_components_cut_to_their_range(generator):
    x = torch.rand(200, 1, 8, 9, generator=generator)
    chart = Chart(*convolutional((1, 8, 9), latent_dim=6, width=4, generator=0))
    assert fit(chart, x, epochs=2, generator=0).status is Status.PRINCIPAL
    new = torch.rand(50, 1, 8, 9, generator=generator)
    torch.testing.assert_close(chart.decode(chart.encode(new)).double(), pca(x, 6)(new).clamp(0, 1), atol=1e-5, rtol=0)


def test_a_curved_surface_is_charted_far_better_than_by_a_plane(generator):
    z = 2 * torch.rand(1500, 2, generator=generator) - 1
    turn = torch.linalg.qr(torch.randn(30, 30, generator=generator)).Q
    curved = torch.stack([z[:, 0], z[:, 1], z.square().sum(1), z.prod(1), (2 * z[:, 0]).sin()], 1)
    x = curved @ turn[:5]
    chart = Chart(*mlp(30, latent_dim=2, width=64, generator=0))
    solution = fit(chart, x[:1200], epochs=30, generator=0)
    assert solution.verdict.keeps_network
    assert solution.rows == 1200
    new = x[1200:]
    error = (chart.decode(chart.encode(new)) - new).square().mean()
    assert error < 0.1 * (pca(x[:1200], 2)(new) - new).square().mean()


def test_columns_with_units_of_their_own_are_each_scaled(generator):
    x = torch.randn(200, 4, generator=generator) * torch.tensor([1.0, 2.0, 1.0, 1e4])
    chart = Chart(*mlp(4, latent_dim=3, generator=0))
    fit(chart, x, epochs=2, generator=0)
    std = x.std(0, correction=0)
    torch.testing.assert_close(
        chart.decode(chart.encode(x)).double() / std, pca(x / std, 3)(x / std), atol=1e-4, rtol=0
    )
