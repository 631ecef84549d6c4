"""Writes the spans of one batch of rows, most of them many at once.

Rows of one shape (same structure, and texts and numerals of the same lengths) differ only in bytes
at fixed places. So one of them is written as a template; numpy copies it for all of them and fills
in what varies. Rows of shapes that few others have are put together one by one, of pieces that
their structure knows. Only rows that have something of their own are written from scratch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fillpath.exporters.number_columns import read_layout
from fillpath.exporters.otlp_columns import (
    Codes,
    Flags,
    Integers,
    Matrix,
    Part,
    Shapes,
    Source,
    Words,
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
    ID_COLUMNS,
    OriginParts,
    Structure,
    origin_parts,
    plain_attributes,
    resource_message,
    scope_message,
    span_message,
    structure_of,
)
from fillpath.exporters.schema import ORIGIN_PARTS, TEXT_ATTRIBUTES
from fillpath.instrumentation.spool import FieldKind

WORTH_A_TEMPLATE: Final = 16
"""Rows of one shape from which a template pays."""
_ROWS_IN_CACHE: Final = 1024
_MANY_STRUCTURES: Final = 512
_SHAPING: Final = (
    "name", "span_kind", "event_type", "layout", "attributes", "trace_state", "status_code",
    "status_message", "sampling_reason",
)  # fmt: skip
"""Columns whose different values make different structures."""
_ORIGIN: Final = (
    "run_id", "portfolio", "service_name", "host_name", "scope_name", "resource_attributes",
)  # fmt: skip
"""Columns that say who recorded a row."""
_ONE_BY_ONE: Final = ("links", "exact_numbers")
"""Columns that have no place in a structure."""
MANY_TEXTS: Final = 64
"""Different attributes in one batch from which they are taken for such as hardly recur."""
_MOST_KEYS: Final = 1 << 16

Runs = Mapping[str, Mapping[str, Any]]


class Origin(NamedTuple):
    """Resource and scope of a span, as bytes."""

    resource: bytes
    scope: bytes
    schema: bytes


class _Group(NamedTuple):
    """Rows of one shape, and what they are written with."""

    rows: Integers
    template: bytes
    holes: list[tuple[Source, int, int]]
    """What varies: from where, where to and how many bytes."""


class Room:
    """Memory for the spans of one batch, used again for the next: new memory is slow."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def of(self, size: int) -> npt.NDArray[np.uint8]:
        """Room for so many bytes; what was given before is not valid any more."""
        if len(self._bytes) < size:
            self._bytes = np.empty(size + size // 8, np.uint8)
        return self._bytes[:size]


class SpanBatch:
    """The spans of one batch.

    Args:
        batch: At least one row of `SPAN_SCHEMA`.

    Attributes:
        lengths: How many bytes each row's span has.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        self._count = len(batch)
        self._layouts, self._layout_count = codes_of(batch.column("layout"))
        self._slow = np.zeros(self._count, np.bool_)
        self._common: list[tuple[str, str | float]] = []
        self._sources: dict[str, Source] = {}
        self._numbers: dict[int, dict[str, Source]] = {}
        self._shaping: list[tuple[str, Codes, int]] = []
        self._columns: dict[str, tuple[npt.NDArray[Any], Flags | None]] = {}
        self._groups: list[_Group] = []
        self._singles: dict[int, bytes] = {}
        self._sort()
        self.lengths = np.empty(self._count, np.int64)
        for group in self._groups:
            self.lengths[group.rows] = len(group.template)
        if self._singles:
            rows = np.fromiter(self._singles, np.int64, len(self._singles))
            self.lengths[rows] = [len(span) for span in self._singles.values()]

    # -- Which rows are alike ---------------------------------------------------------------------

    def _sort(self) -> None:
        """Sort the rows by their shapes; those that few share are written at once."""
        shapes = Shapes(self._count)
        for name in _ONE_BY_ONE:
            column = self._batch.column(name)
            if column.null_count < self._count:
                there = valid_of(column)
                self._slow |= True if there is None else there
        self._add_shaping(shapes)
        self._add_texts()
        self._add_times()
        for source in self._sources.values():
            source.tell_apart(shapes)
        self._add_numbers(shapes)
        codes, size = shapes.codes()
        order = sorted_by(codes, size)
        if self._slow.any():
            order = order[~self._slow[order]]
            self._write(np.flatnonzero(self._slow))
            counts = np.bincount(codes[order], minlength=size)
        else:
            counts = np.bincount(codes, minlength=size)
        ends = counts.cumsum()
        worth = np.flatnonzero(counts >= WORTH_A_TEMPLATE)
        few = order[np.repeat(counts < WORTH_A_TEMPLATE, counts)]
        firsts = order[(ends - counts)[worth]]
        odd: list[Integers] = []
        for number, (places, structure, sources) in enumerate(self._alike(firsts, few)):
            of_templates = int(np.searchsorted(places, len(firsts)))
            for at, holes in _lengths(firsts.take(places[:of_templates]), sources):
                code = worth[places[at]]
                rows = order[ends[code] - counts[code] : ends[code]]
                template, offsets = structure.template(holes)
                self._groups.append(
                    _Group(rows, template, list(zip(sources, offsets, holes, strict=True)))
                )
            rest = few.take(places[of_templates:] - len(firsts))
            if number > _MANY_STRUCTURES and len(rest) < WORTH_A_TEMPLATE:
                odd.append(rest)
            elif len(rest):
                self._put_together(rest, structure, sources)
        if odd:
            self._write(np.concatenate(odd))

    def _add_shaping(self, shapes: Shapes) -> None:
        for name in _SHAPING:
            column = self._batch.column(name)
            codes, size = (self._layouts, self._layout_count)
            if name != "layout":
                codes, size = codes_of(column)
            if name == "attributes" and size > MANY_TEXTS:
                codes, size = self._plain_attributes(column, codes)
            if size > 1:
                shapes.add(codes, size)
                self._shaping.append((name, codes, size))
            elif (word := column[0].as_py()) is not None:
                self._common.append((name, word))

    def _plain_attributes(self, column: pa.Array, codes: Codes) -> tuple[Codes, int]:
        """Write attributes that hardly recur as texts; those that cannot be so go on shaping."""
        coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        layouts = self._batch.column("layout").unique().to_pylist()
        keys = {number.field.key for layout in layouts for number in read_layout(layout)}
        written = [text and plain_attributes(text, keys) for text in coded.dictionary.to_pylist()]
        is_plain = np.array([text is not None for text in written] + [False]).take(codes)
        words = [text or b"" for text in written]
        self._sources["attributes"] = Words(codes, words, is_plain)
        return np.where(is_plain, len(words) + 1, codes), len(words) + 2

    def _add_texts(self) -> None:
        for name in (*ID_COLUMNS, *(column for column, _ in TEXT_ATTRIBUTES)):
            column = self._batch.column(name)
            if name in _SHAPING or column.null_count == self._count:
                continue
            coded = pa.types.is_dictionary(column.type)
            if coded and len(column.dictionary) == 1 and not column.null_count:
                self._common.append((name, column.dictionary[0].as_py()))
            elif (source := bytes_of(column)) is not None:
                self._sources[name] = source

    def _add_times(self) -> None:
        column = self._batch.column
        start, started = numbers_of(column("start_time"))
        duration, ended = numbers_of(column("duration"))
        event_time, timed = numbers_of(column("event_time"))
        probability, sampled = numbers_of(column("sampling_probability"))
        rooted = valid_of(column("root_sequence"))
        sequence = column("sequence").to_numpy(zero_copy_only=False)
        self._sources["start_time"] = Matrix(start, None, started)
        self._sources["end_time"] = Matrix(start + duration, None, ended)
        self._sources["sequence"] = varints(sequence, rooted)
        self._sources["event_time"] = varints(event_time, timed)
        if sampled is None and probability[0] > 0 and (probability == probability[0]).all():
            self._common.append(("sampling_probability", float(probability[0])))
        else:
            self._sources["sampling_probability"] = Matrix(probability, None, sampled)

    def _add_numbers(self, shapes: Shapes) -> None:
        """Write the numbers as their layouts want them, and tell rows apart by their lengths."""
        order = sorted_by(self._layouts, self._layout_count)
        counts = np.bincount(self._layouts, minlength=self._layout_count)
        place = np.empty(self._count, np.int64)
        keys: list[tuple[Integers, Codes]] = []
        most = 1
        end = 0
        for code in np.flatnonzero(counts).tolist():
            begin, end = end, end + int(counts[code])
            rows = order[begin:end]
            layout = read_layout(self._batch.column("layout")[int(rows[0])].as_py())
            if not layout:
                continue
            place[rows] = np.arange(len(rows))
            shape = Shapes(len(rows))
            of_these: dict[str, Source] = {}
            for (_, kind, scale), column in layout:
                source = self._number(shape, rows, place, column, kind, scale)
                if source is not None:
                    of_these[column] = source
            self._numbers[code] = of_these
            key, size = shape.key(_MOST_KEYS)
            if size > 1:
                keys.append((rows, key))
                most = max(most, size)
        if keys:
            whole = np.zeros(self._count, np.int64)
            for rows, key in keys:
                whole[rows] = key
            shapes.add(whole, most)

    def _number(
        self,
        shape: Shapes,
        rows: Integers,
        place: Integers,
        column: str,
        kind: str,
        scale: int,
    ) -> Source | None:
        """Read a number of the rows of one layout; None if none of them has it."""
        if column not in self._columns:
            self._columns[column] = numbers_of(self._batch.column(column))
        values, there = self._columns[column]
        of_these = None if there is None else there.take(rows)
        if of_these is not None and of_these.all():
            there = of_these = None
        if of_these is not None and not of_these.any():
            return None
        if kind == FieldKind.DOUBLE:
            shape.add_lengths(None, of_these)
            return Matrix(values, None, there)
        taken = values.take(rows)
        bad: Flags | None = None
        if kind == FieldKind.DECIMAL:
            source, bad = decimals(taken, scale, of_these)
        elif kind == FieldKind.INTEGER:
            source, bad = whole_numbers(taken, of_these)
        else:
            source = Matrix((taken != 0).astype(np.uint8), None, of_these)
        source.tell_apart(shape)
        if bad is not None and bad.any():
            self._slow[rows[bad if of_these is None else bad & of_these]] = True
        return Part(source, place, there)

    # -- What alike rows have in common -----------------------------------------------------------

    def _alike(self, *asked: Integers) -> Iterator[tuple[Integers, Structure, list[Source]]]:
        """Sort rows by their structures; gives places in what was asked about."""
        rows = np.concatenate(asked)
        if not len(rows):
            return
        shapes = Shapes(len(rows))
        for _, codes, size in self._shaping:
            shapes.add(codes.take(rows), size)
        flags = [source.there for source in self._sources.values()]
        flags += [there for _, there in self._columns.values()]
        for there in flags:
            if there is not None:
                shapes.add(there.take(rows).view(np.uint8), 2)
        codes, size = shapes.codes()
        order = sorted_by(codes, size)
        begin = 0
        for end in np.bincount(codes, minlength=size).cumsum().tolist():
            places = order[begin:end]
            begin = end
            yield places, *self._structure(int(rows[places[0]]))

    def _structure(self, row: int) -> tuple[Structure, list[Source]]:
        """Find what a row is made of."""
        found = {**self._sources, **self._numbers.get(int(self._layouts[row]), {})}
        varying = {
            name: source
            for name, source in found.items()
            if source.there is None or source.there[row]
        }
        common = list(self._common)
        for name, *_ in self._shaping:
            word = self._batch.column(name)[row].as_py()
            if word is not None and name not in varying:
                common.append((name, word))
        structure = structure_of(tuple(common), frozenset(varying))
        return structure, [varying[column] for column in structure.columns]

    def _put_together(self, rows: Integers, structure: Structure, sources: list[Source]) -> None:
        """Write rows of one structure, of which few have the same shape."""
        spans = structure.spans([source.contents(rows) for source in sources])
        self._singles.update(zip(rows.tolist(), spans, strict=True))

    def _write(self, rows: Integers) -> None:
        """Write rows from scratch."""
        taken = self._batch.take(pa.array(rows, pa.int64())).to_pylist()
        for row, values in zip(rows.tolist(), taken, strict=True):
            self._singles[row] = span_message(values)

    # -- What is asked of a batch -----------------------------------------------------------------

    def origins(self, runs: Runs) -> tuple[Codes, list[Origin]]:
        """Tell which resource and scope each row has."""
        shapes = Shapes(self._count)
        for name in _ORIGIN:
            shapes.add(*codes_of(self._batch.column(name)))
        attributes = self._batch.column("attributes")
        if any(contains(attributes, f'"{part}"') for part in sorted(ORIGIN_PARTS)):
            shapes.add(*self._origin_parts())
        rooted = valid_of(self._batch.column("root_sequence"))
        if rooted is not None:
            shapes.add(rooted.view(np.uint8), 2)
        codes, size = shapes.codes()
        firsts = np.zeros(size, np.int64)
        firsts[codes[::-1]] = np.arange(self._count - 1, -1, -1)
        known: dict[Origin, int] = {}
        same = np.zeros(size, np.int64)
        told = self._batch.select([*_ORIGIN, "attributes", "root_sequence"])
        for code, row in enumerate(told.take(pa.array(firsts)).to_pylist()):
            origin = Origin(resource_message(row, runs.get(row["run_id"], {})), *scope_message(row))
            same[code] = known.setdefault(origin, len(known))
        if len(known) == 1:
            return np.zeros(self._count, np.int64), list(known)
        return same[codes], list(known)

    def _origin_parts(self) -> tuple[Codes, int]:
        """Number what the attributes say of scopes and resources."""
        column = self._batch.column("attributes")
        coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        known: dict[OriginParts, int] = {origin_parts(None): 0}
        of_words = [
            known.setdefault(origin_parts(text), len(known))
            for text in coded.dictionary.to_pylist()
        ]
        codes, _ = codes_of(column)
        return np.array([*of_words, 0]).take(codes), len(known)

    def write(self, offsets: Integers, out: npt.NDArray[np.uint8]) -> None:
        """Write every span to its place."""
        for group in self._groups:
            width = len(group.template)
            item = np.dtype((np.void, width))
            targets = np.ndarray((len(out) - width + 1,), item, out, 0, (1,))
            template = np.frombuffer(group.template, np.uint8)
            spans = np.empty((min(len(group.rows), _ROWS_IN_CACHE), width), np.uint8)
            filling = [
                (
                    source,
                    length,
                    np.ndarray((len(spans),), np.dtype((np.void, length)), spans, offset, (width,)),
                )
                for source, offset, length in group.holes
                if length
            ]
            for begin in range(0, len(group.rows), _ROWS_IN_CACHE):
                rows = group.rows[begin : begin + _ROWS_IN_CACHE]
                here = spans[: len(rows)]
                here[:] = template
                for source, length, places in filling:
                    places[: len(rows)] = source.take(rows, length)
                targets[offsets.take(rows)] = here.view(item).reshape(-1)
        if self._singles:
            view = out.data
            begins = offsets[np.fromiter(self._singles, np.int64, len(self._singles))]
            for begin, span in zip(begins.tolist(), self._singles.values(), strict=True):
                view[begin : begin + len(span)] = span


def _lengths(rows: Integers, sources: list[Source]) -> Iterable[tuple[int, tuple[int, ...]]]:
    """Lengths of what varies in each of some rows of one structure."""
    if not len(rows):
        return ()
    return enumerate(zip(*(source.lengths_at(rows) for source in sources), strict=True))
