"""The smallest host there is: it publishes one bar after another, as fast as Python allows.

Nothing is imported here but what such a host needs, since its memory is measured, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from opentelemetry.trace import SpanKind, Tracer

from fillpath.instrumentation.emitter import Emitter
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.semconv import PROCESS, PUBLISH, Bar, EventType, Trading, span_name

PORTFOLIO: Final = "fund/desk/book"
BAR_NUMBERS: Final = (Bar.OPEN, Bar.HIGH, Bar.LOW, Bar.CLOSE, Bar.VOLUME)
STRATEGY, SYMBOL, VENUE = "Trend-1", "ACME", "XNAS"


def _emitter(tracer: EventTracer) -> Emitter:
    return tracer.emitter(
        EventType.BAR,
        portfolio=PORTFOLIO,
        strategy=STRATEGY,
        symbol=SYMBOL,
        venue=VENUE,
        fields=BAR_NUMBERS,
    )


def emit_bars(tracer: EventTracer) -> Callable[[int], int]:
    """A host that publishes bars: strategy, symbol, venue and five numbers, eight attributes."""
    emit = _emitter(tracer)

    def publish(events: int) -> int:
        low = 100.25
        for time in range(events):
            emit(time, None, 100.5, 101.75, low, 101.0, 5000.0)
        return events

    return publish


def handle_bars(tracer: EventTracer) -> Callable[[int], int]:
    """The same host, which gives each bar to a handler that does nothing."""
    emit = _emitter(tracer)
    place = tracer.place(
        EventType.BAR,
        operation=PROCESS,
        portfolio=PORTFOLIO,
        strategy=STRATEGY,
        symbol=SYMBOL,
        venue=VENUE,
        handler="Trend.on_bar",
    )

    def publish(events: int) -> int:
        low = 100.25
        for time in range(events):
            bar = emit(time, None, 100.5, 101.75, low, 101.0, 5000.0)
            tracer.leave_run(tracer.enter_run(place, bar, time))
        return events

    return publish


def span_bars(tracer: Tracer) -> Callable[[int], int]:
    """The same host, with a span of OpenTelemetry's SDK for each bar."""
    open_, high, low_, close, volume = BAR_NUMBERS
    name = span_name(PUBLISH, EventType.BAR)

    def publish(events: int) -> int:
        low = 100.25
        for _ in range(events):
            tracer.start_span(
                name,
                kind=SpanKind.PRODUCER,
                attributes={
                    Trading.STRATEGY: STRATEGY,
                    Trading.SYMBOL: SYMBOL,
                    Trading.VENUE: VENUE,
                    open_: 100.5,
                    high: 101.75,
                    low_: low,
                    close: 101.0,
                    volume: 5000.0,
                },
            ).end()
        return events

    return publish


def span_bars_around(tracer: Tracer) -> Callable[[int], int]:
    """The same host, with a span of OpenTelemetry's SDK around the handling of each bar."""
    open_, high, low_, close, volume = BAR_NUMBERS
    name = span_name(PUBLISH, EventType.BAR)

    def publish(events: int) -> int:
        low = 100.25
        for _ in range(events):
            attributes: dict[str, str | float] = {
                Trading.STRATEGY: STRATEGY,
                Trading.SYMBOL: SYMBOL,
                Trading.VENUE: VENUE,
                open_: 100.5,
                high: 101.75,
                low_: low,
                close: 101.0,
                volume: 5000.0,
            }
            with tracer.start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=attributes):
                pass
        return events

    return publish
