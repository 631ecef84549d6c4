"""`fillpath runs list`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fillpath.analytics import report_format
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import data_console, inert, print_json, say, styled, table
from fillpath.analytics.span_words import duration_words

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_NESTED: Final = ("parameters", "completeness", "metadata")
_STATUS_STYLES: Final = {"Ended": "green", "Running": "yellow", "Crashed": "red"}


def list_runs(given: Invocation) -> None:
    """Print every run in the lake, the newest first.

    Raises:
        LakeError: The lake cannot be read.
    """
    with lake_connection(given.folder) as connection:
        runs = read_runs(connection)
    if given.json:
        print_json(runs)
    elif runs:
        _print_table(runs)
    else:
        say(f"There are no runs in {given.folder.path} yet.")
        say(("  Try: ", "bold"), given.command("demo"))


def read_runs(connection: DuckDBPyConnection, run_id: str | None = None) -> list[dict[str, Any]]:
    """Read the view `runs`, the newest first; or one run, if it is there."""
    where, values = ("", []) if run_id is None else ("WHERE run_id = ?", [run_id])
    cursor = connection.execute(
        f"SELECT * FROM runs {where} "  # noqa: S608 - the run id is bound
        "ORDER BY started_at DESC NULLS LAST, run_id DESC",
        values,
    )
    columns = [column[0] for column in cursor.description or ()]
    runs = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    for run in runs:
        for column in _NESTED:
            if isinstance(run.get(column), str):
                run[column] = json.loads(run[column])
    return runs


def _print_table(runs: Sequence[Mapping[str, Any]]) -> None:
    console = data_console()
    columns = [column for column in _COLUMNS if console.width >= column.from_width]
    drawn = table([column.name for column in columns], right=_NUMBERS)
    for column in drawn.columns[:2]:
        column.no_wrap = True  # ids are copied
    for run in runs:
        drawn.add_row(*(styled(column.tell(run)) for column in columns))
    console.print(drawn)


class _Column(NamedTuple):
    """A column of the table, and the width of terminal from which there is room for it."""

    name: str
    from_width: int
    tell: Callable[[Mapping[str, Any]], tuple[object, str]]


def _lost(run: Mapping[str, Any]) -> tuple[object, str]:
    lost = run["dropped"] or 0
    return report_format.count(lost), "bold red" if lost else "dim"


_NUMBERS: Final = ("events", "signals", "fills", "lost")
_COLUMNS: Final = (
    _Column("run", 0, lambda run: (run["run_id"], "bold")),
    _Column("started (UTC)", 0, lambda run: (_started(run), "")),
    _Column("took", 100, lambda run: (_took(run), "")),
    _Column("status", 0, lambda run: (run["status"], _STATUS_STYLES.get(run["status"], ""))),
    _Column("engine", 132, lambda run: (_engine(run), "")),
    _Column("portfolios", 110, lambda run: (inert(", ".join(_portfolios(run)), 60), "")),
    _Column("events", 0, lambda run: (report_format.count(run["published"] or 0), "")),
    _Column("signals", 120, lambda run: (report_format.count(published(run, "SIGNAL")), "")),
    _Column("fills", 0, lambda run: (report_format.count(published(run, "FILL")), "")),
    _Column("lost", 0, _lost),
)


def published(run: Mapping[str, Any], event_type: str) -> int:
    """Count the events of one type that a run published."""
    rows = run.get("completeness") or ()
    return sum(row["published"] for row in rows if row["event_type"] == event_type)


def counted(run: Mapping[str, Any]) -> list[str]:
    """Say in a few words how much a run published, and whether anything was lost."""
    portfolios = len(_portfolios(run))
    words = [
        _plural(run["published"] or 0, "event"),
        _plural(published(run, "FILL"), "fill"),
        _plural(portfolios, "portfolio"),
    ]
    if run["dropped"]:
        words.append(f"{report_format.count(run['dropped'])} lost")
    return words


def _plural(number: int, noun: str) -> str:
    return f"{report_format.count(number)} {noun}{'' if number == 1 else 's'}"


def _portfolios(run: Mapping[str, Any]) -> list[str]:
    rows = run.get("completeness") or ()
    return sorted({str(row["portfolio"]) for row in rows if row.get("portfolio")})


def _started(run: Mapping[str, Any]) -> str:
    started = run.get("started_at")
    return "" if started is None else report_format.timestamp(started - started % 1_000_000_000)


def _took(run: Mapping[str, Any]) -> str:
    started, ended = run.get("started_at"), run.get("ended_at")
    return "" if started is None or ended is None else duration_words(max(ended - started, 0))


def _engine(run: Mapping[str, Any]) -> str:
    return " ".join(str(run[key]) for key in ("engine", "engine_version") if run.get(key))
