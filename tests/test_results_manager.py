"""Results: loaded from the lake as often as one likes, read back as they went, and reported."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fillpath.analytics.postgres import ResultsDatabase, open_results_database
from fillpath.analytics.reconciliation import ReconciliationStatus
from fillpath.analytics.report_checks import orphans, report_checks
from fillpath.analytics.report_data import report_data
from fillpath.analytics.report_traces import read_traces
from fillpath.analytics.results_manager import DIMENSIONS, ResultsManager
from fillpath.analytics.results_rows import compute_results
from fillpath.analytics.shard_load import SHARD_TABLES
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.writer import drain
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import FillpathError, NotFound, UsageError
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from made_spans import RUN, MadeSpans
from recorded_market import HOSTILE, Market, record_market

D = Decimal
NAMES = [
    HOSTILE,
    "<script>alert(1)</script>",
    "'; DROP TABLE runs; --",
    "../x",
    "x" * 300,
    "🙂" * 40,
    "%s {} \\N \\.",
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultsDatabase]:
    with open_results_database(DataFolder(tmp_path_factory.mktemp("results"))) as opened:
        yield opened


@pytest.fixture
def results(database: ResultsDatabase) -> Iterator[ResultsManager]:
    with ResultsManager(database) as manager:
        yield manager
    with database.connect() as connection:
        connection.execute("DELETE FROM runs")


@dataclass
class Lake:
    """A data folder with its lake."""

    path: Path

    @property
    def store(self) -> EventStore:
        return EventStore(DataFolder(self.path))

    def record(self, run_id: str, **given: Any) -> None:
        record_market(self.path, run_id, **given)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.store.connect() as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "data")


def everything(results: ResultsManager, run_id: str) -> dict[str, list[dict[str, Any]]]:
    return {table: results.rows(table, run_id) for table in SHARD_TABLES}


def test_a_load_may_be_repeated(results: ResultsManager, lake: Lake) -> None:
    lake.record("one", trades=22)  # as many bars as a regime takes
    assert results.load(lake.store, "one") is True
    first = everything(results, "one")
    assert all(first[table] for table in SHARD_TABLES)
    assert results.load(lake.store, "one") is False
    assert results.load(lake.store, "one", again=True) is True
    assert everything(results, "one") == first
    assert [run.run_id for run in results.runs()] == ["one"]


def test_another_run_is_left_alone(results: ResultsManager, lake: Lake) -> None:
    for run_id in ("one", "two"):
        lake.record(run_id)
        results.load(lake.store, run_id)
    before = everything(results, "one")
    lake.record("three")
    results.load(lake.store, "two", again=True)
    results.load(lake.store, "three")
    assert everything(results, "one") == before
    assert results.load(lake.store, "one") is False


def test_a_run_that_goes_on_is_loaded_as_far_as_it_is(results: ResultsManager, lake: Lake) -> None:
    folder = DataFolder(lake.path)
    with Tracing("long", data=lake.path, writer="none") as tracing:
        market = Market(tracing)
        market.trade()
        market.finish()
        market.seen.clear()
        time.sleep(0.1)  # the recorder writes what it has every ten milliseconds
        assert drain(folder, "long") == "Running"
        assert results.load(lake.store, "long") is True
        assert (results.run("long").status, len(results.rows("fills", "long"))) == ("Running", 2)
        assert results.load(lake.store, "long") is False
        market.trade()
        market.trade()
        market.finish()
    drain(folder, "long")
    assert results.load(lake.store, "long") is True
    assert (results.run("long").status, len(results.rows("fills", "long"))) == ("Ended", 6)
    (loaded,) = results.pnl_by("long")
    moved = {kind: amount for kind, amount in loaded.amounts.items() if amount}
    assert moved == {"realized": D("-37.50"), "commission": D("-7.50")}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_of_any_kind_stay_names(results: ResultsManager, lake: Lake, name: str) -> None:
    portfolio = f"fund/{name}"
    lake.record("one", strategy=name, symbol=name, portfolio=portfolio)
    results.load(lake.store, "one")
    by_all, *others = results.pnl_by("one", "portfolio", "strategy", "symbol")
    assert not others
    assert len(results.pnl_by("one", *DIMENSIONS)) > 1
    assert by_all.names == {"portfolio": portfolio, "strategy": name, "symbol": name}
    assert by_all.total == D("-15.00")
    assert {row["strategy"] for row in results.rows("fills", "one")} == {name}
    data = report_data(results, lake.store, "one")
    (row,) = data.pnl_by_strategy
    assert (row.strategy, row.portfolio) == (name, portfolio)
    # The query that a report offers finds the fills of just this name.
    assert row.evidence.query is not None
    assert len(lake.query(row.evidence.query)) == 2


class TestLookup:
    """Runs by id, by prefix and by age."""

    @pytest.fixture(autouse=True)
    def _runs(self, results: ResultsManager, lake: Lake) -> None:
        for run_id in ("alpha-1", "alpha-2", "beta"):
            lake.record(run_id)
            results.load(lake.store, run_id)

    @pytest.mark.parametrize(
        ("given", "found"),
        [("alpha-1", "alpha-1"), ("b", "beta"), ("alpha-2", "alpha-2"), ("latest", "beta")],
    )
    def test_what_means_one_run_finds_it(
        self, results: ResultsManager, given: str, found: str
    ) -> None:
        assert results.run(given).run_id == found

    def test_an_unknown_run_names_the_nearest(self, results: ResultsManager) -> None:
        with pytest.raises(NotFound, match="'alpha-1'"):
            results.run("alpha_1")

    def test_a_prefix_of_several_is_not_enough(self, results: ResultsManager) -> None:
        with pytest.raises(UsageError, match="alpha-2"):
            results.run("alpha")

    def test_the_newest_comes_first(self, results: ResultsManager) -> None:
        assert [run.run_id for run in results.runs()] == ["beta", "alpha-2", "alpha-1"]


def test_without_runs_there_is_none(results: ResultsManager) -> None:
    assert results.runs() == []
    with pytest.raises(NotFound):
        results.run("latest")


def test_a_run_that_the_lake_has_not_is_not_loaded(results: ResultsManager, lake: Lake) -> None:
    lake.record("one")
    with pytest.raises(NotFound, match="two"):
        results.load(lake.store, "two")
    assert results.runs() == []


def test_breakdowns_add_up_to_the_total(results: ResultsManager, lake: Lake) -> None:
    with Tracing("one", data=lake.path, writer="inline") as tracing:
        for strategy in ("A", "B"):
            for symbol in ("X", "Y"):
                market = Market(tracing, f"fund/{symbol}", strategy, symbol)
                for _ in range(ord(strategy) - 64):
                    market.trade()
                market.finish()
    results.load(lake.store, "one")
    (total,) = results.pnl_by("one")
    assert total.total == D("-15.00") * 6
    for dimension in DIMENSIONS:
        rows = results.pnl_by("one", dimension)
        assert sum((row.total for row in rows), D(0)) == total.total
        assert len(rows) == 2 or dimension not in {"portfolio", "strategy", "symbol"}
    assert len(results.pnl_by("one", "portfolio", "strategy", "symbol")) == 4
    with pytest.raises(UsageError, match="colour"):
        results.pnl_by("one", "colour")
    with pytest.raises(UsageError, match="pg_shadow"):
        results.rows("pg_shadow", "one")


def test_orders_signals_and_hops_are_told(results: ResultsManager, lake: Lake) -> None:
    with Tracing("one", data=lake.path, writer="inline") as tracing:
        market = Market(tracing)
        market.trade(others=2)
        market.deny(market.signal(market.bar("98"), "too much"), "notional is more than 1")
        market.deny(market.bar("97"), "notional is more than 2")
        market.finish()
    results.load(lake.store, "one")
    orders = results.rows("orders", "one")
    assert [(o["client_order_id"], o["status"], o["reject_reason"]) for o in orders] == [
        ("O-1", "FILLED", None),
        ("O-2", "FILLED", None),
        ("O-3", "DENIED", "notional is more than 1"),
        ("O-4", "DENIED", "notional is more than 2"),
    ]
    assert [(o["quantity"], o["filled_quantity"], o["average_price"]) for o in orders[:3]] == [
        (D(10), D(10), D("100.5")),
        (D(10), D(10), D("99.25")),
        (D(1_000_000), D(0), None),
    ]
    outcomes = [(s["value"], s["outcome"]) for s in results.rows("signals", "one")]
    assert outcomes == [
        ("ignored 0", "no_order"),
        ("ignored 1", "no_order"),
        ("1", "ordered"),
        ("too much", "denied"),
    ]
    hops = {row["hop"]: row for row in results.rows("latency", "one")}
    assert {hop: row["count"] for hop, row in hops.items()} == {
        "BAR → SIGNAL": 4,
        "SIGNAL → ORDER": 2,
        "ORDER → SUBMITTED": 2,
        "SUBMITTED → FILL": 2,
        "BAR → ORDER": 2,
        "BAR → FILL": 2,
        "BAR → handled": 4,
    }
    for row in hops.values():
        assert 0 <= row["p50"] <= row["p90"] <= row["p99"] <= row["max"]
        assert lake.query(f"SELECT 1 FROM spans WHERE trace_id = '{row['slowest_trace_id']}'")
    (funnel,) = report_data(results, lake.store, "one").funnel
    assert (funnel.signals, funnel.with_order, funnel.orders) == (4, 2, 2)
    assert (funnel.denied, funnel.filled, funnel.publishes_signals) == (1, 1, True)


def test_completeness_is_the_lakes(results: ResultsManager, lake: Lake) -> None:
    lake.record("one")
    results.load(lake.store, "one")
    counted = lake.query(
        "SELECT portfolio, event_type, count(*), count(*), 0 FROM spans "
        "WHERE span_kind <> 'CONSUMER' GROUP BY ALL ORDER BY ALL"
    )
    columns = ("portfolio", "event_type", "published", "kept", "sampled_out")
    rows = results.rows("completeness", "one")
    assert [tuple(row[column] for column in columns) for row in rows] == counted
    assert sum(row["kept"] for row in rows) == results.run("one").published


def test_a_fill_that_did_not_reach_the_lake_fails_the_account() -> None:
    spans = MadeSpans()
    spans.account(USD="1000.00")
    kinds = [
        {
            "portfolio": "fund/book",
            "event_type": EventType.FILL,
            "published": 3,
            "kept": 2,
            "sampled_out": 0,
            "dropped": {"crash": 1},
        }
    ]
    with spans.connect() as connection:
        connection.execute(
            f"CREATE OR REPLACE VIEW runs AS SELECT '{RUN}' AS run_id, 'live' AS mode, "
            "'Crashed' AS status, NULL AS service_name, NULL AS engine, NULL AS engine_version, "
            "1 AS started_at, NULL AS ended_at, '{}' AS parameters, 3 AS published, 2 AS kept, "
            f"0 AS sampled_out, 1 AS dropped, '{json.dumps(kinds)}' AS completeness"
        )
        (account,) = compute_results(connection, RUN).ledger.accounts
    assert account.status is ReconciliationStatus.FAILED
    assert account.notes[0].startswith("1 event")


def test_any_kind_of_way_to_the_server_will_do(
    results: ResultsManager, database: ResultsDatabase, lake: Lake
) -> None:
    lake.record("one")
    results.load(lake.store, "one")
    with ResultsManager(database.dsn) as by_dsn:
        assert by_dsn.run("one").run_id == "one"
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        with ResultsManager(connection) as by_connection:
            assert by_connection.run("one").run_id == "one"
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_lost_connection_is_explained(database: ResultsDatabase) -> None:
    with database.connect(autocommit=True) as connection, ResultsManager(connection) as results:
        connection.close()
        with pytest.raises(FillpathError, match="cannot be read"):
            results.runs()


class TestReport:
    """What a report is filled with, compared with the lake in another way."""

    @pytest.fixture
    def data(self, results: ResultsManager, lake: Lake) -> Any:
        lake.record("one", trades=12)
        results.load(lake.store, "one")
        return report_data(results, lake.store, "one", command=("fillpath", "--data", "x"))

    def test_profit_is_what_came_in_less_what_went_out(self, data: Any, lake: Lake) -> None:
        ((cash, paid),) = lake.query(
            "SELECT sum(CASE side WHEN 'SELL' THEN 1 ELSE -1 END * quantity * price), "
            "sum(commission) FROM spans WHERE name = 'publish FILL'"
        )
        totals = data.pnl_totals["USD"]
        assert (totals.realized, totals.commission) == (cash, paid)
        assert totals.total == cash - paid
        assert sum(row.amounts.total for row in data.pnl_by_strategy) == cash - paid

    def test_the_run_card_counts_what_is_in_the_lake(self, data: Any, lake: Lake) -> None:
        (counts,) = lake.query(
            "SELECT count(*) FILTER (span_kind <> 'CONSUMER'), "
            "count(DISTINCT client_order_id), count(*) FILTER (name = 'publish FILL'), "
            "min(event_time), max(event_time) FROM spans"
        )
        run = data.run
        found = (run.events, run.orders, run.fills, run.simulated_from, run.simulated_to)
        assert found == counts
        assert (run.trades, run.portfolios, run.strategies) == (12, ("fund/desk",), ("Trend-1",))
        assert data.command == ("fillpath", "--data", "x")

    def test_the_largest_trades_come_with_both_their_chains(self, data: Any) -> None:
        assert len(data.largest_trades) == 10
        embedded = {trace.trace_id for trace in data.traces}
        for trade in data.largest_trades:
            assert (trade.pnl, trade.commission, trade.net) == (D("-12.50"), D("2.50"), D("-15.00"))
            assert trade.exit_time > trade.entry_time
            assert {trade.entry_trace_id, trade.exit_trace_id} <= embedded
            assert trade.entry_trace_id != trade.exit_trace_id
        assert not any(orphans(trace) for trace in data.traces)

    def test_its_own_checks_hold(self, data: Any) -> None:
        """The recorded market's account never moves, which is no statement to compare with."""
        assert [check for check in report_checks(data) if check.passed is False] == []
        assert data.accounts == ()
        assert any("frozen" in notice for notice in data.notices)

    def test_a_long_chain_is_cut_without_losing_a_parent(self, lake: Lake) -> None:
        with Tracing("long", data=lake.path, writer="inline") as tracing:
            market = Market(tracing)
            market.trade(others=200)
            market.finish()
        store = lake.store
        with store.connect(["long"]) as connection:
            ((trace_id,),) = connection.execute(
                "SELECT trace_id FROM spans WHERE event_type = 'SIGNAL' LIMIT 1"
            ).fetchall()
            (whole,) = read_traces(connection, "long", [trace_id, "0" * 32], most_spans=1000)
            (cut,) = read_traces(connection, "long", [trace_id], most_spans=50)
        assert whole.total_spans is None
        assert cut.total_spans == len(whole.spans) > 200
        assert len(cut.spans) <= 50
        assert not orphans(cut)
        assert any(span.event_type == EventType.FILL for span in cut.spans)
