"""The numbers of the report against closed forms and known laws."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.datasets import load_digits

from brenier.report import Features, baselines, c2st, exact_copies, frechet, nn_ratio, precision_recall_density_coverage
from brenier.report.arrays import nearest


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def with_moments(x, mean, root):
    """The sample moved so that its mean and covariance are exactly `mean` and root rootᵀ."""
    x = x - x.mean(0)
    return mean + x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T @ root.T


def test_frechet_equals_the_formula_of_two_gaussians(rng):
    commuting = np.diag([1.0, 2.0, 0.5]), np.diag([3.0, 0.1, 0.5])
    a = with_moments(rng.normal(size=(500, 3)), np.zeros(3), commuting[0])
    b = with_moments(rng.normal(size=(400, 3)), np.array([1.0, -2.0, 0.0]), commuting[1])
    assert frechet(a, b).mean == pytest.approx(5 + 4 + 1.9**2, rel=1e-10)


def test_frechet_of_singular_covariances_is_exact(rng):
    a, b = rng.normal(size=(200, 4)) * [1, 1, 0, 0], rng.normal(size=(200, 4)) * [0, 0, 1, 1]
    expected = np.square(a.mean(0) - b.mean(0)).sum() + a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum()
    assert frechet(a, b).mean == pytest.approx(expected, rel=1e-8)
    assert frechet(a, a[::-1]).mean == pytest.approx(0, abs=1e-10)


def test_error_bar_of_frechet_is_the_spread_over_samples(rng):
    answers = [frechet(rng.normal(size=(500, 8)), 0.2 + 1.3 * rng.normal(size=(500, 8)), i) for i in range(60)]
    means, errors = np.array(answers).T
    assert 0.7 < errors.mean() / means.std() < 1.4


def test_frechet_of_paired_rows_knows_that_they_are_paired(rng):
    x = rng.normal(size=(500, 4))
    assert frechet(x, x + 1.0).sem < 1e-10 < 0.01 < frechet(x, rng.normal(size=(500, 4)) + 1.0).sem


def test_c2st_is_a_coin_on_equal_laws(rng):
    answer = c2st(rng.normal(size=(2000, 8)), rng.normal(size=(2000, 8)))
    assert abs(answer.mean - 0.5) < 3 * answer.sem
    assert answer.sem == pytest.approx(0.5 / np.sqrt(2000), rel=0.01)


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_c2st_reaches_the_bayes_accuracy_of_shifted_gaussians(rng, shift):
    a, b = rng.normal(size=(4000, 4)), rng.normal(size=(4000, 4)) + np.array([shift, 0, 0, 0])
    bayes = norm.cdf(shift / 2)
    assert bayes - 0.025 < c2st(a, b).mean < bayes + 0.02


def test_c2st_sees_a_hole_that_the_moments_do_not_show(rng):
    a = rng.choice([-1.0, 1.0], size=(1500, 2)) + 0.3 * rng.normal(size=(1500, 2))
    b = rng.normal(size=(1500, 2)) * a.std(0)
    assert frechet(a, b).mean < 0.02
    assert c2st(a, b).mean > 0.7


def test_nn_ratio_is_one_for_fresh_codes_and_zero_for_copies(rng):
    train, test, new = rng.normal(size=(2000, 6)), rng.normal(size=(800, 6)), rng.normal(size=(800, 6))
    answer = nn_ratio(new, test, train)
    assert abs(answer.mean - 1) < 3 * answer.sem < 0.1
    assert nn_ratio(train[:100] + 0.0, test, train).mean == 0
    half = np.concatenate([train[:400], new[:400]])
    assert nn_ratio(half, test, train).mean == pytest.approx(answer.mean / 2, rel=0.1)


def test_exact_copies_counts_rows_bit_for_bit(rng):
    train = rng.normal(size=(50, 3)).astype(np.float32)
    train[0] = [0.0, 1.0, 2.0]
    new = np.concatenate([train[:5], train[5:10] + 1e-3])
    new[0, 0] = -0.0
    assert exact_copies(new, train).mean == 0.5
    assert exact_copies(train + 1.0, train).mean == 0
    assert exact_copies(train + 1.0, train).sem > 0


def test_precision_and_recall_of_equal_disjoint_and_partial_sets(rng):
    x = rng.normal(size=(300, 5))
    assert all(value.mean == 1 for name, value in precision_recall_density_coverage(x, x).items() if name != "density")
    both = np.concatenate([x, x + 50.0])
    answer = precision_recall_density_coverage(both, x)
    assert (answer["precision"].mean, answer["recall"].mean, answer["coverage"].mean) == (1, 0.5, 0.5)
    answer = precision_recall_density_coverage(x, both)
    assert (answer["precision"].mean, answer["recall"].mean, answer["coverage"].mean) == (0.5, 1, 1)


def test_density_is_one_and_coverage_known_on_equal_laws(rng):
    draw = partial(rng.normal, size=(400, 3))
    answers = [precision_recall_density_coverage(draw(), draw()) for _ in range(25)]
    expected = {"density": 1.0, "coverage": 1 - 1 / 2**5}  # Naeem et al. (2020), for many rows and k = 5
    for name, value in expected.items():
        assert np.mean([answer[name].mean for answer in answers]) == pytest.approx(value, abs=0.02)
    for name in answers[0]:
        means, errors = np.array([answer[name] for answer in answers]).T
        assert 0.6 < errors.mean() / means.std() < 1.7, name


def test_nearest_agrees_with_all_distances(rng):
    a, b = rng.normal(size=(40, 3)) + 1e4, rng.normal(size=(70, 3)) + 1e4
    b[3] = a[0]
    expected = np.linalg.norm(a[:, None] - b, axis=2)
    distance, index = nearest(a, b, 4)
    np.testing.assert_array_equal(index, expected.argsort(1)[:, :4])
    np.testing.assert_array_equal(distance, np.sort(expected)[:, :4])
    assert distance[0, 0] == 0


def test_gaussian_samplers_keep_the_moments_of_the_codes(rng):
    codes = rng.normal(size=(3000, 2)) @ np.array([[2.0, 0.0], [1.5, 0.5]]) + 5
    for sampler, factor in ((baselines.gaussian, 1.0), (baselines.gmm, 1.0), (baselines.kde, 1.01)):
        drawn = sampler(codes, 20000, 0)
        np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.08)
        np.testing.assert_allclose(np.cov(drawn.T), factor * np.cov(codes.T), rtol=0.08)


def test_smote_draws_between_neighbours_and_copies_repeat_only_when_they_must():
    codes = np.array([[0.0], [1.0], [10.0], [11.0]])
    drawn = baselines.smote(codes, 500, 0, k=1)
    assert ((drawn <= 1) | (drawn >= 10)).all()
    assert sorted(baselines.copies(codes, 4, 0)[:, 0]) == [0, 1, 10, 11]
    assert len(baselines.copies(codes, 9, 0)) == 9


def test_classifier_features_tell_digits_apart():
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    features = Features.fit(images[:1400], digits.target[:1400])
    assert features.kind == "classifier"
    assert features.accuracy.mean > 0.95
    assert features.accuracy.sem < 0.03
    found = features.features(images)
    assert found.shape == (1797, 128)
    own = frechet(found[:700], found[700:1400]).mean
    assert frechet(found[:700], features.features(1 - images[700:1400])).mean > 10 * own


def test_pca_features_keep_distances_up_to_128_dimensions(rng):
    x = torch.from_numpy(rng.normal(size=(300, 20)))
    features = Features.fit(x)
    assert (features.kind, features.accuracy) == ("pca", None)
    torch.testing.assert_close(torch.cdist(features(x), features(x)), torch.cdist(x, x).float(), rtol=1e-4, atol=1e-2)
    assert Features.fit(torch.rand(150, 3, 10, 10)).features(torch.rand(7, 3, 10, 10)).shape == (7, 128)
