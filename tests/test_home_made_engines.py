"""Home-made engines trade the same when they are traced, and their money is all there.

One is a queue and a loop, one an asynchronous bus with observers: wrapped, heard only, and both.
Their own books are the oracle.
"""

from __future__ import annotations

import json
import queue
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.reconciliation import ReconciliationStatus
from fillpath.analytics.results_rows import RunResults, compute_results
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import BusObserver, TracedEventBus, Tracing
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent / "hosts"))

import observed_async_bus
import queue_loop_engine
from paper_trading import DAYS, SYMBOLS, Trade

Row = dict[str, Any]


def loop() -> Any:
    return queue_loop_engine.Engine(TracedEventBus(queue.Queue()))


def wrapped_bus() -> Any:
    return observed_async_bus.Engine(TracedEventBus(observed_async_bus.Bus()))


def heard_bus() -> Any:
    return observed_async_bus.Engine(observed_async_bus.Bus([BusObserver()]))


def wrapped_and_heard_bus() -> Any:
    bus = observed_async_bus.Bus([BusObserver()])
    return observed_async_bus.Engine(TracedEventBus(bus))


UNTRACED: dict[Callable[[], Any], Callable[[], Any]] = {
    loop: queue_loop_engine.Engine,
    wrapped_bus: observed_async_bus.Engine,
    heard_bus: observed_async_bus.Engine,
    wrapped_and_heard_bus: observed_async_bus.Engine,
}


@dataclass
class Traced:
    """An engine that has traded, the same one untraced, and what the lake has of the first."""

    engine: Any
    untraced: Any
    spans: list[Row]
    results: RunResults
    is_wrapped: bool

    def of(self, kind: str) -> list[Row]:
        return [row for row in self.spans if row["event_type"] == kind]

    def path(self, span: Row) -> list[str]:
        """Kinds of the event's ancestors, from the nearest on, without handlers' runs."""
        by_id = {row["span_id"]: row for row in self.spans}
        path = []
        while span["parent_span_id"] is not None:
            span = by_id[span["parent_span_id"]]
            if span["span_kind"] == "PRODUCER":
                path.append(span["event_type"])
        return path

    def trades(self) -> list[Trade]:
        """The engine's own list."""
        return [trade for account in self.engine.accounts.values() for trade in account.trades]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(each, marks=[pytest.mark.full] * (each is wrapped_bus)) for each in UNTRACED
    ],
    ids=lambda build: build.__name__,
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    build: Callable[[], Any] = request.param
    data = tmp_path_factory.mktemp("data")
    untraced = UNTRACED[build]()
    untraced.run()
    with Tracing("run", data=data, writer="inline"):
        engine = build()
        engine.run()
    with EventStore(DataFolder(data)).connect(["run"]) as connection:
        relation = connection.sql("select * from spans order by sequence")
        spans = [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
        results = compute_results(connection, "run")
    return Traced(engine, untraced, spans, results, build is not heard_bus)


def test_it_trades_as_without(run: Traced) -> None:
    assert run.engine.accounts == run.untraced.accounts
    assert run.engine.failures == run.untraced.failures > 0


def test_the_host_has_what_makes_it_hard(run: Traced) -> None:
    orders = Counter((t.portfolio, t.order_id) for t in run.trades())
    assert max(orders.values()) > 1  # partial fills
    assert {order for _, order in orders} & {order for name, order in orders if "two" in name}
    for account in run.engine.accounts.values():
        assert account.refused
        assert any(account.held.values())  # at the end
        held, ever = Counter[tuple[str, str]](), set()
        for trade in account.trades:
            key = (trade.strategy, trade.symbol)
            before = held[key]
            held[key] += trade.quantity if trade.side == "BUY" else -trade.quantity
            ever |= {"short" if held[key] < 0 else "long"} | (
                {"flip"} if before * held[key] < 0 else set()
            )
        assert ever == {"short", "long", "flip"}


def test_every_order_and_fill_has_its_cause(run: Traced) -> None:
    assert {tuple(run.path(order)) for order in run.of("ORDER")} == {("SIGNAL", "BAR")}
    fills = run.of("FILL")
    assert {tuple(run.path(fill)) for fill in fills} == {("ORDER", "SIGNAL", "BAR")}
    # The price that filled what had rested is linked.
    assert {len(json.loads(fill["links"])) for fill in fills} == {0, 1}
    assert all(run.path(row)[0] == "FILL" for row in run.of("PORTFOLIO"))
    assert all(run.path(row) == ["BAR"] for row in run.of("SIGNAL"))


def test_no_price_has_a_cause(run: Traced) -> None:
    bars = run.of("BAR")
    assert len(bars) == DAYS * len(SYMBOLS)
    assert {row["parent_span_id"] for row in bars} == {None}
    assert len({row["trace_id"] for row in bars}) == len(bars)


def test_the_handlers_are_named_by_what_they_are(run: Traced) -> None:
    handlers = {
        (row["name"].removeprefix("process "), row["handler"])
        for row in run.spans
        if row["handler"]
    }
    if run.engine.__class__ is queue_loop_engine.Engine:
        assert handlers == {
            ("BAR", "Broker.on_bar"),
            ("BAR", "Strategy.calculate_signals"),
            ("SIGNAL", "Desk.update_signal"),
            ("ORDER", "Broker.execute_order"),
            ("FILL", "Desk.update_fill"),
        }
    elif run.is_wrapped:
        assert handlers == {
            ("BAR", "Engine.on_bar"),
            ("BAR", "Strategy"),
            ("SIGNAL", "Engine.on_signal"),
            ("ORDER", "Engine.on_order"),
            ("FILL", "Engine.on_fill"),
            ("FILL", "Engine.audit"),
        }
    else:
        assert handlers == {("FILL", "Engine.audit")}


def test_a_failure_is_recorded_once_where_a_handler_is_known(run: Traced) -> None:
    failed = [row for row in run.spans if row["status_code"] == "ERROR"]
    if run.engine.__class__ is queue_loop_engine.Engine:
        assert failed == []  # the loop caught it; nobody was told
    else:
        assert len(failed) == run.engine.failures
        assert {row["handler"] for row in failed} == {"Engine.audit"}


def test_the_fills_are_the_hosts_own_list(run: Traced) -> None:
    keys = (
        "portfolio",
        "strategy",
        "symbol",
        "client_order_id",
        "side",
        "quantity",
        "price",
        "commission",
    )
    spans = [tuple(row[key] for key in keys) for row in run.of("FILL")]
    own = [
        (t.portfolio, t.strategy, t.symbol, t.order_id, t.side, t.quantity, t.price, t.commission)
        for t in run.trades()
    ]
    assert Counter(spans) == Counter(own)


def test_an_order_stands_as_it_was_when_it_was_published(run: Traced) -> None:
    submitted = [row for row in run.of("ORDER") if row["status"] == "SUBMITTED"]
    refused = [row for row in run.of("ORDER") if row["status"] == "REJECTED"]
    assert {row["quantity"] > 0 for row in submitted} == {True}
    assert len(refused) == sum(account.refused for account in run.engine.accounts.values())


def test_the_profit_is_the_hosts_own(run: Traced) -> None:
    accounts = {account.portfolio: account for account in run.results.ledger.accounts}
    assert set(accounts) == set(run.engine.accounts)
    for name, own in run.engine.accounts.items():
        account = accounts[name]
        assert account.status is ReconciliationStatus.RECONCILED
        assert account.difference == 0
        table = run.results.tables["pnl_slices"]
        slices = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        total = sum((row["amount"] for row in slices if row["portfolio"] == name), Decimal())
        assert total == own.equity(run.engine.last) - 100_000


def test_times_are_understood(run: Traced) -> None:
    times = [row["event_time"] for row in run.of("BAR")]
    first, day = 1_704_229_200 * 10**9, 86_400 * 10**9
    assert times == [first + number // 2 * day for number in range(DAYS * 2)]
