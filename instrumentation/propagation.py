"""Takes causes across the borders of processes, in the headers of whatever carries the events.

The sender puts an event's W3C trace context into a message's headers, and the receiver names what
it finds there as the cause of its own event. Both events then are in one trace, the first the
parent of the second. Which headers these are is set as for all of OpenTelemetry, by
`OTEL_PROPAGATORS`; `traceparent`, `tracestate` and `baggage` by default.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.trace import SpanContext

from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.open_event import Cause, OpenEvent, RemoteEvent
from fillpath.instrumentation.semconv import Resource
from fillpath.instrumentation.tracing import Tracing

_log = logging.getLogger(__name__)

MOST_HEADERS: Final = 1000
"""Headers of a message that are looked at."""
LONGEST_HEADER: Final = 8192
"""Characters of a header; a longer one counts as absent."""
_complained: set[str] = set()


def inject(
    carrier: Any,
    cause: Cause | None = None,
    *,
    tracer: EventTracer | None = None,
    with_baggage: bool = False,
) -> bool:
    """Put an event's address into the headers of a message.

    Never raises. Headers of the same names are replaced.

    Args:
        carrier: A mapping of texts (HTTP headers, fields of a Redis stream) or of bytes, a list of
            `(str, bytes)` pairs (Kafka), or anything that takes `carrier[name] = text`.
        cause: The event: an open event or what an emitter gave. Left out, it is OpenTelemetry's
            current span if there is one (inside a handler, that is the event or a span of the
            host's own below it), else the event whose handler runs.
        tracer: The tracer of the event; that of the active session when left out.
        with_baggage: Also tell portfolio and run as baggage, which anybody on the way can read.

    Returns:
        Whether there was an address to put in.
    """
    try:
        tracer = tracer or _active_tracer()
        ids = _address(tracer, cause)
        if ids is None or not ids.is_valid:
            return False
        within = trace.set_span_in_context(trace.NonRecordingSpan(ids))
        if with_baggage and tracer is not None:
            event = cause if isinstance(cause, OpenEvent) else tracer.current
            portfolio = tracer.portfolio if event is None else event.portfolio
            within = baggage.set_baggage(Resource.PORTFOLIO, portfolio, within)
            within = baggage.set_baggage(Resource.RUN_ID, tracer.run_id, within)
        headers: dict[str, str] = {}
        propagate.inject(headers, within)
        _put(carrier, headers)
    except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
        _complain("could not put an event's address into a message", error)
        return False
    return bool(headers)


def extract(carrier: Any) -> SpanContext | None:
    """Find the address of an event in the headers of a message.

    Never raises: headers that are absent, malformed or far too long are no address. Whether the
    sender's trace was sampled makes no difference; a recording keeps all its events.

    Args:
        carrier: What `inject` takes, or any iterable of pairs; names of headers in any case, names
            and values as texts or bytes.

    Returns:
        What can be named as the cause of an event (`cause` of an emitter, `parent` and `links` of
        `EventTracer.open`); None when there is none.
    """
    try:
        found = trace.get_current_span(extract_context(carrier)).get_span_context()
    except Exception as error:  # noqa: BLE001 - headers come from anywhere
        _complain("could not read the headers of a message", error)
        return None
    return found if found.is_valid else None


def extract_context(carrier: Any) -> context.Context:
    """Find all that the propagators know in the headers of a message, baggage too.

    For `opentelemetry.context.attach`, and for the API's tracers. It may raise what a propagator
    or the carrier raises.
    """
    return propagate.extract(_texts_of(carrier), context.Context())


def _active_tracer() -> EventTracer | None:
    tracing = Tracing.active()
    return tracing.tracer if tracing is not None and tracing.running else None


def _address(tracer: EventTracer | None, cause: Cause | None) -> SpanContext | None:
    if isinstance(cause, SpanContext):
        return cause
    if cause is None:
        current = trace.get_current_span().get_span_context()
        if current.is_valid or tracer is None:
            return current
        cause = tracer.current
    if isinstance(cause, OpenEvent):
        tracer, event = cause.tracer, cause
    elif tracer is None or (found := tracer.event_of(cause)) is None:
        return None
    else:
        event = found
    if tracer.stopped or isinstance(event, RemoteEvent):
        return None
    return tracer.span_context(event)


def _put(carrier: Any, headers: Mapping[str, str]) -> None:
    if isinstance(carrier, list):
        carrier[:] = [pair for pair in carrier if _text(pair[0]).lower() not in headers]
        carrier.extend((name, text.encode()) for name, text in headers.items())
        return
    keys = getattr(carrier, "keys", None)
    names = list(keys()) if callable(keys) else []
    as_bytes = bool(names) and all(type(name) is bytes for name in names)
    for name in [name for name in names if _text(name).lower() in headers]:
        if name in carrier:  # a header that stands there twice goes at once
            del carrier[name]
    for name, text in headers.items():
        if as_bytes:
            carrier[name.encode()] = text.encode()
        else:
            carrier[name] = text


def _texts_of(carrier: Any) -> dict[str, list[str]]:
    """Headers by name in lower case."""
    if carrier is None or isinstance(carrier, str | bytes):
        return {}
    items = getattr(carrier, "items", None)
    pairs: Any = items() if callable(items) else carrier
    found: dict[str, list[str]] = {}
    if not isinstance(pairs, Iterable):
        return found
    for pair in itertools.islice(pairs, MOST_HEADERS):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            continue
        name, value = pair
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, str | bytes) and len(each) <= LONGEST_HEADER:
                found.setdefault(_text(name).lower(), []).append(_text(each))
    return found


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _complain(what: str, error: BaseException) -> None:
    if what not in _complained:
        _complained.add(what)
        _log.warning("fillpath %s: %r", what, error)
