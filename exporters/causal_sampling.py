"""Applies the sampling policy to a run so that every ancestor of a kept event is kept, too.

An ancestor may have ended long before its descendant appears, and may have been left out by then.
It is read again from the spool and brought back, at any distance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from fillpath.exporters.completeness import Completeness
from fillpath.exporters.sequence_bits import Bits
from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation import identity
from fillpath.instrumentation.event_sampler import (
    KEEP_ALL,
    KEEP_ANCESTOR,
    KEEP_CRITICAL,
    SAMPLED_OUT,
    Decision,
    EventSampler,
)
from fillpath.instrumentation.semconv import PUBLISH, Resource, Trading


class Sampling(Protocol):
    """Decides which events of a run go to the lake, and counts what it decides."""

    def admit(self, event: RecordedEvent) -> Iterator[tuple[RecordedEvent, Decision]]:
        """Take an event that has ended; gives the events to keep that were not given before."""
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


class CausalSampling:
    """Keeps what the policy keeps, and the ancestors of all that.

    A handler run is kept only as an ancestor, or when it raised.

    Args:
        policy: Decides on each event by itself.
        run_id: The run; its span ids decide about the share that is kept.
        events: Knows the events that have begun and not ended.
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
        self._policy = policy
        self._key = identity.run_key(run_id)
        self._events = events
        self._read_again = read_again
        self._completeness = completeness
        self._kept = Bits()
        self._wanted: set[int] = set()
        """Open events that are kept when they end, because a descendant is kept."""

    def admit(self, event: RecordedEvent) -> Iterator[tuple[RecordedEvent, Decision]]:
        """Decide on the event; gives it if it is kept, then the ancestors it brings back."""
        decision = self._decide(event)
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

    def _decide(self, event: RecordedEvent) -> Decision:
        site = event.site
        if "error" in event.extra:
            return KEEP_CRITICAL
        if site.operation != PUBLISH:
            return SAMPLED_OUT
        attributes = event.attributes
        if self._policy.critical_when:
            known = {
                Resource.PORTFOLIO: site.portfolio,
                Trading.STRATEGY: site.strategy,
                Trading.SYMBOL: site.symbol,
                Trading.VENUE: site.venue,
            }
            attributes = {**known, **attributes}
        span_id = identity.span_id(self._key, event.sequence)
        return self._policy.decide(site.event_type, span_id, attributes)

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
                self._kept.add(sequence)
                if ancestor.site.operation == PUBLISH:
                    self._completeness.brought_back(
                        ancestor.site.portfolio, ancestor.site.event_type
                    )
                yield ancestor, KEEP_ANCESTOR
            sequence = ancestor.parent
