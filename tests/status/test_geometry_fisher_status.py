"""Bad families and heads of the Fisher metric."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brenier.geometry.fisher import fisher_metric

Z = torch.tensor([[0.3, -0.2], [1.0, 0.5]], dtype=torch.float64)


def test_an_unknown_family():
    with pytest.raises(ValueError, match="family must be one of categorical, bernoulli, gaussian, got 'poisson'"):
        fisher_metric(nn.Identity(), "poisson")


def test_a_gaussian_head_has_pairs():
    with pytest.raises(ValueError, match="a mean and a logarithm each, got 3 outputs"):
        fisher_metric(nn.Linear(2, 3).double(), "gaussian").tensor(Z)


def test_a_classifier_is_called():
    with pytest.raises(TypeError, match="got str"):
        fisher_metric("resnet")


def test_more_coordinates_than_classes_less_one():
    with pytest.raises(ValueError, match="rank-deficient"):
        fisher_metric(nn.Linear(2, 2).double()).riemann(Z)


def test_a_classifier_with_creases():
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    with pytest.raises(ValueError, match=r"creases \(relu\)"):
        fisher_metric(net).riemann(Z)
    assert fisher_metric(net, smooth=5.0).riemann(Z).isfinite().all()


def test_training_mode():
    with pytest.raises(ValueError, match="BatchNorm1d is in training mode"):
        fisher_metric(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)).double()).tensor(Z)
