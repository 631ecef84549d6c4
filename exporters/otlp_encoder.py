"""Encodes rows of the lake as OTLP requests, a whole batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from fillpath.exporters.otlp_batch import Origin, Room, SpanBatch
from fillpath.exporters.otlp_columns import Codes, Integers, sorted_by
from fillpath.exporters.otlp_span import varint

MAX_REQUEST_SPANS: Final = 16_384
"""Spans of one request, unless told otherwise."""
MAX_REQUEST_BYTES: Final = 4 << 20
"""Bytes of one request, unless told otherwise: what a Collector takes by gRPC when left alone."""
_ROWS_AT_ONCE: Final = 32_768
"""Rows of a row group of the lake: what is made of them still lies in the processor's cache."""


class OtlpEncoder:
    """Encodes Arrow record batches of `SPAN_SCHEMA` as OTLP trace requests.

    Parsed, a request is the message that the OpenTelemetry SDK's own encoder makes of the same
    spans in the same order; `docs/opentelemetry.md` says what becomes of which column.

    Args:
        runs: Further resource attributes by run id, such as `trading.run.mode`.
        max_spans: Most spans of one request.
        max_bytes: Most bytes of one request. A span that is larger goes alone.
    """

    def __init__(
        self,
        runs: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        max_spans: int = MAX_REQUEST_SPANS,
        max_bytes: int = MAX_REQUEST_BYTES,
    ) -> None:
        self._runs = runs or {}
        self._max_spans = max(1, max_spans)
        self._max_bytes = max_bytes

    def encode(self, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
        """Encode batches; gives serialized `ExportTraceServiceRequest` messages, spans in order."""
        for request, _ in self.encode_counted(batches):
            yield request

    def encode_counted(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[bytes, int]]:
        """Encode batches as `encode` does; gives with each request how many rows are in it."""
        room = Room()
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for batch in batches:
            if rows and rows + len(batch) > _ROWS_AT_ONCE:
                yield from self._requests(waiting, room)
                waiting, rows = [], 0
            waiting.append(batch)
            rows += len(batch)
        yield from self._requests(waiting, room)

    def _requests(self, batches: list[pa.RecordBatch], room: Room) -> Iterator[tuple[bytes, int]]:
        whole = _joined(batches)
        for start in range(0, len(whole), _ROWS_AT_ONCE):
            part = whole.slice(start, _ROWS_AT_ONCE)
            if len(part):
                yield from self._batch(part, room)

    def _batch(self, batch: pa.RecordBatch, room: Room) -> Iterator[tuple[bytes, int]]:
        spans = SpanBatch(batch)
        origin_of, origins = spans.origins(self._runs)
        lengths = spans.lengths
        ends = np.cumsum(lengths)
        windows = list(_windows(ends, origin_of, origins, self._max_spans, self._max_bytes))
        order, pieces = _placed(windows, origin_of, len(origins))
        after, offsets = ends, ends - lengths
        if len(origins) > 1:
            after = lengths[order].cumsum()
            offsets[order] = after - lengths[order]
        out = room.of(int(ends[-1]))
        spans.write(offsets, out)
        requests = _framed(pieces, after, origins, out.data)
        for request, (begin, end) in zip(requests, windows, strict=True):
            yield request, end - begin


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Several batches as one: a template costs the same for few rows as for many."""
    filled = [batch for batch in batches if len(batch)]
    if len(filled) == 1:
        return filled[0]
    if not filled:
        return pa.record_batch({})
    table = pa.Table.from_batches(filled).unify_dictionaries().combine_chunks()
    return table.to_batches()[0]


def _windows(
    ends: Integers,
    origin_of: Codes,
    origins: list[Origin],
    max_spans: int,
    max_bytes: int,
) -> Iterator[tuple[int, int]]:
    """Part the rows into requests: from where to where."""
    sizes = np.array([len(b"".join(origin)) + 32 for origin in origins])
    begin, before, rows = 0, 0, len(ends)
    heads = int(sizes.sum())
    while begin < rows:
        room = max(max_bytes - heads, max_bytes // 2)
        end = int(np.searchsorted(ends, before + room, side="right"))
        end = min(max(end, begin + 1), begin + max_spans, rows)
        while end > begin + 1:  # many resources in one request take room as well
            heads_here = int(sizes[np.unique(origin_of[begin:end])].sum())
            if int(ends[end - 1]) - before + heads_here <= max_bytes:
                break
            end = begin + max(1, (end - begin) * 7 // 8)
        yield begin, end
        begin, before = end, int(ends[end - 1])


class _Piece(NamedTuple):
    """Spans of one resource and scope, side by side in one request."""

    request: int
    origin: int
    end: int
    """Place in the order of all rows behind its last span."""


def _placed(
    windows: list[tuple[int, int]], origin_of: Codes, origins: int
) -> tuple[Integers, list[_Piece]]:
    """Order the rows: by request, then by their resource and scope, first come first."""
    rows = len(origin_of)
    order = np.arange(rows)
    if origins == 1:
        return order, [_Piece(number, 0, end) for number, (_, end) in enumerate(windows)]
    pieces: list[_Piece] = []
    for number, (begin, end) in enumerate(windows):
        here = origin_of[begin:end]
        codes, firsts, counts = np.unique(here, return_index=True, return_counts=True)
        ranks = np.empty(origins, np.int64)
        by_first = np.argsort(firsts)
        ranks[codes[by_first]] = np.arange(len(codes))
        order[begin:end] = begin + sorted_by(ranks[here], len(codes))
        place = begin
        for each in by_first.tolist():
            place += int(counts[each])
            pieces.append(_Piece(number, int(codes[each]), place))
    return order, pieces


def _framed(
    pieces: list[_Piece], after: Integers, origins: list[Origin], spans: memoryview
) -> Iterator[bytes]:
    """Put the messages around the spans."""
    begin = 0
    request: dict[bytes, list[tuple[Origin, memoryview]]] = {}
    for number, piece in enumerate(pieces):
        end = int(after[piece.end - 1])
        origin = origins[piece.origin]
        request.setdefault(origin.resource, []).append((origin, spans[begin:end]))
        begin = end
        if number + 1 == len(pieces) or pieces[number + 1].request != piece.request:
            yield _request(request)
            request = {}


def _request(resources: dict[bytes, list[tuple[Origin, memoryview]]]) -> bytes:
    parts: list[bytes | memoryview] = []
    for resource, scopes in resources.items():
        inner: list[bytes | memoryview] = [resource]
        for origin, spans in scopes:
            length = len(origin.scope) + len(spans) + len(origin.schema)
            inner += [b"\x12" + varint(length), origin.scope, spans, origin.schema]
        parts.append(b"\x0a" + varint(sum(len(part) for part in inner)))
        parts += inner
    return b"".join(parts)
