"""Makes spans of OpenTelemetry's SDK of rows of the lake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from fillpath.exporters.schema import (
    LINK_ATTRIBUTES,
    SCOPE_VERSION,
    SPAN_EVENTS,
    SPAN_SCHEMA,
)
from fillpath.exporters.span_attributes import parent_of, parts_of, resource_of, status_of
from fillpath.instrumentation.semconv import SCHEMA_URL, SCOPE_NAME, Resource

_INT64: Final = range(-(1 << 63), 1 << 63)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_NOTHING: Final[dict[str, Any]] = dict.fromkeys(SPAN_SCHEMA.names)
_MOST_RESOURCES: Final = 1000
UNKNOWN_SERVICE: Final = "unknown_service"
"""What the name of a service begins with that nobody has named."""


class ProviderSpans:
    """Makes the spans of one run.

    Args:
        resource: Of the provider; what the run knows better is said by the run.
        mode: The run's mode.
    """

    def __init__(self, resource: SdkResource, mode: str | None) -> None:
        self._resource = resource
        self._mode = mode
        self._resources: dict[tuple[Any, ...], SdkResource] = {}

    def of(self, table: pa.Table) -> Iterator[ReadableSpan]:
        """Make a span of every row."""
        there = [name for name in table.column_names if table[name].null_count < len(table)]
        for row in table.select(there).to_pylist():
            yield self._span(_NOTHING | row)

    def _span(self, row: Mapping[str, Any]) -> ReadableSpan:
        attributes, others = parts_of(row)
        trace_id = int.from_bytes(row["trace_id"], "big")
        parent = parent_of(row)
        start = row["start_time"]
        duration = row["duration"]
        status, message = status_of(row, others)
        name = row["scope_name"]
        of_links = others.get(LINK_ATTRIBUTES) or ()
        return ReadableSpan(
            row["name"],
            SpanContext(
                trace_id,
                int.from_bytes(row["span_id"], "big"),
                is_remote=False,
                trace_flags=_SAMPLED,
                trace_state=TraceState.from_header([row["trace_state"] or ""]),
            ),
            None if parent is None else _context(trace_id, parent),
            self._resource_of(row),
            {key: sdk_value(value) for key, value in attributes.items()},
            [
                SpanEvent(event["name"], sdk_value(event["attributes"]), event["time_unix_nano"])
                for event in others.get(SPAN_EVENTS) or ()
            ],
            [
                Link(
                    _context(int.from_bytes(link["trace_id"], "big"), link["span_id"]),
                    sdk_value(of_links[number]) if number < len(of_links) else None,
                )
                for number, link in enumerate(row["links"] or ())
            ],
            SpanKind[row["span_kind"] or "INTERNAL"],
            instrumentation_scope=InstrumentationScope(
                name or "",
                others.get(SCOPE_VERSION),
                SCHEMA_URL if name == SCOPE_NAME else None,
            ),
            status=Status(StatusCode[status], message if status == "ERROR" else None),
            start_time=start,
            end_time=None if duration is None else (start or 0) + duration,
        )

    def _resource_of(self, row: Mapping[str, Any]) -> SdkResource:
        key = row["portfolio"], row["service_name"], row["host_name"], row["run_id"]
        known = self._resources.get(key)
        if known is None:
            known = self._resource.merge(SdkResource(resource_of(row, self._mode)))
            if len(self._resources) >= _MOST_RESOURCES:
                self._resources.clear()
            self._resources[key] = known
        return known


def service_of(resource: SdkResource) -> str | None:
    """Give the name that a resource gives its service; None when nobody has named it."""
    name = resource.attributes.get(Resource.SERVICE_NAME)
    return None if name is None or str(name).startswith(UNKNOWN_SERVICE) else str(name)


def sdk_value(value: Any) -> Any:
    """Give a value of JSON as an exporter takes it: of an integer beyond 64 bits the digits."""
    if isinstance(value, dict):
        return {key: sdk_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [sdk_value(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and value not in _INT64:
        return str(value)
    return value


def _context(trace_id: int, span_id: bytes) -> SpanContext:
    return SpanContext(trace_id, int.from_bytes(span_id, "big"), False, _SAMPLED)
