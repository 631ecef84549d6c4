"""The writer process of a data folder: brings every run that is being recorded into the lake.

There is one at a time: it holds the lock of the folder as long as it lives. It looks for runs by
itself, takes them in turn, a share each, and leaves when there has been none for a while. Before it
leaves it gives up the lock and looks once more: a host that found the lock taken has made its spool
before, so the run is seen; one that found it free has started the next writer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
from collections.abc import Callable
from typing import Final

from fillpath.exporters import host_process
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.followed_run import FollowedRun
from fillpath.exporters.run_description import described, home_of
from fillpath.exporters.writer_metrics import WRITER_METRICS
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.writer_files import (
    HEARTBEAT_NAME,
    Heartbeat,
    Progress,
    holds_lock,
    release_lock,
    take_lock,
)

_log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 3.0
"""How long the process waits for another run."""
MAX_WAITING_ROWS: Final = 400_000
"""Rows of all runs together that may wait in memory for their commit."""
_COMMITTING_SHARE: Final = 4.0
"""Committing may take one part in so many of the time, unless rows are many."""
_LONGEST_BEHIND_SECONDS: Final = 5.0
_SHORT_PAUSE: Final = 0.02
_LONG_PAUSE: Final = 0.1
_LOOK_SECONDS: Final = 0.05
_LOOK_AGAIN_SECONDS: Final = 1.0
_CLOCK_TICK_NS: Final = 50_000_000
"""More than file systems round the time of a change."""
_BEAT_SECONDS: Final = 1.0


class WriterService:
    """Follows every run of a data folder whose host wants it to.

    Args:
        data: The data folder.
        lock: Descriptor that holds the folder's lock (see `take_lock`); the service owns it.
        idle_seconds: How long to wait for another run before leaving.
        leaving: Tells that the process should leave although runs go on.
    """

    def __init__(
        self,
        data: DataFolder,
        lock: int,
        *,
        idle_seconds: float = IDLE_SECONDS,
        leaving: Callable[[], bool] = lambda: False,
    ) -> None:
        self._data = data
        self._lock: int | None = lock
        self._idle_seconds = idle_seconds
        self._leaving = leaving
        self._stores: dict[DataFolder, EventStore] = {}
        self._runs: dict[str, FollowedRun] = {}
        self._known: dict[str, int] = {}
        self._looked_at = float("-inf")
        self._seen_at: int | None = None
        self._beat_at = float("-inf")
        self._commit_seconds = 0.0
        mark = host_process.start_mark(os.getpid()) or 0
        self._heartbeat = Heartbeat(os.getpid(), platform.node(), mark, time.time_ns())

    def serve(self) -> None:
        """Follow runs until there are none, or until told to leave."""
        idle_since, pause = time.monotonic(), _SHORT_PAUSE
        self._beat()
        while not self._leaving() and self._is_in_charge():
            self._look_for_runs()
            followed = bool(self._runs)  # a short run may be over after one turn
            busy = self._take_turns()
            now = time.monotonic()
            if followed:
                idle_since = now
                if now - self._beat_at >= _BEAT_SECONDS:
                    self._beat()
            elif now - idle_since >= self._idle_seconds:
                if not self._give_up_the_lock():
                    return
                idle_since = now
            pause = _SHORT_PAUSE if busy else min(1.5 * pause, _LONG_PAUSE)
            if not busy:
                time.sleep(pause)
        self._leave()

    def _is_in_charge(self) -> bool:
        """Tell whether the folder is still the one whose lock this is; it may have been deleted."""
        return self._lock is not None and holds_lock(self._data.spool, self._lock)

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._heartbeat.with_runs(len(self._runs)).write(self._data.spool)

    def _look_for_runs(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        try:
            changed_at = self._data.spool.stat().st_mtime_ns
            settled = time.time_ns() - changed_at > _CLOCK_TICK_NS
            if changed_at == self._seen_at and now - self._looked_at < _LOOK_AGAIN_SECONDS:
                return  # thousands of runs may lie here
            with os.scandir(self._data.spool) as entries:
                found = {one.name: one.inode() for one in entries if one.is_dir()}
        except OSError:
            return
        self._looked_at = now
        self._known = {name: inode for name, inode in self._known.items() if name in found}
        decided = True
        for name, inode in found.items():
            if self._known.get(name) == inode or name in self._runs:
                continue
            if self._adopt(name):
                self._known[name] = inode
            else:
                decided = False
        self._seen_at = changed_at if settled and decided else None

    def _adopt(self, run_id: str) -> bool:
        """Take a run up if it is one to follow; tells whether that is decided."""
        folder = self._data.spool / run_id
        progress = Progress.read(folder)
        if progress is not None and progress.state == "ended":
            return True
        if not self._runs:
            self._stores.clear()  # the tables may have been replaced
        try:
            run = described(folder)
            home = home_of(self._data, run)
            store = self._stores.get(home) or EventStore(home)
        except FillpathError as error:
            Progress(os.getpid()).become("gave_up", error).write(folder)
            return True
        except OSError:
            return False
        if run is None:  # it is just being made
            return False
        self._stores[home] = store
        if run.get("writer", "process") == "process":
            self._runs[run_id] = FollowedRun(store, run_id, run)
        return True

    def _take_turns(self) -> bool:
        busy = False
        for run_id, run in list(self._runs.items()):
            began, committed_at = time.monotonic(), run.committed_at
            busy |= run.step(live=self._may_commit_few(run, began))
            if run.committed_at != committed_at:
                taken = time.monotonic() - began
                self._commit_seconds += (taken - self._commit_seconds) / 4
            # Opened anew if it failed: what it failed of would also fail the next run.
            self._stores[run.store.folder] = run.store
            if run.over:
                del self._runs[run_id]
        WRITER_METRICS.follows(len(self._runs))
        if sum(run.waiting_rows for run in self._runs.values()) > MAX_WAITING_ROWS:
            max(self._runs.values(), key=lambda run: run.waiting_rows).commit()
        return busy

    def _may_commit_few(self, run: FollowedRun, now: float) -> bool:
        """Tell whether a run may commit rows for being old, though they are few.

        Many runs would make so many small commits that nothing else got done; and while a run is
        behind, what readers miss is not in these rows anyway.
        """
        age = now - run.committed_at
        if run.behind and age < _LONGEST_BEHIND_SECONDS:
            return False
        return age >= _COMMITTING_SHARE * self._commit_seconds * len(self._runs)

    def _give_up_the_lock(self) -> bool:
        """Make room for the next writer; tells whether there is something to stay for after all."""
        if self._lock is not None:
            release_lock(self._lock)
            self._lock = None
        self._looked_at = float("-inf")
        self._look_for_runs()
        if not self._runs:
            self._remove_heartbeat()
            return False
        try:
            self._lock = take_lock(self._data.spool)
        except OSError:
            self._lock = None
        return self._lock is not None

    def _remove_heartbeat(self) -> None:
        heartbeat = Heartbeat.read(self._data.spool)
        if heartbeat is not None and heartbeat.pid == os.getpid():
            with contextlib.suppress(OSError):
                (self._data.spool / HEARTBEAT_NAME).unlink()

    def _leave(self) -> None:
        in_charge = self._is_in_charge()
        for run in self._runs.values():
            if in_charge:
                run.leave()
            else:
                run.close()
        self._runs.clear()
        self._remove_heartbeat()
        if self._lock is not None:
            release_lock(self._lock)
            self._lock = None
