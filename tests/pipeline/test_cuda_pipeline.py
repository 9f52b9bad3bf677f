"""What runs on the CPU runs on a GPU, and comes to the same there. Skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from architectures import KINDS, Attention, Recurrent, Residual, architecture
from sklearn.datasets import load_digits
from torch import nn
from typer.testing import CliRunner

from brenier import AEOT, geometry, load, manifold, riemannian, transport
from brenier.cli import app
from brenier.information import NaturalGradient, fisher
from brenier.measures import Discrete, Gaussian, GridDensity, UniformBall, UniformCube

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
PLACES = ("cpu", "cuda")
STRUCTURES = ("dense", "woodbury", "cg", "block", "kfac", "ekfac", "diagonal")


def alike(work, rtol=1e-6, atol=1e-9):
    """What `work` gives on the CPU and on the GPU is the same, and is where it was asked for."""
    here, there = (work(torch.device(place)) for place in PLACES)
    for one, other in zip(here, there, strict=True):
        assert (one.device.type, other.device.type) == PLACES
        torch.testing.assert_close(other.cpu(), one, rtol=rtol, atol=atol)


def cloud(n, d, seed=0):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_an_operator(kind, structure):
    def work(place):
        torch.manual_seed(0)
        model, x, likelihood = architecture(kind)
        f = fisher(model.to(place), x.to(place), likelihood=likelihood, structure=structure)
        v = cloud(f.shape[0], 1)[:, 0].to(place)
        return [f @ v, f.solve(v, damping=0.1), f.diagonal()]

    alike(work, atol=1e-8)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("fisher", ["exact", "mc", "empirical"])
@pytest.mark.parametrize("network", [Residual, Attention, Recurrent])
def test_natural_gradient(network, structure, fisher):
    x = {
        Residual: cloud(8, 16).view(8, 1, 4, 4),
        Attention: torch.randint(5, (8, 4), generator=torch.Generator().manual_seed(0)),
        Recurrent: cloud(8, 10).view(8, 5, 2),
    }[network]

    def work(place):
        torch.manual_seed(0)
        model = network().double().to(place)
        y = torch.arange(8 * 4 if network is Attention else 8, device=place) % 2
        optimiser = NaturalGradient(model, structure=structure, fisher=fisher)
        losses = []
        for _ in range(3):
            optimiser.zero_grad()
            o = model(x.to(place))
            loss = F.cross_entropy(o.flatten(0, -2), y)
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        return losses

    alike(work, rtol=1e-4)


@pytest.mark.parametrize("structure", ["kfac", "ekfac"])
def test_half_precision_with_a_scaler_and_a_state_that_moves_to_the_cpu(structure):
    x, y = cloud(64, 6).float(), torch.arange(64) % 3
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3)).cuda()
    optimiser = NaturalGradient(model, structure=structure)
    scaler = torch.amp.GradScaler("cuda")

    def losses(model, optimiser, steps, place):
        for _ in range(steps):
            optimiser.zero_grad()
            with torch.autocast(place, torch.float16 if place == "cuda" else torch.bfloat16, enabled=place == "cuda"):
                loss = F.cross_entropy(model(x.to(place)), y.to(place))
            if place == "cuda":
                scaler.scale(loss).backward()
                scaler.step(optimiser, scale=scaler.get_scale())
                scaler.update()
            else:
                loss.backward()
                optimiser.step()
            yield float(loss.detach())

    first, *_, last = losses(model, optimiser, 15, "cuda")
    assert last < 0.7 * first
    copy = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3))
    copy.load_state_dict(model.state_dict())
    other = NaturalGradient(copy, structure=structure)
    other.load_state_dict(optimiser.state_dict())
    assert list(losses(copy, other, 5, "cpu"))[-1] < last


def test_mixed_devices_are_named():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).cuda())
    with pytest.raises(ValueError, match=r"one dtype and device, got .* on c.* for "):
        fisher(model, torch.zeros(4, 3))


@pytest.mark.parametrize("name", ["sphere", "stiefel", "grassmann", "spd"])
@pytest.mark.parametrize("method", ["cg", "lbfgs", "trust"])
def test_minimisation_on_manifolds(name, method):
    a = cloud(5, 5)
    a = a @ a.T + torch.eye(5)
    space, start = {
        "sphere": (riemannian.Sphere(), F.normalize(cloud(5, 1)[:, 0], dim=0)),
        "stiefel": (riemannian.Stiefel(), torch.linalg.qr(cloud(5, 2))[0]),
        "grassmann": (riemannian.Grassmann(), torch.linalg.qr(cloud(5, 2))[0]),
        "spd": (riemannian.SPD(), torch.eye(5, dtype=torch.float64)),
    }[name]

    def work(place):
        b = a.to(place)
        weights = torch.tensor([2.0, 1.0], dtype=torch.float64, device=place)
        cost = {
            "sphere": lambda x: -(x @ b @ x),
            "stiefel": lambda x: -((b @ x) * x * weights).sum(),
            "grassmann": lambda x: -((b @ x) * x).sum(),
            "spd": lambda x: torch.linalg.solve(b, x).trace() - torch.logdet(x),
        }[name]
        found = riemannian.minimize(cost, space, start.to(place), method=method)
        assert found.converged
        return [found.cost]

    alike(work, rtol=1e-8)


def test_constrained_weights_stay_on_their_manifold():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)).cuda()
    riemannian.constrain(model[0], "weight", riemannian.Stiefel())
    optimiser = riemannian.RiemannianAdam(model.parameters(), lr=0.01)
    x = cloud(64, 8).float().cuda()
    for _ in range(50):
        optimiser.zero_grad()
        (model(x) - x[:, :1]).square().mean().backward()
        optimiser.step()
    w = model[0].weight.detach()
    assert w.is_cuda
    assert float((w @ w.T - torch.eye(8, device="cuda")).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("source", "method", "tol"),
    [
        (UniformCube(1), "newton", 1e-8),
        (UniformCube(2), "newton", 1e-8),
        (UniformCube(3), "newton", 1e-8),
        (UniformCube(2), "lbfgs", 1e-4),
        (UniformBall(2), "auto", 1e-6),
        (GridDensity(torch.arange(1.0, 10).view(3, 3)), "auto", 1e-6),
    ],
)
def test_exact_transport(source, method, tol):
    def work(place):
        target = Discrete(cloud(60, source.dim).to(place))
        found = transport.solve(source, target, tol=tol, method=method)
        assert found.converged
        found_cells = transport.cells(found.potential, source)
        x = source.sample(50, torch.Generator().manual_seed(1)).double().to(place)
        return [found.potential.heights, found_cells.masses, found_cells.centroids, found.potential(x)]

    alike(work, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["auto", "multiscale"])
def test_sampled_transport(method):
    target = Discrete(cloud(400, 6).float().cuda())
    for generator in (torch.Generator("cuda").manual_seed(0), torch.Generator().manual_seed(0), None):
        found = transport.solve(Gaussian(6), target, tol=0.2, method=method, generator=generator)
        assert found.converged
        assert found.potential.heights.is_cuda
    singular = transport.singular_set(found.potential, Gaussian(6))
    blend = transport.extend(found.potential, Gaussian(6), singular=singular)
    x = Gaussian(6).sample(1000, torch.Generator("cuda").manual_seed(1))
    codes, accepted = blend(x)
    assert codes.is_cuda
    assert accepted.is_cuda
    assert bool(codes.isfinite().all())
    assert transport.cells(found.potential, Gaussian(6)).masses.is_cuda


def test_the_geometry_of_a_decoder():
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 10)).double()
    z = 0.3 * cloud(6, 2)

    def work(place):
        metric = geometry.pullback(decoder.to(place))
        a, b = z[:3].to(place), z[3:].to(place)
        way = geometry.geodesic(metric, a, b)
        return [
            geometry.christoffel(metric, a),
            geometry.riemann(metric, a),
            geometry.ricci(metric, a),
            way.length,
        ]

    alike(work, rtol=1e-5)


def test_the_cells_of_a_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 1)).double()
    x = cloud(200, 2)
    counts = [manifold.count_cells(network.to(place), 2) for place in PLACES]
    assert counts[0] == counts[1] > 8
    codes = [manifold.activation_codes(network.to(place), x.numpy()) for place in PLACES]
    assert np.array_equal(*codes)
    numbers = [len(manifold.relu_cells(network.to(place), ((-1.0, -1.0), (1.0, 1.0)))) for place in PLACES]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["adamw", "natural"])
def test_a_chart(precision, optimizer):
    x = (torch.rand(600, 2) @ torch.randn(2, 12)).tanh()
    chart = manifold.Chart(*manifold.mlp(12, latent_dim=2, generator=0))
    found = manifold.fit(chart, x, epochs=30, generator=0, device="cuda", precision=precision, optimizer=optimizer)
    assert next(chart.parameters()).is_cuda
    assert found.history[-1]["validation"] < 0.2 * found.history[0]["validation"]
    assert chart.encode(x).shape == (600, 2)


class Stop(BaseException):
    """As Ctrl-C."""


def test_a_model_is_fitted_resumed_saved_and_read(tmp_path):
    x, test = np.split((load_digits().images[:600] / 16).astype("float32"), [500])

    def model():
        return AEOT(latent_dim=3, epochs=6, device="cuda", tol=0.4, seed=1)

    def stop(stage, record):
        if stage == "transport":
            raise Stop

    whole = model().fit(x, checkpoint=tmp_path / "whole")
    with pytest.raises(Stop):
        model().fit(x, checkpoint=tmp_path / "part", callback=stop)
    again = model().fit(x, checkpoint=tmp_path / "part")
    assert torch.equal(whole.codes_.cpu(), again.codes_.cpu())
    torch.testing.assert_close(whole.transport_.potential.heights, again.transport_.potential.heights)
    whole.save(tmp_path / "run")
    there = load(tmp_path / "run")
    assert np.allclose(there.sample(5, seed=3), whole.sample(5, seed=3), atol=1e-3)  # TF32 in convolutions
    for used in (whole, there):
        assert used.evaluate(test)["nn"].mean > 0
        assert used.score(test) < 0
        assert used.interpolate(x[:2], x[2:4], 5).shape == (2, 5, 8, 8)
        assert used.novelty(x[:3]).shape == (3,)
        assert used.reweight(np.r_[np.full(250, 3.0), np.ones(250)] / 1000).sample(3).shape == (3, 8, 8)
    whole.report(tmp_path / "report.html", test)


def test_the_command_line(tmp_path):
    def run(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.output

    data = tmp_path / "digits.npy"
    np.save(data, (load_digits().images[:500] * 15).astype("uint8"))
    folder = tmp_path / "run"
    run("fit", data, "--out", folder, "--device", "cuda", "--epochs", 5, "--latent-dim", 3, "--tol", 0.4)
    run("sample", folder, "-n", 20, "--out", tmp_path / "samples.npy")
    assert np.load(tmp_path / "samples.npy").shape[0] == 20
    run("evaluate", folder, data)
