"""What natural gradient owes: invariance to coordinates, descent, resumed runs, processes that act as one."""

from __future__ import annotations

import copy
import io
import itertools

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from architectures import KINDS, architecture
from torch import Tensor, nn

from brenier.information import NaturalGradient, fisher
from brenier.information.amortised import MEMORY, Amortised
from brenier.information.linearise import Linearised
from brenier.information.trust import RATE, adapted

STRUCTURES = ("dense", "woodbury", "cg", "block", "diagonal", "kfac", "ekfac")
Y = torch.tensor([0, 1, 2, 1, 0])


class Warped(nn.Module):
    """The network with parameters θ = φ(w), w ↦ w + w³/10, coordinate by coordinate."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = [copy.deepcopy(model)]
        self.names = [name for name, _ in model.named_parameters()]
        self.w = nn.ParameterList([nn.Parameter(self.inverse(p.detach())) for p in model.parameters()])

    @staticmethod
    def inverse(theta: Tensor) -> Tensor:
        w = theta.clone()
        for _ in range(50):
            w = w - (w + w**3 / 10 - theta) / (1 + 0.3 * w**2)
        return w

    def forward(self, x: Tensor) -> Tensor:
        values = dict(zip(self.names, [w + w**3 / 10 for w in self.w], strict=True))
        return torch.func.functional_call(self.inner[0], values, (x,))


def answers(model: nn.Module, x: Tensor, lr: float, structure: str) -> Tensor:
    """Outputs after one undamped step."""
    optimiser = NaturalGradient(model, lr=lr, structure=structure, damping=0.0, tol=1e-13, max_iterations=2000)
    F.cross_entropy(model(x), Y).backward()
    optimiser.step()
    return model(x).detach().softmax(1)


@pytest.mark.parametrize("structure", ["woodbury", "cg"])
def test_a_small_step_does_not_depend_on_the_coordinates(structure, generator):
    """The answers differ by second order in lr: fourfold less for half the step. Gradient descent differs by first."""
    x = torch.randn(5, 4, dtype=torch.float64, generator=generator)

    def difference(lr: float) -> float:
        model, _, _ = architecture("perceptron")
        warped = Warped(model)
        return float((answers(model, x, lr, structure) - answers(warped, x, lr, structure)).norm())

    assert 3 < difference(2e-2) / difference(1e-2) < 5
    assert difference(1e-2) < 1e-3


def test_an_affine_change_of_the_inputs_changes_nothing_for_kfac(generator):
    """K-FAC without damping is invariant to affine maps of a layer's inputs (Martens and Grosse, theorem 1)."""
    x = torch.randn(50, 3, dtype=torch.float64, generator=generator)
    y = torch.randn(50, 2, dtype=torch.float64, generator=generator)
    mix = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    one, two = (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double() for _ in range(2))
    two.load_state_dict(one.state_dict())
    with torch.no_grad():
        two[0].weight.copy_(one[0].weight @ torch.linalg.inv(mix))
        two[0].bias.copy_(one[0].bias - two[0].weight @ torch.ones(3, dtype=torch.float64))
    found = []
    for model, inputs in ((one, x), (two, x @ mix.T + 1)):
        optimiser = NaturalGradient(model, lr=0.3, likelihood="gaussian", structure="kfac", fisher="exact", damping=0.0)
        for _ in range(3):
            optimiser.zero_grad()
            F.mse_loss(model(inputs), y).backward()
            optimiser.step()
        found.append(model(inputs).detach())
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("kind", ["convolution", "decoder", "tied"])
def test_the_direction_descends(kind, structure, generator):
    model, x, likelihood = architecture(kind)
    with torch.no_grad():
        drawn = torch.rand(model(x).shape, dtype=torch.float64, generator=generator)
    y = drawn.softmax(-1) if likelihood == "categorical" else drawn
    before = [p.detach().clone() for p in model.parameters()]
    optimiser = NaturalGradient(model, lr=1e-3, likelihood=likelihood, structure=structure, damping=0.1)

    def loss() -> Tensor:
        outputs = model(x)
        if likelihood == "categorical":
            return F.cross_entropy(outputs.flatten(0, -2), y.flatten(0, -2))
        return F.binary_cross_entropy_with_logits(outputs, y)

    first = loss()
    first.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    optimiser.step()
    moves = [p.detach() - q for p, q in zip(model.parameters(), before, strict=True)]
    assert sum(float((g * move).sum()) for g, move in zip(gradients, moves, strict=True)) < 0
    assert loss() < first


@pytest.mark.parametrize("structure", STRUCTURES)
def test_no_step_raises_the_loss_of_a_full_batch(structure):
    model, x, _ = architecture("attention")
    y = torch.randint(0, 5, (3, 4), generator=torch.Generator().manual_seed(0))
    optimiser = NaturalGradient(model, structure=structure)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(losses))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("damping", ["lm", 0.1])
def test_a_resumed_run_is_the_uninterrupted_one(structure, damping):
    def trained(interrupted: bool) -> list[Tensor]:
        model, x, _ = architecture("convolution")
        y = torch.tensor([0, 1, 2, 1])
        settings = {"structure": structure, "damping": damping, "inverse_every": 3}
        settings |= {} if damping == "lm" else {"momentum": 0.5, "lr": 0.2}
        optimiser = NaturalGradient(model, **settings)
        for step in range(8):
            if interrupted and step == 5:
                file = io.BytesIO()
                torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict()}, file)
                file.seek(0)
                saved = torch.load(file, weights_only=True)
                model, _, _ = architecture("convolution", seed=9)
                model.load_state_dict(saved["model"])
                optimiser = NaturalGradient(model, **settings)
                optimiser.load_state_dict(saved["optimiser"])
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()
        return [p.detach() for p in model.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(trained(False), trained(True), strict=True))


def test_the_gradient_of_kfac_is_an_average_without_bias(generator):
    averages = Amortised([], ["w"], rotate=False, state=None)
    gradients = torch.randn(12, 3, generator=generator)
    weights = MEMORY ** torch.arange(12.0).flip(0)
    for gradient in gradients:
        found = averages.smoothed({"w": gradient})["w"]
    torch.testing.assert_close(found, weights @ gradients / weights.sum())
    assert averages.smoothed({"w": found})["w"].allclose(found)


@pytest.mark.parametrize(
    ("damping", "momentum", "averaged"), [("lm", None, True), ("lm", 0.0, False), (1.0, 0.9, False)]
)
def test_only_the_automatic_momentum_averages_gradients(damping, momentum, averaged):
    model, (x, y) = nn.Linear(3, 2), (torch.randn(20, 3), torch.arange(20) % 2)
    optimiser = NaturalGradient(model, structure="kfac", damping=damping, momentum=momentum)
    F.cross_entropy(model(x), y).backward()
    optimiser.step()
    assert bool(optimiser.state_dict()["natural"]["curvature"]["averages"]["gradient"]) == averaged


@pytest.mark.parametrize("seed", range(10))
def test_the_first_damping_is_near_the_mean_eigenvalue_whatever_the_signs(seed):
    """Two classes see nothing of signs that move both alike."""
    model, x, y = nn.Linear(1, 2, bias=False), torch.randn(20, 1), torch.arange(20) % 2
    mean = fisher(model, x, structure="dense").trace().mean / 2
    optimiser = NaturalGradient(model, seed=seed)
    F.cross_entropy(model(x), y).backward()
    optimiser.step()
    assert mean / 5 < optimiser.damping < 5 * mean


@pytest.mark.parametrize(
    ("change", "length", "factor"),
    [(-0.9, 1.0, RATE), (-0.5, 1.0, 1), (-0.1, 1.0, 1 / RATE), (-0.9, 0.1, 1), (-0.9, 0.01, 1 / RATE)],
)
def test_damping_falls_where_the_model_of_the_loss_and_the_length_of_the_step_are_right(change, length, factor):
    assert adapted(3.0, change, -1.0, length) == pytest.approx(3.0 * factor)


@pytest.mark.parametrize("kind", KINDS)
def test_directions_that_go_through_a_network_together_come_out_as_alone(kind, generator):
    model, x, _ = architecture(kind)
    names = [name for name, _ in model.named_parameters()]
    directions = [
        {name: torch.randn(p.shape, dtype=p.dtype, generator=generator) for name, p in model.named_parameters()}
        for _ in range(3)
    ]
    together = Linearised(model, (x,), {}, names)
    for found, v in zip(together.jvps(directions), directions, strict=True):
        torch.testing.assert_close(found, Linearised(model, (x,), {}, names, together.rng).jvp(v))


def test_schedules_groups_and_frozen_parameters():
    model, x, _ = architecture("perceptron")
    model[0].bias.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    groups = [{"params": [model[0].weight], "lr": 0.0}, {"params": [model[2].weight, model[2].bias], "damping": 1.0}]
    optimiser = NaturalGradient(model, groups, damping=0.1, structure="dense")
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 1, 0.5)
    sizes = []
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(model(x), Y).backward()
        held = model[2].weight.detach().clone()
        optimiser.step()
        schedule.step()
        sizes.append(float((model[2].weight.detach() - held).norm()))
    assert torch.equal(model[0].weight, before["0.weight"])
    assert torch.equal(model[0].bias, before["0.bias"])
    assert optimiser.param_groups[1]["lr"] == 0.125
    assert sizes[2] < sizes[0]


def test_a_damping_for_each_group_is_on_the_diagonal():
    for structure in ("dense", "woodbury", "cg", "block"):
        model, x, _ = architecture("perceptron")
        names = dict(model.named_parameters())
        groups = [{"params": [names["0.weight"], names["0.bias"]], "damping": 0.3},
                  {"params": [names["2.weight"], names["2.bias"]], "damping": 2.0}]  # fmt: skip
        operator = fisher(model, x, structure="block" if structure == "block" else "dense").dense()
        levels = torch.cat([torch.full((25,), 0.3), torch.full((18,), 2.0)]).double()
        gradient = torch.cat(
            [g.flatten() for g in torch.autograd.grad(F.cross_entropy(model(x), Y), list(names.values()))]
        )
        before = torch.cat([p.detach().flatten() for p in names.values()])
        optimiser = NaturalGradient(model, groups, structure=structure, damping=1.0, tol=1e-13)
        F.cross_entropy(model(x), Y).backward()
        optimiser.step()
        after = torch.cat([p.detach().flatten() for p in names.values()])
        torch.testing.assert_close(before - after, torch.linalg.solve(operator + levels.diag(), gradient))


def test_weight_decay_is_part_of_loss_and_curvature(generator):
    """Ridge regression in one step, and by damping that follows the loss."""
    x, y = (torch.randn(30, n, dtype=torch.float64, generator=generator) for n in (3, 1))
    best = torch.linalg.solve(x.T @ x / 15 + 0.7 * torch.eye(3, dtype=torch.float64), x.T @ y / 15).T
    for damping, steps in ((0.0, 1), ("lm", 100)):
        model = nn.Linear(3, 1, bias=False).double()
        optimiser = NaturalGradient(model, likelihood="gaussian", structure="dense", damping=damping, weight_decay=0.7)
        for _ in range(steps):
            optimiser.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimiser.step()
        torch.testing.assert_close(model.weight.detach(), best, rtol=1e-6, atol=1e-8)
        assert 0 <= optimiser.damping < float("inf")


def test_a_clipped_gradient_makes_a_smaller_step():
    moves = []
    for clip in (1e9, 1e-3):
        model, x, _ = architecture("perceptron")
        before = model[0].weight.detach().clone()
        optimiser = NaturalGradient(model, structure="kfac", damping=0.1)
        F.cross_entropy(model(x), Y).backward()
        total = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        moves.append((model[0].weight.detach() - before) / min(1.0, float(clip / total)))
    torch.testing.assert_close(moves[0], moves[1], rtol=1e-4, atol=1e-9)


def test_the_divergence_of_a_step_is_clipped():
    sizes = []
    for clip in (None, 1e-4):
        model, x, _ = architecture("perceptron")
        before = torch.cat([p.detach().flatten() for p in model.parameters()])
        operator = fisher(model, x)
        optimiser = NaturalGradient(model, structure="dense", damping=1e-3, kl_clip=clip)
        F.cross_entropy(model(x), Y).backward()
        optimiser.step()
        move = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
        sizes.append(float(move @ (operator @ move)))
    assert sizes[0] > 1e-4 >= sizes[1] > 5e-5


def test_half_precision_in_the_forward_pass_and_a_scaled_loss():
    model, x, _ = architecture("perceptron")
    model, x = model.float(), x.float()
    optimiser = NaturalGradient(model, structure="kfac")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(x), Y)
        scaler.scale(loss).backward()
        scaler.step(optimiser, scale=scaler.get_scale())
        scaler.update()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_matrix_made_between_backward_and_step_leaves_the_step_alone():
    states = []
    for between in (False, True):
        model, x, _ = architecture("perceptron")
        optimiser = NaturalGradient(model, structure="dense", damping=0.1)
        F.cross_entropy(model(x), Y).backward()
        if between:
            fisher(model, 3 * x).dense()
            copy.deepcopy(model)(2 * x).sum().backward()
        optimiser.step()
        states.append(model[0].weight.detach())
    assert torch.equal(*states)


SHARED = (("kfac", "lm"), ("ekfac", "lm"), ("woodbury", 0.1), ("dense", 0.1), ("diagonal", 0.1), ("cg", "lm"))


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    states = [_trained(structure, damping, slice(4 * rank, 4 * rank + 4)) for structure, damping in SHARED]
    torch.save(states, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _trained(structure: str, damping: str | float, rows: slice) -> dict[str, Tensor]:
    model, _, _ = architecture("perceptron")
    wrapped = nn.parallel.DistributedDataParallel(model) if dist.is_initialized() else model
    x = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))[rows]
    y = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1])[rows]
    optimiser = NaturalGradient(wrapped, structure=structure, fisher="exact", damping=damping)
    for _ in range(4):
        optimiser.zero_grad()
        F.cross_entropy(wrapped(x), y).backward()
        optimiser.step()
    return model.state_dict()


def test_two_processes_are_one_with_the_joined_batch(tmp_path):
    mp.spawn(_process, (str(tmp_path),), nprocs=2)
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for (structure, damping), first, second in zip(SHARED, *both, strict=True):
        for name, value in _trained(structure, damping, slice(0, 8)).items():
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-7)
