"""Natural gradient written out on a small network, then the same line for networks of any size.

    python examples/natural_gradient.py

A network of 27 numbers learns which of three sectors of the plane a point lies in. First θ ← θ − η F⁺ ∇L as it stands,
then `NaturalGradient`, whose first step is the same; last gradient descent with the best of ten step sizes. Prints the
losses. Takes a second.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brenier.information import NaturalGradient, fisher


def sectors(m: int) -> tuple[Tensor, Tensor]:
    """Points of the plane and the third of the circle that they lie in."""
    x = torch.randn(m, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x, ((torch.atan2(x[:, 1], x[:, 0]) / torch.pi + 1) * 1.5).long()


def network() -> nn.Sequential:
    """2 → 4 → 3 with the weights of seed 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def written_out(x: Tensor, y: Tensor, eta: float, damping: float, steps: int) -> list[float]:
    """The formula: J by a backward pass for every output, F = 1/m Σ Jᵀ (diag p − p pᵀ) J, θ − η pinv(F + λ) ∇L."""
    model, losses = network(), []
    theta = list(model.parameters())

    def flat(value: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, theta, retain_graph=True)])

    for _ in range(steps):
        outputs = model(x)
        loss = F.cross_entropy(outputs, y)
        grad = flat(loss)
        matrix = damping * torch.eye(len(grad), dtype=grad.dtype)
        for row in outputs:
            jacobian = torch.stack([flat(output) for output in row])
            p = row.detach().softmax(0)
            matrix += jacobian.T @ (p.diag() - torch.outer(p, p)) @ jacobian / len(x)
        step = -eta * torch.linalg.pinv(matrix, hermitian=True) @ grad
        nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(theta) + step, theta)
        losses.append(float(loss.detach()))
    return losses


def by_optimiser(x: Tensor, y: Tensor, steps: int, **settings: object) -> list[float]:
    """The usual loop."""
    model, losses = network(), []
    optimiser = NaturalGradient(model, **settings)  # type: ignore[arg-type]
    for _ in range(steps):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def by_descent(x: Tensor, y: Tensor, steps: int) -> list[float]:
    """Gradient descent with the best of ten step sizes."""
    found = []
    for lr in (0.01 * 2.0**k for k in range(10)):
        model, losses = network(), []
        optimiser = torch.optim.SGD(model.parameters(), lr)
        for _ in range(steps):
            optimiser.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        found.append(losses)
    return min(found, key=lambda losses: losses[-1])


def main() -> None:
    """Print the table."""
    x, y = sectors(60)
    steps = 20
    print(fisher(network(), x))
    curves = {
        "written out": written_out(x, y, 0.5, 1e-3, steps),
        "the same by NaturalGradient": by_optimiser(x, y, steps, lr=0.5, structure="dense", damping=1e-3),
        "damping by itself": by_optimiser(x, y, steps, structure="dense"),
        "Kronecker factors": by_optimiser(x, y, steps, structure="kfac"),
        "gradient descent": by_descent(x, y, steps),
    }
    print(f"{'loss at step':30}" + "".join(f"{k:>9}" for k in (1, 2, 5, 10, 20)))
    for name, losses in curves.items():
        print(f"{name:30}" + "".join(f"{losses[k - 1]:9.5f}" for k in (1, 2, 5, 10, 20)))


if __name__ == "__main__":
    main()
