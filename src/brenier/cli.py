"""The command: `brenier fit | sample | evaluate | report | inspect`."""

from __future__ import annotations

import io
import json
import math
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from brenier.report import Inspection, Report
    from brenier.report.page import Finding

SUFFIXES = (".png", ".npz", ".npy", ".csv", ".tsv", ".parquet")
TABLES = SUFFIXES[3:]
UsageError: type[Any] = typer.BadParameter.__mro__[1]  # typer has moved it, but never from above BadParameter

app = typer.Typer(
    help="The geometry of deep learning: an autoencoder learns the manifold of your data, convex optimal transport the "
    "distribution on it.",
    epilog="Start with [bold]brenier fit digits --out runs/digits[/] and open runs/digits/report.html",
    rich_markup_mode="rich",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 2 wrong input (one line on stderr says what), 130 interrupted or terminated."""
    # threads that wait give their core away: spinning, they slow themselves and everyone else on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a pipe in cp1252 has no Greek letters, and no sentence is lost
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(given, prog_name="brenier", standalone_mode=False, obj=given) or 0
    except UsageError as error:
        code = _fail(error.format_message().rstrip(".") + _got(error, given) + "; see brenier --help", 2)
    except ModuleNotFoundError as error:
        code = _fail(str(error), 2)
    except OSError as error:
        code = _fail(_named(error), 2)
    except (ValueError, TypeError, ArithmeticError) as error:
        code = _fail(str(error), 2)
    except typer.Abort:
        code = 130
    if code == 130:
        _fail("interrupted; nothing was written, and what was there before is as it was", code)
    sys.exit(code)


def _got(error: Any, given: list[str]) -> str:
    """The value that an option refused, where the message doesn't have it."""
    names = getattr(getattr(error, "param", None), "opts", [])
    values = [value for name, value in pairwise(given) if name in names]
    values += [part.partition("=")[2] for part in given if part.partition("=")[0] in names and "=" in part]
    return "".join(f", got {value!r}" for value in values[-1:] if repr(value) not in error.format_message())


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits: torch does not survive one while it is imported."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _named(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


def _fail(reason: str, code: int) -> int:
    print("brenier: " + " ".join(reason.split()), file=sys.stderr)
    return code


class Chart(StrEnum):
    """Charts by name: none, or a network."""

    identity = "identity"
    network = "network"


class Extension(StrEnum):
    """The ways from codes to new ones."""

    local = "local"
    barycentric = "barycentric"


class Precision(StrEnum):
    """The precisions to train in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class Method(StrEnum):
    """The ways to a picture of data."""

    isomap = "isomap"
    pca = "pca"
    tsne = "tsne"
    umap = "umap"


Count = int | None
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or of a saved model.")]
DataDir = Annotated[Path | None, typer.Option(help="Look here first for a known data set.")]
Limit = Annotated[Count, typer.Option(min=2, help="Take at most so many samples, evenly spread.")]
Label = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of a table that holds labels.")]
Drop = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN", help="A column of a table to leave out; may be repeated.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random: the same seed, the same result.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


def _version(wanted: bool) -> None:
    if wanted:
        from brenier import __version__

        print(f"brenier {__version__}")
        raise typer.Exit


@app.callback()
def _brenier(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "brenier fit digits --out runs/digits\n\n"
    "brenier fit fashion-mnist --out runs/fashion --tol 0.3\n\n"
    "brenier fit photos/ --out runs/photos --latent-dim 32 --limit 5000 --skip-bad\n\n"
    "brenier fit patients.csv --out runs/patients --label diagnosis --drop name\n\n"
    "A transport that is not converged is done all the same: its sentence says what to change."
)
def fit(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="An .npy, .npz or .safetensors file, a table (.csv, .tsv, .parquet), an IDX file (.gz or not), a "
            "folder of images (in a sub-folder for each class, or flat) or one that datasets saved, or a known name: "
            "digits, fashion-mnist, mnist.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The folder to write: a new or an empty one.")],
    labels: Annotated[bool, typer.Option(help="Use the labels of the data, where there are any.")] = True,
    label: Label = None,
    drop: Drop = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that can't be read, named.")] = False,
    size: Annotated[Count, typer.Option(min=8, help="Scale the middle square of each image to this size.")] = None,
    chart: Annotated[
        Chart | None,
        typer.Option(help="identity: the samples are codes, as for tables by default; network: learn codes."),
    ] = None,
    data_dir: DataDir = None,
    latent_dim: Annotated[Count, typer.Option(min=1, help="Dimension of the codes; else several are tried.")] = None,
    epochs: Annotated[
        Count, typer.Option(min=1, help="Of the autoencoder; by default by the size of the data.")
    ] = None,
    tol: Annotated[float, typer.Option(help="The relative error of the transport to reach.")] = 0.2,
    max_samples: Annotated[Count, typer.Option(min=1, help="Noise samples for the transport, at most.")] = None,
    extension: Annotated[Extension, typer.Option(help="The way from codes to new ones.")] = Extension.local,
    limit: Limit = None,
    seed: Seed = 0,
    device: Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.")] = None,
    precision: Annotated[
        Precision, typer.Option(help="Of the networks' training; bfloat16 is quicker on many GPUs and new CPUs.")
    ] = Precision.float32,
    as_json: Json = False,
    quiet: Quiet = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that is there.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a fit of RUN was interrupted, if one was; the same result.")
    ] = False,
) -> None:
    """Learn a data set and write a run.

    The model is judged by test samples: where the data have no test split, by one in ten, set aside before the fit.

    The state is kept in RUN.partial while this runs: an interrupted fit goes on with the same options and --resume.

    RUN will hold config.json and model.safetensors, metrics.json, history.jsonl, samples.png and report.html.
    """
    if not 0 < tol < math.inf:
        raise ValueError(f"--tol must be positive and finite, got {tol}")
    say = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    with redirect_stdout(sys.stderr):  # bars and lines of the library: stdout is for the result
        with _undisturbed():
            from brenier import AEOT, folders, runs
            from brenier.device import find

        out = Path(os.path.abspath(out))
        folders.refuse(out, overwrite, resume)
        find(device)
        options = {"label": label, "drop": drop, "skip_bad": skip_bad, "size": size}
        origin = runs.origin(data, data_dir, limit, labels, seed, **{k: v for k, v in options.items() if v})
        train, test = runs.train_and_test(**origin)
        say.print(runs.described(train, test))
        model = AEOT(
            latent_dim=latent_dim,
            chart=chart and chart.value,
            precision=precision.value,
            extension=extension.value,
            tol=tol,
            epochs=epochs,
            max_samples=max_samples,
            seed=seed,
            device=device,
            progress=not quiet,
        )
        written: Report | None = None
        if resume and runs.finished(out, model, origin):
            say.print(f"{out} is finished: there is nothing to go on with")
            metrics = runs.metrics_of(out)
        else:
            if not (resume and folders.begun(out)):
                seconds, memory = runs.estimate(model, train, test)
                say.print(f"this will take about {_minutes(seconds)}, {memory / 1e9:.1f} GB")
            try:
                with folders.unfinished(out, overwrite, resume) as partial:
                    model.fit(train, checkpoint=partial / folders.CHECKPOINT)
                    say.print(*(f"  {stage:<14}{took:8.1f} s" for stage, took in model.seconds_.items()), sep="\n")
                    say.print("  measuring the model, and samplers to compare it with")
                    written, metrics = runs.fill(partial, model, train, test, origin)
            except (KeyboardInterrupt, OSError) as error:
                _go_on(error, folders.begun(out), context.obj)
    if as_json:
        print(json.dumps({"run": str(out)} | metrics))
    elif not quiet and written is not None:
        _print_findings(written)
        print(f"\nThe model is in {out}\nThe report is in {out / 'report.html'}")


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "brenier sample runs/digits -n 64 --out new.png\n\n"
    "brenier sample runs/digits -n 1000 --label 3 --out threes.npz\n\n"
    "brenier sample runs/patients -n 1000 --out new.csv\n\n"
    "Sample i of a seed is the same sample, however many are drawn."
)
def sample(
    run: Run,
    out: Annotated[
        Path,
        typer.Option(
            help="A .png (a grid of images), .npy (samples), .npz (with codes, modes and labels), .csv or .parquet."
        ),
    ],
    n: Annotated[int, typer.Option("-n", help="How many.")] = 64,
    mode: Annotated[Count, typer.Option(help="Of this mode only; 0 is the heaviest.")] = None,
    label: Annotated[str | None, typer.Option(help="Of this label only.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw new samples from a run."""
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"--out must end in {', '.join(SUFFIXES)}, got {out}")
    import numpy as np

    with _undisturbed():
        from brenier import folders, load, runs
        from brenier.data import arrow

    with folders.beside(out) as part:
        model = load(run)
        made, wanted = model.layout_.kind, "table" if suffix in TABLES else "images" if suffix == ".png" else None
        if (made == "table" or wanted is not None) and made != wanted:
            entries = " x ".join(map(str, model.layout_.shape))
            what, ways = {
                "table": (f"tables of {entries} columns", ".csv, .tsv or .parquet"),
                "vectors": (f"vectors of {entries} numbers", ".npz or .npy"),
                "images": (f"images of {entries}", ".png, .npz or .npy"),
            }[made]
            raise ValueError(f"{run} makes {what}, no {suffix}: write {ways}")
        known = {} if model.labels_ is None else {str(each): each for each in np.unique(model.labels_)}
        draw = model.draw(n, seed, mode, known.get(label, label) if label else label)
        if suffix in TABLES:
            model.layout_ = replace(model.layout_, library="pyarrow")  # whose dtypes are those of the file
        samples, cells = model.samples_of(draw), model.cells_of(draw)
        labels = {} if model.labels_ is None else {"labels": model.labels_[cells]}
        if suffix == ".png":
            runs.save_png(part, model, samples)
        elif suffix in TABLES:
            arrow.write(part, samples)
        elif suffix == ".npy":
            np.save(part, np.asarray(samples), allow_pickle=False)
        else:
            arrays = {"samples": samples, "codes": draw.codes, "modes": model.modes_[cells], **labels}
            np.savez_compressed(part, allow_pickle=False, **{name: np.asarray(x) for name, x in arrays.items()})
    if as_json:
        print(json.dumps({"out": str(out), "samples": n, **runs.plain({"accepted": draw.accepted})}))
    elif not quiet:
        print(f"{n:,} new samples are in {out}")


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "brenier evaluate runs/digits digits\n\n"
    "brenier evaluate runs/photos more-photos/ --json"
)
def evaluate(
    run: Run,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Samples that the model never saw; a set's test split.")],
    data_dir: DataDir = None,
    limit: Limit = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge a run by samples that it never saw: every number with its standard error."""
    with _undisturbed():
        from brenier import load, runs, storage
        from brenier.report import MEANING
        from brenier.report.page import number

    model = load(run)
    test = runs.unseen(data, data_dir, limit, storage.read(run)[0].get("data"))
    if said := runs.left_out(test):
        print(said.strip(), file=sys.stderr)
    numbers = model.evaluate(test, seed)
    if as_json:
        print(json.dumps({"run": str(run), "test": len(test), "evaluate": runs.plain(numbers)}))
    elif not quiet:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("")
        table.add_column(f"{len(test):,} test samples", justify="right", no_wrap=True)
        table.add_column("")
        for name, value in numbers.items():
            table.add_row(name, number(value), MEANING[name])
        Console(highlight=False).print(table)


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "brenier report runs/digits\n\n"
    "brenier report runs/photos more-photos/ --out judged.html\n\n"
    "brenier report runs/photos runs/wider runs/longer"
)
def report(
    run: Run,
    others: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA] | [RUN ...]",
            help="Test samples, by default those that the run was judged by at its fit; or runs to compare it with.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The page; by default report.html in the folder of the run, and none of a comparison."),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a run anew and write its page; or compare runs, on the test samples of the first."""
    with _undisturbed():
        from brenier import folders, load, runs, storage

    others = others or []
    if len(others) > 1 or any((Path(other) / storage.CONFIG).is_file() for other in others):
        return _compare([run, *map(Path, others)], out, data_dir, as_json, quiet)
    model = load(run)
    test = (
        runs.unseen(others[0], data_dir, origin=storage.read(run)[0].get("data"))
        if others
        else runs.judges(run, data_dir)
    )
    page = run / "report.html" if out is None else out
    with folders.beside(page) as part:
        written = model.report(part, test)
    if as_json:
        print(json.dumps({"report": str(page)} | runs.metrics(model, written, len(model.codes_), len(test))))
    elif not quiet:
        _print_findings(written)
        print(f"\nThe report is in {page}")


@app.command(
    epilog="[bold]Examples[/]\n\n"
    "brenier inspect digits\n\n"
    "brenier inspect photos/ --picture umap --out seen/photos\n\n"
    "brenier inspect runs/digits\n\n"
    "brenier inspect digits --model package.module:factory --weights mlp.safetensors --out seen/mlp"
)
def inspect(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA|RUN",
            help="As for fit; with a network, its test split if any. Of a run: its encoder, on what judged it.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="package.module:factory, a function in this folder or installed that makes the network."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Its weights, a .safetensors file.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write inspection.json, .html and .png to this new folder.")
    ] = None,
    picture: Annotated[
        Method, typer.Option(help="Of the data; t-SNE and UMAP need the extra: pip install 'brenier[embed]'.")
    ] = Method.isomap,
    label: Label = None,
    drop: Drop = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the inspection that is there.")] = False,
) -> None:
    """Say what a data set is like or, with --model, what each layer of a network does to it."""
    if weights is not None and model is None:
        raise ValueError(f"--weights {weights} needs --model package.module:factory, the network that they are of")
    with redirect_stdout(sys.stderr):  # lines of the user's modules
        with _undisturbed():
            from brenier import data as data_sets
            from brenier import folders, load, runs, storage
            from brenier import report as reports

        if out is not None:
            out = Path(os.path.abspath(out))
            folders.refuse(out, overwrite, mark="inspection.json", what="inspection")
        network = None if model is None else runs.network(model, weights)
        if network is not None and not runs.is_table(data):
            samples = runs.unseen(data, data_dir, limit, label=label, drop=drop or ())
        elif network is None and (Path(data) / storage.CONFIG).is_file():
            if label is not None or drop:
                raise ValueError(f"{data} is a run, which knows its columns: leave --label and --drop out")
            network, samples = load(data).chart_.encoder, runs.judges(Path(data), data_dir)
            if next(network.parameters(), None) is None:
                raise ValueError(f"{data} takes samples as codes: it has no layers to inspect, inspect its data")
        else:
            samples = data_sets.load(data, data_dir=data_dir, limit=limit, label=label, drop=drop or ())
        try:
            found = reports.inspect(samples, network, picture=picture.value, seed=seed)
        except ImportError as error:
            raise ValueError(f"--picture {picture.value}: {error}") from None
        if out is not None:
            with folders.unfinished(out, overwrite, mark="inspection.json", what="inspection") as partial:
                found.write(partial)
    if as_json:
        print(json.dumps(({} if out is None else {"out": str(out)}) | found.asdict()))
    elif not quiet:
        _print_inspection(found)
        if out is not None:
            print(f"\nThe page is {out / 'inspection.html'}, its figure inspection.png")


def _compare(folders: list[Path], out: Path | None, data_dir: Path | None, as_json: bool, quiet: bool) -> None:
    from brenier import report as reports
    from brenier import runs
    from brenier.folders import beside
    from brenier.report.page import number

    test = runs.judges(folders[0], data_dir)
    numbers = runs.judged_alike(folders, test)
    findings, table = reports.compare(numbers)
    if out is not None:
        settings = {"test samples": f"{len(test):,} of {test.name}, those of {folders[0]}, whose features judge all"}
        with beside(out) as part:
            reports.write_page(part, "Runs compared", findings, [table], {}, settings, {})
    if as_json:
        page = {} if out is None else {"report": str(out)}
        print(json.dumps(page | {"test": len(test), "runs": {k: runs.plain(v) for k, v in numbers.items()}}))
    elif not quiet:
        shown = Table("", *table.columns[:-1], box=box.SIMPLE_HEAD, pad_edge=False)
        for column in shown.columns[1:]:
            column.justify = "right"
        for name, values in table.rows:
            shown.add_row(name, *map(number, values[:-1]))
        console = Console(highlight=False)
        console.print(_sentences(findings))
        console.print(shown)


def _go_on(error: KeyboardInterrupt | OSError, begun: bool, given: list[str]) -> NoReturn:
    """End with the line that says how the fit goes on, where it can."""
    if isinstance(error, BlockingIOError) or not begun:
        raise error
    reason, code = (_named(error), 2) if isinstance(error, OSError) else ("interrupted", 130)
    command = shlex.join(["brenier", *given, *([] if "--resume" in given else ["--resume"])])
    sys.exit(_fail(f"{reason}; go on with: {command}", code))


def _minutes(seconds: float) -> str:
    return "a minute" if seconds < 90 else f"{round(seconds / 60)} min"


def _print_findings(written: Report) -> None:
    from brenier.report.page import number

    shown = ("fid", "fid_rec", "c2st", "nn")
    numbers = Table("", *shown, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in numbers.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for sampler, values in written.numbers.items():
        numbers.add_row(sampler, *(number(values[name]) for name in shown))
    console = Console(highlight=False)
    console.print(_sentences(written.findings))
    console.print(numbers)


def _print_inspection(found: Inspection) -> None:
    from brenier.report.page import number

    wide = len(found.table.columns) > 6  # then the terminal has no room for errors, kinds, widths and the last
    shown = slice(2, -1) if wide else slice(0, None)
    table = Table("", *found.table.columns[shown], box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.columns[0].min_width = min(12, max(len(name) for name, _ in found.table.rows))
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for name, values in found.table.rows:
        table.add_row(name, *(f"{v[0]:.2g}" if wide and isinstance(v, tuple) else number(v) for v in values[shown]))
    console = Console(highlight=False)
    console.print(found.title, style="bold", markup=False)
    console.print(_sentences(found.findings))
    console.print(table)
    if wide:
        console.print(
            "Standard errors, and the rest of the table, are in the page of --out and in --json.", style="dim"
        )


def _sentences(findings: Sequence[Finding]) -> Table:
    found = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    found.add_column(justify="right", style="bold", no_wrap=True)
    found.add_column()
    for finding in findings:
        found.add_row(Text(finding.number), Text(finding.sentence))
    return found
