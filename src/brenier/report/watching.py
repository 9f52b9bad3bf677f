"""The course of a fit in TensorBoard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def tensorboard(folder: str | Path) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """A callback for `AEOT.fit` that writes every number of the course of a fit for TensorBoard, by stage.

    Raises:
        ImportError: the extra is missing: pip install 'brenier[tensorboard]'.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("TensorBoard is missing: pip install 'brenier[tensorboard]'") from None
    steps: Counter[str] = Counter()
    with SummaryWriter(str(folder)) as writer:

        def watch(stage: str, entry: dict[str, Any]) -> None:
            steps[stage] += 1
            for name, value in entry.items():
                if isinstance(value, int | float):
                    writer.add_scalar(f"{stage}/{name}", value, steps[stage])

        yield watch
