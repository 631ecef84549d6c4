"""The tracer: turns what a host does into event records with exact parents.

An engine adapter opens an event when it is published, enters it while its handlers run, and closes
it afterwards. Whatever is opened in between gets it as its parent. A parent is always written
before its child, so a spool that was cut off anywhere still holds the ancestors of all it holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry import trace

from fillpath.instrumentation.emitter import (
    Emitter,
    as_field,
    as_names,
    emit_nothing,
    make_emitter,
)
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.event_columns import time_of
from fillpath.instrumentation.event_numbers import EventNumbers
from fillpath.instrumentation.event_span import Publication
from fillpath.instrumentation.lineage_door import lineage
from fillpath.instrumentation.open_event import (
    CURRENT,
    AttributeSource,
    Cause,
    Chain,
    Current,
    OpenEvent,
    Parts,
    Place,
    Placed,
)
from fillpath.instrumentation.payload import name_of
from fillpath.instrumentation.publication import Publications
from fillpath.instrumentation.recorder import DROPPED_ADAPTER_ERROR, Recorder
from fillpath.instrumentation.semconv import DEFAULT_PORTFOLIO, PUBLISH
from fillpath.instrumentation.spool import NO_TIME, SLOTS, Field
from fillpath.instrumentation.tally import Tally
from fillpath.instrumentation.trace_limit import DEFAULT_TRACE_LIMIT, TraceLimit

__all__ = ["CURRENT", "AttributeSource", "Chain", "EventTracer", "OpenEvent"]


class EventTracer(Publications):
    """Records the events of one run.

    Nothing here raises because of what a host's objects do or hold. No lock is held while code of
    the host runs (its attributes' `__str__`, a function that gives attributes, its log).

    Args:
        run_id: The run; with a sequence number it makes every id.
        recorder: Takes the records.
        portfolio: Namespace of events whose adapter does not name one.
        trace_limit: Events of one trace, about; beyond, an event begins a trace that links to its
            cause. 0 for any number.
        takes: Tells which portfolios' events are recorded; None: all.
    """

    def __init__(
        self,
        run_id: str,
        recorder: Recorder,
        portfolio: str,
        trace_limit: int = DEFAULT_TRACE_LIMIT,
        takes: Callable[[str], bool] | None = None,
    ) -> None:
        self.limit = TraceLimit(trace_limit)
        super().__init__(EventNumbers(run_id, self.limit), recorder)
        self.run_id = run_id
        self.portfolio = name_of(portfolio) or DEFAULT_PORTFOLIO
        self._places: dict[tuple[Any, ...], Place] = {}
        self.address = self._numbers.address
        self.enclosing: Callable[[OpenEvent | None], OpenEvent | None] | None = None
        """What is current in OpenTelemetry's context, if that is nearer than the current event."""
        self.takes = takes

    def call_portfolio(self, namespace: str) -> None:
        """Have events whose engine names no portfolio belong to this one from now on."""
        self.portfolio = name_of(namespace) or DEFAULT_PORTFOLIO
        self._places = {}

    @staticmethod
    def now() -> int:
        """Nanoseconds of the process's monotonic clock, by which events begin and end.

        The run's `clock_offset` added, they are wall clock.
        """
        return time.perf_counter_ns()

    def emitter(
        self,
        event_type: str,
        *,
        operation: str = PUBLISH,
        portfolio: str | None = None,
        strategy: str | None = None,
        symbol: str | None = None,
        venue: str | None = None,
        handler: str | None = None,
        fields: Iterable[str | Field] = (),
        names: Iterable[str] = (),
        texts: Mapping[str, Any] | None = None,
    ) -> Emitter:
        """Make the cheapest way to record many events of one kind.

        What it gives is called with the event's time, its cause, a number for each field and a text
        for each name, and gives a handle that can be a cause in turn::

            bar = tracer.emitter("BAR", symbol="AAPL", fields=[Bar.CLOSE, Bar.VOLUME])
            order = tracer.emitter("ORDER", fields=[Order.QUANTITY], names=[Order.CLIENT_ID])
            cause = bar(time, None, 190.5, 1200.0)
            order(time, cause, 100.0, "O-1")

        A field takes doubles unless it is a `spool.Field` of another kind. What a field or a name
        cannot hold (no number, no text) is recorded as it is nevertheless, at the cost of a slow
        event; a value that the host may change afterwards is copied when its block is packed,
        within 512 events or 10 ms.

        Args:
            event_type: Kind, one of `semconv.EventType` or the host's own word.
            operation: ``publish`` for the event itself, ``process`` for a handler's run.
            portfolio: Namespace such as ``fund/desk/book``.
            strategy: The engine's id of the strategy.
            symbol: Ticker or pair without the venue.
            venue: Venue code.
            handler: Handler that runs, as ``Class.method``.
            fields: Keys of the numbers that are given with each event, at most 5.
            names: Keys of the texts that are given with each event, such as its id; at most 16.
            texts: Attributes that all of these events have.

        Raises:
            UsageError: When there are too many of them, a field of an unknown kind or scale, or
                a key twice.
        """
        found = tuple(as_field(field) for field in fields)
        if len(found) > SLOTS:
            raise UsageError(
                f"An emitter of {event_type} events has {len(found)} fields; {SLOTS} are possible.",
                next_command="open and close the event, which takes any attributes",
            )
        found_names = as_names(names, found)
        if self.stopped or not self.is_taken(portfolio):
            return emit_nothing
        place = self._place(operation, event_type, portfolio, strategy, symbol, venue, handler)
        site = self._recorder.site(
            *place.parts,
            fields=found,
            texts=tuple(self._copied(texts).items()),
            counted=False,
        )
        return make_emitter(
            append=self._recorder.append,
            flush=self._recorder.flush,
            take=self._take,
            resolve=self.resolve,
            remote=self.record_remote,
            site=site,
            fields=found,
            names=found_names,
            limit=self.limit,
            trace_of=lambda root: f"{self._numbers.chain(root).trace_id:032x}",
        )

    def direct(self) -> tuple[Callable[[], int], Recorder]:
        """Give what another door to the same run needs: the next sequence, and the recorder."""
        return self._take, self._recorder

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
        parent: Cause | Current | None = CURRENT,
        links: Iterable[Cause] = (),
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
            parent: The causing event; by default the one whose handler is running. What
                `propagation.extract` gives is one of another process.
            links: Further causes.
            correlation_id: The host's name of the chain. An event without a cause begins the chain
                of that name. One that has a cause belongs to its cause's chain; if that has
                another name, this one is an attribute of the event and of what it causes.
            event_id: The host's own lasting id of the event.
        """
        if self.stopped:
            return self.nothing
        try:
            place = self._places[operation, event_type, portfolio, strategy, symbol, venue, handler]
        except Exception:  # noqa: BLE001 - a new place, or a name that cannot be hashed
            place = self._place(operation, event_type, portfolio, strategy, symbol, venue, handler)
        if place.is_off:
            return self.nothing
        if parent is CURRENT:
            cause = self.current
            if self.enclosing is not None:
                cause = self.enclosing(cause)
        elif parent is None or type(parent) is OpenEvent:
            cause = parent
        else:
            cause = self.event_of(parent)
        if cause is not None and cause.tracer is not self:
            cause = None
        event = OpenEvent(
            self,
            place,
            cause,
            NO_TIME if event_time is None else time_of(event_time),
            attributes if attributes is None or callable(attributes) else self._copied(attributes),
            tuple(links) if links else (),
            None if correlation_id is None else name_of(correlation_id) or None,
            None if event_id is None else name_of(event_id) or None,
        )
        if place.is_delivery:
            return event
        if cause is not None and not cause.written:
            self.begin(cause)
        with self._lock:
            if self.stopped:  # meanwhile
                self._outside(event)
            else:
                place.tally.opened += 1
                self._number(event)
                self._open[event.sequence] = event
        return event

    def place(
        self,
        event_type: str,
        *,
        operation: str = PUBLISH,
        portfolio: str | None = None,
        strategy: str | None = None,
        symbol: str | None = None,
        venue: str | None = None,
        handler: str | None = None,
    ) -> Place:
        """Look up once what many events have in common, for `open_at`."""
        return self._place(operation, event_type, portfolio, strategy, symbol, venue, handler)

    def placed(self, place: Place, attributes: Mapping[str, Any]) -> Placed:
        """Find site and numbers for attributes, for `open_at`; what fits neither is the rest."""
        return self._placed_by_site(place.site, place.parts, self._copied(attributes))

    def open_at(
        self,
        place: Place,
        cause: OpenEvent | None,
        event_time: int,
        attributes: Placed | dict[str, Any] | None = None,
        links: tuple[Cause, ...] = (),
    ) -> OpenEvent:
        """Begin an event of a place, as `open` does, at a fraction of its cost.

        Args:
            place: What `place` gave.
            cause: The causing event; it must be of this tracer.
            event_time: Simulated time, or `spool.NO_TIME`.
            attributes: What `placed` gave, or the same with numbers of the same meaning; or
                attributes as `payload.snapshot` gives them.
            links: Further causes.
        """
        if place.is_off:
            return self.nothing
        event = OpenEvent(self, place, cause, event_time, attributes, links, None, None)
        if place.is_delivery:
            if self.stopped:
                self._outside(event)
            return event
        if cause is not None and not cause.written:
            self.begin(cause)
        with self._lock:
            if self.stopped:
                self._outside(event)
                return event
            place.tally.opened += 1
            if cause is None:
                event.sequence = sequence = self._take()
                event.chain = self._numbers.chain(sequence)
            else:
                self._number(event)
                sequence = event.sequence
            self._open[sequence] = event
        return event

    def _place(self, operation: Any, event_type: Any, portfolio: Any, *names: Any) -> Place:
        """Place of events with these names, whatever a host calls a name."""
        strategy, symbol, venue, handler = map(name_of, names)
        parts: Parts = (
            name_of(operation) or PUBLISH,
            name_of(event_type) or "EVENT",
            name_of(portfolio) or self.portfolio,
            strategy,
            symbol,
            venue,
            handler,
        )
        if self.takes is None or self.takes(parts[2]):
            site = self._recorder.site(*parts)
            place = Place(parts, site, self._recorder.tally(parts[2], parts[1]))
        else:
            place = Place(parts, 0, Tally(), is_off=True)
        given = (operation, event_type, portfolio, *names)
        # Only of texts does it hold that what is equal also looks the same.
        if all(name is None or type(name) is str for name in given):
            place = self._places.setdefault(given, place)
        return place

    def stop(self) -> None:
        """Write the events that are still open, as unfinished ones, and take no more."""
        with self._lock:
            self.stopped = True
            unfinished, self._open = list(self._open.values()), {}
            events = [e.event if isinstance(e, Publication) else e for e in unfinished]
        for event in events:
            self.begin(event)

    @property
    def last_sequence(self) -> int:
        """Take a number and give the one before: the last that an event has. Once, at the end."""
        return self._take() - 1

    def abandon(self) -> None:
        """Take nothing more: in a forked child, the run is the parent's."""
        self._lock = threading.RLock()
        self.stopped = True
        self._open = {}
        self._recorder.abandon()

    def lost(self, event_type: str) -> None:
        """Count an event that could not be read as published and dropped."""
        with self._lock:
            if not self.stopped and self.is_taken(None):
                kind = name_of(event_type) or "EVENT"
                self._recorder.published(self.portfolio, kind)
                self._recorder.dropped(self.portfolio, kind, DROPPED_ADAPTER_ERROR)

    lineage = lineage

    def span_context(self, event: OpenEvent) -> trace.SpanContext:
        """OpenTelemetry's address of the event, which is recorded now if it was not yet."""
        if event.place.is_off:
            return trace.INVALID_SPAN_CONTEXT
        self.begin(event)
        self._recorder.addressed(event.sequence)
        return trace.SpanContext(
            trace_id=event.chain.trace_id,
            span_id=self._numbers.span_id(event),
            is_remote=False,
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
            trace_state=event.chain.trace_state,
        )
