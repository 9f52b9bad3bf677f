"""Networks in half precision: their cells are lost in rounding, which is said."""

from __future__ import annotations

import pytest
import torch

from brenier import manifold


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_networks_in_half_precision_have_no_cells_and_say_so(dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(2, 12), torch.nn.ReLU(), torch.nn.Linear(12, 2)).to(dtype)
    rows, box = torch.zeros(3, 2, dtype=dtype), [[-1.0, -1.0], [1.0, 1.0]]
    for call in (
        lambda: manifold.relu_cells(network, box),
        lambda: manifold.activation_codes(network, rows),
        lambda: manifold.affine_maps(network, rows),
        lambda: manifold.crossings(network, rows, rows + 1),
        lambda: manifold.local_complexity(network, rows, 1.0, generator=0),
    ):
        with pytest.raises(ValueError, match=rf"must be float32 or float64, got {dtype}, too coarse .* network.float"):
            call()
    assert len(manifold.relu_cells(network.float(), box)) > 4
