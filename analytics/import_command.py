"""`fillpath import`: spans of any OpenTelemetry application, from files, into the lake."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import typer

from fillpath.analytics.cli_options import DataOption, Invocation, JsonOption, invocation
from fillpath.instrumentation.errors import FillpathError, NotFound, UsageError
from fillpath.instrumentation.settings import ENV_PORTFOLIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from fillpath.exporters.event_store import EventStore
    from fillpath.exporters.otlp_file import OtlpFile
    from fillpath.exporters.span_import import SpanImport

STDIN: Final = "-"
_WORTH_A_BAR: Final = 8 << 20
_MOST_TOLD: Final = 3


def import_files(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Files of OTLP; - is stdin.", allow_dash=True),
    ],
    *,
    run_id: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="Run of spans whose resource names none; else one is made for each file.",
        ),
    ] = None,
    portfolio: Annotated[
        str | None,
        typer.Option("--portfolio", metavar="NAME", help="Portfolio of spans that name none."),
    ] = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Bring spans of any OpenTelemetry application from files into the lake.

    Takes OTLP as JSON or in binary form, one message or many, plain, gzip or zstd: what the
    Collector's file exporter and `fillpath export` write. What a run has already is not taken
    again.
    """
    given = invocation(context).take(data, json)
    _check(files)
    from fillpath.analytics.lake_reading import current_store

    store = current_store(given.folder)
    namespace = portfolio or os.environ.get(ENV_PORTFOLIO) or "default"
    outcomes = []
    try:
        for file in files:
            outcomes.append(_import_file(store, file, run_id, namespace))  # noqa: PERF401 - kept
    finally:  # what is in the lake is said also when a later file fails
        if outcomes:
            _print(given, outcomes)
    _complain(given, outcomes)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a file."""

    file: Path
    source: OtlpFile
    spans: SpanImport

    @property
    def taken(self) -> int:
        return sum(run.taken for run in self.spans.outcomes)

    def document(self) -> dict[str, Any]:
        """Give it for a program."""
        return {
            "file": str(self.file),
            "form": self.source.form,
            "runs": [
                {"run_id": run.run_id, "taken": run.taken, "known": run.known}
                for run in self.spans.outcomes
            ],
            "failed": self.spans.failed,
            "failures": self.spans.failures,
            "damages": [{"where": one.where, "what": one.what} for one in self.source.damages],
            "other_signals": self.source.others,
        }


def _check(files: list[Path]) -> None:
    """Refuse before anything is imported what cannot be read at all."""
    names = [str(file) for file in files]
    if names.count(STDIN) > 1:
        raise UsageError("Only one of the files can be stdin.")
    for file, name in zip(files, names, strict=True):
        if name == STDIN:
            if sys.stdin.isatty():
                raise UsageError(
                    "Nothing comes from stdin.", next_command="fillpath import - < traces.json"
                )
        elif file.is_dir():
            raise UsageError(f"{file} is a folder.", next_command=f"fillpath import {file}/*.json")
        elif not file.exists():
            raise NotFound(f"There is no file {file}.")


def _import_file(store: EventStore, file: Path, run_id: str | None, portfolio: str) -> _Outcome:
    from fillpath.exporters.otlp_file import OtlpFile, UnknownForm
    from fillpath.exporters.span_import import SpanImport

    with _opened(file) as opened, _without_collector():
        try:
            source = OtlpFile(opened)
        except UnknownForm as error:
            raise UsageError(
                f"{_named(file)} is not OTLP: {error}.",
                next_command="a file of the Collector's file exporter, or of fillpath export",
            ) from error
        source_name = None if str(file) == STDIN else file.name
        spans = SpanImport(store, run_id=run_id, portfolio=portfolio, source=source_name)
        with _bar(file) as advance:
            for resource in source:
                spans.take(resource)
                advance(source.position)
            spans.finish()
    return _Outcome(file, source, spans)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    if str(file) == STDIN:
        yield sys.stdin.buffer
        return
    try:
        with file.open("rb") as opened:
            yield opened
    except OSError as error:
        if error.filename is None or Path(error.filename) != file:
            raise
        raise FillpathError(f"{file} cannot be read: {error.strerror}.") from error


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Spare Python's search for cycles: there are none among millions of small parts of spans.

    It takes a third of the time otherwise.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _bar(file: Path) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, for a large file."""
    from fillpath.analytics.output import inert, talk_console

    console = talk_console()
    size = 0 if str(file) == STDIN else file.stat().st_size
    if not console.is_terminal or size < _WORTH_A_BAR:
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(inert(file.name), total=size)
        yield lambda position: progress.update(task, completed=position)


def _print(given: Invocation, outcomes: list[_Outcome]) -> None:
    from fillpath.analytics.output import data_console, inert, print_json, say, table

    if given.json:
        print_json({"files": [outcome.document() for outcome in outcomes]})
        return
    drawn = table(["file", "run", "new spans", "known"], right=["new spans", "known"])
    for outcome in outcomes:
        for run in outcome.spans.outcomes:
            cells = (inert(outcome.file), run.run_id, f"{run.taken:,}", f"{run.known:,}")
            drawn.add_row(*cells)
    if drawn.row_count:
        data_console().print(drawn)
    for outcome in outcomes:
        if not outcome.spans.outcomes:
            say(f"There are no spans in {_named(outcome.file)}.")
        if outcome.source.others:
            others = outcome.source.others
            say((f"{others} parts of metrics or logs in {_named(outcome.file)} left alone", "dim"))


def _complain(given: Invocation, outcomes: list[_Outcome]) -> None:
    """End with an error when something of the files is not in the lake."""
    lines: list[str] = []
    for outcome in outcomes:
        damages, name = outcome.source.damages, _named(outcome.file)
        if damages:
            lines.append(
                f"{name} is damaged. What is whole of it is in the lake; import it again once all "
                f"of it is, nothing is taken twice. {len(damages)} of its parts cannot be read:"
            )
            lines += [f"{damage}" for damage in damages[:_MOST_TOLD]]
        if outcome.spans.failed:
            lines.append(f"{outcome.spans.failed} spans of {name} could not be carried:")
            lines += outcome.spans.failures[:_MOST_TOLD]
    if lines:
        named = [str(one.file) for one in outcomes if one.source.damages]
        raise FillpathError(
            "\n".join(lines),
            next_command=given.command("import", *named) if named else None,
        )


def _named(file: Path) -> str:
    return "stdin" if str(file) == STDIN else str(file)
