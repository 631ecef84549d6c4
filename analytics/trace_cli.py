"""The commands `fillpath trace …`, as the command line has them."""

from __future__ import annotations

import typer

from fillpath.analytics.cli_options import (
    AllOption,
    DataOption,
    IdArgument,
    JsonOption,
    KindOption,
    LinksOption,
    PortfolioOption,
    RunOption,
    invocation,
)
from fillpath.analytics.cli_views import largest_traces, open_in_viewer

trace_app = typer.Typer(help="Chains of events, from bar to fill.", no_args_is_help=True)


@trace_app.command("show")
def trace_show(
    context: typer.Context,
    given: IdArgument,
    *,
    run: RunOption = None,
    portfolio: PortfolioOption = None,
    kind: KindOption = None,
    everything: AllOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show what led to an event and what came of it, from the bar down to the fill."""
    from fillpath.analytics.trace_command import show_trace

    show_trace(
        invocation(context).take(data, json),
        given,
        run=run,
        portfolio=portfolio,
        kind=kind,
        everything=everything,
    )


@trace_app.command("path")
def trace_path(
    context: typer.Context,
    given: IdArgument,
    *,
    run: RunOption = None,
    portfolio: PortfolioOption = None,
    kind: KindOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show the way from the first cause to an event, and how long each step took."""
    from fillpath.analytics.lineage_command import show_lineage

    show_lineage(
        invocation(context).take(data, json), "path", given, run=run, portfolio=portfolio, kind=kind
    )


@trace_app.command("ancestors")
def trace_ancestors(
    context: typer.Context,
    given: IdArgument,
    *,
    run: RunOption = None,
    portfolio: PortfolioOption = None,
    kind: KindOption = None,
    links: LinksOption = False,
    everything: AllOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show everything that led to an event."""
    from fillpath.analytics.lineage_command import show_lineage

    show_lineage(
        invocation(context).take(data, json),
        "ancestors",
        given,
        run=run,
        portfolio=portfolio,
        kind=kind,
        across_links=links,
        everything=everything,
    )


@trace_app.command("descendants")
def trace_descendants(
    context: typer.Context,
    given: IdArgument,
    *,
    run: RunOption = None,
    portfolio: PortfolioOption = None,
    kind: KindOption = None,
    links: LinksOption = False,
    everything: AllOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show everything that came of an event."""
    from fillpath.analytics.lineage_command import show_lineage

    show_lineage(
        invocation(context).take(data, json),
        "descendants",
        given,
        run=run,
        portfolio=portfolio,
        kind=kind,
        across_links=links,
        everything=everything,
    )


trace_app.command("open")(open_in_viewer)
trace_app.command("largest")(largest_traces)
