"""Gives recorded events their OpenTelemetry identity: event in, span of the lake out."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

from fillpath.exporters.schema import PARENT_DROPPED, STATUS_CODE, STATUS_DESCRIPTION
from fillpath.exporters.span_rows import STATUS_ERROR, Span
from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation import identity
from fillpath.instrumentation.event_sampler import KEEP_ALL, Decision
from fillpath.instrumentation.semconv import (
    DEFAULT_PORTFOLIO,
    PROCESS,
    SCOPE_NAME,
    Event,
    EventType,
    Sampling,
    span_name,
)
from fillpath.instrumentation.span_parts import (
    CAUSE_TRACE,
    KIND_OF_OPERATION,
    SPAN_KIND,
    SPAN_NAME,
    SPAN_SCOPE,
    TRACE_STATE,
    trace_of_cause,
)
from fillpath.instrumentation.spool import NO_TIME

SHORTEST: Final = 1
"""Nanoseconds that an event lasts at least: viewers take a span without length for a mistake."""


class _Parts(NamedTuple):
    """What a record of the OpenTelemetry door says of its span."""

    name: str
    kind: str
    scope_name: str
    trace_state: str | None
    attributes: dict[str, Any]
    """The others."""


def _parts_of(event: RecordedEvent) -> _Parts:
    site, others = event.site, event.attributes
    name = span_name(site.operation, site.event_type)
    kind = KIND_OF_OPERATION.get(site.operation, "INTERNAL")
    if SPAN_SCOPE not in others:  # an event, as most are
        return _Parts(name, kind, SCOPE_NAME, None, others)
    others = dict(others)
    scope = others.pop(SPAN_SCOPE)
    return _Parts(
        others.pop(SPAN_NAME, name),
        others.pop(SPAN_KIND, kind),
        scope,
        others.pop(TRACE_STATE, None),
        others,
    )


def _error_of(event: RecordedEvent) -> tuple[str | None, str | None] | None:
    """Type and message of what a handler raised, or what a host said when it set the status."""
    error = event.extra.get("error")
    if error is not None:
        return str(error.get("type")), str(error.get("message"))
    if event.attributes.get(STATUS_CODE) == STATUS_ERROR:
        return None, event.attributes.get(STATUS_DESCRIPTION)
    return None


def _is_time(value: Any) -> bool:
    return type(value) is int and NO_TIME < value < -NO_TIME


def _decision_of(attributes: dict[str, Any], decision: Decision) -> Decision:
    """The sampler's decision on a span of the OpenTelemetry door, if there was one."""
    reason, probability = attributes.get(Sampling.REASON), attributes.get(Sampling.PROBABILITY)
    if not isinstance(reason, str) or not isinstance(probability, float):
        return decision
    del attributes[Sampling.REASON], attributes[Sampling.PROBABILITY]
    return Decision(reason, probability) if decision == KEEP_ALL else decision


class SpoolSpans:
    """Makes spans of the events of one run.

    Args:
        run_id: The run; with a sequence number it makes every id.
        events: Where the events come from.
    """

    def __init__(self, run_id: str, events: SpoolEvents) -> None:
        self._run_id = run_id
        self._key = identity.run_key(run_id)
        self._events = events
        self._trace_id_of_correlation = lru_cache(4096)(
            lambda name: identity.trace_id_of_correlation(run_id, name).to_bytes(16, "big")
        )

    def span_id(self, sequence: int) -> bytes:
        """Span id of the event with this sequence."""
        return identity.span_id(self._key, sequence).to_bytes(8, "big")

    def service_name(self, portfolio: str) -> str | None:
        """Name of the service that a portfolio's events come from, as OpenTelemetry sees it."""
        program: str | None = self._events.run.get("service_name")
        if not program or portfolio == DEFAULT_PORTFOLIO:
            return program
        return f"{program}/{portfolio}"

    def _trace_id(self, event: RecordedEvent) -> bytes:
        name = event.extra.get("correlation_id")
        if name is not None:
            return self._trace_id_of_correlation(str(name))
        foreign = self._events.foreign_traces.get(event.root)
        return self._own_trace_id(event.root) if foreign is None else foreign

    def _own_trace_id(self, root: int) -> bytes:
        return identity.trace_id(self._key, root).to_bytes(16, "big")

    def chain(self, root: int) -> tuple[bytes, str | None]:
        """Trace id of the chain that began with this sequence, and the host's name of it."""
        name = self._events.names.get(root)
        if name is not None:
            return self._trace_id_of_correlation(str(name)), str(name)
        return self._events.foreign_traces.get(root) or self._own_trace_id(root), None

    def span(self, event: RecordedEvent, decision: Decision) -> Span:
        """Make the span of an event that is kept."""
        site, extra, run = event.site, event.extra, self._events.run
        parts = _parts_of(event)
        attributes = parts.attributes
        event_time = event.event_time
        if attributes is not event.attributes:
            decision = _decision_of(attributes, decision)
            if event_time is None and _is_time(attributes.get(Event.TIME)):
                event_time = attributes.pop(Event.TIME)  # set after the span's record was written
        parent, trace_state = None, parts.trace_state
        if "parent" in extra:
            _, parent, *more = map(bytes, extra["parent"])
            trace_state = trace_state or (more[0].decode("utf-8", "replace") if more else None)
        elif event.parent_dropped:
            attributes = {**attributes, PARENT_DROPPED: self.span_id(event.parent).hex()}
        elif event.parent:
            parent = self.span_id(event.parent)
        if "event_id" in extra:
            attributes = {**attributes, Event.ID: extra["event_id"]}
        if not event.finished:
            attributes = {**attributes, Event.UNFINISHED: True}
        links = event.links
        cause_trace = trace_of_cause(attributes.get(CAUSE_TRACE))
        if cause_trace is not None:
            attributes = {key: attributes[key] for key in attributes if key != CAUSE_TRACE}
            links = links if parent is None else [(cause_trace, parent), *links]
        correlation_id = extra.get("correlation_id")
        start, end = event.start, event.end
        if start is not None and end is not None:
            start = min(start, end)  # a start that lay in the future counts as the end
            end = max(end, start + SHORTEST)
        return Span(
            self._run_id,
            self._trace_id(event),
            self.span_id(event.sequence),
            parent,
            event.sequence,
            event.root,
            parts.name,
            parts.kind,
            EventType.DELIVERY if site.operation == PROCESS else site.event_type,
            site.portfolio,
            event_time=event_time,
            start_time=start,
            end_time=end,
            strategy=site.strategy,
            symbol=site.symbol,
            venue=site.venue,
            handler=site.handler,
            correlation_id=None if correlation_id is None else str(correlation_id),
            attributes=attributes,
            links=links,
            error=_error_of(event),
            decision=decision,
            service_name=self.service_name(site.portfolio),
            host_name=run.get("host_name"),
            scope_name=parts.scope_name,
            trace_state=trace_state,
        )
