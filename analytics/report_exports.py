"""Results of a run for other programs: a CSV file for each table, or one JSON document.

A CSV file is as RFC 4180 has it, in UTF-8: commas, CRLF, a header. An amount has all its digits, a
missing value is an empty cell, an empty text two quotes. A text that a spreadsheet would take for a
formula gets an apostrophe in front (`inert_cell`), a number never does.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from fillpath.analytics.output import jsonable
from fillpath.analytics.report_trades import TradesTable
from fillpath.analytics.shard_load import SHARD_TABLES
from fillpath.analytics.versions import fillpath_version
from fillpath.instrumentation.errors import FillpathError

if TYPE_CHECKING:
    from fillpath.analytics.report_sections import FilledSection
    from fillpath.analytics.results_manager import ResultsManager, Row

JSON_FORMAT: Final = 1
"""Number of the JSON document's layout; it rises when a reader would have to change."""
# What spreadsheets begin a formula with, also in their full-width forms; some skip white space and
# control characters before it.
_FORMULA: Final = re.compile(r"'*[\s\x00-\x1f]*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_QUOTED: Final = re.compile(r'[",\r\n]')


def write_csv_files(results: ResultsManager, run_id: str, folder: Path) -> list[Path]:
    """Write every table of a run's results as ``TABLE.csv`` into a folder.

    Args:
        results: Where the run is loaded.
        run_id: The run; its whole id.
        folder: Where to; made if it is missing. Files of these names are replaced.

    Returns:
        The files: ``runs.csv`` with the run itself, then one a table, empty ones too.

    Raises:
        ResultsError: The database does not answer.
        FillpathError: A file cannot be written.
    """
    written = []
    for table in ("runs", *SHARD_TABLES):
        rows = _rows(results, table, run_id)
        columns = [row["name"] for row in results.read("table_columns", table=table)]
        path = folder.expanduser().absolute() / f"{table}.csv"
        with _complete(path) as file:
            file.writelines(csv_lines(columns, ([row[name] for name in columns] for row in rows)))
        written.append(path)
    return written


def csv_lines(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Write rows as lines of CSV, the names of the columns first."""
    yield ",".join(map(csv_cell, columns)) + "\r\n"
    for row in rows:
        yield ",".join(map(csv_cell, row)) + "\r\n"


def csv_cell(value: object) -> str:
    """Write one cell; what is no text and no number is written as text or JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}" if value.is_finite() else str(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, Mapping | list | tuple):
        value = json.dumps(jsonable(value), ensure_ascii=False)
    text = inert_cell(str(value)).encode(errors="replace").decode()
    if not text or _QUOTED.search(text) or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text


def inert_cell(text: str) -> str:
    """Put an apostrophe in front of what a spreadsheet would take for a formula.

    A text that is a plain number, also a negative one, stays as it is. `restored_cell` gives back
    what was there.
    """
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def restored_cell(text: str) -> str:
    """Undo `inert_cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def write_json(
    results: ResultsManager, run_id: str, sections: Iterable[FilledSection], path: Path | None
) -> Path | None:
    """Write everything about a run as one JSON document.

    Its keys: ``format`` (`JSON_FORMAT`), ``fillpath`` (the version that wrote it), ``run`` (the row
    of table ``runs``), ``tables`` (rows by table, each an object by column) and ``sections`` (what
    the sections of the report computed, by their key). Amounts are strings with all their digits,
    times integers: nanoseconds since 1970-01-01 UTC.

    Args:
        results: Where the run is loaded.
        run_id: The run; its whole id.
        sections: The sections of the report.
        path: The file; None writes to stdout.

    Returns:
        The file's absolute path.

    Raises:
        ResultsError: The database does not answer.
        FillpathError: The file cannot be written.
    """
    (run,) = _rows(results, "runs", run_id)
    head = {"format": JSON_FORMAT, "fillpath": fillpath_version(), "run": jsonable(run)}
    models = {
        filled.section.key: jsonable(filled.model)
        for filled in sections
        # The rest is in the tables.
        if filled.model is not True and not isinstance(filled.model, TradesTable)
    }
    if path is None:
        _write_document(sys.stdout, head, models, results, run_id)
        return None
    target = path.expanduser().absolute()
    with _complete(target) as file:
        _write_document(file, head, models, results, run_id)
    return target


def _write_document(
    file: IO[str],
    head: Mapping[str, Any],
    models: Mapping[str, Any],
    results: ResultsManager,
    run_id: str,
) -> None:
    """Write the document a table at a time: a long run's need not be in memory together."""
    file.write(_json(head)[:-1] + ',"tables":{')
    for place, table in enumerate(SHARD_TABLES):
        file.write(("," if place else "") + f'\n"{table}":[')
        for number, row in enumerate(_rows(results, table, run_id)):
            file.write(("," if number else "") + "\n" + _json(jsonable(row)))
        file.write("]")
    file.write('},\n"sections":' + _json(models) + "}\n")


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _rows(results: ResultsManager, table: str, run_id: str) -> list[Row]:
    if table == "runs":
        return results.read("run_row", run_id=run_id)
    return results.rows(table, run_id)


@contextmanager
def _complete(target: Path) -> Iterator[IO[str]]:
    """Open a file that is complete whenever it is there.

    Raises:
        FillpathError: It cannot be written.
    """
    part = target.with_name(f".{target.name[:64]}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("w", encoding="utf-8", newline="") as file:
                yield file
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise FillpathError(f"{target} cannot be written: {error.strerror or error}.") from error
