"""A run: where its samples come from, what it will take, the folder and the files that it fills."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from brenier import disk, folders, manifold, measures, report, storage, transport
from brenier.aeot import AEOT, SAME
from brenier.aeot import load as load_model
from brenier.checkpoint import differ
from brenier.data import Samples, arrow, load
from brenier.data.arrow import is_table
from brenier.data.datasets import has_test_split
from brenier.data.files import rows
from brenier.data.load import NAMES, SPLITS
from brenier.device import find
from brenier.manifold.fit import _budget, trainings
from brenier.report import figures, style
from brenier.solution import Estimate

HELD_OUT = 10  # one in so many samples is held out where the data have no test split
FEWEST = (20, 6)  # training and test samples that a fit and its numbers need
NAMED = 5  # skipped images, at most, that are named
SMALL = 64  # pixels: smaller images are enlarged


def origin(
    data: str, data_dir: Path | None, limit: int | None, labels: bool, seed: int, **options: Any
) -> dict[str, Any]:
    """What `train_and_test` needs to find the same samples again, from any folder; `options` are those of `load`."""
    source = data if data in NAMES else os.path.abspath(data)
    place = None if data_dir is None else os.path.abspath(data_dir)
    return {"source": source, "data_dir": place, "limit": limit, "labels": labels, "seed": seed, **options}


def train_and_test(
    source: str, data_dir: str | None, limit: int | None, labels: bool, seed: int, **options: Any
) -> list[Samples]:
    """The samples to fit and those to judge by: the data's own test split, or one in ten, drawn by the seed.

    Raises:
        FileNotFoundError, TypeError, ValueError: as `data.load`; too few samples, or none that is new.
    """
    train = load(source, data_dir=data_dir, limit=limit, **options)
    values, kept, skipped = train.values, train.labels, train.skipped
    if not labels or kept is None or (kept == kept[0]).all():  # one label tells nothing apart
        kept = None
    if _has_test_split(source):
        judges = load(source, data_dir=data_dir, split="test", **options)
        test, names = judges.values, judges.labels
        if train.table is not None and judges.table is not None:  # its numbers are places in lists of its own
            test = train.table.values(judges.table.frame(test))
        skipped += judges.skipped
    else:
        rows = np.random.default_rng(seed).permutation(len(values))
        held, used = (np.sort(part) for part in np.split(rows, [math.ceil(len(rows) / HELD_OUT)]))
        test, values = values[held], values[used]
        names, kept = (None, None) if kept is None else (kept[held], kept[used])
    if len(values) < FEWEST[0] or len(test) < FEWEST[1]:
        raise ValueError(
            f"{train.name} must have at least {FEWEST[0]} samples to fit and {FEWEST[1]} to judge by, "
            f"got {len(values)} and {len(test)}"
        )
    if test.shape[1:] != values.shape[1:]:
        raise ValueError(f"training and test samples must have one shape, got {values.shape[1:]} and {test.shape[1:]}")
    known = {row.tobytes() for row in values}
    if all(row.tobytes() in known for row in test):
        raise ValueError(
            f"all {len(test)} test samples of {train.name} are training samples too: none is left to judge by"
        )
    return [
        Samples(values, kept, train.name, table=train.table, skipped=skipped),
        Samples(test, None if kept is None else names, train.name, table=train.table),
    ]


def judges(run: Path, data_dir: Path | None = None) -> Samples:
    """The samples that a run was judged by at its fit.

    Raises:
        ValueError: a model that was saved without its data.
    """
    origin = storage.read(run)[0].get("data")
    if origin is None:
        raise ValueError(f"{run} doesn't say which data it was fitted on: give test samples as DATA")
    return train_and_test(**origin | ({"data_dir": str(data_dir)} if data_dir else {}))[1]


def described(train: Samples, test: Samples) -> str:
    """What was read, in a line, and what was not."""
    if train.table is None:
        what = f"{train.layout.kind} of {' x '.join(map(str, train.values.shape[1:]))}"
    else:
        what = f"rows of {len(train.table.columns)} columns"
    classes = "no labels" if train.labels is None else f"{len(set(train.labels.tolist()))} labels"
    return f"{train.name}: {len(train):,} {what}, {classes}; {len(test):,} to judge by" + left_out(train)


def left_out(samples: Any) -> str:
    """How many images were skipped, and the first few by name; nothing where none was."""
    skipped = getattr(samples, "skipped", ())
    if not skipped:
        return ""
    more = f"\n  and {len(skipped) - NAMED:,} more" if len(skipped) > NAMED else ""
    return f"\nskipped {len(skipped):,} bad images:\n  " + "\n  ".join(skipped[:NAMED]) + more


def unseen(
    data: str, data_dir: Path | None, limit: int | None = None, origin: dict[str, Any] | None = None, **columns: Any
) -> Any:
    """The test split of DATA, or all of it where it has none; a table as it is, since the model knows its columns.

    Folders of images are read as those were that the run came from (`origin`); `columns` are `label` and `drop`.
    """
    images = {key: value for key, value in (origin or {}).items() if key in ("skip_bad", "size")}
    if is_table(data):
        table = arrow.read(data)[0]
        return table if limit is None else table.take(list(rows(table.num_rows, limit)))
    split, images = "test" if _has_test_split(data) else "train", images if Path(data).is_dir() else {}
    return load(data, data_dir=data_dir, limit=limit, split=split, **images, **columns)


def _has_test_split(data: str) -> bool:
    path = Path(data)
    if data in NAMES or has_test_split(path):
        return True
    if path.suffix.lower() == ".npz" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "x_test.npy" in archive.namelist()
    return path.is_dir() and (all((path / split).is_dir() for split in SPLITS) or any(path.glob("t10k-images*")))


def estimate(model: AEOT, train: Samples, test: Samples) -> tuple[float, float]:
    """Seconds and bytes that a fit and its report will take, from a few steps of chart and transport, timed here.

    Counted are all epochs of the chart, 7 n / tol² draws of the transport (one pass has 5, two have 15), its checks,
    the cells, the singular set, and the four samplers that the report compares.
    """
    shape, n = train.layout.network_shape, len(train)
    own = train.layout.kind == "table" and model.chart is None and model.latent_dim is None
    given = own or model.chart == "identity"
    dim = math.prod(shape) if given else min(model.latent_dim or 16, n - 1, math.prod(shape))
    learning = 0.0 if given else _learning(model, train, dim)

    points = torch.randn(n, dim, generator=torch.Generator().manual_seed(0)).to(find(model.device))
    few = transport.solve(
        measures.Gaussian(dim),
        measures.Discrete(points),
        tol=0.5,
        max_samples=8192,
        generator=torch.Generator(points.device).manual_seed(0),
    )
    checks = [entry for entry in few.history if "chi2" in entry]
    drawn = sum(entry["checked_on"] for entry in checks[1:]) + few.samples
    draw = (checks[-1]["seconds"] - checks[0]["seconds"]) / drawn
    draws = min(7 * max(n / model.tol**2, 16_384), model.max_samples or math.inf)
    draws += 4 * max(56 * math.sqrt(n) / model.tol**2, 8192) + 2 * max(32 * n, 1 << 17)

    judged = min(len(test), report.AT_MOST)
    seconds = learning + draw * draws + 15 + 0.01 * judged
    memory = report.peak_memory() + 160 * n * dim + 80 * judged * math.prod(shape) + 3e8
    return seconds, memory


def _learning(model: AEOT, train: Samples, dim: int) -> float:
    """Seconds that all epochs of the chart will take, from a few steps."""
    shape, n = train.layout.network_shape, len(train)
    kind = {"kind": "mlp", "dim": shape[0]} if len(shape) == 1 else {"kind": "convolutional", "shape": list(shape)}
    epochs, batch, _ = _budget(n, model.epochs, None, None)
    chart = manifold.build({**kind, "latent_dim": dim}, generator=torch.Generator().manual_seed(0))
    some = train.values[: max(5 * batch, 2 * dim)]
    steps = manifold.fit(
        chart,
        some,
        validation=0,
        epochs=4,
        batch_size=batch,
        generator=0,
        device=model.device,
        to_network=train.layout.to_network,
    )
    epoch = float(np.diff([entry["seconds"] for entry in steps.history]).min())
    return trainings(n) * epoch * epochs * n / len(some)


def network(factory: str, weights: Path | None) -> nn.Module:
    """The network that `package.module:factory` makes, in evaluation mode, with the weights of a safetensors file.

    The package is looked for in the current folder, then among those installed.

    Raises:
        ValueError, TypeError, FileNotFoundError: a name of another form, no such module or factory, a factory that
            makes no Module, weights that can't be read or don't fit (the first tensor is named).
    """
    module_name, colon, name = factory.partition(":")
    if not (module_name and colon and name):
        raise ValueError(f"--model must be package.module:factory, got {factory!r}")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"--model: {module_name} can't be imported from {os.getcwd()}: {error}") from None
    except SyntaxError as error:
        raise ValueError(f"--model: {module_name} can't be imported, line {error.lineno}: {error.msg}") from None
    make = getattr(module, name, None)
    if not callable(make):
        what = f"has no {name}" if make is None else f"has a {name} that can't be called"
        raise TypeError(f"--model: {module_name} {what}")
    made = make()
    if not isinstance(made, nn.Module):
        raise TypeError(f"--model: {factory} must make a torch.nn.Module, got {type(made).__name__}")
    if weights is not None:
        _load_weights(made, weights)
    return made.eval()


def _load_weights(made: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} with weights")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} can't be read as safetensors: {error}") from None
    own = made.state_dict()
    for key in [*own, *tensors]:
        if key not in tensors:
            raise ValueError(f"{path} has no {key}, which the network has: are these its weights?")
        if key not in own:
            raise ValueError(f"{path} has {key}, which the network hasn't: are these its weights?")
        mine, given = tuple(own[key].shape), tuple(tensors[key].shape)
        if mine != given:
            raise ValueError(f"{key} has shape {given} in {path}, and {mine} in the network")
    made.load_state_dict(tensors)


def finished(out: Path, model: AEOT, source: Mapping[str, Any]) -> bool:
    """Whether the run is there already and nothing of it is to be done; what an end by force left there is removed.

    Raises:
        ValueError: it is there with other settings or data.
    """
    if folders.begun(out) or not (out / storage.CONFIG).is_file():
        return False
    known = storage.read(out)[0]
    same = {name: known["parameters"].get(name) for name in (*SAME, "chart")}
    differ(
        out,
        same | {"data": known.get("data")},
        {name: getattr(model, name) for name in (*SAME, "chart")} | {"data": source},
    )
    folders.clear(out)
    return True


def save_png(path: Path, model: AEOT, samples: Any, columns: int | None = None) -> None:
    """A grid of images, small ones enlarged; of vectors, their cloud beside that of the training codes, decoded."""
    x = model.layout_.to_network(samples)
    if model.layout_.kind != "images":
        figures.samples(x, model.chart_.decode(model.codes_[:2000])).savefig(path)
        return
    shown = style.pixels(x)
    columns = columns or math.ceil(math.sqrt(len(shown)))
    blank = np.ones((-len(shown) % columns, *shown.shape[1:]))
    page = style.mosaic(np.concatenate([shown, blank]).reshape(-1, columns, *shown.shape[1:]))
    scale = max(1, round(SMALL / shown.shape[1]))
    Image.fromarray((255 * page).round().astype(np.uint8).repeat(scale, 0).repeat(scale, 1)).save(path)


def judged_alike(folders: Sequence[Path], test: Samples, seed: int = 0) -> dict[str, dict[str, Estimate]]:
    """The numbers of `evaluate` of several runs by one set of test samples, in the features of the first run.

    Raises:
        ValueError: a run of samples of another shape, or the same run twice.
    """
    models = {str(folder): load_model(folder) for folder in folders}
    if len(models) < len(folders):
        raise ValueError(f"each run must be given once, got {', '.join(map(str, folders))}")
    first = next(iter(models))
    for name, model in models.items():
        shapes = model.layout_.shape, models[first].layout_.shape
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name} was fitted on samples of shape {shapes[0]}, {first} on {shapes[1]}")
        model.judge_in(models[first].features())
    return {name: model.evaluate(test, seed) for name, model in models.items()}


def plain(numbers: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    """Estimates for JSON, which knows no NaN.

    Example:
        >>> plain({"nn": Estimate(1.0, math.nan)})
        {'nn': {'mean': 1.0, 'sem': None}}
    """
    return {
        name: {key: part if math.isfinite(part) else None for key, part in value._asdict().items()}
        for name, value in numbers.items()
    }


def fill(
    folder: Path, model: AEOT, train: Samples, test: Samples, source: dict[str, Any]
) -> tuple[report.Report, dict[str, Any]]:
    """Write the files of a run: the report and what `metrics` gives come back."""
    written = model.report(folder / "report.html", test)
    config, tensors = storage.pack(model)
    numbers = metrics(model, written, len(train), len(test))
    disk.write(folder / "metrics.json", json.dumps(numbers, indent=1).encode())
    disk.write(folder / "history.jsonl", history(model).encode())
    save_png(folder / "samples.png", model, model.sample(96), columns=12)
    storage.into(folder, config | {"data": source}, tensors)
    return written, numbers


def metrics_of(out: Path) -> dict[str, Any]:
    """What a run's metrics.json holds.

    Raises:
        ValueError: the file can't be read as JSON.
    """
    try:
        return json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{out / 'metrics.json'} can't be read as JSON: {error}") from None


def metrics(model: AEOT, written: report.Report, train: int, test: int) -> dict[str, Any]:
    """What metrics.json holds; `train` and `test` say how many samples there were."""
    stages = {"training": model.training_, "transport": model.transport_}
    own, *peers = written.numbers
    return {
        "train": train,
        "test": test,
        "skipped": [] if model._data is None else list(model._data.skipped),
        "latent_dim": model.codes_.shape[1],
        "modes": int(model.modes_.max()) + 1,
        "status": {stage: str(solution.status) for stage, solution in stages.items() if solution is not None},
        "findings": [f"{finding.number}: {finding.sentence}" for finding in written.findings],
        "evaluate": plain(written.numbers[own]),
        "baselines": {name: plain(written.numbers[name]) for name in peers},
        "seconds": {stage: round(seconds, 3) for stage, seconds in written.seconds.items()},
        "peak_memory": report.peak_memory(),
    }


def history(model: AEOT) -> str:
    """What history.jsonl holds: a line of JSON for every epoch of the training and every check of the transport."""
    stages = {"training": model.training_, "transport": model.transport_}
    entries = [{"stage": k} | entry for k, solution in stages.items() if solution for entry in solution.history]
    return "".join(json.dumps(entry) + "\n" for entry in entries)
