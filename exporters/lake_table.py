"""One Delta Lake table: our own Parquet files, committed through the Delta log.

A file is written first, complete and durable, and named by a commit then. So a file that the log
names is complete, whenever the machine stops. Where the files are, `lake_storage` knows.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from fillpath.exporters.file_note import read_note, write_note
from fillpath.exporters.joined_traces import joins_traces
from fillpath.exporters.lake_file import STATISTICS, TOKEN, LakeFile, NewFile, Stage
from fillpath.exporters.lake_storage import LakeUnreachable, StoredFile, storage_at
from fillpath.exporters.parquet_file import COMPRESSION_LEVEL
from fillpath.exporters.schema import SCHEMA_VERSION, SCHEMA_VERSION_KEY
from fillpath.instrumentation.errors import LakeError

_COMMIT_ATTEMPTS: Final = 20
_ENDS: Final = ("min", "max")
_COLOUR_OR_ARROW: Final = re.compile(r"\x1b\[\d+m|↳")
_STORE_SAYS: Final = re.compile(r"<Code>(.*?)</Code><Message>(.*?)\.?</Message>", re.DOTALL)
_CONFIGURATION: Final = {
    SCHEMA_VERSION_KEY: str(SCHEMA_VERSION),
    # Else statistics of columns behind the 32nd are not read.
    "delta.dataSkippingNumIndexedCols": "-1",
    # benchmarks/partitioning.py: a commit reads the log behind the last checkpoint.
    "delta.checkpointInterval": "20",
    # A live run commits every second; nobody asks for the table of last week.
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 2 days",
}
_TOLD: Final = frozenset(
    ("path", "size_bytes", "num_records", *(f"{end}.{n}" for n in STATISTICS for end in _ENDS))
)
_WORTH_A_NOTE: Final = 8
"""Files of a table whose log takes noticeably longer to read than a note of them."""
_used_in: dict[str, int] = {}


class LakeConflict(LakeError):
    """Another process has replaced files that this one was about to replace."""


@dataclass(slots=True)
class _Known:
    """The files of one version of the log, and how to see that it is still the newest."""

    version: int
    mark: tuple[int, ...] | None
    files: list[LakeFile]
    table: DeltaTable | None = None


class LakeTable:
    """A table of `spans` or of `runs`.

    Args:
        place: Folder or URL of the table; it need not exist.
        schema: Arrow schema of the rows.
        name: Name of the table, and beginning of its files' names.
    """

    def __init__(self, place: str | Path, schema: pa.Schema, name: str) -> None:
        self.storage = storage_at(place)
        self.schema = schema
        self.name = name
        self._handle: DeltaTable | None = None
        self._known: _Known | None = None
        self.bytes_written = 0
        """Bytes of the files that were added through this object."""
        self._in_doubt: tuple[tuple[str, int] | None, str | None] | None = None

    @property
    def place(self) -> str:
        """Folder or URL of the table."""
        return self.storage.place

    def open(self) -> DeltaTable | None:
        """Open the table as it is now; None when nothing was ever written.

        Raises:
            LakeError: When the folder holds something else, or a damaged or newer table.
        """
        if not self.storage.holds_table():
            return None
        with self.explained():
            try:
                table = DeltaTable(self.storage.uri, storage_options=self.storage.options)
            except TableNotFoundError:
                if self.storage.options is None:
                    raise
                return None
            version = table.metadata().configuration.get(SCHEMA_VERSION_KEY)
        if version is None or not version.isdigit():
            raise LakeError(
                f"{self.place} is a Delta table, but not one of fillpath.",
                next_command="choose another data folder with --data",
            )
        if int(version) != SCHEMA_VERSION:
            newer = int(version) > SCHEMA_VERSION
            raise LakeError(
                f"The table {self.place} has schema version {version}, this fillpath reads "
                f"{SCHEMA_VERSION}.",
                next_command="pip install --upgrade fillpath" if newer else self._begin_anew(),
            )
        return table

    def _begin_anew(self) -> str:
        if self.storage.options is not None:
            return "another prefix in FILLPATH_LAKE; spools are read again then"
        return f"mv '{self.place}' '{self.place}.aside'  # spools are read again then"

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the Delta library and the system raise into errors that say what to do."""
        _refuse_after_fork()
        begin_anew = self._begin_anew()
        try:
            yield
        except TableNotFoundError as error:
            raise LakeError(
                f"The table {self.place} has no readable Delta log.",
                next_command=begin_anew,
            ) from error
        except CommitFailedError as error:
            raise LakeError(
                f"A commit to {self.place} failed: {_first_line(error)}",
                next_command="try again; fillpath doctor",
            ) from error
        except (DeltaError, OSError) as error:
            if self.storage.options is not None and _is_of_the_network(error):
                raise LakeUnreachable(
                    f"The object store of {self.place} does not answer, or refuses: "
                    f"{_reason(error)}",
                    next_command="check AWS_ENDPOINT_URL, the AWS_ keys and the bucket",
                ) from error
            if isinstance(error, OSError):
                raise LakeError(
                    f"The table {self.place} cannot be used: {error.strerror or error}.",
                    next_command="fillpath doctor",
                ) from error
            raise LakeError(
                f"The Delta log of {self.place} is damaged or cannot be used: {_first_line(error)}",
                next_command=begin_anew,
            ) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # what Rust raises is no Exception
                raise
            raise LakeError(
                f"The Delta library failed on {self.place}: {error}",
                next_command=begin_anew,
            ) from error

    def open_or_create(self) -> DeltaTable:
        """Open the table once, to write to it; make an empty one when there is none."""
        if self._handle is not None:
            return self._handle
        table = self.open()
        while table is None:
            uri = self.storage.uri
            with self.explained():
                self.storage.prepare()
                with contextlib.suppress(CommitFailedError):  # another process was quicker
                    DeltaTable.create(
                        uri,
                        schema=self.schema,
                        mode="ignore",
                        name=self.name,
                        description=f"fillpath {self.name}",
                        configuration=_CONFIGURATION,
                        storage_options=self.storage.options,
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

        The same list is given as long as nothing is new. In a folder, a note that the writer or an
        earlier reader has left serves a new process as well.
        """
        known = self._known or self._noted()
        mark = None if known is None else self.storage.mark_of_newest(known.version)
        if known is not None and mark is not None and mark == known.mark:
            self._known = known
            return known.files
        table = (None if known is None else known.table) or self.open()
        if table is None:
            return []
        with self.explained():
            table.update_incremental()
        version, first = table.version(), self._known is None
        if known is None or known.table is None or version != known.version:
            known = _Known(version, None, self._files_of(table, None), table)
        known.mark = self.storage.mark_of_newest(version)
        self._known = known
        if first:
            self._leave_note(known)
        return known.files

    def note_files(self) -> None:
        """Spare the next reader the log."""
        self._known = None
        self.known_files()

    def _noted(self) -> _Known | None:
        if self.storage.options is not None:
            return None
        note = read_note(self.storage)
        return None if note is None else _Known(*note)

    def _leave_note(self, known: _Known) -> None:
        if known.mark is not None and len(known.files) >= _WORTH_A_NOTE:
            write_note(self.storage, known.version, known.mark, known.files)

    def _files_of(self, table: DeltaTable, run_ids: Collection[str] | None) -> list[LakeFile]:
        with self.explained():
            # Not pa.table(), which imports pandas to see whether it was given a frame of it.
            stream = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True))
            actions = stream.read_all()
            # Of the statistics only those that were ever written: the others are NULL columns.
            told = [name for name in actions.column_names if name in _TOLD]
        files = [
            LakeFile(
                unquote(action["path"]),
                action.get("num_records") or 0,
                action["size_bytes"],
                {key[4:]: value for key, value in action.items() if key.startswith("min.")},
                {key[4:]: value for key, value in action.items() if key.startswith("max.")},
                self.storage,
            )
            for action in actions.select(told).to_pylist()
        ]
        return sorted(
            (file for file in files if file.may_hold(run_ids)), key=lambda file: file.name
        )

    def transaction_version(self, app_id: str) -> int | None:
        """Version that the application has committed last; None when it never did."""
        table = self.open()
        if table is None:
            return None
        with self.explained():
            return table.transaction_version(app_id)

    def append(
        self,
        rows: pa.Table,
        label: str,
        *,
        transaction: tuple[str, int] | None = None,
        instead_of: Collection[LakeFile] = (),
    ) -> str | None:
        """Write rows as one file and commit it; the commit may hold a transaction alone.

        Args:
            rows: Rows of the table's schema.
            label: Part of the file's name; letters, digits, dots, dashes and underscores.
            transaction: Application and version that the commit carries.
            instead_of: Files that the commit takes out of the table, if they are still in it.

        Returns:
            The file's name, or None when there were no rows.

        Raises:
            LakeError: When the disk or the log does not take it, or when the application has
                committed this version or a later one already.
        """
        table = self.open_or_create()
        with self.explained():
            table.update_incremental()
        if transaction is not None:
            if self._in_doubt is not None and self._in_doubt[0] == transaction:
                name = self._in_doubt[1]
                if self._has_committed(table, transaction, name):
                    return name  # the answer to it was lost, the commit was not
            self._refuse_twice(table, *transaction)
        name = None
        actions: list[AddAction | RemoveAction] = []
        if rows.num_rows:
            joins = joins_traces(rows)
            with self.explained(), self.new_file(label, rows.schema, joins=joins) as file:
                file.write_whole(rows)
            name = file.name
            self.bytes_written += file.size
            actions.append(file.addition(data_change=True))
        actions += [old.removal(data_change=True) for old in instead_of]
        self._commit(table, actions, transaction, name)
        return name

    def new_file(
        self,
        label: str,
        schema: pa.Schema | None = None,
        *,
        stage: Stage = "hot",
        level: int = COMPRESSION_LEVEL,
        joins: bool = False,
    ) -> NewFile:
        """Begin a file that a later commit can name; see `NewFile`."""
        return NewFile(
            self.storage,
            self.name,
            label,
            schema or self.schema,
            stage=stage,
            level=level,
            joins=joins,
        )

    def replace(
        self,
        old: Collection[LakeFile],
        new: Sequence[NewFile],
        *,
        data_change: bool,
        forget: str | None = None,
    ) -> None:
        """Put files in the place of others, in one commit.

        Args:
            old: Files that leave the table; they stay on the disk for those who read them.
            new: Files that come.
            data_change: Whether the rows differ, so that followers of the table have to know.
            forget: Application whose transactions count as never made from now on.

        Raises:
            LakeConflict: When one of the old files is not in the table any more.
            LakeError: When the log does not take it.
        """
        table = self.open_or_create()
        actions: list[AddAction | RemoveAction] = [
            file.addition(data_change=data_change) for file in new
        ]
        actions += [file.removal(data_change=data_change) for file in old]
        needed = frozenset(file.name for file in old)
        reset = None if forget is None else (forget, 0)
        self._commit(table, actions, None, new[0].name if new else None, needed, reset)

    def _commit(
        self,
        table: DeltaTable,
        actions: list[AddAction | RemoveAction],
        transaction: tuple[str, int] | None,
        added: str | None,
        needed: frozenset[str] = frozenset(),
        reset: tuple[str, int] | None = None,
    ) -> None:
        carried = transaction or reset
        properties = CommitProperties(
            app_transactions=[Transaction(*carried)] if carried else None,
            # The library would repeat the commit behind one that took our files away.
            max_commit_retries=0 if needed else None,
        )
        for attempt in range(_COMMIT_ATTEMPTS):
            with self.explained():
                table.update_incremental()
                if transaction is not None:
                    self._refuse_twice(table, *transaction)
                if needed and not needed <= {file.name for file in self._files_of(table, None)}:
                    raise LakeConflict(
                        f"Another process has replaced files of {self.place} meanwhile.",
                        next_command="try again",
                    )
                before = table.version()
                try:
                    table.create_write_transaction(
                        actions, "append", table.schema(), commit_properties=properties
                    )
                except (DeltaError, OSError) as error:
                    self._in_doubt = (transaction, added)
                    if not self._has_committed(table, transaction, added):
                        last = attempt == _COMMIT_ATTEMPTS - 1
                        if last or not isinstance(error, CommitFailedError):
                            raise
                        time.sleep(0.01 * (attempt + 1))
                        continue
                self._in_doubt = None
                table.update_incremental()
                self.storage.settle(before + 1, table.version())
                return

    def _refuse_twice(self, table: DeltaTable, app_id: str, version: int) -> None:
        committed = table.transaction_version(app_id)
        if committed is not None and committed >= version:
            raise LakeError(
                f"Another process has written '{app_id}' up to {committed} into {self.place}.",
                next_command="fillpath doctor",
            )

    def _has_committed(
        self, table: DeltaTable, transaction: tuple[str, int] | None, added: str | None
    ) -> bool:
        """Tell whether a commit that failed was made all the same."""
        table.update_incremental()
        if transaction is not None and table.transaction_version(transaction[0]) != transaction[1]:
            return False
        if added is None:
            return transaction is not None
        return any(file.name == added for file in self._files_of(table, None))

    def unnamed(self, older_than_hours: int) -> list[StoredFile]:
        """List files that the log does not name (any more), for so long.

        Args:
            older_than_hours: Hours since the log took it out, or, but at least one, since it was
                written when the log never named it.
        """
        table = self.open()
        if table is None:
            return []
        table_file = re.compile(rf"\.?{self.name}-.*-{TOKEN}(\.\w+)*\.parquet(\.tmp)?")
        with self.explained():
            unnamed = set(_vacuumable(table, older_than_hours, full=False))
            # What was never named may be on its way into the log just now.
            never = max(older_than_hours, 1)
            unnamed |= set(_vacuumable(table, never, full=True))
            oldest = time.time() - 3600 * never
            found = [
                file
                for file in self.storage.listed()
                if table_file.fullmatch(file.name)
                and (
                    file.name in unnamed
                    # The library passes over names that begin with a dot.
                    or (file.name.startswith(".") and file.modified_at <= oldest)
                )
            ]
        return sorted(found, key=lambda file: file.name)

    def remove_uncommitted(self, label: str) -> int:
        """Delete files of this label that a writer left without committing them.

        Only the one process that writes under the label may call this. In an object store, where
        a list of everything is dear, such files wait for `fillpath store vacuum`.
        """
        if self.storage.options is not None:
            return 0
        table = self.open()
        if table is None:
            return 0
        known = {file.name for file in self._files_of(table, None)}
        own = rf"{self.name}-{re.escape(label)}-{TOKEN}(\.joins)?"
        pattern = re.compile(rf"\.?{own}\.parquet(\.tmp)?")
        removed = 0
        for file in self.storage.listed():
            if file.name not in known and pattern.fullmatch(file.name):
                self.storage.remove(file.name)
                removed += 1
        return removed


def _vacuumable(table: DeltaTable, hours: int, *, full: bool) -> list[str]:
    return table.vacuum(
        retention_hours=hours, dry_run=True, enforce_retention_duration=False, full=full
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _reason(error: BaseException) -> str:
    """Find the cause in a chain of them, and what a store's XML says."""
    text = _COLOUR_OR_ARROW.sub("", str(error))
    if found := _STORE_SAYS.search(text):
        return f"{found[1]}, {found[2]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _is_of_the_network(error: BaseException) -> bool:
    """Tell a store that cannot be reached, or refuses, from a log that is damaged."""
    words = str(error).lower()
    return any(
        sign in words
        for sign in (
            "generic s3", "error sending request", "connect", "network", "timeout", "timed out",
            "access denied", "accessdenied", "permission", "forbidden", "unauthorized",
            "nosuchbucket", "curlcode", "credentials", "error performing", "privileges",
        )
    )  # fmt: skip


def _refuse_after_fork() -> None:
    """Refuse in a forked child: the Delta library left its threads in the parent and panics."""
    if _used_in.setdefault("process", os.getpid()) != os.getpid():
        raise LakeError(
            "This process was forked from one that had used the lake, and cannot use it itself.",
            next_command="start it by spawn instead of fork (multiprocessing.set_start_method)",
        )


__all__ = ["LakeConflict", "LakeFile", "LakeTable"]
