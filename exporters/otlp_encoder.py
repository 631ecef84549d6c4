"""Encodes rows of the lake as OTLP requests, a whole batch at a time.

Rows of one shape (same name, kind, layout and so on, and texts and numerals of the same lengths)
differ only in bytes at fixed places. So one of them is written by hand, as a template; numpy
copies it for all of them and fills in what varies. Rows of a shape of their own are written one by
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fillpath.exporters.otlp_columns import (
    ABSENT,
    Codes,
    Integers,
    Matrix,
    Shapes,
    Source,
    bytes_of,
    codes_of,
    contains,
    decimals,
    numbers_of,
    sorted_by,
    valid_of,
    varints,
    whole_numbers,
)
from fillpath.exporters.otlp_span import (
    TEXT_ATTRIBUTES,
    Hole,
    read_layout,
    resource_message,
    scope_message,
    span_message,
    varint,
)
from fillpath.exporters.schema import SCOPE_VERSION
from fillpath.instrumentation.spool import FieldKind

MAX_REQUEST_SPANS: Final = 16_384
"""Spans of one request, unless told otherwise."""
MAX_REQUEST_BYTES: Final = 4 << 20
"""Bytes of one request, unless told otherwise: what a Collector takes by gRPC when left alone."""
_ROWS_AT_ONCE: Final = 131_072
_ROWS_IN_CACHE: Final = 1024
WORTH_A_TEMPLATE: Final = 3
"""Rows of one shape from which a template pays."""
_SHAPING: Final = (
    "name", "span_kind", "event_type", "layout", "attributes", "trace_state", "status_code",
    "status_message", "sampling_reason",
)  # fmt: skip
"""Columns whose different values make different templates."""
_ORIGIN: Final = (
    "run_id", "portfolio", "service_name", "host_name", "scope_name", "resource_attributes",
)  # fmt: skip
"""Columns that say who recorded a row."""
_IDS: Final = ("trace_id", "span_id", "parent_span_id")
_ONE_BY_ONE: Final = ("links", "exact_numbers")
"""Columns that have no place in a template."""


class _Origin(NamedTuple):
    """Resource and scope of a span, as bytes."""

    resource: bytes
    scope: bytes
    schema: bytes


class _Rows:
    """Sources of a number column whose rows are those of one layout."""

    def __init__(self, source: Matrix, place: Integers) -> None:
        self.lengths: Integers | None = None  # they were looked at when the layout was
        self._source = source
        self._place = place

    def take(self, rows: Integers, width: int) -> npt.NDArray[Any]:
        """Bytes of some rows of the batch."""
        return self._source.take(self._place.take(rows), width)


class _Group(NamedTuple):
    """Rows of one shape, and what they are written with."""

    rows: Integers
    layout: int
    template: bytes
    holes: list[Hole]


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
        room = _Room()
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for batch in batches:
            if rows and rows + len(batch) > _ROWS_AT_ONCE:
                yield from self._requests(waiting, room)
                waiting, rows = [], 0
            waiting.append(batch)
            rows += len(batch)
        yield from self._requests(waiting, room)

    def _requests(self, batches: list[pa.RecordBatch], room: _Room) -> Iterator[bytes]:
        whole = _joined(batches)
        for start in range(0, len(whole), _ROWS_AT_ONCE):
            part = whole.slice(start, _ROWS_AT_ONCE)
            yield from _Batch(part, self._runs, room).requests(self._max_spans, self._max_bytes)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Several batches as one: a template costs the same for few rows as for many."""
    filled = [batch for batch in batches if len(batch)]
    if len(filled) == 1:
        return filled[0]
    if not filled:
        return pa.record_batch({})
    table = pa.Table.from_batches(filled).unify_dictionaries().combine_chunks()
    return table.to_batches()[0]


class _Room:
    """Memory for the spans of one batch, used again for the next: new memory is slow."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def of(self, size: int) -> npt.NDArray[np.uint8]:
        """Room for so many bytes; what was given before is not valid any more."""
        if len(self._bytes) < size:
            self._bytes = np.empty(size + size // 8, np.uint8)
        return self._bytes[:size]


class _Batch:
    """One batch on its way to requests."""

    def __init__(
        self, batch: pa.RecordBatch, runs: Mapping[str, Mapping[str, Any]], room: _Room
    ) -> None:
        self._batch = batch
        self._room = room
        self._runs = runs
        self._count = len(batch)
        self._sources: dict[str, Source] = {}
        self._numbers: dict[tuple[int, str], Source] = {}
        self._slow = np.zeros(self._count, np.bool_)
        self._codes: dict[str, tuple[Codes, int]] = {}
        self._columns: dict[str, tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]] = {}

    def _column(self, name: str) -> pa.Array:
        return self._batch.column(name)

    def _codes_of(self, name: str) -> tuple[Codes, int]:
        if name not in self._codes:
            self._codes[name] = codes_of(self._column(name))
        return self._codes[name]

    def _numbers_of(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        if name not in self._columns:
            self._columns[name] = numbers_of(self._column(name))
        return self._columns[name]

    def requests(self, max_spans: int, max_bytes: int) -> Iterator[bytes]:
        """Give the requests of the batch."""
        if not self._count:
            return
        groups, singles = self._groups()
        lengths = np.empty(self._count, np.int64)
        for group in groups:
            lengths[group.rows] = len(group.template)
        for row, span in singles.items():
            lengths[row] = len(span)
        origin_of, origins = self._origins()
        ends = np.cumsum(lengths)
        windows = list(_windows(ends, origin_of, origins, max_spans, max_bytes))
        order, pieces = _placed(windows, origin_of, len(origins))
        offsets = np.empty(self._count, np.int64)
        after = lengths[order].cumsum()
        offsets[order] = after - lengths[order]
        out = self._filled(groups, singles, offsets, int(ends[-1]))
        yield from _framed(pieces, after, origins, out.data)

    def _groups(self) -> tuple[list[_Group], dict[int, bytes]]:
        """Sort the rows by their shapes; those that are alone are written at once."""
        shapes = Shapes(self._count)
        layouts, _ = self._codes_of("layout")
        for name in _SHAPING:
            shapes.add(*self._codes_of(name))
        for name in _ONE_BY_ONE:
            column = self._column(name)
            if column.null_count < self._count:
                there = valid_of(column)
                self._slow |= True if there is None else there
        self._add_texts(shapes)
        self._add_times(shapes)
        self._add_numbers(shapes)
        codes, size = shapes.codes()
        order = sorted_by(codes, size)
        if self._slow.any():
            order = order[~self._slow[order]]
        counts = np.bincount(codes[order], minlength=size)
        groups: list[_Group] = []
        alone = [np.flatnonzero(self._slow)]
        ends = counts.cumsum()
        begins = ends - counts
        worth = np.flatnonzero(counts >= WORTH_A_TEMPLATE)
        firsts = order[begins[worth]]
        examples = self._batch.take(pa.array(firsts)).to_pylist()
        for code, example in zip(worth.tolist(), examples, strict=True):
            rows = order[begins[code] : ends[code]]
            template, holes = span_message(example)
            layout = int(layouts[rows[0]])
            groups.append(_Group(rows, layout, template, holes))
        few = np.flatnonzero((counts > 0) & (counts < WORTH_A_TEMPLATE))
        alone += [order[begins[code] : ends[code]] for code in few.tolist()]
        return groups, self._written(np.concatenate(alone))

    def _written(self, rows: Integers) -> dict[int, bytes]:
        singles = self._batch.take(pa.array(rows, pa.int64())).to_pylist()
        return {
            row: span_message(values)[0] for row, values in zip(rows.tolist(), singles, strict=True)
        }

    def _add_texts(self, shapes: Shapes) -> None:
        for name in (*_IDS, *(column for column, _ in TEXT_ATTRIBUTES)):
            if name in _SHAPING:
                continue
            column = self._column(name)
            source = bytes_of(column)
            if source is None:
                continue
            shapes.add_lengths(source.lengths)
            if not (pa.types.is_dictionary(column.type) and len(column.dictionary) == 1):
                self._sources[name] = source

    def _add_times(self, shapes: Shapes) -> None:
        start, started = numbers_of(self._column("start_time"))
        duration, ended = numbers_of(self._column("duration"))
        probability, sampled = numbers_of(self._column("sampling_probability"))
        rooted = valid_of(self._column("root_sequence"))
        event_time, timed = numbers_of(self._column("event_time"))
        self._sources["start_time"] = Matrix(start)
        self._sources["end_time"] = Matrix(start + duration)
        if (probability != probability[0]).any():  # else the template has it
            self._sources["sampling_probability"] = Matrix(probability)
        for there in (started, ended, sampled, rooted):
            if there is not None:
                shapes.add(there.astype(np.int64), 2)
        for name, values, there in (
            ("sequence", self._column("sequence").to_numpy(zero_copy_only=False), None),
            ("event_time", event_time, timed),
        ):
            source = varints(values)
            shapes.add_lengths(_where(there, source.lengths))
            self._sources[name] = source

    def _add_numbers(self, shapes: Shapes) -> None:
        """Write the numbers as their layouts want them, and tell rows apart by their lengths."""
        codes, size = self._codes_of("layout")
        order = sorted_by(codes, size)
        counts = np.bincount(codes, minlength=size)
        key = np.zeros(self._count, np.int64)
        most = 1
        end = 0
        for code in np.flatnonzero(counts).tolist():
            begin, end = end, end + int(counts[code])
            rows = order[begin:end]
            layout = read_layout(self._column("layout")[int(rows[0])].as_py())
            if layout:
                place = np.empty(self._count, np.int64) if size > 1 else np.arange(self._count)
                place[rows] = np.arange(len(rows))
                shape = Shapes(len(rows))
                for (_, kind, scale), column in layout:
                    self._add_number(shape, code, rows, place, column, kind, scale)
                of_these, different = shape.codes()
                key[rows] = of_these
                most = max(most, different)
        shapes.add(key, most)

    def _add_number(
        self,
        shape: Shapes,
        layout: int,
        rows: Integers,
        place: Integers,
        column: str,
        kind: str,
        scale: int,
    ) -> None:
        values, there = self._numbers_of(column)
        taken = values.take(rows)
        bad: npt.NDArray[np.bool_] | None = None
        if kind == FieldKind.DECIMAL:
            source, bad = decimals(taken, scale)
        elif kind == FieldKind.INTEGER:
            source, bad = whole_numbers(taken)
        elif kind == FieldKind.BOOLEAN:
            source = Matrix((taken != 0).astype(np.uint8))
        else:
            source = Matrix(taken)
        of_these = None if there is None else there.take(rows)
        shape.add_lengths(_where(of_these, source.lengths))
        if bad is not None and bad.any():
            self._slow[rows[bad if of_these is None else bad & of_these]] = True
        self._numbers[layout, column] = _Rows(source, place)

    def _origins(self) -> tuple[Codes, list[_Origin]]:
        """Tell which resource and scope each row has."""
        shapes = Shapes(self._count)
        for name in _ORIGIN:
            shapes.add(*self._codes_of(name))
        if contains(self._column("attributes"), f'"{SCOPE_VERSION}"'):
            shapes.add(*self._codes_of("attributes"))
        rooted = valid_of(self._column("root_sequence"))
        if rooted is not None:
            shapes.add(rooted.astype(np.int64), 2)
        codes, size = shapes.codes()
        firsts = np.zeros(size, np.int64)
        firsts[codes[::-1]] = np.arange(self._count - 1, -1, -1)
        known: dict[_Origin, int] = {}
        same = np.zeros(size, np.int64)
        for code, row in enumerate(self._batch.take(pa.array(firsts)).to_pylist()):
            of_the_run = self._runs.get(row["run_id"], {})
            origin = _Origin(resource_message(row, of_the_run), *scope_message(row))
            same[code] = known.setdefault(origin, len(known))
        return same[codes], list(known)

    def _source(self, layout: int, column: str) -> Source | None:
        return self._numbers.get((layout, column)) or self._sources.get(column)

    def _filled(
        self,
        groups: list[_Group],
        singles: dict[int, bytes],
        offsets: Integers,
        total: int,
    ) -> npt.NDArray[np.uint8]:
        """Write every span to its place."""
        out = self._room.of(total)
        for group in groups:
            width = len(group.template)
            item = np.dtype((np.void, width))
            targets = np.ndarray((total - width + 1,), item, out, 0, (1,))
            template = np.frombuffer(group.template, np.uint8)
            filling = [
                (source, offset, np.dtype((np.void, hole)))
                for column, offset, hole in group.holes
                if hole and (source := self._source(group.layout, column)) is not None
            ]
            spans = np.empty((min(len(group.rows), _ROWS_IN_CACHE), width), np.uint8)
            for begin in range(0, len(group.rows), _ROWS_IN_CACHE):
                rows = group.rows[begin : begin + _ROWS_IN_CACHE]
                here = spans[: len(rows)]
                here[:] = template
                for source, offset, hole in filling:
                    places = np.ndarray((len(rows),), hole, here, offset, (width,))
                    places[:] = source.take(rows, hole.itemsize)
                targets[offsets.take(rows)] = here.view(item).reshape(-1)
        for row, span in singles.items():
            begin = int(offsets[row])
            out[begin : begin + len(span)] = np.frombuffer(span, np.uint8)
        return out


def _where(there: npt.NDArray[np.bool_] | None, lengths: Integers | None) -> Integers | None:
    """Lengths of the values that are there."""
    if there is None:
        return lengths
    return np.where(there, 1 if lengths is None else lengths, ABSENT)


def _windows(
    ends: Integers,
    origin_of: Codes,
    origins: list[_Origin],
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
    pieces: list[_Piece], after: Integers, origins: list[_Origin], spans: memoryview
) -> Iterator[bytes]:
    """Put the messages around the spans."""
    begin = 0
    request: dict[bytes, list[tuple[_Origin, memoryview]]] = {}
    for number, piece in enumerate(pieces):
        end = int(after[piece.end - 1])
        origin = origins[piece.origin]
        request.setdefault(origin.resource, []).append((origin, spans[begin:end]))
        begin = end
        if number + 1 == len(pieces) or pieces[number + 1].request != piece.request:
            yield _request(request)
            request = {}


def _request(resources: dict[bytes, list[tuple[_Origin, memoryview]]]) -> bytes:
    parts: list[bytes | memoryview] = []
    for resource, scopes in resources.items():
        inner: list[bytes | memoryview] = [resource]
        for origin, spans in scopes:
            length = len(origin.scope) + len(spans) + len(origin.schema)
            inner += [b"\x12" + varint(length), origin.scope, spans, origin.schema]
        parts.append(b"\x0a" + varint(sum(len(part) for part in inner)))
        parts += inner
    return b"".join(parts)
