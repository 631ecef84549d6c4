"""What tracing costs a home-made bus: 20,000 bars, each given to one handler that causes nothing.

Untraced, wrapped, and with a span of OpenTelemetry's SDK around every event. A bar is a dataclass
of a symbol, a time and five floats. CPU time of the whole process counts, without the writer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from fillpath.instrumentation import TracedEventBus, Tracing
from peers import NullExporter, sdk_provider

VARIANTS: Final = ("no-op", "fillpath", "sdk")
_BARS: Final = {"tiny": 200, "usual": 20_000}


@dataclass
class Bar:
    """Prices of a minute."""

    symbol: str
    timestamp: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Bus:
    """The usual bus."""

    def __init__(self) -> None:
        self.handlers: dict[type, list[Callable[[Any], None]]] = {}

    def subscribe(self, kind: type, handler: Callable[[Any], None]) -> None:
        """Call the handler with every event of this class."""
        self.handlers.setdefault(kind, []).append(handler)

    def publish(self, event: Any) -> None:
        """Tell everyone who is to know."""
        for handler in self.handlers.get(type(event), ()):
            handler(event)


class SpanBus(Bus):
    """Opens a span for every event."""

    def __init__(self, tracer: Any) -> None:
        super().__init__()
        self._span = tracer.start_as_current_span

    def publish(self, event: Any) -> None:
        """Tell everyone, within a span."""
        with self._span("publish BAR", attributes=vars(event)):
            super().publish(event)


@contextmanager
def bus_of(variant: str) -> Iterator[Any]:
    """Give a bus of one of `VARIANTS`."""
    if variant == "no-op":
        yield Bus()
    elif variant == "sdk":
        provider = sdk_provider(NullExporter(), 100_000)
        yield SpanBus(provider.get_tracer("benchmark"))
        provider.shutdown()
    else:
        with (
            tempfile.TemporaryDirectory() as folder,
            Tracing("benchmark", data=folder, writer="none"),
        ):
            yield TracedEventBus(Bus())


def run(variant: str, bars: int = _BARS["usual"]) -> float:
    """Nanoseconds of CPU time that a bar takes; variants are measured in turn by the caller."""
    with bus_of(variant) as bus:
        bus.subscribe(Bar, _ignore)
        began = time.process_time_ns()
        for number in range(bars):
            bus.publish(Bar("ACME", 10**18 + number, 100.0, 101.0, 99.0, 100.0 + number, 5e3))
        return (time.process_time_ns() - began) / bars


def _ignore(_: Bar) -> None:
    """Cause nothing."""
