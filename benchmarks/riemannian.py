"""Minimisation on manifolds: many problems at once, beside a loop over pymanopt, and geoopt's Riemannian Adam.

    python benchmarks/riemannian.py
    python benchmarks/riemannian.py --problems 100 --peer-problems 3
    python benchmarks/riemannian.py --part problems | large | long | retractions | recurrence

Every problem is solved in float64 to a norm of the gradient of 1e-6, from the same starts. pymanopt (torch backend,
verbosity 0) solves one problem at a time, so a few stand for all; its seconds are a problem's mean. geoopt's Adam moves
the whole batch for as many steps as are stated, with the better of two rates; it has no stopping rule. Gaps are those
of the costs, relative to the best cost that anyone found, the largest over the problems both solved.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from machine import about, timed
from torch import nn

from brenier import riemannian
from brenier.riemannian import SPD, Grassmann, PoincareBall, Sphere, Stiefel

F64 = torch.float64
TOL = 1e-6
STEPS = 2000
PARTS = ("retractions", "problems", "large", "long", "recurrence")


@dataclass(frozen=True)
class Task:
    """A cost for data (..., rows) and points x, the manifold, starts, and how pymanopt names the manifold."""

    name: str
    cost: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    data: torch.Tensor
    manifold: riemannian.Stiefel
    start: torch.Tensor
    theirs: str


def brockett(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """−tr(xᵀ a x w), w = p, ..., 1: principal axes one by one."""
    weights = torch.arange(x.shape[-1], 0, -1, dtype=x.dtype)
    return -((a @ x) * x * weights).sum((-2, -1))


def span(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """−tr(xᵀ a x): the span of the principal axes."""
    return -((a @ x) * x).sum((-2, -1))


def completion(known: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """½ Σ over known entries of (u w − m)² + λ/2 |w|², w the best for u; unknown entries are NaN."""
    mask = (~known.isnan()).to(u.dtype)
    m = known.nan_to_num()
    eye = torch.eye(u.shape[-1], dtype=u.dtype)
    pairs = (u[..., :, None] * u[..., None, :]).flatten(-2)
    gram = (mask.mT @ pairs).unflatten(-1, eye.shape) + 1e-3 * eye
    right = (mask * m).mT @ u
    w = torch.linalg.solve(gram, right)
    return (mask * (m - u @ w.mT)).square().sum((-2, -1)) / 2 + 5e-4 * w.square().sum((-2, -1))


def karcher(inverse_roots: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """½ mean_i d(x, s_i)², given s_i^(−1/2) (..., k, n, n)."""
    white = inverse_roots @ x[..., None, :, :] @ inverse_roots
    return torch.linalg.eigvalsh((white + white.mT) / 2).log().square().sum(-1).mean(-1) / 2


def tasks(b: int, n: int, p: int) -> list[Task]:
    """Problems of n × p, b of each."""
    draw = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, dtype=F64, generator=draw)
    scale = torch.ones(n, dtype=F64)
    scale[:p] = torch.linspace(2, 4, p)
    a = normal(b, n, 2 * n) * scale[:, None]
    a = a @ a.mT / (2 * n)
    start = Stiefel().projx(normal(b, n, p))
    few = max(b // 5, 1)
    full = normal(few, n, p) @ normal(few, p, n + 10)
    known = torch.where(torch.rand(full.shape, generator=draw) < 0.5, full, torch.nan)
    s = normal(b, 10, 6, 6)
    s = s @ s.mT + 0.1 * torch.eye(6, dtype=F64)
    values, vectors = torch.linalg.eigh(s)
    roots = vectors * values.rsqrt()[..., None, :] @ vectors.mT
    return [
        Task(f"PCA, Stiefel {n}×{p}", brockett, a, Stiefel(), start, f"Stiefel({n}, {p})"),
        Task(f"PCA, Grassmann {n}×{p}", span, a, Grassmann(), start, f"Grassmann({n}, {p})"),
        Task(f"completion, Grassmann {n}×{p}", completion, known, Grassmann(), start[:few], f"Grassmann({n}, {p})"),
        Task("Karcher mean of 10, SPD 6×6", karcher, roots, SPD(), s.mean(1), "SymmetricPositiveDefinite(6)"),
    ]


def theirs(task: Task, method: str, rows: int) -> tuple[float, torch.Tensor, int]:
    """pymanopt, problem by problem: seconds a problem, costs, and how many stopped by the gradient's norm."""
    import pymanopt
    from pymanopt import manifolds, optimizers

    name, _, sizes = task.theirs.rstrip(")").partition("(")
    manifold = getattr(manifolds, name)(*(int(size) for size in sizes.split(",")))
    solver = {"cg": optimizers.ConjugateGradient, "trust": optimizers.TrustRegions}[method]

    def solve() -> list[tuple[float, bool]]:
        found = []
        for data, start in zip(task.data[:rows], task.start[:rows], strict=True):

            @pymanopt.function.pytorch(manifold)
            def cost(x, data=data):
                return task.cost(data, x)

            optimizer = solver(min_gradient_norm=TOL, max_iterations=STEPS, max_time=60, verbosity=0)
            result = optimizer.run(pymanopt.Problem(manifold, cost), initial_point=start.numpy())
            found.append((float(result.cost), result.gradient_norm is not None and result.gradient_norm <= TOL))
        return found

    run = timed(solve)
    costs, done = zip(*run.answer, strict=True)
    return run.wall / rows, torch.tensor(costs, dtype=F64), sum(done)


def adam(task: Task, steps: int) -> tuple[float, torch.Tensor]:
    """geoopt's Riemannian Adam on the whole batch with its best rate: seconds a problem of that run, and costs."""
    import geoopt

    space = geoopt.SymmetricPositiveDefinite() if isinstance(task.manifold, SPD) else geoopt.Stiefel(canonical=False)

    def descend(lr: float) -> torch.Tensor:
        x = geoopt.ManifoldParameter(task.start.clone(), manifold=space)
        optimiser = geoopt.optim.RiemannianAdam([x], lr=lr)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = lr * (1 - step / steps)
            optimiser.zero_grad()
            task.cost(task.data, x).sum().backward()
            optimiser.step()
        return task.cost(task.data, x.detach())

    runs = [timed(descend, lr) for lr in (0.1, 0.03)]
    best = min(runs, key=lambda run: float(run.answer.nan_to_num(torch.inf).mean()))
    return best.wall / len(task.start), best.answer


def gap(costs: torch.Tensor, best: torch.Tensor) -> str:
    """The largest relative excess of the first costs over the best."""
    return f"{float(((costs[: len(best)] - best) / best.abs()).amax()):.1e}"


def problems(given: list[Task], peer_rows: int, adam_steps: int, methods: tuple[str, ...]) -> None:
    """The table of problems of one size."""
    b = len(given[0].start)
    print(f"\n{b} problems of each kind side by side (completion: a fifth); milliseconds a problem:\n")
    print("| problem | by | steps | converged | ms a problem | cost above the best | times faster than pymanopt |")
    print("|" + "---|" * 7, flush=True)
    for task in given:
        b = len(task.start)
        rows = min(peer_rows, b)
        solvers = ("cg", "trust") if task.start.shape[-2] < 500 else ("cg",)
        peers = {m: theirs(task, m, rows) for m in solvers if rows}
        cost = partial(task.cost, task.data)
        ours = {m: riemannian.minimize(cost, task.manifold, task.start, m, TOL, STEPS) for m in methods}
        moved = adam(task, adam_steps) if adam_steps else None
        costs = [s.cost[:rows] for s in ours.values()] + [c for _, c, _ in peers.values()]
        costs += [moved[1][:rows]] if moved else []
        best = torch.stack(costs).amin(0) if rows else next(iter(ours.values())).cost
        quickest = min((seconds for seconds, _, _ in peers.values()), default=float("nan"))
        for m, s in ours.items():
            each = s.seconds / b
            done = f"{int((s.gradient_norm <= TOL).sum())} of {b}"
            shown = f"{len(s.history) - 1} | {done} | {1e3 * each:.2f} | {gap(s.cost, best)} | {quickest / each:.0f}"
            print(f"| {task.name} | brenier {m} | {shown} |", flush=True)
        for m, (seconds, c, done) in peers.items():
            print(f"| | pymanopt {m} | | {done} of {rows} | {1e3 * seconds:.1f} | {gap(c, best)} | |", flush=True)
        if moved:
            print(f"| | geoopt Adam | {adam_steps} | | {1e3 * moved[0]:.2f} | {gap(moved[1], best)} | |", flush=True)


def retractions() -> None:
    """The table of orders: distance of retr(x, t v) from the geodesic, a power of t."""
    print("\nOrder p of d(retr(x, t v), exp_x(t v)) ~ t^p, between t = 0.01 and 0.001; 64 points, float64:\n")
    print("| manifold | retraction | p |")
    print("|---|---|---|")
    draw = torch.Generator().manual_seed(0)
    for manifold, name, retr, shape in (
        (Sphere(), "(x + u)/norm", Sphere().retr, (64, 10)),
        (Stiefel(), "Q factor", Stiefel().retr, (64, 10, 3)),
        (Stiefel(), "polar factor", lambda x, u: Stiefel().projx(x + u), (64, 10, 3)),
        (Grassmann(), "Q factor", Grassmann().retr, (64, 10, 3)),
        (SPD(), "x + u + u x⁻¹u/2", SPD().retr, (64, 4, 4)),
        (PoincareBall(), "x + u", PoincareBall().retr, (64, 4)),
    ):
        x = torch.randn(shape, dtype=F64, generator=draw)
        x = x @ x.mT + torch.eye(4, dtype=F64) if isinstance(manifold, SPD) else manifold.projx(x / 5)
        v = manifold.proju(x, torch.randn(shape, dtype=F64, generator=draw))
        v = v / manifold.norm(x, v, keepdim=True)
        far, near = (manifold.dist(retr(x, t * v), manifold.expmap(x, t * v)).mean() for t in (1e-2, 1e-3))
        print(f"| {type(manifold).__name__} | {name} | {float((far / near).log10()):.3f} |", flush=True)


def recurrence(steps: int) -> None:
    """The adding problem by an orthogonal recurrence, float32: constraint and loss after many steps of Adam."""
    print(f"\nThe adding problem, 30 steps long, by a recurrent network of 64 units; {steps} steps of Adam, float32:\n")
    print("| recurrent weights | loss over the last hundred steps | constraint error | ms a step |")
    print("|---|---|---|---|", flush=True)
    for kind in ("unconstrained", "brenier constrain, torch Adam", "geoopt parameter, Riemannian Adam"):
        torch.manual_seed(0)
        rnn, head = nn.RNN(2, 64, nonlinearity="relu", batch_first=True), nn.Linear(64, 1)
        nn.init.orthogonal_(rnn.weight_hh_l0)
        error, optimiser = prepare(kind, rnn, head)
        draw = torch.Generator().manual_seed(1)
        losses: list[float] = []

        def train(rnn=rnn, head=head, optimiser=optimiser, draw=draw, losses=losses) -> None:
            for _ in range(steps):
                x = torch.rand(32, 30, 2, generator=draw)
                first = torch.randint(15, (32,), generator=draw)
                second = 15 + torch.randint(15, (32,), generator=draw)
                x[..., 1] = 0
                x[torch.arange(32), first, 1] = x[torch.arange(32), second, 1] = 1
                y = (x[..., 0] * x[..., 1]).sum(1)
                loss = (head(rnn(x)[0][:, -1])[:, 0] - y).square().mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_([*rnn.parameters(), *head.parameters()], 1.0)
                optimiser.step()
                losses.append(loss.item())

        run = timed(train)
        last = sum(losses[-100:]) / 100
        print(f"| {kind} | {last:.4f} | {error():.1e} | {1e3 * run.wall / steps:.2f} |", flush=True)


def prepare(kind: str, rnn: nn.RNN, head: nn.Linear) -> tuple[Callable[[], float], torch.optim.Optimizer]:
    """How far the recurrent weights are from orthogonal, and the optimiser."""
    if kind.startswith("geoopt"):
        import geoopt

        rnn.weight_hh_l0 = geoopt.ManifoldParameter(rnn.weight_hh_l0.data, manifold=geoopt.Stiefel(canonical=False))
        optimiser: torch.optim.Optimizer = geoopt.optim.RiemannianAdam([*rnn.parameters(), *head.parameters()], lr=1e-3)
    else:
        if kind.startswith("brenier"):
            riemannian.constrain(rnn, "weight_hh_l0", "stiefel")
        optimiser = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=1e-3)
    return lambda: float(Stiefel().error(rnn.weight_hh_l0.detach())), optimiser


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["all", *PARTS], default="all")
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--peer-problems", type=int, default=5)
    parser.add_argument("--adam-steps", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("## Minimisation on manifolds\n")
    print(about("torch", "numpy", "geoopt", "pymanopt", threads=1))
    if options.part in ("all", "retractions"):
        retractions()
    if options.part in ("all", "problems"):
        small = tasks(options.problems // 20, 20, 3)
        problems(small, options.peer_problems, options.adam_steps, ("cg", "lbfgs", "trust"))
    if options.part in ("all", "large"):
        many = [task for task in tasks(options.problems, 50, 5) if not task.name.startswith("completion")]
        problems(many, min(options.peer_problems, 3), 0, ("cg",))
    if options.part in ("all", "long"):
        long = [task for task in tasks(4, 1000, 50) if task.name.startswith("PCA")]
        problems(long, 1, 0, ("cg",))
    if options.part in ("all", "recurrence"):
        recurrence(options.steps)


if __name__ == "__main__":
    main()
