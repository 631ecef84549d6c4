"""Trading events of a run, read from the lake once for the many queries that look at them."""

from __future__ import annotations

import duckdb

from fillpath.analytics.sql_files import read_sql

_VIEW = "SELECT 1 FROM duckdb_views() WHERE database_name = 'memory' AND view_name = 'spans'"


def keep_trading_events(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Put a run's signals, orders, fills, positions and accounts into memory.

    The view ``spans`` shows the same as before. Putting attributes together takes microseconds a
    span, and a dozen queries would each do it.

    Args:
        connection: Has the view ``spans``.
        run_id: The run.
    """
    if connection.execute(_VIEW).fetchone() is None:
        return
    text = "'" + run_id.replace("'", "''") + "'"
    connection.execute("DROP VIEW IF EXISTS temp.spans")
    connection.execute(read_sql("trading_events").replace("$run_id", text))
