"""Applies the sampling policy to a run so that every ancestor of a kept event is kept, too.

An ancestor may have ended long before its descendant appears, and may have been left out by then.
It is read again from the spool and brought back, at any distance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from fillpath.exporters.batch_sampling import BatchSampling
from fillpath.exporters.completeness import Completeness
from fillpath.exporters.event_batch import BatchDecision, EventBatch
from fillpath.exporters.spool_events import Bits, RecordedEvent, SpoolEvents
from fillpath.instrumentation import identity
from fillpath.instrumentation.event_sampler import (
    KEEP_ALL,
    KEEP_ANCESTOR,
    KEEP_CONTEXT,
    KEEP_CRITICAL,
    SAMPLED_OUT,
    Decision,
    EventSampler,
)
from fillpath.instrumentation.sampling_stream import (
    PRICE_KEYS,
    Place,
    SamplingStream,
    price_of,
)
from fillpath.instrumentation.semconv import PUBLISH, Event, Resource, Trading


class Sampling(Protocol):
    """Decides which events of a run go to the lake, and counts what it decides."""

    def admit(self, event: RecordedEvent) -> Iterator[tuple[RecordedEvent, Decision]]:
        """Take an event that has ended; gives the events to keep that were not given before."""
        ...

    def finish(self) -> Iterator[tuple[RecordedEvent, Decision]]:
        """Give what the end of the run brings back, when every event was taken."""
        ...


class KeepEverything:
    """Keeps every event.

    Args:
        completeness: Where events are counted.
    """

    def __init__(self, completeness: Completeness) -> None:
        self._completeness = completeness

    def admit(self, event: RecordedEvent) -> Iterator[tuple[RecordedEvent, Decision]]:
        """Keep the event."""
        if event.site.operation == PUBLISH:
            self._completeness.kept(event.site.portfolio, event.site.event_type)
        yield event, KEEP_ALL

    def finish(self) -> Iterator[tuple[RecordedEvent, Decision]]:
        """Give nothing: everything was given."""
        yield from ()


class CausalSampling:
    """Keeps what the policy keeps, and the ancestors of all that.

    A handler run is kept only as an ancestor, or when it raised. Give a run's events one by one as
    they end, to `admit`, or its records batch by batch as they stand in the spool, to
    `admit_batch`, but not to both. They differ in one thing: `admit` judges an event at its end,
    `admit_batch` where it was recorded, so that neighbours and activity are those of that moment.

    Args:
        policy: The policy.
        run_id: The run; its span ids decide about the share that is kept.
        events: Knows the sites, and the events that have begun and not ended.
        read_again: Gives an event that has ended, by its sequence; None when it was dropped.
        completeness: Where events are counted.
    """

    def __init__(
        self,
        policy: EventSampler,
        run_id: str,
        events: SpoolEvents,
        read_again: Callable[[int], RecordedEvent | None],
        completeness: Completeness,
    ) -> None:
        self.batches = BatchSampling(policy, run_id, events.sites, read_again, completeness)
        self._stream = SamplingStream[int](policy)
        self._key = identity.run_key(run_id)
        self._events = events
        self._read_again = read_again
        self._completeness = completeness
        self._kept = Bits()
        self._wanted: set[int] = set()
        """Open events that are kept when they end, because a descendant is kept."""
        self._last_priced: dict[tuple[str, str | None, str | None], int] = {}

    def admit_batch(self, batch: EventBatch) -> BatchDecision:
        """Take the next records of the run; decides on the events that ended in them.

        When nothing follows, `batches.finish` decides on those that never ended.

        Raises:
            SpoolError: When the spool cannot be read again.
        """
        return self.batches.admit(batch)

    def admit(self, event: RecordedEvent) -> Iterator[tuple[RecordedEvent, Decision]]:
        """Decide on the event; gives it if it is kept, then what it brings back."""
        decision = self._decide(event)
        self._note_price(event)
        if event.sequence in self._wanted:
            self._wanted.remove(event.sequence)
            if not decision.kept:
                decision = KEEP_ANCESTOR
        if event.site.operation == PUBLISH:
            count = self._completeness.kept if decision.kept else self._completeness.sampled_out
            count(event.site.portfolio, event.site.event_type)
        if decision.kept:
            self._kept.add(event.sequence)
            yield event, decision
            yield from self._ancestors(event)
        if decision is KEEP_CRITICAL:
            yield from self._neighbours(self._stream.neighbours(_place(event)))

    def finish(self) -> Iterator[tuple[RecordedEvent, Decision]]:
        """Give the newest price of each instrument, which tells what open positions are worth."""
        return self._neighbours(self._last_priced.values())

    def _neighbours(self, sequences: Iterable[int]) -> Iterator[tuple[RecordedEvent, Decision]]:
        for sequence in sequences:
            if sequence not in self._kept and (neighbour := self._read_again(sequence)):
                yield self._bring_back(neighbour), KEEP_CONTEXT
                yield from self._ancestors(neighbour)

    def _note_price(self, event: RecordedEvent) -> None:
        site = event.site
        if site.event_type in PRICE_KEYS and site.operation == PUBLISH:
            key = (site.portfolio, site.symbol, site.venue)
            newest = self._last_priced.get(key, 0)
            if event.sequence > newest and math.isfinite(
                price_of(site.event_type, event.attributes)
            ):
                self._last_priced[key] = event.sequence

    def _decide(self, event: RecordedEvent) -> Decision:
        site, failed = event.site, "error" in event.extra
        place = _place(event)
        if site.operation != PUBLISH:
            if failed:
                self._stream.expect_neighbours(place)
            return KEEP_CRITICAL if failed else SAMPLED_OUT
        known = {
            Event.TYPE: site.event_type,
            Resource.PORTFOLIO: site.portfolio,
            Trading.STRATEGY: site.strategy,
            Trading.SYMBOL: site.symbol,
            Trading.VENUE: site.venue,
        }
        return self._stream.judge(
            event.sequence,
            identity.span_id(self._key, event.sequence),
            site.event_type,
            place,
            {**known, **event.attributes},
            event.event_time,
            failed=failed,
        )

    def _ancestors(self, event: RecordedEvent) -> Iterator[tuple[RecordedEvent, Decision]]:
        sequence = event.parent
        while sequence and sequence not in self._kept and sequence not in self._wanted:
            ancestor = self._events.open.get(sequence)
            if ancestor is not None:
                self._wanted.add(sequence)
            else:
                ancestor = self._read_again(sequence)
                if ancestor is None:
                    return
                yield self._bring_back(ancestor), KEEP_ANCESTOR
            sequence = ancestor.parent

    def _bring_back(self, event: RecordedEvent) -> RecordedEvent:
        self._kept.add(event.sequence)
        if event.site.operation == PUBLISH:
            self._completeness.brought_back(event.site.portfolio, event.site.event_type)
        return event


def _place(event: RecordedEvent) -> Place:
    return Place(event.site.portfolio, event.site.symbol, event.site.strategy)
