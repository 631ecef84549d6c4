"""The command `fillpath report`, as the command line has it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fillpath.analytics.cli_options import DataOption, JsonOption, invocation


def report(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run, the beginning of its id, or latest.")
    ],
    *,
    form: Annotated[
        Literal["html", "csv", "json"],
        typer.Option("--format", help="A page, a CSV file for each table, or one JSON document."),
    ] = "html",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Where to write it: a file, for CSV a folder; - is stdout, for JSON. Else into "
            "the data folder.",
            allow_dash=True,
        ),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            "--templates",
            metavar="FOLDER",
            help="Templates (*.html) of further sections; else FILLPATH_REPORT_TEMPLATES.",
        ),
    ] = None,
    open_it: Annotated[
        bool, typer.Option("--open", metavar="", help="Open it in a browser.", show_default=False)
    ] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Write the HTML report of a run, which needs no network, or its results as CSV or JSON."""
    from fillpath.analytics.report_command import make_report

    make_report(
        invocation(context).take(data, json),
        run,
        form=form,
        output=output,
        templates=templates,
        open_it=open_it,
    )
