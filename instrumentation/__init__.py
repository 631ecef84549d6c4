"""Recording: attach to an engine and write what happens to a spool.

The names below are imported when they are first used, so that the other floors, which need only
the vocabulary of this one, never load its hot path.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fillpath.instrumentation.backtesting import BacktestingInstrumentor
    from fillpath.instrumentation.backtrader import BacktraderInstrumentor
    from fillpath.instrumentation.basana import BasanaInstrumentor
    from fillpath.instrumentation.bus_observer import BusObserver
    from fillpath.instrumentation.critical_event_processor import CriticalEventProcessor
    from fillpath.instrumentation.critical_event_sampler import CriticalEventSampler
    from fillpath.instrumentation.errors import FillpathError
    from fillpath.instrumentation.event_sampler import EventSampler
    from fillpath.instrumentation.event_tracer import EventTracer, OpenEvent
    from fillpath.instrumentation.nautilus import NautilusInstrumentor
    from fillpath.instrumentation.propagation import extract, extract_context, inject
    from fillpath.instrumentation.spool import Field, FieldKind
    from fillpath.instrumentation.traced_event import TracedEvent
    from fillpath.instrumentation.traced_event_bus import EventFields, TracedEventBus, untraced
    from fillpath.instrumentation.tracing import Tracing
    from fillpath.instrumentation.zipline import ZiplineInstrumentor

__all__ = [
    "BacktestingInstrumentor",
    "BacktraderInstrumentor",
    "BasanaInstrumentor",
    "BusObserver",
    "CriticalEventProcessor",
    "CriticalEventSampler",
    "EventFields",
    "EventSampler",
    "EventTracer",
    "Field",
    "FieldKind",
    "FillpathError",
    "NautilusInstrumentor",
    "OpenEvent",
    "TracedEvent",
    "TracedEventBus",
    "Tracing",
    "ZiplineInstrumentor",
    "extract",
    "extract_context",
    "inject",
    "untraced",
]

_HOMES = {
    "BacktestingInstrumentor": "backtesting",
    "BacktraderInstrumentor": "backtrader",
    "BasanaInstrumentor": "basana",
    "BusObserver": "bus_observer",
    "CriticalEventProcessor": "critical_event_processor",
    "CriticalEventSampler": "critical_event_sampler",
    "EventFields": "traced_event_bus",
    "EventSampler": "event_sampler",
    "EventTracer": "event_tracer",
    "Field": "spool",
    "FieldKind": "spool",
    "FillpathError": "errors",
    "NautilusInstrumentor": "nautilus",
    "OpenEvent": "event_tracer",
    "TracedEvent": "traced_event",
    "TracedEventBus": "traced_event_bus",
    "Tracing": "tracing",
    "ZiplineInstrumentor": "zipline",
    "extract": "propagation",
    "extract_context": "propagation",
    "inject": "propagation",
    "untraced": "traced_event_bus",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
