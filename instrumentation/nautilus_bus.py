"""Follows one NautilusTrader message bus and finds the cause of every message.

The stack of deliveries tells what a handler published. Where the engine puts messages in a queue
of its own (an order resting at the simulated exchange), the stack is empty and ids tell instead:
an order's next state follows its last one, a cancelled leg follows the sibling that filled.
"""

from __future__ import annotations

import contextlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

from nautilus_trader.common.actor import Actor
from nautilus_trader.common.component import MessageBus
from nautilus_trader.model import events
from nautilus_trader.model.instruments import Instrument

from fillpath.instrumentation.event_tracer import EventTracer, OpenEvent
from fillpath.instrumentation.nautilus_causes import OrderCauses, is_command
from fillpath.instrumentation.nautilus_events import MARKET_DATA, describe, is_engine_reset
from fillpath.instrumentation.semconv import PROCESS, EventType
from fillpath.instrumentation.spool import NO_TIME
from fillpath.instrumentation.tracing import Tracing

_TAP_PRIORITY: Final = 2**31 - 1
_REMEMBERED_MESSAGES: Final = 4096
_ENGINE_INTAKE: Final = "ExecEngine.process"
"""Endpoint of raw order events; the engine may still refuse one, so it is no news yet."""


class TracedMessageBus(MessageBus):  # type: ignore[misc]  # the engine ships no types
    """The engine's bus, with every subscription and every send followed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("name", MessageBus.__name__)
        super().__init__(*args, **kwargs)
        self.follower = BusFollower(self.trader_id.value)
        super().subscribe("*", self.follower.on_published, _TAP_PRIORITY)

    def subscribe(self, topic: str, handler: Callable[[Any], None], priority: int = 0) -> None:
        """Subscribe a handler that is followed; it stays equal to the one given."""
        super().subscribe(topic, self.follower.follow(handler), priority)

    def send(self, endpoint: str, msg: Any) -> None:
        """Send a message and follow what its handler does."""
        follower = self.follower
        event = follower.on_sent(endpoint, msg)
        if event is None:
            super().send(endpoint, msg)
            return
        with follower.handling(event):
            super().send(endpoint, msg)


class BusFollower:
    """Records what one bus carries.

    Args:
        trader_id: The engine's ``NAME-TAG``; its portfolio namespace is ``name/tag``.
    """

    def __init__(self, trader_id: str) -> None:
        self._trader_id = trader_id
        self._tracing: Tracing | None = None
        self._portfolio = ""
        self._instruments: dict[Any, Instrument] = {}
        self._start_leg()

    def _start_leg(self) -> None:
        """Forget the orders and messages of an earlier run of the same engine."""
        self._causes = OrderCauses()
        self._seen: OrderedDict[int, tuple[Any, OpenEvent]] = OrderedDict()
        self._pending: list[OpenEvent] = []
        self._deliveries: dict[OpenEvent, _Delivery] = {}
        self._last_market_event: OpenEvent | None = None
        self._callback: tuple[FrameType, OpenEvent] | None = None

    def on_engine_reset(self) -> None:
        """The engine starts afresh: its ids come again, so its books get a name of their own."""
        self.settle()
        self._start_leg()
        if self._tracing is not None:
            self._portfolio = self._new_portfolio(self._tracing)

    def settle(self) -> None:
        """Close what is still open: the session ends, or the engine starts afresh."""
        self._close_pending()
        self._close_callback()

    def _new_portfolio(self, tracing: Tracing) -> str:
        return tracing.claim_portfolio(namespace_of_trader(self._trader_id))

    def _tracer(self) -> EventTracer | None:
        """The running session's tracer, or None when nothing is to be recorded."""
        tracing = self._tracing
        if tracing is None:
            tracing = Tracing.active()
            if tracing is None:
                return None
            self._tracing = tracing
            self._portfolio = self._new_portfolio(tracing)
            tracing.before_stop(self.settle)
        return tracing.tracer if tracing.running else None

    # -- What the bus reports. Nothing here may raise: the engine would end the run. ------------

    def on_published(self, message: Any) -> None:
        """Take a publication before any of its subscribers does."""
        tracer = self._tracer()
        if tracer is None:
            return
        with tracer.guarded(losing=type(message).__name__):
            if tracer.current is None:
                self._close_pending()
                if isinstance(message, MARKET_DATA):
                    self._close_callback()
                elif is_engine_reset(message):
                    self.on_engine_reset()
            if self._remembered(message) is None:
                self._record(tracer, message)

    def on_sent(self, endpoint: str, message: Any) -> OpenEvent | None:
        """Take a message to an endpoint; gives the event whose handling begins, if it is one."""
        tracer = self._tracer()
        if tracer is None:
            return None
        event: OpenEvent | None = None
        with tracer.guarded(losing=type(message).__name__):
            if tracer.current is None:
                self._close_pending()
            event = self._remembered(message)
            if event is None and endpoint != _ENGINE_INTAKE:
                event = self._record(tracer, message)
        return event

    def follow(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        """Wrap a handler; the wrapper compares, hashes and prints like the handler."""
        return FollowedHandler(self, handler)

    def delivery(self, message: Any, actor: Any, handler_name: str) -> OpenEvent | None:
        """The event that a handler's run belongs to: its own for strategies, else the message's."""
        tracer = self._tracer()
        if tracer is None:
            return None
        event = self._remembered(message)
        if event is None or actor is None:
            return event
        run: OpenEvent | None = None
        with tracer.guarded():
            place = _Delivery(actor.id.value, *_place_of(message))
            run = tracer.open(
                event.event_type,
                operation=PROCESS,
                portfolio=self._portfolio,
                strategy=place.strategy,
                symbol=place.symbol,
                venue=place.venue,
                handler=f"{type(actor).__name__}.{handler_name}",
                event_time=None if event.event_time == NO_TIME else event.event_time,
                parent=event,
            )
            self._deliveries[run] = place
        return run

    @contextlib.contextmanager
    def handling(self, event: OpenEvent, *, is_user_code: bool = False) -> Iterator[None]:
        """Make the event the cause of what the body does.

        A strategy's delivery ends with the body; a message may have more receivers.
        """
        tracer = self._tracer()
        if tracer is None:
            yield
            return
        failure: BaseException | None = None
        with tracer.handling(event) if is_user_code else tracer.entered(event):
            try:
                yield
            except BaseException as error:
                failure = error
                raise
            finally:
                self._handled(tracer, event, failure)

    def _handled(
        self, tracer: EventTracer, event: OpenEvent, failure: BaseException | None
    ) -> None:
        with tracer.guarded():
            if event.operation == PROCESS:
                self._deliveries.pop(event, None)
                tracer.close(event, error=failure)
            else:
                event.end = tracer.now()

    # -- Recording ------------------------------------------------------------------------------

    def _record(self, tracer: EventTracer, message: Any) -> OpenEvent:
        if isinstance(message, Instrument):
            self._instruments[message.id] = message
        description = self._causes.complete(message, describe(message, self._instruments))
        parent, links = self._causes.of(message)
        if parent is None:
            parent = self._cause_by_stack(tracer, message)
        delivery = self._deliveries.get(tracer.current) if tracer.current is not None else None
        is_signal = description.event_type == EventType.SIGNAL
        if is_signal and delivery is not None:
            # The engine's signals name neither; they are about what the handler was given.
            description = description._replace(
                strategy=delivery.strategy, symbol=delivery.symbol, venue=delivery.venue
            )
        event = tracer.open(
            description.event_type,
            portfolio=self._portfolio,
            strategy=description.strategy,
            symbol=description.symbol,
            venue=description.venue,
            event_time=description.event_time,
            attributes=description.attributes,
            parent=parent,
            links=links,
        )
        self._remember(message, event)
        self._pending.append(event)
        self._causes.recorded(message, event)
        if isinstance(message, MARKET_DATA):
            self._last_market_event = event
        if is_signal and delivery is not None:
            delivery.signal = event
        return event

    def _cause_by_stack(self, tracer: EventTracer, message: Any) -> OpenEvent | None:
        """The running delivery, or the signal it has just published; else the call-back."""
        current = tracer.current
        if current is None:
            is_market_data = isinstance(message, MARKET_DATA)
            return None if is_market_data else self._callback_event(tracer)
        delivery = self._deliveries.get(current)
        if delivery is None or delivery.signal is None:
            return current
        is_trading = isinstance(message, events.OrderEvent) or is_command(message)
        return delivery.signal if is_trading else current

    def _callback_event(self, tracer: EventTracer) -> OpenEvent | None:
        """No handler runs: a timer, `on_start` or `on_stop`. The call-back itself is the cause.

        It follows the last market event, because simulated time moves only with those.
        """
        frame = _outermost_actor_frame()
        if frame is None:
            return self._last_market_event
        if self._callback is None or self._callback[0] is not frame:
            self._close_callback()
            actor = frame.f_locals["self"]
            event = tracer.open(
                EventType.SYSTEM,
                portfolio=self._portfolio,
                strategy=actor.id.value,
                handler=f"{type(actor).__name__}.{frame.f_code.co_name}",
                event_time=_time_of(actor),
                parent=self._last_market_event,
            )
            self._callback = (frame, event)
        event = self._callback[1]
        event.end = tracer.now()
        return event

    def _remembered(self, message: Any) -> OpenEvent | None:
        found = self._seen.get(id(message))
        return found[1] if found is not None else None

    def _remember(self, message: Any, event: OpenEvent) -> None:
        # The message is kept too, so that its address is not given to another one meanwhile.
        self._seen[id(message)] = (message, event)
        if len(self._seen) > _REMEMBERED_MESSAGES:
            self._seen.popitem(last=False)

    def _close_pending(self) -> None:
        """Nothing is being handled: whatever was published before has been delivered."""
        pending, self._pending = self._pending, []
        if self._tracing is None or not self._tracing.running:
            return
        for event in pending:
            self._tracing.tracer.close(event, end=max(event.end, event.start))

    def _close_callback(self) -> None:
        if self._callback is not None:
            event = self._callback[1]
            self._callback = None
            if self._tracing is not None and self._tracing.running:
                self._tracing.tracer.close(event, end=max(event.end, event.start))


class _Delivery:
    """A strategy's handler that runs now, and the signal it has published so far."""

    __slots__ = ("signal", "strategy", "symbol", "venue")

    def __init__(self, strategy: str, symbol: str | None, venue: str | None) -> None:
        self.strategy = strategy
        self.symbol = symbol
        self.venue = venue
        self.signal: OpenEvent | None = None


class FollowedHandler:
    """A subscriber that is followed; equal to the handler it wraps, so it can be unsubscribed."""

    __slots__ = ("_actor", "_follower", "_handler", "_name")

    def __init__(self, follower: BusFollower, handler: Callable[[Any], None]) -> None:
        self._follower = follower
        self._handler = handler
        owner = getattr(handler, "__self__", None)
        self._actor = owner if isinstance(owner, Actor) else None
        self._name = _USER_METHODS.get(handler.__name__, handler.__name__) if self._actor else ""

    def __call__(self, message: Any) -> None:
        """Hand the message to the handler, as a delivery."""
        follower = self._follower
        event = follower.delivery(message, self._actor, self._name)
        if event is None:
            self._handler(message)
            return
        with follower.handling(event, is_user_code=self._actor is not None):
            self._handler(message)

    def __eq__(self, other: object) -> bool:
        return bool(self._handler == getattr(other, "_handler", other))

    def __hash__(self) -> int:
        return hash(self._handler)

    def __str__(self) -> str:
        return str(self._handler)

    __repr__ = __str__


_USER_METHODS: Final = {
    "handle_bar": "on_bar",
    "handle_quote_tick": "on_quote_tick",
    "handle_trade_tick": "on_trade_tick",
    "handle_order_book_deltas": "on_order_book_deltas",
    "handle_order_book_depth": "on_order_book_depth",
    "handle_order_book": "on_order_book",
    "handle_event": "on_event",
    "handle_signal": "on_signal",
    "handle_data": "on_data",
    "handle_instrument": "on_instrument",
}
"""The engine's handlers, and the method of the user's that each one calls."""


def _place_of(message: Any) -> tuple[str | None, str | None]:
    owner = message.bar_type if hasattr(message, "bar_type") else message
    instrument_id = getattr(owner, "instrument_id", None)
    if instrument_id is None:
        return None, None
    return instrument_id.symbol.value, instrument_id.venue.value


def _time_of(actor: Any) -> int | None:
    """Simulated time of an actor; None before it is registered or the clock has started."""
    return actor.clock.timestamp_ns() or None if actor.clock is not None else None


def _outermost_actor_frame() -> FrameType | None:
    """The outermost Python frame that runs a method of a strategy, algorithm or actor."""
    found = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_varnames[:1] == ("self",) and isinstance(
            frame.f_locals.get("self"), Actor
        ):
            found = frame
        frame = frame.f_back
    return found


def namespace_of_trader(trader_id: str) -> str:
    """Portfolio namespace of an engine's trader id: ``DEMO-EQUITIES`` is ``demo/equities``."""
    return trader_id.lower().replace("-", "/")
