"""Turns spans of any OpenTelemetry SDK into spans of the lake, losing nothing of them."""

from __future__ import annotations

import math
import platform
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from fillpath.exporters.exact_json import clean, to_json
from fillpath.exporters.schema import (
    DROPPED_BY_SDK,
    LINK_ATTRIBUTES,
    SCOPE_VERSION,
    SPAN_EVENTS,
    STATUS_CODE,
    STATUS_DESCRIPTION,
)
from fillpath.exporters.span_rows import Span
from fillpath.instrumentation import span_parts
from fillpath.instrumentation.event_sampler import ALL, Decision
from fillpath.instrumentation.identity import is_valid_run_id
from fillpath.instrumentation.semconv import Event, Resource, Sampling

_REMEMBERED: Final = 100_000
_INT64: Final = range(-(1 << 63), 1 << 63)
_Key = TypeVar("_Key")


class Recent(OrderedDict[_Key, int], Generic[_Key]):
    """Remembers the newest entries and forgets the oldest."""

    def note(self, key: _Key, value: int) -> None:
        """Remember an entry."""
        self[key] = value
        if len(self) > _REMEMBERED:
            self.popitem(last=False)


class Sequences:
    """Numbers spans so that a parent's number is smaller than its child's.

    Spans are exported when they end, children first, so a count would run the wrong way round. The
    number is the start time in nanoseconds, moved where two spans began in the same moment.
    """

    def __init__(self) -> None:
        self._number_of: Recent[int] = Recent()
        self._first_child_of: Recent[int] = Recent()
        self._used: Recent[int] = Recent()

    def number(self, span_id: int, parent_id: int | None, start: int) -> int:
        """Number a span."""
        parent = None if parent_id is None else self._number_of.get(parent_id)
        child = self._first_child_of.pop(span_id, None)
        lowest = -math.inf if parent is None else parent + 1
        highest = math.inf if child is None else child - 1
        wanted = start
        if parent is not None:
            wanted = max(wanted, parent + 1)
        if child is not None:
            wanted = min(wanted, child - 1)
        number = wanted
        while number in self._used and number < highest:
            number += 1
        if number in self._used:
            number = wanted
            while number in self._used and number > lowest:
                number -= 1
        self._used.note(number, 0)
        self._number_of.note(span_id, number)
        if parent_id is not None and parent is None:
            first = self._first_child_of.get(parent_id, number)
            self._first_child_of.note(parent_id, min(first, number))
        return number


def taken_run_id(attributes: dict[str, Any]) -> str | None:
    """Take the run out of a resource's attributes, if they name one that can be."""
    run_id = attributes.get(Resource.RUN_ID)
    if not isinstance(run_id, str) or not is_valid_run_id(run_id):
        return None
    del attributes[Resource.RUN_ID]
    return run_id


@dataclass(frozen=True, slots=True)
class Origin:
    """What all spans of one SDK resource have in common."""

    run_id: str | None
    """Run that the resource names, if it names one that can be."""
    mode: str | None
    portfolio: str | None
    service_name: str | None
    host_name: str
    others: str | None
    """The other resource attributes, as JSON."""

    @classmethod
    def of(cls, resource: SdkResource) -> Origin:
        """Read a resource."""
        others = dict(resource.attributes)
        run_id = taken_run_id(others)
        texts = {
            key: clean(str(others.pop(key))) if key in others else None
            for key in (
                Resource.RUN_MODE,
                Resource.PORTFOLIO,
                Resource.SERVICE_NAME,
                Resource.HOST_NAME,
            )
        }
        return cls(
            run_id,
            texts[Resource.RUN_MODE],
            texts[Resource.PORTFOLIO],
            texts[Resource.SERVICE_NAME],
            texts[Resource.HOST_NAME] or platform.node(),
            to_json(others) if others else None,
        )


def span_of(
    span: ReadableSpan, origin: Origin, run_id: str, portfolio: str, sequences: Sequences
) -> Span:
    """Make a span of the lake.

    Args:
        span: A span that has ended.
        origin: What its resource says.
        run_id: Run it belongs to.
        portfolio: Namespace, when neither the span nor its resource names one.
        sequences: Numbers it, when it has no sequence of its own.

    Raises:
        ValueError: When it has no context, or a time that does not fit.
    """
    context = span.context
    if context is None:
        raise ValueError(f"the span {span.name!r} has no context")
    times = (span.start_time or 0, span.end_time or 0)
    if any(time not in _INT64 for time in (*times, times[1] - times[0])):
        raise ValueError(f"the span {span.name!r} has a time beyond 64 bits")
    attributes: dict[str, Any] = dict(span.attributes or {})
    parent_id = None if span.parent is None else span.parent.span_id
    start = span.start_time or 0
    sequence = _take_integer(attributes, Event.SEQUENCE)
    if sequence is None:
        sequence = sequences.number(context.span_id, parent_id, start)
    event_time = _take_integer(attributes, Event.TIME)
    decision = _take_decision(attributes)
    _add_parts(span, attributes)
    scope = span.instrumentation_scope
    named = attributes.get(Resource.PORTFOLIO)
    error = None
    if span.status.status_code is StatusCode.ERROR:
        error = (None, clean(span.status.description or "") or None)
    return Span(
        run_id,
        context.trace_id.to_bytes(16, "big"),
        context.span_id.to_bytes(8, "big"),
        None if parent_id is None else parent_id.to_bytes(8, "big"),
        sequence,
        None,
        clean(span.name),
        span.kind.name,
        event_type_of(span),
        clean(named) if isinstance(named, str) else origin.portfolio or portfolio,
        event_time=event_time,
        start_time=span.start_time,
        end_time=span.end_time,
        attributes=attributes,
        links=[
            (link.context.trace_id.to_bytes(16, "big"), link.context.span_id.to_bytes(8, "big"))
            for link in span.links
        ],
        error=error,
        decision=decision,
        service_name=origin.service_name,
        host_name=origin.host_name,
        scope_name=None if scope is None else clean(scope.name),
        trace_state=context.trace_state.to_header() or None,
        resource_attributes=origin.others,
    )


def event_type_of(span: ReadableSpan) -> str:
    """Kind of event a span stands for, by its attribute or its name; else `SPAN`."""
    return clean(span_parts.event_type_of(span.name, (span.attributes or {}).get(Event.TYPE)))


def _take_integer(attributes: dict[str, Any], key: str) -> int | None:
    value = attributes.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value not in _INT64:
        return None
    del attributes[key]
    return value


def _take_decision(attributes: dict[str, Any]) -> Decision:
    reason, probability = attributes.get(Sampling.REASON), attributes.get(Sampling.PROBABILITY)
    if not isinstance(reason, str) or not isinstance(probability, float):
        return Decision(ALL, 1.0)
    del attributes[Sampling.REASON], attributes[Sampling.PROBABILITY]
    return Decision(clean(reason), probability)


def _add_parts(span: ReadableSpan, attributes: dict[str, Any]) -> None:
    """Add to the attributes what the lake has no column for."""
    if span.events:
        attributes[SPAN_EVENTS] = [
            {
                "name": event.name,
                "time_unix_nano": event.timestamp,
                "attributes": dict(event.attributes or {}),
            }
            for event in span.events
        ]
    if any(link.attributes for link in span.links):
        attributes[LINK_ATTRIBUTES] = [dict(link.attributes or {}) for link in span.links]
    if span.status.status_code is not StatusCode.UNSET:
        attributes[STATUS_CODE] = span.status.status_code.name
        if span.status.description:
            attributes[STATUS_DESCRIPTION] = span.status.description
    if span.instrumentation_scope is not None and span.instrumentation_scope.version:
        attributes[SCOPE_VERSION] = span.instrumentation_scope.version
    dropped = [span.dropped_attributes, span.dropped_events, span.dropped_links]
    if any(dropped):
        attributes[DROPPED_BY_SDK] = dict(
            zip(("attributes", "events", "links"), dropped, strict=True)
        )


def causes_first(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    """Order spans by their start; of those that began together, parents come first."""
    parents = {
        span.context.span_id: span.parent.span_id if span.parent else None
        for span in spans
        if span.context is not None
    }

    def depth(span: ReadableSpan) -> int:
        ancestor, steps = span.parent.span_id if span.parent else None, 0
        while ancestor in parents and steps < len(parents):
            ancestor, steps = parents[ancestor], steps + 1
        return steps

    return sorted(spans, key=lambda span: (span.start_time or 0, depth(span)))
