"""The page of a fitted model, made of values alone: what was measured, in plain words, in numbers and in figures."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from brenier.report import baselines, figures, maps
from brenier.report import modes as mode_figures
from brenier.report.arrays import nearest
from brenier.report.numbers import exact_copies
from brenier.report.page import Finding, Picture, Table, number, write_page
from brenier.report.style import as_numpy
from brenier.solution import Estimate, Solution
from brenier.transport import ModeTree

MIXTURE_ROWS = 20_000  # codes that the mixture is fitted on, at most: EM on 60,000 takes over a minute
JUMPS = 250  # singular facets drawn, at most: more would hide the codes
MEANING = {
    "fid": "Fréchet distance of new samples to test samples, in the features of a small classifier (principal "
    "components where there are no labels): compare it within this table only. 0 is perfect; the decoder sets a floor.",
    "fid_rec": "The same distance to reconstructed test samples: the decoder's blur taken out.",
    "c2st": "Held-out accuracy of a classifier that tells new codes from test codes: 0.5 is perfect, 1 is told apart.",
    "nn": "Distance to the nearest training code, over the same for test codes: 1 is as new as unseen data, 0 a copy.",
    "precision": "Share of new codes that lie among test codes.",
    "recall": "Share of test codes that lie among new codes.",
    "density": "How many test codes surround a new code, 1 where the two laws agree.",
    "coverage": "Share of test codes with a new code near by.",
    "mse": "Mean squared error of reconstructed test samples, per entry.",
    "relrms": "Relative error of the cells' masses: root mean square of mass received over mass due, minus 1.",
    "accepted": "Share of noise that became a sample on its first draw.",
    "singular": "Share of noise on the singular set, measured apart from sampling; it is drawn again.",
    "copies": "Share of new codes that equal a training code in every entry.",
}
OWN = ("mse", "relrms", "accepted", "singular", "copies")  # of the model alone; the others have peers


@dataclass(frozen=True, eq=False)
class Material:
    """What a page is made of: values, and three verbs. Samples are in network form, images 0..1.

    Attributes:
        name: of the data.
        codes, test, new: training codes (n, d), test codes (k, d), generated codes (m, d).
        known: which training codes (n,) bool are not those of test samples.
        labels, modes, facets: of the training codes, (n,) or None, (n,), (k, 2).
        tree: the basins of their density; `modes` are its significant ones.
        x_test: test samples (k, ...).
        train: row numbers to training samples; `decoded` says that they are decoded codes.
        decode: codes to samples.
        judge: generated codes to the numbers that every sampler has.
        own: the numbers that only the model has: relrms, accepted, singular.
        transport, training: how the transport and the training of the chart, if any, went.
        tol, settings, seconds: the error asked for, name to value, stage to seconds.
        columns: samples of a table in network form to the values of each column, texts or numbers; else None.
    """

    name: str
    codes: Tensor
    test: Tensor
    new: Tensor
    known: np.ndarray
    labels: np.ndarray | None
    modes: np.ndarray
    facets: Tensor
    tree: ModeTree
    x_test: Tensor
    train: Callable[[np.ndarray], Tensor]
    decoded: bool
    decode: Callable[[Tensor], Tensor]
    judge: Callable[[Tensor], Mapping[str, Estimate]]
    own: Mapping[str, Estimate]
    transport: Solution
    training: Solution | None
    tol: float
    settings: Mapping[str, Any]
    seconds: Mapping[str, float]
    columns: Callable[[Tensor], Mapping[str, np.ndarray]] | None = None


@dataclass(frozen=True)
class Report:
    """What a page says: its path, findings, the numbers of each sampler (AE-OT first), seconds by stage."""

    path: Path
    findings: list[Finding]
    numbers: dict[str, dict[str, Estimate]]
    seconds: dict[str, float]


def write_report(path: str | Path, material: Material) -> Report:
    """Measure the model and the samplers to compare it with, and write the page.

    Raises:
        FileNotFoundError: the folder of `path` is missing.
        ValueError: too few test samples for a number.
    """
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {Path(path).absolute().parent} to write the page to")
    began = time.perf_counter()
    numbers = {"AE-OT": _own_numbers(material)}
    measured = time.perf_counter()
    for name, codes in _peers(material).items():
        numbers[name] = dict(material.judge(codes))
    compared = time.perf_counter()
    said = _findings(material, numbers)
    pictures = _pictures(material)
    drawn = time.perf_counter()
    seconds = {
        **material.seconds,
        "evaluation": measured - began,
        "comparison": compared - measured,
        "figures": drawn - compared,
    }
    groups, what = _groups(material, "label")
    page = write_page(
        path,
        f"AE-OT on {material.name}",
        said,
        _tables(material, numbers),
        pictures,
        {
            **material.settings,
            "peak memory": f"{peak_memory() / 1e9:.2g} GB" if peak_memory() else "unknown",
            "versions": f"Brenier {version('brenier')}, torch {torch.__version__}",
        },
        seconds,
        maps.interactive_map(material.codes, groups, _jumps(material), material.new, what=what),
        f"{len(material.codes):,} training samples, {len(material.x_test):,} test samples · {date.today():%d %B %Y}",
    )
    return Report(page, said, numbers, seconds)


def peak_memory() -> int:
    """The most memory, in bytes, that this process has held at once; 0 on Windows, which does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else 1024 * held


def _own_numbers(material: Material) -> dict[str, Estimate]:
    copies = exact_copies(material.new, material.codes)
    return {**material.judge(material.new), **material.own, "copies": copies}


def _peers(material: Material) -> dict[str, Tensor]:
    codes, m = material.codes[material.known], len(material.new)
    return {
        "Gaussian": baselines.gaussian(codes, m),
        "GMM-30": baselines.gmm(codes[_spread(len(codes), MIXTURE_ROWS)], m),
        "copies": baselines.copies(codes, m),
    }


def _tables(material: Material, numbers: Mapping[str, Mapping[str, Estimate]]) -> list[Table]:
    shared = [name for name in MEANING if name not in OWN]
    rows = [(name, [values[key] for key in shared]) for name, values in numbers.items()]
    thin = f" (GMM-30: fitted on {MIXTURE_ROWS:,} of them)" if material.known.sum() > MIXTURE_ROWS else ""
    m = len(material.new)
    return [
        Table(
            f"{m:,} new codes of AE-OT, and of other samplers on the same training codes{thin}, against "
            f"{len(material.test):,} test samples",
            shared,
            rows,
            [MEANING[key] for key in shared],
        ),
        Table(
            "The chart and the transport",
            OWN,
            [("AE-OT", [numbers["AE-OT"][key] for key in OWN])],
            [MEANING[key] for key in OWN],
        ),
    ]


def _findings(material: Material, numbers: Mapping[str, Mapping[str, Estimate]]) -> list[Finding]:
    own = numbers["AE-OT"]
    peers = {name: f"{numbers[name]['fid_rec'].mean:.3g}" for name in ("copies", "GMM-30", "Gaussian")}
    found = [
        Finding(number(own["nn"]), _newness(own["nn"])),
        Finding(number(own["c2st"]), _likeness(own["c2st"])),
        Finding(
            number(own["fid_rec"]),
            "Fréchet distance of new samples to test samples, both through the decoder. Copies of training codes have "
            f"{peers['copies']}, a mixture of 30 Gaussians {peers['GMM-30']}, one Gaussian {peers['Gaussian']}.",
        ),
        Finding(
            _percent(own["copies"]),
            f"The share of exact copies of training codes among {len(material.new):,} new codes.",
        ),
        Finding(*_modes(material.modes, len(material.tree.modes(math.inf).unique()), material.labels)),
        Finding(
            _percent(own["accepted"]),
            "The share of the noise that becomes a sample on its first draw. The rest lies on the singular set "
            f"({100 * own['singular'].mean:.2g}% of the noise), where the transport jumps over a gap. It is drawn "
            "again, so that no sample blends two sides.",
        ),
        Finding(
            number(own["relrms"]),
            f"Relative error of the transport (asked for: {material.tol:g}): a training sample's share of the noise is "
            f"typically within {own['relrms'].mean:.0%} of its due. {_sentence(str(material.transport.status))}",
        ),
    ]
    return found if material.training is None else [*found, _rebuilt(material, own["mse"])]


def _rebuilt(material: Material, mse: Estimate) -> Finding:
    kept, dim = 1 - mse.mean / material.x_test.double().var(0).mean().item(), material.codes.shape[1]
    codes = f"codes of {dim} numbers keep" if dim > 1 else "codes of one number keep"
    verdict = f"{kept:.0%} of the variance" if kept > 0 else "no more than the mean sample does"
    return Finding(number(mse), f"Mean squared error of rebuilt test samples: {codes} {verdict}.")


def _newness(nn: Estimate) -> str:
    perhaps = "perhaps " if 0.9 - 2 * nn.sem < nn.mean < 1.15 + 2 * nn.sem else ""
    verdict = "as new as unseen data"
    if nn.mean < 0.9:
        verdict = f"{perhaps}nearer to known ones than unseen data"
    if nn.mean > 1.15:
        verdict = f"{perhaps}farther out than unseen data"
    return (
        f"New samples are {verdict}: they keep {nn.mean:.2f} times as far from the training codes as test samples do."
    )


def _likeness(c2st: Estimate) -> str:
    verdict = "can tell new codes from test codes" if c2st.mean >= 0.55 else "sees a slight difference"
    if c2st.mean - 2 * c2st.sem <= 0.5:
        verdict = "finds no difference"
    return f"A classifier {verdict}: this share of its verdicts, new or test code, is right, where guessing has 0.5."


def _modes(modes: np.ndarray, parts: int, labels: np.ndarray | None) -> tuple[str, str]:
    """How many modes, of what size, what parts them, and how pure they are where labels are known."""
    sizes = np.bincount(modes)
    if len(sizes) == 1:
        return (
            "1 mode",
            "The density of the training codes has one peak: no gap parts them, no dip is more than chance.",
        )
    shown = ", ".join(f"{size:,}" for size in sizes[:10]) + (", …" if len(sizes) > 10 else "")
    between = "Valleys deeper than chance lie between them"
    if parts > 1:
        between = "Gaps lie between them" if parts == len(sizes) else f"{between} and gaps between {parts:,} groups"
    said = f"The training codes gather around peaks of density of {shown} samples. {between}."
    if labels is not None:
        most = [np.unique(labels[modes == mode], return_counts=True)[1].max() for mode in range(len(sizes))]
        said += f" {sum(most) / len(modes):.0%} of the samples have the commonest label of their mode."
    return f"{len(sizes):,} modes", said


def _percent(share: Estimate) -> str:
    """In percent, the sign where the page sets the number apart from its error."""
    return "% ± ".join(number(Estimate(100 * share.mean, 100 * share.sem)).split(" ± "))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _jumps(material: Material) -> Tensor:
    """Singular facets, few enough to look through."""
    return material.facets[_spread(len(material.facets), JUMPS)]


def _groups(material: Material, first: str) -> tuple[np.ndarray, str]:
    """Labels or modes to colour the codes by, `first` where it says something."""
    if material.labels is not None and (first == "label" or material.modes.max() == 0):
        return material.labels, "label"
    return material.modes, "mode"


def _pictures(material: Material) -> dict[str, Picture]:
    new, codes = as_numpy(material.new), as_numpy(material.codes)
    distance, index = (column[:, 0] for column in nearest(new, codes))
    images = material.x_test.ndim > 2
    shown = slice(0, 96 if images else 2000)
    samples, rebuilt = material.decode(material.new[shown]), material.decode(material.test[shown])
    cloud = None if images else material.train(_spread(len(codes), 2000))
    known = codes[material.known]
    groups, what = _groups(material, "mode")
    real = "training sample, decoded from its code," if material.decoded else "training sample"
    pictures = {
        "New samples": Picture(
            figures.samples(samples, cloud),
            "Drawn from noise, not picked: the first of seed 0.",
            "New samples drawn from noise",
        ),
        "Nearest training samples": Picture(
            figures.pairs(
                samples,
                material.train(index[shown]),
                ("new", "nearest"),
                "New samples and their nearest training samples",
            ),
            f"Each new sample with the {real} whose code is nearest.",
            "New samples and their nearest training samples",
        ),
        "Reconstructions": Picture(
            figures.pairs(
                material.x_test[shown], rebuilt, ("test", "rebuilt"), "Test samples and what the chart keeps of them"
            ),
            "Each test sample with its reconstruction: what the decoder loses here, no sampler can win back.",
            "Test samples and their reconstructions",
        ),
        "The codes": Picture(
            maps.code_map(codes, groups, _jumps(material), new, groups[index], what=what),
            f"Training codes by {what}; dark lines join codes between which the transport jumps over a gap "
            f"({len(_jumps(material)):,} of {len(material.facets):,} such pairs). Beside them new codes, by the {what} "
            "of the nearest training code.",
            "Map of training codes with the singular set, beside new codes",
        ),
        "Modes": Picture(
            _mode_tree(material),
            "The peaks of the training codes' density that are more than chance"
            + (", each with the training sample at it" if material.x_test.ndim > 2 else "")
            + ". A line reaches from the peak down to the highest pass to a denser mode; one that reaches none lies "
            "beyond a gap. Below: number, share of samples"
            + (", commonest label and its share." if material.labels is not None else "."),
            "Tree of the modes by density, with the sample at each peak",
        ),
        "Interpolations": Picture(
            _interpolations(material, cloud),
            "Straight lines between the codes of two test samples, decoded at even steps.",
            "Decoded straight lines between codes of test samples",
        ),
        "Novelty": Picture(
            figures.novelty(distance, nearest(as_numpy(material.test), known)[0][:, 0]),
            "Distance to the nearest training code. A copy would stand at 0; dashed lines are the means.",
            "Histogram of distances to the nearest training code, new codes and test codes",
        ),
        "Training": Picture(
            _curves(material),
            ("The chart's loss by epoch. " if material.training else "")
            + "The transport's error on fresh samples, in a band of two standard errors; dashed, the error asked for.",
            "Curves of the chart's loss and of the transport's error",
        ),
    }
    if material.training is None:
        del pictures["Reconstructions"]
    if material.modes.max() == 0:
        del pictures["Modes"]
    if material.columns is None:
        return pictures
    columns = Picture(
        figures.marginals(material.columns(material.decode(material.new)), material.columns(material.x_test)),
        "Each column of the table, new rows beside test rows: shares of rows.",
        "Histograms of each column of the table, new rows and test rows",
    )
    return {"New samples": pictures.pop("New samples"), "Columns": columns, **pictures}


def _mode_tree(material: Material) -> Figure:
    tree = material.tree
    kept = tree.kept()
    number = torch.empty_like(tree.peak).index_copy_(0, kept, torch.arange(len(kept), device=kept.device))
    images = material.x_test.ndim > 2
    return mode_figures.mode_tree(
        tree.birth[kept],
        tree.saddle[kept],
        number[tree.parent[kept]],
        material.modes,
        material.train(tree.peak[kept[: mode_figures.MOST]].cpu().numpy()) if images else None,
        material.labels,
    )


def _spread(size: int, most: int) -> np.ndarray:
    """At most so many row numbers, evenly spread."""
    return np.linspace(0, size - 1, min(size, most)).astype(int)


def _interpolations(material: Material, cloud: Tensor | None, rows: int = 6, steps: int = 12) -> Figure:
    ends = material.test[_spread(len(material.test), 2 * rows)]
    start, end = ends[: len(ends) // 2 * 2].reshape(-1, 2, 1, ends.shape[1]).unbind(1)
    paths = start + (end - start) * torch.linspace(0, 1, steps, dtype=ends.dtype)[:, None]
    return figures.interpolations(torch.stack([material.decode(path) for path in paths]), cloud)


def _curves(material: Material) -> Figure:
    losses = {}
    if material.training is not None:
        history = material.training.history
        losses = {"training": [e["loss"] for e in history], "held out": [e["validation"] for e in history]}
    checks = [entry for entry in material.transport.history if "chi2" in entry]
    drawn = np.array([e["samples"] for e in checks]) + np.cumsum([e["checked_on"] for e in checks])
    chi2, sem = (np.array([entry[key] for entry in checks]) for key in ("chi2", "sem"))
    return figures.training(losses, drawn, chi2, sem, material.tol)
