"""Records what a home-made bus carries: its events, their causes, and the runs of handlers.

Nesting tells causes: what is published while an event's `publish` call runs was caused by it. A
subscriber's run is a delivery of its own, recorded when it causes something. A queued bus that
delivers later keeps causes too, because the followed handler remembers which event it was given.
"""

from __future__ import annotations

import inspect
import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from enum import Enum
from functools import partial
from typing import Any, ClassVar, Final

from fillpath.instrumentation import queue_loop
from fillpath.instrumentation.event_memory import EventMemory
from fillpath.instrumentation.event_span import HandlerRun
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.followed_calls import finish, handler_name
from fillpath.instrumentation.host_fields import EventFields, EventReader, HostEvent
from fillpath.instrumentation.host_parts import is_plain, is_scalar
from fillpath.instrumentation.open_event import Cause, OpenEvent, Place, RemoteEvent
from fillpath.instrumentation.order_memory import OrderMemory
from fillpath.instrumentation.plain_events import PlainEvents
from fillpath.instrumentation.semconv import PROCESS, PUBLISH, EventType
from fillpath.instrumentation.spool import NO_TIME
from fillpath.instrumentation.subscriptions import Subscriptions
from fillpath.instrumentation.tracing import Tracing

_EVENT_ARGUMENTS: Final = ("event", "evt", "message", "msg")
_MAX_ITEMS_TAKEN: Final = 100
_MAX_FAILURES: Final = 256
_MAX_DELIVERIES: Final = 8192
_WORDS: Final = (str, Enum, type)
_PLAIN_RESULTS: Final = (bool, int, float, str, list, dict, tuple)


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
        self._argument = argument
        self._topic = topic
        self._is_queue = is_queue
        self._noted: EventTracer | None = None
        self._noted_in: Tracing | None = None
        self.memory = EventMemory()
        self._orders = OrderMemory()
        self._products = EventMemory()  # what handlers gave back, and which run of which did
        self._failures: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._plain = PlainEvents(self.reader)
        self._places: dict[Any, int | None] = {}
        self._deliveries: dict[tuple[Any, ...], Place] = {}
        self.is_off = False
        self.subscriptions = Subscriptions(
            partial(self._deliver, False), partial(self._deliver, True)
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
                event, topic = self.event_and_topic(function, args, kwargs)
            except Exception as error:  # noqa: BLE001 - a host's object may raise when looked at
                tracer.lost("EVENT")
                tracer.complain(error)
                return function(*args, **kwargs)
        if self._is_queue and (event is None or _is_end(event)):
            return function(*args, **kwargs)
        opened, outer = self.open(tracer, event, topic, 1)
        if opened is None:
            return function(*args, **kwargs)
        is_caused = opened.parent is not None  # which it forgets when it ends
        tokens = tracer.enter_user_code(opened)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            tracer.close(opened, error=error)
            self._published(event, opened, outer, is_caused)
            raise
        finally:
            tracer.leave_user_code(tokens)
        if result is None or type(result) in _PLAIN_RESULTS:
            tracer.close(opened)
            self._published(event, opened, outer, is_caused)
            return result
        after = partial(self._published, event, opened, outer, is_caused)
        return finish(tracer, opened, result, after=lambda _: after())

    def publish_each(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Put several events into a queue at once."""
        tracer = self.tracer()
        if tracer is None or len(args) != 1 or kwargs:
            return function(*args, **kwargs)
        events = list(args[0])
        for event in events:
            opened = None if event is None else self.open(tracer, event, self._topic, 1)[0]
            if opened is not None:
                tracer.close(opened)
        return function(events)

    def _published(
        self, event: Any, opened: OpenEvent, outer: OpenEvent | None, is_caused: bool
    ) -> None:
        self.memory.published(event, opened, is_caused=is_caused)
        if outer is not None and not outer.closed:  # it was published again on its way
            self.memory.remember(event, outer)

    def event_and_topic(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, str | None]:
        """The event among the arguments of a publishing method, and what it is published on."""
        if len(args) == 1 and not kwargs and type(args[0]) is not tuple:
            return args[0], self._topic
        event = self.event_of(function, args, kwargs)
        if self._topic is not None:
            return event, self._topic
        for value in (*args, *kwargs.values()):
            if value is not event and _is_word(value):
                return event, _word(value)
        return event, None

    def event_of(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The event among the arguments of a publishing method."""
        names = _EVENT_ARGUMENTS if self._argument is None else (self._argument,)
        for name in names:
            if name in kwargs and (len(args) + len(kwargs) == 1 or not _is_word(kwargs[name])):
                return kwargs[name]
        is_told = isinstance(self._argument, int)
        place = self._argument if isinstance(self._argument, int) else self._place_in(function)
        if place is None or place >= len(args):
            found = self._likeliest(args, kwargs, has_topic=True)
        elif _is_word(args[place]) and not is_told and len(args) + len(kwargs) > 1:
            # What is called the event is its name, and the rest is what it says.
            said = (*args[:place], *args[place + 1 :])
            found = self._likeliest(said, kwargs, has_topic=False)
        else:
            found = args[place]
        if type(found) is tuple:  # (when, number, event), as queues with priorities take it
            found = next((each for each in reversed(found) if _has_fields(each)), found)
        return found

    def _likeliest(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, has_topic: bool) -> Any:
        given = (*args, *kwargs.values())
        with_fields = [each for each in given if _has_fields(each)]
        if with_fields:
            return with_fields[-1]
        if kwargs and self._argument is None:  # the fields of an event that is no object
            words = [number for number, each in enumerate(args) if _is_word(each)]
            topic = words[0] if has_topic and words else None
            said = [each for number, each in enumerate(args) if number != topic]
            return {**kwargs, "values": said} if said else dict(kwargs)
        if len(given) > 1 and not has_topic:
            return given
        return given[-1] if given else None

    def _place_in(self, function: Callable[..., Any]) -> int | None:
        """Place of the parameter that is called `event`, or something like it."""
        key = getattr(function, "__func__", function)
        try:
            if key not in self._places:
                names = list(inspect.signature(function).parameters)
                places = [names.index(name) for name in _EVENT_ARGUMENTS if name in names]
                self._places[key] = places[0] if places else None
            return self._places[key]
        except (TypeError, ValueError):  # no signature, or no hash
            return None

    def open(
        self,
        tracer: EventTracer,
        event: Any,
        topic: str | None,
        depth: int,
        enclosing: OpenEvent | None = None,
    ) -> tuple[OpenEvent | None, OpenEvent | None]:
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
        if not self._products.is_empty:
            running = self._products.find(event)
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

    # -- Queues ---------------------------------------------------------------------------------

    def receive(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Get the next event for a loop; what it puts into queues until then is caused by it."""
        tracer = self.tracer()
        if tracer is None:
            return function(*args, **kwargs)
        receipt = None
        with tracer.guarded():
            receipt = queue_loop.wait(tracer, queue_loop.host_frame(2))
        result = function(*args, **kwargs)
        if receipt is None:
            return result
        if inspect.iscoroutine(result):
            return self._awaited(tracer, receipt, result)
        self._came(tracer, receipt, result)
        return result

    async def _awaited(
        self, tracer: EventTracer, receipt: queue_loop.Receipt, waiting: Coroutine[Any, Any, Any]
    ) -> Any:
        result = await waiting
        self._came(tracer, receipt, result)
        return result

    def _came(self, tracer: EventTracer, receipt: queue_loop.Receipt, result: Any) -> None:
        with tracer.guarded():
            items = result if type(result) is tuple else (result,)
            receipt.came(None if result is None else self.delivered(tracer, items, nearest=False))

    def pause(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Answer a loop that asks whether there are events, or says that it has done one."""
        result = function(*args, **kwargs)
        tracer = self.tracer()
        if tracer is not None and (not result if type(result) is int else result is not False):
            with tracer.guarded():
                queue_loop.pause(queue_loop.host_frame(2))
        return result

    def asked(self, depth: int) -> None:
        """Note that a queue has said to be empty."""
        tracer = self.tracer()
        if tracer is not None:
            with tracer.guarded():
                queue_loop.pause(queue_loop.host_frame(depth))

    # -- Handling -------------------------------------------------------------------------------

    def _deliver(
        self,
        is_method: bool,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a handler as the delivery of the event among its arguments."""
        tracer = self.tracer()
        if tracer is None:
            return function(*args, **kwargs)
        owner = args[0] if is_method else None
        run = self._begin_delivery(tracer, function, owner, (*args[is_method:], *kwargs.values()))
        if run is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            event = run.event.parent  # which it forgets when it ends
            tracer.leave_run(run, error)
            self._failed(event, error)
            raise
        if result is None:  # as most handlers end
            tracer.leave_run(run)
            return None
        opened = tracer.interrupt_run(run)
        event = opened.parent
        return finish(
            tracer,
            opened,
            result,
            take=partial(self._take, opened),
            after=lambda error: self._failed(event, error),
        )

    def _begin_delivery(
        self, tracer: EventTracer, function: Callable[..., Any], owner: Any, values: Iterable[Any]
    ) -> HandlerRun | None:
        try:
            event = self.delivered(tracer, values)
            if event is not None:
                place = self._place_of_run(event, handler_name(function, owner), owner)
                return tracer.enter_run(place, event, event.event_time)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.complain(error)
        return None

    def run_of(self, event: OpenEvent, handler: str | None, owner: Any) -> OpenEvent:
        """Begin the run of a handler.

        Args:
            event: What it is given.
            handler: Its name.
            owner: The object it is a method of, or None.
        """
        place = self._place_of_run(event, handler, owner)
        return event.tracer.open_at(place, event, event.event_time)

    def _place_of_run(self, event: OpenEvent, handler: str | None, owner: Any) -> Place:
        tracer, strategy = event.tracer, self.reader.strategy_of(owner)
        key = (event.place, strategy, handler)
        place = self._deliveries.get(key)
        if place is None:
            place = tracer.place(
                event.event_type,
                operation=PROCESS,
                portfolio=event.portfolio,
                strategy=strategy,
                handler=handler,
            )
            if len(self._deliveries) > _MAX_DELIVERIES:
                self._deliveries.clear()
            self._deliveries[key] = place
        return place

    def delivered(
        self, tracer: EventTracer, values: Iterable[Any], *, nearest: bool = True
    ) -> OpenEvent | None:
        """The event that a handler is given: that of the object itself.

        A bus may hand its handlers a copy or an envelope: then the host's id tells, or else it is
        the event that is being published.

        Args:
            tracer: Who recorded it.
            values: What the handler is given.
            nearest: Whether it may be the event that is being published.
        """
        values = tuple(values)
        for value in values:
            known = self.memory.find(value)
            if known is not None and known.tracer is tracer:
                return known
        values = [value for value in values if not is_scalar(value)]
        found = [self._by_id(tracer, value) for value in values]
        current = tracer.current
        if nearest and current is not None and current.operation == PUBLISH and not current.closed:
            found.append(current)
        return next((e for e in found if e is not None and e.tracer is tracer), None)

    def _by_id(self, tracer: EventTracer, value: Any) -> OpenEvent | None:
        portfolio, event_id = self.reader.identity(value)
        if event_id is None:
            return None
        return self.memory.find_id(event_id, portfolio or tracer.portfolio)

    def _failed(self, event: OpenEvent | None, error: BaseException | None) -> None:
        """Remember, for an observer, that this failure of a handler has been recorded."""
        if event is not None and error is not None:
            self._failures[id(event), id(error)] = None
            if len(self._failures) > _MAX_FAILURES:
                self._failures.popitem(last=False)

    def has_recorded(self, event: OpenEvent, error: BaseException) -> bool:
        """Tell, once, whether the failure of a handler has been recorded."""
        return self._failures.pop((id(event), id(error)), _MAX_FAILURES) is None

    def _take(self, run: OpenEvent, given: Any) -> None:
        """Note what a handler gave back: the host may be about to publish it."""
        is_list = isinstance(given, list) or type(given) is tuple
        for item in given[:_MAX_ITEMS_TAKEN] if is_list else (given,):
            self._products.remember(item, run)


def _is_end(value: Any) -> bool:
    """Tell whether it is the end of a queue with priorities: ``(when, number, None)``."""
    return type(value) is tuple and value != () and value[-1] is None


def _word(value: str | Enum | type) -> str:
    if isinstance(value, type):
        return value.__name__.removesuffix("Event") or value.__name__
    word = value.value if isinstance(value, Enum) else value
    return str(word if isinstance(word, str) else getattr(value, "name", word))


def _is_word(value: Any) -> bool:
    return issubclass(type(value), _WORDS)  # no object has a say in that


def _has_fields(value: Any) -> bool:
    return value is not None and not is_plain(value) and not isinstance(value, type)


def _descends(event: OpenEvent, ancestor: OpenEvent) -> bool:
    """Tell whether an event is another one or, as far as that is remembered, caused by it."""
    each: OpenEvent | None = event
    while each is not None:
        if each is ancestor:
            return True
        each = each.parent
    return False
