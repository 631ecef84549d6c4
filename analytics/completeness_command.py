"""`fillpath completeness`: what became of every event of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics import report_format
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import LONGEST_NAME, data_console, inert, print_json, styled, table
from fillpath.analytics.run_lookup import LATEST, find_run, listed
from fillpath.analytics.runs_view import read_runs
from fillpath.analytics.spool_state import check_readable
from fillpath.analytics.sql_files import read_sql
from fillpath.exporters.completeness import UNACCOUNTED, totals
from fillpath.exporters.damaged_spool import SPOOL_DAMAGED
from fillpath.exporters.followed_run import HOST_DIED
from fillpath.exporters.run_writer import SPOOL_EMPTY
from fillpath.instrumentation.errors import CheckFailed, NotFound
from fillpath.instrumentation.spool import UNWRITTEN_EVENTS, list_spools

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from rich.console import Console
    from rich.table import Table

    from fillpath.instrumentation.settings import DataFolder

_NUMBERS: Final = ("published", "kept", "sampled out", "dropped")


def show_completeness(given: Invocation, wanted: str) -> None:
    """Print what became of a run's events, by portfolio and kind.

    Raises:
        NotFound: There is no such run.
        SpoolError: There is no such run in the lake, for its spool cannot be read.
        UsageError: Several runs begin so.
        CheckFailed: The numbers do not add up, or events are unaccounted for; after printing.
        LakeError: The lake cannot be read.
    """
    with lake_connection(given.folder) as connection:
        run_id = _find(connection, given.folder, wanted)
        run = read_runs(connection, run_id)[0]
        held = _held(connection, run_id)
    rows = [_row(row, held) for row in run["completeness"] or ()]
    sums = totals(rows)
    problems = list(_problems(run, rows, sums, held))
    remarks = list(_remarks(run))
    if given.json:
        print_json(_document(run, rows, sums, problems, remarks))
    else:
        _print(data_console(), run, rows, sums, problems, remarks)
    if problems:
        raise CheckFailed(
            f"Run '{run_id}' is not complete:\n{listed(problems)}", next_command="fillpath doctor"
        )


def _find(connection: DuckDBPyConnection, folder: DataFolder, wanted: str) -> str:
    """Find a run, or say why it is not in the lake."""
    try:
        return find_run(connection, wanted)
    except NotFound:
        for spool in list_spools(folder.spool):
            if wanted == LATEST or spool.name.startswith(wanted):
                check_readable(spool)
        raise


def _held(
    connection: DuckDBPyConnection, run_id: str
) -> dict[tuple[str | None, str | None], Counter[str]]:
    """Count the events of a run that the lake holds, by portfolio and kind, and by reason."""
    held: dict[tuple[str | None, str | None], Counter[str]] = {}
    query = read_sql("completeness_of_lake")
    for portfolio, event_type, reason, number in connection.execute(
        query, {"run_id": run_id}
    ).fetchall():
        held.setdefault((portfolio, event_type), Counter())[reason] += number
    return held


def _row(
    row: Mapping[str, Any], held: Mapping[tuple[str | None, str | None], Counter[str]]
) -> dict[str, Any]:
    reasons = held.get((row["portfolio"], row["event_type"]), Counter())
    return {**row, "kept_by_reason": dict(sorted(reasons.items()))}


def _problems(
    run: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    sums: Mapping[str, int],
    held: Mapping[tuple[str | None, str | None], Counter[str]],
) -> Iterator[str]:
    if (run["metadata"] or {}).get(SPOOL_DAMAGED):
        yield run["error"]
    for row in rows:
        what = f"{row['event_type']} of {row['portfolio']}"
        parts = (row["kept"], row["sampled_out"], sum(row["dropped"].values()))
        if row["published"] != sum(parts):
            added = " + ".join(map(str, parts))
            yield f"{what}: {row['published']} published, but {added}"
        if row["dropped"].get(UNACCOUNTED):
            yield f"{what}: {row['dropped'][UNACCOUNTED]} unaccounted for"
        in_lake = sum(row["kept_by_reason"].values())
        if run["status"] != "Running" and in_lake != row["kept"]:
            yield f"{what}: {row['kept']} kept, but the lake holds {in_lake}"
    counted = {(row["portfolio"], row["event_type"]) for row in rows}
    for (portfolio, event_type), reasons in held.items():
        if run["status"] != "Running" and (portfolio, event_type) not in counted:
            number = sum(reasons.values())
            yield f"{event_type} of {portfolio}: the lake holds {number} that nobody counted"
    for name, number in sums.items():
        if (run[name] or 0) != number:
            yield f"the run counts {run[name] or 0} {name.replace('_', ' ')}, its kinds {number}"


def _remarks(run: Mapping[str, Any]) -> Iterator[str]:
    """Tell what no count shows."""
    if run["status"] != "Crashed" or run["error"] is None:
        return
    if run["error"] == SPOOL_EMPTY:
        yield run["error"]
    elif run["error"] == HOST_DIED and run["source"] == "spool":
        yield (
            f"The process died: up to {UNWRITTEN_EVENTS} events that emitters published in its "
            "last 10 ms may be missing, and cannot be counted."
        )


def _document(
    run: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    sums: Mapping[str, int],
    problems: Sequence[str],
    remarks: Sequence[str],
) -> dict[str, Any]:
    return {
        "run_id": run["run_id"],
        "status": run["status"],
        "complete": not problems,
        "problems": problems,
        "remarks": remarks,
        **sums,
        "dropped_by_reason": _added(row["dropped"] for row in rows),
        "kept_by_reason": _added(row["kept_by_reason"] for row in rows),
        "kinds": rows,
    }


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for each in counts:
        sums.update(each)
    return dict(sorted(sums.items()))


def _print(
    console: Console,
    run: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    sums: Mapping[str, int],
    problems: Sequence[str],
    remarks: Sequence[str],
) -> None:
    dropped = _added(row["dropped"] for row in rows)
    columns = ["event", *_NUMBERS, *(["dropped because"] if dropped else [])]
    drawn = table(columns, title=f"Run {run['run_id']}", right=_NUMBERS)
    for portfolio in sorted({row["portfolio"] for row in rows}):
        drawn.add_row(styled((inert(portfolio, LONGEST_NAME), "bold")))
        for row in rows:
            if row["portfolio"] == portfolio:
                kind = f"  {inert(row['event_type'], LONGEST_NAME)}"
                lost = sum(row["dropped"].values())
                _add(drawn, kind, {**row, "dropped": lost}, row["dropped"])
        drawn.add_section()
    _add(drawn, "all", sums, dropped, style="bold")
    console.print(drawn)
    kept = _added(row["kept_by_reason"] for row in rows)
    if set(kept) - {"all"}:
        words = ", ".join(f"{report_format.count(n)} {inert(reason)}" for reason, n in kept.items())
        console.print(styled(("kept because  ", "dim"), words))
    for remark in remarks:
        console.print(styled(("! ", "bold yellow"), remark))
    if not problems and run["error"] != SPOOL_EMPTY:
        adds_up = "published = kept + sampled out + dropped, and the lake holds what was kept"
        if run["status"] == "Running":
            adds_up = "published = kept + sampled out + dropped, so far: the run goes on"
        console.print(styled(("✔ ", "bold green"), adds_up))


def _add(
    drawn: Table,
    name: str,
    row: Mapping[str, Any],
    dropped: Mapping[str, int],
    style: str = "",
) -> None:
    numbers = [row["published"], row["kept"], row["sampled_out"]]
    cells = [styled((report_format.count(number), style)) for number in numbers]
    lost = row["dropped"]
    cells.append(styled((report_format.count(lost), "bold red" if lost else "dim")))
    if dropped:
        words = ", ".join(f"{inert(reason)} {number}" for reason, number in dropped.items())
        cells.append(styled(words))
    drawn.add_row(styled((name, style)), *cells)
