"""The command `fillpath trades`, as the command line has it."""

from __future__ import annotations

from typing import Annotated

import typer

from fillpath.analytics.cli_options import DataOption, JsonOption, invocation


def trades(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="A run, the beginning of its id, or latest.")
    ] = "latest",
    trade: Annotated[
        str | None,
        typer.Argument(
            metavar="[TRADE]",
            help="Show this trade: its id, or the beginning of it.",
            show_default=False,
        ),
    ] = None,
    *,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="BY",
            help="entry, exit, net, shortfall, delay, impact, commission, favourable, adverse, "
            "held or latency; the largest first, but entry and exit as they came.",
        ),
    ] = "entry",
    reverse: Annotated[
        bool,
        typer.Option("--reverse", metavar="", help="The other way round.", show_default=False),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            help="How many; else 20, and all with --json.",
            show_default=False,
        ),
    ] = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show the trades of a run, or one with all its prices, costs and hops."""
    from fillpath.analytics.trades_command import show_trade, show_trades

    given = invocation(context).take(data, json)
    if trade is None:
        show_trades(given, run, sort=sort, reverse=reverse, limit=limit)
    else:
        show_trade(given, run, trade)
