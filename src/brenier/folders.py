"""The folder of a run while it is filled: to the side, for one process, to be gone on with, and whole in the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from brenier import disk, storage
from brenier.checkpoint import BEGUN

CHECKPOINT = "checkpoint"  # the folder in an unfinished run that the fit goes on from


def partial_of(out: Path) -> Path:
    """Where unfinished work on the folder OUT lives."""
    return out.with_name(out.name + ".partial")


def begun(out: Path) -> bool:
    """Whether a fit that was interrupted can go on."""
    return (partial_of(out) / CHECKPOINT / BEGUN).is_file()


def refuse(out: Path, overwrite: bool, resume: bool = False, mark: str = storage.CONFIG, what: str = "run") -> None:
    """Raise where OUT may not be written: over something else, or over what was made before without leave.

    The file `mark` tells a run from other folders.

    Raises:
        FileExistsError: there is something; BlockingIOError: another process writes it; NotADirectoryError,
            PermissionError: the place can't be written to.
    """
    place, partial = next(folder for folder in out.parents if folder.exists()), partial_of(out)
    if not place.is_dir():
        raise NotADirectoryError(f"{place} is a file: no {what} can be written below it")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"{place} can't be written to: choose another place")
    if partial.is_dir():
        with disk.locked(partial):
            _refuse(out, overwrite, resume, mark, what)
    else:
        _refuse(out, overwrite, resume, mark, what)


def _refuse(out: Path, overwrite: bool, resume: bool, mark: str, what: str) -> None:
    disk.recover(out)
    if begun(out) and not (overwrite or resume):
        raise FileExistsError(
            f"{partial_of(out)} is an unfinished run: pass --resume to go on, --overwrite to start anew"
        )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / mark).is_file():
        raise FileExistsError(f"{out} exists and is no {what}: choose another place")
    if not overwrite and not (resume and not begun(out)):
        raise FileExistsError(f"{out} exists: choose another place, or pass --overwrite to replace it")


@contextmanager
def unfinished(
    out: Path, overwrite: bool = False, resume: bool = False, mark: str = storage.CONFIG, what: str = "run"
) -> Iterator[Path]:
    """The folder OUT.partial to work in, for this process alone; in the end it becomes OUT.

    If that isn't reached, it stays where a fit can go on from it: `begun`. What wrong input or a training that diverged
    leaves of a new one is removed, with every folder that was made for it.
    """
    partial = partial_of(out)
    new = [folder for folder in out.parents if not folder.exists()]
    old = resume and begun(out)
    partial.mkdir(parents=True, exist_ok=True)
    try:
        with disk.locked(partial), disk.named(partial):
            _refuse(out, overwrite, resume, mark, what)
            if not old:
                _empty(partial)
            yield partial
            disk.replace(out, partial)
            clear(out)
    except (ValueError, TypeError, ArithmeticError):
        if not old:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    except BlockingIOError:
        raise  # what is there belongs to another process
    except BaseException:
        if partial.is_dir() and not begun(out):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        for folder in new:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """A file to write first, of the same suffix, flushed and renamed to `out` in the end."""
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.absolute().parent} to write {out.name} to")
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder; name a file to write")
    part = out.with_name(f".{out.stem}.partial{out.suffix}")
    with disk.named(out):
        try:
            yield part
            disk.flush(part)
            os.replace(part, out)
        finally:
            part.unlink(missing_ok=True)


def clear(out: Path) -> None:
    """Remove from a finished run what only an unfinished one needs."""
    shutil.rmtree(out / CHECKPOINT, ignore_errors=True)
    (out / "lock").unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    """Remove all but the lock."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
