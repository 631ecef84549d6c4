"""The command `fillpath runs diff` and its options."""

from __future__ import annotations

from typing import Annotated

import typer

from fillpath.analytics.cli_options import DataOption, JsonOption, invocation
from fillpath.instrumentation.errors import UsageError

_RUN_HELP = "A run, the beginning of its id, or latest."


def _words(given: str | None) -> list[str]:
    return [word.strip() for word in (given or "").split(",") if word.strip()]


def runs_diff(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help=_RUN_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help=_RUN_HELP)],
    *,
    live_vs_backtest: Annotated[
        bool,
        typer.Option(
            "--live-vs-backtest",
            metavar="",
            help="A is live, B its backtest: match their signals instead.",
            show_default=False,
        ),
    ] = False,
    portfolio: Annotated[
        str | None, typer.Option("--portfolio", metavar="NAME", help="Of this portfolio only.")
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option("--kinds", metavar="KIND,…", help="Compare these kinds of event only."),
    ] = None,
    ignore: Annotated[
        str | None,
        typer.Option(
            "--ignore", metavar="KEY,…", help="Attributes or columns of events that do not count."
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            metavar="NUMBER",
            help="How much numbers may differ, of themselves or at all; 0 means not.",
        ),
    ] = 0.0,
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            metavar="TIME",
            help="Live: how far apart matching signals may be; else one bar.",
        ),
    ] = None,
    late_after: Annotated[
        str,
        typer.Option(
            "--late-after", metavar="TIME", help="Live: a signal is late beyond this much."
        ),
    ] = "0s",
    with_pnl: Annotated[
        bool, typer.Option("--pnl/--no-pnl", help="Tell what it comes to in money.")
    ] = True,
    data_b: Annotated[
        str | None,
        typer.Option("--data-b", metavar="FOLDER", help="Data folder of B, if it is another."),
    ] = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show the first event at which two runs part, what led to it in both, and what it comes to.

    The exit code is 0 when the runs are identical and 6 when they differ.
    """
    given = invocation(context).take(data, json)
    if live_vs_backtest:
        if kinds or ignore or tolerance:
            raise UsageError(
                "--kinds, --ignore and --tolerance compare events; --live-vs-backtest matches "
                "signals.",
                next_command="fillpath runs diff LIVE BACKTEST --live-vs-backtest",
            )
        from fillpath.analytics.live_command import match_live

        code = match_live(
            given,
            (a, b),
            data_b=data_b,
            portfolio=portfolio,
            window=window,
            late_after=late_after,
            with_pnl=with_pnl,
        )
        raise typer.Exit(code)
    from fillpath.analytics.diff_command import diff_runs

    code = diff_runs(
        given,
        (a, b),
        data_b=data_b,
        portfolio=portfolio,
        kinds=_words(kinds),
        ignored=_words(ignore),
        tolerance=tolerance,
        with_pnl=with_pnl,
    )
    raise typer.Exit(code)
