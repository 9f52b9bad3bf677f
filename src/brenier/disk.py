"""Files and folders that are there whole or not at all, whatever ends the process or the power."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def write(path: Path, content: bytes) -> None:
    """Write a file to the side, flush it and rename it: at every moment the old one is there, or the new one.

    Raises:
        OSError: the disk is full, the folder can't be written; the file is named, and nothing of the new one stays.
    """
    side = path.with_name(f".{path.name}.writing")
    with named(path):
        try:
            with side.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(side, path)
        except BaseException:
            side.unlink(missing_ok=True)
            raise
        flush(path.parent)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An error of the system that doesn't say where it was, as of a full disk, gets the path."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # has no such call for folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(folder: Path, new: Path) -> None:
    """Put the folder `new` in the place of `folder`, which may be there: one of the two always is, see `standing`."""
    for path in (*new.rglob("*"), new):
        flush(path)
    if folder.exists():
        shutil.rmtree(_former(folder), ignore_errors=True)
        os.replace(folder, _former(folder))
    os.replace(new, folder)
    flush(folder.parent)
    shutil.rmtree(_former(folder), ignore_errors=True)


def standing(folder: Path) -> Path:
    """Where the folder is to be read: where it stood before, if a process was killed in the midst of `replace`."""
    former = _former(folder)
    return former if former.is_dir() and not folder.exists() else folder


def recover(folder: Path) -> None:
    """Clear up what a process that was killed in `replace` left: the former folder comes back if the new one didn't."""
    if standing(folder) != folder:
        os.replace(_former(folder), folder)
    shutil.rmtree(_former(folder), ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for one process alone; the lock ends with the process, however that ends.

    Raises:
        BlockingIOError: another process has it.
    """
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(f"{folder} is in use: another process writes there; wait for it, or end it") from None
    try:
        yield
    finally:
        lock.release()


def _former(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.former")
