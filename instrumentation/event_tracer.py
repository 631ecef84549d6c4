"""The tracer: turns what a host does into event records with exact parents.

An engine adapter opens an event when it is published, enters it while its handlers run, and closes
it afterwards. Whatever is opened in between gets it as its parent. A parent is always written
before its child, so a spool that was cut off anywhere still holds the ancestors of all it holds.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar, Token
from typing import Any, Final

from opentelemetry import context, trace

from fillpath.instrumentation import identity
from fillpath.instrumentation.payload import snapshot
from fillpath.instrumentation.recorder import DROPPED_ADAPTER_ERROR, Recorder
from fillpath.instrumentation.semconv import PROCESS, PUBLISH, Event
from fillpath.instrumentation.spool import NO_TIME, Flag, SideRecord
from fillpath.instrumentation.spool_writer import pack_side_record

_log = logging.getLogger(__name__)

AttributeSource = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Attributes, or a function that gives them when they are needed."""


class _Current:
    """Stands for "the event whose handler is running" where a parent is asked for."""


CURRENT: Final = _Current()


class Chain:
    """All events with one root cause: one trace."""

    __slots__ = ("correlation_id", "root", "trace_id")

    def __init__(self, root: int, trace_id: int, correlation_id: str | None) -> None:
        self.root = root
        self.trace_id = trace_id
        self.correlation_id = correlation_id


class OpenEvent:
    """An event that has begun. Adapters keep it to name it later as a parent or a link."""

    __slots__ = (
        "_attributes", "_links", "chain", "closed", "correlation_id", "end", "event_id",
        "event_time", "event_type", "operation", "parent", "portfolio", "sequence", "site",
        "start", "written",
    )  # fmt: skip

    chain: Chain
    event_type: str
    operation: str
    portfolio: str
    parent: OpenEvent | None
    event_time: int
    site: int
    start: int

    def __init__(self) -> None:
        self.sequence = 0
        self.written = False
        self.closed = False
        self.end = NO_TIME
        self.correlation_id: str | None = None
        self.event_id: str | None = None
        self._attributes: AttributeSource | None = None
        self._links: tuple[OpenEvent, ...] = ()


class EventTracer:
    """Records the events of one run.

    Args:
        run_id: The run; with a sequence number it makes every id.
        recorder: Takes the records.
        portfolio: Namespace of events whose adapter does not name one.
    """

    def __init__(self, run_id: str, recorder: Recorder, portfolio: str) -> None:
        self.run_id = run_id
        self.portfolio = portfolio
        self._recorder = recorder
        self._key = identity.run_key(run_id)
        self._sequence = itertools.count(1)
        self._current: ContextVar[OpenEvent | None] = ContextVar("fillpath_event", default=None)
        self._clock_offset = time.time_ns() - time.perf_counter_ns()
        self._open: dict[int, OpenEvent] = {}
        self._lock = threading.RLock()
        self._complained = False

    def now(self) -> int:
        """Wall clock in nanoseconds since the epoch that never runs backwards within a run."""
        return self._clock_offset + time.perf_counter_ns()

    @property
    def current(self) -> OpenEvent | None:
        """The event whose handler is running in this thread or task."""
        return self._current.get()

    def open(  # noqa: PLR0913 - one argument for each part of an event
        self,
        event_type: str,
        *,
        operation: str = PUBLISH,
        portfolio: str | None = None,
        strategy: str | None = None,
        symbol: str | None = None,
        venue: str | None = None,
        handler: str | None = None,
        event_time: int | None = None,
        attributes: AttributeSource | None = None,
        parent: OpenEvent | _Current | None = CURRENT,
        links: Iterable[OpenEvent] = (),
        correlation_id: str | None = None,
        event_id: str | None = None,
    ) -> OpenEvent:
        """Begin an event.

        A delivery (operation ``process``) is recorded only if it causes something.

        Args:
            event_type: Kind, one of `semconv.EventType` or the host's own word.
            operation: ``publish`` for the event itself, ``process`` for a handler's run.
            portfolio: Namespace such as ``fund/desk/book``.
            strategy: The engine's id of the strategy.
            symbol: Ticker or pair without the venue.
            venue: Venue code.
            handler: Handler that runs, as ``Class.method``.
            event_time: Simulated time, nanoseconds since the epoch.
            attributes: By semantic-convention key, or a function that gives them; it is called
                when the event's first child appears, or when the event closes.
            parent: The causing event; by default the one whose handler is running.
            links: Further causes.
            correlation_id: The host's name of the chain; it begins a chain of that name unless
                the parent belongs to it.
            event_id: The host's own lasting id of the event.
        """
        event = OpenEvent()
        event.event_type = event_type
        event.operation = operation
        event.portfolio = portfolio or self.portfolio
        event.parent = self._current.get() if isinstance(parent, _Current) else parent
        event.event_time = NO_TIME if event_time is None else event_time
        event.correlation_id = correlation_id
        event.event_id = event_id
        event._attributes = attributes
        event._links = tuple(links)
        event.start = self.now()
        event.site = self._recorder.site(
            operation, event_type, event.portfolio, strategy, symbol, venue, handler
        )
        if operation != PROCESS:
            self._recorder.published(event.portfolio, event_type)
            self._number(event)
            self._open[event.sequence] = event
        return event

    def _number(self, event: OpenEvent) -> None:
        """Give the event its sequence and chain; its parent is written first."""
        parent = event.parent
        if parent is not None:
            self.begin(parent)
        event.sequence = next(self._sequence)
        name = event.correlation_id
        if parent is not None and name in (None, parent.chain.correlation_id):
            event.chain = parent.chain
        elif name is None:
            event.chain = Chain(
                event.sequence, identity.trace_id(self._key, event.sequence), None
            )
        else:
            trace_id = identity.trace_id_of_correlation(self.run_id, name)
            event.chain = Chain(event.sequence, trace_id, name)

    def begin(self, event: OpenEvent) -> None:
        """Write the event now, because another one is about to name it."""
        if event.written:
            return
        with self._lock:
            if event.written:  # another thread was quicker
                return
            if event.sequence == 0:
                self._number(event)
            # A task that a handler left behind may name a delivery that has ended already.
            self._write(event, event.end, 0 if event.closed else Flag.BEGIN, {})

    def _write(self, event: OpenEvent, end: int, flags: int, extra: dict[str, Any]) -> None:
        event.written = True
        side = self._side_record(event, extra)
        parent = event.parent
        self._recorder.record(
            (
                event.sequence,
                parent.sequence if parent is not None else 0,
                event.chain.root,
                event.start,
                end,
                event.event_time,
                event.site,
                flags | (Flag.SIDE if side is not None else 0),
                0,
            ),
            side,
        )

    def _side_record(self, event: OpenEvent, extra: dict[str, Any]) -> bytes | None:
        attributes = self._attributes_of(event)
        links, event._links = event._links, ()
        if event.chain.correlation_id is not None:
            extra["correlation_id"] = event.chain.correlation_id
        if event.event_id is not None:
            extra["event_id"] = event.event_id
        if not attributes and not links and not extra:
            return None
        pairs = [self._address(link) for link in links if link.sequence]
        return pack_side_record(SideRecord(event.sequence, attributes, pairs, extra))

    def _attributes_of(self, event: OpenEvent) -> dict[str, Any]:
        source, event._attributes = event._attributes, None
        if not source:
            return {}
        try:
            return snapshot(source() if callable(source) else source)
        except Exception as error:
            self.complain(error)
            return {Event.REPLACED: ["*"]}

    def _address(self, event: OpenEvent) -> tuple[bytes, bytes]:
        return (
            event.chain.trace_id.to_bytes(16, "big"),
            identity.span_id(self._key, event.sequence).to_bytes(8, "big"),
        )

    def close(
        self,
        event: OpenEvent,
        *,
        attributes: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
        end: int | None = None,
    ) -> None:
        """End an event. A second call does nothing.

        Args:
            event: What `open` gave.
            attributes: What became known while it was handled.
            error: What a handler raised; the span's status becomes Error.
            end: When it ended, by `now`; this moment when left out.
        """
        if event.closed:
            return
        flags = 0
        extra: dict[str, Any] = {}
        if error is not None:
            flags = Flag.ERROR
            extra["error"] = {"type": type(error).__qualname__, "message": str(error)[:4096]}
        with self._lock:
            event.closed = True
            event.end = self.now() if end is None else end
            if event.operation == PROCESS and not event.written and error is None:
                return
            if event.sequence == 0:
                self._number(event)
            if attributes:
                event._attributes = {**self._attributes_of(event), **attributes}
            if event.written:
                flags |= Flag.FINISH
            self._write(event, event.end, flags, extra)
            self._open.pop(event.sequence, None)
            event.parent = None  # an adapter may keep this event; its ancestors must not pile up

    def stop(self) -> None:
        """Write the events that are still open, as unfinished ones."""
        for event in list(self._open.values()):
            self.begin(event)
        self._open.clear()

    @contextlib.contextmanager
    def guarded(self, *, losing: str | None = None) -> Iterator[None]:
        """Keep whatever the body raises from the host: an adapter's own work stands in it.

        Args:
            losing: The kind of event that is lost if the body fails; it is counted as dropped.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            if losing is not None:
                self._recorder.published(self.portfolio, losing)
                self._recorder.dropped(self.portfolio, losing, DROPPED_ADAPTER_ERROR)
            self.complain(error)

    def complain(self, error: BaseException) -> None:
        """Log, once, that something could not be recorded; the host goes on."""
        if not self._complained:
            self._complained = True
            _log.warning("fillpath could not record an event: %r", error, exc_info=error)

    def enter(self, event: OpenEvent) -> Token[OpenEvent | None]:
        """Make the event the parent of whatever this thread or task opens from here on."""
        return self._current.set(event)

    def leave(self, token: Token[OpenEvent | None]) -> None:
        """Undo `enter`."""
        self._current.reset(token)

    @contextlib.contextmanager
    def entered(self, event: OpenEvent) -> Iterator[None]:
        """Enter the event for the body."""
        token = self.enter(event)
        try:
            yield
        finally:
            self.leave(token)

    @contextlib.contextmanager
    def handling(self, event: OpenEvent) -> Iterator[None]:
        """Enter the event, and let a user's own OpenTelemetry spans nest under it meanwhile."""
        token = self.enter(event)
        outer = context.attach(trace.set_span_in_context(_EventSpan(self, event)))
        try:
            yield
        finally:
            context.detach(outer)
            self.leave(token)

    def span_context(self, event: OpenEvent) -> trace.SpanContext:
        """OpenTelemetry's address of the event, which is recorded now if it was not yet."""
        self.begin(event)
        return trace.SpanContext(
            trace_id=event.chain.trace_id,
            span_id=identity.span_id(self._key, event.sequence),
            is_remote=False,
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        )

    @contextlib.contextmanager
    def event(self, event_type: str, **parts: Any) -> Iterator[OpenEvent]:
        """Open an event, run the body as its handler, and close it; takes what `open` takes.

        An exception in the body is recorded on the event and goes on to the caller.
        """
        event = self.open(event_type, **parts)
        token = self.enter(event)
        try:
            yield event
        except BaseException as error:
            self.close(event, error=error)
            raise
        finally:
            self.leave(token)
            self.close(event)


class _EventSpan(trace.NonRecordingSpan):
    """The event in OpenTelemetry's context; it gets its ids only when somebody asks for them."""

    def __init__(self, tracer: EventTracer, event: OpenEvent) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self._tracer = tracer
        self._event = event

    def get_span_context(self) -> trace.SpanContext:
        return self._tracer.span_context(self._event)
