"""Trades with their chains, costs and excursions, against plain loops over the engine's own log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.results_rows import compute_results
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.semconv import Fill, Order, Regime, Signal
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from random_trading import Logged, record_random_trading
from shortfall_by_hand import costs_by_hand
from test_executions import Desk, by_column, desk, results
from trips_by_hand import Trip, excursion, trips_of

__all__ = ["desk"]  # the fixture

D = Decimal
Row = dict[str, Any]


def shared_costs(log: list[Logged], trip: Trip) -> Row:
    """Delay, impact and commission of a trade: its share of each of its orders."""
    row = dict.fromkeys(("delay_cost", "impact_cost", "commission"), D(0))
    for sequence, change in trip.parts:
        fill = log[sequence - 1].attributes
        order = costs_by_hand(log, fill[Order.CLIENT_ID])
        decision, arrival = order["decision_price"], order["arrival_price"]
        row["delay_cost"] += change * (arrival - decision)
        row["impact_cost"] += change * (D(fill[Fill.PRICE]) - arrival)
        row["commission"] += D(fill[Fill.COMMISSION]) * abs(change) / D(fill[Fill.QUANTITY])
    return {**row, "shortfall": sum(row.values(), D(0))}


@pytest.mark.parametrize(
    "seed", [2, *(pytest.param(seed, marks=pytest.mark.full) for seed in (1, 4, 7, 8))]
)
def test_trades_are_those_of_a_recomputation_from_the_log(seed: int, tmp_path: Path) -> None:
    log = record_random_trading(tmp_path, "run", seed, steps=90)
    trips = trips_of(log)
    tables = results(tmp_path)
    rows = {row["entry_sequence"]: row for row in tables["trades"]}
    assert len(trips) > 10
    assert any(len(trip.parts) > 4 for trip in trips)
    by_first: dict[int, Trip] = {trip.parts[0][0]: trip for trip in trips}
    assert by_first.keys() == rows.keys()
    for first, trip in by_first.items():
        row = rows[first]
        signs = [change > 0 for _, change in trip.parts]
        legs = ["entry" if sign == signs[0] else "exit" for sign in signs]
        assert [(f["sequence"], D(f["quantity"]), f["leg"]) for f in row["fills"]] == [
            (sequence, abs(change), leg)
            for (sequence, change), leg in zip(trip.parts, legs, strict=True)
        ]
        told = (
            row["best_price"],
            row["worst_price"],
            row["favourable_excursion"],
            row["adverse_excursion"],
        )
        assert told == excursion(log, trip), first
        costs = shared_costs(log, trip)
        assert {name: row[name] for name in costs} == costs
        if not trip.held:
            assert row["adverse_excursion"] <= row["realized_pnl"] <= row["favourable_excursion"]
            last = log[trip.parts[-1][0] - 1]
            assert row["exit_order_id"] == last.attributes[Order.CLIENT_ID]
            assert row["holding_time"] == last.time - log[first - 1].time
        for leg, name in (("entry", "entry"), ("exit", "exit")):
            check_average(log, trip, legs, leg, row[f"{name}_decision_price"], "decision_price")
            check_average(log, trip, legs, leg, row[f"{name}_arrival_price"], "arrival_price")


def check_average(
    log: list[Logged], trip: Trip, legs: list[str], leg: str, told: Decimal | None, name: str
) -> None:
    parts = [part for part, one in zip(trip.parts, legs, strict=True) if one == leg]
    if not parts:
        assert told is None
        return
    orders = [log[sequence - 1].attributes[Order.CLIENT_ID] for sequence, _ in parts]
    prices = [costs_by_hand(log, order)[name] for order in orders]
    total = sum(p * abs(q) for p, (_, q) in zip(prices, parts, strict=True))
    assert told is not None
    assert abs(told - total / sum(abs(q) for _, q in parts)) < D("0.0001")


def test_what_orders_cost_is_what_their_trades_say_together(tmp_path: Path) -> None:
    record_random_trading(tmp_path, "run", 6)
    tables = results(tmp_path)
    for name in ("delay_cost", "impact_cost"):
        by_orders = sum(row[name] for row in tables["executions"])
        assert by_orders == sum(row[name] for row in tables["trades"])
    by_orders = sum(row["shortfall"] - row["opportunity_cost"] for row in tables["executions"])
    assert by_orders == sum(row["shortfall"] for row in tables["trades"])


def test_a_flip_closes_one_trade_and_opens_the_next_at_the_same_fill(desk: Desk) -> None:
    bar = desk.market(price="10")
    desk.fill(desk.order(bar, id="O-1", side="BUY", quantity="3"), "O-1", "BUY", "3", "10.5")
    bar = desk.market(price="12")
    signal = desk.say("SIGNAL", bar, attributes={"trading.signal.name": "turn"})
    flip = desk.fill(
        desk.order(signal, id="O-2", side="SELL", quantity="5"), "O-2", "SELL", "5", "11"
    )
    long, short = desk.rows()["trades"]
    assert (long["direction"], short["direction"]) == ("LONG", "SHORT")
    assert long["exit_span_id"] == short["entry_span_id"] == short["trade_id"]
    assert [one["quantity"] for one in long["fills"]] == ["3", "3"]
    assert [(one["quantity"], one["sequence"]) for one in short["fills"]] == [("2", flip)]
    assert (long["impact_cost"], short["impact_cost"]) == (D("4.5"), 2)
    assert (long["exit_reason"], short["exit_reason"]) == ("signal", None)
    assert (long["entry_signal"], short["entry_signal"]) == (None, "turn")
    assert short["holding_time"] is short["exit_time"] is None


def test_a_bar_that_a_stop_fills_in_says_only_what_came_after(desk: Desk) -> None:
    bar = desk.market("BAR", close="100", high="101", low="99")
    entry = desk.order(bar, id="O-1", side="BUY", type="STOP_MARKET", quantity="1")
    # The engine fills what waited before it tells of the bar in which that happened.
    desk.trading.time += 1_000_000_000
    desk.fill(entry, "O-1", "BUY", "1", "103")
    desk.trading.time -= 1_000_000_000
    desk.market("BAR", close="104", high="110", low="90")
    bar = desk.market("BAR", close="105", high="106", low="102")
    leave = desk.order(bar, id="O-2", side="SELL", type="STOP_MARKET", quantity="1")
    desk.market("BAR", close="80", high="120", low="70")
    desk.fill(leave, "O-2", "SELL", "1", "101")
    (trade,) = desk.rows()["trades"]
    assert (trade["best_price"], trade["worst_price"]) == (106, 101)
    assert (trade["favourable_excursion"], trade["adverse_excursion"]) == (3, -2)
    assert trade["exit_reason"] == "stop"


def test_a_short_trade_that_grows_and_shrinks_has_the_extremes_of_its_whole_profit(
    desk: Desk,
) -> None:
    def trade(number: int, side: str, quantity: str, price: str) -> None:
        name = f"O-{number}"
        order = desk.order(desk.market(price=price), id=name, side=side, quantity=quantity)
        desk.fill(order, name, side, quantity, price)

    trade(1, "SELL", "1", "50")
    desk.market(price="55")  # -5
    trade(2, "SELL", "1", "54")
    desk.market(price="40")  # 24
    trade(3, "BUY", "1", "45")
    desk.market(price="60")  # 104 - 45 - 60 = -1
    trade(4, "BUY", "1", "48")
    (row,) = desk.rows()["trades"]
    assert (row["favourable_excursion"], row["adverse_excursion"]) == (24, -5)
    assert (row["best_price"], row["worst_price"]) == (40, 60)
    assert row["realized_pnl"] == 11


CENT = D("0.01")


def test_fills_without_an_order_id_are_followed_by_their_chains(desk: Desk) -> None:
    def fill(cause: int, side: str, price: str) -> int:
        numbers = {Fill.QUANTITY: "2", Fill.PRICE: price, Fill.CURRENCY: "USD"}
        return desk.say("FILL", cause, attributes={Order.SIDE: side, **numbers})

    signal = desk.say(
        "SIGNAL",
        desk.market(bid="9.9", ask="10.1"),
        attributes={Signal.NAME: "dip", Signal.STRENGTH: 0.4},
    )
    desk.market(price="10.2")
    order = desk.say("ORDER", signal, attributes={Order.STATUS: "SUBMITTED"})
    entry = fill(order, "BUY", "10.5")
    bar = desk.market("BAR", close="12")
    desk.market("BAR", close="11", high="13", low="8")
    fill(bar, "SELL", "11.5")
    (trade,) = desk.rows()["trades"]
    assert (trade["entry_sequence"], trade["entry_signal"]) == (entry, "dip")
    assert trade["entry_signal_strength"] == 0.4
    assert (trade["entry_decision_price"], trade["entry_arrival_price"]) == (10, D("10.2"))
    assert (trade["exit_decision_price"], trade["exit_arrival_price"]) == (12, 12)
    assert (trade["delay_cost"], trade["impact_cost"]) == (D("0.4"), D("1.6"))
    assert trade["entry_latency"] > 0
    assert trade["exit_reason"] == "market"


def test_the_regime_of_a_trade_is_the_one_that_the_host_had_named(desk: Desk) -> None:
    def regime(name: str) -> None:
        desk.say("REGIME_CHANGE", None, attributes={Regime.NAME: name})

    regime("calm")
    bar = desk.market(price="10")
    desk.fill(desk.order(bar, id="O-1", side="BUY", quantity="1"), "O-1", "BUY", "1", "10")
    regime("stormy")
    bar = desk.market(price="9")
    desk.fill(desk.order(bar, id="O-2", side="SELL", quantity="1"), "O-2", "SELL", "1", "9")
    regime("later")
    (trade,) = desk.rows()["trades"]
    assert (trade["entry_regime"], trade["exit_regime"]) == ("calm", "stormy")


HOSTS = [
    "nautilus_brackets",
    pytest.param("nautilus_netting_flips", marks=pytest.mark.full),
    pytest.param("nautilus_hedging", marks=pytest.mark.full),
    pytest.param("nautilus_partial_fills", marks=pytest.mark.full),
]


@pytest.mark.parametrize("host", HOSTS)
def test_chains_of_real_trades_lead_from_their_fills_to_the_market(
    host: str, tmp_path: Path
) -> None:
    pytest.importorskip("nautilus_trader", reason="the engine is not installed")
    data = tmp_path / "data"
    script = Path(__file__).parent / "hosts" / f"{host}.py"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FILLPATH_")}
    environment.pop("PYTHONSAFEPATH", None)  # a host imports what lies beside it
    recording = ["--data", str(data), "--run-id", "run", "--writer", "inline"]
    command = [sys.executable, "-m", "fillpath.instrumentation", *recording, str(script)]
    report = tmp_path / "report.json"
    subprocess.run([*command, str(report)], check=True, env=environment, capture_output=True)
    (engine,) = json.loads(report.read_text(encoding="utf-8"))["runs"]
    types = {order["client_order_id"]: order["type"] for order in engine["orders"]}
    with EventStore(DataFolder(data)).connect(["run"], further_views=()) as connection:
        tables = compute_results(connection, "run").tables
        spans = {
            span_id: (parent, event_type, trace_id)
            for span_id, parent, event_type, trace_id in connection.execute(
                "SELECT span_id, parent_span_id, event_type, trace_id FROM spans"
            ).fetchall()
        }
    trades, executions = by_column(tables["trades"]), by_column(tables["executions"])
    assert trades
    for trade in trades:
        for leg in ("entry", "exit"):
            span_id = trade[f"{leg}_span_id"]
            if span_id is None:
                assert trade["open_quantity"]
                continue
            assert spans[span_id][1:] == ("FILL", trade[f"{leg}_trace_id"])
            kinds = []
            while span_id is not None:
                span_id, kind, _ = spans[span_id]
                kinds.append(kind)
            assert {"ORDER", "FILL"} <= set(kinds)
            assert set(kinds) & {"BAR", "TICK", "BOOK"}, (leg, kinds)
            assert types[trade[f"{leg}_order_id"]]
            assert trade[f"{leg}_decision_price"] is not None or "BOOK" in kinds
            assert trade[f"{leg}_latency"] > 0
        if not trade["open_quantity"]:
            assert trade["exit_reason"] in {"stop", "limit", "signal", "market", "end of run"}
            if types[trade["exit_order_id"]].startswith("STOP"):
                assert trade["exit_reason"] == "stop"
            low, high = trade["adverse_excursion"], trade["favourable_excursion"]
            if low is None:
                continue  # an order book tells no price
            assert low - CENT <= trade["realized_pnl"] <= high + CENT  # the engine rounds
    sides = {order["client_order_id"]: order["side"] for order in engine["orders"]}
    assert {row["client_order_id"]: row["side"] for row in executions} == sides
    filled = {order["client_order_id"]: D(order["filled_qty"]) for order in engine["orders"]}
    assert {row["client_order_id"]: row["filled_quantity"] for row in executions} == filled
