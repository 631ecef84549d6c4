"""An event that has begun, and the chain it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from fillpath.instrumentation.spool import NO_TIME

if TYPE_CHECKING:
    from fillpath.instrumentation.event_tracer import EventTracer

AttributeSource = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Attributes, or a function that gives them when they are needed."""


class Current:
    """Stands for "the event whose handler is running" where a parent is asked for."""


CURRENT: Final = Current()


class Chain:
    """All events with one root cause: one trace.

    Attributes:
        root: Sequence of the event that began it.
        trace_id: Its id as a number.
        correlation_id: The host's name of it, if there is one.
    """

    __slots__ = ("correlation_id", "root", "trace_id")

    def __init__(self, root: int, trace_id: int, correlation_id: str | None) -> None:
        self.root = root
        self.trace_id = trace_id
        self.correlation_id = correlation_id


class OpenEvent:
    """An event that has begun. Adapters keep it to name it later as a parent or a link.

    Attributes:
        tracer: The tracer that opened it; no other one can have it as a parent.
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
    """

    __slots__ = (
        "__weakref__", "attributes", "chain", "claimed", "closed", "correlation_id", "end",
        "event_id", "event_time", "event_type", "links", "operation", "parent", "portfolio",
        "sequence", "site", "start", "tracer", "written",
    )  # fmt: skip

    chain: Chain
    event_type: str
    operation: str
    portfolio: str
    parent: OpenEvent | None
    event_time: int
    site: int
    start: int

    def __init__(self, tracer: EventTracer) -> None:
        self.tracer = tracer
        self.sequence = 0
        self.written = False
        self.claimed = False
        self.closed = False
        self.end = NO_TIME
        self.correlation_id: str | None = None
        self.event_id: str | None = None
        self.attributes: AttributeSource | None = None
        self.links: tuple[OpenEvent, ...] = ()
