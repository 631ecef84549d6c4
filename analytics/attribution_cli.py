"""The command `fillpath attribution`, as the command line has it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fillpath.analytics.cli_options import DataOption, JsonOption, invocation


def attribution(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run, the beginning of its id, or latest.")
    ],
    *,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="A,B",
            help="portfolio, account, strategy, signal, symbol, venue, day, week, month, hour, "
            "regime, side, exit_reason, holding_time, kind or trade; several with commas. "
            "portfolio,strategy if left out.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="A,B", help="Only some kinds of amounts, such as realized."),
    ] = None,
    reconcile: Annotated[
        bool,
        typer.Option(
            "--reconcile",
            metavar="",
            help="Hold accounts against the engine's own statements; exits 3 on a mismatch.",
            show_default=False,
        ),
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write the rows to a file.", dir_okay=False),
    ] = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Break the profit of a run down; every breakdown adds up to the same total.

    With --reconcile it shows, by account and currency, what the engine and the ledger say, and
    explains each difference or flags it.
    """
    given = invocation(context).take(data, json)
    if reconcile:
        from fillpath.analytics.reconcile_command import reconcile_run

        reconcile_run(given, run, others=(by, kind, csv))
    else:
        from fillpath.analytics.attribution_command import show_attribution

        show_attribution(given, run, by=by, kind=kind, csv=csv)
