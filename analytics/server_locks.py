"""The locks by which the processes around an embedded Postgres know of each other.

Who uses the server holds a shared lock on ``users.lock``; who starts it, an exclusive one on
``start.lock``; and the server's own processes, and nobody else, hold ``server.lock``. So whether
it lives is a question to the kernel, not to a pid file that may be stale or speak of another
container. The kernel drops the locks of a process that dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fillpath.analytics.results_error import ResultsError
from fillpath.analytics.server_folder import ServerFolder, quoted

LOCK_SECONDS: Final = 30.0
"""How long to wait for another process that starts or stops the server."""
STOP_SECONDS: Final = 20.0
"""How long a stop may take."""
POLL_SECONDS: Final = 0.005
"""How often to look for what cannot be waited for."""


def try_lock(descriptor: int, mode: int) -> bool:
    """Take the lock if it is free at this moment; tell whether it was."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(folder: ServerFolder, path: Path, mode: int) -> Iterator[int]:
    """Hold the lock on the file `path`, waiting for it; yields the file's descriptor.

    Raises:
        ResultsError: Another process does not give it up.
        OSError: The file cannot be opened or locked.
    """
    descriptor = folder.open(path, os.O_RDWR)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not try_lock(descriptor, mode):
            if time.monotonic() > deadline:
                raise ResultsError(
                    f"The results folder {folder.path} is locked: another process has been "
                    f"starting or stopping its Postgres for {LOCK_SECONDS:.0f} seconds.",
                    next_command=f"fuser -v {quoted(path)}",
                )
            time.sleep(POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def lives(folder: ServerFolder) -> bool:
    """Tell whether a process of the server's lives.

    Raises:
        OSError: The lock cannot be looked at.
    """
    descriptor = folder.open(folder.server_lock, os.O_RDONLY)
    try:
        return not try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def await_stop(folder: ServerFolder) -> None:
    """Return when the server has stopped, as soon as somebody uses it, or after a while.

    Raises:
        OSError: The locks cannot be looked at.
    """
    users = folder.open(folder.users_lock, os.O_RDWR)
    try:
        deadline = time.monotonic() + STOP_SECONDS
        while lives(folder) and time.monotonic() < deadline:
            # The keeper waits for the exclusive lock, and holds it while it stops the server.
            if try_lock(users, fcntl.LOCK_EX):
                fcntl.flock(users, fcntl.LOCK_UN)
            elif try_lock(users, fcntl.LOCK_SH):
                fcntl.flock(users, fcntl.LOCK_UN)
                return
            time.sleep(POLL_SECONDS)
    finally:
        os.close(users)
