"""The command line: `fillpath`.

Data goes to stdout, talk to stderr. Parts are imported by the command that needs them, so that
every command starts quickly.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from fillpath.analytics.attribution_cli import attribution
from fillpath.analytics.cli_options import (
    PROGRAM,
    AllOption,
    DataOption,
    IdArgument,
    Invocation,
    JsonOption,
    KindOption,
    LinksOption,
    PortfolioOption,
    RunOption,
    invocation,
    with_lake,
)
from fillpath.analytics.cli_views import largest_traces, open_in_viewer
from fillpath.analytics.db_cli import db_app
from fillpath.analytics.figures_cli import figures
from fillpath.analytics.import_command import import_files
from fillpath.analytics.latency_cli import latency
from fillpath.analytics.otlp_cli import otlp_app
from fillpath.analytics.report_cli import report
from fillpath.analytics.runs_cli import runs_app
from fillpath.analytics.signals_cli import add_signal_commands
from fillpath.analytics.trades_cli import trades
from fillpath.instrumentation.settings import ENV_DEBUG

_EXIT_INTERRUPTED: Final = 130

app = typer.Typer(
    help="Follow any fill of a trading system back to the signal that caused it.",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
trace_app = typer.Typer(help="Chains of events, from bar to fill.", no_args_is_help=True)
store_app = typer.Typer(help="Where the spans are, and how long.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")
app.add_typer(trace_app, name="trace")
app.add_typer(store_app, name="store")
app.add_typer(db_app, name="db")
app.add_typer(otlp_app, name="otlp")


def _show_version(wanted: bool) -> None:
    if wanted:
        from fillpath.analytics.versions import fillpath_version

        typer.echo(f"{PROGRAM} {fillpath_version()}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    *,
    data: DataOption = None,
    json: JsonOption = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, metavar="", help="Show the version."
        ),
    ] = False,
) -> None:
    del version
    invocation(context).take(data, json)


@runs_app.callback()
@trace_app.callback()
@store_app.callback()
@db_app.callback()
def _group_options(
    context: typer.Context, *, data: DataOption = None, json: JsonOption = False
) -> None:
    invocation(context).take(data, json)


@app.command()
def demo(context: typer.Context, *, data: DataOption = None, json: JsonOption = False) -> None:
    """Backtest two portfolios on real prices, and follow one trade from bar to fill."""
    from fillpath.analytics.demo import run_demo

    run_demo(invocation(context).take(data, json))


@app.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
    options_metavar="[OPTIONS]",
)
def run(
    context: typer.Context,
    script: Annotated[
        Path,
        typer.Argument(metavar="SCRIPT|-m MODULE", help="A Python script, or a module's name."),
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="Its own arguments.")
    ] = None,
    *,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="RUN", help="Name of the run; else a new one.")
    ] = None,
    portfolio: Annotated[
        str | None,
        typer.Option(
            "--portfolio", metavar="NAME", help="Portfolio of events whose engine names none."
        ),
    ] = None,
    mode: Annotated[
        Literal["backtest", "live"] | None, typer.Option("--mode", help="What the run is.")
    ] = None,
    otlp: Annotated[
        Literal["sampled", "all", "off"] | None,
        typer.Option("--otlp", help="What is sent to OTEL_EXPORTER_OTLP_ENDPOINT."),
    ] = None,
    is_module: Annotated[
        bool, typer.Option("-m", help="Run a module, as `python -m MODULE ARGS` would.")
    ] = False,
    data: DataOption = None,
) -> None:
    """Run a script as `python SCRIPT ARGS` would, and record every engine it uses."""
    from fillpath.analytics.run_command import run_and_record

    code = run_and_record(
        invocation(context).take(data),
        script,
        arguments or [],
        run_id=run_id,
        portfolio=portfolio,
        mode=mode,
        otlp=otlp,
        is_module=is_module,
    )
    raise typer.Exit(code)


@trace_app.command("show")
def trace_show(
    context: typer.Context,
    given: IdArgument,
    *,
    run: RunOption = None,
    portfolio: PortfolioOption = None,
    kind: KindOption = None,
    everything: AllOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show what led to an event and what came of it, from the bar down to the fill."""
    from fillpath.analytics.trace_command import show_trace

    show_trace(
        invocation(context).take(data, json),
        given,
        run=run,
        portfolio=portfolio,
        kind=kind,
        everything=everything,
    )


@trace_app.command("path")
def trace_path(
    context: typer.Context,
    given: IdArgument,
    *,
    run: RunOption = None,
    portfolio: PortfolioOption = None,
    kind: KindOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show the way from the first cause to an event, and how long each step took."""
    from fillpath.analytics.lineage_command import show_lineage

    show_lineage(
        invocation(context).take(data, json), "path", given, run=run, portfolio=portfolio, kind=kind
    )


@trace_app.command("ancestors")
def trace_ancestors(
    context: typer.Context,
    given: IdArgument,
    *,
    run: RunOption = None,
    portfolio: PortfolioOption = None,
    kind: KindOption = None,
    links: LinksOption = False,
    everything: AllOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show everything that led to an event."""
    from fillpath.analytics.lineage_command import show_lineage

    show_lineage(
        invocation(context).take(data, json),
        "ancestors",
        given,
        run=run,
        portfolio=portfolio,
        kind=kind,
        across_links=links,
        everything=everything,
    )


@trace_app.command("descendants")
def trace_descendants(
    context: typer.Context,
    given: IdArgument,
    *,
    run: RunOption = None,
    portfolio: PortfolioOption = None,
    kind: KindOption = None,
    links: LinksOption = False,
    everything: AllOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show everything that came of an event."""
    from fillpath.analytics.lineage_command import show_lineage

    show_lineage(
        invocation(context).take(data, json),
        "descendants",
        given,
        run=run,
        portfolio=portfolio,
        kind=kind,
        across_links=links,
        everything=everything,
    )


trace_app.command("open")(open_in_viewer)
trace_app.command("largest")(largest_traces)
app.command()(trades)


app.command()(report)


app.command()(figures)


@app.command()
def completeness(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run, the beginning of its id, or latest.")
    ],
    *,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show what became of every event of a run: kept, sampled out, or dropped and why.

    The exit code is 3 when the numbers do not add up or events are unaccounted for.
    """
    from fillpath.analytics.completeness_command import show_completeness

    show_completeness(invocation(context).take(data, json), run)


@app.command()
def sql(
    context: typer.Context,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="One query; - reads it from stdin.")
    ],
    *,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Query the views `spans` and `runs` with DuckDB's SQL; nothing can be changed.

    The result is a table on a terminal and CSV in a pipe.
    """
    from fillpath.analytics.sql_command import run_query

    run_query(invocation(context).take(data, json), query)


@app.command()
def export(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run, the beginning of its id, or latest.")
    ],
    *,
    form: Annotated[
        Literal["otlp-json", "parquet"],
        typer.Option(
            "--format",
            help="OpenTelemetry's JSON, for Jaeger and Collectors, or Parquet for ClickHouse.",
        ),
    ] = "otlp-json",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Where to write it; - is stdout. Else a file of the run's name, here.",
            dir_okay=False,
            allow_dash=True,
        ),
    ] = None,
    trace: Annotated[
        str | None,
        typer.Option("--trace", metavar="ID", help="Only the chains of this id."),
    ] = None,
    sampled: Annotated[
        bool,
        typer.Option(
            "--sampled",
            metavar="",
            help="Only what the sampling policy keeps, and all that led to it.",
            show_default=False,
        ),
    ] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Write the spans of a run for other programs, such as Jaeger or ClickHouse."""
    from fillpath.analytics.export_command import export_run

    export_run(
        invocation(context).take(data, json),
        run,
        form=form,
        output=output,
        trace=trace,
        sampled=sampled,
    )


app.command("import")(import_files)
app.command()(attribution)
add_signal_commands(app)
app.command()(latency)


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


@app.command()
def doctor(context: typer.Context, *, data: DataOption = None, json: JsonOption = False) -> None:
    """Check the installation, the spool, the lake and Postgres, and say what to do."""
    from fillpath.analytics.doctor import run_doctor

    raise typer.Exit(run_doctor(invocation(context).take(data, json)))


@app.command()
def version(context: typer.Context, *, data: DataOption = None, json: JsonOption = False) -> None:
    """Show the versions of fillpath, Python and the engines."""
    from fillpath.analytics.versions import show_versions

    show_versions(invocation(context).take(data, json))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    given = Invocation()
    try:
        code = _run(given, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough. What is still buffered must not be written at exit either.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    return code


def _run(given: Invocation, arguments: Sequence[str] | None) -> int:
    try:
        with_lake(app)(args=arguments, prog_name=PROGRAM, obj=given)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get(ENV_DEBUG):
            raise
        from fillpath.analytics.output import complain
        from fillpath.analytics.problems import explained

        message, next_command, code = explained(error, ENV_DEBUG)
        complain(message, given.completed(next_command))
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
