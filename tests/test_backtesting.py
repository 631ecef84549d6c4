"""Traced backtesting.py: it trades as it does alone, and the spans come to what it says itself.

The host scripts write down what the engine knows; that is the oracle. One of them does anything at
random, so most of this is tried under all of the engine's settings.
"""

from __future__ import annotations

import datetime as dt
import importlib
import json
import pickle
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fillpath.analytics.fifo_matches import disagreements, fifo_matches
from fillpath.analytics.ledger import Ledger, compute_ledger
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.backtesting import BacktestingInstrumentor
from fillpath.instrumentation.settings import DataFolder

pytest.importorskip("backtesting", reason="the engine is not installed (extra 'backtesting')")

HOSTS = Path(__file__).parent / "hosts"
Row = dict[str, Any]


def rows_of(data: Path, query: str) -> list[Row]:
    folder = DataFolder(data)
    catch_up(folder)
    with EventStore(folder).connect() as connection:
        result = connection.execute(query)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def spans_of(data: Path) -> list[Row]:
    rows = rows_of(data, "select * from spans order by run_id, sequence")
    for row in rows:
        row["attributes"] = json.loads(row["attributes"] or "{}")
        row["links"] = [link["span_id"] for link in json.loads(row["links"] or "[]")]
    return rows


@dataclass
class Traced:
    """What a host's backtests came to: by the engine, and by the spans."""

    plain: str
    traced: str
    data: Path

    @cached_property
    def runs(self) -> dict[str, Row]:
        """By portfolio, the engine's word."""
        told = json.loads(self.plain)["runs"]
        return {f"default/{n}" if n > 1 else "default": run for n, run in enumerate(told, 1)}

    @cached_property
    def spans(self) -> list[Row]:
        return spans_of(self.data)

    @cached_property
    def by_id(self) -> dict[str, Row]:
        return {row["span_id"]: row for row in self.spans}

    @cached_property
    def ledger(self) -> Ledger:
        with EventStore(DataFolder(self.data)).connect(["host"]) as connection:
            return compute_ledger(connection, "host")

    @cached_property
    def accounts(self) -> dict[str, AccountReconciliation]:
        return {one.portfolio: one for one in self.ledger.accounts}

    def named(self, name: str) -> tuple[str, Row]:
        return next((place, run) for place, run in self.runs.items() if run["name"] == name)

    def of(self, portfolio: str, kind: str) -> list[Row]:
        return [
            row
            for row in self.spans
            if row["portfolio"] == portfolio and row["name"] == f"publish {kind}"
        ]

    def parent(self, row: Row) -> Row:
        return self.by_id[row["parent_span_id"]]


def in_process(host: str, folder: Path) -> str:
    """Run a host script's `main` in this process; gives what it wrote."""
    before, sys.argv = sys.argv, [host, str(folder / "report.json")]
    try:
        importlib.import_module(host).main()
    finally:
        sys.argv = before
    return (folder / "report.json").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hosts() -> Iterator[None]:
    sys.path.insert(0, str(HOSTS))
    state = random.getstate()
    yield
    random.setstate(state)
    sys.path.remove(str(HOSTS))


@pytest.fixture(scope="module")
def host(hosts: None, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """The host with every kind of order, run alone and run traced."""
    folder = tmp_path_factory.mktemp("orders")
    plain = in_process("backtesting_orders", folder)
    importlib.import_module("backtesting_orders").asked.clear()
    with Tracing("host", data=folder / "data", portfolio="default", writer="inline"):
        BacktestingInstrumentor().instrument()
        try:
            traced = in_process("backtesting_orders", folder)
        finally:
            BacktestingInstrumentor().uninstrument()
    return Traced(plain, traced, folder / "data")


@pytest.fixture
def engine(hosts: None) -> Iterator[Any]:
    """The engine, instrumented for one test."""
    BacktestingInstrumentor().instrument()
    yield importlib.import_module("backtesting")
    BacktestingInstrumentor().uninstrument()


# -- The engine does what it would do alone --------------------------------------------------------


def test_a_traced_run_trades_warns_and_draws_random_numbers_as_an_untraced_one(
    host: Traced,
) -> None:
    assert host.traced == host.plain
    assert json.loads(host.plain)["commissions asked for"]
    assert len(host.runs) == 25


def test_every_run_has_a_portfolio_of_its_own(host: Traced) -> None:
    assert {row["portfolio"] for row in host.spans} == set(host.runs)


# -- Every fill is the engine's, and every cause is found ------------------------------------------


def when(time: str) -> int | None:
    """Nanoseconds of a time that the engine prints; None of a period's number."""
    pandas = importlib.import_module("pandas")
    return None if time.isdigit() else int(pandas.Timestamp(time).value)


def fills_of(host: Traced, portfolio: str) -> tuple[list[Row], list[Row]]:
    """Entries and exits of a portfolio."""
    entries: list[Row] = []
    exits: list[Row] = []
    seen = set()
    for fill in host.of(portfolio, "FILL"):
        (exits if fill["position_id"] in seen else entries).append(fill)
        seen.add(fill["position_id"])
    return entries, exits


def test_every_exit_of_the_engine_is_one_fill_with_its_numbers(host: Traced) -> None:
    for portfolio, run in host.runs.items():
        expected: list[Any] = [
            (
                when(trade["ExitTime"]),
                "SELL" if float(trade["Size"]) > 0 else "BUY",
                pytest.approx(abs(float(trade["Size"])), rel=1e-15),
                float(trade["ExitPrice"]),
            )
            for trade in run["trades"]
        ]
        _, exits = fills_of(host, portfolio)
        found: list[Any] = [
            (row["event_time"], row["side"], float(row["quantity"]), float(row["price"]))
            for row in exits
        ]
        assert found == expected, run["name"]


def test_every_entry_of_the_engine_is_one_fill_with_its_numbers(host: Traced) -> None:
    for portfolio, run in host.runs.items():
        expected: dict[tuple[Any, ...], float] = defaultdict(float)
        for trade in (*run["trades"], *run["open_trades"]):
            size = float(trade["Size"])
            expected[when(trade["EntryTime"]), size > 0, float(trade["EntryPrice"])] += abs(size)
        found: dict[tuple[Any, ...], float] = defaultdict(float)
        for row in fills_of(host, portfolio)[0]:
            place = row["event_time"], row["side"] == "BUY", float(row["price"])
            found[place] += float(row["quantity"])
        assert found == pytest.approx(expected, rel=1e-12), run["name"]


def test_every_order_and_fill_has_a_cause_that_is_written_before_it(host: Traced) -> None:
    for row in host.spans:
        if row["event_type"] in {"ORDER", "FILL", "POSITION_OPEN", "POSITION_CLOSE", "SIGNAL"}:
            assert row["parent_span_id"], row
        if row["parent_span_id"]:
            assert host.parent(row)["sequence"] < row["sequence"]


def test_every_fill_follows_from_a_bar_or_a_call_back(host: Traced) -> None:
    roots = set()
    for row in host.spans:
        if row["event_type"] == "FILL":
            first = row
            while first["parent_span_id"]:
                first = host.parent(first)
            roots.add((first["name"], first["handler"]))
    assert roots == {("publish BAR", None), ("publish SYSTEM", "Hedged.init")}


def test_a_fill_links_to_the_bar_it_was_made_at_and_an_exit_to_its_entry(host: Traced) -> None:
    entry_of: dict[tuple[str, str], str] = {}
    for row in host.spans:
        if row["event_type"] != "FILL":
            continue
        linked = [host.by_id[span_id] for span_id in row["links"]]
        causes = [*linked, host.parent(host.parent(row))]
        assert any(one["event_type"] == "BAR" for one in causes), row
        entry = entry_of.setdefault((row["portfolio"], row["position_id"]), row["span_id"])
        if entry != row["span_id"]:
            assert entry in {one["span_id"] for one in linked}


def test_at_the_close_orders_fill_at_the_very_bar_that_they_were_sent_at(host: Traced) -> None:
    portfolio, _ = host.named("flips at the close")
    fills = host.of(portfolio, "FILL")
    assert len(fills) > 50
    last = max(bar["event_time"] for bar in host.of(portfolio, "BAR"))
    for fill in fills:
        sent_at = host.parent(fill)["event_time"]
        # What is sent at the last bar, the engine fills in another pass, at the bar before.
        if host.parent(host.parent(fill))["name"] == "process BAR" and sent_at != last:
            assert fill["event_time"] == sent_at


# -- What it came to -------------------------------------------------------------------------------


def test_every_account_follows_from_its_fills(host: Traced) -> None:
    assert host.accounts.keys() == host.runs.keys()
    for account in host.accounts.values():
        assert account.status is ReconciliationStatus.RECONCILED, account.notes
        assert account.difference == account.funding == 0


def test_cash_and_final_equity_are_the_engines(host: Traced) -> None:
    earned: Counter[str] = Counter()
    for one in host.ledger.slices:
        earned[one.ref.portfolio] += one.amount  # type: ignore[assignment]
    for portfolio, run in host.runs.items():
        account = host.accounts[portfolio]
        assert account.start is not None
        equity = account.start + earned[portfolio]
        assert float(equity) == pytest.approx(float(run["final_equity"]), abs=1e-6), run["name"]
        if float(run["final_equity"]):
            assert account.end is not None
            assert float(account.end) == pytest.approx(float(run["cash"]), abs=1e-8)


def test_profit_of_every_trade_is_the_engines(host: Traced) -> None:
    """Before commissions: of a fixed one, the engine's table charges each part of a trade anew."""
    for portfolio, run in host.runs.items():
        expected: dict[tuple[int | None, bool], float] = defaultdict(float)
        for trade in run["trades"]:
            gross = float(trade["PnL"]) + float(trade["Commission"])
            expected[when(trade["EntryTime"]), float(trade["Size"]) > 0] += gross
        found: dict[tuple[int | None, bool], float] = defaultdict(float)
        for trip in host.ledger.trips:
            if trip.opened_by.ref.portfolio == portfolio and trip.closed_by is not None:
                time = trip.opened_by.ref.event_time
                found[time, trip.direction == "LONG"] += float(trip.realized)
        assert found == pytest.approx(expected, abs=1e-7), run["name"]


def test_commissions_are_the_engines(host: Traced) -> None:
    for portfolio, run in host.runs.items():
        proportional = run["name"] in {"cross", "cross again", "flips", "signals", "fractions"}
        if proportional and not run["open_trades"]:
            told = host.accounts[portfolio].commission
            assert float(-told) == pytest.approx(float(run["commissions"]), rel=1e-9)


def test_open_positions_are_the_engines_at_its_last_price(host: Traced) -> None:
    open_trips = [trip for trip in host.ledger.trips if trip.is_open]
    for portfolio, run in host.runs.items():
        trips = [trip for trip in open_trips if trip.opened_by.ref.portfolio == portfolio]
        found = sorted(
            float(trip.open_quantity) * (1 if trip.direction == "LONG" else -1) for trip in trips
        )
        sizes = sorted(float(trade["Size"]) for trade in run["open_trades"])
        assert found == pytest.approx(sizes, rel=1e-12)
        unrealized = sum(float(trip.unrealized or 0) for trip in trips)
        assert float(host.accounts[portfolio].unrealized) == pytest.approx(unrealized)
        if float(run["final_equity"]):
            told = sum(float(trade["PnL"]) for trade in run["open_trades"])
            assert unrealized == pytest.approx(told, abs=1e-6)


def test_queue_and_sql_match_alike(host: Traced) -> None:
    duckdb = importlib.import_module("duckdb")
    with duckdb.connect() as connection:
        assert fifo_matches(connection, host.ledger.legs) is not None
        assert disagreements(connection, host.ledger.legs, host.ledger.matches) == []


# -- Orders ----------------------------------------------------------------------------------------


def orders_of(host: Traced, portfolio: str) -> dict[str, list[Row]]:
    """Events of every order of a portfolio, fills among them, in order."""
    orders: dict[str, list[Row]] = defaultdict(list)
    for row in host.spans:
        if row["portfolio"] == portfolio and row["client_order_id"]:
            orders[row["client_order_id"]].append(row)
    return orders


def test_what_waits_in_the_end_is_what_the_engine_still_has(host: Traced) -> None:
    over = {"FILLED", "CANCELED", "REJECTED"}
    for portfolio, run in host.runs.items():
        last = [events[-1]["status"] for events in orders_of(host, portfolio).values()]
        assert sum(status not in over for status in last) == len(run["waiting"]), run["name"]
        assert all(events[0]["status"] == "NEW" for events in orders_of(host, portfolio).values())


def test_what_the_broker_drops_is_rejected_in_its_own_words(host: Traced) -> None:
    dropped = 0
    for portfolio, run in host.runs.items():
        said = [message for message, *_ in run["warnings"] if "Broker canceled" in message]
        told = [
            row["attributes"]["trading.order.reject.reason"]
            for row in host.of(portfolio, "ORDER")
            if "insufficient margin" in str(row["attributes"].get("trading.order.reject.reason"))
        ]
        assert told == [message.partition(": ")[2] for message in said]
        dropped += len(said)
    assert dropped > 50


def test_an_order_that_turns_the_position_fills_in_parts(host: Traced) -> None:
    portfolio, _ = host.named("flips")
    turns = [
        [event for event in events if event["event_type"] == "FILL"]
        for events in orders_of(host, portfolio).values()
    ]
    turns = [fills for fills in turns if len(fills) > 2]
    assert turns
    for fills in turns:
        parents = {fill["parent_span_id"] for fill in fills}
        assert len(parents) == 1, "partial fills are siblings"
        assert [fill["status"] for fill in fills[:-1]] == ["PARTIALLY_FILLED"] * (len(fills) - 1)
        if fills[-1]["status"] == "FILLED":
            ordered = Decimal(fills[-1]["attributes"]["trading.order.quantity"])
            assert sum(fill["quantity"] for fill in fills) == ordered


def test_a_stop_and_a_target_are_children_of_their_entry_and_one_cancels_the_other(
    host: Traced,
) -> None:
    portfolio, _ = host.named("brackets")
    legs = {
        order_id: events
        for order_id, events in orders_of(host, portfolio).items()
        if events[0]["attributes"].get("trading.order.parent_id")
    }
    reasons = Counter(events[0]["attributes"]["trading.order.reason"] for events in legs.values())
    assert reasons.keys() == {"stop_loss", "take_profit"}
    by_entry = [e for e in legs.values() if host.parent(e[0])["event_type"] == "FILL"]
    moved = [e for e in legs.values() if host.parent(e[0])["handler"] == "Brackets.next"]
    assert len(by_entry) > 40
    assert moved
    assert len(by_entry) + len(moved) == len(legs)
    ends: Counter[str] = Counter()
    for events in legs.values():
        end = events[-1]
        cause = host.parent(end)
        if end["status"] == "CANCELED" and cause["event_type"] == "FILL":
            assert cause["client_order_id"] != end["client_order_id"]
            ends["by a fill"] += 1
            position = [
                host.by_id[child["span_id"]]
                for child in host.of(portfolio, "POSITION_CLOSE")
                if child["parent_span_id"] == cause["span_id"]
            ]
            assert len(position) == 1
        else:
            ends[end["status"]] += 1
    assert min(ends["by a fill"], ends["FILLED"], ends["CANCELED"]) > 0


def test_a_part_that_is_closed_makes_the_legs_smaller(host: Traced) -> None:
    portfolio, _ = host.named("brackets")
    changes = [row for row in host.of(portfolio, "ORDER") if row["status"] == "UPDATED"]
    assert changes
    for row in changes:
        fill = host.parent(row)
        left = [p for p in host.of(portfolio, "POSITION_CHANGE")
                if p["parent_span_id"] == fill["span_id"]]  # fmt: skip
        sizes = [p["attributes"]["trading.position.quantity"] for p in left]
        assert sizes == [row["quantity"]]


def test_an_order_for_what_is_closed_already_ends_under_the_fill_that_closed_it(
    host: Traced,
) -> None:
    portfolio, _ = host.named("brackets")
    late = [
        row
        for row in host.of(portfolio, "ORDER")
        if row["attributes"].get("trading.order.reject.reason") == "the trade was closed already"
    ]
    assert late
    assert {host.parent(row)["event_type"] for row in late} == {"FILL"}


def test_what_a_strategy_cancels_hangs_under_its_handler(host: Traced) -> None:
    portfolio, _ = host.named("brackets")
    entries = [
        events
        for events in orders_of(host, portfolio).values()
        if "trading.order.reduce_only" not in events[0]["attributes"]
    ]
    cancelled = [events[-1] for events in entries if events[-1]["status"] == "CANCELED"]
    assert cancelled
    assert {host.parent(row)["handler"] for row in cancelled} == {"Brackets.next"}
    kinds = {events[0]["order_type"] for events in entries}
    assert kinds == {"MARKET", "LIMIT", "STOP_MARKET", "STOP_LIMIT"}
    assert "TRIGGERED" in {row["status"] for row in host.of(portfolio, "ORDER")}


def test_what_an_exclusive_order_closes_hangs_under_it(host: Traced) -> None:
    portfolio, run = host.named("cross")
    closing = [
        row
        for row in host.of(portfolio, "ORDER")
        if row["attributes"].get("trading.order.reason") == "exclusive_orders"
    ]
    assert len(closing) == len(run["trades"])
    for row in closing:
        assert host.parent(row)["status"] == "NEW"
        assert host.parent(host.parent(row))["handler"] == "SmaCross.next"


def test_sizes_are_units_or_a_part_of_the_equity(host: Traced) -> None:
    portfolio, _ = host.named("brackets")
    new = [
        row
        for row in host.of(portfolio, "ORDER")
        if row["status"] == "NEW" and "trading.order.reduce_only" not in row["attributes"]
    ]
    asked = {
        (row["quantity"], row["attributes"].get("trading.order.equity_fraction")) for row in new
    }
    assert asked == {(7, None), (None, 0.4)}
    assert {row["attributes"]["trading.order.tag"][:-1] for row in new} == {"bracket "}


def test_the_end_of_a_run_closes_what_is_open_because_of_the_last_bar(host: Traced) -> None:
    portfolio, _ = host.named("hedged")
    (end,) = [
        row for row in host.of(portfolio, "SYSTEM") if row["handler"] == "Backtest.finalize_trades"
    ]
    assert host.parent(end)["event_type"] == "BAR"
    orders = [row for row in host.of(portfolio, "ORDER") if row["parent_span_id"] == end["span_id"]]
    assert {row["attributes"]["trading.order.reason"] for row in orders} == {"end of run"}
    assert len(host.of(portfolio, "BAR")) == len(
        {b["event_time"] for b in host.of(portfolio, "BAR")}
    )


def test_a_ruin_is_a_breach_whose_fills_follow_from_it_and_leaves_nothing(host: Traced) -> None:
    portfolio, run = host.named("ruined")
    (breach,) = host.of(portfolio, "RISK_BREACH")
    assert breach["attributes"]["trading.risk.rule"] == "out_of_money"
    assert host.parent(breach)["event_type"] == "BAR"
    forced = [
        row for row in host.of(portfolio, "FILL") if row["parent_span_id"] == breach["span_id"]
    ]
    assert len(forced) == len(run["trades"]) == 3
    assert len(run["open_trades"]) == 2  # the engine passes over every other trade
    (written_off,) = host.of(portfolio, "CASH_FLOW")
    assert float(written_off["attributes"]["trading.cash_flow.amount"]) > 0


def test_signals_of_the_library_are_recorded_and_lead_to_its_orders_alone(host: Traced) -> None:
    portfolio, run = host.named("signals")
    signals = host.of(portfolio, "SIGNAL")
    named = Counter(row["attributes"]["trading.signal.name"] for row in signals)
    assert named.keys() == {"entry size", "exit portion"}
    led = {row["span_id"]: row for row in signals}
    orders = [row for row in host.of(portfolio, "ORDER") if row["parent_span_id"] in led]
    assert len(orders) == named["entry size"] + sum(
        "trading.order.reduce_only" in row["attributes"] for row in orders
    )
    entries, _ = fills_of(host, portfolio)
    assert len(entries) == len(run["trades"]) + len(run["open_trades"])
    for entry in entries:
        assert host.parent(host.parent(entry))["span_id"] in led
    trailed = [
        row
        for row in host.of(portfolio, "ORDER")
        if row["attributes"].get("trading.order.reason") == "stop_loss"
    ]
    assert len(trailed) > 50
    assert not {row["parent_span_id"] for row in trailed} & led.keys()


def test_fractions_are_told_in_wholes(host: Traced) -> None:
    portfolio, run = host.named("fractions")
    _, exits = fills_of(host, portfolio)
    told = sorted(abs(float(trade["Size"])) for trade in run["trades"])
    assert sorted(float(row["quantity"]) for row in exits) == pytest.approx(told, rel=1e-15)
    assert max(float(bar["high"]) for bar in host.of(portfolio, "BAR")) == pytest.approx(108_364)


def test_periods_have_no_times(host: Traced) -> None:
    portfolio, run = host.named("periods")
    assert run["trades"]
    assert {row["event_time"] for row in host.spans if row["portfolio"] == portfolio} == {None}


# -- Attaching and letting go ----------------------------------------------------------------------


def everything(engine: Any) -> dict[tuple[str, str, str], Any]:
    """Every attribute of every module and class of the engine."""
    found = {}
    for name, module in sorted(sys.modules.items()):
        if name == "backtesting" or name.startswith("backtesting."):
            for key, value in vars(module).items():
                found[name, "", key] = value
                if isinstance(value, type) and value.__module__ == name:
                    found |= {(name, key, k): v for k, v in vars(value).items()}
    return found


def same(before: dict[Any, Any], after: dict[Any, Any]) -> bool:
    return before.keys() == after.keys() and all(before[key] is after[key] for key in before)


def test_uninstrument_puts_back_the_very_objects_also_after_a_run(
    hosts: None, tmp_path: Path
) -> None:
    engine = importlib.import_module("backtesting")
    orders = importlib.import_module("backtesting_orders")
    before = everything(engine)
    BacktestingInstrumentor().instrument()
    BacktestingInstrumentor().instrument()
    assert not same(before, everything(engine))
    with Tracing("twice", data=tmp_path, writer="inline"):
        engine.Backtest(share(200), orders.Swing, finalize_trades=True).run()
    BacktestingInstrumentor().uninstrument()
    BacktestingInstrumentor().uninstrument()
    assert same(before, everything(engine))
    spans = spans_of(tmp_path)
    fills = [row["fill_id"] for row in spans if row["event_type"] == "FILL"]
    assert fills
    assert len(set(fills)) == len(fills)


def share(bars: int = 58) -> Any:
    return importlib.import_module("backtesting.test").GOOG.iloc[:bars]


def test_a_backtest_that_was_made_before_is_traced_and_its_result_pickles(
    hosts: None, tmp_path: Path
) -> None:
    engine = importlib.import_module("backtesting")
    orders = importlib.import_module("backtesting_orders")
    backtest = engine.Backtest(share(), orders.Swing, finalize_trades=True)
    alone = backtest.run()
    BacktestingInstrumentor().instrument()
    try:
        with Tracing("early", data=tmp_path, writer="inline"):
            traced = backtest.run()
    finally:
        BacktestingInstrumentor().uninstrument()
    fields = [name for name in alone.index if not name.startswith("_")]
    assert traced[fields].equals(alone[fields])
    again = pickle.loads(pickle.dumps(traced))  # noqa: S301 - our own
    assert again["_trades"].equals(alone["_trades"])
    assert vars(traced._strategy).keys() == vars(alone._strategy).keys()
    assert vars(traced._strategy._broker).keys() == vars(alone._strategy._broker).keys()
    assert sum(row["event_type"] == "FILL" for row in spans_of(tmp_path)) == 2 * len(alone._trades)


def strategy(engine: Any, act: Callable[[Any], None]) -> Any:
    """A strategy that buys at every tenth bar and closes five later, and does one thing more."""

    class Acting(engine.Strategy):
        def init(self) -> None:
            pass

        def next(self) -> None:
            if len(self.data) % 10 == 0:
                self.buy(size=1)
            elif len(self.data) % 10 == 5:
                self.position.close()
            if len(self.data) == 32:
                act(self)

    return Acting


def test_uninstrumenting_in_the_middle_of_a_run_leaves_it_alone(
    engine: Any, tmp_path: Path
) -> None:
    def let_go(_: Any) -> None:
        BacktestingInstrumentor().uninstrument()

    acting = strategy(engine, let_go)
    with Tracing("part", data=tmp_path, writer="inline"):
        stats = engine.Backtest(share(), acting, finalize_trades=True).run()
    assert len(stats._trades) == 5
    fills = [row for row in spans_of(tmp_path) if row["event_type"] == "FILL"]
    assert len(fills) == 5


def test_a_session_that_ends_in_the_middle_of_a_run_leaves_it_alone(
    engine: Any, tmp_path: Path
) -> None:
    session = Tracing("part", data=tmp_path, writer="inline").start()
    acting = strategy(engine, lambda _: session.stop())
    stats = engine.Backtest(share(), acting, finalize_trades=True).run()
    assert len(stats._trades) == 5
    assert sum(row["event_type"] == "FILL" for row in spans_of(tmp_path)) == 5


def test_a_backtest_within_a_backtest_has_books_of_its_own(engine: Any, tmp_path: Path) -> None:
    inner: list[Any] = []

    def run_another(_: Any) -> None:
        other = strategy(engine, lambda _: None)
        inner.append(engine.Backtest(share(35), other, finalize_trades=True).run())

    with Tracing("nested", data=tmp_path, writer="inline"):
        outer = engine.Backtest(share(), strategy(engine, run_another), finalize_trades=True).run()
    fills = Counter(row["portfolio"] for row in spans_of(tmp_path) if row["event_type"] == "FILL")
    assert fills == {"default": 2 * len(outer._trades), "default/2": 2 * len(inner[0]._trades)}


def test_a_strategy_may_copy_and_pickle_itself_while_it_runs(engine: Any, tmp_path: Path) -> None:
    copy = importlib.import_module("copy")
    copies: list[Any] = []

    def copy_all(host: Any) -> None:
        copies.append(copy.deepcopy(host._broker))
        copies.append(pickle.loads(pickle.dumps(host._broker)))  # noqa: S301 - our own

    with Tracing("copied", data=tmp_path, writer="inline"):
        engine.Backtest(share(), strategy(engine, copy_all), finalize_trades=True).run()
    assert [len(one.closed_trades) for one in copies] == [2, 2]


def test_a_sweep_in_threads_gives_the_same_with_books_for_each_run(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the engine does it where processes cannot be forked."""
    monkeypatch.setattr(engine, "Pool", importlib.import_module("multiprocessing.dummy").Pool)
    orders = importlib.import_module("backtesting_orders")
    backtest = engine.Backtest(share(150), orders.Paced, finalize_trades=True)
    sweep = {"pace": [7, 9, 11, 13], "return_heatmap": True, "maximize": "Equity Final [$]"}
    with Tracing("threads", data=tmp_path, writer="inline"):
        best, heatmap = backtest.optimize(**sweep)
    spans = spans_of(tmp_path)
    BacktestingInstrumentor().uninstrument()
    assert backtest.optimize(**sweep)[1].equals(heatmap)
    ends = {}
    for row in spans:
        if row["event_type"] == "PORTFOLIO":
            (balance,) = row["attributes"]["trading.account.balances"]
            ends[row["portfolio"]] = balance["total"]
    assert sorted(ends.values()) == pytest.approx(
        sorted([*heatmap, best["Equity Final [$]"]]), abs=1e-8
    )


def test_data_say_their_symbol_currency_and_zone_and_need_no_volume(
    engine: Any, tmp_path: Path
) -> None:
    data = share().drop(columns="Volume").tz_localize("America/New_York")
    data.attrs |= {"symbol": "GOOG", "currency": "EUR"}
    orders = importlib.import_module("backtesting_orders")
    with Tracing("named", data=tmp_path, writer="inline"):
        engine.Backtest(data, orders.Paced, finalize_trades=True).run()
    spans = spans_of(tmp_path)
    fills = [row for row in spans if row["event_type"] == "FILL"]
    assert {(row["symbol"], row["currency"]) for row in fills} == {("GOOG", "EUR")}
    bars = [row for row in spans if row["name"] == "publish BAR"]
    assert [row["event_time"] for row in bars] == [int(time.value) for time in data.index[1:]]
    assert not any("trading.bar.volume" in row["attributes"] for row in bars)


class Unspeakable:
    """A name that cannot be printed, nor asked whether it is one, as `pandas.NA` cannot."""

    def __bool__(self) -> bool:
        raise TypeError("boolean value is ambiguous")

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_names_that_cannot_be_printed_do_not_reach_the_host(engine: Any, tmp_path: Path) -> None:
    data = share()
    data.attrs |= {"symbol": Unspeakable(), "currency": Unspeakable()}
    acting = importlib.import_module("backtesting_orders").Paced
    with Tracing("odd", data=tmp_path, writer="inline"):
        stats = engine.Backtest(data, acting, finalize_trades=True).run()
    fills = [row for row in spans_of(tmp_path) if row["event_type"] == "FILL"]
    assert len(fills) == 2 * len(stats._trades) == 10
    assert {(row["symbol"], row["currency"]) for row in fills} == {
        ("<Unspeakable>", "<Unspeakable>")
    }


def test_a_data_folder_that_cannot_be_written_is_warned_of_once(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FILLPATH_DATA", str(tmp_path / "file" / "data"))
    acting = importlib.import_module("backtesting_orders").Paced
    for _ in range(2):
        assert len(engine.Backtest(share(), acting, finalize_trades=True).run()._trades) == 5
    assert caplog.text.count("goes untraced") == 1


def test_an_error_of_a_commission_is_recorded_and_reaches_the_host(
    engine: Any, tmp_path: Path
) -> None:
    def charge(size: float, price: float) -> float:
        raise ZeroDivisionError("nothing to charge")

    acting = strategy(engine, lambda _: None)
    session = Tracing("charged", data=tmp_path, writer="inline")
    with session, pytest.raises(ZeroDivisionError, match="nothing to charge"):
        engine.Backtest(share(), acting, commission=charge).run()
    failed = [row for row in spans_of(tmp_path) if row["status_message"] == "nothing to charge"]
    assert [row["handler"] for row in failed] == ["Backtest.run"]


def test_what_cannot_be_run_fails_as_it_does_untraced(engine: Any, tmp_path: Path) -> None:
    acting = strategy(engine, lambda _: None)
    with Tracing("wrong", data=tmp_path, writer="inline"):
        with pytest.raises(AttributeError, match="missing parameter 'speed'"):
            engine.Backtest(share(), acting).run(speed=3)
        with pytest.raises(AssertionError, match="margin should be between 0 and 1"):
            engine.Backtest(share(), acting, margin=3).run()
        assert len(engine.Backtest(share(), acting, finalize_trades=True).run()._trades) == 5


def test_a_release_whose_broker_is_built_otherwise_is_left_alone(
    hosts: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = importlib.import_module("backtesting.backtesting")
    monkeypatch.setattr(engine._Broker, "_process_orders", lambda self: None)
    before = everything(engine)
    BacktestingInstrumentor().instrument()
    assert same(before, everything(engine))
    assert not BacktestingInstrumentor().is_instrumented_by_opentelemetry
    assert ">=0.6,<0.7" in caplog.text


@pytest.mark.full
def test_the_plot_is_drawn_afterwards(engine: Any, tmp_path: Path) -> None:
    orders = importlib.import_module("backtesting_orders")
    backtest = engine.Backtest(share(200), orders.Swing, finalize_trades=True)
    with Tracing("plotted", data=tmp_path / "data", writer="none"):
        backtest.run()
        backtest.plot(filename=str(tmp_path / "plot.html"), open_browser=False)
    assert (tmp_path / "plot.html").stat().st_size > 10_000


# -- As a user runs it -----------------------------------------------------------------------------


def run_host(host: str, report: Path, *before: str, ends_with: int = 0) -> str:
    script = str(HOSTS / f"{host}.py")
    command = [*before, script, str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ends_with, done.stderr[-3000:]
    return report.read_text(encoding="utf-8")


def test_an_error_in_a_strategy_is_on_its_handler_and_the_run_counts_as_crashed(
    hosts: None, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    recording = ["-m", "fillpath.instrumentation", "--run-id", "host", "--writer", "none"]
    traced = run_host("backtesting_user_error", report, sys.executable, *recording, ends_with=1)
    with pytest.raises(Exception, match="only 45 bars"):
        in_process("backtesting_user_error", tmp_path)
    assert report.read_text(encoding="utf-8") == traced
    data = tmp_path / "data"
    (run,) = rows_of(data, "select status, error from runs")
    assert run["status"] == "Crashed"
    assert "only 45 bars" in run["error"]
    spans = spans_of(data)
    (failed,) = [row for row in spans if row["status_code"] == "ERROR"]
    assert failed["handler"] == "Careless.next"
    assert failed["status_message"] == "only 45 bars"
    assert [row["status"] for row in spans if row["parent_span_id"] == failed["span_id"]] == [
        "NEW", "NEW", "NEW",
    ]  # fmt: skip


def test_the_plain_attributes_of_the_strategys_class_are_the_runs_parameters(
    engine: Any, tmp_path: Path
) -> None:
    class Base(engine.Strategy):
        days, share = 5, np.float64(0.25)
        since = dt.date(2024, 1, 1)
        api_key = "as it is"
        _own = 3

        def init(self) -> None:
            self.later = 7

    class Own(Base):
        days = 9
        helper = staticmethod(len)
        prices: ClassVar = [1, 2]

        def next(self) -> None:
            pass

        @property
        def held(self) -> Any:
            return self.position

    with Tracing("run", data=tmp_path, writer="inline"):
        engine.Backtest(share(), Own).run(share=0.5)
    (row,) = rows_of(tmp_path, "select parameters from runs")
    told = json.loads(row["parameters"])
    assert told == {"days": 9, "share": 0.5, "since": "2024-01-01"}


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"  # the pool forks this one
)
def test_a_sweep_over_processes_gives_the_same_and_each_run_is_recorded_with_its_parameters(
    hosts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = in_process("backtesting_sweep", tmp_path)
    instrument = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    for signal in ("TRACES", "METRICS", "LOGS"):
        monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "none")
    monkeypatch.setenv("FILLPATH_WRITER", "none")
    monkeypatch.setenv("FILLPATH_RUN_ID", "host")
    traced = run_host("backtesting_sweep", tmp_path / "traced.json", instrument, sys.executable)
    assert traced == plain
    monkeypatch.delenv("FILLPATH_RUN_ID")
    runs = rows_of(tmp_path / "data", "select run_id, parameters, engine, status from runs")
    parameters = {row["run_id"]: json.loads(row["parameters"]) for row in runs}
    best = parameters.pop("host")
    swept = sorted((given["fast"], given["slow"]) for given in parameters.values())
    assert swept == [*[(4, 30)] * 2, (5, 20), (5, 30), (10, 20), (10, 30), (15, 20), (15, 30)]
    assert (best["fast"], best["slow"]) in swept[2:]
    assert {row["engine"] for row in runs} == {"backtesting.py"}
    assert {row["status"] for row in runs} == {"Ended"}
    fills = [row for row in spans_of(tmp_path / "data") if row["event_type"] == "FILL"]
    assert {row["symbol"] for row in fills} == {"GOOG", "ASSET"}
    (told,) = [run for run in json.loads(plain)["runs"] if run["name"] == "best"]
    assert sum(row["run_id"] == "host" for row in fills) == 2 * len(told["trades"])


def test_the_examples_of_the_page_do_what_it_says(
    hosts: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (HOSTS.parents[1] / "docs" / "backtesting.md").read_text(encoding="utf-8")
    lines, example = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    try:
        with Tracing("goog", data=tmp_path / "data", writer="inline"):
            exec(lines + example, {"__name__": "__main__"})  # noqa: S102 - our own page
    finally:
        BacktestingInstrumentor().uninstrument()
    printed = capsys.readouterr().out
    spans = {row["fill_id"]: row for row in spans_of(tmp_path / "data") if row["fill_id"]}
    shown = re.search(r"FILL  SELL (\d+) GOOG @ ([\d.]+)  commission ([\d.]+) USD", page)
    assert shown is not None
    told = spans["F-4"]
    said = [float(told[name]) for name in ("quantity", "price", "commission")]
    assert said == pytest.approx([float(number) for number in shown.groups()], rel=1e-12)
    with EventStore(DataFolder(tmp_path / "data")).connect(["goog"]) as connection:
        (account,) = compute_ledger(connection, "goog").accounts
    assert account.status is ReconciliationStatus.RECONCILED
    assert account.end is not None
    assert float(account.end) == pytest.approx(float(printed), abs=1e-8)
