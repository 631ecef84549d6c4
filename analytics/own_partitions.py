"""Partitions that hold the slices of one shard alone, beside those of the months.

A large shard that is loaded for the first time gets some, numbered by the sequence
``slice_parts``; ``load_log`` tells which are whose. They are made and filled apart from the table,
where nobody waits for them, and become part of it when the load ends. A server that keeps no log
of tables made in the same transaction (``wal_level = minimal``, as the embedded one has it) writes
their rows once only.

Their check tells Postgres whose they are, so that questions about other runs leave them out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from fillpath.analytics.result_partitions import partition_name

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.rows import TupleRow

OWN_ROWS: Final = 250_000
"""Slices that are worth a partition of their own, and a second connection that fills another."""
MOST_PARTS: Final = 2
"""Partitions that a load fills at once."""

_TABLE: Final = "pnl_slices"
# Any number will do, as long as nobody else takes it: "part" in ASCII.
_ADVISORY_LOCK: Final = 0x70617274
_WAIT: Final = "200ms"
_LONE: Final = """
SELECT own.relname::text, (regexp_match(own.relname, '\\d+$'))[1]::integer AS part
FROM pg_catalog.pg_class AS own
WHERE own.relkind = 'r'
    AND own.relname ~ '^pnl_slices_(\\d+_\\d+|undated)_own_\\d+$'
    AND own.relnamespace = (
        SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = 'pnl_slices'::regclass
    )
    AND NOT EXISTS (
        SELECT FROM load_log
        WHERE (regexp_match(own.relname, '\\d+$'))[1]::integer = ANY(load_log.parts)
    )
"""


def own_partition(month: dt.date, part: int) -> str:
    """Name a partition of one shard's own."""
    return f"{partition_name(_TABLE, month)}_own_{part}"


def month_partition(name: str) -> str:
    """Name the partition of the month that a partition lies beside; it may be that itself."""
    return name.partition("_own_")[0]


def wanted_parts(rows: int) -> int:
    """Tell how many partitions of its own a shard with so many slices is worth."""
    return min(rows // OWN_ROWS, MOST_PARTS)


def take_parts(connection: Connection[TupleRow], how_many: int) -> list[int]:
    """Take numbers for partitions; nobody drops those until the caller's transaction ends."""
    rows = connection.execute(
        "SELECT taken.part, pg_advisory_xact_lock(%s, taken.part) "
        "FROM (SELECT nextval('slice_parts')::integer AS part FROM generate_series(1, %s)) "
        "AS taken",
        [_ADVISORY_LOCK, how_many],
    ).fetchall()
    return [int(row[0]) for row in rows]


def make_own(
    connection: Connection[TupleRow], month: dt.date, part: int, run_id: str, shard: str
) -> None:
    """Make a partition of one shard's own, not yet a part of the table.

    Its defaults are what all rows of the shard have in common.
    """
    from psycopg import sql

    name = sql.Identifier(own_partition(month, part))
    same = {"run_id": run_id, "shard": shard, "run_month": month, "part": part}
    connection.execute(
        sql.SQL(
            "CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
        ).format(name, sql.Identifier(_TABLE))
    )
    # The check also spares the table's own look at every row, when it becomes a part of it.
    given = [
        *(
            sql.SQL("ALTER {} SET DEFAULT {}").format(sql.Identifier(column), sql.Literal(value))
            for column, value in same.items()
        ),
        sql.SQL(
            "ADD CONSTRAINT pnl_slices_of_one_shard "
            "CHECK (run_id = {} AND run_month = {} AND part = {})"
        ).format(*(sql.Literal(same[column]) for column in ("run_id", "run_month", "part"))),
        sql.SQL("ENABLE ROW LEVEL SECURITY"),
    ]
    connection.execute(sql.SQL("ALTER TABLE {} {}").format(name, sql.SQL(", ").join(given)))


def attach_own(connection: Connection[TupleRow], month: dt.date, part: int) -> None:
    """Make a partition a part of the table; nobody who reads or loads is kept waiting."""
    from psycopg import sql

    connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}, {}) TO ({}, {})").format(
            sql.Identifier(_TABLE),
            sql.Identifier(own_partition(month, part)),
            *map(sql.Literal, (month, part, month, part + 1)),
        )
    )


def parts_there(
    connection: Connection[TupleRow], month: dt.date, parts: Sequence[int]
) -> list[int]:
    """Give those of some partitions that nobody has dropped by hand."""
    if not parts:
        return []
    rows = connection.execute(
        "SELECT relname::text FROM pg_catalog.pg_class "
        "WHERE relname = ANY(%s) AND pg_catalog.pg_table_is_visible(oid)",
        [[own_partition(month, part) for part in parts]],
    ).fetchall()
    names = {str(name) for (name,) in rows}
    return [part for part in parts if own_partition(month, part) in names]


def drop_parts_of(connection: Connection[TupleRow], run_ids: Sequence[str]) -> None:
    """Drop the partitions that runs have to themselves; in a transaction of the caller's."""
    rows = connection.execute(
        "SELECT run_month, unnest(parts) FROM load_log JOIN runs USING (run_id) "
        "WHERE run_id = ANY(%s)",
        [list(run_ids)],
    ).fetchall()
    _drop(connection, [own_partition(month, part) for month, part in rows])


def drop_lone_parts(connection: Connection[TupleRow]) -> None:
    """Drop partitions whose run is gone, and what loads that were killed left, if possible.

    What somebody is reading, or what may not be dropped, stays until the next time; nothing is
    raised. In a transaction of the caller's nothing is done, since others would wait for its end.
    """
    from psycopg import Error
    from psycopg.pq import TransactionStatus

    if connection.info.transaction_status != TransactionStatus.IDLE:
        return
    with suppress(Error):
        with connection.transaction():
            lone = connection.execute(_LONE).fetchall()
        for name, part in lone:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = '{_WAIT}'")
                # Made beside a load that goes on: that one holds the lock, or has just ended.
                free = connection.execute(
                    "SELECT pg_try_advisory_xact_lock(%s, %s)", [_ADVISORY_LOCK, part]
                ).fetchone()
                if free == (True,) and (name, part) in connection.execute(_LONE).fetchall():
                    _drop(connection, [name])


def _drop(connection: Connection[TupleRow], names: Iterable[str]) -> None:
    from psycopg import sql

    for name in names:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))
