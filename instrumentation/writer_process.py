"""The writer process as a host sees it: started when there is none, looked after, waited for."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Final

from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.writer_files import (
    LOG_NAME,
    Progress,
    await_run,
    release_lock,
    take_lock,
)

_log = logging.getLogger(__name__)

WRITER_MODULE: Final = "fillpath.exporters"
PATIENCE_SECONDS: Final = 120.0
"""How long a host waits at the end of a run for a writer that makes no progress."""
_WATCH_SECONDS: Final = 5.0
_LONGEST_WATCH_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.25
_SPAWNS_AT_THE_END: Final = 3
_MAX_LOG_BYTES: Final = 1 << 20
_KEEPS_MEMORY: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
    "MALLOC_TOP_PAD_": str(8 << 20),
}
"""Lets glibc use the memory of one batch for the next: to give it back and to get it anew, page by
page, is a twentieth of the writer's work."""

_spawned: list[subprocess.Popen[bytes]] = []
_no_fork = threading.RLock()
"""Held while the lock is in this process: a forked child would keep its copy for ever."""


class WriterProcess:
    """Sees to it that one run is followed by the writer process of its data folder.

    Every run of a data folder has the same writer process: the first run starts it, and it looks
    for the others by itself. Call `start` after the run's spool has been made.

    Args:
        data: The data folder.
        run_id: The run.
    """

    def __init__(self, data: DataFolder, run_id: str) -> None:
        self._data = data
        self._folder = data.spool / run_id
        self._run_id = run_id
        self._stopped = threading.Event()
        self._complained = False
        self._spawns = 0

    def start(self) -> None:
        """Start the writer unless it is there, and see from time to time that it still is."""
        self._see_to_it()
        threading.Thread(target=self._watch, name="fillpath-writer", daemon=True).start()

    def _see_to_it(self, most_spawns: int | None = None) -> bool:
        """Start a writer unless there is one; tells whether there is one now."""
        try:
            with _no_fork:
                lock = take_lock(self._data.spool)
                if lock is None:
                    return True
                if most_spawns is not None and self._spawns >= most_spawns:
                    release_lock(lock)
                    return False
                self._spawn(lock)
        except OSError as error:
            if not self._complained:
                _log.warning("fillpath could not start its writer (%s); the spool waits", error)
            self._complained = True
            return False
        return True

    def _spawn(self, lock: int) -> None:
        """Start a writer that holds the lock from its birth, so that there is never a second."""
        self._spawns += 1
        try:
            spawn_exporter(
                ["--lock", str(lock)], self._data, self._data.spool / LOG_NAME, keeping=(lock,)
            )
        finally:
            release_lock(lock)

    def _watch(self) -> None:
        pause = _WATCH_SECONDS
        while not self._stopped.wait(pause):
            before = self._spawns
            self._see_to_it()
            if self._spawns > before:
                pause = min(2 * pause, _LONGEST_WATCH_SECONDS)
            self._complain(Progress.read(self._folder))

    def _complain(self, progress: Progress | None) -> None:
        if progress is not None and progress.error is not None and not self._complained:
            self._complained = True
            _log.warning("The host goes on. %s", self._trouble(progress))

    def _trouble(self, progress: Progress) -> FillpathError:
        if progress.state == "ended":  # its spool is damaged, and no command can bring in more
            return FillpathError(
                f"Run '{self._run_id}' is only partly in the lake: {progress.error} Its spool is "
                f"kept in {self._folder}.",
                next_command=progress.next_command or "fillpath doctor",
            )
        return FillpathError(
            f"Run '{self._run_id}' is not in the lake: {progress.error} Its spool is kept in "
            f"{self._folder}, and the next command that reads brings it in.",
            next_command=progress.next_command or "fillpath doctor",
        )

    def wait(self) -> None:
        """Wait until the run, which has ended, is in the lake.

        A writer that makes no progress is not waited for longer than `PATIENCE_SECONDS`.

        Raises:
            FillpathError: When the writer could not bring the run in, or none stays alive.
        """
        self._stopped.set()
        await_run(self._folder)
        pause, looked_at = 0.01, float("-inf")
        most_spawns = self._spawns + _SPAWNS_AT_THE_END
        seen, moved_at = (0, 0), time.monotonic()
        while not self._is_over():
            now = time.monotonic()
            progress = Progress.read(self._folder)
            if progress is not None and seen != (progress.block, progress.committed_block):
                seen, moved_at = (progress.block, progress.committed_block), now
            if now - moved_at >= PATIENCE_SECONDS:
                _log.warning("fillpath's writer is still busy with run %s", self._run_id)
                return
            if now - looked_at >= _LOOK_SECONDS:
                looked_at = now
                if not self._see_to_it(most_spawns) and not self._is_over():
                    raise self._no_writer()
            time.sleep(pause)
            pause = min(1.2 * pause, 0.1)

    def _is_over(self) -> bool:
        """Tell whether the run is in the lake."""
        progress = Progress.read(self._folder)
        if progress is None or progress.state not in {"ended", "gave_up"}:
            return False
        if progress.state == "gave_up" or progress.error is not None:
            raise self._trouble(progress)
        return True

    def _no_writer(self) -> FillpathError:
        return FillpathError(
            f"Run '{self._run_id}' is not in the lake: no writer stays alive "
            f"({self._data.spool / LOG_NAME} may tell why). Its spool is kept in {self._folder}.",
            next_command="fillpath doctor",
        )


def spawn_exporter(
    arguments: Sequence[str], data: DataFolder, log: Path, *, keeping: Collection[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a process of the second floor for a data folder; it may outlive this one.

    Args:
        arguments: What it is to do.
        data: The data folder.
        log: Where its stderr goes.
        keeping: Descriptors that it inherits.

    Raises:
        OSError: When it cannot be started.
    """
    command = [sys.executable, "-P", "-m", WRITER_MODULE, "--data", str(data.path), *arguments]
    with _open_log(log) as output:
        # A session of its own: Ctrl-C and a closed terminal are for the host to answer.
        # Nothing of the host's stays open in it: it may outlive the host.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
            env={**_KEEPS_MEMORY, **os.environ},
            pass_fds=tuple(keeping),
        )
    _spawned[:] = [one for one in _spawned if one.poll() is None] + [process]
    return process


def _open_log(path: Path) -> IO[bytes]:
    with contextlib.suppress(OSError):
        if path.stat().st_size > _MAX_LOG_BYTES:
            path.unlink()
    return path.open("ab")


def _let_go() -> None:
    # A writer may outlive this process, which is meant: nothing to warn about.
    for process in _spawned:
        if process.poll() is None:
            process.returncode = 0
    _spawned.clear()


def _after_fork_in_child() -> None:
    _let_go()
    _no_fork.release()


atexit.register(_let_go)
os.register_at_fork(
    before=_no_fork.acquire,
    after_in_parent=_no_fork.release,
    after_in_child=_after_fork_in_child,
)
