"""A standard deviation of decoded data that grows away from the codes of the data."""

from __future__ import annotations

import torch
from scipy.optimize import nnls
from sklearn.cluster import KMeans
from torch import Tensor, nn

from brenier.geometry.decoder import Decode, flat

SAMPLES = 4096  # codes that the fit reads at most


class RBFDeviation(nn.Module):
    """σ(z) = far / sqrt(1 + (far²/near² − 1) Σ_k w_k exp(−|z − c_k|² / (2 h_k²))), (m, 1).

    A network of radial bases for the precision 1/σ²: near where the sum is 1, far where it is 0.
    """

    centres: Tensor
    widths: Tensor
    weights: Tensor

    def __init__(self, centres: Tensor, widths: Tensor, weights: Tensor, near: float, far: float) -> None:
        super().__init__()
        for key, value in (("centres", centres), ("widths", widths), ("weights", weights)):
            self.register_buffer(key, value)
        self.near, self.far = near, far

    def forward(self, z: Tensor) -> Tensor:
        """The deviation (m, 1) at z (m, d)."""
        density = _bases(z, self.centres, self.widths) @ self.weights
        return (self.far / (1 + ((self.far / self.near) ** 2 - 1) * density).sqrt())[:, None]


def rbf_deviation(
    decode: Decode,
    codes: Tensor,
    *,
    centres: int = 64,
    bandwidth: float = 1.0,
    near: float | None = None,
    far: float | None = None,
    seed: int = 0,
) -> RBFDeviation:
    """A total standard deviation of decoded data, fitted to the codes z (n, d) of the data: small there, large away.

    The precision is a network of radial bases (Arvanitidis, Hansen and Hauberg, ICLR 2018): centres c_k by k-means,
    widths h_k = bandwidth times the mean distance of a cluster's codes from its centre, weights w ≥ 0 by least squares
    such that the precision at every code is 1/near². Without noise levels from elsewhere `far` is ten times the spread
    of the decoded codes, sqrt(E|x − E x|²), and `near` a hundredth of that spread. A curve through a hole wider than
    about 4 h pays 2 far.

    Raises:
        ValueError: codes are not (n, d), finite and at least two; a number is out of range; all codes decode to one.

    Example:
        >>> deviation = rbf_deviation(lambda z: z, torch.rand(100, 2, generator=torch.Generator().manual_seed(0)))
        >>> inside, outside = deviation(torch.tensor([[0.5, 0.5], [9.0, 9.0]])).flatten()
        >>> bool(outside > 50 * inside)
        True
    """
    if codes.ndim != 2 or len(codes) < 2 or codes.shape[1] == 0:
        raise ValueError(f"codes must be (n, d) with n at least 2, got shape {tuple(codes.shape)}")
    if not codes.isfinite().all():
        raise ValueError("codes must be finite, got NaN or Inf")
    if centres < 1 or not bandwidth > 0:
        raise ValueError(f"centres must be at least 1 and bandwidth positive, got {centres} and {bandwidth}")
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))[:SAMPLES]
    z = codes.detach()[order.to(codes.device)]
    with torch.no_grad():
        x = flat(decode, z)
    spread = (x - x.mean(0)).square().sum(1).mean().sqrt().item()
    near, far = spread / 100 if near is None else near, 10 * spread if far is None else far
    if not 0 < near < far:
        raise ValueError(f"the deviation must grow away from the codes, 0 < near < far, got near {near} and far {far}")
    return RBFDeviation(*_fit(z, min(centres, len(z)), bandwidth, seed), near, far)


def _fit(z: Tensor, centres: int, bandwidth: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    points = z.cpu().double().numpy()
    clusters = KMeans(centres, n_init=1, random_state=seed).fit(points)
    middle, label = (torch.from_numpy(a) for a in (clusters.cluster_centers_, clusters.labels_.astype("int64")))
    distance = (torch.from_numpy(points) - middle[label]).norm(dim=1)
    count = torch.bincount(label, minlength=centres)
    widths = torch.zeros(centres, dtype=torch.float64).index_add(0, label, distance) / count
    alone = widths <= 0
    widths = bandwidth * torch.where(alone, distance.mean() if distance.any() else 1.0, widths)
    bases = _bases(torch.from_numpy(points), middle, widths)
    weights = torch.from_numpy(nnls(bases.numpy(), torch.ones(len(points)).double().numpy())[0])
    return tuple(a.to(z) for a in (middle, widths, weights))  # type: ignore[return-value]


def _bases(z: Tensor, centres: Tensor, widths: Tensor) -> Tensor:
    return torch.exp(-(z[:, None] - centres).square().sum(2) / (2 * widths.square()))
