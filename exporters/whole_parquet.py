"""Writes a Parquet file of which all rows are known: names and empty columns by a short way.

pyarrow writes the columns that hold something. Beside each of its row groups stand the chunks of
the others, and the footer tells of both in the order of the schema. Who reads the file cannot tell
which came from where.

The first column stands first: Spark takes its place for that of the row group, and leaves out one
whose middle seems to lie behind the end of the file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import IO, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fillpath.exporters.column_chunks import Chunk, Leaf, Presence
from fillpath.exporters.name_chunks import MOST_NAMES, NameChunks, constant_chunk, empty_chunk
from fillpath.exporters.parquet_file import (
    COMPRESSION_LEVEL,
    encodings_of,
    has_few_values,
    is_told,
    parquet_writer,
    row_groups,
)
from fillpath.exporters.thrift_compact import I64, LIST, STRUCT, Scan, integer, listed, struct
from fillpath.exporters.value_chunks import ValueChunks, are_steps

_MAGIC: Final = b"PAR1"
_END: Final = 8
"""Bytes behind the footer: its length, and the magic ones."""
_SCHEMA, _ROW_GROUPS = 2, 4
"""Fields of the footer."""
_COLUMNS, _BYTES, _ROWS, _PLACE, _COMPRESSED_BYTES = 1, 2, 3, 5, 6
"""Fields of a row group in it."""

_LONG: Final = frozenset({pa.int64(), pa.timestamp("us", tz="UTC")})

Placed = tuple[Leaf, int, Chunk]
"""A column, where its chunk stands in the file, and the chunk."""


class _RowGroupChunks(NamedTuple):
    """Makes the chunks of one row group."""

    names: NameChunks
    values: ValueChunks


_Way = Callable[[_RowGroupChunks, Leaf, Any], Chunk]
"""Makes the chunk of a column of its values in a row group, of which some are there."""


def write_whole(
    sink: IO[bytes],
    rows: pa.Table,
    *,
    compression_level: int = COMPRESSION_LEVEL,
    bloom_filters: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Write rows as a Parquet file, which has the same content as `parquet_file` would give it.

    Args:
        sink: Where it goes.
        rows: All of its rows; their schema's metadata go into the file.
        compression_level: As `parquet_writer` takes it.
        bloom_filters: As `parquet_writer` takes them.
    """
    short = _short_columns(rows, bloom_filters or ())
    if not rows.num_rows or not short or len(short) == rows.num_columns:
        with parquet_writer(
            sink,
            rows.schema,
            compression_level=compression_level,
            bloom_filters=bloom_filters,
        ) as writer:
            for part in row_groups(rows):
                writer.write_table(part)
        return
    outline = _outline(_plain_schema(rows.schema))
    others = [name for name in rows.schema.names if name not in short]
    short_first = rows.schema.names[0] in short
    body = pa.BufferOutputStream()
    groups: list[list[Placed]] = []
    with parquet_writer(
        body,
        rows.select(others).schema,
        compression_level=compression_level,
        bloom_filters=bloom_filters,
    ) as writer:
        for group in row_groups(rows):
            if not short_first:
                writer.write_table(group.select(others))
            presence = Presence()
            chunks = _RowGroupChunks(
                NameChunks(compression_level, presence), ValueChunks(compression_level, presence)
            )
            placed: list[Placed] = []
            for name, way in short.items():
                for leaf in outline.leaves[name]:
                    chunk = _chunk(chunks, way, leaf, group[name])
                    placed.append((leaf, body.tell(), chunk))
                    body.write(chunk.pages)
            groups.append(placed)
            if short_first:
                writer.write_table(group.select(others))
    written = memoryview(body.getvalue())
    footer = _footer_of(written)
    sink.write(written[: len(written) - _END - len(footer)])
    footer = _joined(footer, outline, set(short), groups, rows.num_rows)
    sink.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)


def _short_columns(rows: pa.Table, filtered: Collection[str]) -> dict[str, _Way]:
    """Choose the columns that are written by a short way, and which one."""
    encodings = encodings_of(_plain_schema(rows.schema))
    short = {}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if name not in filtered:
            way = _way_of(name, column, encodings.get(name))
            if way is not None:
                short[name] = way
    return short


def _way_of(name: str, column: pa.ChunkedArray, encoding: str | None) -> _Way | None:
    kind, chunks = column.type, [chunk for chunk in column.chunks if len(chunk)]
    if column.null_count == len(column):
        return _empty
    if _is_of_names(column):
        return _names
    if has_few_values(name) and _is_constant(column):
        return _constant
    if kind == pa.float64() and 2 * column.null_count > len(column) and not is_told(name):
        return _doubles
    if encoding == "DELTA_BINARY_PACKED" and kind in _LONG and are_steps(chunks):
        return _steps
    return None


def _empty(of: _RowGroupChunks, leaf: Leaf, array: pa.Array) -> Chunk:
    return empty_chunk(leaf, len(array), of.names.level)


def _names(of: _RowGroupChunks, leaf: Leaf, array: pa.Array) -> Chunk:
    return of.names.names(leaf, array)


def _constant(of: _RowGroupChunks, leaf: Leaf, array: pa.Array) -> Chunk:
    return constant_chunk(leaf, len(array), array[:1].to_numpy().tobytes(), of.names.level)


def _doubles(of: _RowGroupChunks, leaf: Leaf, array: pa.Array) -> Chunk:
    return of.values.doubles(leaf, array)


def _steps(of: _RowGroupChunks, leaf: Leaf, array: pa.Array) -> Chunk:
    return of.values.steps(leaf, array)


def _is_of_names(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if not pa.types.is_dictionary(kind) or not pa.types.is_string(kind.value_type):
        return False
    dictionaries = [chunk.dictionary for chunk in column.chunks]
    return all(len(one) <= MOST_NAMES and not one.null_count for one in dictionaries)


def _is_constant(column: pa.ChunkedArray) -> bool:
    if column.null_count or column.type != pa.float64():
        return False
    chunks = [chunk.to_numpy().view("i8") for chunk in column.chunks if len(chunk)]
    return all((chunk == chunks[0][0]).all() for chunk in chunks)


def _chunk(of: _RowGroupChunks, way: _Way, leaf: Leaf, column: pa.ChunkedArray) -> Chunk:
    if column.null_count == len(column):
        return empty_chunk(leaf, len(column), of.names.level)
    return way(of, leaf, column.chunk(0) if column.num_chunks == 1 else column.combine_chunks())


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """The same columns without dictionaries, which are the same in a file."""
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in schema
    ]
    return pa.schema(fields, schema.metadata)


class _Outline(NamedTuple):
    """What a file has by its schema alone.

    Attributes:
        leaves: Columns as Parquet sees them, by the column of the table.
        head: Begin of the footer, up to the number of rows.
        tail: End of the footer, behind the row groups.
    """

    leaves: dict[str, list[Leaf]]
    head: bytes
    tail: bytes


@lru_cache(16)
def _outline(schema: pa.Schema) -> _Outline:
    """Ask pyarrow for an empty file of this schema."""
    file = io.BytesIO()
    parquet_writer(file, schema).close()
    with pq.ParquetFile(file) as empty:
        columns = [empty.schema.column(number) for number in range(len(empty.schema.names))]
    leaves: dict[str, list[Leaf]] = {name: [] for name in schema.names}
    encodings = encodings_of(schema)
    for column in columns:
        name = column.path.split(".")[0]
        leaves[name].append(
            Leaf(
                column.path,
                column.physical_type,
                column.max_definition_level,
                column.max_repetition_level,
                encodings.get(name, "PLAIN"),
                is_told(name),
            )
        )
    footer = _footer_of(file.getvalue())
    scan = Scan(footer)
    ends = {}
    for number, kind in scan.fields():
        scan.walk_over(kind)
        ends[number] = scan.at
    return _Outline(leaves, footer[: ends[_SCHEMA]], footer[ends[_ROW_GROUPS] :])


def _footer_of(file: bytes | memoryview) -> bytes:
    """The footer at the end of a file."""
    end = len(file) - _END
    return bytes(file[end - int.from_bytes(file[end:-4], "little") : end])


class _RowGroup(NamedTuple):
    """What pyarrow's footer tells of a row group: numbers by field, and of each column."""

    numbers: dict[int, int]
    columns: list[bytes]


def _row_groups_of(footer: bytes) -> list[_RowGroup]:
    scan = Scan(footer)
    found = []
    for number, kind in scan.fields():
        if number != _ROW_GROUPS:
            scan.walk_over(kind)
            continue
        for _ in range(scan.elements()[0]):
            numbers: dict[int, int] = {}
            columns: list[bytes] = []
            for inner, _ in scan.fields():
                if inner != _COLUMNS:
                    numbers[inner] = scan.integer()
                    continue
                for _ in range(scan.elements()[0]):
                    begin = scan.at
                    scan.walk_over(STRUCT)
                    columns.append(footer[begin : scan.at])
            found.append(_RowGroup(numbers, columns))
    return found


def _joined(
    footer: bytes, outline: _Outline, short: set[str], groups: list[list[Placed]], rows: int
) -> bytes:
    """Put the footer together of pyarrow's and of what it does not know."""
    described = []
    for group, placed in zip(_row_groups_of(footer), groups, strict=True):
        mine = iter(placed)
        theirs = iter(group.columns)
        columns: list[bytes] = []
        for name, leaves in outline.leaves.items():
            for _ in leaves:
                if name in short:
                    _, place, chunk = next(mine)
                    columns.append(chunk.described(place))
                else:
                    columns.append(next(theirs))
        numbers = group.numbers
        size = numbers[_BYTES] + sum(chunk.raw_bytes for _, _, chunk in placed)
        compressed = numbers[_COMPRESSED_BYTES] + sum(len(chunk.pages) for *_, chunk in placed)
        described.append(
            struct(
                (_COLUMNS, LIST, listed(STRUCT, columns)),
                (_BYTES, I64, integer(size)),
                (_ROWS, I64, integer(numbers[_ROWS])),
                (_PLACE, I64, integer(min(numbers[_PLACE], placed[0][1]))),
                (_COMPRESSED_BYTES, I64, integer(compressed)),
            )
        )
    return b"".join(
        (
            outline.head,
            struct(
                (3, I64, integer(rows)),
                (_ROW_GROUPS, LIST, listed(STRUCT, described)),
                after=_SCHEMA,
                ends=False,
            ),
            outline.tail,
        )
    )
