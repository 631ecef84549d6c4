"""An event that has begun, and the chain it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, Union

from opentelemetry.trace import SpanContext, TraceState

from fillpath.instrumentation import identity
from fillpath.instrumentation.semconv import PROCESS
from fillpath.instrumentation.spool import NO_TIME
from fillpath.instrumentation.tally import Tally

if TYPE_CHECKING:
    from fillpath.instrumentation.event_tracer import EventTracer

AttributeSource = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Attributes, or a function that gives them when they are needed."""


Handle = tuple[int, int]
"""Names an event of the fast door: its sequence, and that of its chain's root."""


Cause = Union["OpenEvent", Handle, SpanContext]
"""What can be named as the cause of an event; a `SpanContext` is one of another process."""
Parts = tuple[str, str, str, str | None, str | None, str | None, str | None]
"""Operation, event type, portfolio, strategy, symbol, venue and handler of an event."""


Placed = tuple[int, tuple[float, ...], dict[str, Any]]
"""Where attributes are: number of the site, the record's numbers, and what fits neither."""


class Current:
    """Stands for "the event whose handler is running" where a parent is asked for."""


CURRENT: Final = Current()


class Chain:
    """All events with one root cause: one trace.

    Attributes:
        root: Sequence of the event that began it.
        key: The run's key.
        correlation_id: The host's name of it, if there is one.
        named: Its trace id as a number, if that follows from its name or from another process.
        trace_state: What another process has it carry along.
    """

    __slots__ = ("correlation_id", "key", "named", "root", "trace_state")

    def __init__(
        self,
        root: int,
        key: int,
        correlation_id: str | None = None,
        named: int | None = None,
        trace_state: TraceState | None = None,
    ) -> None:
        self.root = root
        self.key = key
        self.correlation_id = correlation_id
        self.named = named
        self.trace_state = trace_state

    @property
    def trace_id(self) -> int:
        """Its trace id as a number."""
        return identity.trace_id(self.key, self.root) if self.named is None else self.named


class Place:
    """What events of one kind, place and source have in common.

    Attributes:
        parts: Operation, event type, portfolio, strategy, symbol, venue, handler.
        site: Number of their site, when they have no attributes.
        tally: Where they are counted.
        is_delivery: Whether they are runs of a handler.
    """

    __slots__ = ("is_delivery", "parts", "site", "tally")

    def __init__(self, parts: Parts, site: int, tally: Tally) -> None:
        self.parts = parts
        self.site = site
        self.tally = tally
        self.is_delivery = parts[0] == PROCESS


class OpenEvent:
    """An event that has begun. Adapters keep it to name it later as a parent or a link.

    Attributes:
        tracer: The tracer that opened it; no other one can have it as a parent.
        place: What it has in common with others.
        sequence: Position in the run; 0 for a handler's run that has caused nothing yet.
        chain: The chain it belongs to, once it has a sequence.
        parent: Its cause; forgotten when it ends, so that ancestors do not pile up.
        written: Whether its record is on its way to the spool.
        claimed: Whether somebody is writing that record or has done so.
        closed: Whether it has ended.
        start: When it began, by `EventTracer.now`.
        end: The same of its end; `spool.NO_TIME` before. An adapter may set it to what is known so
            far.
        event_time: Simulated time, nanoseconds since the epoch, or `spool.NO_TIME`.
        attributes: Those it began with, or a function that gives them, or where they have been
            placed already; None once they are written.
        links: Further causes.
        correlation_id: The host's name of the chain, as this event knows it.
        event_id: The host's own lasting id of it.
    """

    __slots__ = (
        "__weakref__", "attributes", "chain", "claimed", "closed", "correlation_id", "end",
        "event_id", "event_time", "links", "parent", "place", "sequence", "start", "tracer",
        "written",
    )  # fmt: skip

    chain: Chain

    def __init__(
        self,
        tracer: EventTracer,
        place: Place,
        parent: OpenEvent | None,
        event_time: int,
        attributes: AttributeSource | Placed | None,
        links: tuple[Cause, ...],
        correlation_id: str | None,
        event_id: str | None,
    ) -> None:
        self.tracer = tracer
        self.place = place
        self.parent = parent
        self.event_time = event_time
        self.attributes = attributes
        self.links = links
        self.correlation_id = correlation_id
        self.event_id = event_id
        self.sequence = 0
        self.written = self.claimed = self.closed = False
        self.end = NO_TIME
        self.start = perf_counter_ns()

    @property
    def operation(self) -> str:
        """``publish`` for an event, ``process`` for a handler's run."""
        return self.place.parts[0]

    @property
    def event_type(self) -> str:
        """Kind of event."""
        return self.place.parts[1]

    @property
    def portfolio(self) -> str:
        """Portfolio namespace."""
        return self.place.parts[2]


class RemoteEvent(OpenEvent):
    """Stands for an event of another process where a cause is asked for; it is never recorded.

    Attributes:
        address: Its ids there.
        chain_here: The chain of this run that it belongs to, if its trace began in this run.
    """

    __slots__ = ("address", "chain_here")

    def __init__(
        self, tracer: EventTracer, place: Place, address: SpanContext, chain_here: Chain | None
    ) -> None:
        super().__init__(tracer, place, None, NO_TIME, None, (), None, None)
        self.address = address
        self.chain_here = chain_here
        self.written = self.claimed = self.closed = True

    def may_cause(self, sequence: int) -> bool:
        """Tell whether it can be: a chain of this run that is still to come is made up."""
        return self.chain_here is None or self.chain_here.root < sequence

    @property
    def parent_record(self) -> list[bytes]:
        """What the record of an event that it causes says of it; see the spool's format."""
        ids = self.address
        told = [ids.trace_id.to_bytes(16, "big"), ids.span_id.to_bytes(8, "big")]
        if ids.trace_state:
            told.append(ids.trace_state.to_header().encode())
        return told
