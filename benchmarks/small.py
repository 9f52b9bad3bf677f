"""AE-OT with default settings on small data sets of every kind, beside other samplers of the same codes.

    pip install -e '.[tables,bench]' && pip install --no-deps scanpy==1.11.5
    python benchmarks/small.py --data-dir FOLDER_OF_PHOTOS_NPZ     # all sets of `sets.py`, three seeds
    python benchmarks/small.py --quick --sets digits wine          # one seed, no flow
    python benchmarks/small.py --ladder                            # the automatic latent_dim beside other dimensions

A seed splits the set and seeds the fit. Rivals (`rivals.py`) get the codes of the same chart, of a table its coded
rows; the flow trains for the seconds of AE-OT's transport and extension, and at least for 10.

c2st, nn, fid_rec: as in the report. marginals: mean Kolmogorov-Smirnov distance to test samples over the columns of
vectors and tables, over 30 principal components of images. energy: squared energy distance of decoded codes to test
samples, in the space of the data, as `score` measures it. The laws "of the data" live on 30 principal components of
it, without a chart. Numbers are mean ± spread over seeds; each is the mean of a few draws where the test set is small.

The verdict compares AE-OT with the best of mixture by BIC, both KDEs and SMOTE: ahead, level (no farther behind than
one standard error of the difference) or behind. The standard error of a mean over S seeds is the larger of what the
numbers themselves claim and of the spread, over √S. A c2st below 0.5 counts as 0.5. nn is to be at least 0.85. energy
is to be at most the least of copies', one Gaussian's and the mixture's, within its own standard error.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from math import hypot, sqrt

import numpy as np
import sets
import torch
from machine import about
from rivals import Draw, apart, decoded, flow_seconds, plain_laws, principal_error, samplers
from sklearn.decomposition import PCA
from torch import Tensor

import brenier
from brenier.solution import Estimate

SHOWN = ("c2st", "nn", "fid_rec", "marginals", "energy")
CLOSE = ("c2st", "fid_rec", "marginals")  # AE-OT is to be ahead of or level with the best of these:
BEST_OF = ("mixture by BIC", "KDE 0.1", "KDE by likelihood", "SMOTE, k = 5")
PLAIN = ("copies", "one Gaussian of the data", "mixture by BIC of the data")  # no nearer to unseen samples
NEW = 0.85  # nn, at least
DIMENSIONS = (2, 4, 8, 16, 32, 64)
BLOCKS = 10  # of the jackknife of marginals

DRAWS = 5  # of which small test sets get the mean, at most

Numbers = dict[tuple[str, str], list[Estimate]]  # of a sampler and a number, seed by seed


def distances(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over columns of the Kolmogorov-Smirnov distance of two samples (m, c) and (n, c)."""
    found = []
    for x, y in zip(np.sort(a, 0).T, np.sort(b, 0).T, strict=True):
        both = np.concatenate([x, y])
        below = [np.searchsorted(part, both, side="right") / len(part) for part in (x, y)]
        found.append(np.abs(below[0] - below[1]).max())
    return float(np.mean(found))


def marginals(a: np.ndarray, b: np.ndarray) -> Estimate:
    """The mean distance and its error, a jackknife over random blocks of both samples."""
    rng = np.random.default_rng(0)
    blocks = min(BLOCKS, len(a) // 2, len(b) // 2)
    of_a, of_b = (rng.permutation(len(x)) % blocks for x in (a, b))
    left_out = [distances(a[of_a != k], b[of_b != k]) for k in range(blocks)]
    return Estimate(distances(a, b), sqrt((blocks - 1) * np.var(left_out)))


def columns(model: brenier.AEOT, x_train: Tensor):
    """The map from samples in network form to the columns (m, c) whose marginals are compared."""
    if model.layout_.kind == "table":
        return lambda x: model.layout_.to_user(x).to_numpy(dtype=float)
    if model.layout_.kind == "vectors":
        return lambda x: x.double().numpy()
    flat = x_train.flatten(1).numpy()
    found = PCA(min(30, flat.shape[1], len(flat)), random_state=0).fit(flat)
    return lambda x: found.transform(x.flatten(1).numpy())


def fitted(name: str, seed: int, latent_dim: int | None, options: argparse.Namespace):
    """A model, its training samples and its test samples in network form."""
    split = sets.load(name, seed, options.data_dir)
    x, y = split.x_train[: options.limit], split.y_train
    model = brenier.AEOT(latent_dim=latent_dim, seed=seed).fit(x, y if y is None else y[: options.limit])
    return model, model.layout_.to_network(x), model.layout_.to_network(split.x_test)


def numbers_of(model: brenier.AEOT, draw: Draw, x: Tensor, x_test: Tensor, seed: int) -> dict[str, Estimate]:
    """c2st, nn, fid_rec and marginals of a sampler of codes, the mean over draws, and its energy distance."""
    to_columns, many = columns(model, x), min(DRAWS, -(-1000 // len(x_test)))
    wanted, rows = to_columns(x_test), []
    for drawn in range(many):
        codes = draw(len(x_test), DRAWS * seed + drawn)
        found = marginals(to_columns(model.chart_.decode(codes).cpu()), wanted)
        rows.append(model.judge(codes, x_test) | {"marginals": found})
    mean = {key: np.mean([row[key] for row in rows], 0) for key in ("c2st", "nn", "fid_rec", "marginals")}
    numbers = {key: Estimate(float(value), float(sem)) for key, (value, sem) in mean.items()}
    return numbers | {"energy": apart(decoded(model, draw), x, x_test, seed)}


def measure(name: str, options: argparse.Namespace) -> tuple[Numbers, list[str], float]:
    """All numbers of a set, what to say of the fits, and the chart's error over that of principal components."""
    numbers: Numbers = defaultdict(list)
    said, ratios = [], []
    for seed in range(options.seeds):
        model, x, x_test = fitted(name, seed, options.latent_dim, options)
        seconds, d = model.seconds_, model.codes_.shape[1]
        trained = None if options.quick else flow_seconds(model)
        for sampler, draw in samplers(model, seconds=trained).items():
            for key, value in numbers_of(model, draw, x, x_test, seed).items():
                numbers[sampler, key].append(value)
        for law, draw in plain_laws(x.flatten(1)).items():
            numbers[law, "energy"].append(apart(draw, x, x_test, seed))
        chart, plain = errors(model, x, x_test)
        ratios.append(chart / plain)
        stages = ", ".join(f"{stage} {t:.0f}" for stage, t in seconds.items())
        said.append(
            f"Seed {seed}: {len(x):,} to fit, {len(x_test):,} to test; {d} codes, {len(set(model.modes_))} modes; "
            f"error of the chart {chart:.4g}, of principal components {plain:.4g}; "
            f"{sum(seconds.values()):.0f} s ({stages})."
        )
    return dict(numbers), said, float(np.mean(ratios))


def errors(model: brenier.AEOT, x: Tensor, x_test: Tensor) -> tuple[float, float]:
    """Mean squared error of the rebuilt test samples: of the chart, and of as many principal components."""
    rebuilt = model.chart_.decode(model.chart_.encode(x_test)).cpu()
    chart = (rebuilt - x_test).double().square().mean().item()
    return chart, principal_error(x.flatten(1), x_test.flatten(1), model.codes_.shape[1])


def overall(estimates: list[Estimate]) -> Estimate:
    """The mean over seeds and its standard error."""
    means, own = np.array([e.mean for e in estimates]), sqrt(np.mean([e.sem**2 for e in estimates]))
    spread = means.std(ddof=1) if len(means) > 1 else 0.0
    return Estimate(float(means.mean()), max(own, spread) / sqrt(len(means)))


def shown(estimates: list[Estimate] | None) -> str:
    """Mean ± spread over seeds; of one seed the number and its own error."""
    if estimates is None:
        return "–"
    means = np.array([e.mean for e in estimates])
    return f"{means.mean():.4g} ± {means.std(ddof=1) if len(means) > 1 else estimates[0].sem:.2g}"


def verdict(name: str, numbers: Numbers, ratio: float) -> list[str]:
    """A row of the last table."""
    found = {key: overall(values) for key, values in numbers.items()}
    cells = []
    for key in CLOSE:
        least = 0.5 if key == "c2st" else 0.0
        ours, rival = found["AE-OT", key], min(BEST_OF, key=lambda each, key=key: found[each, key].mean)
        best = found[rival, key]
        behind = max(ours.mean, least) - max(best.mean, least)
        said = "ahead" if behind < 0 else "level" if behind <= hypot(ours.sem, best.sem) else "**behind**"
        cells.append(f"{said}: {ours} ({rival} {best})")
    nn = found["AE-OT", "nn"]
    cells.append(f"{'yes' if nn.mean >= NEW else '**no**'}: {nn}")
    ours, rival = found["AE-OT", "energy"], min(PLAIN, key=lambda each: found[each, "energy"].mean)
    best = found[rival, "energy"]
    cells.append(f"{'yes' if ours.mean - ours.sem <= best.mean else '**no**'}: {ours} ({rival} {best})")
    cells.append("identity" if ratio == 0 else f"{'yes' if ratio <= 1 else '**no**'}: {ratio:.3f}")
    return [name, *cells]


def ladder(name: str, options: argparse.Namespace) -> None:
    """Prints the score at the automatic dimension beside that at each of the ladder, and the errors of the charts.

    The score is minus the energy distance, as `model.score`, of more new samples, so that its error is smaller.
    """
    print("| seed | dimension | score | error of the chart | of principal components | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    said = []
    for seed in range(options.seeds):
        scores: dict[int | None, Estimate] = {}
        for wanted in (None, *DIMENSIONS):
            shape = sets.load(name, seed, options.data_dir).x_train[: options.limit].shape
            if wanted is not None and wanted >= min(shape[0], np.prod(shape[1:])):
                continue
            began = time.perf_counter()
            model, x, x_test = fitted(name, seed, wanted, options)
            seconds, d = time.perf_counter() - began, model.codes_.shape[1]
            scores[wanted] = apart(decoded(model, samplers(model)["AE-OT"]), x, x_test, seed)
            chart, plain = errors(model, x, x_test)
            label = f"automatic: {d}" if wanted is None else str(d)
            score = f"{-scores[wanted].mean:.4g} ± {scores[wanted].sem:.2g}"
            print(f"| {seed} | {label} | {score} | {chart:.4g} | {plain:.4g} | {seconds:.0f} |", flush=True)
        own = scores.pop(None)
        best = min(scores, key=lambda wanted: scores[wanted].mean)
        said.append(
            f"Seed {seed}: the automatic dimension scores {-own.mean:.4g} ± {own.sem:.2g}, the best, {best}, "
            f"{-scores[best].mean:.4g} ± {scores[best].sem:.2g}: {own.mean / scores[best].mean:.3g} times as much."
        )
    print("", *said, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=sets.NAMES, default=sets.NAMES, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="at most so many rows to fit")
    parser.add_argument("--latent-dim", type=int)
    parser.add_argument("--data-dir")
    parser.add_argument("--quick", action="store_true", help="one seed, no flow")
    parser.add_argument("--ladder", action="store_true")
    options = parser.parse_args()
    options.seeds = 1 if options.quick else options.seeds
    print(about("torch", "scikit-learn", "zuko", threads=torch.get_num_threads()), flush=True)
    verdicts = []
    for name in options.sets:
        try:
            sets.load(name, 0, options.data_dir)
        except FileNotFoundError as missing:
            print(f"\n## {name}: skipped, {missing}")
            continue
        print(f"\n## {name}\n", flush=True)
        if options.ladder:
            ladder(name, options)
            continue
        numbers, said, ratio = measure(name, options)
        print(*said, "", sep="\n")
        print("| sampler | " + " | ".join(SHOWN) + " |")
        print("|---|" + "---|" * len(SHOWN))
        for sampler in dict.fromkeys(sampler for sampler, _ in numbers):
            print(f"| {sampler} | {' | '.join(shown(numbers.get((sampler, key))) for key in SHOWN)} |", flush=True)
        verdicts.append(verdict(name, numbers, ratio))
    if verdicts:
        print("\n## AE-OT beside the best of the others\n")
        print(f"| data | {' | '.join(CLOSE)} | nn ≥ {NEW} | energy | chart / principal components ≤ 1 |")
        print("|" + "---|" * (len(CLOSE) + 4))
        for row in verdicts:
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
