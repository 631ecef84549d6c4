"""`fillpath trace open`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fillpath.analytics.chain_span import ChainSpan
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import print_json, print_line, say
from fillpath.analytics.trace_links import TracePlace, link_document, link_to
from fillpath.analytics.trace_loading import spans_of
from fillpath.analytics.trace_lookup import Target, command_for, find_target

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def open_trace(
    given: Invocation,
    wanted: str,
    *,
    viewer: str | None,
    only_print: bool,
    run: str | None,
    portfolio: str | None,
    kind: str | None,
) -> None:
    """Print the address of an id's trace in a viewer, and open it in a browser.

    Raises:
        NotFound: Nothing has such an id.
        UsageError: Several ids begin so, or there is no such viewer.
        LakeError: The lake cannot be read.
    """
    link = link_to(viewer)
    options = {"run": run, "portfolio": portfolio, "kind": kind}
    again = command_for("trace", "open", **options, **{"in": viewer}, print=only_print)
    with lake_connection(given.folder) as connection:
        target = find_target(connection, wanted, **options, again=again)
        place = trace_place(connection, target, spans_of(connection, target))
    for note in target.elsewhere:
        say((note, "yellow"))
    url = link.url(place)
    if given.json:
        print_json(link_document(link, place))
    else:
        print_line(url)
    if not only_print and not given.json:
        import webbrowser

        if not webbrowser.open(url):
            say(("No browser was found.", "yellow"))


def trace_place(
    connection: DuckDBPyConnection, target: Target, asked: list[ChainSpan]
) -> TracePlace:
    """Tell which trace an id leads to, and which of its spans.

    Of several spans it is the last fill, else the last one; of a whole chain, its first.

    Args:
        connection: A connection with the view `raw_spans`.
        target: What `find_target` found.
        asked: The spans that have its id, at least one.
    """
    whole_chain = target.column in {"trace_id", "correlation_id"}
    fills = [span for span in asked if span.is_fill]
    span = asked[0] if whole_chain else (fills or asked)[-1]
    begun, ended = connection.execute(
        "SELECT min(start_time), max(start_time + coalesce(duration, 0)) FROM raw_spans "
        "WHERE trace_id = unhex(?) AND run_id = ?",
        [span.trace_id, span.run_id],
    ).fetchall()[0]
    return TracePlace(
        span.trace_id,
        span.run_id,
        span.span_id,
        target.portfolio or span.portfolio or "",
        begun or 0,
        ended or 0,
    )
