"""Recording: attach to an engine and write what happens to a spool."""

from fillpath.instrumentation.critical_event_sampler import CriticalEventSampler
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.event_sampler import EventSampler
from fillpath.instrumentation.event_tracer import EventTracer, OpenEvent
from fillpath.instrumentation.nautilus import NautilusInstrumentor
from fillpath.instrumentation.traced_event import TracedEvent
from fillpath.instrumentation.traced_event_bus import TracedEventBus
from fillpath.instrumentation.tracing import Tracing

__all__ = [
    "CriticalEventSampler",
    "EventSampler",
    "EventTracer",
    "FillpathError",
    "NautilusInstrumentor",
    "OpenEvent",
    "TracedEvent",
    "TracedEventBus",
    "Tracing",
]
