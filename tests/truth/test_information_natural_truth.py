"""Natural gradient where its steps are known: linear models in one step, Fisher scoring, the formula itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from architectures import architecture
from torch import nn

from brenier.information import NaturalGradient, fisher

EXACT = ("dense", "woodbury", "cg")


def stepped(model, x, y, loss, **settings):
    optimiser = NaturalGradient(model, tol=1e-14, max_iterations=500, **settings)
    loss(model(x), y).backward()
    optimiser.step()
    return optimiser


@pytest.mark.parametrize("structure", [*EXACT, "kfac", "block"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "samples"])
def test_a_linear_gaussian_model_is_solved_in_one_step(structure, reduction, generator):
    x, y = (torch.randn(40, n, dtype=torch.float64, generator=generator) for n in (3, 2))
    loss = {
        "mean": F.mse_loss,
        "sum": lambda o, y: F.mse_loss(o, y, reduction="sum"),
        "samples": lambda o, y: F.mse_loss(o, y, reduction="sum") / 80,
    }[reduction]
    model = nn.Linear(3, 2).double()
    stepped(
        model, x, y, loss, likelihood="gaussian", reduction=reduction, fisher="exact", structure=structure, damping=0.0
    )
    best = torch.linalg.lstsq(torch.cat([x, torch.ones(40, 1)], 1), y).solution.T
    torch.testing.assert_close(torch.cat([model.weight, model.bias[:, None]], 1).detach(), best)


@pytest.mark.parametrize("structure", EXACT)
def test_logistic_regression_is_fisher_scoring(structure, generator):
    x = torch.randn(60, 3, dtype=torch.float64, generator=generator)
    y = (
        torch.rand(60, 1, generator=generator) < torch.sigmoid(x @ torch.tensor([[1.0], [-2.0], [0.5]]).double())
    ).double()
    model = nn.Linear(3, 1, bias=False).double()
    optimiser = NaturalGradient(model, likelihood="bernoulli", structure=structure, damping=0.0, tol=1e-14)
    beta = model.weight.detach().T.clone()
    for _ in range(6):
        p = torch.sigmoid(x @ beta)
        weight = p * (1 - p)
        working = x @ beta + (y - p) / weight
        beta = torch.linalg.solve(x.T @ (weight * x), x.T @ (weight * working))
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(model(x), y).backward()
        optimiser.step()
        torch.testing.assert_close(model.weight.detach().T, beta, rtol=1e-7, atol=1e-8)
    assert model.weight.grad is not None
    optimiser.zero_grad()
    F.binary_cross_entropy_with_logits(model(x), y).backward()
    assert model.weight.grad.norm() < 1e-9


@pytest.mark.parametrize("structure", [*EXACT, "block", "diagonal", "kfac", "ekfac"])
@pytest.mark.parametrize("damping", [0.05, 1.0])
def test_the_step_is_the_formula(structure, damping):
    model, x, _ = architecture("convolution")
    y = torch.tensor([0, 1, 2, 1])
    parameters = torch.cat([p.detach().flatten() for p in model.parameters()])
    operator = fisher(model, x, structure=structure, tol=1e-14)
    gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    flat = torch.cat([g.flatten() for g in gradients])
    expected = parameters - 0.5 * operator.solve(flat, damping)
    stepped(model, x, y, F.cross_entropy, fisher="exact", structure=structure, damping=damping, lr=0.5)
    found = torch.cat([p.detach().flatten() for p in model.parameters()])
    if structure in ("kfac", "ekfac"):  # factored damping; eigenvalues that start as products
        cosine = F.cosine_similarity(found - parameters, expected - parameters, 0)
        assert cosine > 0.9
        return
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_targets_come_back_from_the_gradient():
    """Label smoothing and probabilities are targets, too: the damping's loss is the loss that was asked for."""
    model, x, _ = architecture("perceptron")
    targets = torch.tensor([[0.7, 0.2, 0.1]] * 5, dtype=torch.float64)
    optimiser = NaturalGradient(model, structure="dense")
    for _ in range(30):
        optimiser.zero_grad()
        F.cross_entropy(model(x), targets).backward()
        optimiser.step()
    torch.testing.assert_close(model(x).softmax(1).detach(), targets, atol=1e-3, rtol=0)


def test_parts_of_a_batch_are_the_batch():
    """Two backward passes before a step, each half of the loss."""
    states = []
    for parts in (1, 2):
        model, x, _ = architecture("convolution")
        y = torch.tensor([0, 1, 2, 1])
        optimiser = NaturalGradient(model, structure="dense", damping=0.1)
        for rows in torch.arange(4).chunk(parts):
            (F.cross_entropy(model(x[rows]), y[rows]) / parts).backward()
        optimiser.step()
        states.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*states)
