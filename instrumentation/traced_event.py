"""The event a host publishes, as fillpath understands it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_NO_PAYLOAD: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TracedEvent:
    """One event of a trading system.

    Times are integers, nanoseconds since the epoch. `event_time` is the simulated or exchange
    time; the other four are wall clock. Any of them may be unknown (None).

    Attributes:
        event_type: Kind of event, one of `semconv.EventType` or a host's own word.
        event_id: The host's own id of the event, if it has one.
        event_time: When it happened in the market.
        correlation_id: Name of the chain it belongs to, if the host gives one.
        causation_ids: The host's ids of the events that caused it; the first is the parent.
        source: Who published it: a strategy, a feed, a component.
        namespace: Portfolio namespace such as ``fund/desk/book``.
        created: When the host made it.
        emitted: When the host published it.
        received: When a handler took it.
        processed: When the handlers were done with it.
        sequence: Position in the run, from 1; 0 before it is recorded.
        payload: Everything else, by semantic-convention key.
    """

    event_type: str
    event_id: str | None = None
    event_time: int | None = None
    correlation_id: str | None = None
    causation_ids: tuple[str, ...] = ()
    source: str | None = None
    namespace: str | None = None
    created: int | None = None
    emitted: int | None = None
    received: int | None = None
    processed: int | None = None
    sequence: int = 0
    payload: Mapping[str, Any] = field(default_factory=lambda: _NO_PAYLOAD)

    @property
    def latency(self) -> int | None:
        """Nanoseconds from publication to the end of handling; None while either is unknown."""
        if self.emitted is None or self.processed is None:
            return None
        return self.processed - self.emitted

    @property
    def queue_time(self) -> int | None:
        """Nanoseconds from publication to the first handler; None while either is unknown."""
        if self.emitted is None or self.received is None:
            return None
        return self.received - self.emitted
