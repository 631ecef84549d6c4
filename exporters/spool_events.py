"""Puts the events of a spool together again from the records that they were written as."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from fillpath.exporters.record_columns import RecordColumns
from fillpath.exporters.sequence_bits import Bits
from fillpath.exporters.waiting_sides import WaitingSides
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
_NAMES: Final = (
    "operation",
    "event_type",
    "portfolio",
    "strategy",
    "symbol",
    "venue",
    "handler",
)


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


class SpoolEvents:
    """Takes the blocks of one run in order and gives its events as they end.

    What it gives depends on the blocks alone, so that reading them again gives the same.

    Attributes:
        run: Map of the RUN block; empty before it was read.
        end: Map of the END block; None before it was read.
        clock_offset: What makes wall clock of the ticks of the records' starts and ends.
        foreign_traces: Trace id of the chains that continue a trace of another system, by root.
        names: The host's names of the chains that have one, by root.
        seen: Events that have begun.
        sides: Side records that wait for their records.
    """

    def __init__(self) -> None:
        self.run: dict[str, Any] = {}
        self.clock_offset = 0
        self.end: dict[str, Any] | None = None
        self._totals: Block | None = None
        self.foreign_traces: dict[int, bytes] = {}
        self.names: dict[int, Any] = {}
        self.sites: dict[int, Site] = {}
        self.open: dict[int, RecordedEvent] = {}
        self.sides = WaitingSides()
        self.seen = Bits()

    @property
    def counts(self) -> list[Count]:
        """Totals of the newest COUNTS block."""
        return [] if self._totals is None else self._totals.counts()

    def beside(self) -> SpoolEvents:
        """Make another one that knows what this one has learnt, to read some blocks again."""
        other = SpoolEvents()
        other.run, other.sites, other.seen = self.run, self.sites, self.seen
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
                event = self.take(record)
                if event is not None:
                    yield event
        else:
            self.feed_fact(block)
            if block.type is BlockType.END:
                yield from self.unfinished()

    def feed_fact(self, block: Block) -> None:
        """Take the next block, which holds no events."""
        if block.type is BlockType.SIDE:
            self.sides.add(block)
        elif block.type is BlockType.SITES:
            for site in block.sites():
                # Every file repeats the sites so far.
                if site.number not in self.sites:
                    names = {name: _text(getattr(site, name)) for name in _NAMES}
                    self.sites[site.number] = site._replace(**names)
        elif block.type is BlockType.COUNTS:
            self._totals = block
        elif block.type is BlockType.RUN:
            self.run = self.run or dict(block.value())
            self.clock_offset = int(self.run.get("clock_offset") or 0)
        elif block.type is BlockType.NOTE:
            self.run.update(block.value())
        elif block.type is BlockType.END:
            self.end = dict(block.value())

    def unfinished(self) -> Iterator[RecordedEvent]:
        """Give the events that began and did not end, the newest first: children before parents."""
        for sequence in sorted(self.open, reverse=True):
            event = self.open.pop(sequence)
            event.finished = False
            yield event

    def see(self, columns: RecordColumns) -> None:
        """Note which events a batch has begun; events of later batches may descend from them."""
        begun = columns.flags & _FINISH == 0
        self.seen.add_all(columns.sequence if begun.all() else columns.sequence[begun])

    def take(self, record: EventRecord) -> RecordedEvent | None:
        """Take one record, with its side record if one waits; gives the event if it is whole now.

        Raises:
            SpoolError: When it does not fit what was read before.
        """
        side = self.sides.next(record.sequence) if record.flags & _SIDE else None
        return self.take_both(record, side)

    def take_both(
        self, record: EventRecord, side: SideRecord | None, *, parent_known: bool | None = None
    ) -> RecordedEvent | None:
        """Take one record and its side record; gives the event if it is whole now.

        Args:
            record: The record.
            side: The side record; None: it has none.
            parent_known: Whether the record of its parent stands before it; None: look it up.

        Raises:
            SpoolError: When it does not fit what was read before.
        """
        if record.flags & _FINISH:
            event = self.open.pop(record.sequence, None)
            if event is None:  # its beginning was dropped, and counted as dropped
                return None
            event.end = self.wall_clock(record.end)
            if side is not None:
                event.take(side)
            return event
        event = self.event(record)
        if side is not None:
            event.take(side)
        self.note_chain(event)
        if parent_known is None:
            self.seen.add(event.sequence)
            parent_known = event.parent == 0 or event.parent in self.seen
        event.parent_dropped = not parent_known
        if record.flags & _BEGIN:
            self.open[event.sequence] = event
            return None
        return event

    def note_chain(self, event: RecordedEvent) -> None:
        """Note what an event says of its chain, or let it have its chain's name."""
        name = event.extra.get("correlation_id")
        if name is not None:
            self.name_chain(event.sequence, event.root, name)
        elif self.names and (name := self.names.get(event.root)) is not None:
            event.extra["correlation_id"] = name
        if (foreign := event.extra.get("parent")) is not None:
            self.foreign_traces[event.sequence] = bytes(foreign[0])

    def name_chain(self, sequence: int, root: int, name: Any) -> None:
        """Note the host's name of a chain, if it stands at its root: all its events go by it."""
        if sequence == root:
            self.names[root] = name

    def event(self, record: EventRecord) -> RecordedEvent:
        """Make an event of what its first record says."""
        site = self.site(record.site, record.sequence)
        return RecordedEvent(
            record.sequence,
            record.parent,
            record.root,
            self.wall_clock(record.start),
            self.wall_clock(record.end),
            None if record.event_time == NO_TIME else record.event_time,
            site,
            site.attributes(record.numbers, record.flags),
        )

    def site(self, number: int, sequence: int) -> Site:
        """Give a site.

        Raises:
            SpoolError: When the spool does not describe the site, which this event refers to.
        """
        try:
            return self.sites[number]
        except KeyError:
            raise SpoolError(
                f"The spool is damaged: event {sequence} refers to site {number}, "
                f"which it does not describe."
            ) from None

    def wall_clock(self, ticks: int) -> int | None:
        """Turn ticks of a record into nanoseconds since the epoch."""
        return None if ticks == NO_TIME else ticks + self.clock_offset


def _text(value: Any) -> Any:
    """Give a name as text: a host may use numbers for names."""
    return value if value is None or isinstance(value, str) else str(value)
