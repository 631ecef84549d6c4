"""Writes Parquet files that any reader can read, and that are complete once they can be seen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from fillpath.instrumentation.errors import LakeError

ROW_GROUP_ROWS: Final = 32_768
_COMPRESSION_LEVEL: Final = 3
_LONG_TEXT: Final = frozenset({"attributes", "parameters", "metadata", "completeness"})


def write_parquet(rows: pa.Table, path: Path) -> None:
    """Write a Parquet file that is complete from the moment it can be seen."""
    integers = [
        column.name
        for column in rows.schema
        if pa.types.is_integer(column.type) or pa.types.is_timestamp(column.type)
    ]
    bytes_and_json = [
        column.name
        for column in rows.schema
        if pa.types.is_binary(column.type) or column.name in _LONG_TEXT
    ]
    encodings = dict.fromkeys(integers, "DELTA_BINARY_PACKED")
    encodings |= dict.fromkeys(bytes_and_json, "DELTA_LENGTH_BYTE_ARRAY")
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        pq.write_table(
            rows,
            file,
            row_group_size=ROW_GROUP_ROWS,
            compression="zstd",
            compression_level=_COMPRESSION_LEVEL,
            use_dictionary=[name for name in rows.schema.names if name not in encodings],
            column_encoding=encodings,
            write_statistics=[name for name in rows.schema.names if name not in _LONG_TEXT],
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
