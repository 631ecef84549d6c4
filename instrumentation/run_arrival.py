"""Waits until what a run has recorded has arrived: in the lake, and at the OTLP destination."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fillpath.instrumentation.forwarder_files import Forwarding
from fillpath.instrumentation.writer_files import Progress

Place = tuple[int, int]
"""Number of a file of the spool, and a place in it."""
_LOOK_SECONDS: Final = 0.02


def await_lake(folder: Path, place: Place | None, deadline: float) -> bool:
    """Wait until the lake holds what a run's spool held before a place; tells whether it does.

    Args:
        folder: Folder of the run's spool.
        place: The place; None means the whole of a run that has ended.
        deadline: Until when to wait, by the monotonic clock.
    """
    behind: int | None = None

    def arrived() -> bool | None:
        nonlocal behind
        progress = Progress.read(folder)
        if progress is None:
            return None
        if progress.state == "gave_up" or (progress.state == "ended" and progress.error):
            return False
        if progress.state == "ended":
            return True
        if progress.state != "following":  # it begins again from what is in the lake
            return None
        if place is None or (progress.file, progress.offset) < place:
            return None
        if behind is None:
            behind = progress.block
        return (not progress.waiting_rows or progress.committed_block >= behind) or None

    return _await(arrived, deadline)


def await_destination(folder: Path, place: Place | None, deadline: float) -> bool:
    """Wait until a run's OTLP destination has taken what was before a place; tells whether it has.

    What the destination turned down is not there, so the answer is no from then on.

    Args:
        folder: Folder of the run's spool.
        place: The place; None means the whole of a run that has ended.
        deadline: Until when to wait, by the monotonic clock.
    """

    def arrived() -> bool | None:
        forwarding = Forwarding.read(folder)
        if forwarding is None:
            return None
        if not forwarding.is_whole or forwarding.state == "gave_up":
            return False
        if forwarding.state == "ended":
            return True
        return True if place is not None and (forwarding.file, forwarding.offset) >= place else None

    return _await(arrived, deadline)


def _await(arrived: Callable[[], bool | None], deadline: float) -> bool:
    while (answer := arrived()) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(min(_LOOK_SECONDS, max(deadline - time.monotonic(), 0.001)))
    return answer
