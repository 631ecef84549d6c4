"""Puts a table's files anew: read in the order of their rows, written to new files, swapped in.

The swap is one commit, so a crash leaves the old files or the new ones. What a crash leaves on the
disk besides is in no commit, and `fillpath store vacuum` finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from fillpath.exporters.lake_file import LakeFile, NewFile, Stage
from fillpath.exporters.lake_table import LakeConflict, LakeTable
from fillpath.exporters.parquet_file import ROW_GROUP_ROWS, read_parquet
from fillpath.instrumentation.errors import LakeError

ROWS_AT_A_TIME: Final = 4 * ROW_GROUP_ROWS
_ORDER: Final = ("run_id", "sequence", "updated_at", "span_id")


def in_order(
    files: Sequence[LakeFile], schema: pa.Schema, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Read the rows of files in the order of run and sequence; the same files, the same order.

    Files whose sequences overlap are held in memory together, others one after another.

    Args:
        files: Files of a table.
        schema: The table's schema; a column that a file lacks is NULL.
        columns: Columns to read; None means all.

    Raises:
        LakeError: When a file is missing or damaged.
    """
    order = [name for name in _ORDER if name in schema.names]
    wanted = schema.names if columns is None else list(dict.fromkeys([*columns, *order]))
    read = pa.schema([schema.field(name) for name in wanted], metadata=schema.metadata)
    for cluster in _overlapping(files):
        rows = pa.concat_tables([_read(file, read) for file in cluster])
        if not _is_sorted(rows, order):
            rows = rows.sort_by([(name, "ascending") for name in order])
        yield rows if columns is None else rows.select(list(columns))


def _overlapping(files: Sequence[LakeFile]) -> Iterator[list[LakeFile]]:
    def first(file: LakeFile) -> tuple[str, int]:
        return (file.smallest.get("run_id") or "", file.smallest.get("sequence") or 0)

    def last(file: LakeFile) -> tuple[str, int]:
        return (file.largest.get("run_id") or "", file.largest.get("sequence") or 0)

    cluster: list[LakeFile] = []
    reach = ("", -1)
    for file in sorted(files, key=first):
        if cluster and first(file) > reach:
            yield cluster
            cluster = []
        cluster.append(file)
        reach = max(reach, last(file))
    if cluster:
        yield cluster


def _read(file: LakeFile, schema: pa.Schema) -> pa.Table:
    rows = read_parquet(file, schema.names)
    arrays = [
        rows[field.name].cast(field.type)
        if field.name in rows.schema.names
        else pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _is_sorted(rows: pa.Table, order: Sequence[str]) -> bool:
    """Tell whether the second key rises strictly and the first is one alone."""
    if rows.num_rows < 2:
        return True
    ends = pc.min_max(rows[order[0]]).as_py()
    values = rows[order[1]].combine_chunks()
    return ends["min"] == ends["max"] and bool(pc.all(pc.less(values[:-1], values[1:])).as_py())


def rewrite(
    table: LakeTable,
    old: Sequence[LakeFile],
    rows: Iterable[pa.Table],
    label: str,
    *,
    stage: Stage,
    level: int,
    target_bytes: int,
    data_change: bool = False,
    metadata: Callable[[], dict[str, str]] | None = None,
    of_several_runs: bool = False,
) -> list[NewFile]:
    """Write rows to new files and put these in the place of the old ones, in one commit.

    Args:
        table: The table.
        old: Files that the new ones replace.
        rows: All rows that are to be there instead, in their order.
        label: Part of the new files' names.
        stage: What the rows went through.
        level: zstd's level.
        target_bytes: Size from which another file is begun.
        data_change: Whether the rows are others than the old ones.
        metadata: Called when all rows are written; goes into the footer of the last file.
        of_several_runs: Whether row groups are to end where runs do, as far as that goes.

    Raises:
        LakeConflict: When another process has replaced some of the old files meanwhile.
        LakeError: When a file cannot be read or written; the table is as it was.
    """
    written: list[NewFile] = []
    try:
        pieces = _whole_runs(rows) if of_several_runs else _pieces(rows)
        joins = any(file.joins for file in old)
        _write(table, pieces, label, stage, level, target_bytes, written, metadata, joins=joins)
    except BaseException:
        _forget(table, written)
        raise
    try:
        table.replace(old, written, data_change=data_change)
    except LakeConflict:
        _forget(table, written)
        raise
    return written


def _write(
    table: LakeTable,
    pieces: Iterator[pa.Table],
    label: str,
    stage: Stage,
    level: int,
    target_bytes: int,
    written: list[NewFile],
    metadata: Callable[[], dict[str, str]] | None,
    *,
    joins: bool,
) -> None:
    piece = next(pieces, None)
    while piece is not None:
        file = table.new_file(label, stage=stage, level=level, joins=joins)
        with table.explained(), file:
            while piece is not None:
                file.write(piece)
                piece = next(pieces, None)
                if file.bytes_so_far >= target_bytes:
                    break
            if piece is None and metadata is not None:
                file.add_metadata(metadata())
        written.append(file)


def _pieces(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut a stream of tables into pieces of whole row groups."""
    waiting: list[pa.Table] = []
    number = 0
    for rows in tables:
        waiting.append(rows)
        number += rows.num_rows
        if number >= ROWS_AT_A_TIME:
            whole = pa.concat_tables(waiting)
            cut = number - number % ROWS_AT_A_TIME
            for begin in range(0, cut, ROWS_AT_A_TIME):
                yield whole.slice(begin, ROWS_AT_A_TIME)
            waiting, number = [whole.slice(cut)], number - cut
    if number:
        yield pa.concat_tables(waiting)


def _whole_runs(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut rows in the order of their runs into row groups of whole runs, as many as have room.

    So the smallest and the largest run of a row group tell whether it has to be read.
    """
    rows = pa.concat_tables(tables)
    begin = end = 0
    for run in rows["run_id"].value_counts().to_pylist():
        number = run["counts"]
        if begin < end and end - begin + number > ROW_GROUP_ROWS:
            yield rows.slice(begin, end - begin)
            begin = end
        end += number
    if begin < end:
        yield rows.slice(begin, end - begin)


def _forget(table: LakeTable, files: Sequence[NewFile]) -> None:
    """Delete files that no commit names; what stays, `vacuum` finds."""
    for file in files:
        try:
            table.storage.remove(file.name)
        except (OSError, LakeError):
            return
