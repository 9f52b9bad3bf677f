"""The page of a model says what was measured."""

import numpy as np
import pytest
import torch

import brenier
from brenier import data, report


@pytest.fixture(scope="module")
def model():
    ring = data.ring(400)
    return brenier.AEOT(chart="identity").fit(ring)


def test_findings_and_numbers_are_those_of_evaluate(model, tmp_path):
    test = data.ring(200, generator=torch.Generator().manual_seed(9))
    written = model.report(tmp_path / "page.html", test)
    assert written.path == tmp_path / "page.html"
    evaluated = model.evaluate(test)
    assert {name: written.numbers["AE-OT"][name] for name in evaluated} == evaluated
    assert list(written.numbers) == ["AE-OT", "Gaussian", "GMM-30", "copies"]
    assert written.numbers["copies"]["nn"].mean == 0
    assert written.numbers["AE-OT"]["copies"].mean == 0
    said = {finding.number: finding.sentence for finding in written.findings}
    assert said["8 modes"].count(",") == 7
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for finding in written.findings:
        assert finding.sentence.split(":")[0].replace("'", "&#39;") in page
    for heading in ("New samples", "Nearest training samples", "The codes", "Novelty", "Training", "peak memory"):
        assert heading in page


def test_the_held_out_rows_judge_where_no_others_are_given(model, tmp_path):
    written = model.report(tmp_path / "page.html")
    assert written.numbers["AE-OT"]["nn"].mean > 0
    model.save(tmp_path / "model")
    loaded = brenier.load(tmp_path / "model")
    with pytest.raises(ValueError, match="x_test must be given"):
        loaded.report(tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()
    with pytest.raises(FileNotFoundError):
        loaded.report(tmp_path / "none" / "page.html", data.ring(50))


def test_every_number_has_its_meaning(model):
    numbers = {**model.evaluate(data.ring(50).values + 1e-3), "copies": None}
    assert set(report.MEANING) == set(numbers)


def test_verdicts_follow_the_numbers():
    from brenier.report.findings import _likeness, _modes, _newness, _percent
    from brenier.solution import Estimate

    assert "as new as" in _newness(Estimate(1.02, 0.01))
    assert "perhaps nearer to known" in _newness(Estimate(0.8, 0.1))
    assert "are nearer to known" in _newness(Estimate(0.5, 0.01))
    assert "are farther out" in _newness(Estimate(1.7, 0.01))
    assert "no difference" in _likeness(Estimate(0.51, 0.01))
    assert "slight" in _likeness(Estimate(0.53, 0.01))
    assert "can tell" in _likeness(Estimate(0.8, 0.01))
    assert _modes(np.array([0, 0, 1]), 2, None) == (
        "2 modes",
        "The training codes gather around peaks of density of 2, 1 samples. Gaps lie between them.",
    )
    assert _modes(np.array([0, 0, 1]), 1, np.array(["a", "b", "b"]))[1].endswith(
        "Valleys deeper than chance lie between them. 67% of the samples have the commonest label of their mode."
    )
    assert "and gaps between 2 groups." in _modes(np.array([0, 0, 1, 2]), 2, None)[1]
    assert _percent(Estimate(0.9945, 0.0039)) == "99.45% ± 0.39"
