"""Reads a host's own events: whatever they are made of, and wherever they keep what is needed."""

from __future__ import annotations

import datetime as dt
import math
import operator
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from opentelemetry.trace import SpanContext

from fillpath.instrumentation import semconv
from fillpath.instrumentation.host_words import key_of, kind_of, own_key, side
from fillpath.instrumentation.payload import MAX_NAME, printed
from fillpath.instrumentation.propagation import extract
from fillpath.instrumentation.traced_event import TracedEvent

Extractor = str | tuple[str, ...] | Callable[[Any], Any]
"""How to find a part of an event: an attribute or key, several to try in turn, or a function."""

SCALARS: Final = (str, bytes, bool, int, float, complex, Decimal, Enum, dt.date, dt.time, uuid.UUID)
"""Kinds of which two that are equal may be one object."""
_LENGTHS_OF_A_UUID: Final = (32, 36)
_NAMES_OF_OBJECTS: Final = ("id", "name", "symbol", "ticker", "value")
_DEFAULT_STR: Final[Any] = object.__str__
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class EventFields:
    """Where a host's events keep what fillpath needs; every part may be missing.

    Attributes:
        event_type: Kind of event; an Enum gives its value if that is a text, else its name. When
            there is none, the event's class names the kind (`FillEvent` is FILL), and for a plain
            mapping the topic it is published on.
        event_id: The host's id of the event.
        correlation_id: The host's name of the chain.
        causation_id: The host's id of the causing event, or several.
        event_time: Market time: nanoseconds (integer), seconds (float or Decimal), a date, a
            datetime or its ISO 8601 text (a naive one is taken as UTC).
        strategy: Who trades.
        symbol: What is traded.
        portfolio: Namespace such as ``fund/desk/book``.
        payload: The rest: a mapping, or an object whose fields are taken.
        headers: Headers that carry a cause in another process, as `propagation.extract` takes them.
            Where the event's own fields do, as in a Redis stream: ``lambda event: event``.
    """

    event_type: Extractor = ("event_type", "kind", "type")
    event_id: Extractor = ("event_id", "id")
    correlation_id: Extractor = "correlation_id"
    causation_id: Extractor = ("causation_id", "causation_ids", "cause_id", "parent_id")
    event_time: Extractor = ("event_time", "timestamp", "ts_event", "time")
    strategy: Extractor = ("strategy", "strategy_id")
    symbol: Extractor = ("symbol", "instrument", "ticker")
    portfolio: Extractor = ("portfolio", "namespace", "book")
    payload: Extractor = ("payload", "data")
    headers: Extractor = "headers"


class HostEvent(NamedTuple):
    """What was found in a host's event."""

    event_type: str
    event_id: str | None
    correlation_id: str | None
    causation_ids: tuple[str, ...]
    event_time: int | None
    strategy: str | None
    symbol: str | None
    venue: str | None
    portfolio: str | None
    attributes: dict[str, Any]
    remote: SpanContext | None = None
    """Its cause in another process."""


# Times that only `TracedEvent` has, and that the span has already.
_OF_A_TRACED_EVENT: Final = {"created", "emitted", "received", "processed", "sequence", "source"}


_HEADERS: Final = frozenset({"traceparent", "tracestate"})


class Unreadable:
    """Stands for a field that raised when it was read; recorded as `<Unreadable>`."""


UNREADABLE: Final = Unreadable()


class EventReader:
    """Finds the parts of a host's events. Nothing that an event does or holds makes it raise.

    Args:
        fields: Where the host keeps what.
    """

    def __init__(self, fields: EventFields) -> None:
        self._fields = fields

    def read(self, event: Any, topic: str | None = None) -> HostEvent:
        """Take an event apart; what its envelope lacks may be in its payload."""
        fields = self._fields
        outer = _Part(event)
        inner = _Part(outer.find(fields.payload))
        kind = _kind(outer.find(fields.event_type), event, topic)
        if isinstance(event, TracedEvent):
            outer.used |= _OF_A_TRACED_EVENT
        parts: dict[str, Any] = {
            "event_type": kind,
            "remote": outer.cause_in(fields.headers) or inner.cause_in(fields.headers),
            "event_id": outer.name(fields.event_id),
            "correlation_id": outer.name(fields.correlation_id),
            "causation_ids": _texts(outer.find(fields.causation_id)),
            "event_time": nanoseconds(outer.find(fields.event_time)),
            "strategy": outer.name(fields.strategy),
            "symbol": outer.name(fields.symbol) or inner.name(fields.symbol),
            "portfolio": outer.name(fields.portfolio) or inner.name(fields.portfolio),
        }
        if parts["event_time"] is None:
            parts["event_time"] = nanoseconds(inner.find(fields.event_time))
        if parts["strategy"] is None:
            source = event.source if isinstance(event, TracedEvent) else None
            parts["strategy"] = inner.name(fields.strategy) or source
        names_itself = isinstance(event, str | Enum)
        attributes = _attributes(kind, [*(() if names_itself else outer.rest()), *inner.rest()])
        if parts["causation_ids"]:
            attributes[semconv.Event.CAUSATION_ID] = ",".join(parts["causation_ids"])
        venue = _text(attributes.pop(semconv.Trading.VENUE, None))
        return HostEvent(venue=venue, attributes=attributes, **parts)

    def strategy_of(self, owner: Any) -> str | None:
        """The strategy that a handler's object says it is, by the same name as on events."""
        if owner is None or callable(self._fields.strategy):
            return None
        found = _Part(owner).find(self._fields.strategy)
        return _text(found) if isinstance(found, str) else None

    def identity(self, event: Any) -> tuple[str | None, str | None]:
        """Portfolio and id of an event, if it has them."""
        part = _Part(event)
        return part.name(self._fields.portfolio), part.name(self._fields.event_id)


class _Part:
    """An event or its payload, and which of its fields have been understood."""

    def __init__(self, value: Any) -> None:
        self._value = value
        if value is None:
            self._has_fields = self._is_mapping = False
        elif type(value) is dict:
            self._has_fields = self._is_mapping = True
        else:
            self._has_fields = not is_plain(value)
            self._is_mapping = self._has_fields and isinstance(value, Mapping)
        self.used: set[str] = set()

    def find(self, extractor: Extractor) -> Any:
        """The first of several fields that is there."""
        if callable(extractor):
            try:
                return extractor(self._value)
            except Exception:  # noqa: BLE001 - not every kind of event has every part
                return None
        if not self._has_fields:
            return None
        event, is_mapping = self._value, self._is_mapping
        for name in (extractor,) if isinstance(extractor, str) else extractor:
            try:
                value = event.get(name) if is_mapping else getattr(event, name, None)
            except Exception:  # noqa: BLE001, S112 - a host's property may raise anything
                continue
            if value is not None and not callable(value):
                self.used.add(name)
                return value
        return None

    def name(self, extractor: Extractor) -> str | None:
        """A field that is a name, or an object that has one."""
        found = self.find(extractor)
        if found is None:
            return None
        name = _text(found)
        if name is None and not callable(extractor):
            # What is no name is not understood yet.
            self.used.difference_update((extractor,) if isinstance(extractor, str) else extractor)
        return name

    def cause_in(self, extractor: Extractor) -> SpanContext | None:
        """The address in a field with headers; other headers count as fields of the event."""
        carrier = self.find(extractor)
        cause = None if isinstance(carrier, SCALARS) else extract(carrier)
        if cause is None or (isinstance(carrier, Mapping) and not _HEADERS.issuperset(carrier)):
            self.used.discard(extractor if isinstance(extractor, str) else "")
        if cause is not None:
            self.used |= _HEADERS
        return cause

    def rest(self) -> list[tuple[str, Any]]:
        """The fields that nobody asked for."""
        if self._value is None:
            return []
        if not self._has_fields:
            return [("value", self._value)]
        return [item for item in _fields_of(self._value).items() if item[0] not in self.used]


def _attributes(kind: str, fields: list[tuple[str, Any]]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    names_both = any(name == "client_order_id" for name, _ in fields)
    for name, value in fields:
        if value is None:
            continue
        key = key_of(kind, name)
        if name == "order_id" and names_both:
            key = semconv.Order.ID
        if key in attributes:
            key = own_key(kind, name)
        while key in attributes:
            key += "_"
        attributes[key] = side(value) if key == semconv.Order.SIDE else value
    return attributes


def _get(event: Any, name: str) -> Any:
    try:
        return getattr(event, name, None)
    except Exception:  # noqa: BLE001 - a host's property may raise anything
        return UNREADABLE


def is_plain(value: Any) -> bool:
    """Tell whether a value has no fields of its own."""
    return isinstance(value, SCALARS) or (
        isinstance(value, list | tuple | set | frozenset | bytearray)
        and not hasattr(value, "_asdict")
    )


def _fields_of(value: Any) -> dict[str, Any]:
    """The fields of a mapping, a dataclass, a named tuple, or any other object."""
    try:
        if isinstance(value, Mapping):
            return {k if isinstance(k, str) else printed(k, MAX_NAME): v for k, v in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            return dict(value._asdict())
        names = list(value.__dataclass_fields__) if is_dataclass(value) else list(_names_of(value))
    except Exception:  # noqa: BLE001 - a host's mapping may raise anything
        return {"fields": UNREADABLE}
    fields = {name: _get(value, name) for name in names if not name.startswith("_")}
    return {name: field for name, field in fields.items() if not callable(field)}


def _names_of(value: Any) -> dict[str, None]:
    of_its_own = _get(value, "__dict__")
    names = dict.fromkeys(of_its_own if isinstance(of_its_own, dict) else ())
    for kind in reversed(type(value).__mro__):
        slots = getattr(kind, "__slots__", ())
        names.update(dict.fromkeys((slots,) if isinstance(slots, str) else slots))
    return names


def _kind(given: Any, event: Any, topic: str | None) -> str:
    if given is None and isinstance(event, str | Enum):
        given = event
    if isinstance(given, Enum):
        given = given.value if isinstance(given.value, str) else given.name
    word = "" if given is None else printed(given, MAX_NAME).strip()
    if not word and topic is not None and (isinstance(event, Mapping) or is_plain(event)):
        word = topic
    return kind_of(word or _without_event(type(event).__name__))


@lru_cache(4096)  # a host has few classes of events
def _without_event(class_name: str) -> str:
    return re.sub(r"(?<=.)Event$", "", class_name)


def _text(value: Any) -> str | None:
    """A name, or None where a host has none: nothing, an empty text, NaN, the nil UUID."""
    if value is None or type(value) is str:
        return _said(value)
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, SCALARS) and type(value).__str__ is _DEFAULT_STR:
        of_its_own = (_get(value, name) for name in _NAMES_OF_OBJECTS)
        value = next((each for each in of_its_own if isinstance(each, SCALARS)), None)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return _said(printed(value, MAX_NAME))


def _said(text: str | None) -> str | None:
    text = None if text is None else text.strip()
    return None if not text or (len(text) in _LENGTHS_OF_A_UUID and not text.strip("0-")) else text


def _texts(value: Any) -> tuple[str, ...]:
    several = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    return tuple(text for each in several if (text := _text(each)) is not None)


def nanoseconds(value: Any) -> int | None:
    """A market time as nanoseconds since the epoch; None when it is none."""
    try:
        return _nanoseconds(value)
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        return None


def _nanoseconds(value: Any) -> int | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value.strip())
    if isinstance(value, dt.datetime):
        since = (value if value.tzinfo else value.replace(tzinfo=dt.UTC)) - _EPOCH
        whole = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
        return operator.index(whole + getattr(value, "nanosecond", 0))  # pandas has those
    if isinstance(value, dt.date):
        return (value - _EPOCH.date()).days * 86_400 * 10**9
    if isinstance(value, Decimal):
        return int(value * 10**9)
    if isinstance(value, float):
        return round(value * 1e6) * 1000  # a float of today's seconds knows no more digits
    if getattr(getattr(value, "dtype", None), "kind", "") == "M":
        return int(value.astype("datetime64[ns]").astype("int64"))
    return operator.index(value)
