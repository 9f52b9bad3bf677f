"""What must not change the verdict on an encoder."""

from __future__ import annotations

import numpy as np
import pytest

from brenier.manifold.homeomorphism import homeomorphism

X = np.random.default_rng(0).random((800, 2))
MAPS = {
    "bent": lambda x: np.stack([x[:, 0], x[:, 1] + x[:, 0] ** 2], 1),
    "folded": lambda x: np.stack([np.abs(x[:, 0] - 0.5), x[:, 1]], 1),
}


@pytest.mark.parametrize("name", MAPS)
def test_affine_changes_of_the_codes_change_nothing(name):
    first = homeomorphism(MAPS[name], X)
    change = np.array([[40.0, 3.0], [0.0, -0.02]])
    second = homeomorphism(lambda x: MAPS[name](x) @ change + 5, X)
    assert first.holds == second.holds == (name == "bent")
    assert np.array_equal(first.folded, second.folded)


@pytest.mark.parametrize("name", MAPS)
def test_isometries_into_higher_spaces_change_nothing(name):
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((7, 2)))[0]
    first = homeomorphism(MAPS[name], X)
    second = homeomorphism(lambda x: MAPS[name](x @ turn), X @ turn.T)
    assert first.worst_ratio == pytest.approx(second.worst_ratio, rel=1e-6)
    assert np.array_equal(first.folded, second.folded)


def test_each_component_has_a_side_of_its_own():
    x = np.concatenate([X, X + np.array([3.0, 0.0])])
    mirrored = np.where(x[:, :1] > 2, x * [-1.0, 1.0] + [10.0, 0.0], x)
    for data in (x, np.concatenate([x, np.zeros((len(x), 1))], 1)):
        found = homeomorphism(lambda _: mirrored, data)
        assert found.components == 2
        assert found.holds


def test_two_components_on_one_code_collide():
    x = np.concatenate([X, X + np.array([3.0, 0.0])])
    found = homeomorphism(lambda x: np.where(x[:, :1] > 2, x - [3.0, 0.0], x), x + 1e-9)
    assert not found.holds
    assert found.worst_ratio < 1e-6
    assert abs(found.worst_pair[0] - found.worst_pair[1]) == len(X)


def test_what_is_misjudged_shrinks_to_the_crease_as_samples_get_denser():
    wrong = []
    for n in (300, 3000):
        x = np.random.default_rng(0).random((n, 2))
        left = x[:, 0] < 0.5
        folded = homeomorphism(lambda x: np.abs(x - [0.5, 0.0]), x).folded
        wrong.append(min((folded ^ left).mean(), (folded ^ ~left).mean()))
    assert wrong[1] < 0.5 * wrong[0] < 0.05
