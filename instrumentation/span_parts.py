"""Parts of an OpenTelemetry span that an event of a trading system does not have.

A record of the spool has no place for them, so they travel as attributes by these keys: texts of
the record's site, or in its side record. The first group becomes columns of the lake; the second
stays among the attributes there.
"""

from __future__ import annotations

import re
from typing import Final

from fillpath.instrumentation.semconv import PROCESS, PUBLISH, EventType

SPAN_NAME: Final = "otel.span.name"
"""Name of the span, where it is not operation and event type."""
SPAN_KIND: Final = "otel.span.kind"
"""Kind of the span, where it is not that of its operation."""
SPAN_SCOPE: Final = "otel.scope.name"
"""Instrumentation scope; every record of the OpenTelemetry door has it, and no other."""
TRACE_STATE: Final = "otel.trace_state"
"""W3C tracestate."""
CAUSE_TRACE: Final = "otel.cause_trace_id"
"""Trace id, in hex, of an event's cause, where the event began a new trace; becomes a link."""

SPAN_EVENTS: Final = "otel.events"
"""Events that an OpenTelemetry span carried: a list of name, time and attributes."""
STATUS_CODE: Final = "otel.status_code"
"""`OK` or `ERROR` on an OpenTelemetry span whose host set that."""
STATUS_DESCRIPTION: Final = "otel.status_description"
"""What the host said about it."""
SCOPE_VERSION: Final = "otel.scope.version"
"""Version of an OpenTelemetry span's instrumentation scope."""
LINK_ATTRIBUTES: Final = "otel.link_attributes"
"""Attributes of an OpenTelemetry span's links, in the order of the links."""
LINK_TRACE_STATES: Final = "otel.link_trace_states"
"""W3C tracestates of an OpenTelemetry span's links, in the order of the links."""
SCOPE_ATTRIBUTES: Final = "otel.scope.attributes"
"""Attributes of an OpenTelemetry span's instrumentation scope."""
SCOPE_SCHEMA_URL: Final = "otel.scope.schema_url"
"""Schema that the spans of the scope follow, where it is not fillpath's own."""
RESOURCE_SCHEMA_URL: Final = "otel.resource.schema_url"
"""Schema that the resource follows."""

FOREIGN_EVENT_TYPE: Final = "SPAN"
"""Event type of an OpenTelemetry span that says of no event that it stands for it."""
_TRACE_ID: Final = re.compile("[0-9a-f]{32}")
KIND_OF_OPERATION: Final = {PUBLISH: "PRODUCER", PROCESS: "CONSUMER"}
"""Kind of a span by its operation; any other is INTERNAL."""


def trace_of_cause(given: object) -> bytes | None:
    """Trace id that `CAUSE_TRACE` holds; None where it is a host's attribute of that name."""
    if not isinstance(given, str) or _TRACE_ID.fullmatch(given) is None:
        return None
    return bytes.fromhex(given)


def event_type_of(name: str, given: object) -> str:
    """Kind of event a span stands for, by its attribute or its name; else `SPAN`."""
    operation, _, event_type = name.partition(" ")
    if operation == PROCESS and event_type:
        return EventType.DELIVERY
    if isinstance(given, str):
        return given
    if operation == PUBLISH and event_type:
        return event_type
    return FOREIGN_EVENT_TYPE
