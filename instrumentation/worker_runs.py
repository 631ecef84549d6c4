"""Sessions of an optimisation's worker processes: each run of the engine is a run of its own."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.util import Finalize
from typing import Any, Final

from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.tracing import Tracing
from fillpath.instrumentation.worker_origin import WorkerOrigin

_log = logging.getLogger(__name__)

_LONGEST_PARENT: Final = 70
_numbers = itertools.count(1)


def is_worker() -> bool:
    """Tell whether this process is one that another Python process has made to work for it.

    That is a child forked from one that records, or any of `multiprocessing`. Such a process may
    end without a word, so what it records must not wait for its end.
    """
    return WorkerOrigin.known() is not None or multiprocessing.parent_process() is not None


def session_of_worker(parameters: Mapping[str, Any] | None = None) -> Tracing:
    """Make the session of one run of an engine in a worker process.

    It goes to the data folder of the session of the process that made this one, if there was one.
    Its name is that one's, else ``FILLPATH_RUN_ID``, else one that all workers of that process have
    in common, with the worker's process and a number behind it. No writer is started: the next
    command that reads takes the spool into the lake.

    Args:
        parameters: What this run is made with.
    """
    origin = WorkerOrigin.of_this_process()
    parent = origin.run_id[:_LONGEST_PARENT]
    return origin.session(f"{parent}.{os.getpid()}.{next(_numbers)}", parameters)


def end_session(session: Tracing, error: BaseException | None = None) -> None:
    """End a session that belongs to a run of the engine; the host is only told if that fails.

    Args:
        session: The session.
        error: What the run failed with.
    """
    try:
        session.stop(error=error)
    except FillpathError as failure:
        _log.warning("%s", failure)


class WorkerSession:
    """The session of the engines that run at one time in a worker process.

    It begins with the first one and ends when all have ended, or with the process. A worker runs
    one after the other as a rule, so each has a session of its own. Those that overlap, in threads
    or in an event loop, share one: a process records one run at a time.
    """

    def __init__(self) -> None:
        self._session: Tracing | None = None
        self._engines = 0
        self._error: BaseException | None = None
        self._is_ended_with_process = False

    def is_own(self, session: Tracing) -> bool:
        """Tell whether a session is this one, and none that the host has started."""
        return session is self._session

    def join(self) -> Tracing | None:
        """Give the session to one more engine; None if the run is not to be recorded.

        Whoever gets it must `leave` it.

        Raises:
            FillpathError: When it cannot be started.
        """
        with Tracing._lock:
            own = self._session
            if own is None or not own.running:
                own = session_of_worker().start()
                if not own.running:
                    return None
                self._session, self._engines, self._error = own, 0, None
                if not self._is_ended_with_process:
                    self._is_ended_with_process = True
                    # What `atexit` is told is not heard in a worker.
                    Finalize(None, self._end, exitpriority=1)
            self._engines += 1
            return own

    def leave(self, session: Tracing, error: BaseException | None = None) -> None:
        """Note that an engine has ended that was given the session.

        Args:
            session: What `join` gave.
            error: What it failed with.
        """
        with Tracing._lock:
            if session is not self._session:
                return  # it has been stopped, by the host or by the end of the process
            self._error = self._error or error
            self._engines -= 1
            if self._engines <= 0:
                self._end()  # nobody may join meanwhile, so the lock is kept

    def _end(self) -> None:
        with Tracing._lock:
            session, self._session = self._session, None
            error, self._error = self._error, None
            if session is not None:
                end_session(session, error)


of_this_process: WorkerSession = WorkerSession()
"""The one that all engines of a worker process share."""


def _after_fork_in_child() -> None:
    of_this_process.__init__()  # type: ignore[misc]  # the parent's session is the parent's


os.register_at_fork(after_in_child=_after_fork_in_child)
