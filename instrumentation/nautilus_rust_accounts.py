"""Records the states of NautilusTrader 2.x's accounts, and what the engine told nobody.

The engine publishes accounts to no Python code, and to a strategy that has stopped nothing at all.
Both are read from its cache: accounts after fills, and what is missing at the end of a run.
"""

from __future__ import annotations

import importlib
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, Final

from fillpath.instrumentation.engine_run import EngineRun
from fillpath.instrumentation.nautilus_rust_events import account_attributes, time_of
from fillpath.instrumentation.nautilus_rust_orders import OrderRecorder
from fillpath.instrumentation.open_event import OpenEvent
from fillpath.instrumentation.semconv import EventType

_SHARE: Final = 32
"""An account is read when a 32nd part of its states is new, for reading copies all of them."""
_SMALL: Final = 64
"""An account of so few states is read at once."""
_STEPS: Final = (
    "OrderInitialized",
    "OrderDenied",
    "OrderSubmitted",
    "OrderRejected",
    "OrderAccepted",
    "OrderTriggered",
    "OrderPendingUpdate",
    "OrderUpdated",
    "OrderPendingCancel",
    "OrderFilled",
)
"""Of events of one time, what an order goes through first; the rest comes last."""


class _Account:
    __slots__ = ("count", "waiting")

    def __init__(self) -> None:
        self.count = 0  # of its states that are recorded
        self.waiting = 0  # looks that were left out since


class AccountRecorder:
    """Records the states of accounts in one run, in order and at most a little late.

    Args:
        run: Takes the events.
        orders: What the states follow from.
    """

    def __init__(self, run: EngineRun, orders: OrderRecorder) -> None:
        self._run = run
        self._orders = orders
        self._accounts: dict[str, _Account] = {}
        self._times: list[int] = []
        self._causes: list[OpenEvent] = []

    def passes_over(self, account: Any) -> None:
        """Leave out the states that an account had before this run, but for the last."""
        known = self._accounts[account.id.value] = _Account()
        known.count = max(account.event_count - 1, 0)

    def look(self, account_id: Any) -> None:
        """Record what is new of an account, if it is time to look."""
        known = self._accounts.setdefault(account_id.value, _Account())
        known.waiting += 1
        if known.count < _SMALL or known.waiting * _SHARE >= known.count:
            account = self._orders.cache.account(account_id)
            if account is not None:
                self.read(account)

    def read(self, account: Any) -> None:
        """Record what is new of an account."""
        known = self._accounts.setdefault(account.id.value, _Account())
        known.waiting = 0
        count = account.event_count
        new = count - known.count
        if new <= 0:  # the host may have it forget old states
            known.count = count
            return
        states = [account.last_event] if new == 1 else account.events[-new:]
        known.count = count
        self._take_causes()
        for state in states:
            self._run.event(
                EventType.PORTFOLIO,
                event_time=time_of(state),
                attributes=account_attributes(state),
                cause=self._cause(state.ts_event),
            )

    def _take_causes(self) -> None:
        recorded = self._orders.recorded
        if not recorded:
            return
        # Only the latest can cause what is read next.
        self._times = [time for time, _ in recorded]
        self._causes = [event for _, event in recorded]
        recorded.clear()

    def _cause(self, time: int) -> OpenEvent | None:
        """The last that happened to an order at the time."""
        place = bisect_right(self._times, time)
        return self._causes[place - 1] if place and self._times[place - 1] == time else None


def record_untold(run: EngineRun, orders: OrderRecorder, known_orders: Iterable[Any]) -> None:
    """Record what happened to orders and positions without a strategy being told.

    Args:
        run: Takes the events.
        orders: Knows what is recorded.
        known_orders: The orders of the engine's cache.
    """
    untold = [
        event
        for order in known_orders
        if order.event_count > (told := orders.count_of(order.client_order_id))
        for event in order.events()[told:]
    ]
    books: dict[str, Any] = {}
    for event in sorted(untold, key=_place_in_time):
        orders.order_event(event)
        if type(event).__name__ == "OrderFilled" and event.position_id is not None:
            _record_position(run, orders, event, books)


def _place_in_time(event: Any) -> tuple[int, int]:
    kind = type(event).__name__
    return event.ts_event, _STEPS.index(kind) if kind in _STEPS else len(_STEPS)


def _record_position(
    run: EngineRun, orders: OrderRecorder, fill: Any, books: dict[str, Any]
) -> None:
    """Record what a fill made of a position, as the engine's own book-keeping has it."""
    try:
        position_id = fill.position_id.value
        book = books.get(position_id)
        if book is None or book.is_closed:
            book = _book_before(orders.cache, fill)
        if book is None:
            model = importlib.import_module("nautilus_trader.model")
            book = model.Position(orders.cache.instrument(fill.instrument_id), fill)
            event_type: str = EventType.POSITION_OPEN
        else:
            book.apply(fill)
            closed = book.is_closed
            event_type = EventType.POSITION_CLOSE if closed else EventType.POSITION_CHANGE
        books[position_id] = book
        orders.position(event_type, position_id, book, time_of(fill))
    except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
        run.tracer.complain(error)


def _book_before(cache: Any, fill: Any) -> Any:
    """The position as it was before a fill; None if the fill opened it."""
    position = cache.position(fill.position_id)
    before = []
    for event in () if position is None else position.events():
        if event.trade_id == fill.trade_id:
            break
        before.append(event)
    else:
        return None
    if not before:
        return None
    model = importlib.import_module("nautilus_trader.model")
    book = model.Position(cache.instrument(fill.instrument_id), before[0])
    for event in before[1:]:
        book.apply(event)
    return book
