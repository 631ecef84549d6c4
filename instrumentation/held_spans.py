"""Ended spans of the OpenTelemetry SDK that wait, as plain tuples, for something to want them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, TraceFlags

from fillpath.instrumentation.event_sampler import Decision
from fillpath.instrumentation.semconv import Sampling

SpanKey = tuple[int, int]
"""Trace id and span id."""


class HeldSpan(NamedTuple):
    """All there is to know about a span that has ended, without the SDK's objects around it."""

    name: str
    context: SpanContext
    parent: SpanContext | None
    resource: Resource
    attributes: dict[str, Any]
    events: Sequence[SpanEvent]
    links: Sequence[Link]
    kind: SpanKind
    scope: InstrumentationScope | None
    status: Status
    start_time: int | None
    end_time: int | None
    dropped: tuple[int, int, int]
    """Attributes, events and links that the SDK's limits have cost the span."""

    @classmethod
    def of(cls, span: ReadableSpan, context: SpanContext, attributes: dict[str, Any]) -> HeldSpan:
        """Take a span that has ended, and its context and attributes."""
        return cls(
            span.name,
            context,
            span.parent,
            span.resource,
            attributes,
            span.events,
            span.links,
            span.kind,
            span.instrumentation_scope,
            span.status,
            span.start_time,
            span.end_time,
            (span.dropped_attributes, span.dropped_events, span.dropped_links),
        )

    @property
    def parent_key(self) -> SpanKey | None:
        """The parent, if this process recorded it."""
        return key_of_parent(self.parent)

    def released(self, decision: Decision) -> ReadableSpan:
        """Make a sampled span of it that says why it is kept."""
        return _ReleasedSpan(self, decision)


class _ReleasedSpan(ReadableSpan):
    """A span that was recorded only, and is sampled now."""

    def __init__(self, held: HeldSpan, decision: Decision) -> None:
        flags = TraceFlags(held.context.trace_flags | TraceFlags.SAMPLED)
        context = held.context
        super().__init__(
            held.name,
            SpanContext(context.trace_id, context.span_id, False, flags, context.trace_state),
            held.parent,
            held.resource,
            {
                **held.attributes,
                Sampling.REASON: decision.reason or "",
                Sampling.PROBABILITY: decision.probability,
            },
            held.events,
            held.links,
            held.kind,
            instrumentation_scope=held.scope,
            status=held.status,
            start_time=held.start_time,
            end_time=held.end_time,
        )
        self._dropped = held.dropped

    @property
    def dropped_attributes(self) -> int:
        return self._dropped[0]

    @property
    def dropped_events(self) -> int:
        return self._dropped[1]

    @property
    def dropped_links(self) -> int:
        return self._dropped[2]


class Ring(OrderedDict[SpanKey, Any]):
    """The newest entries; one too many pushes the oldest out.

    Args:
        most: How many entries there may be.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def put(self, key: SpanKey, value: Any) -> bool:
        """Add an entry; tells whether the oldest had to go."""
        self[key] = value
        if len(self) <= self._most:
            return False
        self.popitem(last=False)
        return True


def key_of(context: SpanContext) -> SpanKey:
    """What a span is known by."""
    return context.trace_id, context.span_id


def key_of_parent(parent: SpanContext | None) -> SpanKey | None:
    """What a span's parent is known by, if it is in this process."""
    return None if parent is None or parent.is_remote else key_of(parent)


def counts_of(numbers: Mapping[str, int]) -> dict[str, int]:
    """Counts by name, without those that are 0."""
    return {name: number for name, number in sorted(numbers.items()) if number}
