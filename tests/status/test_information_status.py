"""Bad input of Fisher operators and of natural gradient: one sentence each."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from brenier.information import NaturalGradient, fisher

X = torch.tensor([[0.1, -0.4], [1.0, 0.3], [-0.7, 0.8]])
Y = torch.tensor([0, 1, 2])


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))


def loss(model: nn.Module) -> torch.Tensor:
    return F.cross_entropy(model(X), Y)


class TestOperator:
    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"likelihood": "poisson"}, "likelihood must be one of categorical, bernoulli, gaussian, got 'poisson'"),
            ({"fisher": "true"}, "fisher must be one of exact, mc, empirical, got 'true'"),
            ({"structure": "full"}, "structure must be one of auto, dense, .* got 'full'"),
            ({"damping": -1.0}, "damping must be 0 or positive and finite, got -1.0"),
            ({"draws": 0}, "draws must be at least 1, got 0"),
            ({"fisher": "empirical"}, "got fisher='empirical' without y"),
            ({"y": Y}, "got fisher='exact' with y"),
            ({"y": Y[:2], "fisher": "empirical"}, r"classes must have the shape \(3,\), got \(2,\)"),
            ({"y": Y + 1, "fisher": "empirical"}, "classes must be from 0 to 2, got 1 to 3"),
            ({"y": X, "fisher": "empirical", "likelihood": "gaussian"}, r"outputs' shape \(3, 3\), got \(3, 2\)"),
        ],
    )
    def test_wrong_values(self, settings, sentence):
        with pytest.raises(ValueError, match=sentence):
            fisher(network(), X, **settings)

    def test_one_class(self):
        with pytest.raises(ValueError, match=r"logits \(m, ..., C\) with C ≥ 2, got \(3, 1\)"):
            fisher(nn.Linear(2, 1), X)

    def test_no_module(self):
        with pytest.raises(TypeError, match=r"model must be a torch module, got str"):
            fisher("net", X)

    def test_several_outputs(self):
        with pytest.raises(TypeError, match=r"the model must return one tensor, got tuple"):
            fisher(nn.LSTM(2, 3), X)

    def test_nothing_is_free(self):
        with pytest.raises(ValueError, match=r"no parameter that requires a gradient"):
            fisher(network().requires_grad_(False), X)

    def test_outputs_that_are_not_finite(self):
        with pytest.raises(ValueError, match=r"the outputs of the model are not finite"):
            fisher(network(), X * torch.inf)

    def test_several_dtypes(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
        with pytest.raises(
            ValueError, match=r"one dtype and device, got torch.float32 on cpu for 0.weight and torch.float64"
        ):
            fisher(model, X)

    def test_parameters_in_half_precision(self):
        with pytest.raises(ValueError, match=r"float32 or float64 .* got torch.bfloat16 for 0.weight"):
            fisher(network().bfloat16(), X.bfloat16())

    def test_vectors_that_do_not_fit(self):
        operator = fisher(network(), X)
        with pytest.raises(ValueError, match=r"v must be \(27,\) or \(27, k\), got \(5,\)"):
            operator @ torch.ones(5)
        with pytest.raises(TypeError, match=r"v must be a tensor or a dict of tensors, got list"):
            operator @ [1.0]
        with pytest.raises(ValueError, match=r"v must name the parameters 0.weight, .* got 0.bias"):
            operator @ {"0.bias": torch.ones(4)}
        values = {name: torch.ones(shape) for name, shape in operator.shapes_of.items()}
        with pytest.raises(ValueError, match=r"v\['0.bias'\] must have the shape \(4,\), got \(2,\)"):
            operator @ {**values, "0.bias": torch.ones(2)}
        with pytest.raises(ValueError, match=r"k must be at most 27, got 28"):
            operator.eigenvalues(28)
        with pytest.raises(ValueError, match=r"edges must be two or more rising numbers"):
            operator.spectrum(torch.tensor([1.0, 0.0]))

    def test_a_dense_matrix_that_is_too_large(self):
        with pytest.raises(ValueError, match=r"may have 20000 parameters, got 40300: take structure='cg' or 'kfac'"):
            fisher(nn.Linear(402, 100), torch.ones(2, 402), structure="dense")

    def test_conjugate_gradients_that_do_not_arrive(self):
        operator = fisher(network(), X, structure="cg", max_iterations=1)
        with pytest.raises(ArithmeticError, match=r"left a residual of .* after 1 iterations"):
            operator.solve(torch.ones(27), 1e-6)

    def test_a_damping_that_is_lost_in_rounding(self):
        operator = fisher(network(), 1e3 * X, structure="dense")
        with pytest.raises(ArithmeticError, match=r"not positive definite in torch.float32: raise the damping"):
            operator.solve(torch.ones(27), 1e-30)

    @pytest.mark.parametrize("structure", ["dense", "woodbury", "block", "diagonal", "kfac", "ekfac"])
    def test_a_singular_matrix_without_damping_has_its_pseudo_inverse(self, structure):
        model = network().double()
        operator = fisher(model, X.double(), structure=structure)
        gradient = torch.cat(
            [g.flatten() for g in torch.autograd.grad(F.cross_entropy(model(X.double()), Y), list(model.parameters()))]
        )
        solution = operator.solve(gradient)
        assert solution.isfinite().all()
        assert not operator.solve(torch.zeros(27, dtype=torch.float64)).any()

    def test_a_matrix_of_zeros(self):
        dead = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3, bias=False))
        with torch.no_grad():
            dead[0].bias.fill_(-100)
        for structure in ("dense", "woodbury", "diagonal", "kfac", "ekfac"):
            assert not fisher(dead, X, structure=structure).solve(torch.ones(12)).any()


class TestOptimiser:
    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"lr": -1.0}, "lr must be 0 or positive and finite, got -1.0"),
            ({"damping": -1.0}, "damping must be 0 or positive and finite, got -1.0"),
            ({"damping": "auto"}, "damping must be 'lm' or a number, got 'auto'"),
            ({"momentum": 0.9}, "damping='lm' chooses step and momentum"),
            ({"reduction": "average"}, "reduction must be one of mean, samples, sum, got 'average'"),
            ({"fisher": "true"}, "fisher must be one of auto, exact, mc, empirical, got 'true'"),
            ({"factor_every": 0}, "factor_every must be at least 1, got 0"),
            ({"kl_clip": 0.0, "damping": 1.0}, "kl_clip must be positive, got 0.0"),
            ({"params": [nn.Parameter(torch.ones(2))]}, "params must be parameters of the model, got 1 that are not"),
        ],
    )
    def test_wrong_values(self, settings, sentence):
        with pytest.raises(ValueError, match=sentence):
            NaturalGradient(network(), **settings)

    def test_a_tensor_that_is_no_leaf(self):
        model = network()
        with pytest.raises(ValueError, match=r"non-leaf"):
            NaturalGradient(model, [model[0].weight * 2])

    def test_a_step_before_everything(self):
        with pytest.raises(RuntimeError, match=r"no parameter has a gradient: call loss.backward\(\) before step\(\)"):
            NaturalGradient(network()).step()

    def test_a_second_step_without_a_forward_pass(self):
        model = network()
        optimiser = NaturalGradient(model)
        loss(model).backward()
        optimiser.step()
        with pytest.raises(RuntimeError, match=r"no forward pass of the model is part of a loss.backward"):
            optimiser.step()

    def test_a_forward_pass_that_no_loss_was_made_of(self):
        model = network()
        optimiser = NaturalGradient(model)
        model(X)
        model[2](model[0](X)).sum().backward()
        with pytest.raises(RuntimeError, match=r"no forward pass of the model"):
            optimiser.step()

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_a_gradient_that_is_not_finite(self, value):
        model = network()
        optimiser = NaturalGradient(model)
        loss(model).backward()
        model[2].bias.grad[1] = value
        held = model[2].weight.detach().clone()
        with pytest.raises(ValueError, match=r"the gradient of 2.bias is not finite"):
            optimiser.step()
        assert torch.equal(model[2].weight, held)

    def test_another_loss_than_the_likelihoods(self):
        for wrong, sentence in (
            (lambda o: F.cross_entropy(o, Y, reduction="sum"), r"3 times the categorical loss: pass step\(scale=3\)"),
            (lambda o: o.square().sum(), "not that of a categorical loss, it would have targets from"),
        ):
            model = network()
            optimiser = NaturalGradient(model)
            wrong(model(X)).backward()
            with pytest.raises(ValueError, match=sentence):
                optimiser.step()

    def test_a_factor_of_the_loss(self):
        model = network()
        optimiser = NaturalGradient(model, likelihood="bernoulli")
        (100 * F.binary_cross_entropy_with_logits(model(X), torch.ones(3, 3))).backward()
        with pytest.raises(ValueError, match=r"100 times the bernoulli loss: pass step\(scale=100\)"):
            optimiser.step()

    def test_outputs_of_another_likelihood(self):
        model = nn.Linear(2, 1)
        optimiser = NaturalGradient(model)
        model(X).sum().backward()
        with pytest.raises(ValueError, match=r"categorical outputs must be logits"):
            optimiser.step()

    def test_several_outputs(self):
        model = nn.LSTM(2, 3)
        optimiser = NaturalGradient(model)
        model(X)[0].sum().backward()
        with pytest.raises(TypeError, match=r"the model must return one tensor, got tuple"):
            optimiser.step()

    def test_several_dtypes(self):
        class Mixed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.one, self.two = nn.Linear(2, 3), nn.Linear(3, 3).double()

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.two(self.one(x).double())

        model = Mixed()
        optimiser = NaturalGradient(model)
        loss(model).backward()
        with pytest.raises(ValueError, match=r"one dtype and device, got torch.float32 on cpu for one.weight"):
            optimiser.step()

    def test_inputs_that_changed(self):
        model, x = network(), X.clone()
        optimiser = NaturalGradient(model)
        F.cross_entropy(model(x), Y).backward()
        x.add_(1)
        with pytest.raises(RuntimeError, match=r"an input of the model was changed in place"):
            optimiser.step()

    def test_a_state_of_another_optimiser(self):
        model = network()
        with pytest.raises(ValueError, match=r"must be that of a NaturalGradient"):
            NaturalGradient(model).load_state_dict(torch.optim.SGD(model.parameters()).state_dict())

    @pytest.mark.parametrize("structure", ["dense", "woodbury", "cg", "block", "diagonal", "kfac", "ekfac"])
    def test_unused_and_frozen_parameters_and_a_batch_of_one(self, structure):
        class Spare(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.used, self.spare = network(), nn.Linear(2, 2)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.used(x)

        model = Spare()
        model.used[0].weight.requires_grad_(False)
        held = [p.detach().clone() for p in (model.used[0].weight, model.spare.weight)]
        optimiser = NaturalGradient(model, structure=structure)
        for _ in range(4):
            optimiser.zero_grad()
            value = F.cross_entropy(model(X[:1]), Y[:1])
            value.backward()
            optimiser.step()
        assert F.cross_entropy(model(X[:1]), Y[:1]) < value
        assert torch.equal(model.used[0].weight, held[0])
        assert torch.equal(model.spare.weight, held[1])
        assert set(optimiser.coverage) == {"used.0.bias", "used.2.weight", "used.2.bias"}

    @pytest.mark.parametrize("structure", ["dense", "woodbury", "block", "diagonal", "kfac", "ekfac"])
    def test_a_singular_matrix_and_no_damping(self, structure):
        model = network().double()
        optimiser = NaturalGradient(model, lr=0.1, structure=structure, damping=0.0)
        for _ in range(3):
            optimiser.zero_grad()
            F.cross_entropy(model(X.double()), Y).backward()
            optimiser.step()
        assert all(p.isfinite().all() for p in model.parameters())

    def test_forward_passes_that_are_forgotten(self):
        model = network()
        optimiser = NaturalGradient(model, structure="dense", damping=1.0)
        (100 * loss(model)).backward()
        optimiser.zero_grad()
        with torch.no_grad():
            model(X)
        loss(model).backward()
        optimiser.step()

    def test_hooks_go_with_the_optimiser(self):
        model = network()
        optimiser = NaturalGradient(model)
        assert model._forward_hooks
        del optimiser
        assert not model._forward_hooks
