"""What is remembered of an order and of a trade of backtesting.py, which have no ids there."""

from __future__ import annotations

import math
from typing import Any, Final

from fillpath.instrumentation.backtesting_market import Market
from fillpath.instrumentation.open_event import OpenEvent
from fillpath.instrumentation.semconv import Order

_NOISE: Final = 2.0**-47
"""Part of a notional that doubles leave when sizes, prices and profits are added up."""


def places_of(trade: Any) -> int:
    """Decimal places of a trade's profit that mean something, as it is reckoned in doubles."""
    notional = abs(float(trade.size * trade.entry_price))
    return math.ceil(-math.log10(max(notional, 1.0) * _NOISE))


class Held:
    """A trade: an entry, and the exits that take parts of it.

    Attributes:
        id: Its number.
        trade: The engine's object; parts of it are closed as copies.
        opened_by: The order whose fill opened it.
        gained: Its profit so far, commissions taken off.
        entry: The fill that opened it.
        exit: The latest fill that closed a part of it.
        last: The latest fill of both.
        legs: Its latest stop and its latest target, by their reasons.
    """

    __slots__ = ("_places", "entry", "exit", "gained", "id", "last", "legs", "opened_by", "trade")

    def __init__(self, trade_id: str, trade: Any) -> None:
        self.id = trade_id
        self.trade = trade
        self._places = 0
        self.opened_by: Placed | None = None
        self.gained = 0.0
        self.entry: OpenEvent | None = None
        self.exit: OpenEvent | None = None
        self.last: OpenEvent | None = None
        self.legs: dict[str, Placed] = {}

    def gain(self, amount: float, part: Any) -> None:
        """Add the profit of a part, without the digits that doubles have left in it."""
        places = places_of(part)
        self._places = max(self._places, places)
        self.gained = round(self.gained + round(amount, places), self._places)


class Placed:
    """An order that the broker has, or had.

    Attributes:
        id: Its number.
        order: The engine's object.
        trade: The trade that it is to close; None if it opens one.
        filled: Units that have been filled.
        has_stop: Whether it waits for its stop.
        facts: What all its events say.
    """

    __slots__ = ("facts", "filled", "has_stop", "id", "order", "trade")

    def __init__(self, order_id: str, order: Any, trade: Held | None) -> None:
        self.id = order_id
        self.order = order
        self.trade = trade
        self.filled: float = 0
        self.has_stop = order.stop is not None
        self.facts = {Order.SIDE: "BUY" if order.size > 0 else "SELL", Order.TYPE: _type_of(order)}


def new_attributes(one: Placed, reason: str | None, market: Market) -> dict[str, Any]:
    """What is told of a new order."""
    order, held = one.order, one.trade
    is_relative = -1 < order.size < 1
    legs = () if held is None or one not in held.legs.values() else held.legs.values()
    return {
        Order.QUANTITY: None if is_relative else market.quantity(order.size),
        Order.EQUITY_FRACTION: abs(float(order.size)) if is_relative else None,
        Order.PRICE: market.price(order.limit),
        Order.TRIGGER_PRICE: market.price(order.stop),
        Order.TIME_IN_FORCE: "GTC",
        Order.REDUCE_ONLY: True if held is not None else None,
        Order.LINKED_IDS: [leg.id for leg in legs if leg is not one] or None,
        Order.PARENT_ID: held.opened_by.id if legs and held and held.opened_by else None,
        Order.REASON: reason,
        Order.TAG: order.tag,
    }


def _type_of(order: Any) -> str:
    if order.stop is not None:
        return "STOP_MARKET" if order.limit is None else "STOP_LIMIT"
    return "MARKET" if order.limit is None else "LIMIT"
