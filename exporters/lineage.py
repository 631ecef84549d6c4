"""What led to an event, what came of it, and how long each step took.

Everything is read from the lake, a chain at a time. A parent is a cause; a link is a further cause,
or the entry that an exit closes, and usually leads to another chain: links are followed if asked.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Self

import pyarrow as pa

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.further_views import read_sql
from fillpath.exporters.joined_traces import joined_with
from fillpath.exporters.lineage_path import (
    EVENT_COLUMNS,
    Hop,
    LineageEvent,
    Path,
    apart,
    events_of,
)
from fillpath.instrumentation.errors import NotFound
from fillpath.instrumentation.settings import SMALLEST_TRACE_LIMIT

_NAMES: Final = ("fill_id", "client_order_id", "order_id", "position_id")


class CorrelationMap(Mapping[str, tuple[LineageEvent, ...]]):
    """Events by the name of their chain; each is read when it is asked for.

    Args:
        lineage: Where.
    """

    def __init__(self, lineage: Lineage) -> None:
        self._lineage = lineage

    def __getitem__(self, correlation_id: str) -> tuple[LineageEvent, ...]:
        events = self._lineage.events_of(correlation_id)
        if not events:
            raise KeyError(correlation_id)
        return events

    def __iter__(self) -> Iterator[str]:
        for (name,) in self._lineage.select(
            "SELECT coalesce(correlation_id, lower(hex(trace_id))) AS chain_name FROM raw_spans "
            "GROUP BY chain_name ORDER BY min(sequence), chain_name"
        ):
            yield str(name)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Lineage:
    """Answers what caused what, in one run or in all.

    Args:
        store: The lake. What it remembers of the files makes the next question quicker.
        run_id: The run; None means any, which suits ids that name their run.
    """

    def __init__(self, store: EventStore, run_id: str | None = None) -> None:
        self.store = store
        self.run_id = run_id
        self._chains: dict[tuple[str, str], _ChainOfEvents] = {}
        self._linkers: dict[str, list[LineageEvent]] | None = None

    @classmethod
    def of_lake(cls, data: str | os.PathLike[str] | None = None, run_id: str | None = None) -> Self:
        """Open the lake of a data folder.

        Args:
            data: The data folder; `FILLPATH_DATA`, else the user's data directory.
            run_id: The run; None means any.
        """
        return cls(EventStore(data), run_id)

    def event(self, wanted: str) -> LineageEvent:
        """Find one event: by span id, or by an id of an order, a fill, a position or a chain.

        Of several events with an engine's id, or of a chain, it is the last fill, else the last
        event.

        Raises:
            NotFound: Nothing has this id.
            LakeError: The lake cannot be read.
        """
        table = self.store.find_span(wanted, self.run_id)
        for column in _NAMES:
            if table.num_rows:
                break
            table = self.store.find_named(column, wanted, self.run_id)
        if not table.num_rows:
            table = self.store.find_chain(wanted, self.run_id)
        events = events_of(table)
        if not events:
            where = "" if self.run_id is None else f" in run '{self.run_id}'"
            raise NotFound(
                f"Nothing{where} has the id '{wanted}'.", next_command="fillpath trace show latest"
            )
        fills = [event for event in events if event.is_fill]
        return (fills or events)[-1]

    def events_of(self, correlation_id: str) -> tuple[LineageEvent, ...]:
        """Give the events of a chain in the order of sequence; none when there is no such chain.

        Args:
            correlation_id: Its trace id in hex, or what the host calls it.
        """
        return tuple(events_of(self.store.find_chain(correlation_id, self.run_id)))

    def correlation_map(self) -> CorrelationMap:
        """Give the events of every chain, by its name."""
        return CorrelationMap(self)

    def path(self, wanted: str | LineageEvent) -> Path:
        """Give the way from the root of its chain to an event, with what each step took.

        Raises:
            NotFound: Nothing has this id.
        """
        event = self._resolved(wanted)
        events = [*self._ancestors_in_chain(event), event]
        hops = []
        before: LineageEvent | None = None
        for one in events:
            hops.append(
                Hop(
                    one,
                    None if before is None else apart(before.start_time, one.start_time),
                    None if before is None else apart(before.event_time, one.event_time),
                )
            )
            before = one
        return Path(tuple(hops))

    def ancestors(
        self, wanted: str | LineageEvent, *, across_links: bool = False
    ) -> tuple[LineageEvent, ...]:
        """Give everything that led to an event, in the order of sequence, without the event.

        Args:
            wanted: The event.
            across_links: Follow links as well, of the event and of all that led to it.

        Raises:
            NotFound: Nothing has this id.
        """
        event = self._resolved(wanted)
        found: dict[tuple[str, str], LineageEvent] = {}
        waiting = [event]
        while waiting:
            here = waiting.pop()
            above = self._ancestors_in_chain(here)
            sources = [here, *(one for one in above if _key(one) not in found)]
            found.update((_key(one), one) for one in above)
            for trace_id, span_id in _links_of(sources) if across_links else ():
                linked = self._chain(here.run_id, trace_id).by_id.get(span_id)
                if linked is not None and _key(linked) not in found:
                    found[_key(linked)] = linked
                    waiting.append(linked)
        found.pop(_key(event), None)
        return _in_order(found.values())

    def descendants(
        self, wanted: str | LineageEvent, *, across_links: bool = False
    ) -> tuple[LineageEvent, ...]:
        """Give everything that came of an event, in the order of sequence, without the event.

        Args:
            wanted: The event.
            across_links: Include events that link to it or to what came of it, and what came of
                those.

        Raises:
            NotFound: Nothing has this id.
        """
        event = self._resolved(wanted)
        found = {_key(event): event}
        waiting = [event]
        while waiting:
            here = waiting.pop()
            chain = self._chain(here.run_id, here.trace_id)
            below = list(chain.children.get(here.span_id, ()))
            if across_links or len(chain.by_id) >= SMALLEST_TRACE_LIMIT:
                below += [
                    linker
                    for linker in self._linking_to(here)
                    if across_links or linker.parent_span_id == here.span_id
                ]
            for one in below:
                if _key(one) not in found:
                    found[_key(one)] = one
                    waiting.append(one)
        del found[_key(event)]
        return _in_order(found.values())

    def fill_latencies(self) -> pa.Table:
        """Tell how long every fill took, stage by stage.

        Returns:
            A row for each fill: `run_id`, `portfolio`, `sequence`, `fill_id`, `span_id`, the wall
            clock of each stage (`market`, `signal`, `order`, `ack`, `fill`, see `Path.stages`; NULL
            where there is none), and `hops`, the number of steps from the root. Nanoseconds.
        """
        with self.store.connect(self._runs(), further_views=()) as connection:
            table: pa.Table = connection.sql(read_sql("fill_latencies")).to_arrow_table()
        return table

    def select(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Run a query of ours over the run."""
        with self.store.connect(self._runs(), further_views=()) as connection:
            cursor = connection.execute(sql)
            while rows := cursor.fetchmany(10_000):
                yield from rows

    def _runs(self) -> Collection[str] | None:
        return None if self.run_id is None else [self.run_id]

    def _resolved(self, wanted: str | LineageEvent) -> LineageEvent:
        return self.event(wanted) if isinstance(wanted, str) else wanted

    def _chain(self, run_id: str, trace_id: str) -> _ChainOfEvents:
        if (run_id, trace_id) not in self._chains:
            found = events_of(self.store.find_chain(trace_id))
            self._chains[run_id, trace_id] = _ChainOfEvents(joined_with(run_id, found))
        return self._chains[run_id, trace_id]

    def _ancestors_in_chain(self, event: LineageEvent) -> list[LineageEvent]:
        """Give its ancestors, the root first."""
        above: dict[tuple[str, str], LineageEvent] = {}
        cause = self._cause(event)
        # A host's own spans may name each other as parents, in a circle.
        while cause is not None and _key(cause) not in above:
            above[_key(cause)] = cause
            cause = self._cause(cause)
        above.pop(_key(event), None)
        return list(reversed(above.values()))

    def _cause(self, event: LineageEvent) -> LineageEvent | None:
        """Give its parent, which is in another trace where the trace was divided."""
        if event.parent_span_id is None:
            return None
        found = self._chain(event.run_id, event.trace_id).by_id.get(event.parent_span_id)
        if found is None and event.trace_of_cause != event.trace_id:
            chain = self._chain(event.run_id, event.trace_of_cause)
            found = chain.by_id.get(event.parent_span_id)
        return found

    def _linking_to(self, event: LineageEvent) -> list[LineageEvent]:
        if self._linkers is None:
            self._linkers = {}
            columns = ", ".join(EVENT_COLUMNS)
            with self.store.connect(self._runs(), further_views=()) as connection:
                table = connection.sql(
                    f"SELECT {columns} FROM raw_spans WHERE len(links) > 0"  # noqa: S608 - ours
                ).to_arrow_table()
            for linker in events_of(table):
                for _, span_id in linker.links:
                    self._linkers.setdefault(span_id, []).append(linker)
        return [
            linker
            for linker in self._linkers.get(event.span_id, ())
            if (event.trace_id, event.span_id) in linker.links and linker.run_id == event.run_id
        ]


class _ChainOfEvents:
    """The events of one chain, by id and by cause."""

    def __init__(self, events: Iterable[LineageEvent]) -> None:
        self.by_id: dict[str, LineageEvent] = {}
        self.children: dict[str, list[LineageEvent]] = {}
        for event in events:
            self.by_id[event.span_id] = event
            if event.parent_span_id is not None:
                self.children.setdefault(event.parent_span_id, []).append(event)


def _key(event: LineageEvent) -> tuple[str, str]:
    return event.trace_id, event.span_id


def _in_order(events: Iterable[LineageEvent]) -> tuple[LineageEvent, ...]:
    return tuple(sorted(events, key=lambda event: (event.run_id, event.sequence)))


def _links_of(events: Iterable[LineageEvent]) -> Iterator[tuple[str, str]]:
    for event in events:
        yield from event.links
