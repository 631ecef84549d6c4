"""The schema of the results database and how it comes about."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from fillpath.analytics.migrate import Migration, apply_migrations, read_migrations
from fillpath.analytics.postgres import ResultsDatabase, open_results_database
from fillpath.analytics.results_error import ResultsError
from fillpath.analytics.shard_load import SHARD_TABLES
from fillpath.instrumentation.settings import DataFolder

FIRST = Migration(1, "first", "CREATE TABLE things (id integer);")
SECOND = Migration(2, "second", "ALTER TABLE things ADD name text; CREATE TABLE more (id int);")
BROKEN = Migration(2, "broken", "CREATE TABLE half (id int); SELECT no_such_thing;")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultsDatabase]:
    folder = DataFolder(tmp_path_factory.mktemp("results"))
    with open_results_database(folder, migrated=False) as database:
        yield database


@pytest.fixture
def empty(server: ResultsDatabase) -> Iterator[ResultsDatabase]:
    """A database of the test's own, without tables."""
    with server.connect(autocommit=True) as connection:
        connection.execute("CREATE DATABASE test TEMPLATE template0")
        yield replace(server, dsn=server.dsn.replace("@/fillpath?", "@/test?"))
        connection.execute("DROP DATABASE test WITH (FORCE)")


@pytest.fixture
def connection(empty: ResultsDatabase) -> Iterator[psycopg.Connection[TupleRow]]:
    with empty.connect() as connected:
        yield connected


def tables(connection: psycopg.Connection[TupleRow]) -> set[str]:
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
        "AND relnamespace = 'public'::regnamespace"
    )
    names = {str(name) for (name,) in rows}
    connection.rollback()
    return names


def test_migrations_are_applied_once_and_in_order(
    connection: psycopg.Connection[TupleRow],
) -> None:
    assert apply_migrations(connection, [FIRST]) == [FIRST]
    assert apply_migrations(connection, [FIRST, SECOND]) == [SECOND]
    assert apply_migrations(connection, [FIRST, SECOND]) == []
    assert tables(connection) == {"schema_migrations", "things", "more"}


def test_migration_that_fails_leaves_nothing(connection: psycopg.Connection[TupleRow]) -> None:
    with pytest.raises(ResultsError, match="no_such_thing"):
        apply_migrations(connection, [FIRST, BROKEN])
    assert tables(connection) == set()
    assert apply_migrations(connection, [FIRST, SECOND]) == [FIRST, SECOND]


def test_changed_migration_is_noticed(connection: psycopg.Connection[TupleRow]) -> None:
    apply_migrations(connection, [FIRST, SECOND])
    changed = replace(FIRST, statements=FIRST.statements + " -- and a word more")
    with pytest.raises(ResultsError, match=r"0001_first .* was changed after it was applied"):
        apply_migrations(connection, [changed, SECOND])


def test_line_ends_of_a_checkout_are_no_change() -> None:
    lines = "CREATE TABLE a (\n  id int\n);\n"
    there, here = Migration(1, "a", lines), Migration(1, "a", lines.replace("\n", "\r\n"))
    assert there.checksum == here.checksum


def test_record_that_was_tampered_with_is_noticed(
    connection: psycopg.Connection[TupleRow],
) -> None:
    apply_migrations(connection)
    connection.execute("UPDATE schema_migrations SET checksum = 'x' WHERE version = 1")
    connection.commit()
    with pytest.raises(ResultsError, match="was changed"):
        apply_migrations(connection)


def test_database_of_a_newer_version_is_left_alone(
    connection: psycopg.Connection[TupleRow],
) -> None:
    apply_migrations(connection, [FIRST, SECOND])
    with pytest.raises(ResultsError, match="schema version 2, but this fillpath knows none beyond"):
        apply_migrations(connection, [FIRST])


@pytest.mark.parametrize(
    "foreign",
    ["CREATE TABLE orders (id integer)", "CREATE TABLE schema_migrations (version varchar)"],
)
def test_tables_of_somebody_else_are_left_alone(
    connection: psycopg.Connection[TupleRow], foreign: str
) -> None:
    connection.execute(sql.SQL(foreign))
    connection.commit()
    before = tables(connection)
    with pytest.raises(ResultsError, match="cannot be brought up to date"):
        apply_migrations(connection)
    assert tables(connection) == before


def test_schema_of_the_search_path_is_used(empty: ResultsDatabase) -> None:
    with empty.connect() as connection:
        connection.execute("CREATE TABLE public.orders (id integer)")
        connection.execute("CREATE SCHEMA ours")
    ours = replace(empty, dsn=f"{empty.dsn}&options=-csearch_path%3Dours")
    with ours.connect() as connection:
        assert apply_migrations(connection)
        assert apply_migrations(connection) == []
        assert connection.execute("SELECT count(*) FROM ours.orders").fetchone() == (0,)


def test_processes_that_migrate_at_once_do_it_once(empty: ResultsDatabase) -> None:
    slow = replace(FIRST, statements=f"SELECT pg_sleep(0.2); {FIRST.statements}")
    gate = threading.Barrier(4)
    applied: list[int] = []

    def migrate() -> None:
        with empty.connect() as connection:
            gate.wait()
            applied.append(len(apply_migrations(connection, [slow, SECOND])))

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [0, 0, 0, 2]


def test_files_are_numbered_without_a_gap(tmp_path: Path) -> None:
    assert read_migrations()[0].version == 1
    (tmp_path / "0001_first.sql").write_text("SELECT 1")
    (tmp_path / "0003_third.sql").write_text("SELECT 1")
    with pytest.raises(ValueError, match="numbered"):
        read_migrations(tmp_path)
    (tmp_path / "notes.sql").write_text("SELECT 1")
    with pytest.raises(ValueError, match=r"notes\.sql is not named"):
        read_migrations(tmp_path)


def test_every_table_and_column_says_what_it_means(
    connection: psycopg.Connection[TupleRow],
) -> None:
    apply_migrations(connection)
    silent = connection.execute("""
        SELECT c.relname, a.attname
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND c.relnamespace = 'public'::regnamespace AND NOT a.attisdropped AND a.attnum >= 0
          AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)
    """).fetchall()
    assert silent == []


def test_every_row_belongs_to_a_run_and_goes_with_it(
    connection: psycopg.Connection[TupleRow],
) -> None:
    apply_migrations(connection)
    cascading = connection.execute("""
        SELECT conrelid::regclass::text FROM pg_constraint
        WHERE contype = 'f' AND confrelid = 'runs'::regclass AND confdeltype = 'c'
          AND conparentid = 0
    """).fetchall()
    named = {str(name) for (name,) in cascading}
    # The slices have triggers of their own, see the next test.
    assert named == {*SHARD_TABLES, "load_log", "result_cache"} - {"pnl_slices"}
    others = {"pnl_slices", "runs", "schema_migrations", "namespace_grants"}
    assert named | others == tables(connection)


def test_slices_belong_to_a_run_and_go_with_it(
    connection: psycopg.Connection[TupleRow],
) -> None:
    apply_migrations(connection)
    insert = (
        "INSERT INTO pnl_slices (run_id, portfolio, currency, kind, sequence, amount, run_month) "
        "SELECT run_id, 'p', 'USD', 'realized', n, 1, month::date "
        "FROM (VALUES ('a', '1970-01-01'), (%s, %s)) AS v (run_id, month), "
        "generate_series(1, 3) AS n"
    )
    connection.execute("INSERT INTO runs (run_id) VALUES ('a'), ('b')")
    connection.commit()
    for run_id, month in (("nobody", "1970-01-01"), ("b", "1970-02-01")):
        with pytest.raises(psycopg.errors.IntegrityError):
            connection.execute(insert, [run_id, month])
        connection.rollback()
    connection.execute(insert, ["b", "1970-01-01"])
    connection.execute("DELETE FROM runs WHERE run_id = 'a'")
    left = connection.execute("SELECT DISTINCT run_id FROM pnl_slices").fetchall()
    assert left == [("b",)]
    for change in ("run_id = 'c'", "run_month = '2024-01-01'"):
        with pytest.raises(psycopg.errors.IntegrityError), connection.transaction():
            connection.execute(f"UPDATE runs SET {change} WHERE run_id = 'b'")


def test_times_are_also_timestamps_to_the_microsecond(
    connection: psycopg.Connection[TupleRow],
) -> None:
    apply_migrations(connection)
    connection.execute("INSERT INTO runs (run_id) VALUES ('r')")
    connection.execute("SET timezone = 'America/New_York'")
    for sequence, nanoseconds in enumerate([0, 1_709_251_199_999_999_999, None]):
        connection.execute(
            "INSERT INTO equity (run_id, portfolio, sequence, account_id, currency, balance, "
            "event_time) VALUES ('r', 'p', %s, 'a', 'USD', 1, %s)",
            [sequence, nanoseconds],
        )
    shown = connection.execute(
        "SELECT to_char(event_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') FROM equity "
        "ORDER BY sequence"
    ).fetchall()
    assert shown == [("1970-01-01 00:00:00.000000",), ("2024-02-29 23:59:59.999999",), (None,)]


def test_amounts_keep_every_digit(connection: psycopg.Connection[TupleRow]) -> None:
    apply_migrations(connection)
    connection.execute("INSERT INTO runs (run_id) VALUES ('r')")
    amounts = ["0.10", "-123456789012345678901234567890.123456789012345678", "0.000000000000000001"]
    for sequence, amount in enumerate(amounts):
        connection.execute(
            "INSERT INTO pnl_slices (run_id, portfolio, currency, kind, sequence, amount) "
            "VALUES ('r', 'p', 'USD', 'realized', %s, %s)",
            [sequence, Decimal(amount)],
        )
    stored = connection.execute("SELECT amount FROM pnl_slices ORDER BY sequence").fetchall()
    assert [str(amount) for (amount,) in stored] == [str(Decimal(amount)) for amount in amounts]


def test_unknown_kind_of_slice_is_refused(connection: psycopg.Connection[TupleRow]) -> None:
    apply_migrations(connection)
    connection.execute("INSERT INTO runs (run_id) VALUES ('r')")
    with pytest.raises(psycopg.errors.CheckViolation, match="pnl_slices_kind_known"):
        connection.execute(
            "INSERT INTO pnl_slices (run_id, portfolio, currency, kind, sequence, amount) "
            "VALUES ('r', 'p', 'USD', 'magic', 1, 1)"
        )
