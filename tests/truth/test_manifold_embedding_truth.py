"""Quality of pictures against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness as reference

from brenier.manifold.embedding import continuity, embed, geodesic_stress, trustworthiness


@pytest.mark.parametrize("k", [1, 5, 12])
def test_trustworthiness_is_that_of_scikit_learn(k, generator):
    x = torch.randn(150, 6, generator=generator, dtype=torch.float64)
    for codes in (x[:, :2], torch.randn(150, 2, generator=generator, dtype=torch.float64)):
        assert trustworthiness(x, codes, k).mean == pytest.approx(reference(x, codes, n_neighbors=k), abs=1e-12)
        assert continuity(x, codes, k).mean == pytest.approx(reference(codes, x, n_neighbors=k), abs=1e-12)
        assert trustworthiness(x, codes, k).sem == 0


def test_a_swap_of_two_on_a_line_by_hand():
    """Codes 0 1 2 3 5 4 of six points of a line, k = 1: nobody's rank exceeds 2 but by one step."""
    x = torch.tensor([0.0, 1.0, 2.1, 3.3, 4.6, 6.0])[:, None]
    codes = x[[0, 1, 2, 3, 5, 4]]
    assert trustworthiness(x, codes, 1).mean == pytest.approx(reference(x, codes, n_neighbors=1), abs=1e-12)


def test_stated_error_of_a_draw_is_its_spread(generator):
    x = torch.randn(600, 5, generator=generator)
    codes = x[:, :2]
    truth = trustworthiness(x, codes, 8).mean
    draws = np.array([trustworthiness(x, codes, 8, max_samples=150, seed=seed) for seed in range(40)])
    assert abs(draws[:, 0].mean() - truth) < 3 * draws[:, 1].mean() / np.sqrt(40)
    assert 0.7 < draws[:, 1].mean() / draws[:, 0].std(ddof=1) < 1.4


def test_geodesic_stress_of_a_circle_cut_and_rolled():
    """Along a circle geodesics are arcs; its plane picture has chords 2 sin(a/2), at the best scale."""
    t = torch.linspace(0, 2 * torch.pi, 401, dtype=torch.float64)[:-1]
    circle = torch.stack([t.cos(), t.sin()], 1)
    a = np.linspace(0, np.pi, 100_001)
    arc, chord = a, 2 * np.sin(a / 2)
    truth = np.sqrt(1 - (arc @ chord) ** 2 / (arc @ arc) / (chord @ chord))
    found = geodesic_stress(circle, 7 * circle, 2)
    assert found.mean == pytest.approx(truth, rel=5e-3)
    assert found.sem < 1e-3


def test_pca_is_the_best_plane(generator):
    x = torch.randn(100, 2, generator=generator) @ torch.randn(2, 7, generator=generator)
    found = embed(x, "pca", k=5)
    assert found.trustworthiness.mean == pytest.approx(1, abs=1e-6)
    assert torch.allclose(torch.pdist(found.codes), torch.pdist(x), atol=1e-4)
    assert found.codes.dtype == torch.float32
    assert str(found).startswith("pca: trustworthiness 1 ± 0, continuity 1 ± 0, geodesic stress ")


@pytest.mark.parametrize(("method", "library"), [("tsne", "openTSNE"), ("umap", "umap")])
@pytest.mark.filterwarnings("ignore")
def test_pictures_by_libraries_keep_clusters(method, library, generator):
    pytest.importorskip(library)
    x = torch.randn(150, 5, generator=generator) + 20 * torch.arange(3.0).repeat(50)[:, None]
    found = embed(x.numpy(), method, k=5, seed=1)
    assert found.codes.shape == (150, 2)
    assert found.trustworthiness.mean > 0.9
    centres = np.stack([found.codes[i::3].mean(0) for i in range(3)])
    label = np.linalg.norm(found.codes[:, None] - centres, axis=2).argmin(1)
    assert (label == np.arange(150) % 3).all()
