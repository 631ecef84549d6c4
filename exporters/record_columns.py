"""Records of a spool as numpy columns: those of several EVENTS blocks, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fillpath.instrumentation.spool import COLUMNS, FLAGS_SHIFT, SLOTS, Block, EventRecord, Flag

Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

MOST_SLOTS: Final = 8
"""Slots that have a flag to say that their number is absent."""
_ALL_ABSENT: Final = int(((1 << MOST_SLOTS) - 1) * Flag.ABSENT) << FLAGS_SHIFT
_PLACE: Final = COLUMNS.index("place")
_SITE_MASK: Final = (1 << FLAGS_SHIFT) - 1


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """Columns as `spool.COLUMNS` has them; `numbers` has a row for each slot.

    Slots that a block has no column for are flagged as absent.
    """

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
        slots = max((block.slots for block in blocks), default=SLOTS)
        rows = sum(block.count for block in blocks)
        table: Any = np.empty((len(COLUMNS) + slots, rows), np.int64)
        begin = 0
        for block in blocks:
            end = begin + block.count
            width = len(COLUMNS) + block.slots
            words = np.frombuffer(block.payload, "<i8").reshape(width, block.count)
            table[:width, begin:end] = words
            if block.slots < slots:
                table[width:, begin:end] = 0
            if absent := _ALL_ABSENT << block.slots & _ALL_ABSENT:
                table[_PLACE, begin:end] |= absent
            begin = end
        columns = dict(zip(COLUMNS, table, strict=False))
        return cls(**columns, numbers=table[len(COLUMNS) :].view(np.float64))

    def before(self, row: int) -> RecordColumns:
        """Give the records that stand before one."""
        columns: dict[str, Any] = {name: getattr(self, name)[:row] for name in COLUMNS}
        return RecordColumns(**columns, numbers=self.numbers[:, :row])

    @property
    def flags(self) -> Integers:
        """Bits of `spool.Flag`."""
        return self.place >> FLAGS_SHIFT

    @property
    def site(self) -> Integers:
        """Numbers of the sites."""
        return self.place & _SITE_MASK

    def records(self, rows: Integers) -> Iterator[EventRecord]:
        """Give some records as such."""
        integers = [
            column[rows].tolist()
            for column in (
                self.sequence,
                self.parent,
                self.root,
                self.start,
                self.end,
                self.event_time,
                self.place,
            )
        ]
        numbers = self.numbers[:, rows].T.tolist()
        for *parts, row in zip(*integers, numbers, strict=True):
            yield EventRecord._make([*parts, tuple(row)])
