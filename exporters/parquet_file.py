"""Writes Parquet files that any reader can read, and that are complete once they can be seen."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fillpath.instrumentation.errors import LakeError

if TYPE_CHECKING:
    from fillpath.exporters.lake_file import LakeFile

ROW_GROUP_ROWS: Final = 32_768
_ROWS_AT_ONCE: Final = ROW_GROUP_ROWS
"""Rows that are encoded at once; fewer cost more."""
_ONE_PAGE: Final = (
    {"max_rows_per_page": ROW_GROUP_ROWS}
    if "max_rows_per_page" in inspect.signature(pq.ParquetWriter.__init__).parameters
    else {}  # of an older pyarrow, which knows no such limit
)
"""A column of a row group is one page: a second one costs as much again, and no reader skips it."""
COMPRESSION_LEVEL: Final = 1
"""zstd's, for files that are written as a run goes on."""
_FEW_VALUES: Final = frozenset({"sampling_probability"})
_SPREAD_IDS: Final = frozenset({"trace_id", "parent_span_id"})
"""Ids that compress better as they are than by what they share with the one before."""
_LOOKED_FOR: Final = frozenset(
    {
        "run_id",
        "trace_id",
        "span_id",
        "sequence",
        "root_sequence",
        "correlation_id",
        "event_time",
        "order_id",
        "client_order_id",
        "fill_id",
        "position_id",
        "updated_at",
    }
)
"""Columns whose smallest and largest values in each row group let a reader skip it."""
_OFTEN_EMPTY: Final = frozenset(
    {
        "attributes",
        "bid",
        "bid_size",
        "ask",
        "ask_size",
        "exact_numbers",
        "handler",
        "resource_attributes",
        "status_code",
        "status_message",
        "trace_state",
        "value_3",
        "value_4",
        "value_5",
    }
)
"""Columns that hold nothing in many row groups, which the statistics tell a reader."""


def has_few_values(name: str) -> bool:
    """Tell whether a column of numbers holds the same ones again and again."""
    return name in _FEW_VALUES


def is_told(name: str) -> bool:
    """Tell whether the statistics of a file tell the smallest and largest values of a column."""
    return name in _LOOKED_FOR or name in _OFTEN_EMPTY


def encodings_of(schema: pa.Schema) -> dict[str, str]:
    """Encoding of each column that has none with a dictionary."""
    encodings = {}
    for column in schema:
        if column.name in _FEW_VALUES:
            continue
        if pa.types.is_integer(column.type) or pa.types.is_timestamp(column.type):
            encodings[column.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_floating(column.type):
            encodings[column.name] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_binary(column.type):
            spread = column.name in _SPREAD_IDS
            encodings[column.name] = "PLAIN" if spread else "DELTA_BYTE_ARRAY"
    return encodings


def parquet_writer(
    sink: IO[bytes],
    schema: pa.Schema,
    *,
    compression_level: int = COMPRESSION_LEVEL,
    bloom_filters: Mapping[str, Mapping[str, float]] | None = None,
) -> pq.ParquetWriter:
    """Begin a Parquet file, to be closed by the caller.

    Args:
        sink: Where it goes.
        schema: Its rows' schema; the schema's metadata go into the file.
        compression_level: Level of zstd, from 1 (fast) to 22 (small).
        bloom_filters: Columns by which single rows are looked for and whose values are spread so
            widely that their smallest and largest do not help; for each, as Arrow names them, the
            number of different values in a row group and how often the filter may be wrong.
    """
    encodings = encodings_of(schema)
    options: dict[str, Any] = dict(_ONE_PAGE)
    if bloom_filters:
        options["bloom_filter_options"] = bloom_filters
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=compression_level,
        use_dictionary=[name for name in schema.names if name not in encodings],
        column_encoding=encodings,
        write_statistics=[name for name in schema.names if is_told(name)],
        write_batch_size=_ROWS_AT_ONCE,
        store_schema=False,  # names come in dictionaries, and are texts to who reads them
        **options,
    )


def write_parquet(
    rows: pa.Table, path: Path, *, compression_level: int = COMPRESSION_LEVEL
) -> None:
    """Write a Parquet file that is complete from the moment it can be seen.

    Args:
        rows: What to write.
        path: Where to.
        compression_level: As `parquet_writer` takes it.
    """
    with (
        writing_whole(path) as sink,
        parquet_writer(sink, rows.schema, compression_level=compression_level) as writer,
    ):
        write_rows(writer, rows)


def write_rows(writer: pq.ParquetWriter, rows: pa.Table) -> None:
    """Add rows to a file, in row groups of `ROW_GROUP_ROWS`."""
    for part in _parts(rows):
        writer.write_table(part, ROW_GROUP_ROWS)


def row_groups(rows: pa.Table) -> Iterator[pa.Table]:
    """Give the rows as `write_rows` puts them into row groups."""
    for part in _parts(rows):
        for begin in range(0, part.num_rows, ROW_GROUP_ROWS):
            yield part.slice(begin, ROW_GROUP_ROWS)


def _parts(rows: pa.Table) -> Iterator[pa.Table]:
    """Give the rows in parts that have one dictionary a column each.

    A row group that had two would be written without.
    """
    if not any(pa.types.is_dictionary(field.type) for field in rows.schema):
        yield rows.combine_chunks()
        return
    begin = 0
    for chunk in rows.column(0).chunks:
        yield rows.slice(begin, len(chunk))
        begin += len(chunk)


@contextlib.contextmanager
def writing_whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file to write, that is complete and durable from the moment it can be seen."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except Exception:
        # A full disk gets its space back; a read-only one has nothing to give back.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def has_several(column: pa.ChunkedArray) -> bool:
    """Tell whether a column has more than one value."""
    if pa.types.is_dictionary(column.type) and not column.null_count:
        texts = {text for chunk in column.chunks for text in chunk.dictionary.to_pylist()}
        if len(texts) == 1:
            return False
    return len(pc.unique(column)) > 1


def read_parquet(file: LakeFile, columns: list[str] | None = None) -> pa.Table:
    """Read a file of the lake, or some of its columns.

    Raises:
        LakeError: When it is missing or damaged.
    """
    try:
        with file.open() as source:
            return pq.read_table(source, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise LakeError(
            f"A file of the lake is missing or damaged: {file.address} ({error}).",
            next_command="fillpath doctor",
        ) from error


def rows_of_runs(file: LakeFile) -> dict[str, int]:
    """Count the rows of each run in a file.

    Raises:
        LakeError: When it is missing or damaged.
    """
    if not file.is_shared:
        return {str(file.run_id): file.rows}
    counted = read_parquet(file, ["run_id"])["run_id"].value_counts()
    return {one["values"]: one["counts"] for one in counted.to_pylist()}


def fsync(path: Path) -> None:
    """Make a file or a folder's list of names durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
