"""Finds spans by their ids, and reads no more of the lake than the part that holds them.

An id of our own names its run and its event. The Delta log tells which files can hold them, a
file's footer which row groups can, and only the columns of these that hold anything are read. An id
that a host brought along tells nothing: for it the files' statistics and Bloom filters are asked,
by DuckDB, because Arrow does not use Bloom filters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fillpath.exporters.lake_file import LakeFile
from fillpath.exporters.lake_table import LakeTable
from fillpath.exporters.parquet_file import rows_of_runs
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.instrumentation import identity
from fillpath.instrumentation.errors import LakeError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_OPEN_FILES: Final = 256
"""Files whose footers are remembered; each is some ten kilobytes."""
_ROWS_AT_A_TIME: Final = 4096
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")
_JSON: Final = frozenset({"attributes", "exact_numbers", "resource_attributes", "status_message"})
# Names come as dictionaries: most rows of a row group are thrown away before they become text.
_NAMES: Final = [
    column.name
    for column in SPAN_SCHEMA
    if pa.types.is_string(column.type) and column.name not in _JSON
]


class SpanFinder:
    """Finds spans of one table. It keeps what it knows of the log and of the files between calls.

    Args:
        table: The table of spans.
        connect: Opens a DuckDB connection with the view `raw_spans` over these files.
    """

    def __init__(
        self,
        table: LakeTable,
        connect: Callable[[Sequence[LakeFile]], DuckDBPyConnection],
    ) -> None:
        self._table = table
        self._connect = connect
        self._connections: dict[bool, tuple[Sequence[LakeFile], DuckDBPyConnection]] = {}
        """By whether only the files are shown that other processes' traces are in."""
        self._last: Sequence[LakeFile] = ()
        self._joins = False
        self._run_of_key: dict[int, str] = {}
        self._run_ids: set[str] = set()
        self._learned: set[str] = set()
        self._opened: dict[str, pq.ParquetFile] = {}

    def chain(self, correlation_id: str, run_id: str | None = None) -> pa.Table:
        """Find the events of a chain by its name: its trace id, or what the host calls it.

        Args:
            correlation_id: A trace id in hex, a UUID, or the host's own word.
            run_id: Look in this run only.

        Returns:
            Rows of `SPAN_SCHEMA`, by run and sequence; none when there is no such chain.

        Raises:
            LakeError: When the lake is not one, is damaged, or of another version.
        """
        packed = correlation_id.strip().lower().removeprefix("urn:uuid:").strip("{}")
        packed = packed.replace("-", "")
        if _TRACE_ID.fullmatch(packed):
            of_trace = "trace_id = unhex($value)"
            found = self._own_chain(int(packed, 16), run_id)
            if not found.num_rows:
                found = self._where(of_trace, packed, run_id)
            elif run_id is None and self._joins:
                # Other processes may have gone on with it.
                mine = found["run_id"][0].as_py()
                elsewhere = self._where(
                    f"{of_trace} AND run_id <> $mine", packed, mine=mine, joined=True
                )
                found = _ordered([found, elsewhere])
            if found.num_rows:
                return found
        return self._named_chain(correlation_id, run_id)

    def span(self, span_id: str, run_id: str | None = None) -> pa.Table:
        """Find a span by its id in hex; several when runs of other programs share the id.

        Raises:
            LakeError: As `chain` does.
        """
        packed = span_id.strip().lower()
        if not _SPAN_ID.fullmatch(packed):
            return SPAN_SCHEMA.empty_table()
        address = identity.sequence_of_span(int(packed, 16))
        if address is not None:
            tag, sequence = address
            files = self._files()
            self._learn_shared(files)
            owners = [
                run
                for key, run in self._run_of_key.items()
                if identity.tag_of(key) == tag and run_id in {None, run}
            ]
            wanted = bytes.fromhex(packed)
            rows = [self._read(files, run, "sequence", sequence) for run in owners]
            # A run's span may have been given an id of its own by the host's SDK.
            found = _ordered(rows)
            found = found.filter(pc.equal(found["span_id"], pa.scalar(wanted, pa.binary())))
            if found.num_rows:
                return found
        return self._where("span_id = unhex($value)", packed, run_id)

    def named(self, column: str, value: str, run_id: str | None = None) -> pa.Table:
        """Find spans by an id that the engine gave.

        Args:
            column: `order_id`, `client_order_id`, `fill_id`, `position_id` or any other text
                column of `SPAN_SCHEMA`.
            value: The whole id.
            run_id: Look in this run only.

        Raises:
            LakeError: As `chain` does.
        """
        if column not in _NAMES:
            raise ValueError(f"{column!r} is no text column of a span")
        return self._where(f"{column} = $value", value, run_id)

    def close(self) -> None:
        """Let go of the files."""
        for _, connection in self._connections.values():
            connection.close()
        self._connections.clear()
        for file in self._opened.values():
            file.close()
        self._opened.clear()

    def _files(self) -> list[LakeFile]:
        files = self._table.known_files()
        if files is not self._last:
            self._last, self._joins = files, any(file.joins for file in files)
        for file in files:
            for end in (file.smallest, file.largest):
                if (run_id := end.get("run_id")) is not None:
                    self._learn(run_id)
        return files

    def _learn(self, run_id: str) -> None:
        if run_id not in self._run_ids:
            self._run_ids.add(run_id)
            self._run_of_key[identity.run_key(run_id)] = run_id

    def _learn_shared(self, files: Sequence[LakeFile]) -> None:
        """Learn the runs that share files, of which the log tells the first and the last."""
        for file in files:
            if file.is_shared and file.name not in self._learned:
                for run_id in rows_of_runs(file):
                    self._learn(run_id)
                self._learned.add(file.name)

    def _own_chain(self, trace_id: int, run_id: str | None) -> pa.Table:
        address = identity.root_of_trace(trace_id)
        files = self._files()
        if address is not None and address[0] not in self._run_of_key:
            self._learn_shared(files)
        owner = None if address is None else self._run_of_key.get(address[0])
        if address is None or owner is None or run_id not in {None, owner}:
            return SPAN_SCHEMA.empty_table()
        found = self._read(files, owner, "root_sequence", address[1])
        # A chain that the host named has a root in the run, and a trace id that is not the run's.
        wanted = pa.scalar(trace_id.to_bytes(16, "big"), pa.binary())
        return found.filter(pc.equal(found["trace_id"], wanted))

    def _named_chain(self, name: str, run_id: str | None) -> pa.Table:
        """Find the chains of a name, and the events that bear it in chains of another."""
        bearers = self._where("correlation_id = $value", name, run_id)
        chains = {
            (row["run_id"], row["trace_id"], row["root_sequence"])
            for row in bearers.select(["run_id", "trace_id", "root_sequence"]).to_pylist()
        }
        tables = [bearers]
        files = self._files()
        for owner, trace_id, root in sorted(chains, key=str):
            if trace_id != identity.trace_id_of_correlation(owner, name).to_bytes(16, "big"):
                continue
            if root is None:
                table = self._where("trace_id = unhex($value)", trace_id.hex(), owner)
            else:
                table = self._read(files, owner, "root_sequence", root)
            named = pc.equal(table["correlation_id"], pa.scalar(name, pa.string()))
            others = pc.invert(pc.fill_null(named, pa.scalar(False)))
            tables.append(table.filter(others))
        return _ordered(tables)

    def _read(self, files: Iterable[LakeFile], run_id: str, column: str, value: int) -> pa.Table:
        """Read the rows of a run that have this value in a column of ascending integers."""
        parts: list[pa.Table] = []
        for file in files:
            if file.may_hold([run_id]) and _within(file, column, value):
                parts += self._matching(file, run_id, column, value)
        return _ordered(parts)

    def _matching(self, file: LakeFile, run_id: str, column: str, value: int) -> Iterator[pa.Table]:
        owner, wanted = pa.scalar(run_id, pa.string()), pa.scalar(value, pa.int64())
        try:
            opened = self._open(file)
            places = {
                opened.metadata.schema.column(place).path: place
                for place in range(opened.metadata.num_columns)
            }
            for number in range(opened.num_row_groups):
                group = opened.metadata.row_group(number)
                ends = group.column(places[column]).statistics
                if ends is not None and ends.has_min_max and not ends.min <= value <= ends.max:
                    continue
                ends = group.column(places["run_id"]).statistics
                if ends is not None and ends.has_min_max and not ends.min <= run_id <= ends.max:
                    continue
                keys = opened.read_row_group(number, [column, "run_id"], use_threads=False)
                right_run = pc.equal(keys["run_id"].cast(pa.string()), owner)
                mask = pc.and_(pc.equal(keys[column], wanted), right_run).combine_chunks()
                if mask.true_count:
                    yield from self._taken(opened, number, mask)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise LakeError(
                f"A file of the lake is missing or damaged: {file.address} ({error}).",
                next_command="fillpath doctor",
            ) from error

    @staticmethod
    def _taken(opened: pq.ParquetFile, number: int, mask: pa.BooleanArray) -> Iterator[pa.Table]:
        """Read rows of a row group; what lies behind the last of them is not even decoded."""
        columns = _filled(opened.metadata.row_group(number))
        left, start = mask.true_count, 0
        for batch in opened.iter_batches(
            _ROWS_AT_A_TIME, row_groups=[number], columns=columns, use_threads=True
        ):
            part = mask.slice(start, len(batch))
            start += len(batch)
            if part.true_count:
                yield _completed(batch.filter(part))
                left -= part.true_count
                if not left:
                    return

    def _open(self, file: LakeFile) -> pq.ParquetFile:
        name = file.address
        if name not in self._opened:
            if len(self._opened) >= _OPEN_FILES:
                self._opened.pop(next(iter(self._opened))).close()
            self._opened[name] = pq.ParquetFile(
                file.open(), read_dictionary=_NAMES, pre_buffer=True
            )
        return self._opened[name]

    def _where(
        self,
        condition: str,
        value: str,
        run_id: str | None = None,
        *,
        joined: bool = False,
        **more: str,
    ) -> pa.Table:
        """Ask DuckDB; the condition is ours, the values bound.

        Args:
            condition: What rows must meet.
            value: `$value` in it.
            run_id: The run that they must be of.
            joined: Look only into files with rows of traces that other processes began.
            more: Further values by name.
        """
        files = self._files()
        if not files:
            return SPAN_SCHEMA.empty_table()
        known = self._connections.get(joined)
        if known is None or known[0] is not files:
            if known is not None:
                known[1].close()
            shown = [file for file in files if file.joins] if joined else files
            known = self._connections[joined] = files, self._connect(shown)
        values = {"value": value, **more}
        if run_id is not None:
            condition += " AND run_id = $run_id"
            values["run_id"] = run_id
        columns = ", ".join(SPAN_SCHEMA.names)
        found: pa.Table = (
            known[1]
            .sql(
                f"SELECT {columns} FROM raw_spans WHERE {condition}",  # noqa: S608 - ours
                params=values,
            )
            .to_arrow_table()
        )
        return _ordered([found.cast(SPAN_SCHEMA)])


def _within(file: LakeFile, column: str, value: int) -> bool:
    low, high = file.smallest.get(column), file.largest.get(column)
    return low is None or high is None or low <= value <= high


def _filled(group: Any) -> list[str]:
    """Name the columns of a row group that hold anything."""
    names: dict[str, None] = {}
    for place in range(group.num_columns):
        column = group.column(place)
        known = column.statistics
        if known is None or not known.has_null_count or known.null_count < column.num_values:
            names[column.path_in_schema.partition(".")[0]] = None
    return list(names)


def _completed(batch: pa.RecordBatch) -> pa.Table:
    """Give rows all columns of the schema, and their types."""
    return pa.Table.from_arrays(
        [
            batch[column.name].cast(column.type)
            if column.name in batch.schema.names
            else pa.nulls(len(batch), column.type)
            for column in SPAN_SCHEMA
        ],
        schema=SPAN_SCHEMA,
    )


def _ordered(tables: Iterable[pa.Table]) -> pa.Table:
    table = pa.concat_tables([*tables, SPAN_SCHEMA.empty_table()])
    if len(table) < 2:
        return table
    order = pc.sort_indices(table, [("run_id", "ascending"), ("sequence", "ascending")])
    return table.take(order)


__all__ = ["SpanFinder"]
