"""An event as OpenTelemetry's context sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace

from fillpath.instrumentation.open_event import OpenEvent

if TYPE_CHECKING:
    from fillpath.instrumentation.event_tracer import EventTracer


class EventSpan(trace.NonRecordingSpan):
    """The event in OpenTelemetry's context; it gets its ids only when somebody asks for them."""

    def __init__(self, tracer: EventTracer, event: OpenEvent) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self.tracer = tracer
        self.event = event

    def get_span_context(self) -> trace.SpanContext:
        """The event's ids."""
        return self.tracer.span_context(self.event)
