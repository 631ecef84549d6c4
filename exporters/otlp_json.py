"""Writes spans of the lake as OTLP in JSON: one document, for Jaeger's upload or a Collector.

The JSON follows OTLP's own mapping: ids in hex, enumerations as numbers, 64-bit integers as text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import IO, Any, Final

import pyarrow as pa

from fillpath.exporters.otlp_span import OriginParts, origin_parts
from fillpath.exporters.schema import (
    DROPPED_BY_SDK,
    LINK_ATTRIBUTES,
    LINK_TRACE_STATES,
    SPAN_EVENTS,
)
from fillpath.exporters.span_attributes import parent_of, parts_of, resource_of, status_of
from fillpath.instrumentation.semconv import SCHEMA_URL, SCOPE_NAME

_KINDS: Final = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_STATUS_CODES: Final = {"UNSET": 0, "OK": 1, "ERROR": 2}
_INT64: Final = range(-(1 << 63), 1 << 63)
_OF_ORIGIN: Final = (
    "run_id", "service_name", "host_name", "portfolio", "resource_attributes", "scope_name"
)  # fmt: skip


def write_otlp_json(
    batches: Iterable[pa.RecordBatch], out: IO[str], modes: Mapping[str, str | None]
) -> int:
    """Write spans as one document, a batch at a time; gives how many.

    A span that did not end gets its start as its end, because a viewer takes no end for 1970; its
    attribute `trading.event.unfinished` tells.

    Args:
        batches: Rows of `SPAN_SCHEMA`.
        out: Where to; UTF-8.
        modes: Mode of each run, if known.
    """
    count, comma = 0, ""
    out.write('{"resourceSpans":[')
    for batch in batches:
        rows = batch.to_pylist()
        for origin, group in groupby(rows, _origin_of):
            of_origin = list(group)
            out.write(comma)
            written = _resource_spans(of_origin, modes.get(origin[0]))
            out.write(
                json.dumps(written, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            )
            count, comma = count + len(of_origin), ",\n"
    out.write("]}\n")
    return count


def _origin_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    url = origin_parts(row["attributes"]).resource_schema_url
    return (*(row[name] for name in _OF_ORIGIN), row["root_sequence"] is None, url)


def _resource_spans(rows: list[dict[str, Any]], mode: str | None) -> dict[str, Any]:
    first = rows[0]
    name = first["scope_name"]
    scopes: dict[OriginParts, list[dict[str, Any]]] = {}
    for row in rows:
        scopes.setdefault(origin_parts(row["attributes"]), []).append(otlp_span(row))
    url = origin_parts(first["attributes"]).resource_schema_url
    return {
        "resource": {"attributes": _attributes(resource_of(first, mode))},
        "scopeSpans": [_scope_spans(name, parts, spans) for parts, spans in scopes.items()],
        **({"schemaUrl": url} if url else {}),
    }


def _scope_spans(
    name: str | None, parts: OriginParts, spans: list[dict[str, Any]]
) -> dict[str, Any]:
    scope: dict[str, Any] = {} if name is None else {"name": name}
    if parts.scope_version:
        scope["version"] = parts.scope_version
    if parts.scope_attributes:
        scope["attributes"] = _attributes(json.loads(parts.scope_attributes))
    url = parts.scope_schema_url or (SCHEMA_URL if name == SCOPE_NAME else "")
    return {"scope": scope, "spans": spans, **({"schemaUrl": url} if url else {})}


def otlp_span(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row as a span of OTLP's JSON."""
    attributes, others = parts_of(row)
    start = row["start_time"] or 0
    span: dict[str, Any] = {"traceId": row["trace_id"].hex(), "spanId": row["span_id"].hex()}
    if row["trace_state"]:
        span["traceState"] = row["trace_state"]
    if (parent := parent_of(row)) is not None:
        span["parentSpanId"] = parent.hex()
    span["name"] = row["name"] or ""
    if kind := _KINDS.get(row["span_kind"]):
        span["kind"] = kind
    span["startTimeUnixNano"] = str(start)
    span["endTimeUnixNano"] = str(start + (row["duration"] or 0))
    span["attributes"] = _attributes(attributes)
    if events := others.get(SPAN_EVENTS):
        span["events"] = [
            {
                "timeUnixNano": str(event["time_unix_nano"]),
                "name": event["name"],
                "attributes": _attributes(event["attributes"]),
            }
            for event in events
        ]
    if row["links"]:
        states = others.get(LINK_TRACE_STATES) or ()
        span["links"] = _links(row["links"], others.get(LINK_ATTRIBUTES) or (), states)
    code, message = status_of(row, others)
    status = {"message": message} if message else {}
    span["status"] = {**status, **({"code": _STATUS_CODES[code]} if code != "UNSET" else {})}
    for part, count in (others.get(DROPPED_BY_SDK) or {}).items():
        if count:
            span[f"dropped{part.capitalize()}Count"] = count
    return span


def _links(
    links: Iterable[Mapping[str, Any]],
    attributes: Iterable[Mapping[str, Any]],
    states: Iterable[str],
) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = [
        {"traceId": link["trace_id"].hex(), "spanId": link["span_id"].hex()} for link in links
    ]
    for link, of_link in zip(written, attributes, strict=False):
        link["attributes"] = _attributes(of_link)
    for link, state in zip(written, states, strict=False):
        if state:
            link["traceState"] = state
    return written


def _attributes(mapping: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in mapping.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue" if value in _INT64 else "stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _name_of(value)}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _attributes(value)}}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {}


def _name_of(value: float) -> str:
    """Name what JSON has no number for, as Protocol Buffers' JSON does."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
