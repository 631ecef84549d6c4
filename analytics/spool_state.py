"""What is known about a run that is not completely in the lake: its host, its writer, its lag."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fillpath.exporters import host_process
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.run_description import described
from fillpath.exporters.run_writer import LOCK_NAME, app_id
from fillpath.instrumentation.errors import LakeError, SpoolError
from fillpath.instrumentation.spool import (
    COLUMNS,
    HEADER,
    NO_TIME,
    SUFFIX,
    Block,
    BlockType,
    Flag,
    SpoolReader,
)
from fillpath.instrumentation.writer_files import Heartbeat, Progress

_START: Final = COLUMNS.index("start")
_PLACE: Final = COLUMNS.index("place")
_FINISH: Final = int(Flag.FINISH) << 32
SILENT_SECONDS: Final = 30.0
"""Age of a heartbeat from which on its process counts as hanging."""


@dataclass(frozen=True, slots=True)
class WriterState:
    """The writer process of a data folder.

    Attributes:
        pid: The process; None when there is none.
        heartbeat_seconds: Age of its last sign of life.
    """

    pid: int | None = None
    heartbeat_seconds: float | None = None

    @classmethod
    def of(cls, spool: Path) -> WriterState:
        """Ask the heartbeat in the folder of all spools."""
        heartbeat = Heartbeat.read(spool)
        if heartbeat is None:
            return cls()
        age = max(0.0, (time.time_ns() - heartbeat.updated_at) / 1e9)
        if host_process.is_here({"host_name": heartbeat.host_name}):
            if host_process.start_mark(heartbeat.pid) != heartbeat.mark:
                return cls()
        elif age > SILENT_SECONDS:
            return cls()
        return cls(heartbeat.pid, age)

    @property
    def hangs(self) -> bool:
        """Whether it shows no sign of life."""
        return self.heartbeat_seconds is not None and self.heartbeat_seconds > SILENT_SECONDS


@dataclass(slots=True)
class SpoolState:
    """One spool, compared with the lake.

    Attributes:
        run_id: The run.
        wanted_writer: `process`, `inline` or `none`; what its host asked for.
        host_pid: The process that records it.
        host_alive: Whether it is there.
        ended: Whether it has ended the run.
        is_written: Whether a process is bringing it into the lake.
        progress: How far that is.
        events: Events that are not in the lake.
        blocks: Blocks that are not in the lake.
        bytes: Bytes that are not in the lake.
        seconds: Age of the oldest event that is not in the lake; None when there is none.
    """

    run_id: str
    wanted_writer: str = "process"
    host_pid: int | None = None
    host_alive: bool = False
    ended: bool = False
    is_written: bool = False
    progress: Progress | None = None
    events: int = 0
    blocks: int = 0
    bytes: int = 0
    seconds: float | None = None

    @classmethod
    def of(cls, folder: Path, store: EventStore) -> SpoolState:
        """Read a spool.

        Raises:
            SpoolError: When it is damaged.
        """
        state = cls(folder.name, progress=Progress.read(folder), is_written=_is_written(folder))
        try:
            committed = store.spans.transaction_version(app_id(folder.name)) or 0
        except LakeError:
            committed = 0  # the lake's own check tells
        run: dict[str, Any] = {}
        for block in SpoolReader(folder).blocks():
            if block.type is BlockType.RUN:
                run = run or dict(block.value())
            state.ended |= block.type is BlockType.END
            if block.number > committed:
                state._count(block, run.get("clock_offset") or 0)
        state.wanted_writer = run.get("writer", "process")
        state.host_pid = run.get("pid")
        state.host_alive = bool(run) and host_process.is_alive(run, _changed_at(folder))
        return state

    def _count(self, block: Block, clock_offset: int) -> None:
        self.blocks += 1
        self.bytes += HEADER.size + len(block.payload)
        if block.type is not BlockType.EVENTS:
            return
        # An event that caused others has a second record for its end.
        self.events += sum(not place & _FINISH for place in block.column(_PLACE))
        if self.seconds is None:
            starts = [start for start in block.column(_START) if start != NO_TIME]
            if starts:
                oldest = min(starts) + clock_offset
                self.seconds = max(0.0, (time.time_ns() - oldest) / 1e9)

    def facts(self, writer: WriterState) -> dict[str, Any]:
        """Give all of it for JSON."""
        progress = self.progress
        return {
            "run_id": self.run_id,
            "host": {"pid": self.host_pid, "alive": self.host_alive, "ended": self.ended},
            "writer": {
                "wanted": self.wanted_writer,
                "pid": writer.pid,
                "alive": writer.pid is not None,
                "heartbeat_seconds": writer.heartbeat_seconds,
                "writes_this_run": self.is_written,
                "state": None if progress is None else progress.state,
                "error": None if progress is None else progress.error,
            },
            "lag": {
                "events": self.events,
                "blocks": self.blocks,
                "bytes": self.bytes,
                "seconds": self.seconds,
            },
        }


def check_readable(folder: Path) -> None:
    """Check that a spool can be brought into the lake, if only up to a damage.

    Raises:
        SpoolError: When its first block cannot be read.
    """
    try:
        described(folder)
    except SpoolError as error:
        raise SpoolError(
            f"Run '{folder.name}' is not in the lake: {error.message}",
            next_command=error.next_command or f"move {folder} away; nothing in it can be read",
        ) from error


def _is_written(spool: Path) -> bool:
    """Tell whether a writer holds the run's lock."""
    try:
        descriptor = os.open(spool / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _changed_at(spool: Path) -> float:
    return max((path.stat().st_mtime for path in spool.glob(f"*{SUFFIX}")), default=0.0)
