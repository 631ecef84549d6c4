"""Bounds how far a spool may run ahead of the process that takes it into the lake."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Final, NamedTuple

from fillpath.instrumentation.spool_writer import SpoolWriter

PROGRESS_NAME: Final = "progress.json"
"""File beside the spool's in which the writer process says how far it has come."""
PATIENCE: Final = 10.0
"""Seconds without progress after which nobody waits for the writer process any longer."""
_PAUSE: Final = 0.01


class Progress(NamedTuple):
    """Place before which everything has been taken, and by which process."""

    file: int = 1
    offset: int = 0
    pid: int = 0


class SpoolLimit:
    """Tells how much of a spool waits to be taken, and waits for it.

    Args:
        spool: The spool.
        max_bytes: How much may wait.
        patience: Seconds without progress after which `wait` gives up.
    """

    def __init__(self, spool: SpoolWriter, max_bytes: int, patience: float = PATIENCE) -> None:
        self._spool = spool
        self._max_bytes = max_bytes
        self._patience = patience
        self._progress = Progress()
        self._given_up: Progress | None = None

    def is_exceeded(self) -> bool:
        """Whether more than the limit waits. Reads a file only if it may be so."""
        if not self._is_beyond():
            return False
        self._progress = self._read()
        return self._is_beyond()

    def _is_beyond(self) -> bool:
        waiting = self._spool.written_behind(self._progress.file, self._progress.offset)
        return waiting > self._max_bytes

    def wait(self) -> bool:
        """Wait until there is room; False if nobody seems to be making any."""
        moved_at = time.monotonic()
        before = self._progress
        while self.is_exceeded():
            if self._progress == self._given_up:
                return False
            if self._progress != before:
                before, moved_at = self._progress, time.monotonic()
            if time.monotonic() - moved_at >= self._patience or not _is_alive(self._progress.pid):
                self._given_up = self._progress
                return False
            time.sleep(_PAUSE)
        self._given_up = None
        return True

    def _read(self) -> Progress:
        """What the writer process says; what it said before if that cannot be read."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found: dict[str, Any] = json.loads((self._spool.folder / PROGRESS_NAME).read_bytes())
            return Progress(int(found["file"]), int(found["offset"]), int(found["pid"]))
        return self._progress


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True
