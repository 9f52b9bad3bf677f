"""Latent spaces that are curved: heads that a chart's encoder ends with and its decoder begins with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REACH = 3.0  # hyperbolic codes are shorter: exp_0 of longer ones is the border, to the digits of float32
LATENTS = ("euclidean", "sphere", "hyperbolic")


class ToSphere(nn.Module):
    """z -> z / |z|: codes on the unit sphere, in the coordinates of the space around it."""

    def forward(self, z: Tensor) -> Tensor:
        """The nearest points of the sphere; where z is 0, the first unit vector."""
        north = torch.zeros_like(z)
        north[..., 0] = 1
        zero = (z == 0).all(-1, keepdim=True)
        z = torch.where(zero, north, z)
        return z / z.norm(dim=-1, keepdim=True)


class ToBall(nn.Module):
    """v -> r tanh(|v|/r) v/|v|: with r = 1 it is exp_0, velocities at the origin to points of the Poincaré ball.

    Smooth at 0 too, and made of torch's own functions, so that a decoder's geometry has its derivatives.
    """

    def __init__(self, radius: float = 1.0) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, v: Tensor) -> Tensor:
        """Vectors shorter than the radius."""
        size = (v.square().sum(-1, keepdim=True) + torch.finfo(v.dtype).eps ** 2).sqrt() / self.radius
        return size.tanh() / size * v


def latent_heads(latent: str) -> tuple[nn.Module, nn.Module]:
    """What ends the encoder and what begins the decoder, so that codes z (m, d) stand for points of a latent space.

    "sphere": codes are unit vectors, and the decoder moves whatever it gets (a transport's chords) to the sphere first.
    "hyperbolic": codes are velocities at the origin of the Poincaré ball, shorter than 3, a flat space for the
    transport; the decoder reads the points they lead to, at distances up to 6 from the origin. "euclidean" changes
    nothing.

    Raises:
        ValueError: another name.

    Example:
        >>> encode, decode = latent_heads("sphere")
        >>> encode(torch.tensor([[3.0, 4.0]])), decode(torch.tensor([[0.0, 0.5]]))
        (tensor([[0.6000, 0.8000]]), tensor([[0., 1.]]))
    """
    if latent not in LATENTS:
        raise ValueError(f"latent must be one of {', '.join(LATENTS)}, got {latent!r}")
    if latent == "sphere":
        return ToSphere(), ToSphere()
    if latent == "hyperbolic":
        return ToBall(REACH), ToBall()
    return nn.Identity(), nn.Identity()
