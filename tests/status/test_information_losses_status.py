"""Losses that are not the likelihood's, networks that curvature can't look into, copies of network and optimiser."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from brenier.information import NaturalGradient, fisher

M, C = 40, 4
WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 0.5])


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(M, 5, generator=generator), torch.randint(0, C, (M,), generator=generator)


X, Y = data()
FEW = Y.where(torch.arange(M) >= 7, -100)
EVENTS = F.one_hot(Y, C).float()


def network(outputs=C, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, outputs))
    model[2].weight.data *= 3
    return model


def step(model, optimiser, loss=lambda o: F.cross_entropy(o, Y), scale=1.0):
    optimiser.zero_grad()
    loss(model(X)).backward()
    optimiser.step(scale=scale)


def weighted(o, generator=0):
    share = torch.rand(M, generator=torch.Generator().manual_seed(generator))
    return (share * F.cross_entropy(o, Y, reduction="none")).mean()


@pytest.mark.parametrize("structure", ["dense", "kfac", "cg"])
@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda o: 0.5 * F.cross_entropy(o, Y), r"the loss is 0.5 times the categorical loss: pass step\(scale=0.5\)"),
        (lambda o: 0.9 * F.cross_entropy(o, Y), r"0.9 times the categorical loss: pass step\(scale=0.9\)"),
        (lambda o: 3 * F.cross_entropy(o, Y), r"3 times the categorical loss: pass step\(scale=3\)"),
        (lambda o: F.cross_entropy(o, Y, weight=WEIGHTS), "the categorical loss has class weights"),
        (lambda o: F.cross_entropy(o, FEW), r"leaves out 7 of 40 labels, as ignore_index .* step\(scale=1.212\)"),
        (weighted, "the categorical loss has weights of samples"),
    ],
)
def test_a_cross_entropy_of_another_weight_is_named(loss, sentence, structure):
    model = network()
    with pytest.raises(ValueError, match=sentence):
        step(model, NaturalGradient(model, structure=structure), loss)


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda o: 0.5 * F.binary_cross_entropy_with_logits(o, EVENTS), "0.5 times the bernoulli loss"),
        (
            lambda o: F.binary_cross_entropy_with_logits(o, EVENTS, pos_weight=torch.tensor(0.5)),
            "the bernoulli loss has class weights, from 0.5 to 1",
        ),
    ],
)
def test_a_binary_cross_entropy_of_another_weight_is_named(loss, sentence):
    model = network()
    with pytest.raises(ValueError, match=sentence):
        step(model, NaturalGradient(model, likelihood="bernoulli"), loss)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0])
@pytest.mark.parametrize(
    ("likelihood", "outputs", "loss", "scale"),
    [
        ("categorical", C, lambda o: F.cross_entropy(o, Y), 1.0),
        ("categorical", C, lambda o: 0.5 * F.cross_entropy(o, Y), 0.5),
        ("categorical", C, lambda o: F.cross_entropy(o, FEW), 40 / 33),
        ("categorical", C, lambda o: F.cross_entropy(o, Y, label_smoothing=0.1), 1.0),
        ("categorical", C, lambda o: F.cross_entropy(o, 0.3 * EVENTS + 0.7 * EVENTS.roll(1, 0)), 1.0),
        ("categorical", 2, lambda o: F.cross_entropy(o, Y % 2, label_smoothing=0.2), 1.0),
        ("bernoulli", C, lambda o: F.binary_cross_entropy_with_logits(o, EVENTS), 1.0),
        ("bernoulli", C, lambda o: F.binary_cross_entropy_with_logits(o, 0.8 * EVENTS + 0.1), 1.0),
        ("gaussian", C, lambda o: F.mse_loss(o, EVENTS), 1.0),
    ],
)
def test_labels_and_soft_labels_are_taken(likelihood, outputs, loss, scale, spread, seed):
    model = network(outputs, seed)
    model[2].weight.data *= spread
    optimiser = NaturalGradient(model, likelihood=likelihood)
    for _ in range(3):
        step(model, optimiser, loss, scale)


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.first, self.last, self.reentrant = nn.Linear(5, 3), nn.Linear(3, C), reentrant

    def forward(self, x):
        return self.last(checkpoint(lambda z: self.first(z).tanh(), x, use_reentrant=self.reentrant))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("structure", ["auto", "dense", "woodbury", "block", "diagonal", "kfac", "ekfac"])
def test_checkpoints_are_named(structure):
    for use in (
        lambda: fisher(Checkpointed(True), X, structure=structure),
        lambda: step(model := Checkpointed(True), NaturalGradient(model, structure=structure)),
    ):
        with pytest.raises(RuntimeError, match=r"^[^\n]*torch.utils.checkpoint[^\n]*switch checkpoints off[^\n]*$"):
            use()


def test_products_go_through_checkpoints_that_are_not_reentrant():
    model = Checkpointed(False)
    plain = nn.Sequential(model.first, nn.Tanh(), model.last)
    found = fisher(model, X, structure="cg").dense()
    torch.testing.assert_close(found, fisher(plain, X, structure="cg").dense())
    step(model, NaturalGradient(model, structure="cg"))


@pytest.mark.parametrize("structure", ["kfac", "ekfac"])
def test_a_network_without_a_layer_for_kronecker_factors_is_named(structure):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(5, C))

        def forward(self, x):
            return x @ self.weight

    with pytest.raises(ValueError, match=f"'{structure}' needs a linear, .* take 'diagonal', 'block' or 'cg'"):
        fisher(Bare(), X, structure=structure)
    step(model := Bare(), optimiser := NaturalGradient(model, structure=structure))
    assert optimiser.coverage == {"weight": "diagonal"}


@pytest.mark.parametrize("structure", ["dense", "cg", "kfac", "ekfac", "diagonal"])
def test_wrapped_networks_step_as_their_own(structure):
    models = [network() for _ in range(3)]
    wrappers = [models[0], nn.DataParallel(models[1]), torch.compile(models[2], backend="eager")]
    for wrapped in wrappers:
        optimiser = NaturalGradient(wrapped, structure=structure)
        for _ in range(2):
            step(wrapped, optimiser)
        found = fisher(wrapped, X, structure=structure).diagonal()
        torch.testing.assert_close(found, fisher(models[0], X, structure=structure).diagonal())
    for model in models[1:]:
        for p, q in zip(models[0].parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(p, q)


def pickled(pair):
    return pickle.loads(pickle.dumps(pair))  # noqa: S301 (its own bytes, as a user's multiprocessing does)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("structure", ["dense", "woodbury", "cg", "kfac", "ekfac", "diagonal"])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_copy_of_network_and_optimiser_goes_on_as_they_do(structure, copied, steps):
    model = network()
    optimiser = NaturalGradient(model, structure=structure)
    for _ in range(steps):
        step(model, optimiser)
    (twin, other), (third, later) = copied((model, optimiser)), copied(copied((model, optimiser)))
    reversed_, fourth = copied((optimiser, model))
    for _ in range(3):
        for one, its in ((model, optimiser), (twin, other), (third, later), (fourth, reversed_)):
            step(one, its)
    for one in (twin, third, fourth):
        for p, q in zip(model.parameters(), one.parameters(), strict=True):
            assert torch.equal(p, q)


def test_a_copy_of_the_network_alone_keeps_no_forward_passes():
    model = network()
    optimiser = NaturalGradient(model)
    step(model, optimiser)
    twin = copy.deepcopy(model)
    F.cross_entropy(twin(X), Y).backward()
    caught = [hook.__self__ for hook in twin._forward_hooks.values()]
    assert [catcher.active for catcher in caught] == [False]
    assert not any(hasattr(catcher, "calls") for catcher in caught)
    step(model, optimiser)
