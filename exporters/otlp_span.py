"""Writes spans of the lake as OTLP messages, and says what spans of one structure have in common.

Protocol Buffers are written by hand here, because the same bytes serve twice: as the span itself,
and as the template of all spans that differ from it in nothing but the content of some columns.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import repeat
from typing import Any, Final, NamedTuple

from fillpath.exporters.number_columns import decimal_text, read_layout
from fillpath.exporters.schema import (
    DROPPED_BY_SDK,
    FOREIGN_EVENT_TYPE,
    LINK_ATTRIBUTES,
    LINK_TRACE_STATES,
    ORIGIN_PARTS,
    RESOURCE_SCHEMA_URL,
    SCOPE_ATTRIBUTES,
    SCOPE_SCHEMA_URL,
    SCOPE_VERSION,
    SPAN_EVENTS,
    SPAN_PARTS,
    SPAN_SCHEMA,
    STATUS_CODE,
    STATUS_DESCRIPTION,
    TEXT_ATTRIBUTES,
)
from fillpath.exporters.span_attributes import parent_of
from fillpath.instrumentation.semconv import (
    SCHEMA_URL,
    SCOPE_NAME,
    Event,
    Resource,
    Sampling,
)
from fillpath.instrumentation.spool import FieldKind

_KINDS: Final = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_NOT_PLAIN: Final = (SPAN_PARTS - ORIGIN_PARTS).union(
    (Event.SEQUENCE, Event.TIME, Sampling.REASON, Sampling.PROBABILITY),
    (key for _, key in TEXT_ATTRIBUTES),
)
"""Attributes that are another part of the span, or say more exactly what a column says, too."""
ID_COLUMNS: Final = ("trace_id", "span_id", "parent_span_id")
_TEXTS: Final = frozenset(column for column, _ in TEXT_ATTRIBUTES)
_MAX_HEADS: Final = 64
_MAX_PREFIXES: Final = 4096
_MAX_TEMPLATES: Final = 64
_CONTEXT_FLAGS: Final = 0x100
"""The flags say whether the parent is remote: it is not, as far as the lake knows."""
_INT64: Final = range(-(1 << 63), 1 << 63)
_U64: Final = struct.Struct("<Q")
_I64: Final = struct.Struct("<q")
_F64: Final = struct.Struct("<d")
_U32: Final = struct.Struct("<I")


def varint(number: int) -> bytes:
    """Write an integer as Protocol Buffers do: seven bits a byte, negative ones as 64 bits."""
    number &= 0xFFFFFFFFFFFFFFFF
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def message(tag: int, content: bytes) -> bytes:
    """Write a field of several bytes (a message, text or bytes) behind its tag."""
    return bytes((tag,)) + varint(len(content)) + content


def any_value(value: Any) -> bytes:
    """Write a value of JSON as OTLP's AnyValue; an integer beyond 64 bits becomes its digits."""
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int) and value in _INT64:
        return b"\x18" + varint(value)
    if isinstance(value, float):
        return b"\x21" + _F64.pack(value)
    if isinstance(value, bytes):
        return message(0x3A, value)
    if isinstance(value, Mapping):
        return message(0x32, b"".join(message(0x0A, key_value(k, v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return message(0x2A, b"".join(message(0x0A, any_value(item)) for item in value))
    return message(0x0A, str(value).encode("utf-8", "backslashreplace"))


def key_value(key: str, value: Any) -> bytes:
    """Write OTLP's KeyValue."""
    return message(0x0A, key.encode("utf-8", "backslashreplace")) + message(0x12, any_value(value))


def attributes_of(mapping: Mapping[str, Any], tag: int) -> bytes:
    """Write attributes, each behind the tag that they have in the message around them."""
    return b"".join(message(tag, key_value(key, value)) for key, value in mapping.items())


@lru_cache(256)
def _key_field(key: str) -> bytes:
    return message(0x0A, key.encode("utf-8", "backslashreplace"))


class Slot:
    """Place in a span for the content of a column.

    Args:
        column: The column.
        tag: What stands directly before the content, or before its length.
        key: Of the attribute whose value the content is; None if it is a field of the span.
    """

    __slots__ = ("column", "key", "tag")

    def __init__(self, column: str, tag: bytes, key: str | None) -> None:
        self.column = column
        self.tag = tag
        self.key = key

    def head(self, length: int) -> bytes:
        """Bytes before a content of this length."""
        tag = self.tag + varint(length) if self.tag in _SIZED else self.tag
        if self.key is None:
            return tag
        head = _key_field(self.key) + b"\x12" + varint(len(tag) + length) + tag
        return b"\x4a" + varint(len(head) + length) + head


_SIZED: Final = frozenset({b"\x0a", b"\x12", b"\x22"})
"""Tags of texts and bytes, which are followed by their length."""


class _SpanParts:
    """A span in the making."""

    def __init__(self) -> None:
        self.parts: list[bytes | tuple[Slot, bytes]] = []

    def add(self, content: bytes) -> None:
        """Add bytes that all spans of one structure have in common."""
        self.parts.append(content)

    def varying(self, column: str, tag: bytes, content: bytes, key: str | None = None) -> None:
        """Add the content of a column: as a field of the span, or as an attribute's value."""
        self.parts.append((Slot(column, tag, key), content))


class _Heads(dict[int, bytes]):
    """What stands before a slot's content, by the content's length."""

    def __init__(self, before: bytes, slot: Slot) -> None:
        super().__init__()
        self._before = before
        self._slot = slot

    def __missing__(self, length: int) -> bytes:
        head = self._before + self._slot.head(length)
        if len(self) < _MAX_HEADS:
            self[length] = head
        return head


class _Prefixes(dict[int, bytes]):
    """What stands before a span: its tag and length."""

    def __missing__(self, length: int) -> bytes:
        prefix = b"\x12" + varint(length)
        if len(self) < _MAX_PREFIXES:
            self[length] = prefix
        return prefix


_PREFIXES: Final = _Prefixes()


class Structure:
    """What spans have in common that differ in nothing but the content of some columns.

    Attributes:
        columns: The columns, in the order of their contents.
    """

    def __init__(
        self, parts: Sequence[bytes | tuple[Slot, bytes]], varying: AbstractSet[str]
    ) -> None:
        columns: list[str] = []
        self._heads: list[_Heads] = []
        before = bytearray()
        for part in parts:
            if isinstance(part, bytes):
                before += part
            elif part[0].column in varying:
                columns.append(part[0].column)
                self._heads.append(_Heads(bytes(before), part[0]))
                before.clear()
            else:
                slot, content = part
                before += slot.head(len(content)) + content
        self.columns = tuple(columns)
        self._tail = bytes(before)
        self._templates: dict[tuple[int, ...], tuple[bytes, list[int]]] = {}

    def spans(self, contents: Sequence[Sequence[bytes]]) -> Iterator[bytes]:
        """Write spans, tag and length before each, with a content for each column and span."""
        columns: list[Iterable[bytes]] = [
            [heads[len(content)] + content for content in column]
            for heads, column in zip(self._heads, contents, strict=True)
        ]
        for inside in map(b"".join, zip(*columns, repeat(self._tail))):
            yield _PREFIXES[len(inside)] + inside

    def template(self, lengths: tuple[int, ...]) -> tuple[bytes, list[int]]:
        """Write a span with contents of these lengths; also says where they begin."""
        known = self._templates.get(lengths)
        if known is None:
            known = self._template(lengths)
            if len(self._templates) < _MAX_TEMPLATES:
                self._templates[lengths] = known
        return known

    def _template(self, lengths: tuple[int, ...]) -> tuple[bytes, list[int]]:
        (span,) = self.spans([[bytes(length)] for length in lengths])
        ends = len(span) - len(self._tail)
        offsets = []
        for heads, length in zip(reversed(self._heads), reversed(lengths), strict=True):
            offsets.append(ends - length)
            ends -= length + len(heads[length])
        return span, offsets[::-1]


@lru_cache(1024)
def structure_of(
    values: tuple[tuple[str, str | float | None], ...], varying: frozenset[str]
) -> Structure:
    """Give the structure of rows that have some values in common.

    Args:
        values: Columns and what the rows have in them; the columns that are in neither are NULL.
        varying: Columns in which they have something, too, but not the same.
    """
    row: dict[str, Any] = dict.fromkeys(SPAN_SCHEMA.names)
    row.update(values)
    for column in varying:
        row[column] = b"" if column in ID_COLUMNS else "" if column in _TEXTS else 0
    row["attributes"] = row["attributes"] or None
    row["root_sequence"] = row["sequence"]  # one is written if the other is there
    row["duration"] = row.pop("end_time", None)
    return Structure(_span_parts(row), varying)


def plain_attributes(text: str, taken: AbstractSet[str]) -> bytes | None:
    """Write the attributes of a row's JSON, if they say nothing about other parts of the span.

    Args:
        text: The JSON.
        taken: Keys of the number columns.
    """
    others: dict[str, Any] = json.loads(text)
    keys = others.keys()
    if not (taken.isdisjoint(keys) and _NOT_PLAIN.isdisjoint(keys)):
        return None
    for part in ORIGIN_PARTS.intersection(keys):
        del others[part]
    return attributes_of(others, 0x4A)


def span_message(row: Mapping[str, Any]) -> bytes:
    """Write a row of the lake as a span inside OTLP's ScopeSpans, its tag and length before it.

    Args:
        row: Values by the columns of `SPAN_SCHEMA`; `links` as mappings.
    """
    inside = bytearray()
    for part in _span_parts(row):
        inside += part if isinstance(part, bytes) else part[0].head(len(part[1])) + part[1]
    return _PREFIXES[len(inside)] + inside


def _span_parts(row: Mapping[str, Any]) -> list[bytes | tuple[Slot, bytes]]:
    others: dict[str, Any] = json.loads(row["attributes"]) if row["attributes"] else {}
    span = _SpanParts()
    span.varying("trace_id", b"\x0a", row["trace_id"])
    span.varying("span_id", b"\x12", row["span_id"])
    if row["trace_state"]:
        span.add(message(0x1A, row["trace_state"].encode()))
    if (parent := parent_of(row)) is not None:
        span.varying("parent_span_id", b"\x22", parent)
    span.add(message(0x2A, (row["name"] or "").encode()))
    if kind := _KINDS.get(row["span_kind"]):
        span.add(bytes((0x30, kind)))
    if (start := row["start_time"]) is not None:
        span.varying("start_time", b"\x39", _I64.pack(start))
    if (duration := row["duration"]) is not None:
        span.varying("end_time", b"\x41", _I64.pack((start or 0) + duration))
    # A number by the key of a column stands in the row's layout.
    said = others.keys() | {field.key for field, _ in read_layout(row["layout"])}
    _add_columns(span, row, said)
    _add_numbers(span, row, others)
    for key, value in others.items():
        if key not in SPAN_PARTS:
            span.add(message(0x4A, key_value(key, value)))
    if not others:
        span.varying("attributes", b"", b"")
    if (reason := row["sampling_reason"]) is not None and Sampling.REASON not in said:
        span.add(message(0x4A, key_value(Sampling.REASON, reason)))
    probability = row["sampling_probability"]
    if probability is not None and Sampling.PROBABILITY not in said:
        content = _F64.pack(probability)
        span.varying("sampling_probability", b"\x21", content, Sampling.PROBABILITY)
    _add_parts(span, row, others)
    return span.parts


def _add_columns(span: _SpanParts, row: Mapping[str, Any], said: AbstractSet[str]) -> None:
    """Add the attributes that are text or integer columns; what is said besides is more exact."""
    for column, key in TEXT_ATTRIBUTES:
        text = row[column]
        if text is None or key in said:
            continue
        if column == "event_type" and text == FOREIGN_EVENT_TYPE:
            continue
        span.varying(column, b"\x0a", text.encode(), key)
    if row["root_sequence"] is not None and Event.SEQUENCE not in said:
        span.varying("sequence", b"\x18", varint(row["sequence"]), Event.SEQUENCE)
    if (event_time := row["event_time"]) is not None and Event.TIME not in said:
        span.varying("event_time", b"\x18", varint(event_time), Event.TIME)


def _add_numbers(span: _SpanParts, row: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    exact: dict[str, Any] = json.loads(row["exact_numbers"]) if row["exact_numbers"] else {}
    for (key, kind, scale), column in read_layout(row["layout"]):
        number = row[column]
        if number is None or key in others:
            continue
        if kind == FieldKind.DOUBLE and column not in exact:
            span.varying(column, b"\x21", _F64.pack(number), key)
        elif kind == FieldKind.BOOLEAN:
            span.varying(column, b"\x10", b"\x01" if number else b"\x00", key)
        elif kind == FieldKind.INTEGER and (whole := _integer(number, exact.get(column))) in _INT64:
            span.varying(column, b"\x18", varint(whole), key)
        else:
            digits = exact.get(column)
            text = decimal_text(number, scale) if digits is None else str(digits)
            span.varying(column, b"\x0a", text.encode(), key)


def _integer(number: float, digits: Any) -> int:
    try:
        return int(number) if digits is None else int(digits)
    except (ValueError, OverflowError):
        return 1 << 63  # no integer at all: its text is written


def _add_parts(span: _SpanParts, row: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    dropped = others.get(DROPPED_BY_SDK) or {}
    for tag, part in ((0x50, "attributes"), (0x60, "events"), (0x70, "links")):
        if count := dropped.get(part):
            span.add(bytes((tag,)) + varint(count))
    for event in others.get(SPAN_EVENTS) or ():
        content = b"\x09" + _U64.pack(event["time_unix_nano"])
        content += message(0x12, event["name"].encode("utf-8", "backslashreplace"))
        span.add(message(0x5A, content + attributes_of(event["attributes"], 0x1A)))
    of_links: Sequence[Mapping[str, Any]] = others.get(LINK_ATTRIBUTES) or ()
    states: Sequence[str] = others.get(LINK_TRACE_STATES) or ()
    for number, link in enumerate(row["links"] or ()):
        content = message(0x0A, link["trace_id"]) + message(0x12, link["span_id"])
        if number < len(states) and states[number]:
            content += message(0x1A, states[number].encode("utf-8", "backslashreplace"))
        if number < len(of_links):
            content += attributes_of(of_links[number], 0x22)
        span.add(message(0x6A, content + b"\x35" + _U32.pack(_CONTEXT_FLAGS)))
    status = others.get(STATUS_CODE)
    if row["status_code"] == "ERROR" or status == "ERROR":
        text = row["status_message"] or others.get(STATUS_DESCRIPTION) or ""
        content = (message(0x12, text.encode()) if text else b"") + b"\x18\x02"
        span.add(message(0x7A, content))
    else:
        span.add(message(0x7A, b"\x18\x01" if status == "OK" else b""))
    span.add(b"\x85\x01" + _U32.pack(_CONTEXT_FLAGS))


def resource_message(row: Mapping[str, Any], of_the_run: Mapping[str, Any]) -> bytes:
    """Write the resource of a row: who recorded it, in which run, for which portfolio.

    Args:
        row: Values by column.
        of_the_run: Further attributes of its run, such as its mode.
    """
    own = row["root_sequence"] is not None
    attributes = {
        Resource.SERVICE_NAME: row["service_name"],
        Resource.SERVICE_NAMESPACE: SCOPE_NAME if own else None,
        Resource.SERVICE_INSTANCE_ID: row["run_id"] if own else None,
        Resource.HOST_NAME: row["host_name"],
        Resource.RUN_ID: row["run_id"],
        **of_the_run,
        Resource.PORTFOLIO: row["portfolio"],
    }
    attributes = {key: value for key, value in attributes.items() if value is not None}
    if row["resource_attributes"]:
        attributes.update(json.loads(row["resource_attributes"]))
    content = message(0x0A, attributes_of(attributes, 0x0A))
    if url := origin_parts(row["attributes"]).resource_schema_url:
        content += message(0x1A, url.encode())
    return content


class OriginParts(NamedTuple):
    """Parts of a span's scope and resource that are among its attributes; empty without one."""

    scope_version: str = ""
    scope_attributes: str = ""
    """A JSON object."""
    scope_schema_url: str = ""
    resource_schema_url: str = ""


_NO_PARTS: Final = OriginParts()


def origin_parts(attributes: str | None) -> OriginParts:
    """Read the parts of a span's scope and resource that are among its attributes."""
    if not attributes or not any(part in attributes for part in ORIGIN_PARTS):
        return _NO_PARTS
    others = json.loads(attributes)
    told = others.get(SCOPE_ATTRIBUTES)
    return OriginParts(
        str(others.get(SCOPE_VERSION) or ""),
        json.dumps(told) if told else "",
        str(others.get(SCOPE_SCHEMA_URL) or ""),
        str(others.get(RESOURCE_SCHEMA_URL) or ""),
    )


def scope_message(row: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Write the instrumentation scope of a row, and the schema that its spans follow."""
    name = row["scope_name"]
    parts = origin_parts(row["attributes"])
    content = b"" if name is None else message(0x0A, name.encode())
    if parts.scope_version:
        content += message(0x12, parts.scope_version.encode())
    if parts.scope_attributes:
        content += attributes_of(json.loads(parts.scope_attributes), 0x1A)
    url = parts.scope_schema_url or (SCHEMA_URL if name == SCOPE_NAME else "")
    return message(0x0A, content), message(0x1A, url.encode()) if url else b""
