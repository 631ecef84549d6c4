"""What is said of spans in OTLP, laid out so that two receivers of the same spans can be compared.

Nothing here is ours: messages are read with Google's library, and JSON as it stands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_KINDS: Final = {
    "stringValue": "string_value",
    "intValue": "int_value",
    "doubleValue": "double_value",
    "boolValue": "bool_value",
    "arrayValue": "array_value",
    "kvlistValue": "kvlist_value",
}
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
    content: Any = None if kind is None else getattr(given, kind)
    if kind == "double_value":
        content = struct.pack(">d", content).hex()
    elif kind == "array_value":
        content = [value(item) for item in content.values]
    elif kind == "kvlist_value":
        content = values(content.values)
    return kind, content


def of_documents(documents: Iterable[Mapping[str, Any]], *, again: bool = False) -> Spans:
    """Lay out the spans of OTLP's JSON, as a Collector writes it.

    Fails when one is there twice, or, with `again`, when it is not the same both times.
    """
    spans: Spans = {}
    for document in documents:
        for resource in document.get("resourceSpans", ()):
            of_resource = {
                "resource": json_values(resource.get("resource", {})),
                "resource schema": resource.get("schemaUrl", ""),
            }
            for scope in resource["scopeSpans"]:
                told = scope.get("scope", {})
                of_scope = {
                    "scope": (told.get("name", ""), told.get("version", "")),
                    "scope attributes": json_values(told),
                    "scope schema": scope.get("schemaUrl", ""),
                }
                for span in scope["spans"]:
                    key = f"{span['traceId']} {span['spanId']}"
                    laid_out = {**of_resource, **of_scope, **of_json_span(span)}
                    known = spans.setdefault(key, laid_out)
                    assert known is laid_out or (again and known == laid_out), f"{key}: twice"
    return spans


def of_json_span(span: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out a span of OTLP's JSON."""
    status = span.get("status", {})
    return {
        "parent": span.get("parentSpanId", ""),
        "name": span.get("name", ""),
        "kind": span.get("kind", 0),
        "start": int(span.get("startTimeUnixNano", 0)),
        "end": int(span.get("endTimeUnixNano", 0)),
        "state": span.get("traceState", ""),
        "status": (status.get("code", 0), status.get("message", "")),
        "attributes": json_values(span),
        "events": [
            (event.get("name", ""), int(event.get("timeUnixNano", 0)), json_values(event))
            for event in span.get("events", ())
        ],
        "links": [
            (link["traceId"], link["spanId"], link.get("traceState", ""), json_values(link))
            for link in span.get("links", ())
        ],
        "dropped": tuple(
            span.get(f"dropped{part}Count", 0) for part in ("Attributes", "Events", "Links")
        ),
    }


def json_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out the attributes of what has some."""
    attributes = given.get("attributes", ())
    laid_out = {pair["key"]: json_value(pair.get("value", {})) for pair in attributes}
    assert len(laid_out) == len(attributes), "an attribute is there twice"
    return laid_out


def json_value(given: Mapping[str, Any]) -> Any:
    """Lay out a value of OTLP's JSON with its type."""
    for name, content in given.items():
        kind = _KINDS[name]
        if kind == "int_value":
            return kind, int(content)
        if kind == "double_value":
            return kind, struct.pack(">d", float(content)).hex()
        if kind == "array_value":
            return kind, [json_value(item) for item in content.get("values", ())]
        if kind == "kvlist_value":
            return kind, json_values({"attributes": content.get("values", ())})
        return kind, content
    return None, None


def differences(wanted: Spans, found: Spans) -> list[str]:
    """Say how two differ; nothing when they do not."""
    said = [f"missing: {key}" for key in wanted.keys() - found.keys()]
    said += [f"extra: {key}" for key in found.keys() - wanted.keys()]
    for key in wanted.keys() & found.keys():
        for part, of_wanted in wanted[key].items():
            if part in found[key] and found[key][part] != of_wanted:
                said.append(f"{key}: {part} is {found[key][part]!r}, not {of_wanted!r}")
    return said[:20]
