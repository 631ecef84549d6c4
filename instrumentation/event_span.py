"""Events in OpenTelemetry's context, where a user's own spans find their parent.

The run of a handler is the most frequent of them, and most cause nothing. So it is an event only
once something asks for it: what it causes, a span inside it, its failure.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context, trace
from opentelemetry.trace.propagation import _SPAN_KEY

from fillpath.instrumentation.open_event import Cause, OpenEvent, Place

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


class HandlerRun(EventSpan):
    """A run of the user's code, from `RunningEvent.enter_run` to `leave_run`.

    Attributes:
        place: What it has in common with other runs.
        cause: What is handled.
        event_time: Simulated time, or `spool.NO_TIME`.
        links: Further causes.
        began: When it began, by `EventTracer.now`.
        ended: The same of its end; 0 before.
        made: The event that it is, once it had to be one.
        token: What makes current again what was so before it.
        outer: The same of OpenTelemetry's context.
    """

    __slots__ = (
        "began", "cause", "ended", "event_time", "links", "made", "outer", "place", "token",
    )  # fmt: skip

    tracer: RunningEvent
    place: Place
    cause: Cause | None
    event_time: int
    links: tuple[Cause, ...]
    began: int
    ended: int
    made: OpenEvent | None
    token: Token[Running] | None
    outer: Any

    @property
    def event(self) -> OpenEvent:  # type: ignore[override]  # never set
        """The event that it is."""
        made = self.made
        return self.tracer.event_of_run(self) if made is None else made


Running = OpenEvent | HandlerRun | None
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
