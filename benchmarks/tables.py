"""Synthetic tables: AE-OT beside a mixture of Gaussians and SMOTE.

    pip install -e '.[tables]' && pip install --no-deps plotnine==0.15.9   # for its table of diamonds
    python benchmarks/tables.py [--seeds 5] [--sets wine diamonds] [--variants]

Breast-cancer, wine and diabetes from scikit-learn, and diamonds: 53,940 rows of 7 numbers and 3 categories, of which
a seed draws 4,000 to fit and 2,000 to test. Of the others a third is the test. All samplers get the same coding of the
table (`data.TableLayout`) and draw as many rows as there are to fit. Where the set has classes, mixture and SMOTE are
fitted class by class; components (1 to 10, full or diagonal covariances) by BIC, SMOTE with 5 neighbours. AE-OT's
settings are the defaults; its labels come with the cells.

marginals: mean over columns of the Kolmogorov-Smirnov distance, or of the total variation for categories.
correlations: mean absolute difference of the entries of the correlation matrices of coded rows.
c2st, nn: as in the report, on coded rows, against test rows. score: accuracy (classes) or R² of a random forest that
is trained on the synthetic rows and tested on the real test rows. Each is mean ± deviation over seeds. "training rows"
says what finitely many rows allow: its score is that of training on real rows.

--variants measures AE-OT with a learned chart and with standardised columns in place of normal scores.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import ks_2samp
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from brenier import AEOT, data, report

SCIKIT = {"breast-cancer": load_breast_cancer, "wine": load_wine, "diabetes": load_diabetes}
TARGETS = {"breast-cancer": "target", "wine": "target", "diabetes": "target", "diamonds": "price"}
CLASSES = ("breast-cancer", "wine")
DIAMONDS = (4000, 2000)  # rows to fit and to test


def read(name: str) -> pd.DataFrame:
    """The whole table."""
    if name == "diamonds":
        found = find_spec("plotnine")
        return pd.read_csv(Path(found.submodule_search_locations[0]) / "data" / "diamonds.csv")
    options = {"scaled": False} if name == "diabetes" else {}
    return SCIKIT[name](as_frame=True, **options).frame


def split(table: pd.DataFrame, name: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows to fit and rows to test."""
    rows = np.random.default_rng(seed).permutation(len(table))
    fit, test = DIAMONDS if name == "diamonds" else (len(table) - len(table) // 3, len(table) // 3)
    return table.iloc[rows[:fit]].reset_index(drop=True), table.iloc[rows[fit : fit + test]].reset_index(drop=True)


def standardised(layout: data.TableLayout, values: np.ndarray) -> data.TableLayout:
    """The layout with columns standardised, not turned to normal scores."""
    columns = []
    for column, part in zip(layout.columns, values.T, strict=True):
        if column.knots:
            knots = np.linspace(column.knots[0], column.knots[-1], 99)
            scores = (knots - np.nanmean(part)) / column.deviation
            column = replace(column, knots=tuple(knots), scores=tuple(scores))
        columns.append(column)
    return replace(layout, columns=tuple(columns))


def aeot(samples: data.Samples, m: int, seed: int, chart: str | None = None, standard: bool = False) -> pd.DataFrame:
    """Rows of AE-OT."""
    if standard:
        samples.__dict__["layout"] = standardised(samples.layout, samples.values)
    return AEOT(chart=chart, seed=seed).fit(samples).sample(m, seed=seed)


def mixture(rows: np.ndarray, m: int, seed: int) -> np.ndarray:
    """Rows of the mixture that BIC likes best."""
    fitted = []
    for kind in ("full", "diag"):
        for k in range(1, 11):
            if len(rows) >= 2 * k:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    made = GaussianMixture(k, covariance_type=kind, reg_covar=1e-4, random_state=seed).fit(rows)
                fitted.append((made.bic(rows), len(fitted), made))
    return min(fitted)[2].sample(m)[0]


def smote(rows: np.ndarray, m: int, seed: int) -> np.ndarray:
    """Points between a row and one of its 5 nearest."""
    return report.baselines.smote(rows, m, seed)


def by_class(sampler, samples: data.Samples, m: int, seed: int) -> pd.DataFrame:
    """Rows of a sampler fitted class by class, each class as often as in the data."""
    layout = samples.layout
    x = layout.to_network(samples.values).double().numpy()
    labels = np.zeros(len(x), int) if samples.labels is None else samples.labels
    drawn = np.random.default_rng(seed).choice(labels, m)
    made, rows = np.sort(drawn), []
    for label in np.unique(drawn):
        rows.append(sampler(x[labels == label], int((drawn == label).sum()), seed))
    return layout.to_user(torch.from_numpy(np.concatenate(rows)), None if samples.labels is None else made)


def measured(name: str, new: pd.DataFrame, test: pd.DataFrame, train: pd.DataFrame, layout: data.TableLayout) -> list:
    """marginals, correlations, c2st, nn, score."""
    marginals = []
    for column in test.columns:
        if pd.api.types.is_numeric_dtype(test[column]) and not (name in CLASSES and column == TARGETS[name]):
            marginals.append(ks_2samp(new[column], test[column]).statistic)
        else:
            shares = [table[column].value_counts(normalize=True) for table in (new, test)]
            marginals.append(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)
    a, b, known = (layout.to_network(table).double().numpy() for table in (new, test, train))
    kept = (a.std(0) > 0) & (b.std(0) > 0)
    apart = np.abs(np.corrcoef(a[:, kept].T) - np.corrcoef(b[:, kept].T))[np.triu_indices(kept.sum(), 1)].mean()
    return [
        np.mean(marginals),
        apart,
        report.c2st(a, b).mean,
        report.nn_ratio(a, b, known).mean,
        score(name, new, test),
    ]


def score(name: str, train: pd.DataFrame, test: pd.DataFrame) -> float:
    """Of a random forest trained on one table and tested on another."""
    target = TARGETS[name]
    x = pd.get_dummies(pd.concat([train, test]).drop(columns=target))
    forest = RandomForestClassifier if name in CLASSES else RandomForestRegressor
    fitted = forest(100, random_state=0).fit(x[: len(train)], train[target])
    return fitted.score(x[len(train) :], test[target])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=list(TARGETS))
    parser.add_argument("--variants", action="store_true")
    arguments = parser.parse_args()
    print("| data | sampler | marginals | correlations | c2st | nn | score on real rows | seconds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    samplers = {
        "training rows": None,
        "AE-OT": lambda samples, m, seed: aeot(samples, m, seed),
        "mixture by BIC": lambda samples, m, seed: by_class(mixture, samples, m, seed),
        "SMOTE": lambda samples, m, seed: by_class(smote, samples, m, seed),
    }
    if arguments.variants:
        samplers = {
            "AE-OT, learned chart": lambda samples, m, seed: aeot(samples, m, seed, "network"),
            "AE-OT, standardised": lambda samples, m, seed: aeot(samples, m, seed, standard=True),
        }
    for name in arguments.sets:
        table = read(name)
        for sampler, draw in samplers.items():
            numbers, seconds = [], []
            for seed in range(arguments.seeds):
                train, test = split(table, name, seed)
                samples = data.load(train, label=TARGETS[name] if name in CLASSES else None)
                layout, began = samples.layout, time.perf_counter()
                new = train if draw is None else draw(data.load(samples, limit=len(train)), len(train), seed)
                seconds.append(time.perf_counter() - began)
                numbers.append(measured(name, new, test, train, layout))
            cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(np.mean(numbers, 0), np.std(numbers, 0), strict=True)]
            print(f"| {name} | {sampler} | {' | '.join(cells)} | {np.mean(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()
