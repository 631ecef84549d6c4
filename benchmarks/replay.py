"""Hosts that publish a stream, and record it: through fillpath's fast door, or through the SDK.

Each is a loop as tight as Python allows, and runs as well with emitters or a tracer that do
nothing, so that what the loop itself takes can be told from the recording.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, set_span_in_context

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


def emit_stream(tracer: EventTracer | None, stream: Stream) -> Callable[[int], int]:
    """A host that publishes a stream again and again, through the fast door.

    Its numbers are floats. Texts of an event's own, such as an order's id, are given as names.

    Args:
        tracer: Records it; None for emitters that do nothing.
        stream: The events.

    Returns:
        What publishes the whole stream so many times.
    """
    names = _names_by_kind(stream)
    emitters = [
        _nothing if tracer is None else _emitter(tracer, kind, names.get(kind, ()))
        for kind in stream.kinds
    ]
    chains = _chains(emitters, stream)

    def publish(times: int) -> int:
        for _ in range(times):
            for emit, time, values, branches in chains:
                bar = emit(time, None, *values)
                for emit_features, features, emit_signal, signal, later in branches:
                    cause = emit_features(time, bar, *features)
                    cause = emit_signal(time, cause, *signal)
                    for emit_later, named in later:
                        cause = emit_later(time, cause, *named)
        return times * len(stream)

    return publish


def _nothing(*_: Any) -> None:
    """An emitter that does nothing; it also stands where a stream was cut before the signal."""


def _names_by_kind(stream: Stream) -> dict[Kind, tuple[str, ...]]:
    """Keys of the texts that events of a kind have of their own."""
    return {
        stream.kinds[stream.kind[sequence - 1]]: tuple(texts)
        for sequence, texts in stream.names.items()
    }


def _emitter(tracer: EventTracer, kind: Kind, names: tuple[str, ...]) -> Callable[..., Any]:
    return tracer.emitter(
        kind.event_type,
        portfolio=PORTFOLIO,
        strategy=kind.strategy,
        symbol=kind.symbol,
        venue=kind.venue,
        fields=[Field(field.key) for field in kind.fields],
        names=names,
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
                named = [*values, *stream.names.get(row.sequence, {}).values()]
                chains[-1][3][-1][4].append((emitters[number], named))
    return chains


def span_stream(provider: TracerProvider | None, stream: Stream) -> Callable[[int], int]:
    """The same host with spans of OpenTelemetry's SDK; None for a tracer that does nothing."""
    tracer: Any = _IDLE if provider is None else provider.get_tracer("benchmark")
    set_cause = _nothing if provider is None else set_span_in_context
    rows = [
        (span_name(PUBLISH, row.kind.event_type), row.kind.event_type, known_attributes(row))
        for row in stream.rows()
    ]

    def publish(times: int) -> int:
        for _ in range(times):
            bar: Any = None
            cause: Any = None
            for name, event_type, attributes in rows:
                if event_type == EventType.BAR:
                    bar = cause = None
                elif event_type == EventType.FEATURES:
                    cause = bar
                context = None if cause is None else set_cause(cause)
                cause = tracer.start_span(
                    name, context, kind=SpanKind.PRODUCER, attributes=attributes
                )
                cause.end()
                if event_type == EventType.BAR:
                    bar = cause
        return times * len(stream)

    return publish


class _Idle:
    """A tracer, and its span, that do nothing."""

    def start_span(self, *_: Any, **__: Any) -> _Idle:
        """Begin nothing."""
        return self

    def end(self) -> None:
        """End nothing."""


_IDLE = _Idle()
