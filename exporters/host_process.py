"""Tells whether the process that records a run is still there."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fillpath.instrumentation.spool import SUFFIX

_SLACK_SECONDS: Final = 3600.0
"""How much later than the run its process may seem to have begun, for clocks that were set."""
_ELSEWHERE_SECONDS: Final = 3600.0
"""How long the spool of another machine may rest before its host counts as gone."""
_CHECK_SECONDS: Final = 1.0
_PROC: Final = Path("/proc")


def start_mark(pid: int) -> int | None:
    """Give a number that tells this process from a later one of the same id; None when it is gone.

    Where there is no ``/proc``, the number is always 0.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it is another user's, so it is there
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None if _PROC.joinpath("self").exists() else 0
    fields = text.rpartition(")")[2].split()  # the name, in parentheses, may hold anything
    dead = fields[0] in {"Z", "X"}  # its parent has not asked about it yet
    return None if dead else int(fields[19])


def is_here(run: Mapping[str, Any]) -> bool:
    """Tell whether the process that a map of a RUN block names runs on this machine."""
    return run.get("host_name") in {None, platform.node()}


def is_alive(run: Mapping[str, Any], spool_changed_at: float) -> bool:
    """Tell whether the host of a run is alive; in doubt it is.

    A process of the same number that began long after the run is another one. Nobody here can
    tell about a process on another machine, so the spool has to: a writer beside its host would
    hold the run's lock.

    Args:
        run: Map of the run's RUN block.
        spool_changed_at: When the spool grew last, seconds since the epoch.
    """
    if not is_here(run):
        return time.time() - spool_changed_at < _ELSEWHERE_SECONDS
    pid, started_at = run.get("pid"), run.get("started_at")
    mark = start_mark(pid) if isinstance(pid, int) else None
    if not mark or started_at is None:
        return mark is not None
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    began = boot + mark / os.sysconf("SC_CLK_TCK")
    return bool(began <= started_at / 1e9 + _SLACK_SECONDS)


class HostWatch:
    """Watches the process that records a run.

    Args:
        folder: Folder of the run's spool.
        run: Map of the run's RUN block.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self._folder = folder
        self._run = run
        pid = run.get("pid")
        self._pid = pid if isinstance(pid, int) else None
        self._first_mark = self._mark()
        self._gone = False
        self._checked_at = float("-inf")

    def _mark(self) -> int | None:
        return None if self._pid is None else start_mark(self._pid)

    def is_gone(self) -> bool:
        """Tell whether the host is gone; looked at once a second at most."""
        now = time.monotonic()
        if not self._gone and now - self._checked_at >= _CHECK_SECONDS:
            self._checked_at = now
            alive = is_alive(self._run, _grew_at(self._folder))
            # A later process may have got the number since this one began to look.
            self._gone = not alive or (is_here(self._run) and self._mark() != self._first_mark)
        return self._gone


def _grew_at(folder: Path) -> float:
    """When a run's spool grew last, seconds since the epoch."""
    return max((path.stat().st_mtime for path in folder.glob(f"*{SUFFIX}")), default=0.0)
