"""An event as lineage sees it, and the way to it with what each step took."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from fillpath.instrumentation.semconv import EventType

MARKET_EVENTS: Final = frozenset({EventType.BAR, EventType.TICK, EventType.BOOK})
"""Kinds of events that the market brings."""
ACKNOWLEDGED: Final = ("ACCEPTED", "SUBMITTED")
"""States in which an order has been taken: by the venue, else at least handed over to it."""
_SIGNALS: Final = frozenset({EventType.SIGNAL})
_ORDERS: Final = frozenset({EventType.ORDER, EventType.COMMAND})
_STATES: Final = frozenset({EventType.ORDER})
EVENT_COLUMNS: Final = (
    "run_id", "portfolio", "trace_id", "span_id", "parent_span_id", "sequence", "name",
    "span_kind", "event_type", "event_time", "start_time", "duration", "strategy", "symbol",
    "client_order_id", "order_id", "fill_id", "position_id", "status", "links",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LineageEvent:
    """An event or a handler's run; ids in hex, times in nanoseconds since the epoch."""

    run_id: str
    portfolio: str | None
    trace_id: str
    span_id: str
    parent_span_id: str | None
    sequence: int
    name: str
    span_kind: str
    event_type: str
    event_time: int | None
    start_time: int | None
    end_time: int | None
    strategy: str | None
    symbol: str | None
    client_order_id: str | None
    order_id: str | None
    fill_id: str | None
    position_id: str | None
    status: str | None
    links: tuple[tuple[str, str], ...]
    """Trace id and span id of each."""

    @property
    def trace_of_cause(self) -> str:
        """Trace id of its parent's chain: its own, unless the trace was divided there."""
        for trace_id, span_id in self.links:
            if span_id == self.parent_span_id:
                return trace_id
        return self.trace_id

    @property
    def is_fill(self) -> bool:
        """Whether it is a fill itself, not the handling of one."""
        return self.event_type == EventType.FILL


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a path.

    Attributes:
        event: Where it leads.
        latency: Wall-clock nanoseconds since its cause began; None at the root.
        simulated: Simulated nanoseconds since its cause; None where either has no time.
    """

    event: LineageEvent
    latency: int | None
    simulated: int | None


@dataclass(frozen=True, slots=True)
class Stage:
    """A milestone on the way to a fill: `market`, `signal`, `order`, `ack` or `fill`.

    Attributes:
        name: Which.
        event: The event that is it.
        latency: Wall-clock nanoseconds since the stage before; None at the first.
    """

    name: str
    event: LineageEvent
    latency: int | None


@dataclass(frozen=True, slots=True)
class Path:
    """The way from the root of a chain to an event.

    Attributes:
        hops: From the root to the event.
    """

    hops: tuple[Hop, ...]

    @property
    def events(self) -> tuple[LineageEvent, ...]:
        """The events on it, the root first."""
        return tuple(hop.event for hop in self.hops)

    @property
    def total(self) -> int | None:
        """Wall-clock nanoseconds from the root's beginning to the event's."""
        return apart(self.hops[0].event.start_time, self.hops[-1].event.start_time)

    def stages(self) -> tuple[Stage, ...]:
        """The milestones that it passes.

        The market event and the signal are the last ones; the order is the first event of the order
        that follows them, be it a command or the order itself; the acknowledgement is the last
        ACCEPTED after that, else the last SUBMITTED; the fill is the end.
        """
        events = self.events
        picked: list[tuple[str, LineageEvent]] = []
        start = 0
        for name, kinds in (("market", MARKET_EVENTS), ("signal", _SIGNALS)):
            place = _last(events, start, kinds)
            if place is not None:
                picked.append((name, events[place]))
                start = place + 1
        order = next(
            (n for n in range(start, len(events)) if events[n].event_type in _ORDERS), None
        )
        if order is not None:
            picked.append(("order", events[order]))
            for status in ACKNOWLEDGED:
                place = _last(events, order + 1, _STATES, status)
                if place is not None:
                    picked.append(("ack", events[place]))
                    break
        if events[-1].is_fill:
            picked.append(("fill", events[-1]))
        before: LineageEvent | None = None
        stages = []
        for name, event in picked:
            since = None if before is None else apart(before.start_time, event.start_time)
            stages.append(Stage(name, event, since))
            before = event
        return tuple(stages)


def events_of(table: pa.Table) -> list[LineageEvent]:
    """Turn rows of `SPAN_SCHEMA`, or of its columns that lineage needs, into events."""
    events = []
    for row in table.select(EVENT_COLUMNS).to_pylist():
        for column in ("trace_id", "span_id", "parent_span_id"):
            if row[column] is not None:
                row[column] = row[column].hex()
        row["links"] = tuple(
            (link["trace_id"].hex(), link["span_id"].hex()) for link in row["links"] or ()
        )
        duration, start = row.pop("duration"), row["start_time"]
        row["end_time"] = None if duration is None else (start or 0) + duration
        events.append(LineageEvent(**row))
    return events


def apart(earlier: int | None, later: int | None) -> int | None:
    """Give the nanoseconds from one time to another; None when either is unknown."""
    return None if earlier is None or later is None else later - earlier


def _last(
    events: Sequence[LineageEvent], start: int, kinds: Collection[str], status: str | None = None
) -> int | None:
    """Place of the last event of these kinds, and of this status if one is given."""
    for place in range(len(events) - 1, start - 1, -1):
        if events[place].event_type in kinds and status in {None, events[place].status}:
            return place
    return None
