"""The commands `fillpath db …`, as the command line has them."""

from __future__ import annotations

from typing import Annotated

import typer

from fillpath.analytics.cli_options import DataOption, JsonOption, invocation

db_app = typer.Typer(help="The results database.", no_args_is_help=True)


@db_app.command("url")
def db_url(context: typer.Context, *, data: DataOption = None, json: JsonOption = False) -> None:
    """Print the URL of the results database, and leave the embedded server running.

    On a terminal a password is left out; in a pipe it is there, as in psql "$(fillpath db url)".
    """
    from fillpath.analytics.db_command import print_database_url

    print_database_url(invocation(context).take(data, json))


@db_app.command("load")
def db_load(
    context: typer.Context,
    *,
    wanted: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Run ids, unique prefixes, or latest (default)."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", metavar="", help="Every run of the lake.", show_default=False)
    ] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Bring runs of the lake into the results database, as dashboards read it."""
    from fillpath.analytics.db_command import load_runs

    load_runs(invocation(context).take(data, json), wanted or [], everything=everything)


@db_app.command("stop")
def db_stop(context: typer.Context, *, data: DataOption = None) -> None:
    """Stop the embedded server of the results database."""
    from fillpath.analytics.db_command import stop_database

    stop_database(invocation(context).take(data))
