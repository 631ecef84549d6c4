"""Follows one NautilusTrader message bus and finds the cause of every message.

The stack of deliveries tells what a handler published. Where the engine puts messages in a queue
of its own (an order resting at the simulated exchange), the stack is empty and ids tell instead:
an order's next state follows its last one, a cancelled leg follows the sibling that filled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from time import perf_counter_ns
from types import FrameType
from typing import Any, Final

from nautilus_trader.common.actor import Actor
from nautilus_trader.common.component import LiveClock, MessageBus
from nautilus_trader.model import events
from nautilus_trader.model.instruments import Instrument

from fillpath.instrumentation.event_columns import time_of
from fillpath.instrumentation.event_tracer import EventTracer, OpenEvent
from fillpath.instrumentation.nautilus import namespace_of_trader
from fillpath.instrumentation.nautilus_causes import OrderCauses, is_command
from fillpath.instrumentation.nautilus_events import describe, is_engine_reset, plain_attributes
from fillpath.instrumentation.nautilus_handlers import FollowedHandler
from fillpath.instrumentation.nautilus_market import MARKET_DATA, MarketReader
from fillpath.instrumentation.nautilus_orders import OrderReader
from fillpath.instrumentation.open_event import Place
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.spool import NO_TIME
from fillpath.instrumentation.tracing import Tracing

_TAP_PRIORITY: Final = 2**31 - 1
_REMEMBERED_MESSAGES: Final = 4096
_ENGINE_INTAKE: Final = "ExecEngine.process"
"""Endpoint of raw order events; the engine may still refuse one, so it is no news yet."""
_DATA_INTAKE: Final = "DataEngine.process"
"""Endpoint of a live feed's data; they wait in a queue there and are news when published."""


class TracedMessageBus(MessageBus):  # type: ignore[misc]  # the engine ships no types
    """The engine's bus, with every subscription and every send followed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("name", MessageBus.__name__)
        super().__init__(*args, **kwargs)
        is_live = any(isinstance(each, LiveClock) for each in (*args, *kwargs.values()))
        self.follower = BusFollower(self.trader_id.value, is_live=is_live)
        super().subscribe("*", self.follower.on_published, _TAP_PRIORITY)

    def subscribe(self, topic: str, handler: Callable[[Any], None], priority: int = 0) -> None:
        """Subscribe a handler that is followed; it stays equal to the one given."""
        super().subscribe(topic, self.follower.follow(handler), priority)

    def send(self, endpoint: str, msg: Any) -> None:
        """Send a message and follow what its handler does."""
        if endpoint == _DATA_INTAKE:
            _send(self, endpoint, msg)
            return
        follower = self.follower
        event = follower.on_sent(endpoint, msg)
        if event is None:
            if endpoint != _ENGINE_INTAKE:
                _send(self, endpoint, msg)
                return
            follower.intakes += 1
            try:
                _send(self, endpoint, msg)
            finally:
                follower.intakes -= 1
                follower.end_intake(msg)
            return
        tracer = event.tracer
        token = tracer.enter(event)
        try:
            _send(self, endpoint, msg)
        finally:
            tracer.leave(token)
            event.end = perf_counter_ns()


_send: Final[Callable[[MessageBus, str, Any], None]] = MessageBus.send


class Turn:
    """What one thread has published since it last had nothing to handle.

    Attributes:
        pending: What is still to be closed.
        within: Of those that are no market data, in order: during what each was published.
        callback: The call-back of the user's that runs, by its frame, and its event.
    """

    __slots__ = ("callback", "pending", "within")

    def __init__(self) -> None:
        self.pending: list[OpenEvent] = []
        self.within: dict[OpenEvent, OpenEvent | None] = {}
        self.callback: tuple[FrameType, OpenEvent] | None = None

    def is_over(self, running: FrameType | None) -> bool:
        """Tell whether the call-back has returned, by the innermost frame of its thread."""
        if self.callback is None:
            return running is None
        frame = running
        while frame is not None and frame is not self.callback[0]:
            frame = frame.f_back
        return frame is None


class BusFollower:
    """Records what one bus carries.

    Args:
        trader_id: The engine's ``NAME-TAG``; its portfolio namespace is ``name/tag``.
        is_live: Whether time passes by itself, and timers run in threads of their own.

    Attributes:
        intakes: How many raw order events the engine is working on, one within another.
        is_live: As given.
        last: The message that was recorded or looked up last, and its event.
        places_of_runs: Places of the runs of strategies' handlers.
        books: The portfolio namespace of what it carries; empty before the first message.
        recording: The session's tracer, once there is one, until it is detached.
    """

    def __init__(self, trader_id: str, *, is_live: bool = False) -> None:
        self.intakes = 0
        self._trader_id = trader_id
        self.is_live = is_live
        self._tracing: Tracing | None = None
        self._tracer: EventTracer | None = None
        self.recording: EventTracer | None = None
        self._is_detached = False
        self._market: MarketReader
        self._orders: OrderReader
        self.places_of_runs: set[Place] = set()
        self.books = ""
        self._instruments: dict[Any, Instrument] = {}
        self._start_leg()

    def _start_leg(self) -> None:
        """Forget the orders and messages of an earlier run of the same engine."""
        self._causes = OrderCauses()
        # Two generations: what is remembered is forgotten by the thousand, not one by one.
        # Market data apart: a burst of it must not drive out a command that waits in a queue.
        self._seen: dict[int, tuple[Any, OpenEvent]] = {}
        self._seen_before: dict[int, tuple[Any, OpenEvent]] = {}
        self._ticks: dict[int, tuple[Any, OpenEvent]] = {}
        self._ticks_before: dict[int, tuple[Any, OpenEvent]] = {}
        self.last: tuple[Any, OpenEvent | None] = self, None
        self._turn = Turn()  # of the thread that publishes market data
        self._turns = {get_ident(): self._turn}  # by thread
        self._signals: dict[OpenEvent, OpenEvent] = {}  # the last of each strategy's run
        self._last_market_event: OpenEvent | None = None

    def on_engine_reset(self) -> None:
        """The engine starts afresh: its ids come again, so its books get a name of their own."""
        self.settle()
        self._start_leg()
        if self._tracing is not None and self._tracer is not None:
            self._name_books(self._tracing, self._tracer)

    def detach(self) -> None:
        """Record nothing any more; handlers that run now still end."""
        self._is_detached = True
        self.recording = None

    def settle(self) -> None:
        """Close what is still open: the session ends, or the engine starts afresh."""
        for turn in tuple(self._turns.values()):
            self._close_pending(turn)
            self._close_callback(turn)

    def _turn_here(self) -> Turn:
        """The turn of this thread. A live engine's timers run in other threads than its loop."""
        if not self.is_live:
            return self._turn
        thread = get_ident()
        turn = self._turns.get(thread)
        if turn is None:
            turn = self._turns[thread] = Turn()
        return turn

    def _name_books(self, tracing: Tracing, tracer: EventTracer) -> None:
        self.books = tracing.claim_portfolio(namespace_of_trader(self._trader_id))
        self._market = MarketReader(tracer, self.books)
        self._orders = OrderReader(tracer, self.books, self._instruments)

    def running_tracer(self) -> EventTracer | None:
        """The running session's tracer, or None when nothing is to be recorded."""
        tracer = self.recording
        if tracer is None:
            tracing = Tracing.active()
            if self._is_detached or tracing is None or not tracing.running:
                return None
            self._tracing = tracing
            self._tracer = tracer = tracing.tracer
            self._name_books(tracing, tracer)
            tracing.before_stop(self.settle)
            self.recording = tracer  # only now: other threads take it without a look at the rest
        return None if tracer.stopped else tracer

    def portfolio(self) -> str | None:
        """Namespace of the engine's events from now on, or None when nothing is to be recorded."""
        return None if self.running_tracer() is None else self.books

    # -- What the bus reports. Nothing here may raise: the engine would end the run. ------------

    def on_published(self, message: Any) -> None:
        """Take a publication before any of its subscribers does."""
        tracer = self.recording
        if tracer is None or tracer.stopped:
            tracer = self.running_tracer()
            if tracer is None:
                return
        try:
            current = tracer.current
            opener = self._market.opener(type(message))
            turn = self._turn_here() if self.is_live else self._turn
            if current is None:
                if turn.pending and not self.intakes:
                    self._close_pending(turn)
                if opener is None or self.is_live or turn.callback is not None:
                    self._begin_turn(turn, message)
            if opener is None:
                if self.last[0] is not message and self.event_of(message) is None:
                    # Not the turn from above: an engine that starts afresh has begun a new one.
                    self._record(tracer, message, self._turn_here(), current)
            elif id(message) not in self._ticks and id(message) not in self._ticks_before:
                event = self._last_market_event = opener(message, current)
                turn.pending.append(event)
                ticks = self._ticks
                ticks[id(message)] = self.last = message, event
                if len(ticks) >= _REMEMBERED_MESSAGES:
                    self._ticks_before = ticks
                    self._ticks = {}
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.lost(type(message).__name__)
            tracer.complain(error)

    def on_sent(self, endpoint: str, message: Any) -> OpenEvent | None:
        """Take a message to an endpoint; gives the event whose handling begins, if it is one."""
        tracer = self.recording
        if tracer is None or tracer.stopped:
            tracer = self.running_tracer()
            if tracer is None:
                return None
        try:
            turn = self._turn_here() if self.is_live else self._turn
            if turn.pending and not self.intakes and tracer.is_idle:
                self._close_pending(turn)
            known, event = self.last
            if known is not message:
                event = self.event_of(message)
            if event is None and endpoint != _ENGINE_INTAKE:
                event = self._record(tracer, message, turn, tracer.current)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.lost(type(message).__name__)
            tracer.complain(error)
            return None
        return event

    def end_intake(self, message: Any) -> None:
        """The engine has done all that an order event leads to at once, such as a position."""
        known, event = self.last
        if known is not message:
            event = self.event_of(message)
        if event is not None:
            event.end = perf_counter_ns()

    def follow(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        """Wrap a handler; the wrapper compares, hashes and prints like the handler."""
        return FollowedHandler(self, handler)

    def forget_signal(self, run: OpenEvent) -> None:
        """A strategy's run of a handler has ended: what comes now does not follow its signal."""
        if self._signals:
            self._signals.pop(run, None)

    # -- Recording ------------------------------------------------------------------------------

    def _record(
        self, tracer: EventTracer, message: Any, turn: Turn, current: OpenEvent | None
    ) -> OpenEvent:
        causes, orders = self._causes, self._orders
        if isinstance(message, events.OrderFilled):
            causes.count_fill(message)
        row = orders.row(message, causes)
        if row is None:
            event = self._record_other(tracer, message, current)
        else:
            parent, links = causes.of(message)
            if parent is None:
                parent = self._cause_by_stack(tracer, message, current)
            place, attributes, time = row
            event = tracer.open_at(place, parent, time, attributes, links)
        # The message is kept too, so that its address is not given to another one meanwhile.
        seen = self._seen
        seen[id(message)] = self.last = message, event
        if len(seen) >= _REMEMBERED_MESSAGES:
            self._seen_before = seen
            self._seen = {}
        turn.pending.append(event)
        turn.within[event] = current
        causes.recorded(message, event)
        return event

    def _record_other(
        self, tracer: EventTracer, message: Any, current: OpenEvent | None
    ) -> OpenEvent:
        """Record a message of a class that is described each time."""
        if isinstance(message, Instrument):
            self._instruments[message.id] = message
            self._orders.forget_patterns()
        description = self._causes.complete(message, describe(message, self._instruments))
        parent, links = self._causes.of(message)
        if parent is None:
            parent = self._cause_by_stack(tracer, message, current)
        is_signal = description.event_type == EventType.SIGNAL
        run = self._run_of_strategy(tracer.current) if is_signal else None
        if run is not None:
            # The engine's signals name neither; they are about what the handler was given.
            strategy, symbol, venue = run.place.parts[3:6]
            description = description._replace(strategy=strategy, symbol=symbol, venue=venue)
        time = description.event_time
        event = tracer.open_at(
            self._orders.place_of(description),
            parent,
            NO_TIME if time is None else time_of(time),
            plain_attributes(message, description),
            links,
        )
        if isinstance(message, MARKET_DATA):
            self._last_market_event = event
        if run is not None:
            self._signals[run] = event
        return event

    def _run_of_strategy(self, current: OpenEvent | None) -> OpenEvent | None:
        """The event whose handler runs, if that is a strategy's and has not ended."""
        if current is None or current.closed or current.place not in self.places_of_runs:
            return None
        return current

    def _cause_by_stack(
        self, tracer: EventTracer, message: Any, current: OpenEvent | None
    ) -> OpenEvent | None:
        """The running delivery, or the signal it has just published; else the call-back."""
        if current is None:
            is_market_data = isinstance(message, MARKET_DATA)
            return None if is_market_data else self._callback_event(tracer)
        signal = self._signals.get(current) if self._signals else None
        if signal is None:
            return current
        is_trading = isinstance(message, events.OrderEvent) or is_command(message)
        return signal if is_trading else current

    def _callback_event(self, tracer: EventTracer) -> OpenEvent | None:
        """No handler runs: a timer, `on_start` or `on_stop`. The call-back itself is the cause.

        In a backtest it follows the last market event, because simulated time moves only with
        those. A live clock moves by itself.
        """
        before = None if self.is_live else self._last_market_event
        frame = _outermost_actor_frame()
        if frame is None:
            return before
        turn = self._turn_here()
        if turn.callback is None or turn.callback[0] is not frame:
            self._close_callback(turn)
            actor = frame.f_locals["self"]
            event = tracer.open(
                EventType.SYSTEM,
                portfolio=self.books,
                strategy=actor.id.value,
                handler=f"{type(actor).__name__}.{frame.f_code.co_name}",
                event_time=_time_of(actor),
                parent=before,
            )
            turn.callback = (frame, event)
        event = turn.callback[1]
        event.end = tracer.now()
        return event

    def event_of(self, message: Any) -> OpenEvent | None:
        """The event that a message was recorded as, if that was lately."""
        key = id(message)
        found = (
            self._seen.get(key)
            or self._ticks.get(key)
            or self._seen_before.get(key)
            or self._ticks_before.get(key)
        )
        if found is None:
            return None
        self.last = found
        return found[1]

    def _begin_turn(self, turn: Turn, message: Any) -> None:
        """Nothing is being handled in this thread, and this is published."""
        if isinstance(message, MARKET_DATA):
            self._close_callback(turn)
            if self.is_live:
                self._turn = turn
                self._close_turns_that_are_over()
        elif is_engine_reset(message):
            self.on_engine_reset()

    def _close_turns_that_are_over(self) -> None:
        """Close what other threads than the loop's published in call-backs that have returned."""
        if len(self._turns) == 1:
            return
        others = [
            (thread, turn)
            for thread, turn in tuple(self._turns.items())
            if turn is not self._turn and (turn.pending or turn.callback is not None)
        ]
        if others:
            frames = sys._current_frames()
            for thread, turn in others:
                if turn.is_over(frames.get(thread)):
                    self._close_pending(turn)
                    self._close_callback(turn)

    def _close_pending(self, turn: Turn) -> None:
        """Nothing is being handled: whatever was published before has been delivered."""
        pending, turn.pending = turn.pending, []
        if turn.within:
            self._cover_effects(turn)
        if self._tracer is not None and not self._tracer.stopped:
            self._tracer.close_all(pending)

    def _cover_effects(self, turn: Turn) -> None:
        """Let an event last until the end of what it led to at once.

        That is what was published in the same run of a handler, or in the same turn of the engine.
        What comes of it later, such as the fill of an order that waits, lies behind its end.
        """
        within, turn.within = turn.within, {}
        for event, around in reversed(within.items()):
            event.end = max(event.end, event.start)
            if around is not None and event.start < around.end < event.end:
                event.end = around.end  # its message went on to others after that
            parent = event.parent
            if parent is None or parent.closed or parent.place in self.places_of_runs:
                continue
            limit = within.get(parent)
            if limit is None or not parent.end < limit.end < event.end:
                parent.end = max(parent.end, event.end)

    def _close_callback(self, turn: Turn) -> None:
        if turn.callback is not None:
            event = turn.callback[1]
            turn.callback = None
            if self._tracer is not None and not self._tracer.stopped:
                self._tracer.close(event, end=max(event.end, event.start))


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
