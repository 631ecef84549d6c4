"""`fillpath trace largest`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import data_console, print_json, say, styled, table
from fillpath.analytics.report_format import count
from fillpath.analytics.run_lookup import find_run
from fillpath.analytics.span_words import duration_words
from fillpath.analytics.trace_links import TraceLink, TracePlace, configured_links
from fillpath.analytics.trace_sizes import TraceSize, trace_sizes

_COLUMNS = ("trace", "events", "depth", "fills", "took", "first event", "portfolio")


def show_largest(given: Invocation, wanted: str, *, most: int) -> None:
    """Print the largest and the deepest traces of a run: what a viewer must be able to draw.

    Raises:
        NotFound: There is no such run.
        UsageError: `FILLPATH_TRACE_URL` or `FILLPATH_TRACE_LINKS` is no address.
        LakeError: The lake cannot be read.
    """
    links = configured_links()
    with lake_connection(given.folder) as connection:
        run_id = find_run(connection, wanted)
        found = trace_sizes(connection, run_id, most)
    if given.json:
        print_json(
            {
                "run_id": run_id,
                "traces": found.traces,
                "events": found.events,
                "largest": [_document(one, run_id, links) for one in found.largest],
                "deepest": [_document(one, run_id, links) for one in found.deepest],
            }
        )
        return
    say(
        f"{count(found.events)} spans in {count(found.traces)} traces of run {run_id}",
    )
    if found.largest:
        _print("Largest", found.largest)
        _print("Deepest", found.deepest)
        say(("  Try: ", "bold"), given.command("trace", "open", found.largest[0].trace_id))


def _print(title: str, sizes: Sequence[TraceSize]) -> None:
    drawn = table(_COLUMNS, title=title, right=("events", "depth", "fills", "took"))
    for one in sizes:
        first = " ".join(filter(None, (one.name, one.symbol)))
        drawn.add_row(
            styled((one.trace_id, "cyan")),
            styled(count(one.events)),
            styled(count(one.depth)),
            styled(count(one.fills)),
            styled(duration_words(max(0, one.end - one.start))),
            styled(first),
            styled(one.portfolio or "several"),
        )
    console = data_console()
    console.print(drawn)
    console.print()


def _document(one: TraceSize, run_id: str, links: Sequence[TraceLink]) -> dict[str, Any]:
    place = TracePlace(one.trace_id, run_id, one.span_id, one.portfolio or "", one.start, one.end)
    return {**asdict(one), "links": {link.name: link.url(place) for link in links}}
