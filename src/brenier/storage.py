"""A model on disk: `config.json` and `model.safetensors`, checked by their checksums; no pickle."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from brenier import disk, manifold, measures, transport
from brenier.data import Layout
from brenier.ladder import Trials
from brenier.report import Features
from brenier.solution import Estimate, Solution, Status

FORMAT = 3
READ = (2, 3)  # of format 2 the networks and the transport are kept, what follows them is made anew
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write(folder: str | Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    """Write a model folder: to the side, flushed, then renamed. A model that is there already is replaced.

    Raises:
        ValueError: the folder holds something else.
        OSError: the place can't be written; a model that was there stays.
    """
    given, folder = Path(folder), Path(folder).absolute()
    disk.recover(folder)
    if folder.exists() and not (folder / CONFIG).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is no model folder; choose another place")
    side = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(side, ignore_errors=True)
    side.mkdir(parents=True)
    try:
        into(side, config, tensors)
        disk.replace(folder, side)
    finally:
        shutil.rmtree(side, ignore_errors=True)
    return given


def into(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write the two files of a model into a folder that is there."""
    weights = save(
        {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    )
    disk.write(folder / WEIGHTS, weights)
    record = {"format": FORMAT, **config, "checksums": {WEIGHTS: hashlib.sha256(weights).hexdigest()}}
    record["checksums"][CONFIG] = _checksum(record)
    disk.write(folder / CONFIG, json.dumps(record, indent=1).encode())


def read(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors of a model folder.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file is truncated, was edited, or has another format.
    """
    folder = disk.standing(Path(folder))
    missing = [path for path in (folder / CONFIG, folder / WEIGHTS) if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0] if folder.is_dir() else folder} is missing: no model to load")
    try:
        text = (folder / CONFIG).read_bytes().decode()
        config = json.loads(text)
        stated = config["checksums"]
        known = stated[CONFIG], stated[WEIGHTS]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{folder / CONFIG} is damaged: it isn't the JSON record that was saved") from None
    if (known_format := config.get("format")) not in READ:
        newer = isinstance(known_format, int) and known_format > FORMAT
        out = "load it with a newer brenier" if newer else "fit again, or load it with the brenier that wrote it"
        reads = " and ".join(map(str, READ))
        raise ValueError(f"{folder / CONFIG} has format {known_format}, this version reads formats {reads}: {out}")
    if _checksum(config) != known[0] or text != json.dumps(config, indent=1):  # 1e-05 and 1E-05 are one number
        raise ValueError(f"{folder / CONFIG} was changed after it was saved: its checksum differs")
    weights = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != known[1]:
        raise ValueError(f"{folder / WEIGHTS} was changed or cut after it was saved: its checksum differs")
    try:
        return config, load(weights)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} can't be read: {error}") from None


def _checksum(record: dict[str, Any]) -> str:
    """Of a config, its own checksum left out."""
    kept = {**record, "checksums": {k: v for k, v in record["checksums"].items() if k != CONFIG}}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def pack(model: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors of a fitted `AEOT`."""
    extension, solution, singular = model.extension_, model.transport_, model.singular_
    own_chart = isinstance(model.chart, tuple)
    classes, labels = (None, None) if model.labels_ is None else np.unique(model.labels_, return_inverse=True)
    features = model._features
    config = {
        "parameters": model.get_params(deep=False) | ({"chart": None} if own_chart else {}),
        "chart": model.chart_.spec,
        "dimension": model.dimension_
        and {
            "scores": [[dim, *score] for dim, score in model.dimension_.scores.items()],
            "chosen": model.dimension_.chosen,
        },
        "layout": model.layout_.asdict(),
        "classes": None if classes is None else classes.tolist(),
        "features": None if features is None else features.spec,
        "extension": {
            "kind": extension.kind,
            "strength": extension.strength,
            "band": extension.band,
            "frequency": extension.frequency,
        },
        "singular": {"mass": singular.mass, "threshold": min(singular.threshold, sys.float_info.max)},
        "transport": _record(solution)
        | {name: getattr(solution, name) for name in ("relrms", "cost", "lower", "samples")},
        "training": None if model.training_ is None else _record(model.training_) | _chosen(model.training_),
        "seconds": model.seconds_,
    }
    tensors = {
        "codes": model.codes_,
        "weights": model.weights_,
        "heights": solution.potential.heights,
        "start": model._start.heights,
        "validation": model.validation_,
        "modes": singular.modes,
        "parts": singular.parts,
        **{f"tree.{field.name}": getattr(singular.tree, field.name) for field in fields(singular.tree)},
        "facets": singular.facets,
        "spacing": singular.spacing,
        "masses": extension.masses,
        "centroids": extension.centroids,
        "stretch": extension.stretch,
        "shift": extension.shift,
        **{f"local.{name}": getattr(extension.local, name) for name in ("starts", "near", "weights")},
        **({} if labels is None else {"labels": torch.from_numpy(labels)}),
        **{f"chart.{name}": value for name, value in model.chart_.state_dict().items()},
        **({} if features is None else {f"features.{k}": v for k, v in features.state_dict().items()}),
    }
    return config, tensors


def restore(model: Any, config: dict[str, Any], t: dict[str, Tensor], chart: tuple[nn.Module, nn.Module] | None) -> Any:
    """Fill an unfitted `AEOT` with what `pack` gave."""
    if config["chart"] is None and chart is None:
        raise ValueError("the model has a chart of the user's own: load it with chart=(encoder, decoder)")
    if config["format"] == 2 and chart is None and config["chart"]["kind"] != "identity":
        config = {**config, "chart": {**config["chart"], "format": 2}}
    model.chart_ = manifold.Chart(*chart) if chart is not None else manifold.build(config["chart"])
    model.chart_.load_state_dict(_part(t, "chart."))
    model.chart_.eval()
    tried = config.get("dimension")
    model.dimension_ = tried and Trials({dim: Estimate(*score) for dim, *score in tried["scores"]}, tried["chosen"])
    model.layout_ = Layout.from_dict(config["layout"])
    model.n_features_in_ = math.prod(model.layout_.shape)
    model.labels_ = None if config["classes"] is None else np.array(config["classes"])[t["labels"].numpy()]
    model.codes_, model.weights_, model.validation_ = t["codes"], t["weights"], t["validation"]
    model.seconds_ = config["seconds"]
    record = config["transport"]
    potential = transport.BrenierPotential(t["codes"], t["heights"])
    model._start = transport.BrenierPotential(t["codes"], t["start"])
    model.transport_ = transport.TransportSolution(
        Status[record["status"]],
        record["seconds"],
        record["history"],
        potential,
        Estimate(*record["relrms"]),
        Estimate(*record["cost"]),
        Estimate(*record["lower"]),
        record["samples"],
    )
    training = config["training"]
    model.training_ = training and _training(training)
    model.singular_, model.extension_ = _anew(model, config) if config["format"] == 2 else _after(model, config, t)
    model.modes_ = model.singular_.modes.numpy()
    model._data, model._features = None, None
    if config["features"] is not None:
        model._features = Features(config["features"])
        model._features.load_state_dict(_part(t, "features."))
    return model


def _after(model: Any, config: dict[str, Any], t: dict[str, Tensor]) -> tuple[Any, Any]:
    """The singular set and the extension as they were saved."""
    mass, threshold = Estimate(*config["singular"]["mass"]), config["singular"]["threshold"]
    tree = transport.ModeTree(**_part(t, "tree."))
    singular = transport.SingularSet(t["facets"], t["modes"], mass, t["spacing"], threshold, t["parts"], tree)
    extension = transport.Extension(
        u=model.transport_.potential,
        singular=singular,
        local=transport.LocalGaussians.of(t["codes"], t["local.starts"], t["local.near"], t["local.weights"]),
        masses=t["masses"],
        centroids=t["centroids"],
        stretch=t["stretch"],
        shift=t["shift"],
        **config["extension"],
    )
    return singular, extension


def _anew(model: Any, config: dict[str, Any]) -> tuple[Any, Any]:
    """The singular set and the extension of a model of format 2, made as a fit makes them now: seconds."""
    u, kind = model.transport_.potential, config["extension"]["kind"]
    source, generator = measures.Gaussian(u.dim), torch.Generator().manual_seed(config["parameters"]["seed"])
    found = transport.cells(u, source, generator=generator)
    singular = transport.singular_set(u, source, found, generator, model.weights_)
    judges = model.validation_ if len(model.validation_) else None
    options = {"judges": judges, "found": found, "singular": singular, "weights": model.weights_}
    return singular, transport.extend(u, source, kind, generator=generator, **options)


def _record(solution: Solution) -> dict[str, Any]:
    return {"status": solution.status.name, "seconds": solution.seconds, "history": solution.history}


def _chosen(training: Solution) -> dict[str, Any]:
    """What the fit of a chart has besides: how it chose, the epochs and rows of the network."""
    if not isinstance(training, manifold.ChartSolution):
        return {}
    verdict = training.verdict and {**vars(training.verdict)}
    return {"verdict": verdict, "epochs": training.epochs, "rows": training.rows}


def _training(record: dict[str, Any]) -> Solution:
    """The fit of a chart that `pack` recorded."""
    known = Status[record["status"]], record["seconds"], record["history"]
    if "rows" not in record:
        return Solution(*known)
    verdict = record["verdict"]
    if verdict is not None:
        estimates = {name: Estimate(*verdict[name]) for name in ("principal", "network", "gain")}
        verdict = manifold.Verdict(**estimates, keeps_network=verdict["keeps_network"])
    return manifold.ChartSolution(*known, verdict, record["epochs"], record["rows"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
