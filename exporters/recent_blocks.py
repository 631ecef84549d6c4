"""Finds an event again among the newest blocks of a run that has no file to read them from."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Final, NamedTuple

from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.exporters.waiting_sides import PackedSide
from fillpath.instrumentation.spool import Block, BlockType, EventRecord, Flag, side_record

HELD_EVENTS: Final = 200_000
"""Events that are held, at some hundred bytes each, for others to want them."""


class _Held(NamedTuple):
    """An EVENTS block and the SIDE block that belongs to it."""

    smallest: int
    largest: int
    events: Block
    side: Block | None


class RecentBlocks:
    """Holds the newest events of a run as they were recorded; the oldest give way.

    Args:
        events: Takes the blocks of the same run.
        most: How many events are held.

    Attributes:
        missing: Events that were asked for when they had given way.
    """

    def __init__(self, events: SpoolEvents, most: int = HELD_EVENTS) -> None:
        self._events = events
        self._most = most
        self._held: deque[_Held] = deque()
        self._number = 0
        self._side: Block | None = None
        self.missing = 0
        self._sides = lru_cache(8)(_sides_of)

    def note(self, block: Block) -> None:
        """Take the next block of the run."""
        if block.type is BlockType.SIDE:
            self._side = block
        elif block.type is BlockType.EVENTS and block.count:
            sequences = block.column(0)
            self._held.append(_Held(min(sequences), max(sequences), block, self._side))
            self._side = None
            self._number += block.count
            while self._number > self._most and len(self._held) > 1:
                self._number -= self._held.popleft().events.count

    def event(self, sequence: int) -> RecordedEvent | None:
        """Give an event that has ended; None when it is not held any more, or goes on."""
        events = self._events.beside()
        for held in self._held:
            if not held.smallest <= sequence <= held.largest:
                continue
            for record in _records_of(held.events, sequence):
                side = None
                if record.flags & Flag.SIDE and held.side is not None:
                    parts = self._sides(held.side).get(sequence) or []
                    # Of two, the later one belongs to the record that ends the event.
                    place = -1 if record.flags & Flag.FINISH else 0
                    side = side_record(parts[place]) if parts else None
                found = events.take_both(record, side, parent_known=True)
                if found is not None:
                    return found
        if not events.open:
            self.missing += 1
        return None


def _records_of(block: Block, sequence: int) -> list[EventRecord]:
    columns = [block.column(place) for place in range(7 + block.slots)]
    found = []
    for row, number in enumerate(columns[0]):
        if number == sequence:
            values = [column[row] for column in columns]
            found.append(EventRecord._make([*values[:7], tuple(values[7:])]))
    return found


def _sides_of(block: Block) -> dict[int, list[PackedSide]]:
    sides: dict[int, list[PackedSide]] = {}
    for parts in block.packed_sides():
        sides.setdefault(parts[0], []).append(parts)
    return sides
