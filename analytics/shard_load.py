"""Loading results: rows by COPY, a shard at a time, all of it or nothing.

A shard is what is computed and loaded at once: a whole run, or a part of a long one. Loading it
again replaces its rows, so a load may be repeated after a crash or with better code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from fillpath.analytics.copy_stream import copy_blocks, storable
from fillpath.analytics.result_partitions import (
    is_prepared,
    partition_name,
    prepare_month,
    run_month,
    summarise_slices,
)
from fillpath.analytics.results_error import ResultsError, first_line
from fillpath.analytics.sql_files import read_sql

if TYPE_CHECKING:
    import datetime as dt

    from psycopg import Connection
    from psycopg.rows import TupleRow

SHARD_TABLES: Final = (
    "completeness",
    "orders",
    "fills",
    "trades",
    "pnl_slices",
    "balances",
    "reconciliation",
    "equity",
    "latency",
    "signals",
    "pnl_rollups",
    "executions",
    "signal_strength",
    "signal_decay",
    "funnel",
    "regimes",
    "latency_histograms",
    "daily_returns",
    "figures",
)
"""The tables whose rows belong to a shard; `replace_shard` replaces all of them together."""

WHOLE_RUN: Final = "all"
"""The shard of a run that is loaded at once."""


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows for one table.

    Args:
        columns: Names of the columns, without ``run_id``, ``shard`` and ``run_month``.
        rows: Values in the order of `columns`: `decimal.Decimal` or `int` for ``numeric`` (never
            `float`), `int` for ``bigint``, what `json` can write for ``jsonb``. Or a table of
            Arrow's with those columns in that order, decimals for ``numeric``.
    """

    columns: Sequence[str]
    rows: Iterable[Sequence[object]] | pa.Table


def copy_rows(
    connection: Connection[TupleRow],
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]] | pa.Table,
    before: Mapping[str, object] | None = None,
) -> int:
    """Append `rows` to `table` by binary COPY; give how many there were.

    Postgres stores no NUL and no half of a surrogate pair in a text: they become ``␀`` and ``?``.

    Args:
        connection: In a transaction of the caller's.
        table: The table, or a partition of it.
        columns: Names of the columns of `rows`.
        rows: As in `TableRows`.
        before: Further columns, with one value for all rows.

    Raises:
        TypeError: A value is of the wrong type for its column, such as a `float` for an amount.
        psycopg.Error: The database refuses a value. Either way the transaction is lost.
    """
    from psycopg import sql

    given = before or {}
    names = sql.SQL(", ").join(map(sql.Identifier, (*given, *columns)))
    target = sql.Identifier(table)
    count = 0
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT {} FROM {} LIMIT 0").format(names, target))
        # COPY in binary converts nothing: every value must come as its column's very type.
        types = [column.type_code for column in cursor.description or ()]
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(target, names)
        with cursor.copy(statement) as copy:
            for number, block in copy_blocks(rows, types, list(given.values())):
                copy.write(block)
                count += number
    return count


def replace_shard(
    connection: Connection[TupleRow],
    run: Mapping[str, object],
    tables: Mapping[str, TableRows],
    *,
    source_version: str,
    shard: str = WHOLE_RUN,
    again: bool = False,
) -> bool:
    """Load a shard in one transaction, instead of what was loaded for it before.

    Tables that are not in `tables` end up without rows of this shard. Partitions for the month of
    the run are made before, if there are none. Answers about the run that were kept are forgotten.

    Args:
        connection: A connection outside of a transaction.
        run: The row of table ``runs``, by column; ``run_id`` must be among them.
        tables: Rows by table, of `SHARD_TABLES`.
        source_version: What the rows are made from (version of the lake, version of the code).
        shard: Name of the shard.
        again: Load even if this very version is loaded.

    Returns:
        False if this version was loaded already and nothing was done.

    Raises:
        ResultsError: The database refused; nothing has changed.
        ValueError: There is no such table.
    """
    import psycopg

    unknown = sorted(tables.keys() - set(SHARD_TABLES))
    if unknown:
        raise ValueError(f"tables without shards: {', '.join(unknown)}")
    values = {name: storable(value) for name, value in run.items()}
    run_id = values["run_id"]
    load = _Load(connection, str(run_id), shard, source_version)
    try:
        done = load.replace(values, tables, again=again)
    except psycopg.errors.DiskFull as error:
        raise ResultsError(
            f"No space left for the results of run {run_id}; nothing of it was loaded."
        ) from error
    except psycopg.Error as error:
        raise ResultsError(
            f"The results of run {run_id} cannot be stored; nothing of it was loaded: "
            f"{first_line(error)}."
        ) from error
    return done


_MOST_ATTEMPTS: Final = 5
"""How often a load begins anew when months are let go beside it."""


class _MonthGoneError(Exception):
    """The partitions were let go between their making and the load."""


@dataclass(frozen=True, slots=True)
class _Load:
    """One load of a shard."""

    connection: Connection[TupleRow]
    run_id: str
    shard: str
    source_version: str

    def replace(
        self, run: Mapping[str, object], tables: Mapping[str, TableRows], *, again: bool
    ) -> bool:
        """Do it; tells whether there was anything to do."""
        from psycopg import errors

        # A server says in two ways that a table went while a statement was made ready.
        gone = (_MonthGoneError, errors.UndefinedTable, errors.InternalError_)
        for attempt in count(1):
            with self.connection.transaction():
                month = run_month(self.connection, run)
            prepare_month(self.connection, month)
            try:
                with self.connection.transaction():
                    done = self._replace(run, tables, again=again)
            except gone as error:
                if attempt == _MOST_ATTEMPTS and not isinstance(error, _MonthGoneError):
                    raise
                continue
            if done and "pnl_slices" in tables:
                # Whoever let the month go meanwhile let the run go, too.
                with suppress(errors.UndefinedTable, errors.InternalError_):
                    summarise_slices(self.connection, month)
            return done
        raise AssertionError  # count does not end

    def _replace(
        self, run: Mapping[str, object], tables: Mapping[str, TableRows], *, again: bool
    ) -> bool:
        from psycopg.types.json import Jsonb

        key = [self.run_id, self.shard]
        # Two loads of one shard take turns; the second finds the work done.
        self.connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, hashtextextended(%s, 0)))", key
        )
        logged: dict[str, str] = dict(
            self.connection.execute(
                "SELECT shard, source_version FROM load_log WHERE run_id = %s", [self.run_id]
            ).fetchall()
        )
        if not again and logged.get(self.shard) == self.source_version:
            return False
        month = _write_run(self.connection, run)
        if not is_prepared(self.connection, month):
            raise _MonthGoneError
        if self.shard in logged:
            self._delete(month)
        portfolios: set[str] = set()
        counts = {}
        for table in SHARD_TABLES:
            given = tables.get(table)
            if given is not None:
                counts[table] = self._copy(table, month, given, portfolios)
        if "pnl_slices" in tables and "pnl_rollups" not in tables:
            counts["pnl_rollups"] = self._roll_up(month)
        self._note_portfolios(portfolios, alone=not logged.keys() - {self.shard})
        self.connection.execute("DELETE FROM result_cache WHERE run_id = %s", [self.run_id])
        self.connection.execute(
            "INSERT INTO load_log (run_id, shard, rows, source_version) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (run_id, shard) DO UPDATE SET loaded_at = clock_timestamp(), "
            "rows = EXCLUDED.rows, source_version = EXCLUDED.source_version",
            [*key, Jsonb(counts), self.source_version],
        )
        return True

    def _delete(self, month: dt.date) -> None:
        from psycopg import sql

        for table in SHARD_TABLES:
            statement = sql.SQL("DELETE FROM {} WHERE run_id = %s AND shard = %s").format(
                sql.Identifier(partition_name(table, month))
            )
            self.connection.execute(statement, [self.run_id, self.shard])

    def _copy(self, table: str, month: dt.date, given: TableRows, portfolios: set[str]) -> int:
        before: dict[str, object] = {"run_id": self.run_id, "shard": self.shard}
        target = partition_name(table, month)
        if target != table:
            before["run_month"] = month
        rows: Iterable[Sequence[object]] | pa.Table = given.rows
        if "portfolio" in given.columns:
            place = list(given.columns).index("portfolio")
            if isinstance(rows, pa.Table):
                portfolios.update(rows.column(place).unique().to_pylist())
            else:
                rows = _noting(rows, place, portfolios)
        return copy_rows(self.connection, target, given.columns, rows, before)

    def _roll_up(self, month: dt.date) -> int:
        """Add the slices up by day, which breakdowns are read from."""
        key = {"run_id": self.run_id, "shard": self.shard, "run_month": month}
        return self.connection.execute(read_sql("results/make_rollups").encode(), key).rowcount

    def _note_portfolios(self, found: set[str], *, alone: bool) -> None:
        """Write down whose rows the run has; other shards of it have theirs."""
        named = [storable(name) for name in sorted(found - {""})]
        earlier = "'{}'::text[]" if alone else "portfolios"
        self.connection.execute(
            "UPDATE runs SET portfolios = ARRAY("  # noqa: S608 - one of two texts of our own
            f"SELECT DISTINCT name FROM unnest({earlier} || %s::text[]) AS named (name) "
            "ORDER BY name) WHERE run_id = %s",
            [named, self.run_id],
        )


def _noting(
    rows: Iterable[Sequence[object]], place: int, noted: set[str]
) -> Iterator[Sequence[object]]:
    for row in rows:
        noted.add(str(row[place]))
        yield row


def _write_run(connection: Connection[TupleRow], values: Mapping[str, object]) -> dt.date:
    """Write the row of table ``runs``; gives the month that the run's rows belong to."""
    from psycopg import sql
    from psycopg.types.json import Jsonb

    names = [sql.Identifier(name) for name in values]
    statement = sql.SQL(
        "INSERT INTO runs ({}) VALUES ({}) ON CONFLICT (run_id) DO UPDATE SET ({}) = ROW ({}) "
        "RETURNING run_month"
    ).format(
        sql.SQL(", ").join(names),
        sql.SQL(", ").join([sql.Placeholder()] * len(names)),
        sql.SQL(", ").join(names),
        sql.SQL(", ").join([sql.SQL("EXCLUDED.{}").format(name) for name in names]),
    )
    row = connection.execute(
        statement,
        [Jsonb(value) if isinstance(value, dict | list) else value for value in values.values()],
    ).fetchone()
    assert row is not None  # noqa: S101 - RETURNING gives the row that was written
    month: dt.date = row[0]
    return month
