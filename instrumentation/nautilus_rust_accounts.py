"""Records the states of NautilusTrader 2.x's accounts, and what the engine told nobody.

The engine publishes accounts to no Python code, and to a strategy that has stopped nothing at all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from fillpath.instrumentation.engine_run import EngineRun, present
from fillpath.instrumentation.nautilus_rust_events import account_attributes, time_of
from fillpath.instrumentation.nautilus_rust_orders import OrderRecorder
from fillpath.instrumentation.open_event import OpenEvent
from fillpath.instrumentation.semconv import EventType

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


class AccountRecorder:
    """Records what the accounts of one run hold, after each fill and whenever it has changed.

    The engine keeps every state of an account and copies them all to whoever asks for it; a
    snapshot of its portfolio costs the same however long a run is.

    Args:
        run: Takes the events.
    """

    def __init__(self, run: EngineRun) -> None:
        self._run = run
        self._last: dict[str, list[Any]] = {}
        self._met: dict[str, Any] = {}
        self._is_begun = False
        self.portfolio: Any = None
        self.ids: Callable[[], Iterable[Any]] = tuple

    def begin(self, account_id: Any = None) -> None:
        """Record what the accounts hold before anything is traded; only the first call does.

        Args:
            account_id: One that is about to be traded on. A live node may have made its
                acquaintance since.
        """
        if self._is_begun and (account_id is None or account_id.value in self._last):
            return
        ids = {} if self._is_begun else {one.value: one for one in self.ids()}
        self._is_begun = True
        if account_id is not None:
            ids.setdefault(account_id.value, account_id)
        self._met |= ids
        for one in ids.values():
            snapshot = self._news_of(one)
            if snapshot is not None:
                tracer = self._run.tracer
                event = tracer.open(
                    EventType.PORTFOLIO,
                    portfolio=self._run.portfolio,
                    event_time=time_of(snapshot),
                    attributes=present(account_attributes(snapshot)),
                    parent=None,
                )
                tracer.close(event)

    def look(self, account_id: Any, cause: OpenEvent | None, *, is_filled: bool) -> None:
        """Record what an account holds, if that has changed or an order has been filled."""
        snapshot = self._news_of(account_id, is_filled=is_filled)
        if snapshot is not None:
            self._run.event(
                EventType.PORTFOLIO,
                event_time=time_of(snapshot),
                attributes=account_attributes(snapshot),
                cause=cause,
            )

    def end(self, cause: OpenEvent | None) -> None:
        """Record what has changed since."""
        self.begin()
        ids = {one.value: one for one in self.ids()} | self._met
        for account_id in ids.values():
            self.look(account_id, cause, is_filled=False)

    def _news_of(self, account_id: Any, *, is_filled: bool = False) -> Any:
        snapshot = self.portfolio.build_snapshot(account_id)
        if snapshot is None:
            return None
        key, balances = account_id.value, snapshot.balances
        if not is_filled and self._last.get(key) == balances:
            return None
        self._last[key] = balances
        return snapshot


def record_untold(
    run: EngineRun, orders: OrderRecorder, known_orders: Iterable[Any]
) -> OpenEvent | None:
    """Record what happened to orders and positions without a strategy being told.

    Gives the last of that.

    Args:
        run: Takes the events.
        orders: Knows what is recorded.
        known_orders: The orders of the engine's cache.
    """
    untold = [event for order in known_orders for event in orders.untold(order)]
    books: dict[str, Any] = {}
    last = None
    for event in sorted(untold, key=_place_in_time):
        last = orders.order_event(event)
        if type(event).__name__ == "OrderFilled" and event.position_id is not None:
            _record_position(run, orders, event, books)
    return last


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
