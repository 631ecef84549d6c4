"""Records of a spool as numpy columns: those of several EVENTS blocks, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fillpath.instrumentation.spool import COLUMNS, FLAGS_SHIFT, Block, EventRecord

Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

_SITE_MASK: Final = (1 << FLAGS_SHIFT) - 1


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """Columns as `spool.COLUMNS` has them; `numbers` has a row for each slot."""

    sequence: Integers
    parent: Integers
    root: Integers
    start: Integers
    end: Integers
    event_time: Integers
    place: Integers
    numbers: Doubles

    def __len__(self) -> int:
        return len(self.sequence)

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> RecordColumns:
        """Read EVENTS blocks."""
        slots = max((block.slots for block in blocks), default=0)
        rows = sum(block.count for block in blocks)
        table: Any = np.empty((len(COLUMNS) + slots, rows), np.int64)
        begin = 0
        for block in blocks:
            end = begin + block.count
            width = len(COLUMNS) + block.slots
            words = np.frombuffer(block.payload, "<i8").reshape(width, block.count)
            table[:width, begin:end] = words
            table[width:, begin:end] = 0
            begin = end
        return cls(*table[: len(COLUMNS)], table[len(COLUMNS) :].view(np.float64))

    @property
    def flags(self) -> Integers:
        """Bits of `spool.Flag`."""
        return self.place >> FLAGS_SHIFT

    @property
    def site(self) -> Integers:
        """Numbers of the sites."""
        return self.place & _SITE_MASK

    def record(self, row: int) -> EventRecord:
        """Give one record."""
        return EventRecord(
            int(self.sequence[row]),
            int(self.parent[row]),
            int(self.root[row]),
            int(self.start[row]),
            int(self.end[row]),
            int(self.event_time[row]),
            int(self.place[row]),
            tuple(self.numbers[:, row].tolist()),
        )
