"""Reads OTLP in Protocol Buffers' binary form from a stream, in bounded memory.

A request (or `TracesData`, which is the same on the wire) is read one `ResourceSpans` after
another. The Collector's file exporter writes many, each behind its length in four bytes; with
`compression: zstd` each is compressed for itself, and may be JSON as well.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, Final

import pyarrow as pa
from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from fillpath.exporters.otlp_input import (
    SPAN_KINDS,
    STATUS_CODES,
    InputLink,
    InputResource,
    InputScope,
    InputSpan,
    OtlpDamage,
    checked_ids,
)
from fillpath.exporters.otlp_json_reader import OtlpJsonReader

ZSTD: Final = b"\x28\xb5\x2f\xfd"
LENGTH_BYTES: Final = 4
"""Bytes of the length before each message of the Collector's file exporter."""
RESOURCE_SPANS_TAG: Final = 0x0A
_LEN: Final = 2
_FIXED: Final = {1: 8, 5: 4}
_MOST_VARINT_BYTES: Final = 10
_MOST_FRAME_BYTES: Final = 1 << 30
_CUT: Final = "the file ends in the middle of a message"


class OtlpWireReader:
    """Reads the spans of a stream of OTLP in binary form.

    Args:
        read: Gives up to so many bytes; none at the end.
        framed: Whether each message stands behind its length.

    Attributes:
        others: Parts of other signals that were passed over, where that can be told.
        damages: What was not OTLP; the reader goes on at the next message when there are lengths.
    """

    def __init__(self, read: Callable[[int], bytes], *, framed: bool) -> None:
        self.others = 0
        self.damages: list[OtlpDamage] = []
        self._read = read
        self._framed = framed
        self._at = 0

    def __iter__(self) -> Iterator[InputResource]:
        """Read on until the end of the stream."""
        try:
            if self._framed:
                yield from self._frames()
            else:
                yield from self._resources()
        except OtlpDamage as damage:
            self.damages.append(damage)

    def _frames(self) -> Iterator[InputResource]:
        while True:
            begin = self._at
            head = self._taken(LENGTH_BYTES, may_end=True)
            if not head:
                return
            size = int.from_bytes(head, "big")
            if size > _MOST_FRAME_BYTES:
                raise OtlpDamage(f"{size} is no length of a message", f"byte {begin}")
            frame = self._taken(size)
            try:
                yield from self._frame(frame)
            except OtlpDamage as damage:
                self.damages.append(OtlpDamage(damage.what, f"message at byte {begin}"))

    def _frame(self, frame: bytes) -> Iterator[InputResource]:
        if frame.startswith(ZSTD):
            try:
                with pa.CompressedInputStream(pa.BufferReader(frame), "zstd") as stream:
                    frame = stream.read()
            except (OSError, pa.ArrowException) as error:
                raise OtlpDamage(f"it is not whole zstd ({error})", "") from error
        inside = io.BytesIO(frame)
        reader: OtlpJsonReader | OtlpWireReader
        if frame.lstrip()[:1] == b"{" and frame[:1] != b"\x0a":
            reader = OtlpJsonReader(inside.read)
        else:
            reader = OtlpWireReader(inside.read, framed=False)
        yield from reader
        self.others += reader.others
        if reader.damages:
            raise reader.damages[0]

    def _resources(self) -> Iterator[InputResource]:
        while True:
            begin = self._at
            first = self._taken(1, may_end=True)
            if not first:
                return
            tag = self._varint(first)
            if tag != RESOURCE_SPANS_TAG:
                self._pass_over(tag, begin)
                continue
            content = self._taken(self._varint())
            try:
                yield _resource(ResourceSpans.FromString(content))
            except DecodeError as error:
                raise OtlpDamage("no ResourceSpans of OTLP", f"byte {begin}") from error

    def _pass_over(self, tag: int, begin: int) -> None:
        """Pass over a field that is newer than this reader."""
        wire = tag & 7
        if wire == _LEN:
            self._taken(self._varint())
        elif wire in _FIXED:
            self._taken(_FIXED[wire])
        elif wire == 0:
            self._varint()
        else:
            raise OtlpDamage("no field of OTLP", f"byte {begin}")

    def _varint(self, first: bytes = b"") -> int:
        number, shift, begin = 0, 0, self._at
        while shift < 7 * _MOST_VARINT_BYTES:
            (byte,) = first or self._taken(1)
            first = b""
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
        raise OtlpDamage("no number of Protocol Buffers", f"byte {begin}")

    def _taken(self, size: int, *, may_end: bool = False) -> bytes:
        """Take exactly so many bytes; nothing at the end, where the stream may end."""
        parts, missing, begin = [], size, self._at
        while missing:
            part = self._read(min(missing, 1 << 20))
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        self._at += size - missing
        if missing and not (may_end and missing == size):
            raise OtlpDamage(_CUT, f"byte {begin}")
        return b"".join(parts)


def _resource(message: ResourceSpans) -> InputResource:
    read = InputResource(_attributes(message.resource.attributes), message.schema_url, [])
    for scope_spans in message.scope_spans:
        scope = scope_spans.scope
        spans = []
        for span in scope_spans.spans:
            try:
                spans.append(_span(span))
            except ValueError as error:
                read.malformed.append(str(error))
        read.scopes.append(
            InputScope(
                scope.name,
                scope.version,
                _attributes(scope.attributes),
                scope_spans.schema_url,
                spans,
            )
        )
    return read


def _span(given: Any) -> InputSpan:
    ids = checked_ids(given.trace_id, given.span_id, given.parent_span_id)
    kind = given.kind
    span = InputSpan(
        *ids,
        given.name,
        SPAN_KINDS[kind if 0 <= kind < len(SPAN_KINDS) else 0],
        given.start_time_unix_nano,
        given.end_time_unix_nano,
        _attributes(given.attributes),
        given.trace_state,
    )
    if given.events:
        span.events = [
            {
                "name": event.name,
                "time_unix_nano": event.time_unix_nano,
                "attributes": _attributes(event.attributes),
            }
            for event in given.events
        ]
    for link in given.links:
        trace_id, span_id, _ = checked_ids(link.trace_id, link.span_id, b"")
        attributes = _attributes(link.attributes)
        span.links.append(InputLink(trace_id, span_id, attributes, link.trace_state))
    if given.HasField("status"):
        code = given.status.code
        span.status_code = STATUS_CODES[code if 0 <= code < len(STATUS_CODES) else 0]
        span.status_message = given.status.message
    for part, count in (
        ("attributes", given.dropped_attributes_count),
        ("events", given.dropped_events_count),
        ("links", given.dropped_links_count),
    ):
        if count:
            span.dropped[part] = count
    return span


def _attributes(given: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in given}


def _value(given: Any) -> Any:
    kind = given.WhichOneof("value")
    if kind is None:
        return None
    value = getattr(given, kind)
    if kind == "array_value":
        return [_value(item) for item in value.values]
    if kind == "kvlist_value":
        return _attributes(value.values)
    return value
