"""Puts the events of a spool together again from the records that they were written as."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Context
from typing import Any, Final

from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.semconv import Event
from fillpath.instrumentation.spool import (
    NO_TIME,
    Block,
    BlockType,
    Count,
    EventRecord,
    Flag,
    SideRecord,
    Site,
)

_BEGIN: Final = int(Flag.BEGIN)
_FINISH: Final = int(Flag.FINISH)
_SIDE: Final = int(Flag.SIDE)
_ABSENT: Final = int(Flag.ABSENT)
_NAMES: Final = (
    "operation",
    "event_type",
    "portfolio",
    "strategy",
    "symbol",
    "venue",
    "handler",
)
_DIGITS: Final = Context(prec=38)  # the host's own may be short


@dataclass(slots=True)
class RecordedEvent:
    """One event or handler run, whole, as far as the spool has it. Times in ns, None if unknown."""

    sequence: int
    parent: int
    """Sequence of its cause, 0 at a root."""
    root: int
    start: int | None
    end: int | None
    event_time: int | None
    site: Site
    attributes: dict[str, Any] = field(default_factory=dict)
    links: list[tuple[bytes, bytes]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    finished: bool = True
    parent_dropped: bool = False
    """The record of its cause could not be written."""

    def take(self, side: SideRecord) -> None:
        """Add what a side record holds."""
        replaced = [
            *self.attributes.get(Event.REPLACED, ()),
            *side.attributes.get(Event.REPLACED, ()),
        ]
        self.attributes.update(side.attributes)
        if replaced:
            self.attributes[Event.REPLACED] = replaced
        self.links += side.links
        self.extra.update(side.extra)


class Bits:
    """A set of positive integers that lie close together, one bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> None:
        """Put a number into the set."""
        place = number >> 3
        if place >= len(self._bits):
            self._bits.extend(bytes(max(place + 1 - len(self._bits), len(self._bits), 64)))
        self._bits[place] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        place = number >> 3
        return place < len(self._bits) and bool(self._bits[place] >> (number & 7) & 1)


class SpoolEvents:
    """Takes the blocks of one run in order and gives its events as they end.

    What it gives depends on the blocks alone, so that reading them again gives the same.

    Attributes:
        run: Map of the RUN block; empty before it was read.
        end: Map of the END block; None before it was read.
        counts: Totals of the newest COUNTS block.
        clock_offset: What makes wall clock of the ticks of the records' starts and ends.
        foreign_traces: Trace id of the chains that continue a trace of another system, by root.
        names: The host's names of the chains that have one, by root.
    """

    def __init__(self) -> None:
        self.run: dict[str, Any] = {}
        self.clock_offset = 0
        self.end: dict[str, Any] | None = None
        self.counts: list[Count] = []
        self.foreign_traces: dict[int, bytes] = {}
        self.names: dict[int, Any] = {}
        self.sites: dict[int, Site] = {}
        self.open: dict[int, RecordedEvent] = {}
        self._sides: dict[int, deque[SideRecord]] = {}
        self._seen = Bits()

    def beside(self) -> SpoolEvents:
        """Make another one that knows what this one has learnt, to read some blocks again."""
        other = SpoolEvents()
        other.run, other.sites, other._seen = self.run, self.sites, self._seen
        other.names = self.names
        other.clock_offset = self.clock_offset
        return other

    def feed(self, block: Block) -> Iterator[RecordedEvent]:
        """Take the next block; gives the events that ended in it.

        Raises:
            SpoolError: When a record does not fit what was read before.
        """
        if block.type is BlockType.EVENTS:
            for record in block.events():
                event = self._event(record)
                if event is not None:
                    yield event
        elif block.type is BlockType.SIDE:
            for side in block.side_records():
                self._sides.setdefault(side.sequence, deque()).append(side)
        elif block.type is BlockType.SITES:
            for site in block.sites():
                names = {name: _text(getattr(site, name)) for name in _NAMES}
                self.sites[site.number] = site._replace(**names)
        elif block.type is BlockType.COUNTS:
            self.counts = block.counts()
        elif block.type is BlockType.RUN:
            self.run = self.run or dict(block.value())
            self.clock_offset = int(self.run.get("clock_offset") or 0)
        elif block.type is BlockType.NOTE:
            self.run.update(block.value())
        elif block.type is BlockType.END:
            self.end = dict(block.value())
            yield from self.unfinished()

    def unfinished(self) -> Iterator[RecordedEvent]:
        """Give the events that began and did not end, the newest first: children before parents."""
        for sequence in sorted(self.open, reverse=True):
            event = self.open.pop(sequence)
            event.finished = False
            yield event

    def _event(self, record: EventRecord) -> RecordedEvent | None:
        """Take one record; gives the event if it is whole now."""
        if record.flags & _FINISH:
            event = self.open.pop(record.sequence, None)
            if event is None:  # its beginning was dropped, and counted as dropped
                return None
            event.end = self._wall_clock(record.end)
            self._take_side(event, record)
            return event
        site = self._site(record)
        event = RecordedEvent(
            record.sequence,
            record.parent,
            record.root,
            self._wall_clock(record.start),
            self._wall_clock(record.end),
            None if record.event_time == NO_TIME else record.event_time,
            site,
            site.attributes(record.numbers, record.flags),
        )
        self._take_side(event, record)
        self._seen.add(event.sequence)
        self._name_chain(event)
        event.parent_dropped = event.parent != 0 and event.parent not in self._seen
        if (foreign := event.extra.get("parent")) is not None:
            self.foreign_traces[event.sequence] = bytes(foreign[0])
        if record.flags & _BEGIN:
            self.open[event.sequence] = event
            return None
        return event

    def _take_side(self, event: RecordedEvent, record: EventRecord) -> None:
        if record.flags & _SIDE and (sides := self._sides.get(record.sequence)):
            event.take(sides.popleft())
            if not sides:
                del self._sides[record.sequence]

    def _name_chain(self, event: RecordedEvent) -> None:
        """A chain's name stands at its root; all its events go by it."""
        name = event.extra.get("correlation_id")
        if name is not None:
            self.names[event.root] = name
        elif (name := self.names.get(event.root)) is not None:
            event.extra["correlation_id"] = name

    def _site(self, record: EventRecord) -> Site:
        try:
            return self.sites[record.site]
        except KeyError:
            raise SpoolError(
                f"The spool is damaged: event {record.sequence} refers to site {record.site}, "
                f"which it does not describe."
            ) from None

    def _wall_clock(self, ticks: int) -> int | None:
        return None if ticks == NO_TIME else ticks + self.clock_offset


def _text(value: Any) -> Any:
    """Give a name as text: a host may use numbers for names."""
    return value if value is None or isinstance(value, str) else str(value)
