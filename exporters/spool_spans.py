"""Gives recorded events their OpenTelemetry identity: event in, span of the lake out."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from fillpath.exporters.schema import PARENT_DROPPED
from fillpath.exporters.span_rows import Span
from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation import identity
from fillpath.instrumentation.event_sampler import Decision
from fillpath.instrumentation.semconv import (
    PROCESS,
    PUBLISH,
    SCOPE_NAME,
    Event,
    EventType,
    span_name,
)

_KINDS: Final = {PUBLISH: "PRODUCER", PROCESS: "CONSUMER"}


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
        attributes = event.attributes
        parent = None
        if "parent" in extra:
            parent = bytes(extra["parent"][1])
        elif event.parent_dropped:
            attributes = {**attributes, PARENT_DROPPED: self.span_id(event.parent).hex()}
        elif event.parent:
            parent = self.span_id(event.parent)
        if "event_id" in extra:
            attributes = {**attributes, Event.ID: extra["event_id"]}
        if not event.finished:
            attributes = {**attributes, Event.UNFINISHED: True}
        error, correlation_id = extra.get("error"), extra.get("correlation_id")
        return Span(
            self._run_id,
            self._trace_id(event),
            self.span_id(event.sequence),
            parent,
            event.sequence,
            event.root,
            span_name(site.operation, site.event_type),
            _KINDS.get(site.operation, "INTERNAL"),
            EventType.DELIVERY if site.operation == PROCESS else site.event_type,
            site.portfolio,
            event_time=event.event_time,
            start_time=event.start,
            end_time=event.end,
            strategy=site.strategy,
            symbol=site.symbol,
            venue=site.venue,
            handler=site.handler,
            correlation_id=None if correlation_id is None else str(correlation_id),
            attributes=attributes,
            links=event.links,
            error=None if error is None else (str(error.get("type")), str(error.get("message"))),
            decision=decision,
            service_name=run.get("service_name"),
            host_name=run.get("host_name"),
            scope_name=SCOPE_NAME,
        )
