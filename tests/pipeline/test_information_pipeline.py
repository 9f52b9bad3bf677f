"""Natural gradient on networks as they are written elsewhere: nothing is rewritten, the loss falls."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from architectures import Attention, Graph, Recurrent, Residual
from torch import Tensor, nn

from brenier.information import NaturalGradient


def autoencoder() -> nn.Module:
    """Convolutions down, transposed convolutions up, BatchNorm between."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(24, 5), nn.Linear(5, 24),
        nn.Unflatten(1, (6, 2, 2)), nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1), nn.BatchNorm2d(4),
        nn.ReLU(inplace=True), nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1),
    )  # fmt: skip


def blobs(generator: torch.Generator) -> Tensor:
    """Images (64, 1, 8, 8) of one spot."""
    centres = torch.rand(64, 2, 1, 1, generator=generator) * 6 + 1
    grid = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij"))
    return torch.exp(-(grid - centres).square().sum(1, keepdim=True) / 4)


def trained(
    model: nn.Module, x: Tensor, y: Tensor, loss, steps: int, **settings
) -> tuple[float, float, NaturalGradient]:
    """The first and the last loss over mini-batches of three quarters."""
    optimiser = NaturalGradient(model, **settings)
    losses, order = [], torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randperm(len(x), generator=order)[: 3 * len(x) // 4]
        optimiser.zero_grad()
        value = loss(model(x[rows]), y[rows])
        value.backward()
        optimiser.step()
        losses.append(float(value.detach()))
    return losses[0], losses[-1], optimiser


@pytest.mark.parametrize(
    ("structure", "likelihood"),
    [("auto", "gaussian"), ("kfac", "bernoulli"), ("ekfac", "gaussian"), ("diagonal", "bernoulli"), ("cg", "gaussian")],
)
def test_an_autoencoder_with_transposed_convolutions_and_batchnorm(structure, likelihood, generator):
    x = blobs(generator)
    loss = F.mse_loss if likelihood == "gaussian" else F.binary_cross_entropy_with_logits
    floor = 0.0 if likelihood == "gaussian" else float(F.binary_cross_entropy(x, x))
    steps = 6 if structure == "cg" else 30
    first, last, optimiser = trained(autoencoder(), x, x, loss, steps, likelihood=likelihood, structure=structure)
    assert last - floor < 0.5 * (first - floor)
    if structure in ("auto", "kfac"):
        assert optimiser.coverage["8.weight"] == "kfac"
        assert optimiser.coverage["9.weight"] == "diagonal"


@pytest.mark.parametrize("structure", ["kfac", "ekfac"])
def test_a_residual_network(structure, generator):
    x = blobs(generator)
    y = (x[:, 0, :4].sum((1, 2)) > x[:, 0, 4:].sum((1, 2))).long() + 2 * (x[:, 0, :, :4].sum((1, 2)) > 5).long()
    first, last, _ = trained(Residual(4, 4), x, y, F.cross_entropy, 40, structure=structure)
    assert last < 0.4 * first


@pytest.mark.parametrize("structure", ["kfac", "ekfac", "cg"])
def test_a_transformer_block(structure, generator):
    """Every token is to be answered by the one before it; attention has to be learned."""
    x = torch.randint(0, 5, (32, 6), generator=generator)
    y = x.roll(1, 1)

    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.places = Attention(5, 8), nn.Parameter(torch.randn(6, 8))

        def forward(self, x: Tensor) -> Tensor:
            block = self.block
            h = block.embedding(x) + self.places
            normal = block.first(h)
            h = h + block.attention(normal, normal, normal, need_weights=False)[0]
            return block.head(h + block.mlp(block.second(h)))

    loss = lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten())  # noqa: E731
    first, last, optimiser = trained(Placed(), x, y, loss, 14 if structure == "cg" else 40, structure=structure)
    assert last < 0.75 * first
    if structure == "kfac":
        assert {optimiser.coverage[name] for name in ("places", "block.attention.in_proj_weight")} == {"diagonal"}


def test_an_encoder_layer_of_torch_itself(generator):
    x = torch.randn(24, 5, 8, generator=generator)
    model = nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True), nn.Flatten(), nn.Linear(40, 3)
    )
    first, last, _ = trained(model, x, (x[:, 0, :3]).argmax(1), F.cross_entropy, 40, structure="kfac")
    assert last < 0.5 * first
    model.eval()
    with torch.no_grad():
        assert model(x).isfinite().all()


@pytest.mark.parametrize("structure", ["auto", "kfac", "woodbury"])
def test_a_graph_network(structure, generator):
    labels = torch.arange(20) % 2
    adjacency = (torch.rand(20, 20, generator=generator) < torch.where(labels[:, None] == labels, 0.5, 0.1)).float()
    adjacency = ((adjacency + adjacency.T) > 0).float() + torch.eye(20)
    adjacency = adjacency / adjacency.sum(1, keepdim=True)
    features = torch.randn(20, 3, generator=generator) + labels[:, None]
    model = Graph(adjacency)
    optimiser = NaturalGradient(model, structure=structure)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        value = F.cross_entropy(model(features)[:12], labels[:12]) * 1.0
        value.backward()
        optimiser.step(scale=20 / 12)
        losses.append(float(value.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("structure", ["auto", "kfac", "cg"])
def test_a_recurrent_network(structure, generator):
    x = torch.randn(48, 5, 2, generator=generator)
    y = (x.sum(1) > 0).float()
    loss = F.binary_cross_entropy_with_logits
    steps = 20 if structure == "cg" else 50
    first, last, _ = trained(Recurrent(), x, y, loss, steps, likelihood="bernoulli", structure=structure)
    assert last < 0.5 * first


@pytest.mark.parametrize("structure", ["kfac", "ekfac"])
def test_a_classifier_on_embeddings(structure, generator):
    x = torch.randint(0, 20, (64, 4), generator=generator)
    y = (x < 10).sum(1) // 2
    model = nn.Sequential(nn.Embedding(20, 6), nn.Flatten(), nn.Linear(24, 16), nn.GELU(), nn.Linear(16, 3))
    first, last, optimiser = trained(model, x, y, F.cross_entropy, 40, structure=structure)
    assert last < 0.3 * first
    assert optimiser.coverage["0.weight"] == structure
