"""Hosts that publish a stream, and record it: through fillpath's fast door, or through the SDK.

Each is a loop as tight as Python allows, so that what is measured is the recording.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.semconv import (
    PUBLISH,
    EventType,
    span_name,
)
from fillpath.instrumentation.spool import Field
from peers import known_attributes
from stream import PORTFOLIO, Stream
from stream_kinds import Kind


def emit_stream(tracer: EventTracer, stream: Stream) -> Callable[[int], int]:
    """A host that publishes a stream again and again.

    Its numbers are floats. Events that have names of their own, such as an order's id, go by `open`
    and `close`, the others by emitters.

    Returns:
        What publishes the whole stream so many times.
    """
    emitters = [_emitter(tracer, kind) for kind in stream.kinds]
    chains = _chains(emitters, stream)

    def publish(times: int) -> int:
        for _ in range(times):
            for emit, time, values, branches in chains:
                bar = emit(time, None, *values)
                for emit_features, features, emit_signal, signal, later in branches:
                    cause = emit_features(time, bar, *features)
                    cause = emit_signal(time, cause, *signal)
                    for kind, named in later:
                        cause = tracer.open(
                            kind.event_type,
                            portfolio=PORTFOLIO,
                            strategy=kind.strategy,
                            symbol=kind.symbol,
                            venue=kind.venue,
                            event_time=time,
                            attributes=named,
                            parent=cause,
                        )
                        tracer.close(cause)
        return times * len(stream)

    return publish


def _nothing(*_: Any) -> None:
    """Stands where a stream was cut before the signal."""


def _emitter(tracer: EventTracer, kind: Kind) -> Callable[..., Any]:
    return tracer.emitter(
        kind.event_type,
        portfolio=PORTFOLIO,
        strategy=kind.strategy,
        symbol=kind.symbol,
        venue=kind.venue,
        fields=[Field(field.key) for field in kind.fields],
        texts=dict(kind.texts),
    )


def _chains(emitters: list[Callable[..., Any]], stream: Stream) -> list[tuple[Any, ...]]:
    """Group the events of a stream by bar, and below it by strategy."""
    chains: list[tuple[Any, ...]] = []
    for row, number in zip(stream.rows(), stream.kind.tolist(), strict=True):
        values = [float(row.attributes[field.key]) for field in row.kind.fields]
        match row.kind.event_type:
            case EventType.BAR:
                chains.append((emitters[number], row.event_time, values, []))
            case EventType.FEATURES:
                chains[-1][3].append([emitters[number], values, _nothing, (), []])
            case EventType.SIGNAL:
                chains[-1][3][-1][2:4] = emitters[number], values
            case _:
                chains[-1][3][-1][4].append((row.kind, row.attributes))
    return chains


def span_stream(provider: TracerProvider, stream: Stream) -> Callable[[int], int]:
    """The same host with spans of OpenTelemetry's SDK."""
    tracer = provider.get_tracer("benchmark")
    rows = [
        (span_name(PUBLISH, row.kind.event_type), row.kind.event_type, known_attributes(row))
        for row in stream.rows()
    ]

    def publish(times: int) -> int:
        for _ in range(times):
            bar: Span | None = None
            cause: Span | None = None
            for name, event_type, attributes in rows:
                if event_type == EventType.BAR:
                    bar = cause = None
                elif event_type == EventType.FEATURES:
                    cause = bar
                context = None if cause is None else set_span_in_context(cause)
                cause = tracer.start_span(
                    name, context, kind=SpanKind.PRODUCER, attributes=attributes
                )
                cause.end()
                if event_type == EventType.BAR:
                    bar = cause
        return times * len(stream)

    return publish
