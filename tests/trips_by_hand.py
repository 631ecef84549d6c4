"""Round trips of an engine's log, and how far they were in profit and loss, in plain loops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from random_trading import Logged
from shortfall_by_hand import price_of

from fillpath.instrumentation.semconv import Bar, Fill, Order

D = Decimal
NOTHING = D(0)
Row = dict[str, Any]
Part = tuple[int, Decimal]
"""Sequence of a fill, and the signed quantity of it that belongs to a trade."""


@dataclass
class Trip:
    """A round trip by the log: all its fills with signed quantities."""

    parts: list[Part] = field(default_factory=list)
    held: Decimal = NOTHING


def trips_of(log: list[Logged]) -> list[Trip]:
    """Follow each strategy's position from flat to flat; what turns it closes one and opens one."""
    trips: list[Trip] = []
    under_way: dict[tuple[str, str], Trip] = {}
    for sequence, event in enumerate(log, start=1):
        if event.kind != "FILL":
            continue
        key = event.strategy, event.symbol
        left = D(event.attributes[Fill.QUANTITY])
        sign = 1 if event.attributes[Order.SIDE] == "BUY" else -1
        while left:
            trip = under_way.get(key)
            if trip is None:
                trip = under_way[key] = Trip()
                trips.append(trip)
            closes = trip.held * sign < 0
            quantity = min(left, abs(trip.held)) if closes else left
            trip.parts.append((sequence, sign * quantity))
            trip.held += sign * quantity
            left -= quantity
            if not trip.held:
                del under_way[key]
    return trips


def seen_between(log: list[Logged], begin: int, end: int | None) -> Iterator[Decimal]:
    """The market's prices between two fills, every event looked at by itself."""
    symbol = log[begin - 1].symbol
    before: dict[str, Logged] = {}
    for sequence, event in enumerate(log, start=1):
        if event.symbol != symbol or event.kind not in {"BAR", "TICK"}:
            continue
        inside = begin < sequence and (end is None or sequence < end)
        if event.kind == "TICK":
            if inside:
                yield price_of(event) or D(0)
            continue
        previous = before.get(event.attributes[Bar.TYPE])
        before[event.attributes[Bar.TYPE]] = event
        following = [
            later
            for later, other in enumerate(log[sequence:], start=sequence + 1)
            if other.symbol == symbol
            and other.kind == "BAR"
            and other.attributes[Bar.TYPE] == event.attributes[Bar.TYPE]
        ]

        def lies_in(
            fill: int, number: int = sequence, bar: Logged = event, next_bar: list[int] = following
        ) -> bool:
            """Whether a fill after a bar, and before the next, was a fill within it."""
            made = log[fill - 1].attributes[Order.CLIENT_ID]
            began = next(
                s for s, e in enumerate(log, start=1) if e.attributes.get(Order.CLIENT_ID) == made
            )
            is_next = number < fill and (not next_bar or fill < next_bar[0])
            return is_next and began < number and log[fill - 1].time <= bar.time

        if end is not None and (sequence > end or lies_in(end)):
            continue
        if inside:
            is_first = previous is None or log.index(previous) + 1 < begin
            if is_first and (previous is None or log[begin - 1].time > previous.time):
                yield price_of(event) or D(0)
            else:
                yield from (D(event.attributes[Bar.HIGH]), D(event.attributes[Bar.LOW]))
        elif lies_in(begin):
            yield price_of(event) or D(0)


def excursion(log: list[Logged], trip: Trip) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """Best and worst price, highest and lowest profit."""
    is_long = trip.parts[0][1] > 0
    cash = held = D(0)
    prices: list[Decimal] = []
    profits = [D(0)]
    for place, (sequence, change) in enumerate(trip.parts):
        price = D(log[sequence - 1].attributes[Fill.PRICE])
        cash -= change * price
        held += change
        after = trip.parts[place + 1][0] if place + 1 < len(trip.parts) else None
        seen = [price, *(seen_between(log, sequence, after) if held else ())]
        prices += seen
        profits += [cash + held * one for one in seen]
    best, worst = (max(prices), min(prices)) if is_long else (min(prices), max(prices))
    return best, worst, max(profits), min(profits)
