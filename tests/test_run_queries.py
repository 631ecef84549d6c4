"""Questions across runs: which are best, by which parameters, and what changed between two."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import product
from statistics import fmean
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from fillpath.analytics.postgres import ResultsDatabase, open_results_database
from fillpath.analytics.result_partitions import PARTITIONED, prepare_month
from fillpath.analytics.results_manager import ResultsManager
from fillpath.analytics.run_backtests import (
    common_parameters,
    comparable_backtests,
    own_parameters,
)
from fillpath.analytics.run_filter import RunFilter
from fillpath.analytics.shard_load import TableRows, replace_shard
from fillpath.instrumentation.errors import NotFound, UsageError
from fillpath.instrumentation.settings import DataFolder

D = Decimal
SLICE = ("portfolio", "strategy", "symbol", "currency", "kind", "sequence", "event_time", "amount")
FIGURE = ("portfolio", "currency", "name", "value")
JUNE, JULY, AUGUST = (
    int(dt.datetime(2024, month, 15, tzinfo=dt.UTC).timestamp()) * 10**9 for month in (6, 7, 8)
)
DAY = 86_400 * 10**9


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


@pytest.fixture
def results(
    database: ResultsDatabase, connection: psycopg.Connection[TupleRow]
) -> Iterator[ResultsManager]:
    del connection  # it empties the tables afterwards
    with ResultsManager(database) as manager:
        yield manager


def load(
    connection: psycopg.Connection[TupleRow],
    run_id: str,
    *amounts: str,
    sharpe: float | None = None,
    version: str = "1",
    **run: Any,
) -> None:
    rows = [
        ("fund", f"S{n % 2}", f"X{n % 3}", "USD", "realized", n, JUNE + n * DAY, D(amount))
        for n, amount in enumerate(amounts)
    ]
    figures = [("", "USD", "net_pnl", float(sum(map(D, amounts)))), ("fund", "", "sharpe", 99.0)]
    if sharpe is not None:
        figures.append(("", "", "sharpe", sharpe))
    tables = {"pnl_slices": TableRows(SLICE, rows), "figures": TableRows(FIGURE, figures)}
    replace_shard(connection, {"run_id": run_id, **run}, tables, source_version=version, again=True)


def grid(connection: psycopg.Connection[TupleRow]) -> dict[str, tuple[Mapping[str, Any], float]]:
    """Load a run for every pair of parameters, and some that have none or no figure."""
    runs: dict[str, tuple[Mapping[str, Any], float]] = {}
    for number, (fast, slow) in enumerate(product((5, 10, 20), (50, 100))):
        parameters = {"fast": fast, "slow": slow, "risk": {"limit": number % 2}, "venue": "X"}
        sharpe = (number * 7 % 5) / 2 - 0.5
        runs[f"run-{number}"] = (parameters, sharpe)
        load(
            connection, f"run-{number}", "1", "2", sharpe=sharpe, parameters=parameters,
            started_at=JUNE + number,
        )  # fmt: skip
    load(connection, "nan", "1", sharpe=float("nan"), parameters={"fast": 5})
    load(connection, "without", "1", parameters={"fast": 5})
    return runs


def test_the_best_runs_come_first(
    results: ResultsManager, connection: psycopg.Connection[TupleRow]
) -> None:
    runs = grid(connection)
    found = results.top_runs("sharpe", 4)
    expected = sorted(runs, key=lambda name: (-runs[name][1], -int(name[-1])))[:4]
    assert [run.run_id for run in found] == expected
    assert [run.value for run in found] == [runs[name][1] for name in expected]
    assert found[0].parameters == runs[expected[0]][0]
    lowest = results.top_runs("sharpe", 1, lowest=True)
    assert lowest[0].value == min(sharpe for _, sharpe in runs.values())
    assert len(results.top_runs("net_pnl", 100, currency="USD")) == len(runs) + 2
    assert results.top_runs("net_pnl", currency="EUR") == []
    assert {run.value for run in results.top_runs("sharpe", portfolio="fund")} == {99.0}


def test_a_figure_that_no_run_has_names_those_there_are(
    results: ResultsManager, connection: psycopg.Connection[TupleRow]
) -> None:
    with pytest.raises(UsageError, match="db load"):
        results.top_runs("sharpe")
    load(connection, "one", "1", sharpe=1.0)
    with pytest.raises(UsageError, match="net_pnl, sharpe"):
        results.top_runs("sharp")
    with pytest.raises(UsageError, match="net_pnl, sharpe"):
        results.sweep(["fast"], "'; DROP TABLE runs; --")


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        (["fast=10"], lambda p: p["fast"] == 10),
        (["fast=10", "slow=50"], lambda p: p["fast"] == 10 and p["slow"] == 50),
        (["risk.limit=1"], lambda p: p["risk"]["limit"] == 1),
        (["venue=X"], lambda p: p["venue"] == "X"),
        (["venue=x"], lambda _: False),
        (["fast=10' OR '1'='1"], lambda _: False),
    ],
)
def test_conditions_choose_runs_by_their_parameters(
    results: ResultsManager, connection: psycopg.Connection[TupleRow], where: list[str], fits: Any
) -> None:
    runs = grid(connection)
    found = {run.run_id for run in results.top_runs("sharpe", 99, where=RunFilter.parse(where))}
    assert found == {name for name, (parameters, _) in runs.items() if fits(parameters)}
    assert {run.run_id for run in results.runs(RunFilter.parse(where))} >= found


def test_values_as_they_were_given_choose_runs(
    results: ResultsManager, connection: psycopg.Connection[TupleRow]
) -> None:
    grid(connection)
    assert len(results.runs({"fast": 20})) == 2
    assert results.runs({"fast": "20"}) == []
    assert len(results.runs({"risk": {"limit": 0}})) == 3
    with pytest.raises(UsageError, match="'fast' does not say"):
        RunFilter.parse(["fast"])


def test_a_sweep_groups_runs_by_values(
    results: ResultsManager, connection: psycopg.Connection[TupleRow]
) -> None:
    runs = grid(connection)
    groups = results.sweep(["fast"], "sharpe")
    assert [group.values["fast"] for group in groups] == [5, 10, 20]
    for group in groups:
        inside = {n: s for n, (p, s) in runs.items() if p["fast"] == group.values["fast"]}
        assert (group.runs, group.low, group.high) == (
            len(inside), min(inside.values()), max(inside.values()),
        )  # fmt: skip
        assert group.mean == pytest.approx(fmean(inside.values()))
        assert inside[group.best_run] == group.high
    pairs = results.sweep(["risk.limit", "slow"], "sharpe", where={"fast": 5})
    assert [tuple(group.values.values()) for group in pairs] == [(0, 50), (1, 100)]
    assert [g.values for g in results.sweep(["none"], "sharpe")] == [{"none": None}]
    with pytest.raises(UsageError, match="Name the parameters"):
        results.sweep([], "sharpe")


LOOP = [
    {"portfolio": "fund", "parameters": {"fast": 10, "slow": 50}},
    {"portfolio": "fund/2", "parameters": {"fast": 20, "slow": 50}},
]


def test_backtests_that_one_run_holds_are_ranked_and_swept_each_by_itself(
    results: ResultsManager, connection: psycopg.Connection[TupleRow]
) -> None:
    load(connection, "worker", "1", sharpe=1.0, parameters={"fast": 20, "slow": 50})
    figures = [("", "", "sharpe", 7.0), ("fund", "", "sharpe", 2.0), ("fund/2", "", "sharpe", 3.0)]
    replace_shard(
        connection,
        {"run_id": "loop", "parameters": {"fast": 10, "slow": 50}, "backtests": LOOP},
        {"figures": TableRows(FIGURE, figures)},
        source_version="1",
    )
    ranked = results.top_runs("sharpe")
    assert [(run.run_id, run.portfolio, run.value) for run in ranked] == [
        ("loop", "fund/2", 3.0), ("loop", "fund", 2.0), ("worker", "", 1.0),
    ]  # fmt: skip
    assert ranked[0].parameters == {"fast": 20, "slow": 50}
    (one,) = results.top_runs("sharpe", where={"fast": 10})
    assert (one.run_id, one.portfolio) == ("loop", "fund")
    groups = {group.values["fast"]: group for group in results.sweep(["fast"], "sharpe")}
    assert (groups[10].runs, groups[10].mean) == (1, 2.0)
    assert (groups[20].runs, groups[20].low, groups[20].high) == (2, 1.0, 3.0)
    assert (groups[20].best_run, groups[20].best_portfolio) == ("loop", "fund/2")
    (lowest,) = results.sweep(["slow"], "sharpe", lowest=True)
    assert (lowest.best_run, lowest.best_portfolio) == ("worker", "")
    # A portfolio that is named is looked for in every run, and has its own parameters.
    (named,) = results.sweep(["fast"], "sharpe", portfolio="fund/2")
    assert (named.values["fast"], named.best_run, named.best_portfolio) == (20, "loop", "")


def test_only_backtests_of_one_namespace_are_comparable() -> None:
    def noted(portfolio: str, namespace: str, **parameters: Any) -> dict[str, Any]:
        return {"portfolio": portfolio, "namespace": namespace, "parameters": parameters}

    of_run = {"script": "s.py", "fast": 1, "days": 3}
    desks = [noted("fx", "fx", fast=1), noted("equities", "equities", days=3)]
    assert comparable_backtests(desks, of_run) == []
    loop = [*desks, noted("fx/2", "fx", fast=2), noted("fx/3", "fx")]
    assert comparable_backtests(loop, of_run) == [
        {"portfolio": "fx", "parameters": {"script": "s.py", "fast": 1}},
        {"portfolio": "fx/2", "parameters": {"script": "s.py", "fast": 2}},
        {"portfolio": "fx/3", "parameters": {"script": "s.py"}},
    ]
    found = comparable_backtests(loop, of_run)
    assert common_parameters(of_run, found) == {"script": "s.py"}
    assert [own_parameters(one, found) for one in found] == [{"fast": 1}, {"fast": 2}, {}]


def test_two_runs_are_put_side_by_side(
    results: ResultsManager, connection: psycopg.Connection[TupleRow]
) -> None:
    load(connection, "a", "1.10", "2", sharpe=1.5, parameters={"x": 1, "y": 1}, published=7)
    load(connection, "b", "1.10", "-2.5", "4", sharpe=1.0, parameters={"x": 2, "y": 1}, published=9)
    found = results.compare("a", "b")
    assert found.parameters == {"x": [1, 2]}
    figures = {(one.names["portfolio"], one.names["name"]): one for one in found.figures}
    assert figures["", "sharpe"].values == [1.5, 1.0]
    assert figures["", "sharpe"].change == -0.5
    assert [(one.values, one.change) for one in found.profit] == [
        ([D("3.10"), D("2.60")], D("-0.50"))
    ]
    by_strategy = {one.names["strategy"]: one.values for one in found.profit_by_strategy}
    assert by_strategy == {"S0": [D("1.10"), D("5.10")], "S1": [D("2"), D("-2.5")]}
    by_symbol = {one.names["symbol"]: one for one in found.profit_by_symbol}
    assert (by_symbol["X2"].values, by_symbol["X2"].change) == ([None, D(4)], None)
    events = {one.names["events"]: one.change for one in found.completeness}
    assert (events["published"], events["kept"]) == (2, None)
    with pytest.raises(NotFound):
        results.compare("a", "nobody")


def test_profit_is_broken_down_by_day_too(
    results: ResultsManager, connection: psycopg.Connection[TupleRow]
) -> None:
    load(connection, "a", "1.10", "2", "-0.05")
    by_day = {one.names["day"]: one.total for one in results.pnl_by("a", "day")}
    assert by_day == {"2024-06-15": D("1.10"), "2024-06-16": D(2), "2024-06-17": D("-0.05")}
    (rolled,) = connection.execute("SELECT sum(amount), sum(slices) FROM pnl_rollups").fetchall()
    assert rolled == (D("3.05"), 3)


class TestCache:
    """Answers that are kept."""

    def test_an_answer_is_made_once(
        self, results: ResultsManager, connection: psycopg.Connection[TupleRow]
    ) -> None:
        load(connection, "a", "1")
        load(connection, "b", "1")
        made: list[str] = []

        def make() -> dict[str, Any]:
            made.append("made")
            return {"sum": D("1.10"), "day": dt.date(2024, 6, 1), "rows": [1, None, "x"]}

        first = results.cached("a", "answer", make, by=["x"])
        assert results.cached("a", "answer", make, by=["x"]) == first
        assert made == ["made"]
        results.cached("a", "answer", make, by=["y"])
        results.cached("b", "answer", make, by=["x"])
        assert len(made) == 3

    def test_after_a_load_no_old_answer_is_given_to_anybody(
        self, database: ResultsDatabase, connection: psycopg.Connection[TupleRow]
    ) -> None:
        load(connection, "a", "1")
        with ResultsManager(database) as ours, ResultsManager(database) as theirs:

            def answer(of: ResultsManager) -> Any:
                return of.cached("a", "total", lambda: of.pnl_by("a")[0].total)

            assert [answer(ours), answer(theirs)] == [D(1), D(1)]
            load(connection, "a", "5")  # the same version of the lake, loaded again
            assert [answer(ours), answer(theirs)] == [D(5), D(5)]
            load(connection, "a", "7", version="2")
            assert answer(theirs) == D(7)

    def test_an_answer_that_was_made_while_a_load_came_in_is_not_kept_for_the_new_rows(
        self, results: ResultsManager, connection: psycopg.Connection[TupleRow]
    ) -> None:
        load(connection, "a", "1")

        def slowly() -> Decimal:
            total = results.pnl_by("a")[0].total
            load(connection, "a", "9", version="2")
            return total

        assert results.cached("a", "total", slowly) == D(1)
        assert results.cached("a", "total", lambda: results.pnl_by("a")[0].total) == D(9)

    def test_answers_go_with_their_run(
        self, results: ResultsManager, connection: psycopg.Connection[TupleRow]
    ) -> None:
        load(connection, "a", "1")
        results.cached("a", "x", lambda: 1)
        results.delete("a")
        assert connection.execute("SELECT count(*) FROM result_cache").fetchone() == (0,)
        assert results.cached("a", "x", lambda: 2) == 2
        with pytest.raises(NotFound):
            results.delete("a")


class TestMonths:
    """Rows by the month in which their run was started."""

    def test_rows_are_where_their_run_was_first_said_to_be(
        self, connection: psycopg.Connection[TupleRow]
    ) -> None:
        load(connection, "a", "1", started_at=JUNE)
        load(connection, "a", "2", started_at=JULY)
        load(connection, "b", "3")
        found = connection.execute(
            "SELECT run_id, tableoid::regclass::text, amount FROM pnl_slices ORDER BY 1"
        ).fetchall()
        assert found == [
            ("a", "pnl_slices_2024_06", D(2)),
            ("b", "pnl_slices_undated", D(3)),
        ]

    def test_loads_of_a_new_month_at_once_all_arrive(
        self, database: ResultsDatabase, connection: psycopg.Connection[TupleRow]
    ) -> None:
        gate = threading.Barrier(4)
        failures: list[BaseException] = []

        def load_one(number: int) -> None:
            try:
                with database.connect() as own:
                    gate.wait()
                    load(own, f"run-{number}", "1", started_at=AUGUST + number % 2 * 62 * DAY)
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        threads = [threading.Thread(target=load_one, args=[n]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        parts = connection.execute(
            "SELECT DISTINCT tableoid::regclass::text FROM pnl_slices ORDER BY 1"
        ).fetchall()
        assert parts == [("pnl_slices_2024_08",), ("pnl_slices_2024_10",)]

    def test_a_question_about_a_run_looks_at_its_month_only(
        self, results: ResultsManager, connection: psycopg.Connection[TupleRow]
    ) -> None:
        load(connection, "a", "1", started_at=JUNE)
        load(connection, "b", "1", started_at=JULY)
        condition, values = results._in_month("a")
        only = condition.as_string(connection)
        query = f"EXPLAIN SELECT * FROM pnl_slices WHERE run_id = 'a' AND {only}"
        plan = "\n".join(line for (line,) in connection.execute(query.encode(), values).fetchall())
        assert "pnl_slices_2024_06" in plan
        assert "pnl_slices_2024_07" not in plan

    def test_slices_are_found_by_their_summaries(
        self, connection: psycopg.Connection[TupleRow]
    ) -> None:
        load(connection, "a", "1", started_at=JUNE)
        summarised = connection.execute(
            "SELECT brin_summarize_new_values(indexrelid) FROM pg_index "
            "WHERE indrelid = 'pnl_slices_2024_06'::regclass"
        ).fetchall()
        assert summarised == [(0,)]


class TestRetention:
    """Old runs that go."""

    @pytest.fixture(autouse=True)
    def _runs(self, connection: psycopg.Connection[TupleRow]) -> None:
        load(connection, "june", "1", started_at=JUNE, ended_at=JUNE + 5)
        load(connection, "july-1", "1", started_at=JULY, ended_at=JULY + 5, status="Ended")
        load(connection, "july-2", "1", started_at=JULY + DAY, ended_at=JULY + DAY)
        load(connection, "busy", "1", started_at=JUNE, status="Running")
        load(connection, "undated", "1")

    def left(self, connection: psycopg.Connection[TupleRow]) -> set[str]:
        rows = connection.execute("SELECT DISTINCT run_id FROM pnl_slices").fetchall()
        runs = connection.execute("SELECT run_id FROM runs").fetchall()
        assert set(rows) == set(runs)
        return {str(name) for (name,) in runs}

    def test_what_ended_before_goes_and_what_runs_stays(
        self, results: ResultsManager, connection: psycopg.Connection[TupleRow]
    ) -> None:
        plan = results.retain(older_than=JULY + DAY // 2, plan_only=True)
        assert (list(plan.runs), list(plan.months)) == (["june", "july-1"], [])
        assert len(self.left(connection)) == 5
        assert results.retain(older_than=JULY + DAY // 2) == plan
        assert self.left(connection) == {"july-2", "busy", "undated"}

    def test_a_month_of_which_nothing_is_left_is_dropped_at_once(
        self, results: ResultsManager, connection: psycopg.Connection[TupleRow]
    ) -> None:
        plan = results.retain(older_than=AUGUST)
        assert list(plan.months) == [dt.date(2024, 7, 1)]
        assert self.left(connection) == {"busy", "undated"}
        parts = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relname LIKE '%2024_07' AND relkind = 'r'"
        ).fetchone()
        assert parts == (0,)
        load(connection, "july-1", "4", started_at=JULY)
        assert self.left(connection) == {"busy", "undated", "july-1"}

    def test_the_newest_are_kept(
        self, results: ResultsManager, connection: psycopg.Connection[TupleRow]
    ) -> None:
        results.retain(keep=2)
        assert self.left(connection) == {"july-1", "july-2", "busy"}
        with pytest.raises(UsageError):
            results.retain()
        with pytest.raises(UsageError):
            results.retain(keep=1, older_than=1)

    def test_a_load_at_the_same_time_loses_nothing(
        self, database: ResultsDatabase, connection: psycopg.Connection[TupleRow]
    ) -> None:
        stop = threading.Event()
        failures: list[BaseException] = []

        def keep_loading() -> None:
            try:
                with database.connect() as own:
                    while not stop.is_set():
                        load(own, "loaded", "1", "2", started_at=JULY)
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        thread = threading.Thread(target=keep_loading)
        thread.start()
        with ResultsManager(database) as own:
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                own.retain(older_than=AUGUST)
        stop.set()
        thread.join()
        assert failures == []
        load(connection, "loaded", "1", "2", started_at=JULY)
        assert self.left(connection) >= {"loaded"}


def test_every_divided_table_gets_its_month(connection: psycopg.Connection[TupleRow]) -> None:
    connection.commit()
    prepare_month(connection, dt.date(2031, 1, 1))
    made = connection.execute(
        "SELECT relname FROM pg_class WHERE relname LIKE '%2031_01' AND relkind = 'r'"
    ).fetchall()
    assert {str(name) for (name,) in made} == {f"{table}_2031_01" for table in PARTITIONED}
