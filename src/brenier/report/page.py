"""One self-contained page, `report.html`: findings, numbers, figures, settings. It asks the network for nothing."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from brenier import disk
from brenier.solution import Estimate


class Finding(NamedTuple):
    """What was found: a number, short, and the sentence that says what it means."""

    number: str
    sentence: str


class Table(NamedTuple):
    """Numbers to compare: `rows` are (name, values), one value a column (Estimate, number, text or None for none).

    The first row is set off: it is the model's own. `notes` explains each column, in their order.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Estimate | float | str | None]]]
    notes: Sequence[str] = ()


class Picture(NamedTuple):
    """A figure with its caption and the text for those who cannot see it."""

    figure: Figure
    caption: str
    alt: str


def number(value: Estimate | float | str | None) -> str:
    """A value as text: an estimate to two digits of its error, another number to four, None as a dash.

    Example:
        >>> number(Estimate(0.51234, 0.0213)), number(Estimate(93.71, 4.2)), number(0.25), number(None)
        ('0.512 ± 0.021', '93.7 ± 4.2', '0.25', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if not isinstance(value, Estimate):
        return f"{value:.4g}"
    if not (math.isfinite(value.sem) and value.sem > 0):
        return f"{value.mean:.4g} ± {value.sem:.2g}"
    digits = min(9, max(0, 1 - math.floor(math.log10(value.sem))))
    return f"{value.mean:.{digits}f} ± {value.sem:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds as text.

    Example:
        >>> duration(0.234), duration(75), duration(4020)
        ('0.23 s', '1 min 15 s', '1 h 07 min')
    """
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _image(figure: Figure) -> str:
    """A figure as the data URI of a PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def write_page(
    path: str | Path,
    title: str,
    findings: Sequence[Finding],
    tables: Sequence[Table],
    pictures: Mapping[str, Picture],
    settings: Mapping[str, Any],
    timing: Mapping[str, float],
    interactive: go.Figure | None = None,
    subtitle: str = "",
) -> Path:
    """Write the report to `path`: findings first, then numbers, figures, settings and the seconds of every stage.

    Images, styles and scripts are inside the file (about 5 MB more with `interactive`), and the page forbids itself
    every request. It is written beside `path` and then renamed: no reader ever sees half a page.

    Args:
        path: the file; its folder must exist.
        title: of the page.
        findings: each with its number.
        tables: the first is the main one.
        pictures: heading to figure, in order.
        settings: name to value.
        timing: stage to seconds.
        interactive: a plotly figure to turn and hover.
        subtitle: one line below the title: the data, the date, the version.

    Raises:
        FileNotFoundError: when the folder is missing; ValueError: for a row of a table without one value per column.
    """
    for table in tables:
        for name, values in table.rows:
            if len(values) != len(table.columns):
                raise ValueError(
                    f"row {name!r} of {table.title!r} must have {len(table.columns)} values, got {len(values)}"
                )
    path = Path(path)
    environment = Environment(loader=PackageLoader("brenier.report", "."), autoescape=True, trim_blocks=True)
    environment.filters.update(number=number, duration=duration, image=_image)
    config = {"displaylogo": False, "responsive": True, "displayModeBar": False}
    page = environment.get_template("report.html.jinja").render(
        title=title,
        subtitle=subtitle,
        findings=findings,
        tables=tables,
        pictures=pictures,
        settings=settings,
        timing=timing,
        longest=max(timing.values(), default=1) or 1,
        map=interactive and interactive.to_html(config, full_html=False, include_mathjax=False, div_id="codes"),
    )
    disk.write(path, page.encode())
    return path
