"""The command `fillpath latency`, as the command line has it."""

from __future__ import annotations

from typing import Annotated

import typer

from fillpath.analytics.cli_options import DataOption, JsonOption, invocation


def latency(
    context: typer.Context,
    *,
    wanted: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Run ids, unique prefixes, or latest (default); several are put together.",
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="WHAT,...",
            help="Tell apart by some of: hop, strategy, portfolio, handler, time.",
        ),
    ] = "hop",
    slowest: Annotated[
        int, typer.Option("--slowest", metavar="N", min=0, help="How many of the slowest chains.")
    ] = 5,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show how long the way from the market to the fill took, hop by hop, and the handlers."""
    from fillpath.analytics.latency_command import show_latency

    given = invocation(context).take(data, json)
    show_latency(given, wanted or [], by=by, slowest=slowest)
