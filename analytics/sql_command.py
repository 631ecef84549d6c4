"""`fillpath sql`: a table on a terminal, CSV in a pipe, or one JSON array."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import current_store
from fillpath.analytics.output import (
    cell,
    data_console,
    inert,
    is_number,
    print_json,
    say,
    styled,
    table,
)

MOST_ROWS: Final = 100
"""Rows of a table on a terminal; a pipe and JSON get all."""
MOST_RECORDS: Final = 10
"""Rows on a terminal when there are too many columns for a table."""
_WIDEST_CELL: Final = 48
_GAP: Final = 2


def run_query(given: Invocation, query: str) -> None:
    """Run a query that reads, and write what it gives.

    Raises:
        UsageError: It does not parse, or names what is not there.
        FillpathError: It would write, or fails as it runs.
        LakeError: The lake cannot be read.
    """
    if query == "-":
        query = sys.stdin.read()
    result = current_store(given.folder).query(query)
    columns = distinct(result.columns)
    if given.json:
        is_json = [kind == "JSON" for kind in result.types]
        print_json([_record(columns, is_json, row) for row in result.rows])
    elif sys.stdout.isatty():
        _print_rows(columns, result.rows)
    else:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([cell(value) for value in row] for row in result.rows)


def distinct(columns: Sequence[str]) -> list[str]:
    """Number the columns that have the name of one before, so that an object can hold them all."""
    taken: set[str] = set()
    names = []
    for column in columns:
        name, number = column, 1
        while name in taken:
            number += 1
            name = f"{column}_{number}"
        taken.add(name)
        names.append(name)
    return names


def _record(columns: Sequence[str], is_json: Sequence[bool], row: Sequence[Any]) -> dict[str, Any]:
    return {
        name: json.loads(value) if nested and isinstance(value, str) else value
        for name, nested, value in zip(columns, is_json, row, strict=True)
    }


def _print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    console = data_console()
    iterator = iter(rows)
    seen = list(islice(iterator, MOST_ROWS + 1))
    texts = [[inert(cell(value), _WIDEST_CELL) for value in row] for row in seen]
    widths = [
        max([len(name), *(len(row[place]) for row in texts)]) for place, name in enumerate(columns)
    ]
    as_records = sum(widths) + _GAP * len(widths) > console.width and len(columns) > 1
    most = MOST_RECORDS if as_records else MOST_ROWS
    if as_records:
        _print_records(columns, seen[:most])
    else:
        right = [
            name for place, name in enumerate(columns) if any(is_number(row[place]) for row in seen)
        ]
        drawn = table(columns, right=right)
        for row in texts[:most]:
            drawn.add_row(*(styled(text) for text in row))
        console.print(drawn)
    shown = min(len(seen), most)
    if len(seen) > most:
        say((f"The first {shown} rows; a pipe or --json gets all.", "dim"))
    else:
        say((f"{shown} row{'s' if shown != 1 else ''}", "dim"))


def _print_records(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    console = data_console()
    longest = max(map(len, columns))
    for number, row in enumerate(rows, start=1):
        console.print(styled((f"row {number}", "bold")))
        for name, value in zip(columns, row, strict=True):
            text = inert(cell(value), 500)
            console.print(styled((f"  {inert(name):{longest}}  ", "dim"), text), soft_wrap=True)
