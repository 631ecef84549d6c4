"""Gives a DuckDB connection the views of the lake, and nothing else to read or to write."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from fillpath.exporters.further_views import (
    CHAIN,
    FURTHER_VIEWS,
    create_chain_macros,
    create_further_views,
    read_sql,
    with_scale,
)
from fillpath.exporters.lake_file import LakeFile
from fillpath.exporters.lake_filesystem import register_filesystem
from fillpath.exporters.number_columns import COMMON_SCALE
from fillpath.exporters.schema import DECIMAL_SCALE, RUN_SCHEMA, SPAN_SCHEMA


def connect(
    spans: Sequence[LakeFile],
    runs: Sequence[LakeFile],
    run_ids: Collection[str] | None,
    further_views: Collection[str] = FURTHER_VIEWS,
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB with the views `spans`, `runs`, `raw_spans` and `raw_runs`.

    The raw views are the tables as they lie in the files. The connection may open these files and
    no others, loads no extensions, and its configuration is locked.

    Args:
        spans: Files of the table of spans.
        runs: Files of the table of runs.
        run_ids: Runs to show; None means all.
        further_views: Which of the further views to make as well.
    """
    # DuckDB makes this folder only when a query needs more than the memory, and removes it again.
    spill = Path(tempfile.gettempdir()) / f"fillpath-duckdb-{secrets.token_hex(8)}"
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": str(spill),
        },
    )
    try:
        if any(file.storage.options is not None for file in (*spans, *runs)):
            register_filesystem(connection, (*spans, *runs))
        connection.execute("SET parquet_metadata_cache = true")  # files never change
        source, columns, condition = _create_raw(
            connection, "raw_spans", SPAN_SCHEMA, spans, run_ids
        )
        _create_raw(connection, "raw_runs", RUN_SCHEMA, runs, run_ids)
        finest = max((_finest(file) for file in spans), default=0)
        scale = COMMON_SCALE if finest <= COMMON_SCALE else DECIMAL_SCALE
        for name in ("macros", "spans", "trace_divisions", "runs"):
            connection.execute(with_scale(read_sql(name), scale))
        joins = any(file.joins for file in spans)
        connection.execute(f"SET VARIABLE joins_traces = {str(joins).lower()}")
        create_further_views(connection, further_views)
        if CHAIN in further_views:
            create_chain_macros(
                connection, spans, scale, source=source, columns=columns, condition=condition
            )
        readable = ", ".join(_quoted(file.address) for file in (*spans, *runs))
        connection.execute(f"SET allowed_paths = [{readable}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def _finest(file: LakeFile) -> int:
    """Most digits after the point in a file; all that fit when the log does not tell."""
    if "run_id" not in file.smallest or file.smallest["run_id"] is None:
        return DECIMAL_SCALE
    scale = file.largest.get("decimal_scale")
    return 0 if scale is None else int(scale)


def _create_raw(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    schema: pa.Schema,
    files: Sequence[LakeFile],
    run_ids: Collection[str] | None,
) -> tuple[str | None, str, str]:
    """Create a raw view; gives the files as DuckDB names them, the columns and the condition."""
    columns = ", ".join(_shown(column) for column in schema)
    if files:
        paths = ", ".join(_quoted(file.address) for file in files)
        source = f"read_parquet([{paths}])"
    else:
        source = f"no_{name}"
        connection.from_arrow(schema.empty_table()).create(source)
    condition = "true"
    if run_ids is not None:
        wanted = ", ".join(_quoted(run_id) for run_id in sorted(run_ids)) or "NULL"
        condition = f"run_id IN ({wanted})"
    connection.execute(
        f"CREATE VIEW {name} AS SELECT {columns} FROM {source} WHERE {condition}"  # noqa: S608
    )
    return source if files else None, columns, condition


def _shown(column: pa.Field) -> str:
    """Show a column as it is; a timestamp without its zone, which older DuckDBs cannot hand on."""
    if pa.types.is_timestamp(column.type):
        return f"make_timestamp(epoch_us({column.name})) AS {column.name}"
    return str(column.name)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
