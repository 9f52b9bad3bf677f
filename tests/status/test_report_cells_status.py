"""What wrong input to the figures of a chart and its cells gets."""

import re

import pytest
import torch

from brenier.manifold.cells import relu_cells, surface_cells
from brenier.report.cells import cell_figure, chart_figure

X, F, Z = torch.eye(3), torch.tensor([[0, 1, 2]]), torch.eye(3)[:, :2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[:, :2], F, Z, X), "vertices must have shape (3, 3), got (3, 2)"),
        ((X, F, X, X), "codes must have shape (3, 2), got (3, 3)"),
        ((X, F, Z, X[:2]), "rebuilt must have shape (3, 3), got (2, 3)"),
        ((X, F[0], Z, X), "faces must have shape (f, 3), got (3,)"),
    ],
)
def test_charts(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        chart_figure(*arguments)


def test_cells():
    down, flat = torch.nn.Linear(3, 2), torch.nn.Linear(3, 1)
    plane = relu_cells(torch.nn.Linear(2, 3), [[0.0, 0.0], [1.0, 1.0]])
    two = surface_cells(down, X, torch.tensor([[0, 1, 2], [0, 2, 1]]))
    with pytest.raises(ValueError, match="surface must hold cells of these 1 faces, got one of face 1"):
        cell_figure(X, F, Z, two, plane)
    with pytest.raises(ValueError, match="surface must hold cells of a map to 2 codes, got 1"):
        cell_figure(X, F, Z, surface_cells(flat, X, F), plane)
