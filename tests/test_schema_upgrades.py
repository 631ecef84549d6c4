"""Databases that earlier versions made and filled are brought up to date without losing a row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from fillpath.analytics.migrate import apply_migrations, pending_migrations, read_migrations
from fillpath.analytics.postgres import ResultsDatabase, open_results_database
from fillpath.analytics.result_partitions import PARTITIONED, prepare_month
from fillpath.analytics.results_error import ResultsError
from fillpath.analytics.results_manager import ResultsManager
from fillpath.analytics.shard_load import SHARD_TABLES
from fillpath.instrumentation.settings import DataFolder

MIGRATIONS = read_migrations()
JUNE, JULY = 1_717_200_000_000_000_000, 1_721_000_000_000_000_000
"""In June and in July of 2024."""
RUNS = {"june-1": JUNE, "june-2": JUNE + 1, "july": JULY, "undated": None}
ROWS_OF_A_RUN = 3
VALUES: dict[str, object] = {
    "side": "BUY",
    "direction": "LONG",
    "kind": "realized",
    "outcome": "ordered",
    "status": "reconciled",
    "source": "host",
    "breakdown": "hop",
    "event_time": JUNE + 123_456_789,
    "amount": "-123456789012345678901234567890.10",
}
BY_TYPE: dict[str, object] = {
    "boolean": True,
    "bigint": 7,
    "integer": 7,
    "numeric": "1.50",
    "double precision": 0.1,
    "jsonb": '{"x": [1, null]}',
    "date": "2024-06-03",
    "timestamp with time zone": "2024-06-01 00:00:00.123456+00",  # the event time
    "text": "'; DROP TABLE runs; -- \N{SNOWMAN} % _",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultsDatabase]:
    folder = DataFolder(tmp_path_factory.mktemp("results"))
    with open_results_database(folder, migrated=False) as database:
        yield database


@pytest.fixture
def empty(server: ResultsDatabase) -> Iterator[ResultsDatabase]:
    with server.connect(autocommit=True) as connection:
        connection.execute("CREATE DATABASE test TEMPLATE template0")
        yield replace(server, dsn=server.dsn.replace("@/fillpath?", "@/test?"))
        connection.execute("DROP DATABASE test WITH (FORCE)")


def columns(connection: psycopg.Connection[TupleRow], table: str) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        [table],
    ).fetchall()


def fill(connection: psycopg.Connection[TupleRow]) -> dict[str, list[tuple[Any, ...]]]:
    """Put a few rows of every run into every table that there is; gives all of them as texts."""
    for run_id, started_at in RUNS.items():
        connection.execute(
            "INSERT INTO runs (run_id, started_at, parameters) VALUES (%s, %s, %s)",
            [run_id, started_at, '{"fast": 10}'],
        )
        connection.execute(
            "INSERT INTO load_log (run_id, shard, rows, source_version) "
            "VALUES (%s, 'all', '{}', 'v')",
            [run_id],
        )
    months = prepared_months(connection)
    there = {str(name) for (name,) in connection.execute("SELECT relname FROM pg_class").fetchall()}
    kept = {}
    for table in sorted(there & set(SHARD_TABLES)):
        named = columns(connection, table)
        insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(sql.Identifier(name) for name, _ in named),
            sql.SQL(", ").join([sql.Placeholder()] * len(named)),
        )
        for run_id in RUNS:
            for number in range(ROWS_OF_A_RUN):
                given = {name: VALUES.get(name, BY_TYPE[kind]) for name, kind in named}
                given |= {"run_id": run_id, "shard": "all"}
                if "run_month" in given:
                    given |= {"run_month": months[run_id], "part": 0}
                    given = {name: given[name] for name, _ in named}
                for own in ("sequence", "entry_sequence"):
                    if own in given:
                        given[own] = number
                for own in ("trade_id", "event_type", "account_id", "hop"):
                    if own in given:
                        given[own] = f"{own} {number}"
                connection.execute(insert, list(given.values()))
        kept[table] = contents(connection, table, [name for name, _ in named])
    for table in ("runs", "load_log"):
        kept[table] = contents(connection, table, [name for name, _ in columns(connection, table)])
    connection.execute("CREATE ROLE upgrade_reader")
    connection.execute("GRANT SELECT ON pnl_slices, orders TO upgrade_reader")
    connection.commit()
    return kept


def prepared_months(connection: psycopg.Connection[TupleRow]) -> dict[str, dt.date]:
    """Make the partitions of every run's month, in a version that has them; gives the months."""
    if "run_month" not in dict(columns(connection, "runs")):
        return {}
    months: dict[str, dt.date] = dict(
        connection.execute("SELECT run_id, run_month FROM runs").fetchall()
    )
    for month in sorted(set(months.values())):
        prepare_month(connection, month)
    return months


def contents(
    connection: psycopg.Connection[TupleRow], table: str, names: list[str]
) -> list[tuple[Any, ...]]:
    texts = [sql.SQL("{}::text").format(sql.Identifier(name)) for name in names]
    query = sql.SQL("SELECT {texts} FROM {table} ORDER BY {texts}").format(
        texts=sql.SQL(", ").join(texts), table=sql.Identifier(table)
    )
    return connection.execute(query).fetchall()


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_every_earlier_version_is_upgraded_with_all_its_rows(
    empty: ResultsDatabase, version: int
) -> None:
    with empty.connect() as connection:
        apply_migrations(connection, MIGRATIONS[:version])
        named = {}
        before = fill(connection)
        for table in before:
            named[table] = [name for name, _ in columns(connection, table)]
        connection.commit()
        assert pending_migrations(connection) == MIGRATIONS[version:]
        assert apply_migrations(connection) == MIGRATIONS[version:]
        assert pending_migrations(connection) == []
        for table, rows in before.items():
            assert contents(connection, table, named[table]) == rows, table
            assert len(rows) == (len(RUNS) if table in {"runs", "load_log"} else 12)
        parts = connection.execute(
            "SELECT run_id, tableoid::regclass::text, count(*) FROM fills GROUP BY 1, 2 ORDER BY 1"
        ).fetchall()
        assert parts == [
            ("july", "fills_2024_07", 3),
            ("june-1", "fills_2024_06", 3),
            ("june-2", "fills_2024_06", 3),
            ("undated", "fills_undated", 3),
        ]
        stale = connection.execute(
            "SELECT count(*) FROM pnl_slices WHERE event_at IS DISTINCT FROM (timestamp "
            "'1970-01-01' + (event_time / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC'"
        ).fetchone()
        assert stale == (0,)
        sums = "SELECT run_id, sum(amount) FROM {} GROUP BY 1 ORDER BY 1"
        (rolled, sliced) = (
            connection.execute(sums.format(table)).fetchall()
            for table in ("pnl_rollups", "pnl_slices")
        )
        assert version > 1 or rolled == sliced
        allowed = connection.execute(
            "SELECT has_table_privilege('upgrade_reader', 'pnl_slices', 'SELECT'), "
            "has_table_privilege('upgrade_reader', 'fills', 'SELECT')"
        ).fetchone()
        assert allowed == (True, False)
        connection.execute("DELETE FROM runs WHERE run_id = 'june-1'")
        for table in PARTITIONED:
            (left,) = connection.execute(
                sql.SQL("SELECT count(DISTINCT run_id) FROM {}").format(sql.Identifier(table))
            ).fetchall()
            assert left[0] in {0, len(RUNS) - 1}, table
        connection.execute("DROP OWNED BY upgrade_reader")
        connection.execute("DROP ROLE upgrade_reader")


def test_a_database_of_an_earlier_version_can_be_used_at_once(empty: ResultsDatabase) -> None:
    with empty.connect() as connection:
        apply_migrations(connection, MIGRATIONS[:1])
        connection.execute("INSERT INTO runs (run_id, started_at) VALUES ('one', %s)", [JUNE])
        connection.execute(
            "INSERT INTO pnl_slices (run_id, portfolio, currency, kind, sequence, amount) "
            "VALUES ('one', 'p', 'USD', 'realized', 1, 2.50)"
        )
        connection.commit()
    with ResultsManager(empty.dsn) as results:
        assert [str(one.total) for one in results.pnl_by("one")] == ["2.50"]
        assert results.run("one").portfolios == ["p"]
        assert len(results.rows("pnl_slices", "one")) == 1


def test_what_is_pending_of_a_newer_database_is_refused(empty: ResultsDatabase) -> None:
    with empty.connect() as connection:
        apply_migrations(connection)
        with pytest.raises(ResultsError, match="a newer fillpath"):
            pending_migrations(connection, MIGRATIONS[:1])
