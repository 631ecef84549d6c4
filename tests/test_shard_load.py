"""Rows on their way into the results database."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from decimal import Decimal

import psycopg
import pytest
from psycopg.rows import TupleRow

from fillpath.analytics.postgres import ResultsDatabase, open_results_database
from fillpath.analytics.results_error import ResultsError
from fillpath.analytics.shard_load import TableRows, copy_rows, replace_shard
from fillpath.instrumentation.settings import DataFolder

SLICE = ("portfolio", "strategy", "currency", "kind", "sequence", "event_time", "amount")
HOSTILE = [
    "<script>alert(1)</script>",
    "'; DROP TABLE runs; --",
    "../x",
    "x" * 300,
    "🙂" * 3000,
    'a "quoted"\ttab\nline \\N \\. %s {}',
    "",
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultsDatabase]:
    with open_results_database(DataFolder(tmp_path_factory.mktemp("results"))) as opened:
        yield opened


@pytest.fixture
def connection(database: ResultsDatabase) -> Iterator[psycopg.Connection[TupleRow]]:
    with database.connect() as connected:
        yield connected
        connected.rollback()
        connected.execute("DELETE FROM runs")


def slices(*amounts: str, strategy: str = "s") -> dict[str, TableRows]:
    rows = [
        ("p", strategy, "USD", "realized", sequence, 1_700_000_000_000_000_000, Decimal(amount))
        for sequence, amount in enumerate(amounts)
    ]
    return {"pnl_slices": TableRows(SLICE, rows)}


def amounts(connection: psycopg.Connection[TupleRow], run_id: str = "r") -> list[str]:
    found = connection.execute(
        "SELECT amount FROM pnl_slices WHERE run_id = %s ORDER BY shard, sequence", [run_id]
    ).fetchall()
    connection.commit()
    return [str(amount) for (amount,) in found]


@pytest.mark.smoke
def test_load_of_the_same_version_is_done_once(connection: psycopg.Connection[TupleRow]) -> None:
    run = {"run_id": "r", "status": "Ended"}
    assert replace_shard(connection, run, slices("1.10", "2"), source_version="1") is True
    assert replace_shard(connection, run, slices("9"), source_version="1") is False
    assert amounts(connection) == ["1.10", "2"]
    assert replace_shard(connection, run, slices("9"), source_version="1", again=True) is True
    assert amounts(connection) == ["9"]
    logged = connection.execute("SELECT shard, rows, source_version FROM load_log").fetchall()
    assert logged == [("all", {"pnl_slices": 1, "pnl_rollups": 1}, "1")]


def test_newer_version_replaces_rows_and_run(connection: psycopg.Connection[TupleRow]) -> None:
    first = {"run_id": "r", "status": "Running", "parameters": {"fast": 10}}
    replace_shard(connection, first, slices("1", "2", "3"), source_version="1")
    replace_shard(connection, {"run_id": "other"}, slices("7"), source_version="1")
    last = {"run_id": "r", "status": "Ended", "parameters": {"fast": [1, "\0"]}}
    replace_shard(connection, last, slices("4"), source_version="2")
    assert amounts(connection) == ["4"]
    assert amounts(connection, "other") == ["7"]
    stored = connection.execute("SELECT status, parameters FROM runs WHERE run_id = 'r'")
    assert stored.fetchone() == ("Ended", {"fast": [1, "␀"]})


def test_shards_of_a_run_are_replaced_one_by_one(connection: psycopg.Connection[TupleRow]) -> None:
    run = {"run_id": "r"}
    for shard in ("2024-01-01", "2024-01-02"):
        replace_shard(connection, run, slices("1", "2"), source_version="1", shard=shard)
    replace_shard(connection, run, slices("5"), source_version="2", shard="2024-01-01")
    assert amounts(connection) == ["5", "1", "2"]


def test_load_that_fails_leaves_what_was_there(connection: psycopg.Connection[TupleRow]) -> None:
    run = {"run_id": "r"}
    replace_shard(connection, run, slices("1"), source_version="1")
    broken = slices("2", "3")
    broken["signals"] = TableRows(("portfolio", "sequence", "outcome"), [("p", 1, "guessed")])
    with pytest.raises(ResultsError, match=r"nothing of it was loaded: .*signals_outcome_known"):
        replace_shard(connection, run, broken, source_version="2")
    assert amounts(connection) == ["1"]


def test_rows_that_fail_midway_leave_what_was_there(
    connection: psycopg.Connection[TupleRow],
) -> None:
    run = {"run_id": "r"}
    replace_shard(connection, run, slices("1"), source_version="1")

    def interrupted() -> Iterator[Sequence[object]]:
        yield from slices("2")["pnl_slices"].rows
        raise KeyboardInterrupt

    rows = {"pnl_slices": TableRows(SLICE, interrupted())}
    with pytest.raises(KeyboardInterrupt):
        replace_shard(connection, run, rows, source_version="2")
    assert amounts(connection) == ["1"]


def test_loads_of_one_shard_at_once_take_turns(
    database: ResultsDatabase, connection: psycopg.Connection[TupleRow]
) -> None:
    gate = threading.Barrier(3)
    done: list[bool] = []

    def load() -> None:
        with database.connect() as own:
            gate.wait()
            done.append(replace_shard(own, {"run_id": "r"}, slices("1", "2"), source_version="1"))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, False, True]
    assert amounts(connection) == ["1", "2"]


def test_names_of_any_kind_come_back_as_they_went(
    connection: psycopg.Connection[TupleRow],
) -> None:
    for number, name in enumerate(HOSTILE):
        tables = slices("1", strategy=name)
        tables["completeness"] = TableRows(
            ("portfolio", "event_type", "published", "kept", "sampled_out", "dropped"),
            [(name, name, 1, 1, 0, 0)],
        )
        tables["orders"] = TableRows(
            ("portfolio", "sequence", "client_order_id", "strategy", "price"),
            [(name, 1, name, name, None)],
        )
        tables["trades"] = TableRows(
            ("portfolio", "trade_id", "strategy", "direction", "quantity", "entry_sequence"),
            [(name, name, name, "LONG", 1, 1)],
        )
        run = {"run_id": f"run-{number}", "parameters": {name: name}}
        replace_shard(connection, run, tables, source_version=name)
    for table in ("pnl_slices", "orders", "trades"):
        found = connection.execute(f"SELECT strategy FROM {table} ORDER BY run_id").fetchall()
        assert [name for (name,) in found] == HOSTILE
    parameters = connection.execute("SELECT parameters FROM runs ORDER BY run_id").fetchall()
    assert [value for (value,) in parameters] == [{name: name} for name in HOSTILE]


def test_what_postgres_cannot_store_is_replaced(connection: psycopg.Connection[TupleRow]) -> None:
    replace_shard(
        connection,
        {"run_id": "r\0"},
        slices("1", strategy="nul\0 half \ud83d."),
        source_version="1",
    )
    assert connection.execute("SELECT run_id, strategy FROM pnl_slices").fetchone() == (
        "r␀",
        "nul␀ half ?.",
    )


def test_amounts_are_never_taken_from_floats(connection: psycopg.Connection[TupleRow]) -> None:
    connection.execute("INSERT INTO runs (run_id) VALUES ('r')")
    with pytest.raises(TypeError, match="float"):
        copy_rows(
            connection,
            "equity",
            ("run_id", "portfolio", "sequence", "account_id", "currency", "balance"),
            [("r", "p", 1, "a", "USD", 0.1)],
        )


def test_copy_takes_exact_and_missing_values(connection: psycopg.Connection[TupleRow]) -> None:
    connection.execute("INSERT INTO runs (run_id) VALUES ('r')")
    columns = ("run_id", "portfolio", "sequence", "account_id", "currency", "balance", "event_time")
    exact = [Decimal("1E-18"), Decimal("-0.00"), Decimal(10) ** 30, 7, 2**62]
    rows = [("r", "p", n, "a", "USD", value, None) for n, value in enumerate(exact)]
    assert copy_rows(connection, "equity", columns, rows) == len(exact)
    stored = connection.execute("SELECT balance FROM equity ORDER BY sequence").fetchall()
    assert [value for (value,) in stored] == exact
    assert [str(value) for (value,) in stored[:2]] == ["1E-18", "0.00"]


def test_unknown_table_is_refused(connection: psycopg.Connection[TupleRow]) -> None:
    with pytest.raises(ValueError, match="pg_authid"):
        replace_shard(
            connection,
            {"run_id": "r"},
            {"pg_authid": TableRows(("rolname",), [])},
            source_version="1",
        )


def test_deleted_run_takes_its_rows_with_it(connection: psycopg.Connection[TupleRow]) -> None:
    replace_shard(connection, {"run_id": "r"}, slices("1"), source_version="1")
    connection.execute("DELETE FROM runs WHERE run_id = 'r'")
    left = connection.execute(
        "SELECT (SELECT count(*) FROM pnl_slices) + (SELECT count(*) FROM load_log)"
    ).fetchone()
    assert left == (0,)
