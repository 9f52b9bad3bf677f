import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import brenier
from brenier import AEOT, data

KEYS = {"fid", "fid_rec", "c2st", "nn", "precision", "recall", "density", "coverage", "mse"}
KEYS |= {"relrms", "accepted", "singular"}


def ring(m=400, scale=1.0):
    return data.ring(m, generator=torch.Generator().manual_seed(0)).values * scale


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def model(digits):
    torch.set_num_threads(1)
    return AEOT(latent_dim=8, epochs=25).fit(digits.values, digits.labels)


@pytest.fixture(scope="module")
def ring_model():
    return AEOT(chart="identity").fit(ring())


def test_samples_look_like_the_data(model, digits):
    new = model.sample(50)
    assert new.shape == (50, 8, 8)
    assert new.dtype == digits.values.dtype
    assert 0 <= new.min() < 0.05
    assert 0.9 < new.max() <= 1
    assert model.transport_.converged
    assert len(model.modes_) == len(model.codes_) == len(digits)


def test_evaluate_has_every_number_and_they_are_good(model):
    numbers = model.evaluate(data.load("digits", split="test").values)
    assert set(numbers) == KEYS
    assert all(isinstance(value, brenier.Estimate) for value in numbers.values())
    assert abs(numbers["c2st"].mean - 0.5) < 3 * numbers["c2st"].sem + 0.02
    assert numbers["nn"].mean > 0.9
    assert numbers["accepted"].mean > 0.9
    assert numbers["relrms"].mean < 0.2
    assert numbers["mse"].mean < 0.02


def test_same_seed_same_samples_at_any_batch_size_and_after_loading(model, tmp_path):
    one, many = model.draw(64, seed=5, batch_size=1), model.draw(64, seed=5, batch_size=256)
    assert torch.equal(one.noise, many.noise)
    assert torch.equal(one.codes, many.codes)
    assert np.abs(model.sample(64, 5, batch_size=1) - model.sample(64, 5, batch_size=256)).max() <= 1e-5
    assert torch.equal(model.draw(10, seed=5).codes, many.codes[:10])
    loaded = brenier.load(model.save(tmp_path / "model"))
    again = loaded.draw(64, seed=5)
    assert torch.equal(again.noise, many.noise)
    assert torch.equal(again.codes, many.codes)
    assert np.abs(loaded.sample(64, 5) - model.sample(64, 5)).max() <= 1e-5
    assert loaded.get_params() == model.get_params()
    assert (loaded.modes_ == model.modes_).all()
    assert (loaded.labels_ == model.labels_).all()
    assert str(loaded.transport_) == str(model.transport_)


def test_noise_to_code_is_what_sample_uses(model):
    drawn = model.draw(32)
    codes, accepted = model.noise_to_code(drawn.noise)
    assert accepted.all()
    assert torch.equal(codes, drawn.codes)
    assert isinstance(model.noise_to_code(drawn.noise.numpy())[0], np.ndarray)


def test_a_label_gives_samples_of_that_label(model):
    assert (model.labels_of(model.sample(60, label=7)) == 7).mean() > 0.9


def test_novelty_tells_copies_test_samples_and_outliers_apart(model, digits):
    test = data.load("digits", split="test").values
    noise = np.random.default_rng(0).random((50, 8, 8)).astype(np.float32)
    assert model.novelty(digits.values[:50]).max() == 0
    assert 0.7 < model.novelty(test).mean() < 1.4
    assert model.novelty(noise).mean() > 1.5 * model.novelty(test).mean()


def test_interpolation_begins_and_ends_at_the_reconstructions(model, digits):
    a, b = digits.values[:3], digits.values[3:6]
    paths = model.interpolate(a, b, steps=5)
    assert paths.shape == (3, 5, 8, 8)
    np.testing.assert_allclose(paths[:, 0], model.inverse_transform(model.transform(a)), atol=1e-5)
    np.testing.assert_allclose(paths[:, -1], model.inverse_transform(model.transform(b)), atol=1e-5)


def test_reweight_moves_the_masses_without_training(digits):
    model = AEOT(latent_dim=6, epochs=3).fit(digits.values, digits.labels)
    before = {name: value.clone() for name, value in model.chart_.state_dict().items()}
    weights = np.where(model.labels_ == 3, 0.0, np.where(model.labels_ == 1, 3.0, 1.0))
    weights /= weights.sum()
    model.reweight(weights)
    assert all(torch.equal(value, before[name]) for name, value in model.chart_.state_dict().items())
    assert model.transport_.converged
    masses = model.cells_.masses
    assert masses[torch.from_numpy(model.labels_ == 3)].sum() == 0
    ones = torch.from_numpy(model.labels_ == 1)
    assert abs(masses[ones].sum().item() - weights[model.labels_ == 1].sum()) < 0.03
    with pytest.raises(ValueError, match="no wanted target has any mass"):
        model.sample(2, label=3)
    model.reweight(np.full(len(weights), 1 / len(weights)))
    assert model.transport_.converged
    assert (model.cells_.masses > 0).float().mean() > 0.99


def test_a_ring_of_codes_keeps_its_eight_modes_apart(ring_model):
    truth = data.ring(400, generator=torch.Generator().manual_seed(0))
    assert len(set(ring_model.modes_)) == 8
    drawn = ring_model.draw(4000)
    away = np.linalg.norm(drawn.codes.numpy()[:, None] - truth.truth["centres"], axis=2).min(1) / 0.02
    assert (away > 4).mean() <= 0.005
    assert drawn.accepted.mean >= 0.9
    one = ring_model.sample(50, mode=2)
    assert (ring_model.labels_of(one) == 2).all()


@pytest.mark.parametrize("scale", [0.1, 1000.0])
def test_no_scale_changes_a_verdict(ring_model, scale):
    other = AEOT(chart="identity").fit(ring(scale=scale))
    assert (other.modes_ == ring_model.modes_).all()
    assert torch.equal(other.singular_.facets, ring_model.singular_.facets)


def test_latent_dim_none_tries_from_the_intrinsic_dimension_on():
    """A roll has two dimensions; a short fit does not unroll it, and codes of three numbers are the roll itself."""
    roll = data.swiss_roll(600, generator=torch.Generator().manual_seed(0)).values
    model = AEOT(epochs=2).fit(roll)
    assert list(model.dimension_.scores) == [2, 3]
    assert model.codes_.shape[1] == model.dimension_.chosen == 3


def test_torch_in_torch_out_and_vectors_keep_their_scale():
    x = torch.from_numpy(ring()).float() * 50 + 7
    model = AEOT(latent_dim=2, epochs=30).fit(x)
    new = model.sample(200)
    assert isinstance(new, torch.Tensor)
    assert new.dtype == torch.float32
    assert (new.mean(0) - x.mean(0)).abs().max() < 15
    assert isinstance(model.encode(x), torch.Tensor)


def test_own_modules_are_trained_saved_and_loaded_with_them(tmp_path):
    x = data.swiss_roll(300, generator=torch.Generator().manual_seed(0)).values.astype(np.float32)
    pair = nn.Linear(3, 2), nn.Linear(2, 3)
    model = AEOT(chart=pair, epochs=5).fit(x)
    folder = model.save(tmp_path / "own")
    with pytest.raises(ValueError, match="chart of the user's own"):
        brenier.load(folder)
    loaded = brenier.load(folder, chart=(nn.Linear(3, 2), nn.Linear(2, 3)))
    np.testing.assert_allclose(loaded.sample(20), model.sample(20), rtol=1e-5, atol=1e-5)


def test_it_has_the_habits_of_an_estimator():
    model = AEOT(latent_dim=3, tol=0.3)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert copy.set_params(seed=4).seed == 4
    assert repr(model) == "AEOT(latent_dim=3, tol=0.3)"


def test_two_fits_with_one_seed_are_one_model():
    first, second = (AEOT(chart="identity", seed=3).fit(ring(200)) for _ in range(2))
    assert torch.equal(first.transport_.potential.heights, second.transport_.potential.heights)
    assert (first.sample(20) == second.sample(20)).all()


def test_an_unlabelled_model_evaluates_in_principal_components(ring_model):
    numbers = ring_model.evaluate(ring(200))
    assert set(numbers) == KEYS
    assert numbers["mse"].mean == 0
    assert ring_model.features().kind == "pca"


@pytest.mark.slow
def test_fashion_mnist_in_small():
    folder = "/usr/share/datasets/fashion-mnist"
    try:
        train, test = (data.load("fashion-mnist", split=split, limit=2000) for split in ("train", "test"))
    except FileNotFoundError:
        pytest.skip(f"Fashion-MNIST isn't installed in {folder}")
    model = AEOT(latent_dim=12, epochs=4).fit(train.values, train.labels)
    numbers = model.evaluate(test.values)
    assert model.sample(4).shape == (4, 28, 28)
    assert model.sample(4).dtype == np.uint8
    assert numbers["relrms"].mean < 0.2
    assert abs(numbers["c2st"].mean - 0.5) < 0.08
    assert numbers["nn"].mean > 0.85
