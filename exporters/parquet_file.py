"""Writes Parquet files that any reader can read, and that are complete once they can be seen."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from fillpath.instrumentation.errors import LakeError

if TYPE_CHECKING:
    from fillpath.exporters.lake_file import LakeFile

ROW_GROUP_ROWS: Final = 32_768
COMPRESSION_LEVEL: Final = 3
"""zstd's level for files that are written as events come in."""
_LONG_TEXT: Final = frozenset({"attributes", "parameters", "metadata", "completeness"})


def parquet_writer(
    sink: IO[bytes], schema: pa.Schema, level: int = COMPRESSION_LEVEL
) -> pq.ParquetWriter:
    """Begin a Parquet file, to be closed by the caller.

    Args:
        sink: Where it goes.
        schema: Its rows' schema; the schema's metadata go into the file.
        level: zstd's level, 1 to 22.
    """
    integers = [
        column.name
        for column in schema
        if pa.types.is_integer(column.type) or pa.types.is_timestamp(column.type)
    ]
    bytes_and_json = [
        column.name
        for column in schema
        if pa.types.is_binary(column.type) or column.name in _LONG_TEXT
    ]
    encodings = dict.fromkeys(integers, "DELTA_BINARY_PACKED")
    encodings |= dict.fromkeys(bytes_and_json, "DELTA_LENGTH_BYTE_ARRAY")
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=level,
        use_dictionary=[name for name in schema.names if name not in encodings],
        column_encoding=encodings,
        write_statistics=[name for name in schema.names if name not in _LONG_TEXT],
    )


def write_parquet(rows: pa.Table, path: Path) -> None:
    """Write a Parquet file that is complete from the moment it can be seen."""
    with writing_whole(path) as sink, parquet_writer(sink, rows.schema) as writer:
        writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)


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


def fsync(path: Path) -> None:
    """Make a file or a folder's list of names durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
