"""Events in OpenTelemetry's context, where a user's own spans find their parent.

The most frequent of them are bars and the runs of their handlers, and most cause nothing. So they
are events only once something asks for them: what they cause, a span inside them, their failure.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context, trace
from opentelemetry.trace.propagation import _SPAN_KEY

from fillpath.instrumentation.open_event import Cause, Chain, OpenEvent, Place

if TYPE_CHECKING:
    from fillpath.instrumentation.running_event import RunningEvent


def _access() -> tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], None]]:
    """How to get, set and reset the current context: of OpenTelemetry's variable without detour."""
    variable = getattr(getattr(context, "_RUNTIME_CONTEXT", None), "_current_context", None)
    if isinstance(variable, ContextVar):
        return variable.get, variable.set, variable.reset
    return context.get_current, context.attach, context.detach


get_context, set_context, reset_context = _access()


class EventSpan(trace.NonRecordingSpan):
    """The event in OpenTelemetry's context; it gets its ids only when somebody asks for them."""

    _context = trace.INVALID_SPAN_CONTEXT  # all that the base class has
    event: OpenEvent

    def __init__(self, tracer: RunningEvent, event: OpenEvent) -> None:
        self.tracer = tracer
        self.event = event

    def get_span_context(self) -> trace.SpanContext:
        """The event's ids."""
        return self.tracer.span_context(self.event)


class EnteredSpan(EventSpan):
    """What runs, and is an event only once something asks for it.

    Attributes:
        token: What makes current again what was so before it.
        outer: The same of OpenTelemetry's context.
    """

    __slots__ = ("outer", "token")

    token: Token[Running] | None
    outer: Any


class HandlerRun(EnteredSpan):
    """A run of the user's code, from `RunningEvent.enter_run` to `leave_run`.

    Attributes:
        place: What it has in common with other runs.
        cause: What is handled.
        event_time: Simulated time, or `spool.NO_TIME`.
        links: Further causes.
        began: When it began, by `EventTracer.now`.
        ended: The same of its end; 0 before.
        made: The event that it is, once it had to be one.
    """

    __slots__ = ("began", "cause", "ended", "event_time", "links", "made", "place")

    tracer: RunningEvent
    place: Place
    cause: Cause | Publication | None
    event_time: int
    links: tuple[Cause, ...]
    began: int
    ended: int
    made: OpenEvent | None

    @property
    def event(self) -> OpenEvent:  # type: ignore[override]  # never set
        """The event that it is."""
        made = self.made
        return self.tracer.event_of_run(self) if made is None else made


class Publication(EnteredSpan):
    """A plain event that is being published, or was; see `publication.Publications`.

    Attributes:
        place: What it has in common with other events.
        site: Number of its site.
        numbers: Its numbers, as many as a record has.
        event_time: Simulated time, or `spool.NO_TIME`.
        sequence: Its number in the run.
        parent: What caused it, while it goes on.
        chain: The chain that it belongs to; None if it begins one.
        began: When it began, by `EventTracer.now`.
        ended: The same of its end; 0 before.
        made: The event that it is, once it had to be one.
        item: The host's object, where that cannot be weakly referenced: see `EventMemory`.
        weak: A reference to it, where it can.
        is_delivered: Whether a handler was given the object.
    """

    tracer: RunningEvent
    place: Place
    site: int
    numbers: tuple[float, ...]
    event_time: int
    sequence: int
    parent: OpenEvent | None = None
    chain: Chain | None = None
    began: int
    ended: int = 0
    made: OpenEvent | None = None
    item: Any = None
    weak: weakref.ref[Any] | None = None
    is_delivered: bool = False

    @property
    def event(self) -> OpenEvent:  # type: ignore[override]  # never set
        """The event that it is."""
        made = self.made
        return self.tracer.event_of_publication(self) if made is None else made

    @property
    def closed(self) -> bool:
        """Whether its publishing is over."""
        return bool(self.ended)


Running = OpenEvent | HandlerRun | Publication | None
"""What runs in a thread or task."""

_new_span: Final[Callable[[type[EventSpan]], EventSpan]] = object.__new__


def enter_context(span: EventSpan) -> Any:
    """Make a span OpenTelemetry's current one; gives what `leave_context` takes."""
    around = get_context()
    inside = {**around, _SPAN_KEY: span} if around else {_SPAN_KEY: span}
    return set_context(context.Context(inside))


def span_of(tracer: RunningEvent, event: OpenEvent) -> EventSpan:
    """Make the span of an event, quicker than its class does."""
    span = _new_span(EventSpan)
    span.tracer = tracer
    span.event = event
    return span


def leave_context(token: Any, span: EventSpan | None = None) -> None:
    """Undo `enter_context`.

    A generator or coroutine that goes on elsewhere than before has no say there, unless it is the
    one that is current.
    """
    try:
        reset_context(token)
    except (ValueError, RuntimeError):
        if span is not None and get_context().get(_SPAN_KEY) is span:
            old = token.old_value
            set_context(context.Context() if old is Token.MISSING else old)
