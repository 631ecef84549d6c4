"""Large shards in partitions of their own: loaded by two connections, all of it or nothing."""

from __future__ import annotations

import datetime as dt
import os
import signal
import threading
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from fillpath.analytics import own_partitions
from fillpath.analytics.db_state import _partitions
from fillpath.analytics.migrate import apply_migrations
from fillpath.analytics.own_partitions import (
    drop_lone_parts,
    make_own,
    own_partition,
    take_parts,
    wanted_parts,
)
from fillpath.analytics.postgres import ResultsDatabase, open_results_database
from fillpath.analytics.result_partitions import PARTITIONED
from fillpath.analytics.results_error import ResultsError
from fillpath.analytics.results_manager import ResultsManager
from fillpath.analytics.shard_load import TableRows, replace_shard
from fillpath.instrumentation.settings import DataFolder

SLICE = ("portfolio", "currency", "kind", "sequence", "event_time", "amount")
ROWS = 40_000
JUNE, JULY = 1_717_200_000_000_000_000, 1_721_000_000_000_000_000
MONTH = dt.date(2024, 6, 1)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultsDatabase]:
    with open_results_database(DataFolder(tmp_path_factory.mktemp("results"))) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are many here."""
    monkeypatch.setattr(own_partitions, "OWN_ROWS", ROWS // 2)


@pytest.fixture
def connection(database: ResultsDatabase) -> Iterator[psycopg.Connection[TupleRow]]:
    with database.connect(autocommit=True) as connected:
        yield connected
        connected.execute("DELETE FROM runs")
        drop_lone_parts(connected)
        assert own(connected) == []


def slices(rows: int = ROWS, **changed: object) -> pa.Table:
    """Make slices, the amount of each its number; some without a time, some before 1970."""
    numbers = np.arange(rows, dtype=np.int64)
    times = [None, -1_234_567_891, -1, *(JUNE + numbers[3:] * 1_000_001).tolist()]
    values: dict[str, Any] = {
        "portfolio": pa.repeat(pa.scalar("fund"), rows),
        "currency": pa.repeat(pa.scalar("USD"), rows),
        "kind": pa.repeat(pa.scalar("realized"), rows),
        "sequence": pa.array(numbers),
        "event_time": pa.array(times, pa.int64()),
        "amount": pa.array(numbers).cast(pa.decimal128(38, 0)),
        **changed,
    }
    return pa.table(values)


@cache
def whole() -> pa.Table:
    """Make as many as a shard has here."""
    return slices()


def load(
    connection: psycopg.Connection[TupleRow],
    run_id: str = "r",
    rows: Any = None,
    *,
    version: str = "1",
    started_at: int | None = JUNE,
    **further: TableRows,
) -> bool:
    tables = {"pnl_slices": TableRows(SLICE, whole() if rows is None else rows), **further}
    run = {"run_id": run_id, "started_at": started_at, "ended_at": started_at}
    return replace_shard(connection, run, tables, source_version=version)


def own(connection: psycopg.Connection[TupleRow]) -> list[str]:
    """Names of the partitions that shards have to themselves; one may happen to be empty."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relname ~ '_own_' AND relkind = 'r' "
        "AND pg_table_is_visible(oid) ORDER BY oid"
    ).fetchall()
    return [str(name) for (name,) in rows]


def told(connection: psycopg.Connection[TupleRow], query: str, *values: object) -> Any:
    row = connection.execute(query.encode(), values or None).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def parts(connection: psycopg.Connection[TupleRow]) -> dict[str, int]:
    return dict(
        connection.execute(
            "SELECT tableoid::regclass::text, count(*) FROM pnl_slices GROUP BY 1 ORDER BY 1"
        ).fetchall()
    )


def test_only_many_rows_are_worth_partitions_of_their_own() -> None:
    most = own_partitions.OWN_ROWS
    worth = [wanted_parts(rows) for rows in (0, most - 1, most, 2 * most - 1, 2 * most, 99 * most)]
    assert worth == [0, 0, 1, 1, 2, 2]


@pytest.mark.smoke
def test_a_large_shard_is_dealt_out_and_arrives_whole(
    connection: psycopg.Connection[TupleRow],
) -> None:
    assert load(connection)
    arrived = told(
        connection, "SELECT count(*), sum(amount), count(DISTINCT sequence) FROM pnl_slices"
    )
    assert arrived == (ROWS, Decimal(ROWS * (ROWS - 1) // 2), ROWS)
    assert len(own(connection)) == 2
    assert all(name.startswith("pnl_slices_2024_06_own_") for name in own(connection))
    assert parts(connection).keys() <= set(own(connection))
    common = "SELECT array_agg(DISTINCT (run_id, shard, run_month)::text) FROM pnl_slices"
    assert told(connection, common) == ["(r,all,2024-06-01)"]
    assert told(connection, "SELECT rows, cardinality(parts) FROM load_log") == (
        {"pnl_slices": ROWS, "pnl_rollups": told(connection, "SELECT count(*) FROM pnl_rollups")},
        2,
    )
    assert told(connection, "SELECT sum(amount) FROM pnl_rollups") == ROWS * (ROWS - 1) // 2
    assert load(connection) is False


def test_timestamps_are_those_that_postgres_makes_of_the_nanoseconds(
    connection: psycopg.Connection[TupleRow],
) -> None:
    load(connection)
    rows = slices(9).to_pylist()
    load(connection, "small", [tuple(row.values()) for row in rows])
    other = told(
        connection,
        "SELECT count(*) FROM pnl_slices WHERE event_at IS DISTINCT FROM (timestamp '1970-01-01' "
        "+ (event_time / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC'",
    )
    assert other == 0
    assert told(connection, "SELECT count(*) FROM pnl_slices WHERE event_at IS NULL") == 2


def test_a_load_anew_replaces_the_rows_where_they_are(
    connection: psycopg.Connection[TupleRow],
) -> None:
    load(connection)
    first = own(connection)
    assert load(connection, rows=slices(ROWS + 1), version="2")
    assert parts(connection) == {first[0]: ROWS + 1}
    assert load(connection, rows=slices(3), version="3")
    assert parts(connection) == {first[0]: 3}
    for name in first:
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
    assert load(connection, rows=slices(5), version="4")
    assert parts(connection) == {"pnl_slices_2024_06": 5}


@pytest.mark.parametrize("place", [0, ROWS // 2, ROWS - 1])
def test_a_bad_row_anywhere_leaves_nothing(
    connection: psycopg.Connection[TupleRow], place: int
) -> None:
    kinds = ["realized"] * ROWS
    kinds[place] = "magic"
    with pytest.raises(ResultsError, match=r"nothing of it was loaded: .*pnl_slices_kind_known"):
        load(connection, rows=slices(kind=pa.array(kinds)))
    assert own(connection) == []
    assert told(connection, "SELECT (SELECT count(*) FROM pnl_slices), count(*) FROM runs") == (
        0,
        0,
    )
    assert load(connection)


def test_a_load_that_fails_after_its_slices_leaves_nothing(
    connection: psycopg.Connection[TupleRow],
) -> None:
    unfit = TableRows(
        ("portfolio", "currency", "kind", "amount", "slices"), [("p", "USD", "k", 1, "x")]
    )
    with pytest.raises(TypeError):
        load(connection, pnl_rollups=unfit)
    assert own(connection) == []
    assert parts(connection) == {}


def test_readers_see_all_of_a_load_or_nothing(
    database: ResultsDatabase, connection: psycopg.Connection[TupleRow]
) -> None:
    seen: set[int] = set()
    looks = 0
    ended = threading.Event()

    def look() -> None:
        nonlocal looks
        with database.connect(autocommit=True) as reader:
            while not ended.is_set():
                seen.add(told(reader, "SELECT count(*) FROM pnl_slices"))
                looks += 1

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(3):
        load(connection, f"r{number}")
    ended.set()
    thread.join()
    assert looks > 3
    assert seen <= {0, ROWS, 2 * ROWS, 3 * ROWS}


def test_loads_of_large_shards_at_once_all_arrive(
    database: ResultsDatabase, connection: psycopg.Connection[TupleRow]
) -> None:
    failures: list[BaseException] = []

    def load_one(number: int) -> None:
        try:
            with database.connect() as mine:
                load(mine, f"r{number % 3}", started_at=JULY)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=load_one, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(parts(connection).values()) == 3 * ROWS
    assert len(own(connection)) == 6


def test_without_a_second_connection_one_does_it_all(
    database: ResultsDatabase, connection: psycopg.Connection[TupleRow]
) -> None:
    socket = Path(connection.info.host) / f".s.PGSQL.{connection.info.port}"
    aside = socket.rename(socket.with_suffix(".aside"))
    try:
        assert load(connection)
    finally:
        aside.rename(socket)
    assert list(parts(connection).values()) == [ROWS]


def test_rows_are_written_once_and_not_looked_at_again(
    connection: psycopg.Connection[TupleRow],
) -> None:
    load(connection, "before", slices(3))  # makes the month
    said: list[str] = []
    connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    connection.execute("SET client_min_messages = debug1")
    begun = told(connection, "SELECT pg_current_wal_insert_lsn()")
    load(connection, rows=slices(4 * ROWS))
    logged = told(connection, "SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", begun)
    connection.execute("RESET client_min_messages")
    sizes = [
        told(connection, "SELECT pg_table_size(%s::regclass)", name) for name in own(connection)
    ]
    # What is smaller than wal_skip_threshold, 2 MB, goes to the log nevertheless.
    assert logged < sum(sizes) / 4
    implied = [text for text in said if "is implied by existing constraints" in text]
    assert len(implied) == 2


@pytest.mark.full
def test_what_is_loaded_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with open_results_database(folder) as database, database.connect() as connection:
        load(connection)
        server = (folder.postgres / "cluster" / "postmaster.pid").read_text().split()[0]
        os.kill(int(server), signal.SIGKILL)
    with open_results_database(folder) as database, database.connect() as connection:
        assert sum(parts(connection).values()) == ROWS
        assert told(connection, "SELECT sum(amount) FROM pnl_slices") == ROWS * (ROWS - 1) // 2


def test_what_a_killed_load_left_goes_but_not_what_one_is_making(
    database: ResultsDatabase, connection: psycopg.Connection[TupleRow]
) -> None:
    load(connection)
    with database.connect() as other:
        (part,) = take_parts(other, 1)
        make_own(connection, MONTH, part, "left", "all")
        left = own_partition(MONTH, part)
        drop_lone_parts(connection)
        assert left in own(connection)
    drop_lone_parts(connection)
    assert left not in own(connection)
    assert sum(parts(connection).values()) == ROWS


def test_whatever_is_being_read_stays_until_the_next_time(
    database: ResultsDatabase, connection: psycopg.Connection[TupleRow]
) -> None:
    load(connection)
    with database.connect() as reader:
        assert sum(parts(reader).values()) == ROWS
        connection.execute("DELETE FROM runs")
        drop_lone_parts(connection)
        assert len(own(connection)) == 2
    drop_lone_parts(connection)
    assert own(connection) == []


def test_questions_about_another_run_leave_them_out(
    connection: psycopg.Connection[TupleRow],
) -> None:
    load(connection, "large")
    load(connection, "it's \\another", slices(ROWS // 2))
    load(connection, "small", slices(5))
    for run_id, expected in (("small", 0), ("large", 2), ("it's \\another", 1)):
        query = "EXPLAIN SELECT sum(amount) FROM pnl_slices WHERE run_id = %s"
        lines = connection.execute(query.encode(), [run_id]).fetchall()
        assert sum(" on pnl_slices_2024_06_own_" in line for (line,) in lines) == expected


def test_namespaces_guard_them(connection: psycopg.Connection[TupleRow]) -> None:
    whose = np.where(np.arange(ROWS) % 3 == 0, "fund/a", "fund/b")
    load(connection, rows=slices(portfolio=pa.array(whose)))
    connection.execute("CREATE ROLE of_a")
    try:
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO of_a")
        connection.execute("INSERT INTO namespace_grants VALUES ('of_a', 'fund/a')")
        names = own(connection)
        connection.execute("SET ROLE of_a")
        assert told(connection, "SELECT count(*) FROM pnl_slices") == len(range(0, ROWS, 3))
        assert told(connection, "SELECT min(portfolio) || max(portfolio) FROM pnl_slices") == (
            "fund/afund/a"
        )
        for name in names:
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))
            assert connection.execute(query).fetchone() == (0,)
    finally:
        connection.execute("RESET ROLE")
        connection.execute("DELETE FROM namespace_grants WHERE role = 'of_a'")
        connection.execute("DROP OWNED BY of_a")
        connection.execute("DROP ROLE of_a")


def test_they_go_with_their_run_and_with_their_month(
    connection: psycopg.Connection[TupleRow],
) -> None:
    for run_id, started_at in (("june", JUNE), ("july-1", JULY), ("july-2", JULY + 1)):
        load(connection, run_id, started_at=started_at)
    load(connection, "undated", started_at=None)
    with ResultsManager(connection) as results:
        results.delete("july-2")
        assert len(own(connection)) == 6
        plan = results.retain(older_than=JULY)
        assert list(plan.months) == [MONTH]
        assert len(own(connection)) == 4
        load(connection, "july-3", started_at=JULY + 5)
        assert results.retain(older_than=JULY + 1).months == []
        found = connection.execute("SELECT DISTINCT run_id FROM pnl_slices ORDER BY 1").fetchall()
        assert found == [("july-3",), ("undated",)]
        assert len(own(connection)) == 4


def test_their_size_is_that_of_their_month(connection: psycopg.Connection[TupleRow]) -> None:
    load(connection)
    load(connection, "undated", started_at=None)
    with ResultsManager(connection) as results:
        counted = results.read("rows_by_month", tables=list(PARTITIONED))
        months = {row["month"]: row for row in _partitions(results.read("table_sizes"), counted)}
    assert months.keys() >= {"2024-06", "undated"}
    assert not [month for month in months if "own" in month]
    assert months["2024-06"]["rows"] > ROWS
    assert months["2024-06"]["bytes"] > ROWS * 50


@pytest.mark.full
def test_a_schema_of_the_search_path_is_used(connection: psycopg.Connection[TupleRow]) -> None:
    connection.execute("CREATE SCHEMA ours")
    try:
        connection.execute("SET search_path = ours")
        apply_migrations(connection)
        load(connection)
        assert len(own(connection)) == 2
        assert told(connection, "SELECT count(*) FROM ours.pnl_slices") == ROWS
        assert told(connection, "SELECT count(*) FROM public.pnl_slices") == 0
    finally:
        connection.execute("RESET search_path")
        connection.execute("SET client_min_messages = warning")
        connection.execute("DROP SCHEMA ours CASCADE")
