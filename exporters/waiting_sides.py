"""Side records that have been read and wait for the records that they belong to."""

from __future__ import annotations

from collections import deque
from typing import Any

from fillpath.exporters.record_columns import Integers
from fillpath.instrumentation.spool import Block, SideRecord, side_record

PackedSide = list[Any]
"""Sequence, attributes, links and extra of a side record, as they are packed."""


class WaitingSides:
    """Gives each record its side record; of several, the one that was read first."""

    def __init__(self) -> None:
        self._new: list[PackedSide] = []
        self._by_sequence: dict[int, deque[PackedSide]] = {}

    def add(self, block: Block) -> None:
        """Take the next SIDE block."""
        self._new += block.packed_sides()

    def next(self, sequence: int) -> SideRecord | None:
        """Give the next side record of an event, once."""
        self._arrange()
        packed = self._next(sequence)
        return None if packed is None else side_record(packed)

    def next_of_each(self, sequences: Integers) -> list[PackedSide | None]:
        """Give the next side record of each of some events, once; they go by their records."""
        # As a rule, they stand in the spool as their records do, and some for later records follow.
        new, number = self._new, len(sequences)
        if (
            len(new) >= number
            and [one[0] for one in new[:number]] == sequences.tolist()
            and self._by_sequence.keys().isdisjoint(sequences.tolist())
        ):
            self._new = new[number:]
            return list(new[:number])
        self._arrange()
        return [self._next(sequence) for sequence in sequences.tolist()]

    def _arrange(self) -> None:
        for packed in self._new:
            self._by_sequence.setdefault(packed[0], deque()).append(packed)
        self._new = []

    def _next(self, sequence: int) -> PackedSide | None:
        waiting = self._by_sequence.get(sequence)
        if waiting is None:
            return None
        packed = waiting.popleft()
        if not waiting:
            del self._by_sequence[sequence]
        return packed
