"""Records what a home-made bus carries: its events, their causes, and the runs of handlers.

Nesting tells causes: what is published while an event's `publish` call runs was caused by it. A
subscriber's run is a delivery of its own, recorded when it causes something. A queued bus that
delivers later keeps causes too, because the followed handler remembers which event it was given.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

from fillpath.instrumentation import queue_loop
from fillpath.instrumentation.bus_deliveries import Deliveries
from fillpath.instrumentation.bus_queue import BusQueue
from fillpath.instrumentation.event_argument import EventArgument
from fillpath.instrumentation.event_memory import EventMemory, Known, event_of
from fillpath.instrumentation.event_span import Publication
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.followed_calls import finish
from fillpath.instrumentation.host_fields import EventFields, EventReader, HostEvent
from fillpath.instrumentation.open_event import Cause, OpenEvent, Place, RemoteEvent
from fillpath.instrumentation.order_memory import OrderMemory
from fillpath.instrumentation.plain_events import PlainEvents
from fillpath.instrumentation.running_event import UserCode
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.spool import NO_TIME
from fillpath.instrumentation.subscriptions import Subscriptions
from fillpath.instrumentation.tracing import Tracing

_PLAIN_RESULTS: Final = (bool, int, float, str, list, dict, tuple)


_Begun = tuple[Known, Known | None, UserCode | None, bool]
"""An event, as what the same object was recorded before, what leaves its handling, and whether
another event caused it."""


class BusFollower:
    """Records what one bus carries. Its public methods stand in for those of the bus.

    Args:
        name: What kind of bus it is; noted with the run.
        tracing: The session that records; the active one if None.
        fields: Where the host's events keep what fillpath needs.
        argument: Which argument of the publishing method is the event, if that is known.
        topic: The topic of all its events, if they have but one.
        is_queue: Whether a loop gets the events. None is the end of them there, and no event.

    Attributes:
        argument: Knows which argument of the publishing methods is the event.
        deliveries: The runs of handlers.
        queue: The loops that get events, of a bus that is a queue.
        subscriptions: The handlers, and their stand-ins.
        memory: Under which event an object was recorded.
        reader: Takes events apart.
        is_off: Whether tracing has been taken off the bus.
        of_wrapped: Those of the buses that are wrapped.
    """

    of_wrapped: ClassVar[weakref.WeakSet[BusFollower]] = weakref.WeakSet()

    def __init__(
        self,
        name: str,
        tracing: Tracing | None,
        fields: EventFields,
        argument: int | str | None = None,
        topic: str | None = None,
        *,
        is_queue: bool = False,
    ) -> None:
        self._name = name
        self._tracing = tracing
        self.reader = EventReader(fields)
        self.argument = EventArgument(argument, topic)
        self._topic = topic
        self._is_queue = is_queue
        self._noted: EventTracer | None = None
        self._noted_in: Tracing | None = None
        self.memory = EventMemory()
        self._orders = OrderMemory()
        self._plain = PlainEvents(self.reader)
        self.is_off = False
        self.deliveries = Deliveries(self.tracer, self.memory, self.reader)
        self.queue = BusQueue(self.tracer, self.memory, self.deliveries)
        self.subscriptions = Subscriptions(
            self.deliveries.deliver, self.deliveries.deliver_to_method
        )

    def tracer(self) -> EventTracer | None:
        """The tracer that records now, if any."""
        tracing, noted = self._tracing or Tracing._active, self._noted
        if tracing is self._noted_in and noted is not None and not (noted.stopped or self.is_off):
            return noted
        if tracing is None or not tracing.running or self.is_off:
            return None
        tracer = tracing.tracer
        if tracer is not noted:
            self._noted, self._noted_in = tracer, tracing
            tracing.note_engine(self._name, "")
        return tracer

    # -- Publishing -----------------------------------------------------------------------------

    def publish(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Publish an event; what is published meanwhile is caused by it."""
        tracer = self.tracer()
        if tracer is None:
            return function(*args, **kwargs)
        if len(args) == 1 and not kwargs and type(args[0]) is not tuple:  # as it mostly is
            event, topic = args[0], self._topic
        else:
            try:
                event, topic = self.argument.event_and_topic(function, args, kwargs)
            except Exception as error:  # noqa: BLE001 - a host's object may raise when looked at
                tracer.lost("EVENT")
                tracer.complain(error)
                return function(*args, **kwargs)
        if self._is_queue and (event is None or _is_end(event)):
            return function(*args, **kwargs)
        begun = self._enter(tracer, event, topic)
        if begun is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._leave(tracer, event, begun, error)
            raise
        if result is None or type(result) in _PLAIN_RESULTS:
            self._leave(tracer, event, begun)
            return result
        return self._finish(tracer, event, begun, result)

    def _enter(self, tracer: EventTracer, event: Any, topic: str | None) -> _Begun | None:
        """Begin and enter an event; None if it is not recorded."""
        made: Publication | None = None
        plain = self._plain
        if plain.tracer is tracer and tracer.takes is None:
            try:
                kind = type(event)
                reader = plain.readers.get(kind if kind is not dict else tuple(event))
                read = None if reader is None else reader(event, topic)
                if read is not None:
                    receipt = queue_loop.receipt_here()
                    if (
                        tracer.running() is None
                        and not self.deliveries.has_products
                        and (receipt is None or receipt.is_quiet)
                    ):
                        made = tracer.enter_publication(*read)
                    else:
                        made = self._enter_caused(tracer, event, *read)
                    if made is not None:
                        # Whether it has a cause is asked now: it forgets that when it ends.
                        return made, self.memory.keep(event, made), None, made.parent is not None
            except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
                tracer.complain(error)
                if made is not None:
                    return made, None, None, True
        opened, outer = self.open(tracer, event, topic, 2)
        if opened is None:
            return None
        is_caused = opened.parent is not None
        return opened, outer, tracer.enter_user_code(opened), is_caused

    def _leave(
        self, tracer: EventTracer, event: Any, begun: _Begun, error: BaseException | None = None
    ) -> None:
        known, outer, tokens, is_caused = begun
        if type(known) is Publication:
            tracer.leave_publication(known, error)
        elif tokens is not None:
            tracer.leave_user_code(tokens)
            tracer.close(event_of(known), error=error)
        if outer is not None or not self.memory.is_weak:
            self._published(event, known, outer, is_caused)

    def _finish(self, tracer: EventTracer, event: Any, begun: _Begun, result: Any) -> Any:
        """End an event when the result of its publishing has been awaited."""
        known, outer, tokens, is_caused = begun
        if type(known) is Publication:
            opened = tracer.interrupt_publication(known)
        else:
            opened = event_of(known)
        if tokens is not None:
            tracer.leave_user_code(tokens)
        after = partial(self._published, event, known, outer, is_caused)
        return finish(tracer, opened, result, after=lambda _: after())

    def _enter_caused(
        self,
        tracer: EventTracer,
        event: Any,
        place: Place,
        site: int,
        numbers: tuple[float, ...],
        event_time: int,
    ) -> Publication | None:
        """Begin and enter a plain event that may have a cause; None if there is more to it."""
        cause = self._running(tracer, event, 2, None)
        if event_time == NO_TIME and cause is not None:
            event_time = cause.event_time  # the market's time stands while it is handled
        return tracer.enter_publication(place, site, numbers, event_time, cause)

    def publish_each(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Put several events into a queue at once."""
        tracer = self.tracer()
        if tracer is None or len(args) != 1 or kwargs:
            return function(*args, **kwargs)
        events = list(args[0])
        self._put(tracer, events)
        return function(events)

    def assign(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Put events into a place or places of a queue; those that were there before only move."""
        tracer = self.tracer()
        if tracer is None:
            return function(*args, **kwargs)
        where, given = args
        if not isinstance(where, slice):
            self._put(tracer, [given] if self._is_new(tracer, given) else [])
            return function(where, given)
        events = list(given)
        self._put(tracer, [event for event in events if self._is_new(tracer, event)])
        return function(where, events)

    def _is_new(self, tracer: EventTracer, event: Any) -> bool:
        known = self.memory.at(event)
        return known is None or known.tracer is not tracer

    def _put(self, tracer: EventTracer, events: list[Any]) -> None:
        for event in events:
            opened = None if event is None else self.open(tracer, event, self._topic, 2)[0]
            if opened is not None:
                tracer.close(opened)

    def _published(self, event: Any, opened: Known, outer: Known | None, is_caused: bool) -> None:
        self.memory.published(event, opened, is_caused=is_caused)
        if outer is not None and not outer.closed:  # it was published again on its way
            self.memory.remember(event, outer)

    def open(
        self,
        tracer: EventTracer,
        event: Any,
        topic: str | None,
        depth: int,
        enclosing: OpenEvent | None = None,
    ) -> tuple[OpenEvent | None, Known | None]:
        """Begin an event.

        Args:
            tracer: Who records it.
            event: The host's event.
            topic: What it is published on.
            depth: Functions between this one and the host's, about.
            enclosing: An event whose publishing is known to be running.

        Returns:
            The event as it is recorded, and as the same object was recorded before.
        """
        try:
            if tracer.takes is not None and not tracer.is_taken(self.reader.portfolio_of(event)):
                return tracer.nothing, None
            running = self._running(tracer, event, depth + 1, enclosing)
            if tracer.takes is None:
                plain = self._plain.open(tracer, event, topic, running)
                if plain is not None:
                    return plain, self.memory.remember(event, plain)
            found = self.reader.read(event, topic)
            causes = self._causes(tracer, running, found)
            event_time = found.event_time
            if event_time is None and running is not None and running.event_time != NO_TIME:
                event_time = running.event_time  # the market's time stands while it is handled
            opened = tracer.open(
                found.event_type,
                portfolio=found.portfolio,
                strategy=found.strategy,
                symbol=found.symbol,
                venue=found.venue,
                event_time=event_time,
                attributes=found.attributes,
                parent=causes[0] if causes else None,
                links=causes[1:],
                correlation_id=found.correlation_id,
                event_id=found.event_id,
            )
            outer = self.memory.remember(event, opened)
            if found.event_id is not None:
                self.memory.remember_id(found.event_id, opened)
                for other in found.other_ids:
                    self.memory.remember_id(other, opened, is_second=True)
            if found.event_type == EventType.ORDER:
                self._orders.remember(found, opened)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.lost(type(event).__name__)
            tracer.complain(error)
            return None, None
        return opened, outer

    def _running(
        self, tracer: EventTracer, event: Any, depth: int, enclosing: OpenEvent | None
    ) -> OpenEvent | None:
        """The handler that runs, or that gave the event back to be published; or an event."""
        if self.deliveries.has_products:
            running = self.deliveries.products.find(event)
            if running is not None and running.tracer is tracer:
                return running
        running = None
        if queue_loop.receipt_here() is not None:
            running = queue_loop.running(tracer, depth + 1, self.reader.strategy_of)
        if running is None:
            running = tracer.current
        if enclosing is not None and (running is None or not _descends(running, enclosing)):
            return enclosing
        return running

    def _causes(
        self, tracer: EventTracer, running: OpenEvent | None, read: HostEvent
    ) -> list[Cause]:
        """The parent and, behind it, further causes.

        The running handler is the parent, or the one that handed the event back to be published;
        unless the host names a cause that this handler's event does not descend from, or the event
        carries the address of one in another process, whose trace is not the handler's.
        """
        causes = self._causes_here(tracer, running, read)
        remote = None if read.remote is None else tracer.event_of(read.remote)
        if read.remote is None or remote is None:
            return [*causes]
        if causes and (
            not isinstance(remote, RemoteEvent)
            or tracer.span_context(causes[0]).trace_id == read.remote.trace_id
        ):
            return [*causes]  # what is known here is nearer than what came along
        for cause in causes:
            tracer.begin(cause)  # so that it can be linked
        return [read.remote, *causes]

    def _causes_here(
        self, tracer: EventTracer, running: OpenEvent | None, read: HostEvent
    ) -> list[OpenEvent]:
        places = read.portfolio or tracer.portfolio
        found = (self.memory.find_id(each, places) for each in read.causation_ids)
        named = [each for each in found if each is not None and each.tracer is tracer]
        order = self._orders.cause(tracer, read, running) if not named else None
        if order is not None:
            named = [order]
        if running is None:
            return named
        if not named or _descends(running, named[0]):
            return [running, *(each for each in named if not _descends(running, each))]
        tracer.begin(running)  # so that it can be linked
        return [*named, running]


def _is_end(value: Any) -> bool:
    """Tell whether it is the end of a queue with priorities: ``(when, number, None)``."""
    return type(value) is tuple and value != () and value[-1] is None


def _descends(event: OpenEvent, ancestor: OpenEvent) -> bool:
    """Tell whether an event is another one or, as far as that is remembered, caused by it."""
    each: OpenEvent | None = event
    while each is not None:
        if each is ancestor:
            return True
        each = each.parent
    return False
