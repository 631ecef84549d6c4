"""What orders cost, against a recomputation in plain loops from the engine's own log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.order_causes import make_order_causes
from fillpath.analytics.order_reasons import order_reasons
from fillpath.analytics.results_rows import compute_results
from fillpath.analytics.shard_load import TableRows
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.semconv import Bar, CorporateAction, Fill, Order, Signal, Tick
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from random_trading import RandomTrading, record_random_trading
from shortfall_by_hand import costs_by_hand

D = Decimal
Row = dict[str, Any]


def results(data: Path, run_id: str = "run") -> dict[str, list[Row]]:
    with EventStore(DataFolder(data)).connect([run_id], further_views=()) as connection:
        tables = compute_results(connection, run_id).tables
    return {name: by_column(table) for name, table in tables.items()}


def by_column(table: TableRows) -> list[Row]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 6))]
)
def test_prices_and_costs_are_those_of_a_recomputation_from_the_log(
    seed: int, tmp_path: Path
) -> None:
    log = record_random_trading(tmp_path, "run", seed)
    rows = results(tmp_path)["executions"]
    assert {row["client_order_id"] for row in rows} == {
        event.attributes[Order.CLIENT_ID] for event in log if event.kind == "ORDER"
    }
    for row in rows:
        wanted = costs_by_hand(log, row["client_order_id"])
        assert {name: row[name] for name in wanted} == wanted, row["client_order_id"]


def test_nothing_later_than_an_event_changes_the_price_it_was_decided_at(tmp_path: Path) -> None:
    whole = record_random_trading(tmp_path / "whole", "run", 3, steps=60)
    part = record_random_trading(tmp_path / "part", "run", 3, steps=30)
    assert whole[: len(part)] == part
    rows = {row["client_order_id"]: row for row in results(tmp_path / "whole")["executions"]}
    for row in results(tmp_path / "part")["executions"]:
        for name in ("decision_price", "arrival_price", "decision_time"):
            assert rows[row["client_order_id"]][name] == row[name]


def test_without_market_data_prices_and_costs_are_unknown_and_not_zero(tmp_path: Path) -> None:
    log = record_random_trading(tmp_path, "run", 5, steps=60, with_market=False)
    rows = results(tmp_path)
    told = {
        event.attributes[Order.CLIENT_ID]: D(event.attributes[Order.DECISION_PRICE])
        for event in log
        if Order.DECISION_PRICE in event.attributes
    }
    assert told
    for row in rows["executions"]:
        if row["order_type"] != "MARKET":
            continue  # it may have a price of its own
        assert row["decision_price"] == told.get(row["client_order_id"])
        unknown = ("arrival_price", "last_price", "delay_cost", "impact_cost", "slippage")
        assert {row[name] for name in unknown} == {None}
        if row["client_order_id"] not in told:
            assert row["opportunity_cost"] is None
            assert row["shortfall"] is None
    assert rows["trades"]
    for trade in rows["trades"]:
        assert trade["best_price"] is trade["favourable_excursion"] is None
    assert any(trade["shortfall"] is None for trade in rows["trades"])


class Desk:
    """Publishes what a test says, in order, into a run."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.tracing = Tracing("run", data=data, writer="inline", portfolio="fund/desk")
        self.tracing.__enter__()
        self.trading = RandomTrading(self.tracing, 0, portfolio="fund/desk")

    def market(self, kind: str = "TICK", **numbers: str) -> int:
        keys = {"price": Tick.PRICE, "bid": Tick.BID, "ask": Tick.ASK, "close": Bar.CLOSE}
        keys |= {"high": Bar.HIGH, "low": Bar.LOW}
        self.trading.time += 1_000_000_000
        attributes = {keys[name]: number for name, number in numbers.items()}
        return self.trading.publish(kind, "ACME", attributes)

    def say(self, kind: str, cause: int | None, **told: Any) -> int:
        return self.trading.publish(kind, "ACME", told["attributes"], cause=cause, strategy="S")

    def order(self, cause: int | None, status: str = "ACCEPTED", **told: Any) -> int:
        keys = {"id": Order.CLIENT_ID, "side": Order.SIDE, "type": Order.TYPE}
        keys |= {"quantity": Order.QUANTITY, "reason": Order.REASON, "parent": Order.PARENT_ID}
        keys |= {"trigger": Order.TRIGGER_PRICE, "price": Order.PRICE}
        keys |= {"reduce_only": Order.REDUCE_ONLY, "links": Order.LINKED_IDS}
        attributes = {keys[name]: value for name, value in told.items()}
        return self.say("ORDER", cause, attributes={**attributes, Order.STATUS: status})

    def fill(
        self, cause: int | None, name: str, side: str, quantity: str, price: str, **more: Any
    ) -> int:
        attributes = {
            Order.CLIENT_ID: name,
            Order.SIDE: side,
            Fill.QUANTITY: quantity,
            Fill.PRICE: price,
            Fill.CURRENCY: "USD",
            **more,
        }
        return self.say("FILL", cause, attributes=attributes)

    def rows(self) -> dict[str, list[Row]]:
        for event in reversed(self.trading.opened):
            self.tracing.tracer.close(event)
        self.tracing.__exit__(None, None, None)
        return results(self.data)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.tracing.stop()


def test_perolds_shortfall_of_a_textbook_order(desk: Desk) -> None:
    """Decided at 50.00; 1,000 to buy; arrives at 50.10; 800 at 50.25, 10 paid; the rest at 50.60.

    On paper 1,000 shares at 50.00 are worth 600 more at 50.60. The real portfolio has 800 shares
    that cost 40,200 and 10, and are worth 40,480: 270 more. The shortfall is 330: 80 by the delay,
    120 by the market's answer, 10 of commission, and 120 by the 200 shares that were not bought.
    """
    bar = desk.market("BAR", close="50.00")
    signal = desk.say("SIGNAL", bar, attributes={Signal.NAME: "value", Signal.STRENGTH: 0.8})
    made = desk.order(signal, "INITIALIZED", id="O-1", side="BUY", type="LIMIT", quantity="1000")
    desk.market(bid="50.05", ask="50.15")
    accepted = desk.order(made, id="O-1", side="BUY", type="LIMIT", quantity="1000")
    desk.market(price="50.40")
    paid = {Fill.COMMISSION: "10", Fill.COMMISSION_CURRENCY: "USD"}
    desk.fill(accepted, "O-1", "BUY", "800", "50.25", **paid)
    desk.market(price="50.60")
    desk.order(accepted, "CANCELED", id="O-1", side="BUY", type="LIMIT", quantity="1000")
    desk.market(price="70")
    (row,) = desk.rows()["executions"]
    assert (row["decision_price"], row["arrival_price"]) == (D("50"), D("50.1"))
    assert (row["average_price"], row["last_price"]) == (D("50.25"), D("50.6"))
    parts = [row[name] for name in ("delay_cost", "impact_cost", "commission", "opportunity_cost")]
    assert parts == [80, 120, 10, 120]
    on_paper = 1000 * (D("50.60") - D("50.00"))
    real = 800 * D("50.60") - 800 * D("50.25") - 10
    assert row["shortfall"] == on_paper - real == sum(parts)
    assert row["slippage"] == pytest.approx(15 / 50.1 * 100)
    assert row["signal"] == "value"
    assert row["signal_strength"] == 0.8
    assert all(row[hop] >= 0 for hop in ("market_to_signal", "signal_to_order", "ack_to_fill"))


def test_a_stop_was_decided_at_its_trigger_and_a_leg_at_its_limit(desk: Desk) -> None:
    signal = desk.say("SIGNAL", desk.market(price="100"), attributes={Signal.VALUE: 1})
    stop = {"type": "TRAILING_STOP_MARKET", "side": "SELL", "quantity": "10", "parent": "entry"}
    entry = desk.order(signal, id="entry", type="MARKET", side="BUY", quantity="20")
    desk.fill(entry, "entry", "BUY", "20", "100.1")
    stopped = desk.order(signal, id="stop", trigger="95", **stop)
    target = {"type": "LIMIT", "side": "SELL", "quantity": "10", "parent": "entry"}
    limit = desk.order(signal, id="limit", price="120", **target)
    desk.market(price="121")
    desk.fill(limit, "limit", "SELL", "10", "120.5")
    stopped = desk.order(stopped, "UPDATED", id="stop", trigger="110", **stop)
    desk.market(price="109")
    desk.fill(stopped, "stop", "SELL", "10", "109")
    tables = desk.rows()
    rows = {row["client_order_id"]: row for row in tables["executions"]}
    assert [rows[name]["decision_price"] for name in ("entry", "stop", "limit")] == [100, 110, 120]
    assert [rows[name]["impact_cost"] for name in ("entry", "stop", "limit")] == [2, 10, -5]
    assert [rows[name]["delay_cost"] for name in ("entry", "stop", "limit")] == [0, 0, 0]
    (trade,) = tables["trades"]
    assert (trade["shortfall"], trade["exit_decision_price"]) == (7, 115)


def test_what_was_not_to_be_filled_is_no_missed_opportunity(desk: Desk) -> None:
    bar = desk.market(price="10")
    entry = desk.order(bar, id="entry", side="BUY", type="LIMIT", quantity="1", price="9")
    legs = {"entry": None, "more": "BUY", "target": "SELL", "stop": "SELL", "breakout": "BUY"}
    for name, side in list(legs.items())[1:]:
        kind = "STOP_MARKET" if name in {"stop", "breakout"} else "LIMIT"
        parent = {} if name == "breakout" else {"parent": "entry"}
        desk.order(entry, id=name, side=side, type=kind, quantity="1", price="9.5", **parent)
    desk.market(price="12")
    rows = {row["client_order_id"]: row["opportunity_cost"] for row in desk.rows()["executions"]}
    assert rows == {"entry": 2, "more": 2, "target": 0, "stop": 0, "breakout": 0}


def test_an_order_in_answer_to_a_fill_was_decided_on_at_the_fill(desk: Desk) -> None:
    signal = desk.say("SIGNAL", desk.market(price="10"), attributes={Signal.VALUE: 1})
    entry = desk.order(signal, id="O-1", side="BUY", type="LIMIT", quantity="5")
    desk.market(price="8")
    fill = desk.fill(entry, "O-1", "BUY", "5", "8")
    desk.order(fill, id="O-2", side="SELL", type="STOP_MARKET", quantity="5")
    rows = {row["client_order_id"]: row for row in desk.rows()["executions"]}
    assert rows["O-1"]["decision_price"] == 10
    assert rows["O-2"]["decision_price"] == 8
    assert rows["O-2"]["signal_span_id"] == rows["O-1"]["signal_span_id"]


def test_contracts_cost_by_multiplier_and_inverse_ones_by_the_reciprocal(desk: Desk) -> None:
    future = {Fill.MULTIPLIER: "50"}
    bar = desk.market(price="100")
    desk.fill(
        desk.order(bar, id="O-1", side="SELL", quantity="2"), "O-1", "SELL", "2", "99", **future
    )
    inverse = {Fill.IS_INVERSE: True, Fill.SETTLEMENT_CURRENCY: "BTC", Fill.MULTIPLIER: "1"}
    desk.fill(
        desk.order(bar, id="O-2", side="BUY", quantity="1000"),
        "O-2",
        "BUY",
        "1000",
        "125",
        **inverse,
    )
    linear, reciprocal = desk.rows()["executions"]
    assert (linear["impact_cost"], linear["currency"]) == (100, "USD")
    assert (reciprocal["impact_cost"], reciprocal["currency"]) == (2, "BTC")


def test_an_instrument_is_priced_by_its_own_portfolio_and_else_by_another(tmp_path: Path) -> None:
    def told(portfolio: str, **columns: Any) -> None:
        kind = columns.pop("kind")
        tracing.tracer.close(
            tracing.tracer.open(kind, portfolio=portfolio, event_time=1, **columns)
        )

    with Tracing("run", data=tmp_path, writer="inline") as tracing:
        told("feed", kind="TICK", symbol="ACME", attributes={Tick.PRICE: "10"})
        told("feed", kind="TICK", symbol="BETA", venue="XNAS", attributes={Tick.PRICE: "30"})
        told("own", kind="TICK", symbol="ACME", venue="SIM", attributes={Tick.PRICE: "20"})
        told("feed", kind="TICK", symbol="ACME", attributes={Tick.PRICE: "11"})
        for portfolio, symbol in (("own", "ACME"), ("other", "ACME"), ("other", "BETA")):
            order = {Order.CLIENT_ID: symbol, Order.SIDE: "BUY", Order.STATUS: "ACCEPTED"}
            told(portfolio, kind="ORDER", symbol=symbol, venue="SIM", attributes=order)
    found = {
        (row["portfolio"], row["symbol"]): row["arrival_price"]
        for row in results(tmp_path)["executions"]
    }
    # BETA of another venue is another instrument.
    assert found == {("own", "ACME"): 20, ("other", "ACME"): D(20), ("other", "BETA"): None}


def test_a_fill_without_an_order_says_itself_why_it_was_made(desk: Desk) -> None:
    sale = {Order.SIDE: "SELL", Fill.QUANTITY: "1", Fill.PRICE: "9", Fill.CURRENCY: "USD"}
    for number, reason in enumerate(({Order.REASON: "liquidation"}, {})):
        cause = desk.market(price="9")
        desk.fill(cause, f"entry-{number}", "BUY", "1", "10")
        desk.say("FILL", cause, attributes={**sale, **reason})
    rows = desk.rows()
    assert [row["exit_reason"] for row in rows["trades"]] == ["liquidation", "market"]
    found = {row["exit_reason"] for row in rows["pnl_slices"] if row["kind"] == "realized"}
    assert found == {"liquidation", None}


def test_an_order_that_waits_over_a_split_costs_what_it_would_without_one(desk: Desk) -> None:
    """Decided at 40, for 10; 4 were filled at 41, and the other 6 are 12 at 20.50 by then."""
    cause = desk.market(price="40")
    desk.order(cause, id="entry", side="BUY", type="MARKET", quantity="10")
    desk.fill(cause, "entry", "BUY", "4", "41")
    desk.market(price="42")
    desk.say("CORPORATE_ACTION", None, attributes={CorporateAction.RATIO: "0.5"})
    desk.market(price="20.5")
    desk.fill(cause, "entry", "BUY", "12", "20.5")
    rows = desk.rows()
    (order,), (trade,) = rows["executions"], rows["trades"]
    assert [order["decision_price"], order["shortfall"]] == [20, 10]
    assert [trade["entry_decision_price"], trade["shortfall"]] == [20, 10]
    assert [trade["best_price"], trade["worst_price"]] == [21, D("20.5")]


def test_reasons_are_the_hosts_words_or_told_by_type_and_cause(desk: Desk) -> None:
    signal = desk.say("SIGNAL", desk.market(price="10"), attributes={Signal.VALUE: 1})
    desk.order(signal, id="entry", side="BUY", type="LIMIT", links=["tp", "sl"])
    desk.order(signal, id="tp", side="SELL", type="LIMIT", parent="entry", links=["sl"])
    desk.order(signal, id="sl", side="SELL", type="STOP_MARKET", parent="entry", links=["tp"])
    desk.order(signal, id="trail", side="SELL", type="TRAILING_STOP_MARKET")
    desk.order(signal, id="close", side="SELL", type="LIMIT", reduce_only=True)
    desk.order(signal, id="oco", side="SELL", type="LIMIT", links=["other"])
    desk.order(signal, id="said", side="SELL", type="STOP_MARKET", reason="time is up")
    desk.order(desk.market(price="11"), id="bar", side="SELL", type="MARKET")
    fill = desk.fill(signal, "entry", "BUY", "1", "10")
    desk.order(fill, id="answer", side="SELL", type="MARKET")
    early = desk.say("SYSTEM", None, attributes={})
    desk.order(early, id="timer", side="SELL", type="MARKET")
    desk.market(price="12")
    late = desk.say("SYSTEM", None, attributes={})
    desk.order(late, id="flatten", side="SELL", type="MARKET")
    rows = {row["client_order_id"]: row["reason"] for row in desk.rows()["executions"]}
    assert rows == {
        "entry": "signal",
        "tp": "limit",
        "sl": "stop",
        "trail": "stop",
        "close": "limit",
        "oco": "limit",
        "said": "time is up",
        "bar": "market",
        "answer": "market",
        "timer": "market",
        "flatten": "end of run",
    }
    with EventStore(DataFolder(desk.data)).connect(["run"], further_views=()) as connection:
        make_order_causes(connection, "run")
        assert order_reasons(connection, "run") == {("fund/desk", key): rows[key] for key in rows}
