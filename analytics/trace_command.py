"""`fillpath trace show`."""

from __future__ import annotations

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import data_console, print_json, say
from fillpath.analytics.trace_loading import load_trace, trace_document
from fillpath.analytics.trace_lookup import command_for, find_target
from fillpath.analytics.trace_view import print_trace


def show_trace(
    given: Invocation,
    wanted: str,
    *,
    run: str | None,
    portfolio: str | None,
    kind: str | None,
    everything: bool,
) -> None:
    """Show what an id stands for, as a tree or as one document with everything in it.

    Raises:
        NotFound: Nothing has such an id.
        UsageError: Several ids begin so.
        LakeError: The lake cannot be read.
    """
    options = {"run": run, "portfolio": portfolio, "kind": kind}
    again = command_for("trace", "show", **options, all=everything, json=given.json)
    with lake_connection(given.folder) as connection:
        target = find_target(connection, wanted, **options, again=again)
        trace = load_trace(connection, target, everything=everything or given.json)
    for note in trace.target.notes:
        say((note, "yellow"))
    if given.json:
        print_json(trace_document(trace))
    else:
        print_trace(data_console(), trace)
