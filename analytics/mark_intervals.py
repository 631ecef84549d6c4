"""Mark intervals: at which prices an open lot is valued, day by day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import pyarrow as pa

from fillpath.analytics.ledger_events import SpanRef
from fillpath.analytics.marks import Instrument, Mark, query_prices, read_quote
from fillpath.analytics.sql_files import read_sql

MOST_MARKS: Final = 100_000
"""Above so many lots times days, a lot is valued by months."""
_SCHEMA: Final = pa.schema(
    [
        ("lot", pa.int64()),
        ("portfolio", pa.string()),
        ("symbol", pa.string()),
        ("venue", pa.string()),
        ("first", pa.int64()),
        ("last", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class LotSpan:
    """When a lot was open, and which instrument's prices value it.

    Attributes:
        lot: Its number.
        instrument: Whose prices.
        first: Sequence of the entry.
        last: Sequence of the last exit, or one beyond the run.
    """

    lot: int
    instrument: Instrument
    first: int
    last: int


def lot_marks(
    connection: duckdb.DuckDBPyConnection, run_id: str, spans: Sequence[LotSpan]
) -> dict[int, list[Mark]]:
    """Read the last price of each UTC day of simulated time in which a lot was open.

    Args:
        connection: Has the view ``spans``.
        run_id: The run.
        spans: The lots.

    Returns:
        The marks of each lot that has any, in order; at most one a day, or, where that would make
        more than `MOST_MARKS`, one a month.
    """
    if not spans:
        return {}
    columns = list(zip(*((s.lot, *s.instrument, s.first, s.last) for s in spans), strict=True))
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    connection.register("lot_spans", pa.Table.from_arrays(arrays, schema=_SCHEMA))
    try:
        query_prices(connection, "day_marks", run_id)
        cursor = connection.execute(read_sql("lot_marks"), {"unit": "day"})
        rows = cursor.fetchmany(MOST_MARKS + 1)
        if len(rows) > MOST_MARKS:
            rows = connection.execute(read_sql("lot_marks"), {"unit": "month"}).fetchall()
    finally:
        connection.unregister("lot_spans")
        connection.execute("DROP TABLE IF EXISTS day_marks")
    portfolios = {span.lot: span.instrument[0] for span in spans}
    marks: dict[int, list[Mark]] = {}
    for lot, sequence, event_time, trace_id, span_id, price, bid, ask in rows:
        ref = SpanRef(portfolios[lot], sequence, event_time, trace_id, span_id)
        marks.setdefault(lot, []).append(Mark(ref, read_quote(price, bid, ask).middle))
    return marks
