"""A second way to match entries with exits, in SQL, that checks the queue of lots."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import duckdb
import pyarrow as pa

from fillpath.analytics.exact import decimal_places, exact_arithmetic
from fillpath.analytics.lot_queue import Leg, Match
from fillpath.analytics.sql_files import read_sql

_SCHEMA: Final = pa.schema(
    [
        ("book", pa.int64()),
        ("number", pa.int64()),
        ("sign", pa.int8()),
        ("quantity", pa.decimal128(38, 0)),
    ]
)
_LARGEST_SUM: Final = Decimal(10) ** 38 - 1
"""What DuckDB's DECIMAL(38, 0) holds."""


def fifo_matches(connection: duckdb.DuckDBPyConnection, legs: Sequence[Leg]) -> list[Match] | None:
    """Match the legs of books by overlapping intervals.

    Args:
        connection: Any connection; nothing is left in it.
        legs: Every leg, in order.

    Returns:
        The matches, in the order of exits and entries; None if the quantities need more than 38
        digits, which SQL has not.
    """
    with exact_arithmetic():
        places = max((decimal_places(leg.quantity) for leg in legs), default=0)
        steps = [leg.quantity.scaleb(places).to_integral_value() for leg in legs]
        if sum(steps, Decimal(0)) > _LARGEST_SUM:
            return None
        books: dict[tuple[str, ...], int] = {}
        columns = [
            [books.setdefault(leg.book, len(books)) for leg in legs],
            [leg.number for leg in legs],
            [leg.sign for leg in legs],
            steps,
        ]
        arrays = [
            pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)
        ]
        connection.register("fifo_legs", pa.Table.from_arrays(arrays, schema=_SCHEMA))
        try:
            rows = connection.execute(read_sql("fifo_matches")).fetchall()
        finally:
            connection.unregister("fifo_legs")
        by_number = {leg.number: leg for leg in legs}
        return [
            Match(by_number[entry], by_number[leave], Decimal(quantity).scaleb(-places))
            for entry, leave, quantity in rows
        ]


def disagreements(
    connection: duckdb.DuckDBPyConnection, legs: Sequence[Leg], matches: Sequence[Match]
) -> list[str]:
    """Say in sentences where both ways of matching differ; nothing if they agree."""
    again = fifo_matches(connection, legs)
    if again is None:
        return []
    with exact_arithmetic():
        ours = {(one.entry.number, one.exit.number): one.quantity for one in matches}
        theirs = {(one.entry.number, one.exit.number): one.quantity for one in again}
        wrong = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        sums = [sum((one.profit for one in side), Decimal(0)) for side in (matches, again)]
    found = [
        f"Legs {entry} and {leave} match {ours.get((entry, leave), 0)} by the queue, "
        f"{theirs.get((entry, leave), 0)} by SQL."
        for entry, leave in wrong[:5]
    ]
    if sums[0] != sums[1]:
        found.append(f"The matches earned {sums[0]} by the queue, {sums[1]} by SQL.")
    return found
