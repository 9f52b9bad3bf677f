"""A fit that can be interrupted: a folder with one file a stage, safetensors with a JSON record in it; no pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from brenier import disk, manifold, transport
from brenier.ladder import Trials
from brenier.solution import Estimate, Solution, Status
from brenier.transport.bounds import Moves
from brenier.transport.problem import Check

FORMAT = 2
BEGUN = "fit.json"  # what is fitted, and how
SHARE = 0.02  # of the time, for saving inside a stage
FIRST = 0.1  # seconds that a save takes, as long as none was timed
KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(Estimate, Trials, Solution, Check, Moves, transport.BrenierPotential, transport.TransportSolution),
        *(manifold.ChartSolution, manifold.Verdict, manifold.Fold, manifold.Trained),
        *(transport.Cells, transport.SingularSet, transport.ModeTree, transport.LocalGaussians, transport.Extension),
    )
}
T = TypeVar("T")


class Checkpoint:
    """The folder of an unfinished fit, for one process at a time: a context.

    Args:
        folder: new, or left by a fit with the same settings.
        settings: what has to be the same for the fit to go on, by name; what JSON can hold.
        chart: the modules of a chart of the user's own.

    Raises:
        ValueError: the folder holds another fit, named by what differs; it has another format, or is damaged.
        OSError: another process has it, or it can't be written.
    """

    def __init__(
        self, folder: str | Path, settings: dict[str, Any], chart: tuple[nn.Module, nn.Module] | None = None
    ) -> None:
        self.folder, self.settings, self.chart = Path(folder), settings, chart
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        self._new = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as closing:
            closing.enter_context(disk.locked(self.folder))
            begun = self.folder / BEGUN
            if begun.is_file():
                differ(self.folder, _begun(begun), self.settings)
            else:
                if any(file.name != "lock" for file in self.folder.iterdir() if not file.name.startswith(".")):
                    raise ValueError(f"{self.folder} holds something else than a checkpoint; choose another folder")
                record = {"format": FORMAT, "settings": self.settings}
                record["sha256"] = _digest(json.dumps(record), {})
                disk.write(begun, json.dumps(record, indent=1).encode())
            self._closing = closing.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._closing.close()
        if self._new and kind in (ValueError, TypeError) and not any(self.folder.glob("*.safetensors")):
            shutil.rmtree(self.folder)  # wrong input leaves nothing behind

    def stage(self, name: str, work: Callable[[Stage], T], generator: torch.Generator | None = None) -> tuple[T, float]:
        """What `work` gives and its seconds; where it was done before, what it gave, and the generator as it left it.

        The stage that `work` gets is a `Keeper`: it holds what an interrupted `work` left there.
        """
        stage = Stage(self.folder / f"{name.replace(' ', '-')}.safetensors", self.chart)
        known = stage.load()
        if known is not None and known["done"]:
            if generator is not None:
                generator.set_state(known["generator"])
            return known["answer"], known["seconds"]
        began = time.perf_counter()
        stage.seconds = 0.0 if known is None else known["seconds"]
        stage.left = None if known is None else known["state"]
        stage.began = began
        answer = work(stage)
        seconds = stage.seconds + time.perf_counter() - began
        state = None if generator is None else generator.get_state()
        stage.save({"done": True, "answer": answer, "generator": state, "seconds": seconds})
        return answer, seconds


class Stage:
    """The file of one stage: what it gave, or the state in which it was interrupted."""

    def __init__(self, path: Path, chart: tuple[nn.Module, nn.Module] | None = None) -> None:
        self.path, self.chart = path, chart
        self.left: dict[str, Any] | None = None
        self.seconds, self.began = 0.0, time.perf_counter()
        self._next = self.began + FIRST / SHARE

    def recall(self) -> dict[str, Any] | None:
        """The state that was left here, once."""
        left, self.left = self.left, None
        return left

    def keep(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save a state, if enough time has passed for saving to take SHARE of it at most."""
        now = time.perf_counter()
        if now >= self._next:
            seconds = self.seconds + now - self.began
            self.save({"done": False, "state": state(), "seconds": seconds})
            after = time.perf_counter()
            self._next = after + (after - now) / SHARE

    def save(self, record: dict[str, Any]) -> None:
        """Write the file."""
        tensors: dict[str, Tensor] = {}
        text = json.dumps(_packed(record, tensors))
        digest = _digest(text, tensors)
        disk.write(self.path, save(tensors, {"format": str(FORMAT), "record": text, "sha256": digest}))

    def load(self) -> dict[str, Any] | None:
        """What the file holds, None where there is none.

        Raises:
            ValueError: it was changed or cut, or has another format.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                head = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError:
            head, tensors = {}, {}
        if head.get("sha256") != _digest(head.get("record", ""), tensors):
            raise ValueError(f"{self.path} was changed or cut after it was saved: remove it to repeat that stage")
        _check_format(self.path, head.get("format"))
        try:
            return self._unpacked(json.loads(head["record"]), tensors)
        except RecursionError:
            raise ValueError(f"{self.path} is nested too deeply: remove it to repeat that stage") from None

    def _unpacked(self, value: Any, tensors: dict[str, Tensor]) -> Any:
        """What `_packed` was given."""
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "tensor":
            return tensors[content[0]].to(content[1])
        if kind == "array":
            return tensors[content].numpy()
        if kind == "Status":
            return Status[content]
        if kind in ("list", "tuple"):
            items = [self._unpacked(each, tensors) for each in content]
            return items if kind == "list" else tuple(items)
        parts = {self._unpacked(key, tensors): self._unpacked(each, tensors) for key, each in content}
        if kind == "dict":
            return parts
        if kind == "Chart":
            spec = parts["spec"]
            chart = manifold.Chart(*self.chart) if spec is None and self.chart else manifold.build(spec)
            place = next(iter(parts["weights"].values()), torch.zeros(0)).device
            chart.load_state_dict(parts["weights"])
            return chart.to(place).eval()
        return KINDS[kind](**parts)


def differ(folder: Path, begun: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise a ValueError that names the first setting in which a fit that was begun differs from one that is asked for.

    Example:
        >>> differ(Path("run"), {"tol": 0.2}, {"tol": 0.3})
        Traceback (most recent call last):
        ...
        ValueError: run was begun with tol 0.2, got tol 0.3: pass the same to go on, or another folder to start anew
    """
    for name in dict.fromkeys([*settings, *begun]):
        before, now = begun.get(name), json.loads(json.dumps(settings.get(name)))
        if before != now:
            named = "other data" if name == "data" else f"{name} {before!r}, got {name} {now!r}"
            raise ValueError(
                f"{folder} was begun with {named}: pass the same to go on, or another folder to start anew"
            )


def fingerprint(*arrays: np.ndarray | None) -> str:
    """The SHA-256 of arrays with their shapes and dtypes, read in pieces."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(None if array is None else (array.shape, array.dtype.str)).encode())
        if array is not None:
            rows = max(1, (1 << 24) // max(1, array.nbytes // max(1, len(array))))
            for first in range(0, len(array), rows):
                digest.update(np.ascontiguousarray(array[first : first + rows]).view(np.uint8).data)
    return digest.hexdigest()


def _begun(path: Path) -> dict[str, Any]:
    """The settings of a fit that was begun."""
    try:
        text = path.read_bytes().decode()
        record = json.loads(text)
        same = text == json.dumps(record, indent=1)
        known = record.pop("sha256")
        _check_format(path, record["format"])
        if not same or known != _digest(json.dumps(record), {}):
            raise KeyError("sha256")
        return record["settings"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError, RecursionError):
        raise ValueError(f"{path} is damaged or was changed: remove its folder to start anew") from None


def _check_format(path: Path, known: Any) -> None:
    if str(known) != str(FORMAT):
        raise ValueError(
            f"{path} has format {known}, this version reads format {FORMAT}: remove its folder to start anew"
        )


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON, its tensors and arrays set aside under numbers. Everything but scalars is {kind: content}."""
    name = str(len(tensors))
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": [name, str(value.device)]}
    if isinstance(value, np.ndarray):
        tensors[name] = torch.from_numpy(np.array(value))
        return {"array": name}
    if isinstance(value, Status):
        return {"Status": value.name}
    if isinstance(value, manifold.Chart):
        return {"Chart": _pairs({"spec": value.spec, "weights": value.state_dict()}, tensors)}
    if is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return {type(value).__name__: _pairs(parts, tensors)}
    if hasattr(value, "_asdict"):
        return {type(value).__name__: _pairs(value._asdict(), tensors)}
    if isinstance(value, dict):
        return {"dict": _pairs(value, tensors)}
    if isinstance(value, list | tuple):
        return {"list" if isinstance(value, list) else "tuple": [_packed(each, tensors) for each in value]}
    return value


def _pairs(parts: dict[Any, Any], tensors: dict[str, Tensor]) -> list[list[Any]]:
    return [[_packed(key, tensors), _packed(each, tensors)] for key, each in parts.items()]


def _digest(record: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
