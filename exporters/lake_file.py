"""A Parquet file of a table: what the log tells of it, and how one comes about."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction, RemoveAction

from fillpath.exporters.bloom_filters import FALSE_POSITIVES, filters_worth_having
from fillpath.exporters.lake_storage import FolderStorage, LakeStorage
from fillpath.exporters.parquet_file import (
    COMPRESSION_LEVEL,
    has_several,
    parquet_writer,
    write_rows,
)
from fillpath.exporters.whole_parquet import write_whole
from fillpath.instrumentation.errors import LakeError

Stage = Literal["hot", "compact", "warm", "cold"]
"""What was done to a file: nothing yet, put together of small ones, and the two tiers."""

STATISTICS: Final = (
    "run_id",
    "sequence",
    "root_sequence",
    "event_time",
    "decimal_scale",
    "updated_at",
)
"""Columns whose smallest and largest values stand in the log, so that readers can skip files."""
TOKEN: Final = r"[0-9a-f]{12}"  # noqa: S105 - the random part of a file's name
_NAME: Final = re.compile(
    rf"\w+?-(?P<label>.*)-{TOKEN}(?P<joins>\.joins)?(\.(?P<stage>compact|warm|cold))?\.parquet"
)


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A Parquet file of a table, as the log describes it. Smallest and largest None: unknown."""

    name: str
    rows: int
    size: int
    smallest: dict[str, Any]
    largest: dict[str, Any]
    storage: LakeStorage = field(repr=False, compare=False)

    @property
    def address(self) -> str:
        """Full path or URL."""
        return self.storage.address(self.name)

    @property
    def path(self) -> Path:
        """Path of a file that is in a local folder.

        Raises:
            LakeError: When it is in an object store.
        """
        if not isinstance(self.storage, FolderStorage):
            raise LakeError(f"{self.address} is not a local file.")
        return self.storage.folder / self.name

    @property
    def label(self) -> str:
        """What the writer called it by: the run, or `runs` for files of several."""
        found = _NAME.fullmatch(self.name)
        return found["label"] if found else ""

    @property
    def stage(self) -> Stage:
        """What was done to the file since it was written."""
        found = _NAME.fullmatch(self.name)
        return found["stage"] or "hot" if found else "hot"  # type: ignore[return-value]

    @property
    def joins(self) -> bool:
        """Whether some of its rows are in traces that other processes began."""
        found = _NAME.fullmatch(self.name)
        return found is not None and found["joins"] is not None

    @property
    def run_id(self) -> str | None:
        """The run of all its rows; None when there are several or the log does not tell."""
        low, high = self.smallest.get("run_id"), self.largest.get("run_id")
        return low if low is not None and low == high else None

    @property
    def is_shared(self) -> bool:
        """Whether rows of several runs are in it, or may be."""
        return self.run_id is None

    def open(self) -> Any:
        """Open it to read, as Arrow's file; the caller closes it."""
        return self.storage.open(self.name)

    def is_there(self) -> bool:
        """Tell whether the file itself is where the log has it."""
        return self.storage.size(self.name) is not None

    def may_hold(self, run_ids: Collection[str] | None) -> bool:
        """Tell whether rows of one of these runs (None: of any) can be in the file."""
        low, high = self.smallest.get("run_id"), self.largest.get("run_id")
        if run_ids is None or low is None or high is None:
            return True
        return any(low <= run_id <= high for run_id in run_ids)

    def removal(self, *, data_change: bool) -> RemoveAction:
        """Take it out of the table, as an action of a commit."""
        return RemoveAction(self.name, data_change, now_ms(), self.size, {})


class NewFile:
    """A file on its way into a table. Use it in a `with` statement; what failed is not seen.

    Args:
        storage: Where it goes.
        table: Name of the table.
        label: Part of its name: letters, digits, dots, dashes and underscores.
        schema: Schema of the rows; its metadata go into the file.
        stage: What the rows went through.
        level: zstd's level.
        joins: Whether some rows are in traces that other processes began; its name tells.
    """

    def __init__(
        self,
        storage: LakeStorage,
        table: str,
        label: str,
        schema: pa.Schema,
        *,
        stage: Stage = "hot",
        level: int = COMPRESSION_LEVEL,
        joins: bool = False,
    ) -> None:
        suffix = (".joins" if joins else "") + ("" if stage == "hot" else f".{stage}")
        self.name = f"{table}-{label}-{secrets.token_hex(6)}{suffix}.parquet"
        self.rows = 0
        self.size = 0
        self._storage = storage
        self._schema = schema
        self._level = level
        self._writer: pq.ParquetWriter | None = None
        self._is_whole = False
        self._smallest: dict[str, Any] = {}
        self._largest: dict[str, Any] = {}
        # Of these columns alone: a longer list makes every commit of a long log slower to read.
        self._nulls = {name: 0 for name in STATISTICS if name in schema.names}

    def __enter__(self) -> Self:
        self._opened = self._storage.writing(self.name)
        self._sink: IO[bytes] = self._opened.__enter__()
        return self

    def _begun(self, rows: pa.Table) -> pq.ParquetWriter:
        """Begin the file, which has to know from its first rows what is worth a Bloom filter."""
        if self._writer is None:
            self._writer = parquet_writer(
                self._sink,
                self._schema,
                compression_level=self._level,
                bloom_filters=_filters(rows),
            )
        return self._writer

    def write(self, rows: pa.Table) -> None:
        """Add rows; each call begins a row group, so give many at a time."""
        write_rows(self._begun(rows), rows)
        self._note(rows)

    def write_whole(self, rows: pa.Table) -> None:
        """Write all rows of the file: nothing else may be written to it, and no metadata added."""
        write_whole(self._sink, rows, compression_level=self._level, bloom_filters=_filters(rows))
        self._is_whole = True
        self._note(rows)

    def _note(self, rows: pa.Table) -> None:
        self.rows += rows.num_rows
        for name in self._nulls:
            column = rows[name]
            self._nulls[name] += column.null_count
            if pa.types.is_dictionary(column.type):
                some = column if has_several(column) else column[:1]
                column = pc.unique(some).dictionary_decode()
            ends = pc.min_max(column).as_py()
            low, high = ends["min"], ends["max"]
            if low is not None:
                self._smallest[name] = min(low, self._smallest.get(name, low))
                self._largest[name] = max(high, self._largest.get(name, high))

    @property
    def bytes_so_far(self) -> int:
        """Bytes that are written; what is not yet, is less than a row group."""
        return self._sink.tell()

    def add_metadata(self, metadata: dict[str, str]) -> None:
        """Put texts by key into the footer."""
        self._begun(self._schema.empty_table()).add_key_value_metadata(metadata)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if not self._is_whole:
                self._begun(self._schema.empty_table()).close()
            self.size = self._sink.tell()
        except BaseException as failure:
            if self._writer is not None:
                self._writer.is_open = False  # or it would try once more when it is forgotten
            if error is None:
                self._opened.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._opened.__exit__(kind, error, traceback)

    def addition(self, *, data_change: bool) -> AddAction:
        """Put it into the table, as an action of a commit."""
        stats = {
            "numRecords": self.rows,
            "minValues": self._smallest,
            "maxValues": self._largest,
            "nullCount": self._nulls,
        }
        return AddAction(self.name, self.size, {}, now_ms(), data_change, json.dumps(stats))


def _filters(rows: pa.Table) -> dict[str, dict[str, float]]:
    """What the Bloom filters of a file shall be like."""
    return {
        name: {"ndv": number, "fpp": FALSE_POSITIVES}
        for name, number in filters_worth_having(rows).items()
    }


def now_ms() -> int:
    """Give the wall clock in the log's unit."""
    return time.time_ns() // 1_000_000
