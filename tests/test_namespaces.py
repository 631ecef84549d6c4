"""No namespace sees another's rows: asked by real roles of a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from fillpath.analytics.postgres import ResultsDatabase, open_results_database
from fillpath.analytics.shard_load import SHARD_TABLES, TableRows, replace_shard
from fillpath.instrumentation.settings import DataFolder

PORTFOLIOS = ["fund", "fund/desk", "fund/desk/book", "fundamental", "f%", "f_nd", "Fund", "fund\\"]
SLICE = ("portfolio", "currency", "kind", "sequence", "amount")
JUNE = 1_717_200_000_000_000_000
ROLES = ("of_fund", "of_desk", "of_pattern", "of_nothing", "of_all", "fillpath_dashboards")


def load(connection: psycopg.Connection[TupleRow], run_id: str, portfolios: list[str]) -> None:
    rows = [(name, "USD", "realized", n, Decimal(1)) for n, name in enumerate(portfolios)]
    tables = {
        "pnl_slices": TableRows(SLICE, rows),
        "figures": TableRows(
            ("portfolio", "currency", "name", "value"),
            [(name, "USD", "sharpe", 1.0) for name in ["", *portfolios]],
        ),
        "completeness": TableRows(
            ("portfolio", "event_type", "published", "kept", "sampled_out", "dropped"),
            [(name, "FILL", 1, 1, 0, 0) for name in portfolios],
        ),
    }
    run = {"run_id": run_id, "started_at": JUNE}
    replace_shard(connection, run, tables, source_version="1")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultsDatabase]:
    with open_results_database(DataFolder(tmp_path_factory.mktemp("results"))) as opened:
        with opened.connect() as connection:
            load(connection, "all", PORTFOLIOS)
            load(connection, "funds", ["fund", "fund/desk"])
            load(connection, "desks", ["fund/desk", "fund/desk/book"])
            connection.execute(
                "INSERT INTO result_cache (run_id, query, source_version, answer) "
                "VALUES ('desks', 'q', 'v', 'secret')"
            )
            for role in ROLES:
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
            connection.execute("CREATE ROLE in_desk IN ROLE of_desk")
            connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {', '.join(ROLES)}")
            connection.execute(
                "INSERT INTO namespace_grants VALUES ('of_fund', 'fund'), "
                "('of_desk', 'fund/desk'), ('of_pattern', 'f%'), ('of_pattern', 'f_nd'), "
                "('of_all', ''), ('a role that is not there', 'fund')"
            )
        yield opened


@contextmanager
def acting_as(database: ResultsDatabase, role: str) -> Iterator[psycopg.Connection[TupleRow]]:
    with database.connect() as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        yield connection
        connection.rollback()


def seen(database: ResultsDatabase, role: str, query: str) -> set[str]:
    with acting_as(database, role) as connection:
        return {str(row[0]) for row in connection.execute(query).fetchall()}


@pytest.mark.parametrize(
    ("role", "portfolios", "runs"),
    [
        ("of_fund", {"fund", "fund/desk", "fund/desk/book"}, {"funds", "desks"}),
        ("of_desk", {"fund/desk", "fund/desk/book"}, {"desks"}),
        ("in_desk", {"fund/desk", "fund/desk/book"}, {"desks"}),
        ("of_pattern", {"f%", "f_nd"}, set()),
        ("of_nothing", set(), set()),
        ("of_all", set(PORTFOLIOS), {"all", "funds", "desks"}),
        ("fillpath_dashboards", set(PORTFOLIOS), {"all", "funds", "desks"}),
        ("fillpath", set(PORTFOLIOS), {"all", "funds", "desks"}),
    ],
)
def test_a_role_sees_its_namespaces_and_what_is_below(
    database: ResultsDatabase, role: str, portfolios: set[str], runs: set[str]
) -> None:
    for table in ("pnl_slices", "completeness", "pnl_rollups"):
        assert seen(database, role, f"SELECT portfolio FROM {table}") == portfolios
    assert seen(database, role, "SELECT run_id FROM runs") == runs
    assert seen(database, role, "SELECT run_id FROM load_log") == runs
    # Figures of all of a run are for those who may see all of it.
    assert seen(database, role, "SELECT run_id FROM figures WHERE portfolio = ''") == runs
    assert seen(database, role, "SELECT portfolio FROM figures WHERE portfolio <> ''") == portfolios


def test_partitions_are_no_way_around(database: ResultsDatabase) -> None:
    for role in ("of_fund", "of_all", "fillpath_dashboards"):
        assert seen(database, role, "SELECT portfolio FROM pnl_slices_2024_06") == set()


def test_a_table_of_ones_own_is_no_way_around(database: ResultsDatabase) -> None:
    with database.connect() as connection:
        connection.execute("GRANT TEMP ON DATABASE fillpath TO of_nothing")
    with acting_as(database, "of_nothing") as connection:
        connection.execute("CREATE TEMP TABLE namespace_grants (role name, namespace text)")
        connection.execute("INSERT INTO pg_temp.namespace_grants VALUES ('of_nothing', '')")
        assert connection.execute("SELECT * FROM pnl_slices").fetchall() == []


def test_a_condition_that_tells_does_not_see_more(database: ResultsDatabase) -> None:
    """A function that says what it is given must not be given rows of others."""
    query = (
        "SELECT portfolio FROM pnl_slices WHERE "
        "CASE WHEN portfolio = 'fundamental' THEN 1 / (sequence - sequence) ELSE 1 END = 1"
    )
    assert seen(database, "of_desk", query) == {"fund/desk", "fund/desk/book"}


def test_nobody_grants_to_themselves(database: ResultsDatabase) -> None:
    for statement in (
        "INSERT INTO namespace_grants VALUES ('of_desk', '')",
        "UPDATE namespace_grants SET namespace = ''",
        "DELETE FROM pnl_slices",
        "SELECT * FROM result_cache",
    ):
        with acting_as(database, "of_desk") as connection:
            if statement.startswith("SELECT"):
                assert connection.execute(statement).fetchall() == []
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.encode())
    assert seen(database, "of_desk", "SELECT role FROM namespace_grants") == {"of_desk"}


def test_every_table_of_results_is_guarded(database: ResultsDatabase) -> None:
    with database.connect() as connection:
        guarded = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relrowsecurity "
            "AND NOT relispartition"
        ).fetchall()
        bare = connection.execute(
            "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' "
            "AND NOT relrowsecurity"
        ).fetchall()
    expected = {*SHARD_TABLES, "runs", "load_log", "result_cache", "namespace_grants"}
    assert {str(name) for (name,) in guarded} == expected
    assert bare == []
