"""What AE-OT stands beside in `images.py` and `small.py`: other samplers of the same codes, and plain laws of the data.

A sampler is (n, seed) -> codes (n, d), a law of the data (n, seed) -> samples (n, p), each fitted when first drawn from
and once only. What `report.baselines` has is used as it is there; besides:

mixture by BIC: of 1, 2, 3, 5, 8, 12, 20 or 30 Gaussians, full or diagonal covariances, 1e-4 of the mean variance on
their diagonals, at most one component for d + 1 rows (full) or 2 rows (diagonal). The ladder is left where BIC got
worse twice in a row.
KDE by likelihood: `baselines.kde` with the bandwidth under which a held-out fifth is most likely.
flow: a neural spline flow of zuko, three transforms of two layers of 64, with AdamW for so many seconds; the weights
that are best on a held-out tenth.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor

import brenier
from brenier import measures, report, transport
from brenier.generate import TransportSampler
from brenier.manifold.networks import seeded
from brenier.report import baselines
from brenier.solution import Estimate

Draw = Callable[[int, int], Tensor]  # (n, seed) -> (n, d)

LADDER = (1, 2, 3, 5, 8, 12, 20, 30)  # components
BANDWIDTHS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
FITTED_ON = 20_000  # rows that mixtures are fitted on, to keep them quick; 5,000 choose a bandwidth
COMPONENTS = 30  # principal components of the data that the plain laws live on
LEAST = 10.0  # seconds of training of a flow
COMPARED = 4_000  # samples that an energy distance compares, at most


@dataclass(frozen=True, eq=False)
class Mixture:
    """A fitted mixture of (y - centre) / scale."""

    law: GaussianMixture
    centre: Tensor
    scale: float

    def __call__(self, n: int, seed: int) -> Tensor:
        """n rows."""
        self.law.random_state = seed
        rows = torch.from_numpy(self.law.sample(n)[0])
        rows = rows[torch.randperm(n, generator=generator(seed))].to(self.centre)  # they come component by component
        return self.centre + self.scale * rows


def generator(seed: int) -> torch.Generator:
    """A fresh one."""
    return torch.Generator().manual_seed(seed)


def some(rows: Tensor, most: int) -> Tensor:
    """At most so many of the rows, in random order."""
    return rows[torch.randperm(len(rows), generator=generator(0))[:most]]


def mixture(rows: Tensor) -> Mixture:
    """The mixture that BIC likes best."""
    rows = some(rows, FITTED_ON)
    m, d = rows.shape
    centre, scale = rows.mean(0), rows.var(0).mean().sqrt().item() or 1.0
    x = ((rows - centre) / scale).double().numpy()
    fitted = []
    for kind, least in (("full", d + 1), ("diag", 2)):
        worse, last = 0, np.inf
        for k in LADDER:
            if worse == 2 or (k > 1 and k * least > m):
                break
            with threadpool_limits(1), warnings.catch_warnings():  # threads slow the small products of EM
                warnings.simplefilter("ignore", ConvergenceWarning)
                law = GaussianMixture(k, covariance_type=kind, reg_covar=1e-4, random_state=0).fit(x)
                bic = law.bic(x)
            fitted.append((bic, len(fitted), law))
            worse, last = (worse + 1, bic) if bic > last else (0, bic)
    return Mixture(min(fitted)[2], centre, scale)


def bandwidth(codes: Tensor) -> float:
    """Of the kernels h² S, S the covariance, the h under which a held-out fifth of the codes is most likely."""
    x = some(codes, FITTED_ON // 4).double()
    x = x - x.mean(0)
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    kept = values > 1e-10 * values[-1]
    white = x @ (vectors[:, kept] / values[kept].sqrt())
    held, known = white[: len(x) // 5], white[len(x) // 5 :]
    squared = torch.cdist(held, known).square()
    likely = [
        (torch.logsumexp(-squared / (2 * h * h), 1).mean() - white.shape[1] * np.log(h)).item() for h in BANDWIDTHS
    ]
    return BANDWIDTHS[int(np.argmax(likely))]


def flow(codes: Tensor, seconds: float) -> Draw:
    """A normalizing flow of the codes, trained for so many seconds."""
    import zuko

    centre, scale = codes.mean(0), codes.std(0)
    scale = torch.where(scale > 0, scale, 1)
    x = some((codes - centre) / scale, len(codes)).float()
    held, known = x[: -(-len(x) // 10)], x[-(-len(x) // 10) :]
    with seeded(0):
        law = zuko.flows.NSF(x.shape[1], transforms=3, hidden_features=(64, 64))
    steps = torch.optim.AdamW(law.parameters(), lr=1e-3, weight_decay=1e-4)
    stream, best, kept, end = generator(1), np.inf, law.state_dict(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        for batch in torch.randperm(len(known), generator=stream).split(256):
            loss = -law().log_prob(known[batch]).mean()
            steps.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(law.parameters(), 5.0)
            steps.step()
            if time.perf_counter() > end:
                break
        with torch.no_grad():
            error = -law().log_prob(held).mean().item()
        if error < best:
            best, kept = error, copy.deepcopy(law.state_dict())
    law.load_state_dict(kept)

    def draw(n: int, seed: int) -> Tensor:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            return centre + scale * law().sample((n,)).to(codes)

    return draw


def flow_seconds(model: brenier.AEOT) -> float:
    """What a flow gets: the seconds of AE-OT's own law of the codes, and at least 10."""
    return max(LEAST, sum(t for stage, t in model.seconds_.items() if stage != "manifold"))


def lazy(fit: Callable[[], Draw]) -> Draw:
    """A sampler that is fitted when it is first drawn from."""
    fitted = cache(fit)
    return lambda n, seed: fitted()(n, seed)


def paper(model: brenier.AEOT) -> Draw:
    """The extension of the paper, on the same transport."""
    source = measures.Gaussian(model.codes_.shape[1])
    u, singular = model.transport_.potential, model.singular_
    made = transport.extend(u, source, "barycentric", singular=singular, generator=generator(0))
    return lambda n, seed: TransportSampler(made, source).draw(n, seed).codes.cpu()


def samplers(model: brenier.AEOT, components: tuple[int, ...] = (30,), seconds: float | None = None) -> dict[str, Draw]:
    """The model's own sampler and its rivals, by name; a flow where its seconds of training are given."""
    codes = model.codes_
    made: dict[str, Draw] = {
        "AE-OT": lambda n, seed: model.draw(n, seed).codes.cpu(),
        "AE-OT, the paper's extension": lazy(lambda: paper(model)),
        "copies": lambda n, seed: baselines.copies(codes, n, seed),
        "one Gaussian": lambda n, seed: baselines.gaussian(codes, n, seed),
        "mixture by BIC": lazy(lambda: mixture(codes)),
    }
    for k in components:
        made[f"GMM-{k}"] = lambda n, seed, k=k: baselines.gmm(some(codes, FITTED_ON), n, seed, components=k)
    chosen = cache(lambda: bandwidth(codes))
    made["KDE 0.1"] = lambda n, seed: baselines.kde(codes, n, seed)
    made["KDE by likelihood"] = lambda n, seed: baselines.kde(codes, n, seed, bandwidth=chosen())
    made["SMOTE, k = 5"] = lambda n, seed: baselines.smote(codes, n, seed)
    if seconds is not None:
        made["flow"] = lazy(lambda: flow(codes, seconds))
    return made


def plain_laws(x: Tensor) -> dict[str, Draw]:
    """One Gaussian and a mixture by BIC on the principal components (30 at most) of the samples x (m, p)."""
    found = PCA(min(COMPONENTS, x.shape[1], len(x) - 1), random_state=0).fit(x.numpy())
    scores, axes, mean = (
        torch.from_numpy(part) for part in (found.transform(x.numpy()), found.components_, found.mean_)
    )

    def of(law: Draw) -> Draw:
        return lambda n, seed: mean + law(n, seed) @ axes

    return {
        "one Gaussian of the data": of(lambda n, seed: baselines.gaussian(scores, n, seed)),
        "mixture by BIC of the data": of(lazy(lambda: mixture(scores))),
    }


def principal_error(x: Tensor, x_test: Tensor, d: int) -> float:
    """Mean squared error of the test samples (k, p), rebuilt from their first d principal components of x (m, p)."""
    found = PCA(min(d, x.shape[1], len(x)), random_state=0).fit(x.numpy())
    rebuilt = found.inverse_transform(found.transform(x_test.numpy()))
    return float(np.square(x_test.numpy() - rebuilt).mean())


def decoded(model: brenier.AEOT, draw: Draw) -> Draw:
    """The law of the data that a sampler of codes has through the chart, rows (n, p) in network form."""
    return lambda n, seed: model.chart_.decode(draw(n, seed)).cpu().flatten(1)


def apart(law: Draw, x: Tensor, x_test: Tensor, seed: int) -> Estimate:
    """Squared energy distance of a law of the data to unseen samples x_test, in network form.

    As many new samples as there are training samples x, since more of them make it sharper; 4,000 of both at most.
    """
    return report.energy(law(min(len(x), COMPARED), seed), some(x_test.flatten(1), COMPARED))
