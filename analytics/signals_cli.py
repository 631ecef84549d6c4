"""The commands `fillpath signals` and `fillpath regimes`, as the command line has them."""

from __future__ import annotations

from typing import Annotated

import typer

from fillpath.analytics.cli_options import DataOption, JsonOption, invocation

_RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run, the beginning of its id, or latest.")
]


def add_signal_commands(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("signals")(_signals)
    app.command("regimes")(_regimes)


def _signals(
    context: typer.Context,
    run: _RunArgument,
    *,
    unused: Annotated[
        bool,
        typer.Option(
            "--unused",
            metavar="",
            help="List the signals that led to nothing, and why.",
            show_default=False,
        ),
    ] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Tell what came of a run's signals, what those of each strength earned and foretold.

    docs/signals.md defines every figure.
    """
    from fillpath.analytics.signals_command import show_signals, show_unused_signals

    given = invocation(context).take(data, json)
    if unused:
        show_unused_signals(given, run)
    else:
        show_signals(given, run)


def _regimes(
    context: typer.Context, run: _RunArgument, *, data: DataOption = None, json: JsonOption = False
) -> None:
    """Tell which regimes the market of a run was in, for how long, and what was earned in them.

    docs/regimes.md has the rules.
    """
    from fillpath.analytics.signals_command import show_regimes

    show_regimes(invocation(context).take(data, json), run)
