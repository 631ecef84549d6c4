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
    DataOption,
    Invocation,
    JsonOption,
    invocation,
    with_lake,
)
from fillpath.analytics.db_cli import db_app
from fillpath.analytics.figures_cli import figures
from fillpath.analytics.import_command import import_files
from fillpath.analytics.latency_cli import latency
from fillpath.analytics.otlp_cli import otlp_app
from fillpath.analytics.report_cli import report
from fillpath.analytics.runs_cli import runs_app
from fillpath.analytics.signals_cli import add_signal_commands
from fillpath.analytics.store_cli import store_app
from fillpath.analytics.trace_cli import trace_app
from fillpath.analytics.trades_cli import trades
from fillpath.instrumentation.settings import ENV_DEBUG

_EXIT_INTERRUPTED: Final = 130

app = typer.Typer(
    help="Follow any fill of a trading system back to the signal that caused it.",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
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
