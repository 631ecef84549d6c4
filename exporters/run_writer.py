"""Brings the spool of one run into the lake: its events as spans, exactly once, and its record.

The number of the last block that is in the lake is committed together with the spans, as the
version of the Delta application `fillpath-writer/<run>`. A writer that begins again, after a crash
at any moment, reads the blocks up to there only to know what it knew, and goes on behind them.
"""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO, Final, Self

from fillpath.exporters import host_process
from fillpath.exporters.completeness import totals
from fillpath.exporters.damaged_spool import SPOOL_DAMAGED, PartlyTaken, count_what_is_lost
from fillpath.exporters.event_store import EventStore, RunRecord, Status
from fillpath.exporters.spool_rows import SpoolRows
from fillpath.exporters.writer_metrics import WRITER_METRICS
from fillpath.instrumentation.errors import FillpathError, SpoolError
from fillpath.instrumentation.spool import SUFFIX, Block, BlockType, SpoolReader

COMMIT_ROWS: Final = 262_144
"""Rows after which spans are committed."""
COMMIT_SECONDS: Final = 1.0
"""Age of the oldest row after which spans are committed even when they are few."""
RUN_ROW_SECONDS: Final = 60.0
"""How often the row of a run that goes on is written anew."""
SPOOL_EMPTY: Final = "The spool is empty: nothing is known of the run."
LOCK_NAME: Final = "writer.lock"
_LOCK_PAUSE: Final = 0.05
_MANY_COMMITS: Final = 8
"""Commits of a run after which the table's log has become long to read."""


def app_id(run_id: str) -> str:
    """Name of the Delta application under which the writer of a run commits."""
    return f"fillpath-writer/{run_id}"


class WriterBusy(FillpathError):
    """Another process is writing this run into the lake."""


class RunWriter:
    """Brings one run into the lake. Use it in a `with` statement; it locks the run.

    Args:
        store: The lake.
        run_id: The run.
        patience: Seconds to wait for another writer of the run to finish.
        reader: Reads the run's spool, if not as fast as it can.

    Raises:
        WriterBusy: When another process writes the run and does not finish in time.
        SpoolError: When the run has no spool.
        LakeError: When the lake is not one or is damaged.
    """

    def __init__(
        self,
        store: EventStore,
        run_id: str,
        *,
        patience: float = 0.0,
        reader: SpoolReader | None = None,
    ) -> None:
        self.store = store
        self.run_id = run_id
        self.spool = store.folder.spool / run_id
        self._reader = reader or SpoolReader(self.spool)
        self._lock = _locked(self.spool / LOCK_NAME, run_id, patience)
        try:
            self._committed = store.spans.transaction_version(app_id(run_id)) or 0
            store.spans.remove_uncommitted(run_id)
        except BaseException:
            self._lock.close()
            raise
        self._source = SpoolRows(run_id, self.spool)
        self._events = self._source.events
        self._completeness = self._source.completeness
        self._rows = self._source.rows
        self._block = 0
        self._failing = 0
        self._oldest_row = 0.0
        self._run_row_at = float("-inf")
        self._damaged = False
        self._commits = 0
        self.status: Status = "Running"
        WRITER_METRICS.register()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    @property
    def host_is_alive(self) -> bool:
        """Whether the process that records the run is there."""
        return host_process.is_alive(self._events.run, self._changed_at() / 1e9)

    def _changed_at(self) -> int:
        return max(path.stat().st_mtime_ns for path in self.spool.glob(f"*{SUFFIX}"))

    @property
    def started(self) -> bool:
        """Whether the description of the run has been read."""
        return self._block > 0

    @property
    def committed_block(self) -> int:
        """Number of the last block that is in the lake."""
        return self._committed

    @property
    def waiting_rows(self) -> int:
        """How many rows were taken and are not committed."""
        return len(self._rows) + self._failing

    def take(self, *, live: bool = False) -> bool:
        """Take what the spool holds now, and commit what is due; tells whether there was any.

        Args:
            live: Whether readers follow the run, so that no row may wait longer than
                `COMMIT_SECONDS`; otherwise rows wait until they make a large file.

        Raises:
            SpoolError: When the spool is damaged; what lies before the damage is taken.
            LakeError: When the lake does not take it.
        """
        before = self._block
        for block in self._reader.blocks():
            self._feed(block)
            if len(self._rows) >= COMMIT_ROWS:
                self.commit()
            if live:
                self._commit_if_due()
        if live:
            self._commit_if_due()
        return self._block > before

    def _feed(self, block: Block) -> None:
        new = block.number > self._committed
        if new and block.type is BlockType.EVENTS and not len(self._rows):
            self._oldest_row = time.monotonic()
        self._source.feed(block, new=new)
        self._block = block.number

    def _commit_if_due(self) -> None:
        if self._events.end is not None:
            return  # `finish` follows
        now = time.monotonic()
        if len(self._rows) and now - self._oldest_row >= COMMIT_SECONDS:
            self.commit()
        if self._block and now - self._run_row_at >= RUN_ROW_SECONDS:
            self.record_run("Running")

    def commit(self) -> None:
        """Commit the spans taken so far."""
        if self._block > self._committed and len(self._rows):
            self._commit(self._block)

    def _commit(self, version: int) -> None:
        rows = self._rows.take()
        self._failing = len(rows)
        began, before = time.perf_counter(), self.store.spans.bytes_written
        self.store.append_spans(rows, self.run_id, app_id(self.run_id), version)
        self._failing = 0
        self._committed = version
        taken, written = time.perf_counter() - began, self.store.spans.bytes_written - before
        WRITER_METRICS.committed(self.store.folder, rows.num_rows, written, taken)
        self._completeness.host_counted(self._events.counts)
        WRITER_METRICS.counted(self.run_id, self._completeness.rows("Running"), over=False)
        self._commits += 1

    @property
    def ended(self) -> bool:
        """Whether the host has ended the run and all of it has been taken."""
        return self._source.ended

    def finish(self, crash: str | None = None) -> Status:
        """Commit what is left, with the events that never ended, and record how the run ended.

        Args:
            crash: What went wrong, when the host did not end the run.

        Returns:
            `Ended`, or `Crashed` when the host did not end the run or ended it by an error.
        """
        end = self._events.end
        version = self._block
        if end is None:
            version += 1  # stands for the END block that never came
            self._rows.add_unfinished(new=version > self._committed)
        if version > self._committed:
            self._commit(version)
        crashed = end is None or crash is not None or end.get("status") == "Crashed"
        if not self.started:
            crash = SPOOL_EMPTY
        self.record_run("Crashed" if crashed else "Ended", crash)
        if self._commits >= _MANY_COMMITS:
            self.store.spans.note_files()
        return self.status

    def finish_damaged(self, error: SpoolError) -> PartlyTaken:
        """Finish the run with what lies before the damage of its spool.

        What lies behind is counted, as far as it can be.

        Args:
            error: Says where the damage is.

        Returns:
            The error, and what it means for the run.
        """
        # It says what it knows: a run that goes on when its spool is damaged publishes more.
        lost = count_what_is_lost(self._reader, self._events, self._completeness)
        told = PartlyTaken(f"{error.message} {lost}", next_command=error.next_command)
        self._damaged = True
        self.finish(told.message)
        return told

    def record_run(self, status: Status, error: str | None = None) -> None:
        """Write the run's row in the table of runs."""
        self._rows.settle()
        self._completeness.host_counted(self._events.counts)
        run, end = self._events.run, self._events.end or {}
        rows = self._completeness.rows(status)
        sums = totals(rows)
        ended_at = end.get("ended_at")
        if ended_at is None and status != "Running":
            ended_at = self._changed_at()
        found = {SPOOL_DAMAGED: True} if self._damaged else {}
        known = {"run_id", "mode", "service_name", "host_name", "pid", "started_at", "parameters"}
        self.store.record_run(
            RunRecord(
                self.run_id,
                status,
                mode=run.get("mode"),
                service_name=run.get("service_name"),
                engine=end.get("engine") or run.get("engine"),
                engine_version=end.get("engine_version") or run.get("engine_version"),
                started_at=run.get("started_at"),
                ended_at=ended_at,
                error=error or end.get("error"),
                parameters={**(run.get("parameters") or {}), **(end.get("parameters") or {})},
                metadata={key: run[key] for key in run if key not in known} | found,
                published=sums["published"],
                kept=sums["kept"],
                sampled_out=sums["sampled_out"],
                dropped=sums["dropped"],
                completeness=rows,
                spool_block=self._committed,
                host_name=run.get("host_name"),
                pid=run.get("pid"),
            )
        )
        WRITER_METRICS.counted(self.run_id, rows, over=status != "Running")
        self.status = status
        self._run_row_at = time.monotonic()


def _locked(path: Path, run_id: str, patience: float) -> IO[str]:
    deadline = time.monotonic() + patience
    try:
        file = path.open("a")
    except OSError as error:
        raise FillpathError(
            f"The spool of run '{run_id}' cannot be locked: {error.strerror or error} ({path})."
        ) from error
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                raise WriterBusy(f"Another process is writing run '{run_id}'.") from None
            time.sleep(_LOCK_PAUSE)
        else:
            return file
