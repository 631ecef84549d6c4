"""One Delta Lake table in a local folder: our own Parquet files, committed through the Delta log.

The order of a write is: temporary name, fsync, rename, fsync of the folder, commit, fsync of the
commit. So a file that the log names is complete, whenever the machine stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from fillpath.exporters.parquet_file import fsync, write_parquet
from fillpath.exporters.schema import SCHEMA_VERSION, SCHEMA_VERSION_KEY
from fillpath.instrumentation.errors import LakeError

_COMMIT_ATTEMPTS: Final = 20
_STATISTICS: Final = (
    "run_id",
    "sequence",
    "root_sequence",
    "event_time",
    "decimal_scale",
    "updated_at",
)
"""Columns whose smallest and largest values stand in the log, so that readers can skip files."""
_TOKEN: Final = r"[0-9a-f]{12}"  # noqa: S105 - the random part of a file's name
_used_in: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A Parquet file of a table, as the log describes it. Smallest and largest None: unknown."""

    path: Path
    rows: int
    size: int
    smallest: dict[str, Any]
    largest: dict[str, Any]

    def may_hold(self, run_ids: Collection[str] | None) -> bool:
        """Tell whether rows of one of these runs (None: of any) can be in the file."""
        low, high = self.smallest.get("run_id"), self.largest.get("run_id")
        if run_ids is None or low is None or high is None:
            return True
        return any(low <= run_id <= high for run_id in run_ids)


class LakeTable:
    """A table of `spans` or of `runs`.

    Args:
        folder: Folder of the table; it need not exist.
        schema: Arrow schema of the rows.
        name: Name of the table, and beginning of its files' names.
    """

    def __init__(self, folder: Path, schema: pa.Schema, name: str) -> None:
        self.folder = folder
        self.schema = schema
        self.name = name
        self._handle: DeltaTable | None = None
        self._known: tuple[DeltaTable, int | None, list[LakeFile]] | None = None

    def open(self) -> DeltaTable | None:
        """Open the table as it is now; None when nothing was ever written.

        Raises:
            LakeError: When the folder holds something else, or a damaged or newer table.
        """
        if not self._exists():
            return None
        with self._explained():
            table = DeltaTable(self._uri())
            version = table.metadata().configuration.get(SCHEMA_VERSION_KEY)
        if version is None or not version.isdigit():
            raise LakeError(
                f"{self.folder} is a Delta table, but not one of fillpath.",
                next_command="choose another data folder with --data",
            )
        if int(version) != SCHEMA_VERSION:
            newer = int(version) > SCHEMA_VERSION
            raise LakeError(
                f"The table {self.folder} has schema version {version}, this fillpath reads "
                f"{SCHEMA_VERSION}.",
                next_command="pip install --upgrade fillpath"
                if newer
                else f"mv '{self.folder}' '{self.folder}.aside'  # spools are read again then",
            )
        return table

    def _exists(self) -> bool:
        try:
            names = [entry.name for entry in os.scandir(self.folder)]
            if "_delta_log" in names:
                # A table whose making was cut short has a log without an entry.
                return any((self.folder / "_delta_log").iterdir())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise LakeError(
                f"The table {self.folder} cannot be read: {error.strerror or error}.",
                next_command="choose another data folder with --data",
            ) from error
        if any(not name.startswith(".") for name in names):
            raise LakeError(
                f"{self.folder} holds files but no Delta log, so it is not a table.",
                next_command="move the files away, or choose another data folder with --data",
            )
        return False

    def _uri(self) -> str:
        if unquote(str(self.folder)) != str(self.folder):
            raise LakeError(
                f"The Delta library cannot use a folder with a percent sign and two hexadecimal "
                f"digits in its path: {self.folder}.",
                next_command="choose another data folder with --data",
            )
        return self.folder.as_uri()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        _refuse_after_fork()
        begin_anew = f"mv '{self.folder}' '{self.folder}.aside'  # spools are read again then"
        try:
            yield
        except TableNotFoundError as error:
            raise LakeError(
                f"The table {self.folder} has no readable Delta log.",
                next_command=begin_anew,
            ) from error
        except DeltaError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise LakeError(
                f"The Delta log of {self.folder} is damaged or cannot be used: {reason}",
                next_command=begin_anew,
            ) from error
        except OSError as error:
            raise LakeError(
                f"The table {self.folder} cannot be used: {error.strerror or error}.",
                next_command="fillpath doctor",
            ) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # what Rust raises is no Exception
                raise
            raise LakeError(
                f"The Delta library failed on {self.folder}: {error}",
                next_command=begin_anew,
            ) from error

    def open_or_create(self) -> DeltaTable:
        """Open the table once, to write to it; make an empty one when there is none."""
        if self._handle is not None:
            return self._handle
        table = self.open()
        while table is None:
            uri = self._uri()
            with self._explained():
                self.folder.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(CommitFailedError):  # another process was quicker
                    DeltaTable.create(
                        uri,
                        schema=self.schema,
                        mode="ignore",
                        name=self.name,
                        description=f"fillpath {self.name}",
                        configuration={
                            SCHEMA_VERSION_KEY: str(SCHEMA_VERSION),
                            # Else statistics of columns behind the 32nd are not read.
                            "delta.dataSkippingNumIndexedCols": "-1",
                        },
                        raise_if_key_not_exists=False,
                    )
            table = self.open()
        self._handle = table
        return table

    def files(self, run_ids: Collection[str] | None = None) -> list[LakeFile]:
        """List the files that can hold rows of these runs (None: of any), as the log has them."""
        table = self.open()
        return [] if table is None else self._files_of(table, run_ids)

    def known_files(self) -> list[LakeFile]:
        """List all files as `files` does, but read only what is new in the log since the last call.

        The same list is given as long as nothing is new.
        """
        if self._known is None:
            table = self.open()
            if table is None:
                return []
            self._known = table, None, []
        table, version, files = self._known
        with self._explained():
            table.update_incremental()
        if table.version() != version:
            files = self._files_of(table, None)
            self._known = table, table.version(), files
        return files

    def _files_of(self, table: DeltaTable, run_ids: Collection[str] | None) -> list[LakeFile]:
        with self._explained():
            # Not pa.table(), which imports pandas to see whether it was given a frame of it.
            stream = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True))
            actions = stream.read_all().to_pylist()
        files = [
            LakeFile(
                self.folder / unquote(action["path"]),
                action.get("num_records") or 0,
                action["size_bytes"],
                {key[4:]: value for key, value in action.items() if key.startswith("min.")},
                {key[4:]: value for key, value in action.items() if key.startswith("max.")},
            )
            for action in actions
        ]
        return sorted(
            (file for file in files if file.may_hold(run_ids)), key=lambda file: file.path
        )

    def transaction_version(self, app_id: str) -> int | None:
        """Version that the application has committed last; None when it never did."""
        table = self.open()
        if table is None:
            return None
        with self._explained():
            return table.transaction_version(app_id)

    def append(
        self,
        rows: pa.Table,
        label: str,
        *,
        transaction: tuple[str, int] | None = None,
        instead_of: Collection[Path] = (),
    ) -> Path | None:
        """Write rows as one file and commit it; the commit may hold a transaction alone.

        Args:
            rows: Rows of the table's schema.
            label: Part of the file's name; letters, digits, dots, dashes and underscores.
            transaction: Application and version that the commit carries.
            instead_of: Files that the commit takes out of the table.

        Returns:
            The file, or None when there were no rows.

        Raises:
            LakeError: When the disk or the log does not take it, or when the application has
                committed this version or a later one already.
        """
        table = self.open_or_create()
        with self._explained():
            table.update_incremental()
        if transaction is not None:
            self._refuse_twice(table, *transaction)
        path = None
        actions: list[AddAction | RemoveAction] = []
        if rows.num_rows:
            path = self.folder / f"{self.name}-{label}-{secrets.token_hex(6)}.parquet"
            with self._explained():
                write_parquet(rows, path)
            actions.append(_add_action(path, rows))
        actions += [RemoveAction(old.name, True, _now_ms()) for old in instead_of]
        self._commit(table, actions, transaction)
        return path

    def _commit(
        self,
        table: DeltaTable,
        actions: list[AddAction | RemoveAction],
        transaction: tuple[str, int] | None,
    ) -> None:
        properties = CommitProperties(
            app_transactions=[Transaction(*transaction)] if transaction else None
        )
        for attempt in range(_COMMIT_ATTEMPTS):
            with self._explained():
                table.update_incremental()
                if transaction is not None:
                    self._refuse_twice(table, *transaction)
                before = table.version()
                try:
                    table.create_write_transaction(
                        actions, "append", table.schema(), commit_properties=properties
                    )
                except CommitFailedError:
                    if not self._has_committed(table, transaction):
                        if attempt == _COMMIT_ATTEMPTS - 1:
                            raise
                        time.sleep(0.01 * (attempt + 1))
                        continue
                table.update_incremental()
                self._fsync_log(before, table.version())
                return

    def _refuse_twice(self, table: DeltaTable, app_id: str, version: int) -> None:
        committed = table.transaction_version(app_id)
        if committed is not None and committed >= version:
            raise LakeError(
                f"Another process has written '{app_id}' up to {committed} into {self.folder}.",
                next_command="fillpath doctor",
            )

    def _has_committed(self, table: DeltaTable, transaction: tuple[str, int] | None) -> bool:
        """Tell whether a commit that failed was made all the same."""
        if transaction is None:
            return False
        table.update_incremental()
        return table.transaction_version(transaction[0]) == transaction[1]

    def _fsync_log(self, before: int, after: int) -> None:
        log = self.folder / "_delta_log"
        for version in range(before + 1, after + 1):
            with contextlib.suppress(FileNotFoundError):
                fsync(log / f"{version:020d}.json")
        fsync(log)

    def remove_uncommitted(self, label: str) -> int:
        """Delete files of this label that a writer left without committing them.

        Only the one process that writes under the label may call this.
        """
        table = self.open()
        if table is None:
            return 0
        known = {file.path.name for file in self._files_of(table, None)}
        pattern = re.compile(rf"\.?{self.name}-{re.escape(label)}-{_TOKEN}\.parquet(\.tmp)?")
        removed = 0
        for path in self.folder.iterdir():
            if path.name not in known and pattern.fullmatch(path.name):
                path.unlink(missing_ok=True)
                removed += 1
        return removed


def _refuse_after_fork() -> None:
    """Refuse in a forked child: the Delta library left its threads in the parent and panics."""
    if _used_in.setdefault("process", os.getpid()) != os.getpid():
        raise LakeError(
            "This process was forked from one that had used the lake, and cannot use it itself.",
            next_command="start it by spawn instead of fork (multiprocessing.set_start_method)",
        )


def _add_action(path: Path, rows: pa.Table) -> AddAction:
    smallest: dict[str, Any] = {}
    largest: dict[str, Any] = {}
    for name in _STATISTICS:
        if name in rows.schema.names:
            column = rows[name]
            if pa.types.is_dictionary(column.type):
                column = pc.unique(column).dictionary_decode()
            ends = pc.min_max(column).as_py()
            if ends["min"] is not None:
                smallest[name], largest[name] = ends["min"], ends["max"]
    stats = {
        "numRecords": rows.num_rows,
        "minValues": smallest,
        "maxValues": largest,
        "nullCount": {
            name: rows[name].null_count
            for name in rows.schema.names
            if not pa.types.is_nested(rows.schema.field(name).type)
        },
    }
    return AddAction(path.name, path.stat().st_size, {}, _now_ms(), True, json.dumps(stats))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
