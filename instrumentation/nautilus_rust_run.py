"""Follows one run of a NautilusTrader 2.x engine: what its strategies are given and what they ask.

The engine is compiled. It looks a handler up on the strategy each time it calls one, so handlers of
the user's are wrapped on the strategy itself while the engine runs; and it calls the strategies'
own empty handlers too, which tell of events that the user's code does not ask for.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, Final

from fillpath.instrumentation.engine_run import NOWHERE, EngineRun, Instrument
from fillpath.instrumentation.followed_calls import handler_name
from fillpath.instrumentation.nautilus_rust_accounts import AccountRecorder, record_untold
from fillpath.instrumentation.nautilus_rust_engines import EngineParts
from fillpath.instrumentation.nautilus_rust_events import about, time_of
from fillpath.instrumentation.nautilus_rust_market import Feed, MarketRecorder
from fillpath.instrumentation.nautilus_rust_orders import OrderRecorder
from fillpath.instrumentation.open_event import Cause, OpenEvent
from fillpath.instrumentation.semconv import EventType

_LIFE: Final = frozenset(
    (
        "on_start", "on_stop", "on_resume", "on_reset", "on_degrade", "on_fault", "on_market_exit",
        "post_market_exit",
    )
)  # fmt: skip
_LOCKING: Final = frozenset(("OrderAccepted", "OrderUpdated", "OrderCanceled", "OrderExpired"))
"""Events that may change what an account has locked."""
_LEFT_ALONE: Final = frozenset(("on_save", "on_load", "on_dispose"))
_ABSENT: Final = object()
Body = AbstractContextManager[Any]


class _Call:
    """A call of a strategy's that has the engine make orders."""

    __slots__ = ("caller", "end", "instrument", "start", "strategy")

    def __init__(
        self, strategy: str, instrument: str | None, start: int, caller: OpenEvent | None
    ) -> None:
        self.strategy, self.instrument, self.caller = strategy, instrument, caller
        self.start = start
        self.end: int | None = None  # it goes on

    def makes(self, strategy: str, instrument: str, time: int) -> bool:
        """Whether an order of that time may be one of the call's."""
        return (
            strategy == self.strategy
            and self.instrument in (None, instrument)
            and self.start <= time <= (time if self.end is None else self.end)
        )


class RustRun:
    """The record of what one engine does.

    Args:
        run: Takes the events.
        kinds: The engine's classes that users derive strategies, actors and algorithms from.
    """

    def __init__(self, run: EngineRun, kinds: tuple[type, ...]) -> None:
        self.run = run
        self.market = MarketRecorder(run)
        self.orders = OrderRecorder(run, self._asking)
        self.accounts = AccountRecorder(run)
        self._shown: dict[Any, OpenEvent | None] = {}  # account -> the fill it was shown after
        self._kinds = kinds
        self._wrapped: list[tuple[Any, str, Any, Any]] = []
        self._signals: dict[tuple[str, str], OpenEvent] = {}
        self._calls: list[_Call] = []
        self._callback: tuple[FrameType, OpenEvent] | None = None
        self._market_of: dict[str, Callable[[Any, int], Feed]] = {
            "on_bar": self.market.bar,
            "on_quote": self.market.quote,
            "on_trade": self.market.trade,
            "on_book": self.market.book,
            "on_book_deltas": self.market.book,
            "on_book_depth": self.market.book,
        }

    # -- The user's handlers --------------------------------------------------------------------

    def wrap(self, components: Iterable[Any], *, is_disposing: bool = False) -> None:
        """Put something around the handlers that the user wrote, until `unwrap`.

        Args:
            components: Strategies, actors and algorithms; those that have it already are left.
            is_disposing: Whether the engine may be disposed of before it gives back control.
        """
        known = {id(component) for component, *_ in self._wrapped}
        for component in components:
            if id(component) in known:
                continue
            try:
                self._wrap(component)
                if is_disposing:
                    self._stand_in(component, "on_dispose", self._finishing(component.on_dispose))
            except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
                self.run.tracer.complain(error)

    def _wrap(self, component: Any) -> None:
        kind = type(component)
        base = next(one for one in kind.__mro__ if one in self._kinds)
        name = name_of(component)
        for handler in dir(base):
            if not handler.startswith(("on_", "post_")) or handler in _LEFT_ALONE:
                continue
            own = vars(component).get(handler, _ABSENT)
            is_users = inspect.getattr_static(kind, handler) is not inspect.getattr_static(
                base, handler
            )
            if own is _ABSENT and not is_users:
                continue
            begin = self._beginning(component, handler, name, f"{kind.__name__}.{handler}")
            self._stand_in(component, handler, self.followed(getattr(component, handler), begin))

    def _stand_in(self, component: Any, handler: str, stand_in: Callable[..., Any]) -> None:
        own = vars(component).get(handler, _ABSENT)
        setattr(component, handler, stand_in)
        self._wrapped.append((component, handler, own, stand_in))

    def _finishing(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Put before what is called last of all while the cache is not empty yet."""

        def finish(*args: Any) -> Any:
            self.finish()
            return handler(*args)

        return finish

    def unwrap(self) -> None:
        """Leave the strategies as they were."""
        while self._wrapped:
            component, handler, own, stand_in = self._wrapped.pop()
            if vars(component).get(handler) is not stand_in:
                continue
            if own is _ABSENT:
                delattr(component, handler)
            else:
                setattr(component, handler, own)

    def followed(
        self, handler: Callable[..., Any], begin: Callable[..., Body]
    ) -> Callable[..., Any]:
        """Put around a handler what records its run."""
        run = self.run

        def follow(*args: Any) -> Any:
            if not run.is_recording:
                return handler(*args)
            try:
                body = begin(*args)
            except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
                run.tracer.complain(error)
                return handler(*args)
            with body:
                return handler(*args)

        return follow

    def _beginning(self, component: Any, handler: str, name: str, code: str) -> Callable[..., Body]:
        """Make what says of which event a handler's run is the handling."""
        run = self.run
        take = self._market_of.get(handler)
        if take is not None:

            def of_market(data: Any) -> Body:
                feed = take(data, id(component))
                return run.handling(
                    name,
                    code,
                    feed.handle,
                    event_type=feed.event_type,
                    instrument=feed.instrument,
                    event_time=feed.time,
                )

            return of_market
        if handler in _LIFE:
            return lambda: run.callback(name, code, clock_of(component))
        if handler == "on_signal":
            return lambda signal: self._handling(
                name, code, EventType.SIGNAL, signal, self._signal_of(signal)
            )
        if handler == "on_order":
            return lambda order: self._handling(
                name, code, EventType.ORDER, order, self.orders.last_of(order.client_order_id)
            )
        if handler.startswith("on_order_") and handler != "on_order_list":
            return lambda event: self._of_order(name, code, event)
        if handler.startswith("on_position_"):
            return lambda event: self._handling(
                name, code, EventType.POSITION_CHANGE, event, self.told_position(event)
            )
        return lambda *data: self._handling(
            name, code, EventType.SYSTEM, data[0] if data else None, run.market
        )

    def _of_order(self, name: str, code: str, event: Any) -> Body:
        return self._handling(name, code, EventType.ORDER, event, self.told_order(event))

    def _handling(
        self, name: str | None, code: str, event_type: str, event: Any, cause: Cause | None
    ) -> Body:
        if isinstance(cause, OpenEvent):
            event_type = cause.place.parts[1]
        return self.run.handling(
            name,
            code,
            cause,
            event_type=event_type,
            instrument=about(event),
            event_time=time_of(event),
        )

    # -- What the engine tells ------------------------------------------------------------------

    def told_order(self, event: Any) -> OpenEvent | None:
        """Record an order's event that a strategy is told of."""
        self.accounts.begin(getattr(event, "account_id", None))
        recorded = self.orders.order_event(event)
        # A fill is told of before its account changes.
        if type(event).__name__ in _LOCKING and event.account_id is not None:
            self.accounts.look(event.account_id, recorded, is_filled=False)
        return recorded

    def told_position(self, event: Any) -> OpenEvent | None:
        """Record a position's event that a strategy is told of, and what the account holds."""
        recorded = self.orders.position_event(event)
        fill = self.orders.fill_of(event.position_id)
        if self._shown.get(event.account_id) is not fill:
            self._shown[event.account_id] = fill
            self.accounts.look(event.account_id, fill, is_filled=True)
        return recorded

    def told_data(self, handler: str, data: Any) -> None:
        """Record market data that a strategy is given which does nothing with them."""
        self._market_of[handler](data, 0)

    # -- What strategies ask for ----------------------------------------------------------------

    def signal(self, component: Any, name: str, value: Any, ts_event: int = 0) -> None:
        """Record a signal that is about to be published, about what the running handler has."""
        current = self.run.tracer.current
        event = self.run.signal(
            name,
            value,
            strength=value if type(value) in (int, float) else None,
            strategy=name_of(component),
            instrument=about_event(current),
            event_time=ts_event or clock_of(component),
            cause=current or self._asking(None),
        )
        if event is not None:
            self._signals[name, str(value)] = event

    def _signal_of(self, signal: Any) -> OpenEvent | None:
        return self._signals.get((signal.name, str(signal.value)))

    def closing(self, component: Any, instrument: str | None) -> Callable[[], None]:
        """Remember a call that has the engine make orders, to know them when they turn up.

        Args:
            component: The strategy.
            instrument: What the orders are about; None for whatever it holds.

        Returns:
            What is to be called when the call is over. On a live clock that is later.
        """
        call = _Call(name_of(component), instrument, clock_of(component) or 0, self.run.asking())
        self._calls.append(call)
        del self._calls[:-64]

        def over() -> None:
            if instrument is not None:  # else the engine goes on until nothing is held
                call.end = clock_of(component) or 0

        return over

    def _asking(self, event: Any) -> OpenEvent | None:
        """What a new order or a wish follows from: handler, signal, call, or the calling code."""
        asking = self.run.asking()
        if asking is not None:
            return asking
        if event is not None:
            strategy, instrument = str(event.strategy_id), str(event.instrument_id)
            for call in reversed(self._calls):
                if call.makes(strategy, instrument, event.ts_init):
                    return call.caller
        return self._callback_event()

    def _callback_event(self) -> OpenEvent | None:
        """Code of the user's that no handler runs; its outermost method is the cause."""
        frame = self._outermost_frame()
        if frame is None:
            return None
        if self._callback is None or self._callback[0] is not frame:
            component = frame.f_locals[frame.f_code.co_varnames[0]]
            event = self.run.event(
                EventType.SYSTEM,
                strategy=name_of(component),
                event_time=clock_of(component),
                handler=f"{type(component).__name__}.{frame.f_code.co_name}",
            )
            if event is None:
                return None
            self._callback = (frame, event)
        return self._callback[1]

    def _outermost_frame(self) -> FrameType | None:
        found = None
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            first = frame.f_code.co_varnames[:1]
            if first == ("self",) and isinstance(frame.f_locals.get("self"), self._kinds):
                found = frame
            frame = frame.f_back
        return found

    def timer(self, callback: Callable[[Any], Any]) -> Callable[..., Any]:
        """Put around the call-back of a timer what records its run."""
        current = self.run.tracer.current
        owner = getattr(callback, "__self__", None)
        name = name_of(owner) if isinstance(owner, self._kinds) else None
        if name is None and current is not None:
            name = current.place.parts[3]
        code = handler_name(callback, owner)
        return self.followed(
            callback,
            lambda event: self._handling(name, code, EventType.SYSTEM, event, self.run.market),
        )

    # -- The end --------------------------------------------------------------------------------

    def of(self, parts: EngineParts) -> None:
        """Take what is asked of the engine while it runs."""
        self.orders.cache = parts.cache
        self.orders.since = parts.since
        self.accounts.portfolio = parts.portfolio
        self.accounts.ids = parts.account_ids

    def finish(self) -> None:
        """Record what the engine has told nobody, unless that is done."""
        self._callback = None
        if self.run.is_recording and self.orders.cache is not None:
            try:
                last = record_untold(self.run, self.orders, self.orders.cache.orders())
                self.accounts.end(last)
            except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
                self.run.tracer.complain(error)
        # The engine and its data must not live on because of us.
        self.orders.cache = self.accounts.portfolio = None
        self.accounts.ids = tuple


def name_of(component: Any) -> str:
    """The engine's id of a strategy, an actor or an algorithm."""
    for attribute in ("strategy_id", "exec_algorithm_id", "actor_id"):
        found = getattr(component, attribute, None)
        if found is not None:
            return str(found)
    return type(component).__name__


def about_event(event: OpenEvent | None) -> Instrument:
    """What an event is about."""
    return NOWHERE if event is None else Instrument(*event.place.parts[4:6])


def clock_of(component: Any) -> int | None:
    """Simulated time of a strategy; None before the clock has started."""
    return component.clock.timestamp_ns() or None
