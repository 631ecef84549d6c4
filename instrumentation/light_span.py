"""A span of the OpenTelemetry API that is recorded as one event, at the cost of an event."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode
from opentelemetry.util import types

from fillpath.instrumentation.emitter import FLUSH_EVENTS
from fillpath.instrumentation.payload import clean_text, snapshot
from fillpath.instrumentation.semconv import Event
from fillpath.instrumentation.span_parts import (
    LINK_ATTRIBUTES,
    SPAN_EVENTS,
    STATUS_CODE,
    STATUS_DESCRIPTION,
    TRACE_STATE,
)

if TYPE_CHECKING:
    from fillpath.instrumentation.light_tracer import KnownParent, SpanDoor
    from fillpath.instrumentation.span_places import Ready, SpanPlaces

_log = logging.getLogger(__name__)
LAST: Final = FLUSH_EVENTS - 1
_NOTHING: Final[dict[str, Any]] = {}
PLAIN: Final = frozenset({str, float, int, bool})
"""Types of values that nobody can change, and that a record holds as they are."""


class ForeignChain(NamedTuple):
    """A chain whose trace id does not follow from its root, or that has a tracestate."""

    trace_id: int
    trace_state: trace.TraceState | None


class Details:
    """What most spans do not have.

    Attributes:
        remote: Trace id and span id of a parent in another system, or one known by its ids alone.
        links: Trace ids and span ids of further causes.
        link_attributes: Their attributes.
        events: As the lake has them.
        status: `OK` or `ERROR`; None while nobody has set it.
        description: What the host said about it.
        record_exception: Whether an exception that leaves the span's `with` becomes an event.
        set_status_on_exception: Whether it sets the status.
    """

    __slots__ = (
        "description", "events", "link_attributes", "links", "links_written", "record_exception",
        "remote", "set_status_on_exception", "status",
    )  # fmt: skip

    def __init__(self) -> None:
        self.remote: tuple[bytes, bytes] | None = None
        self.links: list[tuple[bytes, bytes]] = []
        self.link_attributes: list[dict[str, Any]] = []
        self.links_written = 0
        self.events: list[dict[str, Any]] = []
        self.status: str | None = None
        self.description: str | None = None
        self.record_exception = True
        self.set_status_on_exception = True

    def add_to(self, attributes: dict[str, Any]) -> None:
        """Add what the lake keeps among the attributes."""
        if self.events:
            attributes[SPAN_EVENTS] = list(self.events)
        if any(self.link_attributes):
            attributes[LINK_ATTRIBUTES] = list(self.link_attributes)
        if self.status is not None:
            attributes[STATUS_CODE] = self.status
            if self.description:
                attributes[STATUS_DESCRIPTION] = self.description


class LightSpan(trace.Span):
    """A span on its way to the spool. Made by `LightTracer`; see OpenTelemetry's `Span`."""

    # The base class has no slots, so slots would come on top of a dictionary and cost more.
    # `LightTracer.start_span` sets these itself: an `__init__` would cost another call.
    _door: SpanDoor
    _places: SpanPlaces
    _name: str
    _kind: str
    _parent: LightSpan | KnownParent | None
    _sequence: int
    _root: int
    _chain: ForeignChain | None
    _placed: Ready | None
    _start: int
    _attributes: dict[str, Any] | None
    _details: Details | None
    _ended: bool
    _written: bool
    _written_attributes: dict[str, Any]

    # -- The API ----------------------------------------------------------------------------------

    def get_span_context(self) -> trace.SpanContext:
        """Give the span's ids, which follow from the run and the span's sequence."""
        return self._door.span_context(self)

    def is_recording(self) -> bool:
        """Tell whether the span has not ended yet."""
        return not self._ended

    def set_attribute(self, key: str, value: types.AttributeValue) -> None:
        """Set an attribute; what the host changes in the value afterwards is not seen."""
        attributes = self._attributes
        if attributes is not None and type(value) in PLAIN and type(key) is str:
            attributes[key] = value
        else:
            self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, types.AttributeValue]) -> None:
        """Set attributes."""
        if not self._ended:
            add_attributes(self.attributes(), attributes)

    def add_event(
        self, name: str, attributes: types.Attributes = None, timestamp: int | None = None
    ) -> None:
        """Add an event at a moment: nanoseconds since the epoch, now if left out."""
        if self._ended:
            return
        event = {
            "name": clean_text(name),
            "time_unix_nano": time.time_ns() if timestamp is None else timestamp,
            "attributes": copied(attributes),
        }
        self.details().events.append(event)

    def add_link(self, context: trace.SpanContext, attributes: types.Attributes = None) -> None:
        """Add a further cause."""
        if self._ended or not (context.is_valid or attributes or context.trace_state):
            return
        details = self.details()
        details.links.append(ids_of(context))
        details.link_attributes.append(copied(attributes))

    def update_name(self, name: str) -> None:
        """Give the span another name."""
        if not self._ended:
            self.attributes()
            self._name = clean_text(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status: `OK` is final, and `UNSET` says nothing."""
        if isinstance(status, Status):
            code, description = status.status_code, status.description
        else:
            code = status
        if self._ended or code is StatusCode.UNSET:
            return
        details = self.details()
        if details.status != StatusCode.OK.name:
            details.status = code.name
            is_said = code is StatusCode.ERROR and description
            details.description = clean_text(str(description), 4096) if is_said else None

    def record_exception(
        self,
        exception: BaseException,
        attributes: types.Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an event that tells of an exception."""
        if self._ended:
            return
        kind = type(exception)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        try:
            told = {
                "exception.type": f"{module}{kind.__qualname__}",
                "exception.message": str(exception),
                "exception.stacktrace": "".join(traceback.format_exception(exception)),
            }
        except Exception as error:  # noqa: BLE001 - a host's __str__ may raise anything
            self._door.complain(error)
            told = {"exception.type": f"{module}{kind.__qualname__}"}
        told["exception.escaped"] = str(escaped)
        self.add_event("exception", {**told, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """End the span, which records it; a second call does nothing."""
        end = perf_counter_ns()
        if self._ended:
            return
        door, placed, parent = self._door, self._placed, self._parent
        if placed is None and not self._written:
            placed = self._places.ready(self._name, self._kind, self._attributes or _NOTHING)
        if placed is None or self._details is not None or end_time is not None:
            door.end(self, end if end_time is None else end_time - door.offset)
            return
        # What follows is `SpanDoor.end` for the span that nobody touched since it began.
        try:
            if parent is None:
                cause = 0
            else:
                if not parent._written:
                    door.begin(parent)
                cause = parent._sequence
            sequence = self._sequence
            with door.lock:
                if self._ended or self._written or door.stopped:
                    untouched = False
                else:
                    untouched = self._ended = True
                    site, event_time, a, b, c, d, e, _, _ = placed
                    door.append(
                        (
                            sequence,
                            cause,
                            self._root,
                            self._start,
                            end,
                            event_time,
                            site,
                            a,
                            b,
                            c,
                            d,
                            e,
                            None,
                        )
                    )
                    self._written = True
                    del door.open[sequence]
                    self._parent = self._attributes = None
            if not untouched:
                door.end(self, end)
            elif not sequence & LAST:
                door.flush()
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            door.complain(error)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        """End the span; an exception that leaves it is recorded and goes on to the caller."""
        if error is not None:
            self.note_exception(error, escaped=True)
        self.end()

    def note_exception(self, error: BaseException, *, escaped: bool = False) -> None:
        """Record an exception that leaves the span's `with`, as far as its starter wants that."""
        if self._ended:
            return
        details = self._details
        if details is None or details.record_exception:
            self.record_exception(error, escaped=escaped)
        if details is None or details.set_status_on_exception:
            self.set_status(StatusCode.ERROR, f"{type(error).__name__}: {_said(error)}")

    # -- For the door -----------------------------------------------------------------------------

    def attributes(self) -> dict[str, Any]:
        """The attributes as a mapping, which the span is recorded by from here on."""
        attributes, placed = self._attributes, self._placed
        if attributes is None:
            attributes = {}
            if placed is not None:
                _, event_time, a, b, c, d, e, texts, plan = placed
                attributes = plan.attributes(texts, (a, b, c, d, e), event_time)
            self._attributes = attributes
        self._placed = None
        return attributes

    def details(self) -> Details:
        """What most spans do not have, for one that has it."""
        details = self._details
        if details is None:
            details = self._details = Details()
        return details


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a host's __str__ may raise anything
        return ""


def add_attributes(taken: dict[str, Any], attributes: Mapping[str, Any]) -> None:
    """Add attributes to those that a span has; what OpenTelemetry allows no key for is left out."""
    for key, value in attributes.items():
        if type(key) is not str:
            continue
        if type(value) in PLAIN:
            taken[key] = value
            continue
        taken.pop(key, None)
        plain = snapshot({key: value})
        if Event.REPLACED in plain:
            plain[Event.REPLACED] = [*taken.get(Event.REPLACED, ()), *plain[Event.REPLACED]]
        taken.update(plain)


def copied(attributes: types.Attributes) -> dict[str, Any]:
    """Copy attributes that are no span's own: those of its events and links."""
    taken: dict[str, Any] = {}
    if attributes:
        add_attributes(taken, attributes)
    return taken


def ids_of(context: trace.SpanContext) -> tuple[bytes, bytes]:
    """Trace id and span id as bytes."""
    return context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")


def header_of(chain: ForeignChain | None) -> dict[str, str]:
    """A chain's tracestate as the attribute that carries it."""
    header = chain.trace_state.to_header() if chain is not None and chain.trace_state else ""
    return {TRACE_STATE: header} if header else {}
