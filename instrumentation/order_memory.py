"""Remembers a home-made bus's orders by their ids: a fill that comes late follows from its order.

An order may rest for long. What runs when it is filled is then the price that did it, or nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fillpath.instrumentation import semconv
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.host_fields import HostEvent
from fillpath.instrumentation.host_parts import text_of
from fillpath.instrumentation.open_event import OpenEvent, RemoteEvent
from fillpath.instrumentation.semconv import EventType

_MAX_ORDERS: Final = 65_536
_MAX_STATES: Final = 64
_IDS: Final = (semconv.Order.CLIENT_ID, semconv.Order.ID)


class _Order:
    """One order: what it is of, its last state, and the sequences of all."""

    __slots__ = ("last", "side", "states", "symbol")

    def __init__(self, symbol: str | None, side: str | None) -> None:
        self.symbol = symbol
        self.side = side
        self.last: OpenEvent | None = None
        self.states: OrderedDict[int, None] = OrderedDict()

    def is_of(self, symbol: str | None, side: str | None) -> bool:
        """Tell whether it may be the order of this: ids that hosts use again say nothing."""
        return (None in (symbol, self.symbol) or symbol == self.symbol) and (
            None in (side, self.side) or side == self.side
        )


class OrderMemory:
    """The orders of one bus. Portfolios may use the same ids."""

    def __init__(self) -> None:
        self._orders: OrderedDict[str, dict[str, _Order]] = OrderedDict()

    def remember(self, read: HostEvent, event: OpenEvent) -> None:
        """Note a state of an order.

        Args:
            read: The host's event, an order.
            event: As which it was recorded.
        """
        side = _side(read)
        for order_id in _ids(read):
            places = self._orders.setdefault(order_id, {})
            order = places.get(event.portfolio)
            if (
                order is None
                or not order.is_of(read.symbol, side)
                or order.last is None
                or (order.last.tracer is not event.tracer)
            ):
                order = places[event.portfolio] = _Order(read.symbol, side)
            order.last = event
            order.states[event.sequence] = None
            if len(order.states) > _MAX_STATES:
                order.states.popitem(last=False)
        while len(self._orders) > _MAX_ORDERS:
            self._orders.popitem(last=False)

    def cause(
        self, tracer: EventTracer, read: HostEvent, running: OpenEvent | None
    ) -> OpenEvent | None:
        """The state of its order that an event follows from, unless what runs says so already.

        Args:
            tracer: Who records it.
            read: The host's event.
            running: The handler or event that runs.
        """
        is_fill = read.event_type == EventType.FILL
        if not (is_fill or (running is None and read.event_type == EventType.ORDER)):
            return None
        order = self._order(read, tracer.portfolio)
        if order is None or order.last is None or order.last.tracer is not tracer:
            return None
        if running is not None and _follows(tracer, running, order):
            return None
        return order.last

    def _order(self, read: HostEvent, portfolio: str) -> _Order | None:
        side = _side(read)
        for order_id in _ids(read):
            places = self._orders.get(order_id)
            if not places:
                continue
            order = places.get(read.portfolio or portfolio)
            if order is None and len(places) == 1:
                order = next(iter(places.values()))
            if order is not None and order.is_of(read.symbol, side):
                return order
        return None


def _follows(tracer: EventTracer, running: OpenEvent, order: _Order) -> bool:
    """Tell whether what runs follows from an order, or may: ended events forget their causes."""
    if running is tracer.nothing or isinstance(running, RemoteEvent):
        return True
    tracer.begin(running)  # so that it has a chain, and can be linked
    each: OpenEvent = running
    while each.sequence not in order.states:
        if each.parent is None:
            is_root = each.sequence == each.chain.root
            return not is_root and order.last is not None and each.chain is order.last.chain
        each = each.parent
    return True


def _ids(read: HostEvent) -> list[str]:
    attributes = read.attributes
    found = (text_of(attributes[key]) for key in _IDS if key in attributes)
    return [order_id for order_id in found if order_id is not None]


def _side(read: HostEvent) -> str | None:
    side = read.attributes.get(semconv.Order.SIDE)
    return side if isinstance(side, str) else None
