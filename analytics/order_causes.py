"""What led to each order: the nearest signal, event of the market, handler and fill above it."""

from __future__ import annotations

from typing import Final

import duckdb

from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.semconv import Signal

_PATHS: Final = {
    "signal_name": Signal.NAME,
    "signal_value": Signal.VALUE,
    "signal_strength": Signal.STRENGTH,
}


def make_order_causes(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Make the temporary table ``order_causes``, a row for each order of a run.

    Its columns: the order's own (``portfolio``, ``client_order_id``, ``sequence``, ``strategy``,
    ``symbol``, ``venue``, ``event_time``, ``start_time``, ``trace_id``, ``span_id``,
    ``parent_span_id``), the nearest signal's (``signal_span_id``, ``signal_trace_id``,
    ``signal_sequence``, ``signal_time``, ``signal_start``, ``signal_name``, ``signal_value`` and
    ``signal_strength`` as text), ``signal_span_ids`` (all signals above it, the nearest first),
    the nearest market event's (``market_span_id``, ``market_trace_id``, ``market_event_type``,
    ``market_sequence``, ``market_time``, ``market_start``), and
    ``handler_span_id`` and ``fill_span_id``. What an order has not is NULL.

    Args:
        connection: Has the views ``spans`` and ``trace_divisions``.
        run_id: The run.
    """
    parameters = {name: json_path(key) for name, key in _PATHS.items()}
    connection.execute(read_sql("order_causes"), parameters | {"run_id": run_id})


def order_signals(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], str]:
    """Name the signal that each order came from: by its name, or its value if it has none.

    Args:
        connection: Has the table that `make_order_causes` makes.

    Returns:
        By portfolio and client order id; orders without a signal are missing.
    """
    rows = connection.execute(read_sql("order_signals")).fetchall()
    return {(portfolio, client_order_id): signal for portfolio, client_order_id, signal in rows}
