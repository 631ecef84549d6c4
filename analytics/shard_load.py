"""Loading results: rows by COPY, a shard at a time, all of it or nothing.

A shard is what is computed and loaded at once: a whole run, or a part of a long one. Loading it
again replaces its rows, so a load may be repeated after a crash or with better code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fillpath.analytics.results_error import ResultsError

if TYPE_CHECKING:
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
        columns: Names of the columns, without ``run_id`` and ``shard``.
        rows: Values in the order of `columns`: `decimal.Decimal` or `int` for ``numeric`` (never
            `float`), `int` for ``bigint``, what `json` can write for ``jsonb``.
    """

    columns: Sequence[str]
    rows: Iterable[Sequence[object]]


def copy_rows(
    connection: Connection[TupleRow],
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
) -> int:
    """Append `rows` to `table` by binary COPY; give how many there were.

    Postgres stores no NUL and no half of a surrogate pair in a text: they become ``␀`` and ``?``.

    Raises:
        TypeError: A value is of the wrong type for its column, such as a `float` for an amount.
        psycopg.Error: The database refuses a value. Either way the transaction is lost.
    """
    from psycopg import sql

    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    target = sql.Identifier(table)
    count = 0
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT {} FROM {} LIMIT 0").format(names, target))
        # COPY in binary converts nothing: every value must come as its column's very type.
        types = [column.type_code for column in cursor.description or ()]
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(target, names)
        with cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row([_storable(value) for value in row])
                count += 1
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

    Tables that are not in `tables` end up without rows of this shard.

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
    run_id = _storable(run["run_id"])
    try:
        with connection.transaction():
            return _replace(connection, run, run_id, tables, source_version, shard, again)
    except psycopg.errors.DiskFull as error:
        raise ResultsError(
            f"No space left for the results of run {run_id}; nothing of it was loaded."
        ) from error
    except psycopg.Error as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ResultsError(
            f"The results of run {run_id} cannot be stored; nothing of it was loaded: {first}."
        ) from error


def _replace(
    connection: Connection[TupleRow],
    run: Mapping[str, object],
    run_id: object,
    tables: Mapping[str, TableRows],
    source_version: str,
    shard: str,
    again: bool,
) -> bool:
    from psycopg import sql
    from psycopg.types.json import Jsonb

    key = [run_id, shard]
    # Two loads of one shard take turns; the second finds the work done.
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, hashtextextended(%s, 0)))", key
    )
    loaded = connection.execute(
        "SELECT source_version FROM load_log WHERE run_id = %s AND shard = %s", key
    ).fetchone()
    if not again and loaded == (source_version,):
        return False
    _write_run(connection, run)
    counts: dict[str, int] = {}
    for table in SHARD_TABLES:
        delete = sql.SQL("DELETE FROM {} WHERE run_id = %s AND shard = %s")
        connection.execute(delete.format(sql.Identifier(table)), key)
        given = tables.get(table)
        if given is not None:
            rows = ((run_id, shard, *row) for row in given.rows)
            columns = ("run_id", "shard", *given.columns)
            counts[table] = copy_rows(connection, table, columns, rows)
    connection.execute(
        "INSERT INTO load_log (run_id, shard, rows, source_version) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (run_id, shard) DO UPDATE SET loaded_at = now(), rows = EXCLUDED.rows, "
        "source_version = EXCLUDED.source_version",
        [*key, Jsonb(counts), source_version],
    )
    return True


def _write_run(connection: Connection[TupleRow], run: Mapping[str, object]) -> None:
    from psycopg import sql
    from psycopg.types.json import Jsonb

    values = {name: _storable(value) for name, value in run.items()}
    names = [sql.Identifier(name) for name in values]
    statement = sql.SQL(
        "INSERT INTO runs ({}) VALUES ({}) ON CONFLICT (run_id) DO UPDATE SET ({}) = ROW ({})"
    ).format(
        sql.SQL(", ").join(names),
        sql.SQL(", ").join([sql.Placeholder()] * len(names)),
        sql.SQL(", ").join(names),
        sql.SQL(", ").join([sql.SQL("EXCLUDED.{}").format(name) for name in names]),
    )
    connection.execute(
        statement,
        [Jsonb(value) if isinstance(value, dict | list) else value for value in values.values()],
    )


def _storable(value: object) -> object:
    if isinstance(value, str):
        if value.isascii():
            return value.replace("\0", "␀")
        return value.encode(errors="replace").decode().replace("\0", "␀")
    if isinstance(value, Mapping):
        return {_storable(key): _storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(inner) for inner in value]
    return value
