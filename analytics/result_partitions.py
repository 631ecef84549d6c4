"""Partitions of the tables with many rows: one a month, that in which their runs were started.

Runs of one month are kept and let go together, and a load or a question about a run touches no
other month. The month of a run is fixed by its first load. Runs without a start are in a partition
of their own. `own_partitions` has those that hold the slices of one shard alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.rows import TupleRow

PARTITIONED: Final = (
    "orders",
    "fills",
    "trades",
    "pnl_slices",
    "equity",
    "signals",
    "pnl_rollups",
    "executions",
    "latency_histograms",
)
"""The tables that are divided; `0003_partitions.sql` does it."""
UNDATED: Final = dt.date(1970, 1, 1)
"""Month of runs that do not say when they were started."""

# Any number will do, as long as nobody else takes it: "partition" in ASCII.
_ADVISORY_LOCK: Final = 0x7061727469746E


def partition_name(table: str, month: dt.date) -> str:
    """Name the partition of a table for a month; the table itself if it has none."""
    if table not in PARTITIONED:
        return table
    return f"{table}_undated" if month == UNDATED else f"{table}_{month:%Y_%m}"


def run_month(connection: Connection[TupleRow], run: Mapping[str, object]) -> dt.date:
    """Tell the month of a run that is loaded, or is going to be."""
    row = connection.execute(
        "SELECT coalesce((SELECT run_month FROM runs WHERE run_id = %s), month_of_run(%s::bigint))",
        [run["run_id"], run.get("started_at")],
    ).fetchone()
    month: dt.date = UNDATED if row is None else row[0]
    return month


def prepare_month(connection: Connection[TupleRow], month: dt.date) -> None:
    """Make the partitions of a month, unless they are there; several processes may do so at once.

    Args:
        connection: A connection outside of a transaction: whoever loads holds locks that this waits
            for, and must not wait for this in turn.
        month: First day of the month.
    """
    with connection.transaction():
        if is_prepared(connection, month):
            return
    names = [partition_name(table, month) for table in PARTITIONED]
    with connection.transaction():
        # Before the tables themselves, as everybody does who has to have them alone.
        connection.execute("LOCK TABLE runs IN SHARE ROW EXCLUSIVE MODE")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        missing = _missing(connection, names)
        for table, name in zip(PARTITIONED, names, strict=True):
            if name in missing:
                connection.execute("SELECT make_month(%s, %s)", [table, month])


def is_prepared(connection: Connection[TupleRow], month: dt.date) -> bool:
    """Tell whether a month has all its partitions."""
    return not _missing(connection, [partition_name(table, month) for table in PARTITIONED])


def _missing(connection: Connection[TupleRow], names: Iterable[str]) -> set[str]:
    # Not to_regclass: after waiting for the lock it may still answer from a cache.
    wanted = list(names)
    rows = connection.execute(
        "SELECT relname::text FROM pg_catalog.pg_class "
        "WHERE relname = ANY(%s) AND pg_catalog.pg_table_is_visible(oid)",
        [wanted],
    ).fetchall()
    return set(wanted) - {str(name) for (name,) in rows}


def drop_month(connection: Connection[TupleRow], month: dt.date) -> None:
    """Drop the partitions of a month with all rows; in a transaction of the caller's."""
    from psycopg import sql

    for table in PARTITIONED:
        name = sql.Identifier(partition_name(table, month))
        verb = "TRUNCATE {}" if month == UNDATED else "DROP TABLE IF EXISTS {}"
        connection.execute(sql.SQL(verb).format(name))


def summarise_slices(connection: Connection[TupleRow], month: dt.date) -> None:
    """Bring the index of a month's slices up to what was loaded, instead of at the next vacuum."""
    with connection.transaction():
        connection.execute(
            "SELECT brin_summarize_new_values(i.indexrelid) FROM pg_catalog.pg_index AS i "
            "JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid "
            "JOIN pg_catalog.pg_am AS a ON a.oid = c.relam "
            "WHERE i.indrelid = %s::regclass AND a.amname = 'brin'",
            [partition_name("pnl_slices", month)],
        )
