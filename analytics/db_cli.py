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


@db_app.command("upgrade")
def db_upgrade(
    context: typer.Context,
    *,
    plan: Annotated[
        bool,
        typer.Option("--plan", metavar="", help="Show what would be done.", show_default=False),
    ] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Bring the schema of the results database up to date, as every load does."""
    from fillpath.analytics.db_state import upgrade_database

    upgrade_database(invocation(context).take(data, json), only_plan=plan)


@db_app.command("status")
def db_status(context: typer.Context, *, data: DataOption = None, json: JsonOption = False) -> None:
    """Show where the results are, how large, and which runs of the lake they lack."""
    from fillpath.analytics.db_state import show_status

    show_status(invocation(context).take(data, json))


@db_app.command("retain")
def db_retain(
    context: typer.Context,
    *,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Let runs go that ended before, as 180d."),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option("--keep", metavar="N", min=0, help="Keep the newest, let others go."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", metavar="", help="Do it; else the plan is shown.")
    ] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Let runs go from the results; the lake keeps them."""
    from fillpath.analytics.db_retain import retain_results

    retain_results(invocation(context).take(data, json), older_than=older_than, keep=keep, yes=yes)


@db_app.command("stop")
def db_stop(context: typer.Context, *, data: DataOption = None) -> None:
    """Stop the embedded server of the results database."""
    from fillpath.analytics.db_command import stop_database

    stop_database(invocation(context).take(data))
