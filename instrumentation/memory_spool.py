"""A spool in memory: the blocks of a run that leaves the process by OpenTelemetry's SDK.

They have the form that they would have in a file, so what reads a spool reads them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fillpath.instrumentation.payload import pack, pack_any
from fillpath.instrumentation.spool import Block, BlockType, Count, Site
from fillpath.instrumentation.spool_writer import PackedEvents, SpoolWriter

NOWHERE: Final = Path("(memory)")
"""What stands in messages where a spool's folder would."""


class MemorySpool(SpoolWriter):
    """Keeps blocks until they are taken. Like a `SpoolWriter`, it is called under a lock.

    Args:
        run: What the RUN block holds.

    Attributes:
        waiting: Events that have not been taken.
    """

    def __init__(self, run: dict[str, Any]) -> None:
        """There is no file to open."""
        self.folder = NOWHERE
        self.waiting = self._size = 0
        self._blocks: deque[Block] = deque()
        self._number = 0
        self._add(BlockType.RUN, 1, pack(run))

    def _add(self, kind: BlockType, count: int, payload: bytes, slots: int = 0) -> None:
        self._number += 1
        self._size += len(payload)
        self._blocks.append(Block(self._number, kind, count, payload, slots))

    def append_packed(
        self,
        events: PackedEvents,
        side: Sequence[bytes],
        sites: Sequence[Site],
        counts: Sequence[Count],
        note: dict[str, Any] | None = None,
    ) -> None:
        """Add what happened since the last call."""
        if note:
            self._add(BlockType.NOTE, 1, pack_any(note))
        if sites:
            self._add(BlockType.SITES, len(sites), pack_any(list(sites)))
        if side:
            self._add(BlockType.SIDE, len(side), b"".join(side))
        if events.number:
            self._add(BlockType.EVENTS, events.number, events.payload, events.slots)
            self.waiting += events.number
        if counts:
            self._add(BlockType.COUNTS, len(counts), pack_any(list(counts)))

    def take(self) -> list[Block]:
        """Give the blocks since the last call, in order."""
        blocks, self._blocks = list(self._blocks), deque()
        self.waiting = self._size = 0
        return blocks

    def mark(self) -> tuple[int, int]:
        """Where the spool ends now."""
        return 1, self._number

    def has_grown_since(self, mark: tuple[int, int]) -> bool:
        """Tell whether anything was added since `mark` was called."""
        return self._number > mark[1]

    def written_behind(self, file: int, offset: int) -> int:
        """How many bytes of blocks wait to be taken; there is no other place."""
        return self._size

    def unsynced(self) -> list[int]:
        """There is no file."""
        return []

    def finish(self, end: dict[str, Any]) -> None:
        """Add the END block."""
        self._add(BlockType.END, 1, pack_any(end))

    def close(self) -> None:
        """Forget what was not taken."""
        self._blocks.clear()
        self.waiting = self._size = 0
