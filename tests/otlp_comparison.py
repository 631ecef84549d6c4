"""What is said of spans in OTLP, laid out so that two receivers of the same spans can be compared.

It is read with Google's library, not with ours: ids in JSON, which that library takes for base64,
are written so before.
"""

from __future__ import annotations

import base64
import copy
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Spans = dict[str, dict[str, Any]]
"""Spans by trace id and span id in hex, and what is said of each, by name."""


def of_requests(requests: Iterable[bytes | ExportTraceServiceRequest]) -> Spans:
    """Lay out the spans of requests; fails when one is there twice."""
    spans: Spans = {}
    for given in requests:
        request = ExportTraceServiceRequest.FromString(given) if isinstance(given, bytes) else given
        for resource in request.resource_spans:
            of_resource = {
                "resource": values(resource.resource.attributes),
                "resource schema": resource.schema_url,
            }
            for scope in resource.scope_spans:
                of_scope = {
                    "scope": (scope.scope.name, scope.scope.version),
                    "scope attributes": values(scope.scope.attributes),
                    "scope schema": scope.schema_url,
                }
                for span in scope.spans:
                    key = f"{span.trace_id.hex()} {span.span_id.hex()}"
                    assert key not in spans, f"{key} is there twice"
                    spans[key] = {**of_resource, **of_scope, **of_span(span)}
    return spans


def of_span(span: Any) -> dict[str, Any]:
    """Lay out a span."""
    return {
        "parent": span.parent_span_id.hex().strip("0") and span.parent_span_id.hex(),
        "name": span.name,
        "kind": span.kind,
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "state": span.trace_state,
        "status": (span.status.code, span.status.message),
        "attributes": values(span.attributes),
        "events": [
            (event.name, event.time_unix_nano, values(event.attributes)) for event in span.events
        ],
        "links": [
            (link.trace_id.hex(), link.span_id.hex(), link.trace_state, values(link.attributes))
            for link in span.links
        ],
        "dropped": (
            span.dropped_attributes_count,
            span.dropped_events_count,
            span.dropped_links_count,
        ),
    }


def values(attributes: Iterable[Any]) -> dict[str, Any]:
    """Lay out attributes; their order says nothing."""
    laid_out: dict[str, Any] = {}
    for pair in attributes:
        assert pair.key not in laid_out, f"{pair.key} is there twice"
        laid_out[pair.key] = value(pair.value)
    return laid_out


def value(given: Any) -> Any:
    """Lay out a value with its type; a double by its bits, since NaN is not equal to itself."""
    kind = given.WhichOneof("value")
    content = None if kind is None else getattr(given, kind)
    if kind == "double_value":
        content = struct.pack(">d", content).hex()
    elif kind == "array_value":
        content = [value(item) for item in content.values]
    elif kind == "kvlist_value":
        content = values(content.values)
    return kind, content


def of_json(document: Mapping[str, Any]) -> ExportTraceServiceRequest:
    """Read OTLP's JSON with Google's library."""
    given: dict[str, Any] = copy.deepcopy(dict(document))
    for resource in given.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                for one in (span, *span.get("links", ())):
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if one.get(key):
                            one[key] = base64.b64encode(bytes.fromhex(one[key])).decode()
    return ParseDict(given, ExportTraceServiceRequest(), ignore_unknown_fields=True)


def differences(wanted: Spans, found: Spans) -> list[str]:
    """Say how two differ; nothing when they do not."""
    said = [f"missing: {key}" for key in wanted.keys() - found.keys()]
    said += [f"extra: {key}" for key in found.keys() - wanted.keys()]
    for key in wanted.keys() & found.keys():
        for part, of_wanted in wanted[key].items():
            if part in found[key] and found[key][part] != of_wanted:
                said.append(f"{key}: {part} is {found[key][part]!r}, not {of_wanted!r}")
    return said[:20]
