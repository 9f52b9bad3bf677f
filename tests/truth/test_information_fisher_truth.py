"""Fisher operators against dense sums over labels, closed forms, and the cases in which Kronecker factors are exact."""

from __future__ import annotations

import pytest
import torch
from architectures import KINDS, architecture
from torch import Tensor, nn

from brenier.information import Categorical, fisher

EXACT = ("dense", "woodbury", "cg")


def summed(model: nn.Module, x: Tensor, likelihood: str) -> Tensor:
    """1/M Σ over labels y of p(y) ∇log p(y) ∇log p(y)ᵀ, one backward pass for each label, by reverse mode alone."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    parameters = list(model.parameters())

    def gradient(value: Tensor) -> Tensor:
        pulled = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in pulled])

    outputs = model(x)
    total = torch.zeros(2 * [sum(p.numel() for p in parameters)], dtype=torch.float64)
    for row in outputs.reshape(-1, outputs.shape[-1] if likelihood == "categorical" else 1):
        if likelihood == "gaussian":
            logs, weights = row, [1.0]
        else:
            logs = (
                row.log_softmax(0) if likelihood == "categorical" else nn.functional.logsigmoid(torch.cat([row, -row]))
            )
            weights = logs.detach().exp().tolist()
        for log, weight in zip(logs, weights, strict=True):
            score = gradient(log)
            total += weight * torch.outer(score, score)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    return total / (outputs[..., 0].numel() if likelihood == "categorical" else len(outputs))


@pytest.mark.parametrize("kind", KINDS)
def test_every_structure_is_the_sum_over_labels(kind):
    model, x, likelihood = architecture(kind)
    truth = summed(model, x, likelihood)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    v = torch.randn(len(truth), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    solution = torch.linalg.solve(truth + 0.1 * torch.eye(len(truth), dtype=torch.float64), v)
    for structure in EXACT:
        found = fisher(model, x, likelihood=likelihood, structure=structure, tol=1e-12)
        torch.testing.assert_close(found @ v, truth @ v, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(found.solve(v, 0.1), solution, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.dense(), truth, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(
        fisher(model, x, likelihood=likelihood, structure="diagonal").diagonal(), truth.diagonal()
    )
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_modules_are_those_of_the_matrix(kind):
    model, x, likelihood = architecture(kind)
    truth, found = summed(model, x, likelihood), fisher(model, x, likelihood=likelihood, structure="block")
    owners = [name.rpartition(".")[0] for name, p in model.named_parameters() for _ in range(p.numel())]
    same = torch.tensor([[a == b for b in owners] for a in owners])
    torch.testing.assert_close(found.dense(), truth * same, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("structure", ["dense", "woodbury", "block", "diagonal", "kfac", "ekfac"])
@pytest.mark.parametrize("kind", ["convolution", "decoder", "embedding"])
def test_a_structure_agrees_with_its_own_dense_matrix(kind, structure, generator):
    model, x, likelihood = architecture(kind)
    found = fisher(model, x, likelihood=likelihood, structure=structure)
    matrix, v = found.dense(), torch.randn(found.shape[0], dtype=torch.float64, generator=generator)
    torch.testing.assert_close(found @ v, matrix @ v)
    torch.testing.assert_close(
        found.solve(v, 0.3), torch.linalg.solve(matrix + 0.3 * torch.eye(len(v), dtype=torch.float64), v)
    )
    projected = matrix @ torch.linalg.pinv(matrix, rtol=1e-10, hermitian=True) @ v
    torch.testing.assert_close(matrix @ found.solve(v), projected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.diagonal(), matrix.diagonal())
    assert found.trace().mean == pytest.approx(float(matrix.trace()))
    torch.testing.assert_close(found.eigenvalues(5), torch.linalg.eigvalsh(matrix).flip(0)[:5])
    mixed = found @ {name: torch.ones(shape, dtype=torch.float64) for name, shape in found.shapes_of.items()}
    torch.testing.assert_close(torch.cat([mixed[name].flatten() for name in found.names]), matrix.sum(1))


def test_logistic_regression_has_its_textbook_matrix(generator):
    x = torch.randn(30, 3, dtype=torch.float64, generator=generator)
    model = nn.Linear(3, 1, bias=False).double()
    p = torch.sigmoid(x @ model.weight.detach().T)
    textbook = x.T @ (p * (1 - p) * x) / 30
    torch.testing.assert_close(fisher(model, x, likelihood="bernoulli").dense(), textbook)


def test_classes_on_another_axis(generator):
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=generator)
    model = nn.Conv1d(3, 4, 1).double()

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = model

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).movedim(1, -1)

    for structure in ("dense", "cg"):
        moved = fisher(Last(), x, structure=structure).dense()
        torch.testing.assert_close(fisher(model, x, likelihood=Categorical(axis=1), structure=structure).dense(), moved)


@pytest.mark.parametrize("structure", ["kfac", "ekfac"])
class TestKroneckerFactorsAreExact:
    """Where inputs and gradients are independent: one sample, or gradients that don't depend on the sample."""

    def test_for_one_sample(self, structure):
        model, x, _ = architecture("perceptron")
        blocks = fisher(model, x[:1], structure="block").dense()
        torch.testing.assert_close(fisher(model, x[:1], structure=structure).dense(), blocks)

    def test_for_a_deep_linear_network_with_gaussian_answers(self, structure, generator):
        model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5), nn.Linear(5, 2)).double()
        x = torch.randn(20, 4, dtype=torch.float64, generator=generator)
        blocks = fisher(model, x, likelihood="gaussian", structure="block").dense()
        torch.testing.assert_close(fisher(model, x, likelihood="gaussian", structure=structure).dense(), blocks)

    def test_for_a_convolution_by_one_pixel(self, structure, generator):
        model = nn.Conv2d(2, 3, 1).double()
        x = torch.randn(6, 2, 2, 2, dtype=torch.float64, generator=generator)
        blocks = fisher(model, x, likelihood="gaussian", structure="block").dense()
        torch.testing.assert_close(fisher(model, x, likelihood="gaussian", structure="kfac").dense(), blocks)


def test_a_transposed_convolution_by_one_pixel(generator):
    model = nn.ConvTranspose2d(2, 3, 1, bias=False).double()
    x = torch.randn(6, 2, 2, 2, dtype=torch.float64, generator=generator)
    dense, factored = (fisher(model, x, likelihood="gaussian", structure=s) for s in ("dense", "kfac"))
    assert factored.coverage == {"weight": "kronecker"}
    torch.testing.assert_close(factored.dense(), dense.dense())


def test_what_no_structure_covers_is_named():
    model, x, likelihood = architecture("attention")
    coverage = fisher(model, x, likelihood=likelihood, structure="kfac").coverage
    diagonal = {name for name, kind in coverage.items() if kind == "diagonal"}
    assert diagonal == {name for name in coverage if name.startswith(("first", "second", "attention"))}
    model, x, likelihood = architecture("tied")
    assert fisher(model, x, structure="kfac").coverage["embedding.weight"] == "diagonal"


def test_the_empirical_matrix_is_another(generator):
    model, x, _ = architecture("perceptron")
    y = torch.tensor([0, 1, 2, 0, 1])
    exact, empirical = fisher(model, x), fisher(model, x, y, fisher="empirical")
    scores = []
    for i in range(5):
        loss = nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        scores.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    torch.testing.assert_close(empirical.dense(), sum(torch.outer(s, s) for s in scores) / 5)
    assert (empirical.dense() - exact.dense()).norm() > 0.5 * exact.dense().norm()


def test_it_is_the_same_in_expectation_where_the_model_is_right(generator):
    model, x, _ = architecture("perceptron")
    exact = fisher(model, x).dense()
    with torch.no_grad():
        p = model(x).softmax(1)
    total = torch.zeros_like(exact)
    for y in torch.cartesian_prod(*[torch.arange(3)] * 5):
        probability = p[torch.arange(5), y].prod()
        total += probability * fisher(model, x, y, fisher="empirical").dense()
    torch.testing.assert_close(total, exact)


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "gaussian"])
def test_drawn_labels_converge_at_the_rate_of_samples(likelihood):
    model, x, _ = architecture("perceptron")
    exact = fisher(model, x, likelihood=likelihood).dense()

    def error(draws: int, seed: int) -> float:
        drawn = fisher(model, x, likelihood=likelihood, fisher="mc", draws=draws, generator=seed, structure="dense")
        return float((drawn.dense() - exact).norm() / exact.norm())

    few, many = (torch.tensor([error(draws, seed) for seed in range(8)]).square().mean().sqrt() for draws in (16, 1024))
    assert 5 < few / many < 13
    matrices = [fisher(model, x, likelihood=likelihood, fisher="mc", draws=64, generator=s).dense() for s in range(12)]
    mean, sem = torch.stack(matrices).mean(0), torch.stack(matrices).std(0) / 12**0.5
    assert ((mean - exact).abs() <= 4.5 * sem + 1e-12).double().mean() > 0.99


def test_structures_of_drawn_labels_agree():
    model, x, likelihood = architecture("decoder")
    dense, woodbury, products = (
        fisher(model, x, likelihood=likelihood, fisher="mc", draws=3, generator=5, structure=s).dense() for s in EXACT
    )
    torch.testing.assert_close(woodbury, dense)
    torch.testing.assert_close(products, dense)


def test_estimates_of_products_have_honest_errors():
    model, x, _ = architecture("residual")
    dense, products = fisher(model, x, structure="dense"), fisher(model, x, structure="cg")
    truth = dense.trace().mean
    few = products.trace(18)
    assert 0 < few.sem < truth
    assert abs(few.mean - truth) < 4 * few.sem
    assert products.trace(60).mean == pytest.approx(truth, rel=1e-6)
    torch.testing.assert_close(products.eigenvalues(4), dense.eigenvalues(4))
    edges = torch.tensor([-1e-6, 1e-3, 1e-1, 1e2], dtype=torch.float64)
    (counts, zero), (estimates, sems) = dense.spectrum(edges), products.spectrum(edges)
    assert counts.sum() == dense.shape[0]
    assert not zero.any()
    assert ((estimates - counts).abs() <= 4 * sems + 1e-6).all()


def test_curvlinops_has_the_same_matrices():
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops, an oracle of the bench environment, is missing")
    model, x, _ = architecture("convolution")
    y, loss = torch.tensor([0, 1, 2, 1]), nn.CrossEntropyLoss()
    operator = curvlinops.GGNLinearOperator(model, loss, list(model.parameters()), [(x, y)])
    eye = torch.eye(fisher(model, x).shape[0], dtype=torch.float64)
    torch.testing.assert_close(fisher(model, x).dense(), operator @ eye)
    empirical = curvlinops.EFLinearOperator(model, loss, list(model.parameters()), [(x, y)])
    torch.testing.assert_close(fisher(model, x, y, fisher="empirical").dense(), empirical @ eye)
