"""`solve`: from a source and a target to a Brenier potential with a stated error."""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from scipy.spatial import KDTree
from torch import Tensor

from brenier.device import find, seeded
from brenier.measures import Discrete, Source
from brenier.solution import Estimate, Keeper, Solution, Status
from brenier.transport import compiling
from brenier.transport.bounds import Moves
from brenier.transport.domain import Domain
from brenier.transport.multiscale import FEW, grouped, refined
from brenier.transport.newton import Exact
from brenier.transport.potential import BrenierPotential
from brenier.transport.problem import Check, SemiDiscrete
from brenier.transport.stochastic import AveragedAdam

METHODS = ("auto", "newton", "lbfgs", "stochastic", "multiscale")
TOL = {"newton": 1e-6, "lbfgs": 1e-5, "stochastic": 0.2}
EXACT_UP_TO = {1: 10**8, 2: 10**6, 3: 10**5}  # targets for which "auto" is exact, by dimension
BATCHES = 512, 4096  # samples a step, between these
STEPS = 1000  # of a pass, as far as the samples of one allow it
FIRST = 4.0  # samples of the first pass, in n / tol²: the sampling limit of chi2 is about n / samples
RATE = 0.05  # of the first steps, in root mean square radii of the targets
LOOKS = 1 / 256, 1 / 16, 1, 4  # shares of a check's samples: the next are drawn where those before don't decide
LONGEST = 60.0  # samples of all passes together, in n / tol², when max_samples is not given


@dataclass(frozen=True)
class TransportSolution(Solution):
    """A transport: the potential, its error and its cost.

    relrms = sqrt(Σ_i (mu(W_i) − nu_i)² / nu_i) and cost = W2² = E|x − T(x)|² come from one set of fresh samples that
    the iteration never saw; of an exact method from its cells, without error. `samples` counts what the iteration drew;
    each check in `history` names what it drew. W2² lies between `lower`, the dual value, and `upper`, the cost of an
    admissible plan, which is made where there are at most 2,000 targets (None beyond): two standard errors of `lower`
    down and of `upper` up.
    """

    potential: BrenierPotential
    relrms: Estimate
    cost: Estimate
    lower: Estimate
    samples: int
    moves: Moves | None = field(default=None, repr=False)

    @cached_property
    def upper(self) -> Estimate | None:
        """The cost of an admissible plan, no less than W2²; None beyond 2,000 targets."""
        return None if self.moves is None else self.moves.above()

    def __str__(self) -> str:
        return f"{self.status} (relrms {self.relrms}, {self.samples:,} samples, {self.seconds:.1f} s)"


def solve(
    source: Source,
    target: Discrete,
    method: str = "auto",
    tol: float | None = None,
    max_seconds: float | None = None,
    max_samples: int | None = None,
    generator: torch.Generator | int | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
    start: BrenierPotential | None = None,
    keeper: Keeper | None = None,
    on_check: Callable[[dict[str, Any]], None] | None = None,
) -> TransportSolution:
    """The Brenier potential that carries `source` to `target`: min_h E(h) = ∫ u dmu − Σ nu_i h_i.

    Exact methods, for a source with a convex region and a density that is uniform or given on a grid (`UniformCube`,
    `UniformPolytope`, `GridDensity`, `UniformBall` in two dimensions), d ≤ 3: damped Newton or L-BFGS on exact cells.
    Converged is max_i |mu(W_i)/nu_i − 1| ≤ tol (default 1e-6, of L-BFGS 1e-5).

    Stochastic, for every source in every dimension: passes of averaged stochastic descent, each with twice the samples
    of the one before, start from the best affine map (or from `start`, a potential of the same points). After each pass
    chi2 = Σ (mu(W_i) − nu_i)² / nu_i is measured on fresh samples; converged is chi2 + 2 standard errors ≤ tol²
    (default tol 0.2), confirmed on another fresh set.

    Args:
        source: a measure of `brenier.measures`, or anything with `dim` and `sample(m, generator)`.
        target: n weighted points (n, d); zero weights and duplicates are allowed.
        method: "newton", "lbfgs" or "stochastic"; "auto" picks by dimension, size and source and says why in `history`,
            "multiscale" does, too, and starts from the transport to groups of targets, found in the same way.
        tol: the relrms to reach; of exact methods the largest relative error of a mass.
        max_seconds: wall seconds for everything; running out is a status, not an exception.
        max_samples: samples for the iteration, at each scale; 60 n / tol² by default.
        generator: where the randomness comes from, or a seed; torch's own default generator when None.
        device: where to solve; the points' device when None.
        progress: a bar with the error of the last check.
        start: a warm start.
        keeper: gets the state of the stochastic method after each step, and gives back that of a solve that was
            interrupted: the same call, its generator in the same state, then ends with the same answer bit for bit.
        on_check: called with each entry of the history that tells an error.

    Raises:
        ValueError: an unknown method, a tol or budget that is not positive, dimensions that differ.
        TypeError: a target that is not `Discrete`, a source that is none, a number that is none.

    Source: Gu, Luo, Sun, Yau 2016; the error and the start in docs/transport.md.

    Example:
        >>> from brenier.measures import Gaussian
        >>> target = Discrete(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), [0.25, 0.75])
        >>> solution = solve(Gaussian(2), target, tol=0.05, generator=torch.Generator().manual_seed(0))
        >>> solution.converged, solution.potential.points.shape
        (True, torch.Size([2, 2]))
    """
    began = time.perf_counter()
    if not isinstance(target, Discrete):
        raise TypeError(f"target must be a measures.Discrete, got {type(target).__name__}")
    if not isinstance(source, Source):
        raise TypeError(f"source must have dim and sample(m, generator), got {type(source).__name__}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if source.dim != target.dim:
        raise ValueError(f"source and target must share a dimension, got {source.dim} and {target.dim}")
    generator, domain = seeded(generator), Domain.of(source)
    coarsely = method == "multiscale"
    method, why = choose("auto" if coarsely else method, domain, source, target)
    tol = TOL[method] if tol is None else tol
    _check_budgets(tol=tol, max_seconds=max_seconds, max_samples=max_samples)
    if start is not None and start.heights.shape != (target.n,):
        raise ValueError(f"start must have one height per target, got {len(start.heights)} for {target.n}")
    if start is not None and not start.heights.isfinite().all():
        raise ValueError(f"start must have finite heights, got {int((~start.heights.isfinite()).sum())} NaN or Inf")
    if device is not None:
        place = find(device)
        target = Discrete(target.points.to(place), target.weights.to(place))
    history: list[dict[str, Any]] = [{"method": method, "why": why}]
    samples = 0
    if coarsely and start is None and target.n > FEW:
        coarse, group = grouped(target)
        most = None if max_seconds is None else max_seconds / 4
        answer = solve(source, coarse, "multiscale", tol / 2, most, max_samples, generator, progress=progress)
        history.append({"coarse": answer.history, "targets": coarse.n})
        start, samples = refined(answer.potential, source, target, group, generator), answer.samples
    deadline, exact = began + (max_seconds or math.inf), method in ("newton", "lbfgs")
    with _bar(progress) as bar:
        compiled = _compiled(target, exact, began, max_seconds, bar)
        problem = SemiDiscrete(source, target, generator, compiled)
        if domain is not None and exact and compiled:
            status, h, check = _exactly(problem, domain, method, tol, deadline, start, history, bar, on_check)
        else:  # exact methods that could not be compiled in time are out of time here, with a sampled error
            loop = _Loop(problem, tol, began, max_seconds, max_samples, history, bar, keeper, on_check)
            status, h, check = loop.run(problem.bures() if start is None else problem.own(start.heights).to(problem.nu))
            samples, began = samples + loop.samples, loop.began
    return TransportSolution(
        status=status,
        seconds=time.perf_counter() - began,
        history=history,
        potential=BrenierPotential(target.points, problem.heights(h)),
        relrms=check.relrms,
        cost=check.cost,
        lower=check.lower,
        samples=samples,
        moves=check.moves,
    )


def _compiled(target: Discrete, exact: bool, began: float, max_seconds: float | None, bar: Progress | None) -> bool:
    """Whether the inner loops are compiled in time: exact methods wait for them, sampling can do without."""
    if max_seconds is None and bar is None:
        return True
    patience = began + (max_seconds or math.inf) * (1 if exact else 1 / 3)
    work = partial(compiling.exact, target.dim) if exact else partial(compiling.highest, target.points.dtype)
    return compiling.within(patience, work, bar.console.print if bar is not None else None)


def choose(method: str, domain: Domain | None, source: Source, target: Discrete) -> tuple[str, str]:
    """The method to use, and why it is used.

    Raises:
        ValueError: an exact method for a source that has no exact cells.
    """
    n, d = target.points.shape
    named = f"{type(source).__name__} in {d} dimensions"
    if method == "stochastic":
        return method, "asked for"
    if method != "auto":
        if domain is None:
            raise ValueError(f"method {method!r} needs a source with a region of at most 3 dimensions, got {named}")
        return method, "asked for"
    if domain is None:
        return "stochastic", f"no exact cells for {named}"
    if n > EXACT_UP_TO[d]:
        return "stochastic", f"{n} targets are more than the {EXACT_UP_TO[d]} for which exact cells are quick"
    return "newton", f"exact cells for {named}"


def _exactly(
    problem: SemiDiscrete,
    domain: Domain,
    method: str,
    tol: float,
    deadline: float,
    start: BrenierPotential | None,
    history: list[dict[str, Any]],
    bar: Progress | None,
    on_check: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[Status, Tensor, Check]:
    """Status, heights and error of an exact method, in float64 whatever the points' numbers."""

    def watch(record: dict[str, float]) -> None:
        history.append(record)
        if on_check is not None:
            on_check(record)
        if bar is not None:
            bar.console.print(f"  {method}: largest relative error of a mass {record['error']:.2g}")

    region = domain.moved(problem.sampler.mean.cpu().numpy(), problem.sampler.scale)
    y, nu = problem.wide.cpu().numpy(), problem.weights.cpu().numpy()
    first = None if start is None else problem.own(start.heights).cpu().numpy()
    order = KDTree(y).indices  # what is near lies near in memory, too
    exact = Exact(y[order], nu[order], region, tol, deadline, watch)
    status, h, cells = exact.run(method, None if first is None else first[order])
    heights = torch.empty_like(problem.weights)
    heights[torch.from_numpy(order).to(heights.device)] = torch.from_numpy(h - nu[order] @ h).to(heights.device)
    return status, heights, problem.measured(h, cells, region, order)


class _Loop:
    """Passes and checks until a status is decided: here, once."""

    def __init__(
        self,
        problem: SemiDiscrete,
        tol: float,
        began: float,
        max_seconds: float | None,
        max_samples: int | None,
        history: list[dict[str, Any]],
        bar: Progress | None,
        keeper: Keeper | None = None,
        on_check: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.problem, self.tol, self.began, self.bar = problem, tol, began, bar
        self.keeper, self.on_check = keeper, on_check
        self.unit = max(problem.n / tol**2, 16_384)
        self.budget = int(LONGEST * self.unit) if max_samples is None else max_samples
        self.deadline = math.inf if max_seconds is None else began + max_seconds
        self.descent_deadline = math.inf if max_seconds is None else began + 0.85 * max_seconds
        self.samples, self.history = 0, history
        self.size, self.rate = FIRST * self.unit, RATE

    def run(self, h: Tensor) -> tuple[Status, Tensor, Check]:
        """Status, heights and the check that speaks for them."""
        self.end = 1e-3 * self.problem.spacing()
        left = None if self.keeper is None else self.keeper.recall()
        if left is None:
            check = self.check(h)
            self.best, self.least = h, check
        else:
            self.put_back(left)
        while True:
            if left is None:
                if check.within(self.tol):
                    check = self.check(h)  # a lucky set must not decide: another fresh one has to agree
                    if check.within(self.tol):
                        return Status.CONVERGED, h, check
                if check.chi2.mean <= self.least.chi2.mean:
                    self.best, self.least = h, check
                if time.perf_counter() > self.descent_deadline:
                    return Status.OUT_OF_TIME, self.best, self.least
                if self.samples >= self.budget:
                    return Status.OUT_OF_SAMPLES, self.best, self.least
                if self.stalled():
                    return Status.OUT_OF_PRECISION, self.best, self.least
            h, left = self.descend(h, left), None
            check = self.check(h)
            self.size, self.rate = 2 * self.size, self.rate / 2

    def descend(self, h: Tensor, left: dict[str, Any] | None = None) -> Tensor:
        """One pass over fresh samples, or the rest of one that was interrupted."""
        problem = self.problem
        if left is None:
            samples = min(int(self.size), self.budget - self.samples)
            batch = self.batch(h, samples)
            steps = samples // batch
        else:
            batch, steps = left["batch"], left["steps"]
        method = AveragedAdam(h, problem.nu, self.rate, self.end, steps, problem.groups, problem.spreads)
        if left is not None:
            method.put_back(left["moving"])
        named = f"transport, pass of {steps * batch:,.0f} samples"
        task = self.bar.add_task(named, total=steps, completed=method.t) if self.bar else None
        began, spent = time.perf_counter(), 0.0
        for _ in range(method.t, steps):
            method.step(problem.counts(method.h, batch), batch, spent)
            self.samples += batch
            if self.bar is not None and task is not None:
                self.bar.advance(task)
            spent = (time.perf_counter() - began) / max(self.descent_deadline - began, 1e-9)
            if spent >= 1:
                break
            if self.keeper is not None:
                self.keeper.keep(lambda: self.state() | {"batch": batch, "steps": steps, "moving": method.moving()})
        return method.answer

    def state(self) -> dict[str, Any]:
        """What the passes so far came to."""
        generator = self.problem.sampler.generator
        return {
            "seconds": time.perf_counter() - self.began,
            "generator": None if generator is None else generator.get_state(),
            **{name: getattr(self, name) for name in ("best", "least", "size", "rate", "samples", "history")},
        }

    def put_back(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, its time counted."""
        for name in ("best", "least", "size", "rate", "samples"):
            setattr(self, name, state[name])
        self.history[:] = state["history"]
        for name in ("began", "deadline", "descent_deadline"):
            setattr(self, name, getattr(self, name) - state["seconds"])
        generator = self.problem.sampler.generator
        if generator is not None and state["generator"] is not None:
            generator.set_state(state["generator"])

    def batch(self, h: Tensor, samples: int) -> int:
        """Samples a step, by how many the pass may draw, and where time is short by how many it can."""
        least, most = BATCHES
        if self.deadline < math.inf:
            began = time.perf_counter()
            self.problem.counts(h, most)
            affordable = most * (self.descent_deadline - began) / (time.perf_counter() - began)
            samples = min(samples, max(int(affordable), 1))
        return min(max(samples // STEPS, least) // least * least, most, samples)

    def check(self, h: Tensor) -> Check:
        """The error on fresh samples: few of them show whether it may be within tol, then as many as mostly make two
        standard errors a tenth of tol², and more where that leaves it open.
        """
        m = max(int(56 * math.sqrt(self.problem.n) / self.tol**2), 8192)
        now = time.perf_counter()  # a look may take a tenth of the time that is left, the last one all of it
        until = self.deadline if now > self.descent_deadline else now + (self.deadline - now) / 10
        for size in sorted({max(int(share * m), 8192) for share in LOOKS}):
            check = self.problem.check(h, size, self.deadline if size >= m else until)
            sure = 0 if size >= m else 4  # standard errors
            if check.chi2.mean - sure * check.chi2.sem > self.tol**2 or (size >= m and check.within(self.tol)):
                break
        seconds = time.perf_counter() - self.began
        record = {"samples": self.samples, "checked_on": check.samples, "seconds": seconds}
        self.history.append({**record, "chi2": check.chi2.mean, "sem": check.chi2.sem})
        if self.on_check is not None:
            self.on_check(self.history[-1])
        if self.bar is not None:
            self.bar.console.print(f"  relrms {check.relrms} on {check.samples:,} fresh samples")
        return check

    def stalled(self) -> bool:
        """Whether three passes in float32 have not lowered the error by a fifth."""
        errors = [entry["chi2"] for entry in self.history if "chi2" in entry]
        return self.problem.nu.dtype == torch.float32 and len(errors) > 3 and min(errors[-3:]) > 0.8 * min(errors[:-3])


def _check_budgets(**budgets: float | None) -> None:
    for name, value in budgets.items():
        if value is None:
            continue
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be positive and finite, got {value}")
        if name == "max_samples" and value != int(value):
            raise ValueError(f"max_samples must be a whole number, got {value}")


def _bar(progress: bool) -> AbstractContextManager[Progress | None]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True) if progress else nullcontext()
