"""The lake: where spans and runs are written to and read from."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import duckdb
import pyarrow as pa

from fillpath.exporters import lake_views
from fillpath.exporters.exact_json import to_json
from fillpath.exporters.further_views import FURTHER_VIEWS, further_views_in
from fillpath.exporters.lake_file import LakeFile
from fillpath.exporters.lake_table import LakeTable
from fillpath.exporters.lookup import SpanFinder
from fillpath.exporters.parquet_file import read_parquet
from fillpath.exporters.schema import RUN_SCHEMA, SPAN_SCHEMA
from fillpath.exporters.sql_guard import check_reads_only
from fillpath.instrumentation.errors import FillpathError, LakeError, UsageError
from fillpath.instrumentation.settings import DataFolder, data_folder

Status = Literal["Running", "Ended", "Crashed"]
_JSON_COLUMNS: Final = ("parameters", "metadata", "completeness")
_ROWS_AT_A_TIME: Final = 1000
_WRONG_QUERY: Final = (
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.BinderException,
    duckdb.CatalogException,
)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is known about a run; a row of the table of runs. Times are ns since the epoch."""

    run_id: str
    status: Status
    mode: str | None = None
    source: str = "spool"
    service_name: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    started_at: int | None = None
    ended_at: int | None = None
    error: str | None = None
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    published: int = 0
    kept: int = 0
    sampled_out: int = 0
    dropped: int = 0
    completeness: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    spool_block: int | None = None
    host_name: str | None = None
    pid: int | None = None

    def to_table(self) -> pa.Table:
        """Give the record as one row of `RUN_SCHEMA`, written now."""
        row: dict[str, Any] = {
            name: getattr(self, name) for name in RUN_SCHEMA.names if name != "updated_at"
        }
        for name in _JSON_COLUMNS:
            row[name] = to_json(row[name])
        return pa.Table.from_pylist([{**row, "updated_at": time.time_ns()}], schema=RUN_SCHEMA)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """Make a record of a row of the table."""
        parts = {name: value for name, value in row.items() if name != "updated_at"}
        for name in _JSON_COLUMNS:
            parts[name] = json.loads(parts[name])
        return cls(**parts)


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a query gives; the rows come as they are asked for.

    Attributes:
        columns: Names of the columns.
        types: DuckDB's types of the columns, such as `DECIMAL(38,9)` or `JSON`.
        rows: Rows of Python values; numbers are int or Decimal, JSON is text.
    """

    columns: list[str]
    types: list[str]
    rows: Iterator[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class TableFacts:
    """Size of a table, and the files of it that are not there."""

    files: int
    rows: int
    bytes: int
    missing: list[str]


class EventStore:
    """Spans and runs of one data folder.

    Args:
        data: The data folder; `FILLPATH_DATA`, else the user's data directory.
        lake: Where its lake is: `s3://bucket/prefix` or a folder; `FILLPATH_LAKE`, else in the
            data folder.
    """

    def __init__(
        self,
        data: DataFolder | str | os.PathLike[str] | None = None,
        lake: str | os.PathLike[str] | None = None,
    ) -> None:
        self.folder = data if isinstance(data, DataFolder) else data_folder(data, lake)
        self.spans = LakeTable(self.folder.lake_place, SPAN_SCHEMA, "spans")
        self.runs = LakeTable(self.folder.runs_place, RUN_SCHEMA, "runs")
        self._finder = SpanFinder(self.spans, _raw_connection)

    def append_spans(self, rows: pa.Table, run_id: str, app_id: str, version: int) -> None:
        """Commit spans of a run, exactly once for each version of the application.

        Raises:
            LakeError: When the lake cannot take them, or has this version already.
        """
        self.spans.append(rows, run_id, transaction=(app_id, version))

    def record_run(self, record: RunRecord) -> None:
        """Write what is known about a run, in place of what was known before.

        Raises:
            LakeError: When the table cannot take it.
        """
        known = self.runs.files([record.run_id])
        old = [file for file in known if file.run_id == record.run_id]
        self.runs.append(record.to_table(), record.run_id, instead_of=old)

    def run_records(self) -> list[RunRecord]:
        """Give what is known about every run, by run id.

        Raises:
            LakeError: When the table is not one or is damaged.
        """
        newest: dict[str, dict[str, Any]] = {}
        for file in self.runs.files():
            for row in read_parquet(file).to_pylist():
                known = newest.get(row["run_id"])
                if known is None or row["updated_at"] > known["updated_at"]:
                    newest[row["run_id"]] = row
        return [RunRecord.from_row(newest[run_id]) for run_id in sorted(newest)]

    def connect(
        self,
        run_ids: Collection[str] | None = None,
        *,
        further_views: Collection[str] = FURTHER_VIEWS,
    ) -> duckdb.DuckDBPyConnection:
        """Open a DuckDB connection with the views `spans`, `runs`, `raw_spans` and `raw_runs`.

        Further views show the events of one kind, each (`fills`, `bars` and so on), `otel_traces`
        the spans under the names of the Collector's ClickHouse table; `chain('…')` is one chain.
        The views show the lake as it is now. The connection can read the files of the lake and no
        others. Close it when done.

        Args:
            run_ids: Show these runs only, and open only the files that can hold them.
            further_views: Which of the further views to make; each takes some milliseconds.

        Raises:
            LakeError: When the lake is not one, is damaged, or was written by another version.
        """
        spans, runs = self.spans.files(run_ids), self.runs.files(run_ids)
        try:
            return lake_views.connect(spans, runs, run_ids, further_views)
        except duckdb.Error as error:
            raise _explained(error) from error

    def query(self, sql: str, parameters: Sequence[Any] | None = None) -> QueryResult:
        """Run one read-only query over the views.

        Raises:
            UsageError: When it does not parse, or names what is not there.
            LakeError: When the lake is not one or is damaged.
            FillpathError: When it is refused because it would write, or fails as it runs.
        """
        check_reads_only(sql)
        connection = self.connect(further_views=further_views_in(sql))
        try:
            cursor = connection.execute(sql, parameters)
            description = cursor.description or []
        except duckdb.Error as error:
            connection.close()
            raise _explained(error) from error
        return QueryResult(
            [column[0] for column in description],
            [str(column[1]) for column in description],
            _rows(connection),
        )

    def find_chain(self, correlation_id: str, run_id: str | None = None) -> pa.Table:
        """Find the events of a chain by its name: its trace id, or what the host calls it.

        The store remembers the log and the footers of the files it has read: keep it to look for
        more.

        Args:
            correlation_id: A trace id in hex, a UUID, or the host's own word.
            run_id: Look in this run only.

        Returns:
            Rows of `SPAN_SCHEMA`, by run and sequence; none when there is no such chain.

        Raises:
            LakeError: When the lake is not one, is damaged, or was written by another version.
        """
        with _explaining():
            return self._finder.chain(correlation_id, run_id)

    def find_span(self, span_id: str, run_id: str | None = None) -> pa.Table:
        """Find a span by its id in hex; gives rows as `find_chain` does, none or usually one."""
        with _explaining():
            return self._finder.span(span_id, run_id)

    def find_named(self, column: str, value: str, run_id: str | None = None) -> pa.Table:
        """Find the spans that bear an engine's id; gives rows as `find_chain` does.

        Args:
            column: `client_order_id`, `order_id` (the venue's), `fill_id` or `position_id`.
            value: The whole id.
            run_id: Look in this run only.
        """
        with _explaining():
            return self._finder.named(column, value, run_id)

    def close(self) -> None:
        """Let go of the files that lookups have opened; the store can still be used."""
        self._finder.close()

    def facts(self) -> dict[str, TableFacts]:
        """Tell how large the tables are, by name, and whether their files are there."""
        facts = {}
        for table in (self.spans, self.runs):
            files = table.files()
            facts[table.name] = TableFacts(
                len(files),
                sum(file.rows for file in files),
                sum(file.size for file in files),
                [file.address for file in files if not file.is_there()],
            )
        return facts


def _raw_connection(files: Sequence[LakeFile]) -> duckdb.DuckDBPyConnection:
    return lake_views.connect(files, (), None, ())


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except duckdb.InvalidInputException as error:  # no query is at fault here
        raise _damaged(error) from error
    except duckdb.Error as error:
        raise _explained(error) from error


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    with connection:
        while True:
            try:
                rows = connection.fetchmany(_ROWS_AT_A_TIME)
            except duckdb.Error as error:
                raise _explained(error) from error
            if not rows:
                return
            yield from rows


def _explained(error: duckdb.Error) -> FillpathError:
    message = str(error)
    if isinstance(error, _WRONG_QUERY):
        return UsageError(message)
    if isinstance(error, duckdb.PermissionException):
        return FillpathError(f"This query is refused: {message}")
    if isinstance(error, duckdb.IOException):
        return _damaged(error)
    return FillpathError(f"The query failed: {message}")


def _damaged(error: duckdb.Error) -> LakeError:
    return LakeError(
        f"A file of the lake is missing or damaged: {str(error).splitlines()[0]}",
        next_command="fillpath doctor",
    )
