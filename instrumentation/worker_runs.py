"""Sessions of an optimisation's worker processes: each run of the engine is a run of its own."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.util import Finalize
from typing import Any, Final

from fillpath.instrumentation import identity, settings
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.tracing import Tracing

_log = logging.getLogger(__name__)

_LONGEST_PARENT: Final = 70
_numbers = itertools.count(1)


def is_worker() -> bool:
    """Tell whether this process is one that another Python process has made to work for it.

    That is a child forked from one that records, or any of `multiprocessing`. Such a process may
    end without a word, so what it records must not wait for its end.
    """
    return Tracing.forked_from is not None or multiprocessing.parent_process() is not None


def session_of_worker(parameters: Mapping[str, Any] | None) -> Tracing:
    """Make the session of one run of an engine in a worker process.

    It goes to the data folder of the session that this process was forked from, if it was. Its name
    is that one's, or ``FILLPATH_RUN_ID``, with the worker's process and a number behind it. No
    writer is started: the next command that reads takes the spool into the lake.

    Args:
        parameters: What this run is made with.
    """
    origin = Tracing.forked_from
    given = os.environ.get(settings.ENV_RUN_ID) if origin is None else origin.run_id
    parent = (given or identity.new_run_id())[:_LONGEST_PARENT]
    session = Tracing(
        f"{parent}.{os.getpid()}.{next(_numbers)}",
        portfolio=None if origin is None else origin.portfolio,
        service_name=None if origin is None else origin.service_name,
        parameters=parameters,
        writer="none",
        way="spool",
        otlp="off",
    )
    if origin is not None:
        session.folder, session.mode = origin.folder, origin.mode
        session.delivery, session.lake_sampling = origin.delivery, origin.lake_sampling
    return session


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
    """The session of the engines that live at one time in a worker process.

    It begins with the first one and ends when all have been disposed of, or with the process.
    """

    def __init__(self) -> None:
        self._session: Tracing | None = None
        self._engines = 0

    def join(self) -> Tracing | None:
        """Give the session to one more engine; None when the host has started one of its own.

        Raises:
            FillpathError: When it cannot be started.
        """
        own = self._session
        if own is None or not own.running:
            if Tracing.active() is not None:
                return None
            self._session = own = session_of_worker(None).start()
            self._engines = 0
            # What `atexit` is told is not heard in a worker.
            Finalize(None, self._end, exitpriority=1)
        self._engines += 1
        return own if own.running else None

    def leave(self) -> None:
        """Note that an engine has been disposed of."""
        self._engines -= 1
        if self._engines <= 0:
            self._end()

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            end_session(session)
