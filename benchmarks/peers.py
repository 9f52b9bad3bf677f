"""OTT's and POT's stochastic solvers from N(0, I), given as many steps as fit into a number of seconds.

Finding that number and compiling do not count. OTT: Adam with a cosine decay from 0.2 √(d/32), batches of 1,024, no
entropy. POT: DRAG, tuned on the mixture of `semidiscrete.py` for n = 10,000 and d = 32: batches of 256, ten times its
default rate, an entropy of 10 d/32 to begin with; float32 torch tensors, the cost by one product (its backends numpy
and jax took 3 and 1.0 times as long a step, float64 1.7). Elsewhere a tenth of that entropy is at times the better one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import timed

from brenier.measures import Discrete

BATCH = {"ott": 1024, "pot": 256}  # samples a step
FEW = 8  # steps of the first look at their pace
NEAR = 0.15  # by which share of the seconds a run may miss them
LOOKS = 3  # runs at most until one does not
PACES: dict[tuple[str, Discrete, float, float], float] = {}  # seconds a step, learnt from the runs before
SETTINGS = {"ott": (0.2,), "pot": (10.0, 1.0)}  # rate or entropy at d = 32; the first is the one for the mixture


class Answer(NamedTuple):
    """Heights, the samples drawn for them, and the wall and CPU seconds they took."""

    heights: torch.Tensor
    samples: int
    wall: float
    cpu: float


def ott(target: Discrete, seconds: float, seed: int, rate: float) -> Answer:
    """OTT's SemidiscreteSolver."""
    import jax
    import optax
    from ott.geometry.semidiscrete_pointcloud import SemidiscretePointCloud
    from ott.problems.linear.semidiscrete_linear_problem import SemidiscreteLinearProblem
    from ott.solvers.linear.semidiscrete import SemidiscreteSolver

    y, nu = (jax.numpy.asarray(part.numpy()) for part in (target.points, target.weights))
    problem = SemidiscreteLinearProblem(SemidiscretePointCloud(jax.random.normal, y, epsilon=0.0), nu)

    def prepared(steps: int) -> Callable[[], Any]:
        solver = SemidiscreteSolver(
            num_iterations=steps,
            batch_size=BATCH["ott"],
            optimizer=optax.adam(optax.cosine_decay_schedule(rate * math.sqrt(target.dim / 32), steps)),
            error_eval_every=steps,  # once, with the least work, and never a reason to stop
            error_num_repeats=1,
            threshold=-1.0,
        )
        call = jax.jit(lambda key: solver(key, problem).g).lower(jax.random.key(seed)).compile()
        return lambda: np.array(call(jax.random.key(seed)))

    return stepped(("ott", target, seconds, rate), prepared)


def pot(target: Discrete, seconds: float, seed: int, entropy: float) -> Answer:
    """POT's solve_semidiscrete."""
    from ot.semidiscrete import solve_semidiscrete

    y, generator = target.points, torch.Generator().manual_seed(seed)
    norms = y.square().sum(1)

    def cost(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return torch.addmm(norms, x, y.T, alpha=-2).add_(x.square().sum(1, keepdim=True))

    def prepared(steps: int) -> Callable[[], Any]:
        return lambda: solve_semidiscrete(
            y,
            lambda m: torch.randn(m, target.dim, generator=generator),
            target.weights,
            metric=cost,
            max_iter=steps,
            batch_size=BATCH["pot"],
            lr0=10 * math.sqrt(target.n * BATCH["pot"]),
            decreasing_reg_initial_eps=entropy * target.dim / 32,
        )

    return stepped(("pot", target, seconds, entropy), prepared)


def stepped(key: tuple[str, Discrete, float, float], prepared: Callable[[int], Callable[[], Any]]) -> Answer:
    """The first of LOOKS runs that takes about the seconds; its g are heights (g − |y|²)/2."""
    name, target, seconds, _ = key
    if key not in PACES:
        prepared(FEW)()
        PACES[key] = timed(prepared(FEW)).wall / FEW
        more = int(min(seconds / 5, 2.0) / PACES[key])
        if more > FEW:
            PACES[key] = timed(prepared(more)).wall / more
    for _ in range(LOOKS):
        steps = max(FEW, round(seconds / PACES[key]))
        run = timed(prepared(steps))
        PACES[key] = run.wall / steps
        if abs(run.wall / seconds - 1) <= NEAR:
            break
    heights = (torch.as_tensor(run.answer).double() - target.points.double().square().sum(1)) / 2
    return Answer(heights - heights.mean(), steps * BATCH[name], run.wall, run.cpu)
