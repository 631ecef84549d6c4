"""Writes Parquet files that any reader can read, and that are complete once they can be seen."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from fillpath.instrumentation.errors import LakeError

ROW_GROUP_ROWS: Final = 32_768
COMPRESSION_LEVEL: Final = 1
"""zstd's, for files that are written as a run goes on."""
_FALSE_POSITIVES: Final = 0.01
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


def write_parquet(
    rows: pa.Table,
    path: Path,
    *,
    compression_level: int = COMPRESSION_LEVEL,
    bloom_filters: Collection[str] = (),
) -> None:
    """Write a Parquet file that is complete from the moment it can be seen.

    Args:
        rows: What to write.
        path: Where to.
        compression_level: Level of zstd, from 1 (fast) to 22 (small).
        bloom_filters: Columns by which single rows are looked for and whose values are spread so
            widely that their smallest and largest do not help.
    """
    encodings = encodings_of(rows.schema)
    options: dict[str, Any] = {}
    if bloom_filters:
        distinct = max(1, min(rows.num_rows, ROW_GROUP_ROWS))
        options["bloom_filter_options"] = {
            name: {"ndv": distinct, "fpp": _FALSE_POSITIVES} for name in bloom_filters
        }
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        with pq.ParquetWriter(
            file,
            rows.schema,
            compression="zstd",
            compression_level=compression_level,
            use_dictionary=[name for name in rows.schema.names if name not in encodings],
            column_encoding=encodings,
            write_statistics=[name for name in rows.schema.names if name in _LOOKED_FOR],
            store_schema=False,  # names come in dictionaries, and are texts to who reads them
            **options,
        ) as writer:
            for part in _parts(rows):
                writer.write_table(part, ROW_GROUP_ROWS)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    fsync(path.parent)


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


def read_parquet(path: Path) -> pa.Table:
    """Read a whole file.

    Raises:
        LakeError: When it is missing or damaged.
    """
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise LakeError(
            f"A file of the lake is missing or damaged: {path} ({error}).",
            next_command="fillpath doctor",
        ) from error


def fsync(path: Path) -> None:
    """Make a file or a folder's list of names durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
