"""The standard OpenTelemetry API as a way into the recording.

An application that is written against OpenTelemetry's API is recorded like an engine: its spans go
straight to the spool, without spans of the SDK in between.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation import _SPAN_KEY
from opentelemetry.util import types

from fillpath.instrumentation import identity
from fillpath.instrumentation.event_span import (
    EventSpan,
    get_context,
    reset_context,
    set_context,
)
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.light_span import (
    LAST,
    ForeignChain,
    LightSpan,
    copied,
    header_of,
    ids_of,
)
from fillpath.instrumentation.open_event import Chain, OpenEvent
from fillpath.instrumentation.payload import clean_text, snapshot
from fillpath.instrumentation.semconv import Resource
from fillpath.instrumentation.span_parts import SPAN_NAME
from fillpath.instrumentation.span_places import Placed, Recurrence, SpanPlaces
from fillpath.instrumentation.spool import FLAGS_SHIFT, NO_TIME, Flag, SideRecord
from fillpath.instrumentation.spool_writer import pack_side_record

if TYPE_CHECKING:  # who gives a sampler has the SDK; the others need not wait for it
    from opentelemetry.sdk.trace.sampling import Sampler

_Function = TypeVar("_Function", bound=Callable[..., Any])

MAX_OPEN: Final = 100_000
"""Spans that are kept in mind although they do not end; older ones are written as unfinished."""
_BEGIN, _FINISH, _ERROR, _SIDE = (
    int(flag) for flag in (Flag.BEGIN, Flag.FINISH, Flag.ERROR, Flag.SIDE)
)
_SAMPLED: Final = trace.TraceFlags(trace.TraceFlags.SAMPLED)
_NO_IDS: Final = trace.INVALID_SPAN_CONTEXT
_INTERNAL: Final = SpanKind.INTERNAL
_new_span: Final[Callable[[type[LightSpan]], LightSpan]] = object.__new__


class SpanDoor:
    """Takes the spans of one run.

    Why it needs a lock where the fast door needs none: a span may end while a child of it that ends
    in another thread has it written.

    Args:
        tracer: Tracer of the run.
        clock_offset: What makes wall clock of the process's monotonic clock.
    """

    def __init__(self, tracer: EventTracer, clock_offset: int) -> None:
        self.tracer = tracer
        self.offset = clock_offset
        self.recurrence = Recurrence()
        self.open: dict[int, LightSpan] = {}
        self.stopped = False
        self.complain = tracer.complain
        self.take, recorder = tracer.direct()
        self.site, self.append, self.flush = recorder.site, recorder.append, recorder.flush
        self._record = recorder.record
        self._key = identity.run_key(tracer.run_id)
        self.lock = threading.RLock()
        tracer.enclosing = self.enclosing
        self.far, self.is_full = tracer.limit.far, tracer.limit.is_full

    def enclosing(self, event: OpenEvent | None) -> OpenEvent | None:
        """What an event is caused by: the current event, or the current span if it is nearer."""
        span = get_context().get(_SPAN_KEY)
        if type(span) is not LightSpan or span._door is not self:
            return event
        # A handler's run has no number until it causes something, such as a span.
        if event is not None and not 0 < event.sequence < span._sequence:
            return event
        try:
            if not span._written:
                self.begin(span)
            chain = Chain(span._root, self._key)
            if span._chain is not None:
                chain.named, chain.trace_state = span._chain
            return self.tracer.stand_in(span._sequence, chain)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            self.complain(error)
            return event

    def span_context(self, span: LightSpan) -> trace.SpanContext:
        """Ids of a span."""
        chain = span._chain
        return trace.SpanContext(
            identity.trace_id(self._key, span._root) if chain is None else chain.trace_id,
            identity.span_id(self._key, span._sequence),
            is_remote=False,
            trace_flags=_SAMPLED,
            trace_state=None if chain is None else chain.trace_state,
        )

    def link_to_cause(
        self, parent: LightSpan | KnownParent | None, root: int, chain: ForeignChain | None
    ) -> trace.Link:
        """Link a span that begins a new trace to its cause, which is in another."""
        trace_id = identity.trace_id(self._key, root) if chain is None else chain.trace_id
        sequence = 0 if parent is None else parent._sequence
        return trace.Link(
            trace.SpanContext(trace_id, identity.span_id(self._key, sequence), is_remote=False)
        )

    def own(self, context: trace.SpanContext) -> tuple[int, int] | None:
        """Sequence and root of a span of this run, if these are its ids."""
        root = identity.root_of_trace(context.trace_id)
        found = identity.sequence_of_span(context.span_id)
        if root is None or found is None or root[0] != self._key:
            return None
        return (found[1], root[1]) if found[0] == identity.tag_of(self._key) else None

    def end(self, span: LightSpan, end: int) -> None:
        """Record a span that ends. Never raises."""
        try:
            parent = span._parent
            if parent is not None and not parent._written:
                self.begin(parent)
            placed = span._places.place(span._name, span._kind, span.attributes())
            with self.lock:
                if span._ended:
                    return
                span._ended = True
                if not self.stopped:
                    self._write(span, end, placed)
                    span._written = True
                self.open.pop(span._sequence, None)
                # Ancestors must not pile up behind one that is kept.
                span._parent = span._attributes = None
            if not span._sequence & LAST:
                self.flush()
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            self.complain(error)

    def _write(self, span: LightSpan, end: int, placed: Placed) -> None:
        """Hand over the record of a span that ends. The caller holds the lock."""
        site, numbers, event_time, rest = placed
        flags = 0
        if span._written:
            flags, rest = _FINISH, self._late(span)
        side = None
        if rest or span._details is not None:
            side, more = self._side(span, rest, flags)
            flags |= more
        self._hand_over(span, end, event_time, site | flags << FLAGS_SHIFT, numbers, side)

    def _hand_over(
        self,
        span: LightSpan,
        end: int,
        event_time: int,
        place: int,
        numbers: tuple[float, ...],
        side: bytes | None,
    ) -> None:
        parent = span._parent
        cause = 0 if parent is None else parent._sequence
        self._record(
            (span._sequence, cause, span._root, span._start, end, event_time, place, *numbers), side
        )

    def begin(self, span: LightSpan | KnownParent) -> None:
        """Write a span that goes on, because a record names it, or the run ends."""
        if isinstance(span, KnownParent):
            return
        parent = span._parent
        if parent is not None and not parent._written:
            self.begin(parent)
        with self.lock:
            if span._written or self.stopped:
                return
            attributes = dict(span.attributes())
            placed = span._places.place(span._name, span._kind, attributes)
            site, numbers, event_time, rest = placed
            side, flags = self._side(span, rest, _BEGIN)
            span._written_attributes = {**attributes, SPAN_NAME: span._name}
            place = site | (_BEGIN | flags) << FLAGS_SHIFT
            self._hand_over(span, NO_TIME, event_time, place, numbers, side)
            span._written = True
            if span._details is not None:
                span._details.links_written = len(span._details.links)

    def _late(self, span: LightSpan) -> dict[str, Any]:
        """What a span that was written got afterwards."""
        before = span._written_attributes
        now = {**span.attributes(), SPAN_NAME: span._name}
        return {k: v for k, v in now.items() if k not in before or before[k] is not v}

    def _side(
        self, span: LightSpan, rest: dict[str, Any] | None, flags: int
    ) -> tuple[bytes | None, int]:
        """Side record of a span, if it has one, and the flags that say so."""
        attributes = snapshot(rest) if rest else {}
        extra: dict[str, Any] = {}
        links: list[tuple[bytes, bytes]] = []
        error = 0
        if not flags & _FINISH:
            attributes.update(header_of(span._chain))
        if (details := span._details) is not None:
            details.add_to(attributes)
            links = details.links[details.links_written :]
            if details.remote is not None and not flags & _FINISH:
                extra["parent"] = details.remote
            error = _ERROR if details.status == StatusCode.ERROR.name else 0
        if not (attributes or links or extra):
            return None, error
        packed = pack_side_record(SideRecord(span._sequence, attributes, links, extra))
        return packed, error | _SIDE

    def write_oldest(self) -> None:
        """Write the oldest of too many spans that do not end."""
        with self.lock:
            oldest = list(itertools.islice(self.open.values(), MAX_OPEN // 10))
        for span in oldest:
            self.begin(span)
            self.open.pop(span._sequence, None)

    def stop(self) -> None:
        """Write the spans that are still open, as unfinished ones, and take no more."""
        for span in list(self.open.values()):
            try:
                self.begin(span)
            except Exception as error:  # noqa: BLE001
                self.complain(error)
        with self.lock:
            self.stopped = True
            self.open.clear()

    def abandon(self) -> None:
        """Take nothing more: in a forked child, where another thread may hold the lock for ever."""
        self.lock = threading.RLock()
        self.stopped = True
        self.open = {}


class LightTracer(trace.Tracer):
    """Starts the spans of one instrumentation scope; see OpenTelemetry's `Tracer`."""

    def __init__(
        self, door: SpanDoor, scope: tuple[str, str], sampler: Sampler | None, unsampled: Unsampled
    ) -> None:
        self._door = door
        self._places = SpanPlaces(door.site, door.tracer.portfolio, scope, door.recurrence)
        self._sampler = sampler
        self._unsampled = unsampled

    def start_span(
        self,
        name: str,
        context: context_api.Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[trace.Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        """Start a span; its parent is the span in the context, by default the current one."""
        door = self._door
        parent = (get_context() if context is None else context).get(_SPAN_KEY)
        try:
            if self._sampler is not None or door.stopped or door.tracer.takes is not None:
                result = self._judged(context, name, kind, attributes, links)
                if isinstance(result, trace.Span):
                    return result
                attributes = result
            places = self._places
            word = "INTERNAL" if kind is _INTERNAL else kind._name_  # the enum's lookups are slow
            placed = places.ready(name, word, attributes) if attributes else None
            chain, remote = None, None
            if parent is None:
                of_parent: LightSpan | KnownParent | None = None
                sequence = root = door.take()
            elif type(parent) is LightSpan and parent._door is door:
                of_parent, root, chain = parent, parent._root, parent._chain
                sequence = door.take()
            else:
                of_parent, root, chain, remote = self._strange(parent)
                sequence = door.take()
                root = root or sequence
            if sequence - root >= door.far and door.is_full(root):
                links = [*(links or ()), door.link_to_cause(of_parent, root, chain)]
                root, chain = sequence, None
            span = _new_span(LightSpan)
            span._door = door
            span._places = places
            span._kind = word
            span._parent = of_parent
            span._sequence = sequence
            span._root = root
            span._chain = chain
            span._placed = placed
            span._details = None
            span._ended = span._written = False
            if placed is not None:
                span._name = name
                span._attributes = None
            else:
                span._name = places.names.get(name) or places.clean_name(name)
                span._attributes = copied(attributes) if attributes else {}
            span._start = perf_counter_ns() if start_time is None else start_time - door.offset
            door.open[sequence] = span
            if chain is not None or links or not (record_exception and set_status_on_exception):
                _add_details(span, remote, links, record_exception, set_status_on_exception)
            if not sequence & LAST and len(door.open) > MAX_OPEN:
                door.write_oldest()
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            door.complain(error)
            return trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)
        return span

    def _judged(
        self,
        context: context_api.Context | None,
        name: str,
        kind: SpanKind,
        attributes: types.Attributes,
        links: Sequence[trace.Link] | None,
    ) -> trace.Span | types.Attributes:
        """Attributes of a span that is to be recorded, or a span that is not."""
        tracer = self._door.tracer
        if not (self._door.stopped or tracer.is_taken((attributes or {}).get(Resource.PORTFOLIO))):
            return trace.INVALID_SPAN
        current = trace.get_current_span(context)
        if self._door.stopped:
            return trace.NonRecordingSpan(current.get_span_context())
        if self._sampler is None:
            return attributes
        return self._unsampled.decide(
            self._sampler, current, context, name, kind, attributes, links
        )

    def _strange(
        self, parent: object
    ) -> tuple[
        LightSpan | KnownParent | None, int, ForeignChain | None, tuple[bytes, bytes] | None
    ]:
        """What a parent that is no span of this door is to its child.

        Returns:
            The parent if it is of this run, the root of its chain (0: the child), what is special
            about the chain, and the parent's ids if it is not of this run.
        """
        door = self._door
        if isinstance(parent, EventSpan) and parent.tracer is door.tracer:
            door.tracer.begin(parent.event)
            event, chain = parent.event, parent.event.chain
            foreign = None if chain.named is None else ForeignChain(chain.named, chain.trace_state)
            return KnownParent(event.sequence), chain.root, foreign, None
        ids = parent.get_span_context() if isinstance(parent, trace.Span) else _NO_IDS
        if not ids.is_valid or self._unsampled.is_one(ids):
            return None, 0, None, None
        found = identity.sequence_of_span(ids.span_id)
        open_one = door.open.get(found[1]) if found else None
        if open_one is not None and open_one.get_span_context()[:2] == ids[:2]:
            return open_one, open_one._root, open_one._chain, None
        foreign = ForeignChain(ids.trace_id, ids.trace_state or None)
        if (own := door.own(ids)) is not None:
            return KnownParent(own[0]), own[1], foreign, None
        return None, 0, foreign, ids_of(ids)

    def start_as_current_span(  # type: ignore[override]  # more than the API promises: no generator
        self, name: str, *args: Any, end_on_exit: bool = True, **parts: Any
    ) -> CurrentSpan:
        """Start a span and make it the current one: a context manager, or a decorator.

        Takes what `start_span` takes. An exception that leaves the body is recorded and goes on.
        """
        return CurrentSpan(self, name, args, parts, end_on_exit)


def _add_details(
    span: LightSpan,
    remote: tuple[bytes, bytes] | None,
    links: Sequence[trace.Link] | None,
    record_exception: bool,
    set_status_on_exception: bool,
) -> None:
    """Give a span what most have not; a chain with a tracestate needs a side record, too."""
    details = span.details()
    details.remote = remote
    details.record_exception = record_exception
    details.set_status_on_exception = set_status_on_exception
    for link in links or ():
        span.add_link(link.context, link.attributes)


class KnownParent:
    """A parent of which only the place in the run is known; it is in the spool already."""

    __slots__ = ("_sequence",)
    _written: Final = True

    def __init__(self, sequence: int) -> None:
        self._sequence = sequence


class CurrentSpan(contextlib.ContextDecorator):
    """Starts a span when it is entered, and makes it the current one until it is left."""

    def __init__(
        self,
        tracer: LightTracer,
        name: str,
        args: tuple[Any, ...],
        parts: dict[str, Any],
        end_on_exit: bool,
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._args = args
        self._parts = parts
        self._end_on_exit = end_on_exit

    def _recreate_cm(self) -> CurrentSpan:
        """Make one for another call of a decorated function."""
        return CurrentSpan(self._tracer, self._name, self._args, self._parts, self._end_on_exit)

    def __call__(self, function: _Function) -> _Function:
        """Run a function, or a coroutine to its end, in a span of its own each time."""
        if not inspect.iscoroutinefunction(function):
            return super().__call__(function)

        @functools.wraps(function)
        async def in_a_span(*args: Any, **parts: Any) -> Any:
            with self._recreate_cm():
                return await function(*args, **parts)

        return in_a_span  # type: ignore[return-value]  # it is called and awaited like the function

    def __enter__(self) -> trace.Span:
        if self._args or self._parts:
            span = self._tracer.start_span(self._name, *self._args, **self._parts)
        else:
            span = self._tracer.start_span(self._name)
        self._span = span
        self._token = set_context(Context({**get_context(), _SPAN_KEY: span}))
        return span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        try:
            reset_context(self._token)
        except Exception:  # noqa: BLE001 - it was left elsewhere: OpenTelemetry says so
            context_api.detach(self._token)
        span = self._span
        # GeneratorExit and the like are no failures; OpenTelemetry's own `use_span` agrees.
        if isinstance(error, Exception) and isinstance(span, LightSpan):
            span.note_exception(error)
        if self._end_on_exit:
            span.end()


class Unsampled:
    """Names spans that a sampler leaves out, so that it can leave out what they cause as well."""

    def __init__(self, run_id: str) -> None:
        self._key = identity.run_key(f"{run_id} unsampled")
        self._number = itertools.count(1)

    def is_one(self, ids: trace.SpanContext) -> bool:
        """Tell whether a span with these ids, and its whole trace, is left out."""
        root = identity.root_of_trace(ids.trace_id)
        return root is not None and root[0] == self._key

    def decide(
        self,
        sampler: Sampler,
        parent: trace.Span,
        context: context_api.Context | None,
        name: str,
        kind: SpanKind,
        attributes: types.Attributes,
        links: Sequence[trace.Link] | None,
    ) -> trace.Span | types.Attributes:
        """Ask a sampler; gives the span's attributes, or a span that is not recorded."""
        ids = parent.get_span_context()
        number = next(self._number)
        trace_id = ids.trace_id if ids.is_valid else identity.trace_id(self._key, number)
        result = sampler.should_sample(context, trace_id, name, kind, attributes, links)
        if result.decision.name == "RECORD_AND_SAMPLE":
            return result.attributes
        return trace.NonRecordingSpan(
            trace.SpanContext(
                trace_id,
                identity.span_id(self._key, number),
                is_remote=False,
                trace_state=result.trace_state,
            )
        )


class LightTracerProvider(trace.TracerProvider):
    """Gives tracers whose spans are recorded as events of one run; see `Tracing.tracer_provider`.

    Args:
        tracer: Tracer of the run.
        clock_offset: What makes wall clock of the process's monotonic clock: the run's.
        sampler: Decides which spans are recorded, such as `CriticalEventSampler()`; else all are.
        flush: Waits so many seconds until what was recorded has arrived; see `Tracing.flush`.
    """

    def __init__(
        self,
        tracer: EventTracer,
        clock_offset: int,
        *,
        sampler: Sampler | None = None,
        flush: Callable[[float], bool] | None = None,
    ) -> None:
        self._door = SpanDoor(tracer, clock_offset)
        self._sampler = sampler
        self._unsampled = Unsampled(tracer.run_id)
        self._flush = flush
        self._tracers: dict[tuple[str, str], LightTracer] = {}
        self._lock = threading.RLock()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: types.Attributes = None,
    ) -> trace.Tracer:
        """Give the tracer of a scope; its schema and attributes are not recorded."""
        name = clean_text(str(instrumenting_module_name or ""))
        scope = name, clean_text(str(instrumenting_library_version or ""))
        with self._lock:
            tracer = self._tracers.get(scope)
            if tracer is None:
                tracer = LightTracer(self._door, scope, self._sampler, self._unsampled)
                self._tracers[scope] = tracer
        return tracer

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the spans that have ended have arrived; tells whether they have.

        That is as in `Tracing.flush`. A provider that was made without a session brings them to the
        spool, and knows no more.
        """
        if self._flush is not None:
            return self._flush(timeout_millis / 1000)
        self._door.flush()
        return True

    def shutdown(self) -> None:
        """Record the spans that go on as unfinished; later ones are not recorded."""
        self._door.stop()

    def abandon(self) -> None:
        """Record nothing more: in a forked child, the run is the parent's."""
        self._door.abandon()
