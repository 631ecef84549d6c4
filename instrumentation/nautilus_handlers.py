"""Follows the subscribers of a NautilusTrader message bus."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from nautilus_trader.common.actor import Actor

from fillpath.instrumentation.event_span import HandlerRun
from fillpath.instrumentation.event_tracer import EventTracer, OpenEvent
from fillpath.instrumentation.open_event import Place
from fillpath.instrumentation.semconv import PROCESS

if TYPE_CHECKING:
    from fillpath.instrumentation.nautilus_bus import BusFollower

_SECONDS_OF_A_FAILURE: Final = 1.0
"""How long a live engine waits at most, when a handler has failed, for that to be written."""


class FollowedHandler:
    """A subscriber that is followed; equal to the handler it wraps, so it can be unsubscribed."""

    __slots__ = ("_actor", "_follower", "_handler", "_name", "_places")

    def __init__(self, follower: BusFollower, handler: Callable[[Any], None]) -> None:
        self._follower = follower
        self._handler = handler
        owner = getattr(handler, "__self__", None)
        self._actor: Any = owner if isinstance(owner, Actor) else None
        is_actors = self._actor is not None
        self._name = _USER_METHODS.get(handler.__name__, handler.__name__) if is_actors else ""
        self._places: dict[Place, tuple[Any, Place]] = {}
        """Of the events that were handled, by theirs, with the actor's id at that time."""

    def __call__(self, message: Any) -> None:
        """Hand the message to the handler, as a delivery."""
        follower = self._follower
        tracer = follower.recording
        if tracer is None or tracer.stopped:
            tracer = follower.running_tracer()
            if tracer is None:
                self._handler(message)
                return
        known, event = follower.last
        if known is not message:
            event = follower.event_of(message)
        if event is None:
            self._handler(message)
            return
        if self._actor is None:
            token = tracer.enter(event)
            try:
                self._handler(message)
            finally:
                tracer.leave(token)
                event.end = perf_counter_ns()
            return
        run = self._begin(tracer, event, message)
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
            self._end(tracer, run, failure)
            event.end = run.ended

    # What follows may not raise: the engine would end the run.

    def _begin(self, tracer: EventTracer, event: OpenEvent, message: Any) -> HandlerRun | None:
        """Begin a strategy's run of a handler, which is an event of its own."""
        try:
            found = self._places.get(event.place)
            # The engine makes the text of an id anew each time, but keeps the id.
            if found is None or found[0] is not self._actor.id:
                place = self._place(tracer, event, message)
            else:
                place = found[1]
            return tracer.enter_run(place, event, event.event_time)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.complain(error)
            return None

    def _place(self, tracer: EventTracer, event: OpenEvent, message: Any) -> Place:
        actor = self._actor
        symbol, venue = _place_of(message)
        place = tracer.place(
            event.event_type,
            operation=PROCESS,
            portfolio=self._follower.books,
            strategy=actor.id.value,
            symbol=symbol,
            venue=venue,
            handler=f"{type(actor).__name__}.{self._name}",
        )
        self._follower.places_of_runs.add(place)
        if (symbol, venue) == event.place.parts[4:6]:
            self._places[event.place] = actor.id, place
        return place

    def _end(self, tracer: EventTracer, run: HandlerRun, failure: BaseException | None) -> None:
        """End a strategy's run of a handler."""
        try:
            tracer.leave_run(run, failure)
            if run.made is not None:
                self._follower.forget_signal(run.made)
            if failure is not None and self._follower.is_live:
                # Unless it is told otherwise, a live engine now ends the process as it stands.
                _, recorder = tracer.direct()
                recorder.written(monotonic() + _SECONDS_OF_A_FAILURE)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.complain(error)

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
