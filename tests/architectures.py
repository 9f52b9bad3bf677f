"""Small networks of many kinds in float64, each with a batch: what an operator or optimiser on networks must take."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """A residual network: convolutions, BatchNorm, sums and ReLU in place, a pooled head."""

    def __init__(self, channels: int = 3, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.two = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.norm(self.stem(x)), inplace=True)
        y = self.two(torch.tanh(self.one(x)))
        y += x
        return self.head(torch.tanh(y).mean((2, 3)))


class Attention(nn.Module):
    """A transformer block over sequences (m, T) of tokens, a label at every position."""

    def __init__(self, tokens: int = 5, width: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 6), nn.GELU(), nn.Linear(6, width))
        self.head = nn.Linear(width, tokens)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x)
        normal = self.first(h)
        h = h + self.attention(normal, normal, normal, need_weights=False)[0]
        return self.head(h + self.mlp(self.second(h)))


class Graph(nn.Module):
    """A graph convolutional network with bare weights and a dense adjacency: the samples are nodes."""

    def __init__(self, adjacency: Tensor, features: int = 3, hidden: int = 4, classes: int = 2) -> None:
        super().__init__()
        self.register_buffer("adjacency", adjacency)
        self.one = nn.Parameter(torch.randn(features, hidden) / 2)
        self.two = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.adjacency @ self.two(torch.tanh(self.adjacency @ x @ self.one))


class Recurrent(nn.Module):
    """The last state of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 3, batch_first=True)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Tied(nn.Module):
    """An embedding whose weight is the head's too, and a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.middle = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.middle(self.embedding(x)))
        return self.head(torch.tanh(self.middle(h)))


def evaluated(model: nn.Module) -> nn.Module:
    """Evaluation mode, with running statistics that are not 0 and 1."""
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            buffer.add_(0.3 if "mean" in name else 0.5)
    return model.eval()


def architecture(kind: str, seed: int = 0) -> tuple[nn.Module, Tensor, str]:
    """The network of that name, a batch, and the likelihood of its outputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        images = torch.randn(4, 1, 6, 6, dtype=torch.float64)
        tokens = torch.randint(0, 5, (3, 4))
        ring = (torch.eye(6) + torch.eye(6).roll(1, 0) + torch.eye(6).roll(-1, 0)) / 3
        made = {
            "perceptron": lambda: (nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), "categorical"),
            "convolution": lambda: (
                nn.Sequential(
                    nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ELU(inplace=True),
                    nn.Conv2d(4, 2, 2, groups=2, dilation=2), nn.Flatten(), nn.Linear(2, 3),
                ),
                "categorical",
            ),
            "residual": lambda: (evaluated(Residual()), "categorical"),
            "residual in training": lambda: (Residual(), "categorical"),
            "sequence": lambda: (
                nn.Sequential(
                    nn.Conv1d(1, 3, 3, padding=1, padding_mode="circular"), nn.GroupNorm(1, 3), nn.Tanh(),
                    nn.ConvTranspose1d(3, 2, 3, stride=2), nn.Flatten(), nn.LazyLinear(2),
                ),
                "categorical",
            ),
            "decoder": lambda: (
                nn.Sequential(
                    nn.Linear(2, 8), nn.Unflatten(1, (2, 2, 2)), nn.BatchNorm2d(2), nn.Softplus(),
                    nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1, groups=2), nn.Tanh(),
                    nn.ConvTranspose2d(2, 1, 2),
                ),
                "bernoulli",
            ),
            "attention": lambda: (Attention(), "categorical"),
            "graph": lambda: (Graph(ring), "categorical"),
            "recurrent": lambda: (Recurrent(), "bernoulli"),
            "tied": lambda: (Tied(), "categorical"),
            "embedding": lambda: (
                nn.Sequential(nn.Embedding(5, 3, padding_idx=0), nn.Flatten(), nn.Tanh(), nn.Linear(12, 3)),
                "gaussian",
            ),
        }  # fmt: skip
        model, likelihood = made[kind]()
        model = model.double()
        if kind == "decoder":
            model = evaluated(model)
        x = {
            "perceptron": torch.randn(5, 4).double(),
            "sequence": images[:, 0, 0][:, None],
            "decoder": torch.randn(3, 2).double(),
            "graph": torch.randn(6, 3).double(),
            "recurrent": torch.randn(4, 5, 2).double(),
            **dict.fromkeys(("attention", "tied", "embedding"), tokens),
        }.get(kind, images)
        model(x) if kind == "sequence" else None
        return model, x, likelihood


KINDS = (
    "perceptron", "convolution", "residual", "residual in training", "sequence", "decoder", "attention", "graph",
    "recurrent", "tied", "embedding",
)  # fmt: skip
