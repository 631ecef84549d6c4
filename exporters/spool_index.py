"""Finds an event again in a spool that has been read, by its sequence."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Self

from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.spool import HEADER, MAGIC, SUFFIX, Block, BlockType, Flag


class _Place(NamedTuple):
    """Where a block lies."""

    file: int
    offset: int
    block: int
    kind: BlockType
    things: int
    slots: int
    length: int

    @classmethod
    def of(cls, block: Block) -> Self:
        """Say where a block is that was just read."""
        return cls(
            block.file,
            block.offset,
            block.number,
            block.type,
            block.count,
            block.slots,
            len(block.payload),
        )


class _Entry(NamedTuple):
    """An EVENTS block: the sequences in it, and the SIDE block that belongs to it."""

    smallest: int
    largest: int
    events: _Place
    side: _Place | None


class SpoolIndex:
    """Remembers in which blocks of a run's spool which sequences stand: a few words a block.

    Args:
        folder: The run's spool.
        events: Reads the same spool.
    """

    def __init__(self, folder: Path, events: SpoolEvents) -> None:
        self._folder = folder
        self._events = events
        self._side: _Place | None = None
        self._entries: list[_Entry] = []

    def note(self, block: Block) -> None:
        """Take the next block of the run, in order."""
        if block.type is BlockType.SIDE:
            self._side = _Place.of(block)
        elif block.type is BlockType.EVENTS:
            # An event stands in one block or, if something happened meanwhile, in two: both are
            # found, because the blocks between the two do not matter.
            if block.count:
                sequences = block.column(0)
                entry = _Entry(min(sequences), max(sequences), _Place.of(block), self._side)
                self._entries.append(entry)
            self._side = None

    def event(self, sequence: int) -> RecordedEvent | None:
        """Read an event that has ended; None when the spool does not hold it."""
        events = self._events.beside()
        for entry in self._entries:
            if not entry.smallest <= sequence <= entry.largest:
                continue
            block = self._read(entry.events)
            records = [record for record in block.events() if record.sequence == sequence]
            if not records:
                continue
            if entry.side is not None:
                list(events.feed(self._read(entry.side)))
            found = [event for event in events.feed(block) if event.sequence == sequence]
            if found:
                return found[0]
            if not any(record.flags & Flag.BEGIN for record in records):
                return None
        return None

    def _read(self, place: _Place) -> Block:
        with (self._folder / f"{place.file:06d}{SUFFIX}").open("rb") as file:
            file.seek(place.offset)
            data = file.read(HEADER.size + place.length)
        if data[:4] != MAGIC or len(data) != HEADER.size + place.length:
            raise SpoolError(f"The spool in {self._folder} has changed while it was read.")
        return Block(
            place.block,
            place.kind,
            place.things,
            data[HEADER.size :],
            place.slots,
            place.file,
            place.offset,
        )
