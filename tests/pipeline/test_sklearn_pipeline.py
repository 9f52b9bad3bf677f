"""AE-OT among scikit-learn's estimators: its own checks, a pipeline, a search; callbacks and silence."""

import sys
import types

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from brenier import AEOT, data, report

WORDS = "it is refused by a sentence of our own, with the value and the place"
LEFT_OUT = {
    "check_complex_data": f"a wrong type is a TypeError here; {WORDS}",
    "check_dtype_object": f"Python objects are not looked into; {WORDS}",
    "check_estimators_empty_data_messages": WORDS,
    "check_fit2d_1sample": WORDS,
    "check_fit2d_predict1d": WORDS,
    "check_n_features_in_after_fitting": WORDS,
    "check_estimators_nan_inf": "it passes numbers as y, which are labels here: integers or strings",
    "check_transformer_preserve_dtypes": "codes have the precision of the network, float32",
}


@parametrize_with_checks(
    [AEOT(latent_dim=1, epochs=1, tol=0.9, max_samples=2000)], expected_failed_checks=lambda _: LEFT_OUT
)
def test_it_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def swiss(m=240):
    return data.swiss_roll(m, generator=torch.Generator().manual_seed(0)).values


def quick(**more):
    return AEOT(**{"epochs": 3, "tol": 0.9, "max_samples": 8000, **more})


def test_a_pipeline_scales_encodes_and_comes_back():
    x = swiss() * [1, 100, 0.01]
    line = make_pipeline(StandardScaler(), quick(latent_dim=2, epochs=20)).fit(x, aeot__callback=lambda *_: None)
    codes = line.transform(x)
    assert codes.shape == (240, 2)
    assert np.corrcoef(line.inverse_transform(codes)[:, 1], x[:, 1])[0, 1] > 0.8
    assert line.get_feature_names_out().tolist() == ["aeot0", "aeot1"]
    assert line.named_steps["aeot"].n_features_in_ == 3


def test_a_search_finds_the_dimension_in_which_new_samples_are_like_unseen_ones():
    wide = swiss(120) @ np.random.default_rng(0).normal(size=(3, 10))
    search = GridSearchCV(quick(epochs=20), {"latent_dim": [1, 3]}, cv=2, error_score="raise").fit(wide)
    assert search.best_params_ == {"latent_dim": 3}
    assert search.best_estimator_.sample(2).shape == (2, 10)


def test_the_score_is_that_of_samples_not_of_reconstructions():
    x = swiss()
    model = quick(chart="identity", tol=0.3, max_samples=None).fit(x[::2])
    good = model.score(x[1::2])
    assert -0.5 < good < 0.5
    assert model.score(x[1::2] + 20) < good - 1
    assert model.score(x[1::2], seed=3) == model.score(x[1::2], seed=3)


def test_energy_is_unbiased_and_its_error_covers():
    rng, away = np.random.default_rng(0), np.array([1.0, 0.0])
    found = [report.energy(rng.normal(size=(80, 2)), away + rng.normal(size=(60, 2))) for _ in range(200)]
    truth = report.energy(rng.normal(size=(4000, 2)), away + rng.normal(size=(4000, 2)))
    means = np.array([each.mean for each in found])
    assert abs(means.mean() - truth.mean) < 3 * (means.std() / np.sqrt(200) + truth.sem)
    covered = np.mean([abs(each.mean - truth.mean) < 2 * each.sem for each in found])
    assert 0.9 < covered <= 1
    assert np.mean([each.sem for each in found]) == pytest.approx(means.std(), rel=0.2)
    same = [report.energy(rng.normal(size=(50, 3)), rng.normal(size=(50, 3))).mean for _ in range(100)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 10


def test_a_callback_sees_every_entry_as_it_is_made_and_changes_nothing(capfd):
    seen = []
    model = quick(latent_dim=2).fit(swiss(), callback=lambda stage, entry: seen.append((stage, dict(entry))))
    assert capfd.readouterr() == ("", "")  # silent
    assert [entry for stage, entry in seen if stage == "manifold"][:-1] == model.training_.history
    checks = [entry for entry in model.transport_.history if "chi2" in entry]
    assert [entry for stage, entry in seen if stage == "transport"][:-1] == checks
    assert [stage for stage, entry in seen if set(entry) == {"seconds"}] == list(model.seconds_)
    assert (quick(latent_dim=2).fit(swiss()).sample(3) == model.sample(3)).all()
    assert clone(model)._callback is None


def test_a_callback_that_raises_ends_the_fit_and_is_gone():
    def full(*_):
        raise OSError("no room")

    model = quick(latent_dim=2).fit(swiss())
    with pytest.raises(OSError, match="no room"):
        model.fit(swiss(), callback=full)
    assert model._callback is None


def test_tensorboard_gets_every_number(monkeypatch, tmp_path):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def __enter__(self):
            return self

        def __exit__(self, *_):
            written.append(("closed", self.folder))

        def add_scalar(self, name, value, step):
            written.append((name, step))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with report.tensorboard(tmp_path) as watch:
        quick(latent_dim=2).fit(swiss(), callback=watch)
    assert ("manifold/loss", 3) in written
    assert ("transport/chi2", 1) in written
    assert written[-1] == ("closed", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'brenier\[tensorboard\]'"), report.tensorboard(tmp_path):
        pass
