"""The command `fillpath figures`, as the command line has it."""

from __future__ import annotations

from typing import Annotated

import typer

from fillpath.analytics.cli_options import DataOption, JsonOption, invocation


def figures(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run, the beginning of its id, or latest.")
    ],
    *,
    portfolio: Annotated[
        str | None,
        typer.Option("--portfolio", metavar="NAME", help="Show this portfolio only."),
    ] = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show the figures of a run: return, risk and trades, by portfolio and for all of it.

    A dash stands for a figure that is undefined; below the table it says why.
    """
    from fillpath.analytics.figures_command import show_figures

    show_figures(invocation(context).take(data, json), run, portfolio=portfolio)
