"""The tracer: turns what a host does into event records with exact parents.

An engine adapter opens an event when it is published, enters it while its handlers run, and closes
it afterwards. Whatever is opened in between gets it as its parent. A parent is always written
before its child, so a spool that was cut off anywhere still holds the ancestors of all it holds.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import operator
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar, Token
from typing import Any

from opentelemetry import context, trace

from fillpath.instrumentation import identity
from fillpath.instrumentation.open_event import (
    CURRENT,
    AttributeSource,
    Chain,
    Current,
    OpenEvent,
)
from fillpath.instrumentation.payload import MAX_NAME, clean_text, printed, snapshot
from fillpath.instrumentation.recorder import DROPPED_ADAPTER_ERROR, Recorder
from fillpath.instrumentation.semconv import PROCESS, PUBLISH, Event
from fillpath.instrumentation.spool import FLAGS_SHIFT, NO_TIME, SLOTS, Flag, SideRecord
from fillpath.instrumentation.spool_writer import pack_side_record

__all__ = ["CURRENT", "AttributeSource", "Chain", "EventTracer", "OpenEvent"]

_log = logging.getLogger(__name__)
_NO_NUMBERS = (0.0,) * SLOTS


class EventTracer:
    """Records the events of one run.

    Nothing here raises because of what a host's objects do or hold. No lock is held while code of
    the host runs (its attributes' `__str__`, a function that gives attributes, its log).

    Args:
        run_id: The run; with a sequence number it makes every id.
        recorder: Takes the records.
        portfolio: Namespace of events whose adapter does not name one.
    """

    def __init__(self, run_id: str, recorder: Recorder, portfolio: str) -> None:
        self.run_id = run_id
        self.portfolio = _name(portfolio) or "default"
        self._recorder = recorder
        self._key = identity.run_key(run_id)
        self._sequence = itertools.count(1)
        self._current: ContextVar[OpenEvent | None] = ContextVar("fillpath_event", default=None)
        self._open: dict[int, OpenEvent] = {}
        self._lock = threading.RLock()
        self._stopped = False
        self._complained = False

    def now(self) -> int:
        """Nanoseconds of the process's monotonic clock; the run says how it stands to wall clock."""
        return time.perf_counter_ns()

    @property
    def current(self) -> OpenEvent | None:
        """The event whose handler is running in this thread or task."""
        return self._current.get()

    def open(
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
        parent: OpenEvent | Current | None = CURRENT,
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
            attributes: By semantic-convention key: a mapping, copied now; or a function that gives
                one, called when the event's first child appears, or when the event closes.
            parent: The causing event; by default the one whose handler is running.
            links: Further causes.
            correlation_id: The host's name of the chain. An event without a cause begins the chain
                of that name. One that has a cause belongs to its cause's chain; if that has
                another name, this one is an attribute of the event and of what it causes.
            event_id: The host's own lasting id of the event.
        """
        event = OpenEvent(self)
        event.event_type = _name(event_type) or "EVENT"
        event.operation = operation
        event.portfolio = _name(portfolio) or self.portfolio
        cause = self._current.get() if isinstance(parent, Current) else parent
        event.parent = cause if cause is not None and cause.tracer is self else None
        event.event_time = _time(event_time)
        event.correlation_id = _name(correlation_id) or None
        event.event_id = _name(event_id) or None
        event.attributes = attributes if callable(attributes) else self._copied(attributes)
        event.links = tuple(links)
        event.start = self.now()
        event.site = self._recorder.site(
            operation,
            event.event_type,
            event.portfolio,
            _name(strategy),
            _name(symbol),
            _name(venue),
            _name(handler),
        )
        if event.parent is not None and operation != PROCESS:
            self.begin(event.parent)
        with self._lock:
            if self._stopped:
                self._number(event)
                event.written = event.claimed = event.closed = True  # it is in no run
            elif operation != PROCESS:
                self._recorder.published(event.portfolio, event.event_type)
                self._number(event)
                self._open[event.sequence] = event
        return event

    def _number(self, event: OpenEvent) -> None:
        """Give the event its sequence, its chain, and the name it goes by."""
        parent, name = event.parent, event.correlation_id
        event.sequence = next(self._sequence)
        if parent is None or not parent.sequence:
            if name is None:
                trace_id = identity.trace_id(self._key, event.sequence)
            else:
                trace_id = identity.trace_id_of_correlation(self.run_id, name)
            event.chain = Chain(event.sequence, trace_id, name)
            return
        event.chain = parent.chain
        if name is None:
            event.correlation_id = parent.correlation_id
        elif name != event.chain.correlation_id:
            trace_id = identity.trace_id_of_correlation(self.run_id, name)
            if trace_id == event.chain.trace_id:  # the same name in another spelling
                event.correlation_id = event.chain.correlation_id

    def begin(self, event: OpenEvent) -> None:
        """Write the event now, because another one is about to name it."""
        if event.written:
            return
        if event.sequence == 0 and event.parent is not None:
            self.begin(event.parent)
        attributes = self._attributes_of(event)
        with self._lock:
            if event.claimed:  # another thread was quicker
                return
            # A task that a handler left behind may name a delivery that has ended already.
            self._write(event, attributes, {}, 0 if event.closed else Flag.BEGIN)

    def _write(
        self, event: OpenEvent, attributes: dict[str, Any], extra: dict[str, Any], flags: int
    ) -> None:
        """Hand a record over. The caller holds the lock, and has begun the event's parent."""
        event.claimed = True
        if event.sequence == 0:
            self._number(event)
        links, event.links, event.attributes = event.links, (), None
        if not flags & Flag.FINISH:
            if event.chain.correlation_id is not None:
                extra["correlation_id"] = event.chain.correlation_id
            if event.correlation_id not in (None, event.chain.correlation_id):
                attributes = {**attributes, Event.CORRELATION_ID: event.correlation_id}
            if event.event_id is not None:
                extra["event_id"] = event.event_id
        side = None
        if attributes or links or extra:
            pairs = [link.tracer.address(link) for link in links if link.sequence]
            side = pack_side_record(SideRecord(event.sequence, attributes, pairs, extra))
            flags |= Flag.SIDE
        parent = event.parent
        self._recorder.record(
            (
                event.sequence,
                parent.sequence if parent is not None else 0,
                event.chain.root,
                event.start,
                event.end,
                event.event_time,
                event.site | flags << FLAGS_SHIFT,
                *_NO_NUMBERS,
            ),
            side,
        )
        event.written = True  # only now: whoever sees this may write a child

    def _attributes_of(self, event: OpenEvent) -> dict[str, Any]:
        source = event.attributes
        if callable(source):
            try:
                source = source()
            except Exception as error:  # noqa: BLE001 - the host's code may raise anything
                self.complain(error)
                return {Event.REPLACED: ["*"]}
            return self._copied(source)
        return dict(source) if source else {}

    def _copied(self, attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        if not attributes:
            return {}
        try:
            return snapshot(attributes)
        except Exception as error:  # noqa: BLE001 - the host's mapping may raise anything
            self.complain(error)
            return {Event.REPLACED: ["*"]}

    def address(self, event: OpenEvent) -> tuple[bytes, bytes]:
        """Trace id and span id of an event that has a sequence."""
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
            error: What a handler raised; the span's status becomes Error. A cancelled task or a
                closed generator is no error.
            end: When it ended, by `now`; this moment when left out.
        """
        if event.closed:
            return
        extra: dict[str, Any] = {}
        if error is not None and _is_failure(error):
            extra["error"] = {
                "type": type(error).__qualname__,
                "message": printed(error, 4096),
            }
        late = self._copied(attributes)
        is_news = event.operation != PROCESS or bool(extra)
        early: dict[str, Any] = {}
        if is_news and not event.claimed:
            if event.parent is not None:
                self.begin(event.parent)
            early = self._attributes_of(event)
        with self._lock:
            if event.closed:  # another thread was quicker
                return
            event.closed = True
            event.end = self.now() if end is None else end
            if not is_news and not event.claimed:
                return
            flags = Flag.ERROR if extra else 0
            if event.claimed:
                self._write(event, late, extra, flags | Flag.FINISH)
            else:
                self._write(event, _merged(early, late), extra, flags)
            self._open.pop(event.sequence, None)
            event.parent = None  # an adapter may keep this event; its ancestors must not pile up

    def stop(self) -> None:
        """Write the events that are still open, as unfinished ones, and take no more."""
        with self._lock:
            self._stopped = True
            unfinished, self._open = list(self._open.values()), {}
        for event in unfinished:
            self.begin(event)

    def abandon(self) -> None:
        """Take nothing more: in a forked child, the run is the parent's."""
        self._lock = threading.RLock()
        self._stopped = True
        self._open = {}
        self._recorder.abandon()

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
                self.lost(losing)
            self.complain(error)

    def lost(self, event_type: str) -> None:
        """Count an event that could not be read as published and dropped."""
        with self._lock:
            if not self._stopped:
                kind = _name(event_type) or "EVENT"
                self._recorder.published(self.portfolio, kind)
                self._recorder.dropped(self.portfolio, kind, DROPPED_ADAPTER_ERROR)

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
        try:
            self._current.reset(token)
        except ValueError:  # a generator or coroutine that goes on in another context than before
            old = token.old_value
            self._current.set(None if old is Token.MISSING else old)

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
        if self._stopped:  # the event is in no run, so nothing may name it
            with self.entered(event):
                yield
            return
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
        failure: BaseException | None = None
        with self.handling(event):
            try:
                yield event
            except BaseException as error:
                failure = error
                raise
            finally:
                self.close(event, error=failure)


class _EventSpan(trace.NonRecordingSpan):
    """The event in OpenTelemetry's context; it gets its ids only when somebody asks for them."""

    def __init__(self, tracer: EventTracer, event: OpenEvent) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self._tracer = tracer
        self._event = event

    def get_span_context(self) -> trace.SpanContext:
        """The event's ids."""
        return self._tracer.span_context(self._event)


def _name(value: Any) -> str | None:
    """A name as the spool can hold it; an adapter may hand over what a host calls one."""
    if value is None:
        return None
    if type(value) is str and len(value) <= MAX_NAME and value.isascii():
        return value
    return clean_text(value) if isinstance(value, str) else printed(value, MAX_NAME)


def _time(value: Any) -> int:
    """A time as the spool can hold it."""
    try:
        nanoseconds = operator.index(value)
    except TypeError:
        return NO_TIME
    return nanoseconds if NO_TIME <= nanoseconds < -NO_TIME else NO_TIME


def _merged(early: dict[str, Any], late: dict[str, Any]) -> dict[str, Any]:
    replaced = [*early.get(Event.REPLACED, ()), *late.get(Event.REPLACED, ())]
    return {**early, **late, **({Event.REPLACED: replaced} if replaced else {})}


def _is_failure(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")
    cancelled = (GeneratorExit,) if asyncio is None else (GeneratorExit, asyncio.CancelledError)
    return not isinstance(error, cancelled)
