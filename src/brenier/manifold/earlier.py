"""The networks of charts that format 2 of a model holds: without principal components, to load what is there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from brenier.manifold.networks import Crop, Decoder, Encoder, Restore, Standardise, perceptron


class Pad(nn.Module):
    """Zeros below and to the right until both sides are multiples of a number."""

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        """The padded images."""
        h, w = x.shape[-2:]
        return F.pad(x, (0, -w % self.multiple, 0, -h % self.multiple))


def convolutional(shape: Sequence[int], latent_dim: int, width: int) -> tuple[Encoder, Decoder]:
    """Return encoder and decoder of images: strided 4x4 convolutions, two linear layers, mirrored, and a sigmoid."""
    c, h, w = shape
    stages = max(1, math.ceil(math.log2(max(h, w) / 7)))
    grid = math.ceil(h / 2**stages), math.ceil(w / 2**stages)
    channels = [c, *(width * 2 ** min(i, 2) for i in range(stages))]
    flat, hidden = channels[-1] * grid[0] * grid[1], 32 * width
    down = [step for a, b in pairwise(channels) for step in (nn.Conv2d(a, b, 4, 2, 1), nn.SiLU())]
    up = [step for a, b in pairwise(channels[::-1]) for step in (nn.SiLU(), nn.ConvTranspose2d(a, b, 4, 2, 1))]
    head = [nn.Flatten(), *perceptron([flat, hidden, latent_dim])]
    tail = [*perceptron([latent_dim, hidden, flat]), nn.Unflatten(1, (channels[-1], *grid))]
    encoder = Encoder(nn.Sequential(Pad(2**stages), *down, *head), nn.Identity(), shape, latent_dim)
    decoder = Decoder(nn.Sequential(*tail, *up, Crop(h, w), nn.Sigmoid()), nn.Identity(), latent_dim)
    return encoder, decoder


def mlp(dim: int, latent_dim: int, width: int, depth: int) -> tuple[Encoder, Decoder]:
    """Return encoder and decoder of vectors: perceptrons of standardised entries."""
    sizes = [dim, *[width] * depth, latent_dim]
    encoder = Encoder(nn.Sequential(*perceptron(sizes)), Standardise(dim), (dim,), latent_dim)
    return encoder, Decoder(nn.Sequential(*perceptron(sizes[::-1])), Restore(dim), latent_dim)
