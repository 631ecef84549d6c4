"""Commands that show traces elsewhere, or how large they are: `trace open`, `trace largest`."""

from __future__ import annotations

from typing import Annotated

import typer

from fillpath.analytics.cli_options import (
    DataOption,
    IdArgument,
    JsonOption,
    KindOption,
    PortfolioOption,
    RunOption,
    invocation,
)


def open_in_viewer(
    context: typer.Context,
    given: IdArgument,
    *,
    viewer: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="NAME",
            help="jaeger, grafana, tempo, or a name of FILLPATH_TRACE_LINKS; else "
            "FILLPATH_TRACE_URL, else the first of these, else Jaeger on this machine.",
        ),
    ] = None,
    only_print: Annotated[
        bool,
        typer.Option(
            "--print", metavar="", help="Print the address, open nothing.", show_default=False
        ),
    ] = False,
    run: RunOption = None,
    portfolio: PortfolioOption = None,
    kind: KindOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Open the trace of an id in Jaeger, Grafana or another viewer, and print its address."""
    from fillpath.analytics.trace_open import open_trace

    open_trace(
        invocation(context).take(data, json),
        given,
        viewer=viewer,
        only_print=only_print,
        run=run,
        portfolio=portfolio,
        kind=kind,
    )


def largest_traces(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="A run, the beginning of its id, or latest.")
    ] = "latest",
    *,
    most: Annotated[
        int, typer.Option("-n", "--most", metavar="N", min=1, help="How many of each.")
    ] = 5,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show the traces of a run that have the most events, and the deepest chains of causes."""
    from fillpath.analytics.trace_largest import show_largest

    show_largest(invocation(context).take(data, json), run, most=most)
