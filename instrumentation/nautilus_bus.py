"""Follows one NautilusTrader message bus and finds the cause of every message.

The stack of deliveries tells what a handler published. Where the engine puts messages in a queue
of its own (an order resting at the simulated exchange), the stack is empty and ids tell instead:
an order's next state follows its last one, a cancelled leg follows the sibling that filled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from time import monotonic, perf_counter_ns
from types import FrameType
from typing import Any, Final

from nautilus_trader.common.actor import Actor
from nautilus_trader.common.component import LiveClock, MessageBus
from nautilus_trader.model import events
from nautilus_trader.model.instruments import Instrument

from fillpath.instrumentation.event_columns import time_of
from fillpath.instrumentation.event_span import HandlerRun
from fillpath.instrumentation.event_tracer import EventTracer, OpenEvent
from fillpath.instrumentation.nautilus import namespace_of_trader
from fillpath.instrumentation.nautilus_causes import OrderCauses, is_command
from fillpath.instrumentation.nautilus_events import describe, is_engine_reset, plain_attributes
from fillpath.instrumentation.nautilus_market import MARKET_DATA, MarketReader
from fillpath.instrumentation.open_event import Place
from fillpath.instrumentation.semconv import PROCESS, EventType
from fillpath.instrumentation.spool import NO_TIME
from fillpath.instrumentation.tracing import Tracing

_TAP_PRIORITY: Final = 2**31 - 1
_REMEMBERED_MESSAGES: Final = 4096
_SECONDS_OF_A_FAILURE: Final = 1.0
"""How long a live engine waits at most, when a handler has failed, for that to be written."""
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
            super().send(endpoint, msg)
            return
        follower = self.follower
        event = follower.on_sent(endpoint, msg)
        if event is None:
            if endpoint != _ENGINE_INTAKE:
                super().send(endpoint, msg)
                return
            follower.intakes += 1
            try:
                super().send(endpoint, msg)
            finally:
                follower.intakes -= 1
                follower.end_intake(msg)
            return
        token = event.tracer.enter(event)
        try:
            super().send(endpoint, msg)
        finally:
            event.tracer.leave(token)
            event.end = perf_counter_ns()


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
    """

    def __init__(self, trader_id: str, *, is_live: bool = False) -> None:
        self.intakes = 0
        self._trader_id = trader_id
        self._is_live = is_live
        self._tracing: Tracing | None = None
        self._tracer: EventTracer | None = None
        self._recording: EventTracer | None = None  # the same, until it is detached
        self._is_detached = False
        self._market: MarketReader | None = None
        self._places: dict[tuple[str | None, ...], Place] = {}
        self._run_places: dict[tuple[Place, str, str], Place] = {}
        self._places_of_runs: set[Place] = set()
        self._portfolio = ""
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
        self._recording = None

    def settle(self) -> None:
        """Close what is still open: the session ends, or the engine starts afresh."""
        for turn in tuple(self._turns.values()):
            self._close_pending(turn)
            self._close_callback(turn)

    def _turn_here(self) -> Turn:
        """The turn of this thread. A live engine's timers run in other threads than its loop."""
        if not self._is_live:
            return self._turn
        thread = get_ident()
        turn = self._turns.get(thread)
        if turn is None:
            turn = self._turns[thread] = Turn()
        return turn

    def _name_books(self, tracing: Tracing, tracer: EventTracer) -> None:
        self._portfolio = tracing.claim_portfolio(namespace_of_trader(self._trader_id))
        self._market = MarketReader(tracer, self._portfolio)
        self._places.clear()
        self._run_places.clear()

    def running_tracer(self) -> EventTracer | None:
        """The running session's tracer, or None when nothing is to be recorded."""
        tracer = self._recording
        if tracer is None:
            tracing = Tracing.active()
            if self._is_detached or tracing is None or not tracing.running:
                return None
            self._tracing = tracing
            self._tracer = self._recording = tracer = tracing.tracer
            self._name_books(tracing, tracer)
            tracing.before_stop(self.settle)
        return None if tracer.stopped else tracer

    def portfolio(self) -> str | None:
        """Namespace of the engine's events from now on, or None when nothing is to be recorded."""
        return None if self.running_tracer() is None else self._portfolio

    # -- What the bus reports. Nothing here may raise: the engine would end the run. ------------

    def on_published(self, message: Any) -> None:
        """Take a publication before any of its subscribers does."""
        tracer = self._recording
        if tracer is None or tracer.stopped:
            tracer = self.running_tracer()
            if tracer is None:
                return
        try:
            kind = type(message)
            current = tracer.current
            opener = self._market.opener(kind) if self._market is not None else None
            turn = self._turn_here() if self._is_live else self._turn
            if current is None:
                if turn.pending and not self.intakes:
                    self._close_pending(turn)
                if opener is None or self._is_live or turn.callback is not None:
                    self._begin_turn(turn, message)
            if opener is None:
                if self.event_of(message) is None:
                    self._record(tracer, message)
            elif id(message) not in self._ticks and id(message) not in self._ticks_before:
                event = self._last_market_event = opener(message, current)
                turn.pending.append(event)
                ticks = self._ticks
                ticks[id(message)] = message, event
                if len(ticks) >= _REMEMBERED_MESSAGES:
                    self._ticks_before = ticks
                    self._ticks = {}
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.lost(type(message).__name__)
            tracer.complain(error)

    def on_sent(self, endpoint: str, message: Any) -> OpenEvent | None:
        """Take a message to an endpoint; gives the event whose handling begins, if it is one."""
        tracer = self.running_tracer()
        if tracer is None:
            return None
        try:
            turn = self._turn_here()
            if turn.pending and not self.intakes and tracer.current is None:
                self._close_pending(turn)
            event = self.event_of(message)
            if event is None and endpoint != _ENGINE_INTAKE:
                event = self._record(tracer, message)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.lost(type(message).__name__)
            tracer.complain(error)
            return None
        return event

    def end_intake(self, message: Any) -> None:
        """The engine has done all that an order event leads to at once, such as a position."""
        event = self.event_of(message)
        if event is not None:
            event.end = perf_counter_ns()

    def follow(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        """Wrap a handler; the wrapper compares, hashes and prints like the handler."""
        return FollowedHandler(self, handler)

    def delivery(
        self, tracer: EventTracer, event: OpenEvent, message: Any, actor: Any, handler_name: str
    ) -> HandlerRun | None:
        """Begin a strategy's run of a handler, which is an event of its own."""
        try:
            # The engine makes the text of an id anew each time, but keeps the id.
            key = event.place, actor.id, handler_name
            place = self._run_places.get(key)
            if place is None:
                symbol, venue = _place_of(message)
                place = tracer.place(
                    event.event_type,
                    operation=PROCESS,
                    portfolio=self._portfolio,
                    strategy=actor.id.value,
                    symbol=symbol,
                    venue=venue,
                    handler=f"{type(actor).__name__}.{handler_name}",
                )
                self._places_of_runs.add(place)
                if (symbol, venue) == event.place.parts[4:6]:
                    self._run_places[key] = place
            return tracer.enter_run(place, event, event.event_time)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.complain(error)
            return None

    def end_delivery(
        self, tracer: EventTracer, run: HandlerRun, failure: BaseException | None
    ) -> None:
        """End a strategy's run of a handler."""
        try:
            tracer.leave_run(run, failure)
            if self._signals and run.made is not None:
                self._signals.pop(run.made, None)
            if failure is not None and self._is_live:
                # Unless it is told otherwise, a live engine now ends the process as it stands.
                _, recorder = tracer.direct()
                recorder.written(monotonic() + _SECONDS_OF_A_FAILURE)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.complain(error)

    # -- Recording ------------------------------------------------------------------------------

    def _record(self, tracer: EventTracer, message: Any) -> OpenEvent:
        if isinstance(message, Instrument):
            self._instruments[message.id] = message
        description = self._causes.complete(message, describe(message, self._instruments))
        parent, links = self._causes.of(message)
        if parent is None:
            parent = self._cause_by_stack(tracer, message)
        is_signal = description.event_type == EventType.SIGNAL
        run = self._run_of_strategy(tracer.current) if is_signal else None
        if run is not None:
            # The engine's signals name neither; they are about what the handler was given.
            strategy, symbol, venue = run.place.parts[3:6]
            description = description._replace(strategy=strategy, symbol=symbol, venue=venue)
        event_type, _, *where, time = description
        key = event_type, *where
        place = self._places.get(key)
        if place is None:
            strategy, symbol, venue = where
            place = self._places[key] = tracer.place(
                event_type, portfolio=self._portfolio, strategy=strategy, symbol=symbol, venue=venue
            )
        event = tracer.open_at(
            place,
            parent,
            NO_TIME if time is None else time_of(time),
            plain_attributes(message, description),
            links,
        )
        self._remember(message, event)
        turn = self._turn_here()
        turn.pending.append(event)
        turn.within[event] = tracer.current
        self._causes.recorded(message, event)
        if isinstance(message, MARKET_DATA):
            self._last_market_event = event
        if run is not None:
            self._signals[run] = event
        return event

    def _run_of_strategy(self, current: OpenEvent | None) -> OpenEvent | None:
        """The event whose handler runs, if that is a strategy's and has not ended."""
        if current is None or current.closed or current.place not in self._places_of_runs:
            return None
        return current

    def _cause_by_stack(self, tracer: EventTracer, message: Any) -> OpenEvent | None:
        """The running delivery, or the signal it has just published; else the call-back."""
        current = tracer.current
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
        before = None if self._is_live else self._last_market_event
        frame = _outermost_actor_frame()
        if frame is None:
            return before
        turn = self._turn_here()
        if turn.callback is None or turn.callback[0] is not frame:
            self._close_callback(turn)
            actor = frame.f_locals["self"]
            event = tracer.open(
                EventType.SYSTEM,
                portfolio=self._portfolio,
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
            self._ticks.get(key)
            or self._seen.get(key)
            or self._seen_before.get(key)
            or self._ticks_before.get(key)
        )
        return found[1] if found is not None else None

    def _remember(self, message: Any, event: OpenEvent) -> None:
        # The message is kept too, so that its address is not given to another one meanwhile.
        seen = self._seen
        seen[id(message)] = message, event
        if len(seen) >= _REMEMBERED_MESSAGES:
            self._seen_before = seen
            self._seen = {}

    def _begin_turn(self, turn: Turn, message: Any) -> None:
        """Nothing is being handled in this thread, and this is published."""
        if isinstance(message, MARKET_DATA):
            self._close_callback(turn)
            if self._is_live:
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
            if parent is None or parent.closed or parent.place in self._places_of_runs:
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
        tracer = follower.running_tracer()
        event = follower.event_of(message) if tracer is not None else None
        if event is None or tracer is None:
            self._handler(message)
            return
        actor = self._actor
        if actor is None:
            token = tracer.enter(event)
            try:
                self._handler(message)
            finally:
                tracer.leave(token)
                event.end = perf_counter_ns()
            return
        run = follower.delivery(tracer, event, message, actor, self._name)
        if run is None:
            self._handler(message)
            return
        failure: BaseException | None = None
        try:
            self._handler(message)
        except BaseException as error:
            failure = error
            raise
        finally:
            follower.end_delivery(tracer, run, failure)
            event.end = run.ended

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
