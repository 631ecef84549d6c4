"""Traces a home-made event bus by wrapping it.

Nesting tells causes: what is published while an event's `publish` call runs was caused by it. A
subscriber's run is a delivery of its own, recorded when it causes something. A queued bus that
delivers later keeps causes too, because the followed handler remembers which event it was given.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from typing import Any, Final

import wrapt

from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.event_memory import EventMemory
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.followed_calls import FollowedFunction, finish, handler_name
from fillpath.instrumentation.host_fields import (
    SCALARS,
    EventFields,
    EventReader,
    HostEvent,
    is_plain,
)
from fillpath.instrumentation.open_event import Cause, OpenEvent, RemoteEvent
from fillpath.instrumentation.semconv import PROCESS, PUBLISH
from fillpath.instrumentation.spool import NO_TIME
from fillpath.instrumentation.subscriptions import Subscriptions
from fillpath.instrumentation.tracing import Tracing

__all__ = ["EventFields", "TracedEventBus"]

Names = str | tuple[str, ...]
"""Name of a method, or several."""
_EVENT_ARGUMENTS: Final = ("event", "evt", "message", "msg")
_MAX_ITEMS_TAKEN: Final = 100


_Proxy: Any = wrapt.ObjectProxy  # so that a type checker takes the bus for the host's own


class TracedEventBus(_Proxy):  # type: ignore[misc]
    """A bus in front of a host's own; give it to the host in place of the one it wraps.

    Publishing and subscribing are followed, everything else is passed on as it is; the host may
    also take it for the bus itself (`isinstance`, attributes set on it). The host's events are
    never changed, and nothing fillpath fails at is raised into the host. What the bus calls on
    itself (`self.publish` in its own methods) does not pass through here.

    Args:
        bus: The host's bus.
        tracing: The session that records; the active one when left out.
        fields: Where the host's events keep what fillpath needs.
        publish: Name of the host's publishing method, or several.
        subscribe: The same of its subscribing methods. Every callable argument that is not a class
            is followed as a handler.
        unsubscribe: The same of the methods that take a handler back.
        argument: The publishing method's argument that is the event: its position, or its name when
            it is given by name. By default the argument named ``event``, else the last one that is
            an object with fields, else the last one.

    Raises:
        UsageError: When the bus has no such publishing method.
    """

    def __init__(
        self,
        bus: Any,
        tracing: Tracing | None = None,
        *,
        fields: EventFields | None = None,
        publish: Names = "publish",
        subscribe: Names = "subscribe",
        unsubscribe: Names = "unsubscribe",
        argument: int | str | None = None,
    ) -> None:
        super().__init__(bus)
        self._self_settings: dict[str, Any] = {
            "tracing": tracing,
            "fields": fields,
            "publish": publish,
            "subscribe": subscribe,
            "unsubscribe": unsubscribe,
            "argument": argument,
        }
        for name in _names(publish):
            if not callable(getattr(bus, name, None)):
                raise UsageError(
                    f"{type(bus).__name__} has no method '{name}' to publish events with.",
                    next_command="TracedEventBus(bus, publish='its name')",
                )
        follower = _BusFollower(type(bus).__name__, tracing, fields or EventFields(), argument)
        self._self_methods = {
            **dict.fromkeys(_names(publish), follower.publish),
            **dict.fromkeys(_names(subscribe), follower.subscriptions.subscribe),
            **dict.fromkeys(_names(unsubscribe), follower.subscriptions.unsubscribe),
        }

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__wrapped__, name)
        caller = self._self_methods.get(name)
        return found if caller is None or not callable(found) else FollowedFunction(found, caller)

    def __copy__(self) -> Any:
        return type(self)(copy.copy(self.__wrapped__), **self._self_settings)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return type(self)(copy.deepcopy(self.__wrapped__, memo), **self._self_settings)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)  # in another process it is the host's own


class _BusFollower:
    """Records what one bus carries. Its public methods stand in for those of the bus.

    Args:
        name: What kind of bus it is; noted with the run.
        tracing: The session that records; the active one if None.
        fields: Where the host's events keep what fillpath needs.
        argument: Which argument of the publishing method is the event, if that is known.
    """

    def __init__(
        self,
        name: str,
        tracing: Tracing | None,
        fields: EventFields,
        argument: int | str | None,
    ) -> None:
        self._name = name
        self._tracing = tracing
        self._reader = EventReader(fields)
        self._argument = argument
        self._noted: EventTracer | None = None
        self._events = EventMemory()
        self._products = EventMemory()  # what handlers gave back, and which run of which did
        self._places: dict[Any, int | None] = {}
        self.subscriptions = Subscriptions(
            partial(self._deliver, False), partial(self._deliver, True)
        )

    def _tracer(self) -> EventTracer | None:
        tracing = self._tracing or Tracing.active()
        if tracing is None or not tracing.running:
            return None
        tracer = tracing.tracer
        if tracer is not self._noted:
            self._noted = tracer
            tracing.note_engine(self._name, "")
        return tracer

    # -- Publishing -----------------------------------------------------------------------------

    def publish(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Publish an event; what is published meanwhile is caused by it."""
        tracer = self._tracer()
        if tracer is None:
            return function(*args, **kwargs)
        event, topic = self._event_and_topic(function, args, kwargs)
        opened, outer = self._open(tracer, event, topic)
        if opened is None:
            return function(*args, **kwargs)

        def published() -> None:
            self._events.published(event, opened)
            if outer is not None and not outer.closed:  # it was published again on its way
                self._events.remember(event, outer)

        tokens = tracer.enter_user_code(opened)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            tracer.close(opened, error=error)
            published()
            raise
        finally:
            tracer.leave_user_code(tokens)
        return finish(tracer, opened, result, after=published)

    def _event_and_topic(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, str | None]:
        event = self._event_of(function, args, kwargs)
        for value in (*args, *kwargs.values()):
            if value is not event and isinstance(value, str | Enum):
                word = value.value if isinstance(value, Enum) else value
                return event, str(word if isinstance(word, str) else getattr(value, "name", word))
        return event, None

    def _event_of(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        names = _EVENT_ARGUMENTS if self._argument is None else (self._argument,)
        for name in names:
            if name in kwargs:
                return kwargs[name]
        place = self._argument if isinstance(self._argument, int) else self._place_in(function)
        if place is not None and place < len(args):
            return args[place]
        given = (*args, *kwargs.values())
        with_fields = [each for each in given if each is not None and not is_plain(each)]
        return (with_fields or given or (None,))[-1]

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

    def _open(
        self, tracer: EventTracer, event: Any, topic: str | None
    ) -> tuple[OpenEvent | None, OpenEvent | None]:
        """The event as it is recorded, and as the same object was recorded before."""
        try:
            found = self._reader.read(event, topic)
            causes = self._causes(tracer, event, found)
            opened = tracer.open(
                found.event_type,
                portfolio=found.portfolio,
                strategy=found.strategy,
                symbol=found.symbol,
                venue=found.venue,
                event_time=found.event_time,
                attributes=found.attributes,
                parent=causes[0] if causes else None,
                links=causes[1:],
                correlation_id=found.correlation_id,
                event_id=found.event_id,
            )
            outer = self._events.remember(event, opened)
            if found.event_id is not None:
                self._events.remember_id(found.event_id, opened)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.lost(type(event).__name__)
            tracer.complain(error)
            return None, None
        return opened, outer

    def _causes(self, tracer: EventTracer, event: Any, read: HostEvent) -> list[Cause]:
        """The parent and, behind it, further causes.

        The running handler is the parent, or the one that handed the event back to be published;
        unless the host names a cause that this handler's event does not descend from, or the event
        carries the address of one in another process, whose trace is not the handler's.
        """
        causes = self._causes_here(tracer, event, read.causation_ids, read.portfolio)
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
        self, tracer: EventTracer, event: Any, ids: Iterable[str], portfolio: str | None
    ) -> list[OpenEvent]:
        running = self._products.find(event)
        if running is None or running.tracer is not tracer:
            running = tracer.current
        places = portfolio or tracer.portfolio
        found = (self._events.find_id(each, places) for each in ids)
        named = [each for each in found if each is not None and each.tracer is tracer]
        if running is None:
            return named
        if not named or _descends(running, named[0]):
            return [running, *(each for each in named if not _descends(running, each))]
        tracer.begin(running)  # so that it can be linked
        return [*named, running]

    # -- Handling -------------------------------------------------------------------------------

    def _deliver(
        self,
        is_method: bool,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a handler as the delivery of the event among its arguments."""
        tracer = self._tracer()
        if tracer is None:
            return function(*args, **kwargs)
        owner = args[0] if is_method else None
        run = self._begin_delivery(tracer, function, owner, (*args[is_method:], *kwargs.values()))
        if run is None:
            return function(*args, **kwargs)
        tokens = tracer.enter_user_code(run)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            tracer.close(run, error=error)
            raise
        finally:
            tracer.leave_user_code(tokens)
        if result is None:  # as most handlers end
            tracer.close(run)
            return None
        return finish(tracer, run, result, take=partial(self._take, run))

    def _begin_delivery(
        self, tracer: EventTracer, function: Callable[..., Any], owner: Any, values: Iterable[Any]
    ) -> OpenEvent | None:
        try:
            event = self._delivered(tracer, values)
            if event is not None:
                return tracer.open(
                    event.event_type,
                    operation=PROCESS,
                    portfolio=event.portfolio,
                    strategy=self._reader.strategy_of(owner),
                    handler=handler_name(function, owner),
                    event_time=None if event.event_time == NO_TIME else event.event_time,
                    parent=event,
                )
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            tracer.complain(error)
        return None

    def _delivered(self, tracer: EventTracer, values: Iterable[Any]) -> OpenEvent | None:
        """The event that a handler is given: that of the object itself.

        A bus may hand its handlers a copy or an envelope: then the host's id tells, or else it is
        the event that is being published.
        """
        values = [value for value in values if not isinstance(value, SCALARS)]
        found = [self._events.find(value) for value in values]
        for event in found:
            if event is not None and event.tracer is tracer:
                return event
        found = [self._by_id(tracer, value) for value in values]
        current = tracer.current
        if current is not None and current.operation == PUBLISH and not current.closed:
            found.append(current)
        return next((e for e in found if e is not None and e.tracer is tracer), None)

    def _by_id(self, tracer: EventTracer, value: Any) -> OpenEvent | None:
        portfolio, event_id = self._reader.identity(value)
        if event_id is None:
            return None
        return self._events.find_id(event_id, portfolio or tracer.portfolio)

    def _take(self, run: OpenEvent, given: Any) -> None:
        """Note what a handler gave back: the host may be about to publish it."""
        is_list = isinstance(given, list) or type(given) is tuple
        for item in given[:_MAX_ITEMS_TAKEN] if is_list else (given,):
            self._products.remember(item, run)


def _names(given: Names) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else given


def _descends(event: OpenEvent, ancestor: OpenEvent) -> bool:
    """Tell whether an event is another one or, as far as that is remembered, caused by it."""
    each: OpenEvent | None = event
    while each is not None:
        if each is ancestor:
            return True
        each = each.parent
    return False
