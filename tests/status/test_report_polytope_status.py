"""What wrong input to the figures of the convex core gets: one sentence with the number."""

import re

import pytest
import torch

from brenier.measures import Gaussian, UniformBall, UniformCube
from brenier.report.polytope import brenier_surface, power_diagram
from brenier.transport import BrenierPotential


def u(n, d):
    return BrenierPotential(torch.rand(n, d, generator=torch.Generator().manual_seed(0)), torch.zeros(n))


SQUARE, CUBE = UniformCube(2), UniformCube(3)
CASES = [
    (u(8, 4), UniformCube(4), {}, "cells are drawn in 2 or 3 dimensions, got 4"),
    (u(8, 1), UniformCube(1), {}, "cells are drawn in 2 or 3 dimensions, got 1"),
    (u(8, 2), CUBE, {}, "source and potential must share a dimension, got 3 and 2"),
    (u(5001, 2), SQUARE, {}, "cells are drawn for at most 5,000 targets, got 5,001"),
    (u(8, 2), Gaussian(2), {}, "cells are drawn in a region, such as a cube, got Gaussian in 2 dimensions"),
    (u(8, 3), UniformBall(3), {}, "cells are drawn in a region, such as a cube, got UniformBall in 3 dimensions"),
    (u(8, 3), CUBE, {"height": 1.0}, "height must lie between 0 and 1, got 1"),
    (u(8, 3), CUBE, {"height": float("nan")}, "height must lie between 0 and 1, got nan"),
    (u(8, 2), SQUARE, {"height": 0.5}, "height is for cells in 3 dimensions, got 0.5 in 2"),
    (u(8, 2), SQUARE, {"modes": [0, 1, 1]}, "modes must have one entry per target, got shape (3,) for 8 targets"),
    (u(8, 2), SQUARE, {"facets": [0, 1]}, "facets must have shape (k, 2), got (2,)"),
    (u(8, 2), SQUARE, {"facets": [[0, 8]]}, "facets must name targets 0..7, got 0..8"),
]


@pytest.mark.parametrize("draw", [power_diagram, brenier_surface])
@pytest.mark.parametrize(("potential", "source", "options", "message"), CASES, ids=[case[3][:60] for case in CASES])
def test_wrong_values_get_a_sentence(draw, potential, source, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw(potential, source, **options)


def test_no_facets_no_modes_and_tensors_that_want_gradients_are_drawn():
    some = BrenierPotential(u(8, 2).points.requires_grad_(), torch.zeros(8).requires_grad_())
    for facets in (None, torch.zeros(0, 2, dtype=torch.long), []):
        left, right = power_diagram(some, SQUARE, facets=facets).axes
        assert left.get_title(loc="left") in {f"Noise in {k} cells" for k in range(1, 9)}
        assert right.get_title(loc="left") == "Their targets"
