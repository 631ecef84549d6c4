"""The commands `fillpath store …`, as the command line has them."""

from __future__ import annotations

from typing import Annotated

import typer

from fillpath.analytics.cli_options import (
    DataOption,
    JsonOption,
    invocation,
)

store_app = typer.Typer(help="Where the spans are, and how long.", no_args_is_help=True)


@store_app.command("path")
def store_path(
    context: typer.Context, *, data: DataOption = None, json: JsonOption = False
) -> None:
    """Print the path or URL of the lake, a Delta Lake table of Parquet files."""
    from fillpath.analytics.output import print_json, print_line

    given = invocation(context).take(data, json)
    folder = given.folder
    if given.json:
        print_json(
            {
                "data": folder.path,
                "lake": folder.lake_place,
                "runs": folder.runs_place,
                "spool": folder.spool,
            }
        )
    else:
        print_line(folder.lake_place)


YesOption = Annotated[
    bool, typer.Option("--yes", metavar="", help="Do it; else the plan is shown.")
]


@store_app.command("stats")
def store_stats(
    context: typer.Context, *, data: DataOption = None, json: JsonOption = False
) -> None:
    """Show how large the lake and the spools are, by tier, and what could be had back."""
    from fillpath.analytics.store_stats import show_stats

    show_stats(invocation(context).take(data, json))


@store_app.command("compact")
def store_compact(
    context: typer.Context,
    *,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Of this run only.")
    ] = None,
    target: Annotated[
        str, typer.Option("--target-size", metavar="SIZE", help="Size of a large file.")
    ] = "128MiB",
    plan: Annotated[
        bool, typer.Option("--plan", metavar="", help="Show what would be done, and do nothing.")
    ] = False,
    yes: YesOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Put small files together, also while a run is recorded; no row is lost or changed."""
    from fillpath.analytics.store_command import compact_store

    given = invocation(context).take(data, json)
    compact_store(given, run=run, target=target, only_plan=plan and not yes)


@store_app.command("tier")
def store_tier(
    context: typer.Context,
    *,
    warm: Annotated[
        str, typer.Option("--warm-after", metavar="AGE", help="Age of a run for the warm tier.")
    ] = "7d",
    cold: Annotated[
        str, typer.Option("--cold-after", metavar="AGE", help="Age of a run for the cold tier.")
    ] = "90d",
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="What a cold run's summary spans.")
    ] = "1m",
    keep_all: Annotated[
        bool,
        typer.Option("--keep-all", metavar="", help="Compress only, leave nothing out."),
    ] = False,
    yes: YesOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Compress old runs harder; in the cold, ticks and features give way to summaries.

    Critical events stay, and whatever led to an event that stays.
    """
    from fillpath.analytics.store_command import tier_store

    given = invocation(context).take(data, json)
    tier_store(given, warm=warm, cold=cold, interval=interval, summarise=not keep_all, yes=yes)


@store_app.command("retain")
def store_retain(
    context: typer.Context,
    *,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Let runs go that ended before, as 90d."),
    ] = None,
    keep_runs: Annotated[
        int | None,
        typer.Option("--keep-runs", metavar="N", min=0, help="Keep the newest, let others go."),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="Let the oldest go until all fit, as 10GB"),
    ] = None,
    yes: YesOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Let whole runs go, with their spools; one that is being recorded never goes."""
    from fillpath.analytics.store_command import retain_store

    given = invocation(context).take(data, json)
    retain_store(given, older_than=older_than, keep_runs=keep_runs, max_size=max_size, yes=yes)


@store_app.command("vacuum")
def store_vacuum(
    context: typer.Context,
    *,
    grace: Annotated[
        str,
        typer.Option("--grace", metavar="AGE", help="Keep what was in use less long ago."),
    ] = "24h",
    spools: Annotated[
        bool, typer.Option("--spools", metavar="", help="Spools of finished runs too.")
    ] = False,
    yes: YesOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Delete files that no lake needs any more: replaced ones, and what crashes left."""
    from fillpath.analytics.store_command import vacuum_store

    vacuum_store(invocation(context).take(data, json), grace=grace, spools=spools, yes=yes)
