"""Writes Parquet files that any reader can read, and that are complete once they can be seen."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from fillpath.instrumentation.errors import LakeError

ROW_GROUP_ROWS: Final = 32_768
COMPRESSION_LEVEL: Final = 1
"""zstd's, for files that are written as a run goes on."""
_FALSE_POSITIVES: Final = 0.01
_LONG_TEXT: Final = frozenset(
    {"attributes", "layout", "exact_numbers", "parameters", "metadata", "completeness"}
)
_FEW_VALUES: Final = frozenset({"decimal_scale", "sampling_probability"})


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
            encodings[column.name] = "DELTA_BYTE_ARRAY"
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
        pq.write_table(
            rows,
            file,
            row_group_size=ROW_GROUP_ROWS,
            compression="zstd",
            compression_level=compression_level,
            use_dictionary=[name for name in rows.schema.names if name not in encodings],
            column_encoding=encodings,
            write_statistics=[name for name in rows.schema.names if name not in _LONG_TEXT],
            store_schema=False,  # names come in dictionaries, and are texts to who reads them
            **options,
        )
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    fsync(path.parent)


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
