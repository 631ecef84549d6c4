"""Traces a home-made bus that tells observers what it does, or has a place for middleware."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from types import FrameType
from typing import Any, Final

from fillpath.instrumentation.bus_follower import BusFollower
from fillpath.instrumentation.event_span import Publication
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.followed_calls import handler_name
from fillpath.instrumentation.host_fields import EventFields
from fillpath.instrumentation.host_parts import SCALARS
from fillpath.instrumentation.open_event import OpenEvent
from fillpath.instrumentation.publish_stack import PublishStack, caller_of
from fillpath.instrumentation.semconv import PUBLISH, EventType
from fillpath.instrumentation.tracing import Tracing


class HandlerError(Exception):
    """What an observer was told of a failure, if that is no exception."""


class _Done:
    """Nothing, for a bus that awaits its observers."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()

    def __bool__(self) -> bool:
        return False


_DONE: Final = _Done()
_ASYNC: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class BusObserver:
    """Hears from a bus what it publishes and delivers, and what fails.

    Add it where the bus takes observers, or give its methods to the bus as hooks; they take what
    the bus says in any order: the event, the handler or its name, the error. They never raise,
    never call the bus, and hold no lock while they look at an event, so the bus may hold its own.

    An observer is not told when an event's publishing is over. What is published meanwhile is known
    by the stack: an event is caused by the one whose publishing function is still running below.
    Which handler caused it is not known, nor what a bus with threads or tasks of its own causes,
    unless the event names its cause. So wrap the bus with `TracedEventBus` as well: then that
    records events and runs of handlers, each once, and the observer adds the failures of handlers
    that were subscribed elsewhere.

    Called like a function, it is a single hook (``observer(event)``), or middleware
    (``observer(event, call_next)``), which is all that is needed.

    Args:
        tracing: The session that records; the active one when left out.
        fields: Where the host's events keep what fillpath needs.
        publish: Name of the bus's publishing function, or several, if it is an unusual one.
    """

    def __init__(
        self,
        tracing: Tracing | None = None,
        *,
        fields: EventFields | None = None,
        publish: str | tuple[str, ...] = (),
    ) -> None:
        self._follower = BusFollower("bus", tracing, fields or EventFields())
        self._stack = PublishStack((publish,) if isinstance(publish, str) else publish)
        self._undelivered: dict[int, list[OpenEvent]] = {}
        self._ended_by: EventTracer | None = None

    # -- What the bus says ------------------------------------------------------------------------

    def on_publish(self, *said: Any, **named: Any) -> Any:
        """Record an event that the bus is about to deliver, or has put in its queue."""
        return self._hear(partial(self._publish, said, named), caller_of(1))

    def on_delivered(self, *said: Any, **named: Any) -> Any:
        """End an event whose delivery is over; of several handlers, the first one's."""
        return self._hear(partial(self._delivered, said, named), caller_of(1))

    def on_error(self, *said: Any, **named: Any) -> Any:
        """Record a handler's failure, unless its run has been recorded with it already."""
        return self._hear(partial(self._error, said, named), caller_of(1))

    def _hear(self, then: Callable[[EventTracer, FrameType], None], caller: FrameType) -> Any:
        tracer = self._follower.tracer()
        if tracer is not None:
            with tracer.guarded():
                then(tracer, caller)
        return _DONE if caller.f_code.co_flags & _ASYNC else None

    def __call__(self, *said: Any, **named: Any) -> Any:
        """Hear of an event as a single hook, or carry it on as middleware.

        Given a function to carry on with, that is called, with the event if it takes one, and what
        it gives is given back. Without one, the event's end is not known: it is a moment.
        """
        carry_on = next((each for each in (*said, *named.values()) if _is_function(each)), None)
        if carry_on is None:
            caller = caller_of(1)
            return self._hear(partial(self._publish, said, named, is_moment=True), caller)
        args, kwargs = _without_functions(said, named)
        event, topic = self._follower.argument.event_and_topic(self.on_publish, args, kwargs)
        tracer = self._follower.tracer()
        if tracer is not None and self._by_wrapper(tracer, event, topic) is not None:
            return carry_on(event) if _takes_one(carry_on) else carry_on()
        if _takes_one(carry_on):
            return self._follower.publish(carry_on, (event,), {})
        return self._follower.publish(lambda _: carry_on(), (event,), {})

    # -- What the host may do itself -------------------------------------------------------------

    @contextlib.contextmanager
    def handling(self, event: Any, handler: str | None = None) -> Iterator[None]:
        """Run the body as the handling of an event that was published before.

        For a loop that no bus and no queue of ours stands before. What the body publishes was
        caused by the event, and an exception is recorded and goes on.

        Args:
            event: The host's event.
            handler: Name of what handles it; that of the calling function when left out.
        """
        tracer, run = self._follower.tracer(), None
        if tracer is not None:
            with tracer.guarded():
                name = handler or _name_of(caller_of(2))
                found = self._event(tracer, event)
                run = None if found is None else self._follower.deliveries.run_of(found, name, None)
        if tracer is None or run is None:
            yield
            return
        tokens = tracer.enter_user_code(run)
        failure: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failure = error
            raise
        finally:
            tracer.leave_user_code(tokens)
            tracer.close(run, error=failure)

    def follow(self, handler: Callable[..., Any]) -> Any:
        """Give a stand-in for a handler whose runs are recorded, for a bus that is not wrapped."""
        return self._follower.subscriptions.stand_in(handler)

    # -- How it is recorded ----------------------------------------------------------------------

    def _publish(
        self,
        said: tuple[Any, ...],
        named: dict[str, Any],
        tracer: EventTracer,
        caller: FrameType,
        *,
        is_moment: bool = False,
    ) -> None:
        args, kwargs = _without_functions(said, named)
        event, topic = self._follower.argument.event_and_topic(self.on_publish, args, kwargs)
        frame = self._stack.publishing(caller)
        known = self._by_wrapper(tracer, event, topic)
        if known is not None:
            self._stack.announce(frame, known)
            return
        known = self._follower.memory.peek(event)
        if known is not None and self._stack.is_announced(frame, known) and not known.closed:
            return  # said again, for another handler
        around = self._stack.enclosing(frame, tracer)
        self._end_undelivered(tracer, around)
        opened, _ = self._follower.open(tracer, event, topic, 4, around)
        if opened is None:
            return
        self._stack.announce(frame, opened)
        if is_moment:
            tracer.close(opened, end=opened.start)
            self._follower.memory.published(event, opened)
        else:
            self._undelivered.setdefault(threading.get_ident(), []).append(opened)

    def _by_wrapper(self, tracer: EventTracer, event: Any, topic: str | None) -> OpenEvent | None:
        """The event as a wrapped `publish` that is running has recorded it, if one has.

        The bus is the wrapped one then, and what it has recorded is shared from now on.
        """
        if event is None or isinstance(event, SCALARS):
            current = tracer.current
            if current is None or current.operation != PUBLISH or current.closed:
                return None
            same = self._follower.reader.read(event, topic).event_type == current.event_type
            return current if same else None
        for follower in list(BusFollower.of_wrapped):
            found = follower.memory.peek(event)
            if found is not None and found.tracer is tracer and not found.closed:
                self._follower = follower
                return found
        return None

    def _end_undelivered(self, tracer: EventTracer, around: OpenEvent | None) -> None:
        """End what was published in this thread and is over: nothing on the stack is within it."""
        if self._ended_by is not tracer:
            self._ended_by = tracer
            session = Tracing.active()
            if session is not None:
                session.before_stop(self._end_all)
        events = self._undelivered.get(threading.get_ident(), [])
        while events and events[-1] is not around:
            event = events.pop()
            event.tracer.close(event, end=event.start)

    def _end_all(self) -> None:
        undelivered, self._undelivered = self._undelivered, {}
        for events in undelivered.values():
            for event in events:
                event.tracer.close(event, end=event.start)

    def _event(self, tracer: EventTracer, event: Any) -> OpenEvent | None:
        known = self._follower.deliveries.delivered(tracer, [event], nearest=False)
        return known.event if isinstance(known, Publication) else known

    def _delivered(
        self, said: tuple[Any, ...], named: dict[str, Any], tracer: EventTracer, _: FrameType
    ) -> None:
        args, kwargs = _without_functions(said, named)
        found = self._event(
            tracer, self._follower.argument.event_of(self.on_delivered, args, kwargs)
        )
        if found is not None:
            self._end(found)

    def _end(self, event: OpenEvent) -> None:
        """End an event that is ours; a wrapped `publish` ends its own."""
        for events in list(self._undelivered.values()):
            if event in events:
                events.remove(event)
                event.tracer.close(event)

    def _error(
        self, said: tuple[Any, ...], named: dict[str, Any], tracer: EventTracer, caller: FrameType
    ) -> None:
        values = (*said, *named.values())
        error = next((each for each in values if isinstance(each, BaseException)), None)
        handler = next((each for each in values if _is_function(each)), None)
        args, kwargs = _without_functions(said, named)
        event = self._follower.argument.event_of(self.on_error, args, kwargs)
        texts = [each for each in values if isinstance(each, str) and each is not event]
        if error is None:
            error = HandlerError(texts[-1] if texts else "")
        found = self._event(tracer, event)
        if found is not None and self._follower.deliveries.has_recorded(found, error):
            self._end(found)
            return
        name = texts[0] if texts and handler is None else None
        if handler is not None:
            name = handler_name(getattr(handler, "__func__", handler), _owner_of(handler))
        if found is None:
            run = tracer.open(EventType.ERROR, handler=name)
        else:
            run = self._follower.deliveries.run_of(found, name, _owner_of(handler))
        tracer.close(run, error=error)
        if found is not None:
            self._end(found)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type | BaseException)


def _without_functions(
    said: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What may be the event, or its topic."""
    return (
        tuple(each for each in said if not _is_function(each) and not _is_error(each)),
        {k: v for k, v in named.items() if not _is_function(v) and not _is_error(v)},
    )


def _is_error(value: Any) -> bool:
    return isinstance(value, BaseException)


def _owner_of(handler: Any) -> Any:
    return getattr(handler, "__self__", None)


def _takes_one(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # no signature
        return True
    return True


def _name_of(frame: FrameType) -> str:
    return frame.f_code.co_qualname.rpartition("<locals>.")[2]
