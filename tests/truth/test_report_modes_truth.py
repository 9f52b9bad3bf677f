"""The tree of modes as it is drawn: who stands beside whom, how high, with which image and words."""

from __future__ import annotations

import numpy as np

from brenier.report import maps
from brenier.report.modes import MOST, branches, mode_tree

RNG = np.random.default_rng(0)
BIRTH, SADDLE, PARENT = [9.0, 8.0, 7.0, 4.0], [-np.inf, 3.0, 6.0, -np.inf], [0, 0, 1, 3]
MODES = np.array([0] * 50 + [1] * 30 + [2] * 15 + [3] * 5)


def test_branches_stand_beside_what_they_join():
    """2 joins 1 high up, 1 joins 0 low down, 3 joins none."""
    found = branches(BIRTH, SADDLE, PARENT, 4)
    assert [(b.mode, b.x, b.parent, b.high) for b in found] == [(0, 0, 0, 9), (1, 1, 0, 8), (2, 2, 1, 7), (3, 3, 3, 4)]
    assert [b.low for b in found][1:3] == [3.0, 6.0]
    assert np.isnan([found[0].low, found[3].low]).all()


def test_a_mode_whose_parent_is_not_drawn_joins_the_next_one_up():
    """2 ends in 3 at height 5, 3 in 0 at 2: without 3 it joins 0 at 2; without all above it, it stands alone."""
    found = branches([9.0, 8.0, 4.0, 7.0], [-np.inf, 1.0, 5.0, 2.0], [0, 0, 3, 0], 3)
    assert [(b.mode, b.parent) for b in found] == [(0, 0), (2, 0), (1, 0)]
    assert found[1].low == 2.0
    alone = branches([4.0, 9.0], [2.0, -np.inf], [1, 1], 1)
    assert alone[0].parent == 0
    assert np.isnan(alone[0].low)


def test_the_figure_has_a_line_an_image_and_words_for_each_mode():
    labels = np.where(MODES == 2, "seven", "one")
    figure = mode_tree(BIRTH, SADDLE, PARENT, MODES, RNG.random((4, 8, 8)), labels)
    axes = figure.axes[0]
    assert len(axes.child_axes) == 4
    words = [text.get_text().split("\n") for text in axes.get_xticklabels()]
    assert [line[:2] for line in words] == [["0", "50%"], ["1", "30%"], ["2", "15%"], ["3", "5%"]]
    assert [line[2:] for line in words] == [["one", "100%"], ["one", "100%"], ["seven", "100%"], ["one", "100%"]]
    heights = [line.get_ydata().max() for line in axes.lines if line.get_linewidth() == 2.2]
    assert heights == [9, 8, 7, 4]


def test_vectors_and_many_modes_are_drawn_without_images():
    modes = np.repeat(np.arange(30), 4)
    figure = mode_tree(np.arange(30, 0, -1.0), [-np.inf] + [0.0] * 29, np.zeros(30, int), modes, RNG.random((24, 5)))
    assert not figure.axes[0].child_axes
    assert len(figure.axes[0].get_xticklabels()) == MOST
    assert figure.axes[0].get_title(loc="left") == "24 modes, the heaviest of 30"


def test_a_map_of_more_modes_than_colours_numbers_them():
    codes, modes = RNG.normal(size=(400, 3)), np.arange(400) % 35
    assert len(maps.code_map(codes, modes).axes[0].texts) == 30
    assert not maps.code_map(codes, modes % 9).axes[0].texts
    assert not maps.code_map(codes, modes, what="label").axes[0].texts
