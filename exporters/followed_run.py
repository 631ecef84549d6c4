"""One run that the writer process brings into the lake while it is recorded."""

from __future__ import annotations

import logging
import os
import time
from typing import Any, Final

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.host_process import HostWatch
from fillpath.exporters.paced_reader import PacedReader
from fillpath.exporters.run_writer import RunWriter, WriterBusy
from fillpath.exporters.writer_metrics import WRITER_METRICS
from fillpath.instrumentation.errors import FillpathError, SpoolError
from fillpath.instrumentation.writer_files import Progress, State, is_awaited

_log = logging.getLogger(__name__)

HOST_DIED: Final = "The process ended without ending the run."
_PUBLISH_SECONDS: Final = 0.2
_REFRESH_SECONDS: Final = 2.0
_BUSY_SECONDS: Final = 0.5
_BUSY_PATIENCE_SECONDS: Final = 60.0
_FIRST_RETRY_SECONDS: Final = 1.0
_LONGEST_RETRY_SECONDS: Final = 30.0
_LAST_TRIES: Final = 2
"""Attempts after the host has ended the run or has gone; the second opens the lake anew."""


class FollowedRun:
    """Takes one run from its first block to its last, a share at a time.

    What goes wrong is kept apart: it is published in the run's `progress.json`, and tried again
    until the host has ended the run and further attempts have failed too.

    Args:
        store: The lake.
        run_id: The run.
        run: Its description, as the spool has it.

    Attributes:
        store: The lake; opened anew after an error.
        committed_at: When rows were committed last, by the monotonic clock.
    """

    def __init__(self, store: EventStore, run_id: str, run: dict[str, Any]) -> None:
        self.run_id = run_id
        self.folder = store.folder.spool / run_id
        self.store = store
        self._host = HostWatch(self.folder, run)
        self._writer: RunWriter | None = None
        self._reader: PacedReader | None = None
        self._progress = Progress(os.getpid())
        self._published_at = float("-inf")
        self._was_awaited = False
        self._last_tries = 0
        self._retry_at = float("-inf")
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._busy_since: float | None = None
        self.committed_at = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self._progress.state in {"ended", "gave_up"}

    @property
    def behind(self) -> bool:
        """Whether the spool held more than the last share."""
        return self._reader is not None and self._reader.stopped_short

    @property
    def waiting_rows(self) -> int:
        """How many rows were taken and are not committed."""
        return 0 if self._writer is None else self._writer.waiting_rows

    def step(self, *, live: bool) -> bool:
        """Take the next share of the spool; tells whether there was any.

        Args:
            live: Whether rows that are a second old are committed even if they are few.
        """
        if self._rests():
            return False
        busy = False
        try:
            busy = self._take(live=live)
        except WriterBusy as error:
            self._wait_for_the_other(error)
        except SpoolError as error:
            self._record_damage(error)
        except Exception as error:  # noqa: BLE001 - it must not keep the other runs out
            self._fail(error)
        else:
            self._note_progress()
        return busy

    def commit(self) -> None:
        """Commit what was taken, to make room for more."""
        if self._writer is not None:
            try:
                self._writer.commit()
            except Exception as error:  # noqa: BLE001
                self._fail(error)

    def leave(self) -> None:
        """Commit what was taken, and leave the rest to the next writer."""
        if self._writer is not None and self._writer.started:
            try:
                self._writer.commit()
                self._writer.record_run("Running")
            except Exception as error:  # noqa: BLE001 - the next writer will tell
                _log.warning("Run '%s' waits in its spool: %s", self.run_id, error)
            self._note_progress(at_once=True)
        self.close()

    def close(self) -> None:
        """Let go of the run as it is; what was taken and not committed is still in the spool."""
        if self._writer is not None:
            self._writer.__exit__()
        self._writer = self._reader = None

    def _rests(self) -> bool:
        if time.monotonic() >= self._retry_at:
            return False
        newly_awaited = not self._was_awaited and is_awaited(self.folder)
        return self._busy_since is not None or not newly_awaited

    def _take(self, *, live: bool) -> bool:
        writer = self._writer or self._open()
        gone = self._host.is_gone()  # asked first: what it wrote before it went is read then
        before = writer.committed_block
        busy = writer.take(live=live)
        if writer.ended:
            writer.finish()
            self._end()
        elif gone and not busy:
            writer.finish(HOST_DIED)
            self._end()
        if writer.committed_block != before:
            self.committed_at = time.monotonic()
            self._retry_seconds = _FIRST_RETRY_SECONDS
        return busy

    def _open(self) -> RunWriter:
        self._was_awaited = is_awaited(self.folder)
        self._reader = PacedReader(self.folder, in_shares=True)
        self._writer = RunWriter(self.store, self.run_id, reader=self._reader)
        self._busy_since = None
        return self._writer

    def _end(self, error: FillpathError | None = None) -> None:
        self._note_progress("ended", error, at_once=True)
        self.close()

    def _wait_for_the_other(self, error: WriterBusy) -> None:
        """Come back later: a command is bringing the run in, and may finish it."""
        progress = Progress.read(self.folder)
        if progress is not None and progress.state == "ended":
            self._progress = progress
            return
        now = time.monotonic()
        self._busy_since = self._busy_since or now
        self._retry_at = now + _BUSY_SECONDS
        if now - self._busy_since >= _BUSY_PATIENCE_SECONDS and self._is_finished_by_host():
            self._note_progress("gave_up", error, at_once=True)

    def _record_damage(self, error: SpoolError) -> None:
        """Close the run in the lake: what lies behind the damage cannot be read."""
        writer = self._writer
        if writer is None or not writer.started:  # of another version, which a later one can read
            self._note_progress("gave_up", error, at_once=True)
            self.close()
            return
        try:
            told = writer.finish_damaged(error)
        except Exception as failure:  # noqa: BLE001
            self._fail(failure)
        else:
            self._end(told)

    def _fail(self, error: Exception) -> None:
        """Begin again from the spool later, since rows may be lost that were taken already."""
        WRITER_METRICS.failed(error)
        if not isinstance(error, FillpathError):
            _log.error("Run '%s' failed", self.run_id, exc_info=error)
        last = self._was_awaited or self._host.is_gone()
        self._last_tries += last
        gives_up = self._last_tries >= _LAST_TRIES
        self._note_progress("gave_up" if gives_up else "retrying", error, at_once=True)
        self.close()
        self.store = EventStore(self.store.folder)  # the tables may have been replaced
        self._retry_at = time.monotonic() + (0.0 if last else self._retry_seconds)
        self._retry_seconds = min(2 * self._retry_seconds, _LONGEST_RETRY_SECONDS)

    def _is_finished_by_host(self) -> bool:
        return is_awaited(self.folder) or self._host.is_gone()

    def _note_progress(
        self, state: State = "following", error: Exception | None = None, *, at_once: bool = False
    ) -> None:
        """Publish how far the run is, now or when it is time to."""
        now, before = time.monotonic(), self._progress
        moved = self._reader is not None and self._reader.block != before.block
        if self._writer is not None and self._writer.committed_block != before.committed_block:
            moved = True
        pause = _PUBLISH_SECONDS if moved else _REFRESH_SECONDS
        if self.over or (not at_once and now - self._published_at < pause):
            return
        if error is not None and state != "retrying":
            _log.warning("Run '%s' is not in the lake as a whole: %s", self.run_id, error)
        made = before
        if self._reader is not None and self._writer is not None:
            made = self._reader.progress(self._writer.committed_block, self._writer.waiting_rows)
        self._progress = made.become(state, error)
        WRITER_METRICS.lags(self.run_id, None if self.over else made.lag_bytes)
        self._progress.write(self.folder)
        self._published_at = now
