"""Gives a row of the lake the attributes that the span of an OpenTelemetry SDK would have."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from fillpath.exporters.number_columns import decimal_text, read_layout
from fillpath.exporters.schema import (
    FOREIGN_EVENT_TYPE,
    SPAN_PARTS,
    STATUS_CODE,
    STATUS_DESCRIPTION,
    TEXT_ATTRIBUTES,
)
from fillpath.exporters.span_rows import STATUS_ERROR
from fillpath.instrumentation.semconv import SCOPE_NAME, Event, Resource, Sampling
from fillpath.instrumentation.spool import FieldKind


class Parts(NamedTuple):
    """A span's attributes, and those of the lake that are other parts of a span."""

    attributes: dict[str, Any]
    others: dict[str, Any]


def parts_of(row: Mapping[str, Any]) -> Parts:
    """Put the attributes of a row together; decimals are texts with exactly their digits.

    Args:
        row: Values by the columns of `SPAN_SCHEMA`.
    """
    kept: dict[str, Any] = json.loads(row["attributes"]) if row["attributes"] else {}
    attributes: dict[str, Any] = {}
    for column, key in TEXT_ATTRIBUTES:
        if (text := row[column]) is not None:
            attributes[key] = text
    if row["event_type"] == FOREIGN_EVENT_TYPE:
        del attributes[Event.TYPE]
    if row["root_sequence"] is not None:
        attributes[Event.SEQUENCE] = row["sequence"]
    if row["event_time"] is not None:
        attributes[Event.TIME] = row["event_time"]
    if row["layout"]:
        attributes |= _numbers(row)
    if row["sampling_reason"] is not None:
        attributes[Sampling.REASON] = row["sampling_reason"]
        attributes[Sampling.PROBABILITY] = row["sampling_probability"]
    # What is in the JSON as well is more exact there.
    attributes |= {key: value for key, value in kept.items() if key not in SPAN_PARTS}
    return Parts(attributes, {key: value for key, value in kept.items() if key in SPAN_PARTS})


def parent_of(row: Mapping[str, Any]) -> bytes | None:
    """Give the parent's span id as OpenTelemetry wants it: that of a cause in the same trace.

    Where a trace was divided, which an event of ours begins then, a link leads to the cause.
    """
    parent: bytes | None = row["parent_span_id"]
    root = row["root_sequence"]
    if parent is None or not row["links"] or root is None or root != row["sequence"]:
        return parent
    for link in row["links"]:
        if link["span_id"] == parent and link["trace_id"] != row["trace_id"]:
            return None
    return parent


def resource_of(row: Mapping[str, Any], mode: str | None) -> dict[str, Any]:
    """Give the attributes of a row's resource: who recorded it, in which run, for which portfolio.

    Args:
        row: Values by the columns of `SPAN_SCHEMA`.
        mode: The run's mode, if known.
    """
    own = row["root_sequence"] is not None
    known = {
        Resource.SERVICE_NAME: row["service_name"],
        Resource.SERVICE_NAMESPACE: SCOPE_NAME if own else None,
        Resource.SERVICE_INSTANCE_ID: row["run_id"] if own else None,
        Resource.HOST_NAME: row["host_name"],
        Resource.RUN_ID: row["run_id"],
        Resource.RUN_MODE: mode,
        Resource.PORTFOLIO: row["portfolio"],
    }
    if row["resource_attributes"]:
        known |= json.loads(row["resource_attributes"])
    return {key: value for key, value in known.items() if value is not None}


def status_of(row: Mapping[str, Any], others: Mapping[str, Any]) -> tuple[str, str]:
    """Give a span's status, `UNSET`, `OK` or `ERROR`, and its message."""
    if row["status_code"] == STATUS_ERROR:
        return STATUS_ERROR, row["status_message"] or others.get(STATUS_DESCRIPTION) or ""
    return str(others.get(STATUS_CODE) or "UNSET"), str(others.get(STATUS_DESCRIPTION) or "")


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    exact: dict[str, Any] = json.loads(row["exact_numbers"]) if row["exact_numbers"] else {}
    return {
        key: _number(row[column], kind, scale, exact.get(column))
        for (key, kind, scale), column in read_layout(row["layout"])
        if row[column] is not None
    }


def _number(value: float, kind: str, scale: int, digits: str | None) -> Any:
    if kind == FieldKind.INTEGER:
        return int(value if digits is None else digits)
    if digits is not None:
        return digits
    if kind == FieldKind.BOOLEAN:
        return bool(value)
    if kind == FieldKind.DECIMAL and math.isfinite(value):
        return decimal_text(value, scale)
    return value
