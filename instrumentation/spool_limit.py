"""Bounds how far a spool may run ahead of the process that takes it into the lake."""

from __future__ import annotations

import os
import time
from typing import Final, NamedTuple

from fillpath.instrumentation.spool_writer import SpoolWriter
from fillpath.instrumentation.writer_files import Progress

PATIENCE: Final = 10.0
"""Seconds without progress after which nobody waits for the writer process any longer."""
_PAUSE: Final = 0.01


class _Taken(NamedTuple):
    """Place before which everything has been taken, and the process that takes it, if any does."""

    file: int = 1
    offset: int = 0
    pid: int = 0


class SpoolLimit:
    """Tells how much of a spool waits to be taken, and waits for it.

    Args:
        spool: The spool.
        max_bytes: How much may wait.
        is_expected: Whether a writer process has been started, so that it will be there soon.
        patience: Seconds without progress after which `wait` gives up.
    """

    def __init__(
        self,
        spool: SpoolWriter,
        max_bytes: int,
        *,
        is_expected: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        self._spool = spool
        self._max_bytes = max_bytes
        self._is_expected = is_expected
        self._patience = patience
        self._taken = _Taken()
        self._given_up: _Taken | None = None

    def is_exceeded(self) -> bool:
        """Whether more than the limit waits. Reads a file only if it may be so."""
        if not self._is_beyond():
            return False
        self._taken = self._read()
        return self._is_beyond()

    def _is_beyond(self) -> bool:
        waiting = self._spool.written_behind(self._taken.file, self._taken.offset)
        return waiting > self._max_bytes

    def lag(self) -> int:
        """Bytes that wait to be taken."""
        taken = self._read()
        return max(0, self._spool.written_behind(taken.file, taken.offset))

    def wait(self) -> bool:
        """Wait until there is room; False if nobody seems to be making any."""
        moved_at = time.monotonic()
        before = self._taken
        while self.is_exceeded():
            if self._taken == self._given_up:
                return False
            if self._taken != before:
                before, moved_at = self._taken, time.monotonic()
            if time.monotonic() - moved_at >= self._patience or not self._is_being_taken():
                self._given_up = self._taken
                return False
            time.sleep(_PAUSE)
        self._given_up = None
        return True

    def _is_being_taken(self) -> bool:
        if self._taken == _Taken():
            return self._is_expected
        return _is_alive(self._taken.pid)

    def _read(self) -> _Taken:
        """What the writer process says; what it said before if that makes no sense."""
        found = Progress.read(self._spool.folder)
        if found is None or found.file < 1:
            return self._taken
        is_taking = found.state in {"following", "retrying"}
        return _Taken(found.file, found.offset, found.pid if is_taking else 0)


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
