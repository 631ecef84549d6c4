"""`fillpath export`: the spans of a run for other programs."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, Literal

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import current_store
from fillpath.analytics.output import print_json, print_line, say
from fillpath.analytics.run_lookup import find_run
from fillpath.analytics.trace_loading import spans_of
from fillpath.analytics.trace_lookup import command_for, find_target
from fillpath.exporters.otel_traces_file import write_otel_traces
from fillpath.exporters.otlp_json import write_otlp_json
from fillpath.exporters.span_selection import SpanSelection
from fillpath.instrumentation.errors import FillpathError, UsageError
from fillpath.instrumentation.event_sampler import EventSampler

Format = Literal["otlp-json", "parquet"]
STDOUT: Final = "-"
_ENDINGS: Final = {"otlp-json": "otlp.json", "parquet": "otel_traces.parquet"}


def export_run(
    given: Invocation,
    wanted: str,
    *,
    form: Format,
    output: Path | None,
    trace: str | None,
    sampled: bool,
) -> None:
    """Write the spans of a run to a file, and print its path.

    Raises:
        NotFound: There is no such run, or no such chain in it.
        UsageError: Parquet is to go to a terminal.
        FillpathError: The file cannot be written.
    """
    store = current_store(given.folder)
    with store.connect(further_views=()) as connection:
        run_id = find_run(connection, wanted)
        modes = dict(connection.execute("SELECT run_id, mode FROM runs").fetchall())
        trace_ids = None
        if trace is not None:
            again = command_for(
                *("export", wanted, "--trace"),
                format=None if form == "otlp-json" else form,
                output=None if output is None else str(output),
                sampled=sampled,
                json=given.json,
            )
            target = find_target(connection, trace, run=run_id, again=again)
            trace_ids = list(dict.fromkeys(span.trace_id for span in spans_of(connection, target)))
    policy = EventSampler.from_environment() if sampled else None
    selection = SpanSelection(store, run_id, trace_ids, policy)
    path = output or Path(f"{run_id}.{_ENDINGS[form]}")
    if form == "parquet" and str(path) == STDOUT and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal.", next_command="--output FILE")
    kept = selection.span_ids()
    with _opened(path) as file:
        if form == "parquet":
            count = write_otel_traces(store, run_id, file, trace_ids=trace_ids, span_ids=kept)
        else:
            text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
            count = write_otlp_json(selection.batches(kept), text, modes)
            text.detach()
    if str(path) == STDOUT:
        return
    if given.json:
        print_json({"run_id": run_id, "format": form, "path": path.absolute(), "spans": count})
        return
    print_line(path)
    say((f"{count} spans of run {run_id}", "dim"))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears only once it is complete."""
    if str(path) == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        raise FillpathError(
            f"The file {path} cannot be written: {error.strerror or error}.",
            next_command="choose another with --output",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
