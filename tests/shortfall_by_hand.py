"""What an order cost, recomputed from an engine's own log in plain loops."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from random_trading import Logged

from fillpath.instrumentation.semconv import Bar, Fill, Order, Tick

D = Decimal
Row = dict[str, Any]
MARKET = {"BAR", "TICK"}


def price_of(event: Logged) -> Decimal | None:
    told = event.attributes
    if event.kind == "BAR":
        return D(told[Bar.CLOSE])
    if event.kind == "TICK":
        if Tick.PRICE in told:
            return D(told[Tick.PRICE])
        return (D(told[Tick.BID]) + D(told[Tick.ASK])) / 2
    return None


def price_at(log: list[Logged], symbol: str, sequence: int) -> Decimal | None:
    """The last price at or before a sequence, by going back from it."""
    for event in reversed(log[:sequence]):
        if event.symbol == symbol and event.kind in MARKET:
            return price_of(event)
    return None


def decided_at(log: list[Logged], first: int) -> int:
    """Where the order that begins at a sequence was decided on, by climbing to its causes."""
    cause = log[first - 1].cause
    nearest = cause
    while cause is not None:
        if log[cause - 1].kind == "FILL":
            break
        if log[cause - 1].kind == "SIGNAL":
            return cause
        cause = log[cause - 1].cause
    return first if nearest is None else nearest


def events_of(log: list[Logged], order_id: str) -> list[tuple[int, Logged]]:
    return [
        (sequence, event)
        for sequence, event in enumerate(log, start=1)
        if event.attributes.get(Order.CLIENT_ID) == order_id
    ]


def costs_by_hand(log: list[Logged], order_id: str, *, is_leg: bool = False) -> Row:
    """An order's prices and costs, recomputed; a leg only closes what another order opened."""
    events = events_of(log, order_id)
    first, made = events[0]
    states = {e.attributes[Order.STATUS]: s for s, e in reversed(events) if e.kind == "ORDER"}
    fills = [event for _, event in events if event.kind == "FILL"]
    sign = 1 if made.attributes[Order.SIDE] == "BUY" else -1
    filled = sum((D(fill.attributes[Fill.QUANTITY]) for fill in fills), D(0))
    left = D(made.attributes[Order.QUANTITY]) - filled
    told = made.attributes.get(Order.DECISION_PRICE)
    arrived = states.get("ACCEPTED") or states.get("SUBMITTED") or first
    decision = price_at(log, made.symbol, decided_at(log, first))
    arrival = price_at(log, made.symbol, arrived)
    kind = made.attributes[Order.TYPE]
    waits = "STOP" in kind
    only_closes = is_leg or Order.REDUCE_ONLY in made.attributes
    triggered = [s for s, e in events if e.kind == "FILL" or s == states.get("TRIGGERED")]
    if waits and triggered:
        decision = arrival = price_at(log, made.symbol, triggered[0])
    triggers = [e.attributes[Order.TRIGGER_PRICE] for _, e in events if _has_trigger(e)]
    if triggers:
        decision = arrival = D(triggers[-1])
    elif (waits or (kind == "LIMIT" and only_closes)) and Order.PRICE in made.attributes:
        decision = arrival = D(made.attributes[Order.PRICE])
    decision = D(told) if told else decision
    is_over = not left or states.keys() & {"CANCELED", "EXPIRED", "REJECTED"}
    last = price_at(log, made.symbol, events[-1][0] if is_over else len(log))
    paid = sum((D(f.attributes[Fill.QUANTITY]) * D(f.attributes[Fill.PRICE]) for f in fills), D(0))
    commission = sum((D(fill.attributes[Fill.COMMISSION]) for fill in fills), D(0))
    missed = D(0) if only_closes or (waits and not triggered) else left
    row: Row = {
        "sequence": first,
        "quantity": filled + left,
        "decision_price": decision,
        "arrival_price": arrival,
        "last_price": last,
        "filled_quantity": filled,
        "commission": commission,
        "arrival_time": log[arrived - 1].time,
        "decision_time": log[decided_at(log, first) - 1].time,
        "delay_cost": None,
        "impact_cost": None if arrival is None else sign * (paid - arrival * filled),
        "opportunity_cost": None,
    }
    if decision is not None and arrival is not None and last is not None:
        row["delay_cost"] = sign * (arrival - decision) * filled
        row["opportunity_cost"] = sign * (last - decision) * missed
        row["shortfall"] = (
            row["delay_cost"] + row["impact_cost"] + commission + row["opportunity_cost"]
        )
    return row


def _has_trigger(event: Logged) -> bool:
    return Order.TRIGGER_PRICE in event.attributes
