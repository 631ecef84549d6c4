"""Loading results: rows by COPY, a shard at a time, all of it or nothing.

A shard is what is computed and loaded at once: a whole run, or a part of a long one. Loading it
again replaces its rows, so a load may be repeated after a crash or with better code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from fillpath.analytics.copy_lanes import CopyLane, another_connection
from fillpath.analytics.copy_stream import copy_blocks, storable
from fillpath.analytics.own_partitions import (
    attach_own,
    drop_lone_parts,
    make_own,
    own_partition,
    parts_there,
    take_parts,
    wanted_parts,
)
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
    from psycopg.sql import Composed

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

_MOMENTS: Final = {"pnl_slices": {"event_at": "event_time"}}
"""Timestamps that are laid out here, from columns of nanoseconds; others Postgres makes itself."""


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
    moments: Mapping[str, str] | None = None,
) -> int:
    """Append `rows` to `table` by binary COPY; give how many there were.

    Postgres stores no NUL and no half of a surrogate pair in a text: they become ``␀`` and ``?``.

    Args:
        connection: In a transaction of the caller's.
        table: The table, or a partition of it.
        columns: Names of the columns of `rows`.
        rows: As in `TableRows`.
        before: Further columns, with one value for all rows.
        moments: Further columns: timestamps, and the column of nanoseconds that each is made of.

    Raises:
        TypeError: A value is of the wrong type for its column, such as a `float` for an amount.
        psycopg.Error: The database refuses a value. Either way the transaction is lost.
    """
    return _Copy(columns, before or {}, moments or {}).run(connection, table, rows)


@dataclass(frozen=True, slots=True)
class _Copy:
    """Columns that are copied; see `copy_rows`."""

    columns: Sequence[str]
    before: Mapping[str, object]
    moments: Mapping[str, str]

    def statement(self, table: str, *, frozen: bool = False) -> Composed:
        """Give the COPY, `frozen` for a table of the same transaction's."""
        from psycopg import sql

        options = sql.SQL("FORMAT BINARY, FREEZE" if frozen else "FORMAT BINARY")
        return sql.SQL("COPY {} ({}) FROM STDIN ({})").format(
            sql.Identifier(table), self._names(), options
        )

    def run(
        self,
        connection: Connection[TupleRow],
        table: str,
        rows: Iterable[Sequence[object]] | pa.Table,
        *,
        frozen: bool = False,
        lane: CopyLane | None = None,
    ) -> int:
        """Copy the rows, some of them by `lane` if there is one; gives how many."""
        from psycopg import sql

        places = [list(self.columns).index(column) for column in self.moments.values()]
        count = 0
        with connection.cursor() as cursor:
            described = sql.SQL("SELECT {} FROM {} LIMIT 0")
            cursor.execute(described.format(self._names(), sql.Identifier(table)))
            # COPY in binary converts nothing: every value must come as its column's very type.
            types = [column.type_code for column in cursor.description or ()]
            with cursor.copy(self.statement(table, frozen=frozen)) as copy:
                for number, block in copy_blocks(rows, types, list(self.before.values()), places):
                    count += number
                    if lane is not None:
                        if not number:
                            lane.add(block)
                        elif lane.offer(block):
                            continue
                    copy.write(block)
        if lane is not None:
            lane.finish()
        return count

    def _names(self) -> Composed:
        from psycopg import sql

        names = (*self.before, *self.columns, *self.moments)
        return sql.SQL(", ").join(map(sql.Identifier, names))


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
            except BaseException:
                # What a second connection had stored.
                drop_lone_parts(self.connection)
                raise
            if done and "pnl_slices" in tables:
                # Whoever let the month go meanwhile let the run go, too.
                with suppress(errors.UndefinedTable, errors.InternalError_):
                    summarise_slices(self.connection, month)
                drop_lone_parts(self.connection)
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
        logged: dict[str, tuple[str, list[int]]] = {
            shard: (version, parts)
            for shard, version, parts in self.connection.execute(
                "SELECT shard, source_version, parts FROM load_log WHERE run_id = %s", [self.run_id]
            ).fetchall()
        }
        version, parts = logged.get(self.shard, (None, []))
        if not again and version == self.source_version:
            return False
        month = _write_run(self.connection, run)
        if not is_prepared(self.connection, month):
            raise _MonthGoneError
        parts = parts_there(self.connection, month, parts)
        if self.shard in logged:
            self._delete(month, parts)
        portfolios: set[str] = set()
        counts = {}
        for table in SHARD_TABLES:
            given = tables.get(table)
            if given is not None and table != "pnl_slices":
                counts[table] = self._copy(table, month, given, portfolios)
        # Last, since others wait from here on who have partitions to add.
        slices = tables.get("pnl_slices")
        if slices is not None:
            wanted = wanted_parts(len(slices.rows)) if isinstance(slices.rows, Sized) else 0
            if wanted and self.shard not in logged:
                counts["pnl_slices"], parts = self._copy_apart(month, slices, portfolios, wanted)
            else:
                counts["pnl_slices"] = self._copy("pnl_slices", month, slices, portfolios, parts)
        if "pnl_slices" in tables and "pnl_rollups" not in tables:
            counts["pnl_rollups"] = self._roll_up(month)
        self._note_portfolios(portfolios, alone=not logged.keys() - {self.shard})
        self.connection.execute("DELETE FROM result_cache WHERE run_id = %s", [self.run_id])
        self.connection.execute(
            "INSERT INTO load_log (run_id, shard, rows, source_version, parts) "
            "VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (run_id, shard) DO UPDATE SET loaded_at = clock_timestamp(), "
            "rows = EXCLUDED.rows, source_version = EXCLUDED.source_version, "
            "parts = EXCLUDED.parts",
            [*key, Jsonb(counts), self.source_version, parts],
        )
        return True

    def _delete(self, month: dt.date, parts: Sequence[int]) -> None:
        from psycopg import sql

        names = [partition_name(table, month) for table in SHARD_TABLES]
        for name in (*names, *(own_partition(month, part) for part in parts)):
            statement = sql.SQL("DELETE FROM {} WHERE run_id = %s AND shard = %s").format(
                sql.Identifier(name)
            )
            self.connection.execute(statement, [self.run_id, self.shard])

    def _copy(
        self,
        table: str,
        month: dt.date,
        given: TableRows,
        portfolios: set[str],
        parts: Sequence[int] = (),
    ) -> int:
        before: dict[str, object] = {"run_id": self.run_id, "shard": self.shard}
        target = partition_name(table, month)
        if target != table:
            before["run_month"] = month
        if parts:
            # Its rows are of one value in those columns, which the partition gives by itself.
            target, before = own_partition(month, parts[0]), {}
        rows = _noting_portfolios(given, portfolios)
        copying = _Copy(given.columns, before, _moments(table, given.columns))
        return copying.run(self.connection, target, rows)

    def _copy_apart(
        self, month: dt.date, given: TableRows, portfolios: set[str], wanted: int
    ) -> tuple[int, list[int]]:
        """Copy slices into partitions that are made for them; gives their numbers, too.

        Rows that are frozen count for everybody as soon as their partition does, whenever they were
        committed: so all of them appear together.
        """
        copying = _Copy(given.columns, {}, _moments("pnl_slices", given.columns))
        rows = _noting_portfolios(given, portfolios)
        with ExitStack() as held:
            other = lane = None
            if wanted > 1:
                other = held.enter_context(another_connection(self.connection))
            first, *further = parts = take_parts(self.connection, 1 if other is None else 2)
            make_own(self.connection, month, first, self.run_id, self.shard)
            if other is not None:
                lane = CopyLane()
                statement = copying.statement(own_partition(month, further[0]), frozen=True)

                def make(connection: Connection[TupleRow]) -> None:
                    make_own(connection, month, further[0], self.run_id, self.shard)

                held.enter_context(lane.running(other, make, statement))
            name = own_partition(month, first)
            count = copying.run(self.connection, name, rows, frozen=True, lane=lane)
        for part in parts:
            attach_own(self.connection, month, part)
        return count, parts

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


def _moments(table: str, columns: Sequence[str]) -> Mapping[str, str]:
    made = _MOMENTS.get(table, {})
    return {at: time for at, time in made.items() if time in columns and at not in columns}


def _noting_portfolios(given: TableRows, noted: set[str]) -> Iterable[Sequence[object]] | pa.Table:
    """Give the rows, and write down whose they are."""
    if "portfolio" not in given.columns:
        return given.rows
    place = list(given.columns).index("portfolio")
    if isinstance(given.rows, pa.Table):
        noted.update(given.rows.column(place).unique().to_pylist())
        return given.rows
    return _noting(given.rows, place, noted)


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
