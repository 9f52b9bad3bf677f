"""The latent dimension by evidence: enough for the data, no more than they have, the same for the same seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from brenier import AEOT, load, manifold
from brenier.ladder import Trials, climb, rungs


def flat(n, d, ambient, noise=0.0):
    """A Gaussian in a random d-plane, and noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) @ np.linalg.qr(rng.normal(size=(ambient, d)))[0].T
    return (x + noise * rng.normal(size=x.shape)).astype(np.float32)


def climbed(x, start, seed=0):
    def make(dim):
        return manifold.build({"kind": "mlp", "dim": x.shape[1], "latent_dim": dim}, generator=seed)

    held_out = torch.arange(0, len(x), 10)
    return climb(x, held_out, start, make, manifold.chart.as_network, torch.device("cpu"), seed)


@pytest.mark.parametrize(("start", "most"), [(1, 64), (5, 64), (13, 20), (40, 64)])
def test_rungs_rise_from_start_to_most_at_most_twofold(start, most):
    dims = rungs(start, most)
    assert dims[0] == start
    assert dims[-1] == most
    assert all(a < b <= 2 * a + 1 for a, b in itertools.pairwise(dims))


def test_too_few_dimensions_are_left_for_enough():
    """Eight directions of equal variance: two keep a quarter of it, and are seen to."""
    trials = climbed(flat(400, 8, 20), 2)
    assert trials.chosen == 11  # of 2, 4, 6, 11, 20
    assert trials.scores[2].mean > 5 * max(trials.scores[11])


def test_no_more_dimensions_are_taken_than_the_data_have():
    trials = climbed(flat(400, 3, 20, noise=0.01), 3)
    assert trials.chosen == 3
    assert len(trials.scores) > 1


def test_a_seed_decides():
    x = flat(200, 4, 10)
    one, other = climbed(x, 2), climbed(x, 2)
    assert one == other


def test_few_samples_take_the_intrinsic_dimension_untried():
    assert climbed(flat(40, 4, 10), 3) == Trials({}, 3)


def test_a_model_says_what_was_tried_and_keeps_it(tmp_path):
    model = AEOT(chart="network", epochs=2, max_samples=20_000).fit(flat(200, 4, 10))
    assert model.codes_.shape[1] == model.dimension_.chosen
    assert str(model.dimension_).startswith(f"{model.dimension_.chosen} taken; squared energy distance")
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").dimension_ == model.dimension_
