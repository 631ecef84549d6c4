"""The part of a tracer that records what most events are: numbers, and the runs of handlers.

Most bars cause nothing, and so do their handlers' runs. A bar has its number from the beginning,
and becomes one record in the end; a run that causes nothing becomes none. What asks for one of them
earlier makes it an `OpenEvent`, which goes on from there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from time import perf_counter_ns
from typing import Final

from opentelemetry import context
from opentelemetry.trace.propagation import _SPAN_KEY

from fillpath.instrumentation.emitter import FLUSH_EVENTS
from fillpath.instrumentation.event_span import (
    HandlerRun,
    Publication,
    get_context,
    reset_context,
    set_context,
)
from fillpath.instrumentation.event_writing import EventWriting
from fillpath.instrumentation.open_event import Cause, OpenEvent, Place, Placed
from fillpath.instrumentation.trace_limit import TraceLimit

_LAST: Final = FLUSH_EVENTS - 1
_new: Final[Callable[[type[Publication]], Publication]] = object.__new__


class Publications(EventWriting):
    """Records plain events without making events of them, and makes events of what asks for it."""

    limit: TraceLimit

    @abstractmethod
    def open_at(
        self,
        place: Place,
        cause: OpenEvent | None,
        event_time: int,
        attributes: Placed | None = None,
        links: tuple[Cause, ...] = (),
    ) -> OpenEvent:
        """Begin an event of a place."""

    def enter_publication(
        self,
        place: Place,
        site: int,
        numbers: tuple[float, ...],
        event_time: int,
        cause: OpenEvent | None = None,
    ) -> Publication | None:
        """Begin a plain event, and do what `handling` does until `leave_publication`.

        Args:
            place: What `place` gave.
            site: What `placed` gave for attributes of this meaning.
            numbers: The attributes' numbers, as many as a record has.
            event_time: Simulated time, or `spool.NO_TIME`.
            cause: The causing event; it must be of this tracer.

        Returns:
            What was begun; None where an event must be opened, or none is recorded.
        """
        made = _new(Publication)
        made.began = perf_counter_ns()
        made.tracer = self
        made.place = place
        made.site = site
        made.numbers = numbers
        made.event_time = event_time
        if cause is not None:
            made.parent = cause
            if type(cause) is not OpenEvent or cause.correlation_id is not None:
                return None
            if not cause.written:
                self.begin(cause)
            made.chain = chain = cause.chain
            if chain.correlation_id is not None or not cause.sequence:
                return None
        with self._lock:
            if self.stopped or place.is_off:
                return None
            place.tally.opened += 1
            made.sequence = sequence = self._take()
            self._open[sequence] = made
        if (
            cause is not None
            and sequence - cause.chain.root >= self.limit.far
            and self.limit.is_full(cause.chain.root)
        ):
            made.chain = None
            self.event_of_publication(made)  # which says whose trace it would belong to
        made.token = self._current.set(made)
        around = get_context()
        inside = {**around, _SPAN_KEY: made} if around else {_SPAN_KEY: made}
        made.outer = set_context(context.Context(inside))
        return made

    def leave_publication(self, made: Publication, error: BaseException | None = None) -> None:
        """End a plain event.

        Args:
            made: What `enter_publication` gave.
            error: What publishing it raised.
        """
        token = made.token
        if token is None:
            return  # a second time
        end = perf_counter_ns()
        try:
            reset_context(made.outer)
            self._current.reset(token)
            made.token = made.outer = None
        except (ValueError, RuntimeError):
            self._leave_contexts(made)
        if error is None and made.made is None:
            with self._lock:
                if made.made is None:  # or another thread has asked for it meanwhile
                    sequence, parent, chain = made.sequence, made.parent, made.chain
                    self._open.pop(sequence, None)  # it is not there in a forked child
                    made.ended = end
                    made.parent = None  # the ancestors of what is remembered must not pile up
                    self._append(
                        (
                            sequence,
                            0 if parent is None else parent.sequence,
                            sequence if chain is None else chain.root,
                            made.began,
                            end,
                            made.event_time,
                            made.site,
                            *made.numbers,
                            None,
                        )
                    )
            if made.ended:
                if not sequence & _LAST:
                    self._recorder.flush()
                return
        self.close(made.event, error=error, end=end)
        made.ended = end

    def interrupt_publication(self, made: Publication) -> OpenEvent:
        """Leave a plain event whose publishing goes on later; gives what is to be closed then."""
        event = made.event
        self._leave_contexts(made)
        return event

    def event_of_publication(self, publication: Publication) -> OpenEvent:
        """Make an event of a plain one, because something asks for it."""
        made = publication
        with self._lock:
            event = made.made
            if event is not None:
                return event
            attributes: Placed = made.site, made.numbers, {}
            event = OpenEvent(
                self,  # type: ignore[arg-type]  # an EventTracer
                made.place,
                made.parent,
                made.event_time,
                attributes,
                (),
                None,
                None,
            )
            event.sequence = made.sequence
            event.chain = made.chain or self._numbers.chain(made.sequence)
            event.start = made.began
            if made.ended:
                event.end, event.attributes = made.ended, None
                event.written = event.claimed = event.closed = True
            else:
                self._open[made.sequence] = event
            made.made = event
            made.parent = None
        return event

    def event_of_run(self, run: HandlerRun) -> OpenEvent:
        """Make an event of the run of a handler, because something asks for it."""
        cause = run.cause
        if cause is not None and type(cause) is not OpenEvent:
            cause = self.event_of(cause)
        if cause is not None and cause.tracer is not self:
            cause = None
        with self._lock:
            event = run.made
            if event is None:
                event = self.open_at(run.place, cause, run.event_time, None, run.links)
                event.start = run.began
                run.made = event  # before its end is looked at: who ends it looks the other way
                run.cause, run.links = None, ()
            if run.ended and not event.closed and not event.claimed:
                event.end, event.closed = run.ended, True
        return event
