"""Reads a host's own events: whatever they are made of, and wherever they keep what is needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, Final, NamedTuple

from opentelemetry.trace import SpanContext

from fillpath.instrumentation import semconv
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.flat_events import FlatMake, flat_make
from fillpath.instrumentation.host_parts import (
    MAX_KNOWN_NAMES,
    SCALARS,
    UNREADABLE,
    Make,
    Makes,
    Part,
    is_plain,
    kind_word,
    text_of,
    texts_of,
)
from fillpath.instrumentation.host_times import TIME_UNITS, TimeUnit, nanoseconds
from fillpath.instrumentation.host_words import key_of, kind_of, own_key, side
from fillpath.instrumentation.traced_event import TracedEvent

__all__ = ["SCALARS", "UNREADABLE", "EventFields", "EventReader", "HostEvent", "is_plain"]

_log = logging.getLogger(__name__)

Extractor = str | tuple[str, ...] | Callable[[Any], Any] | None
"""How to find a part of an event: an attribute or key, or a path of them with dots; several to try
in turn; a function of the event; None where there is no such part."""


@dataclass(frozen=True, slots=True)
class EventFields:
    """Where a host's events keep what fillpath needs; every part may be missing.

    A name is that of an attribute or a key. With dots (``header.id``, ``legs.0.symbol``) it is a
    path, unless the event has a field of that very name. A function that raises costs its own part
    only, and is complained of once.

    Attributes:
        event_type: Kind of event; an Enum gives its value if that is a text, else its name. When
            there is none, the event's class names the kind (`FillEvent` is FILL), and for a plain
            mapping the topic it is published on.
        event_id: The host's id of the event. Where an event has several, a `causation_id` may be
            any of them; the first is the event's.
        correlation_id: The host's name of the chain.
        causation_id: The host's id of the causing event, or several.
        event_time: Market time: a number of `time_unit`, a date, a datetime or its ISO 8601 text (a
            naive one is taken as UTC).
        strategy: Who trades.
        symbol: What is traded.
        portfolio: Namespace such as ``fund/desk/book``.
        payload: The rest: a mapping, or an object whose fields are taken.
        headers: Headers that carry a cause in another process, as `propagation.extract` takes them.
            Where the event's own fields do, as in a Redis stream: ``lambda event: event``.
        time_unit: What a time that is a number counts: ``s``, ``ms``, ``us``, ``ns``, or ``auto``
            to tell by its size (see `host_times.nanoseconds`).
        kinds: The host's words for kinds of events, in those of `semconv.EventType`:
            ``{"MARKET": "BAR"}``.
        names: The host's words for fields, in those of fillpath: a key of the semantic conventions
            or another word for it: ``{"px": "price", "lots": "trading.fill.quantity"}``.

    Raises:
        UsageError: When a part is none of these.
    """

    event_type: Extractor = ("event_type", "kind", "type")
    event_id: Extractor = ("event_id", "id")
    correlation_id: Extractor = "correlation_id"
    causation_id: Extractor = ("causation_id", "causation_ids", "cause_id", "parent_id")
    event_time: Extractor = (
        "event_time", "timestamp", "ts_event", "time", "datetime", "timeindex", "ts", "date",
    )  # fmt: skip
    strategy: Extractor = ("strategy", "strategy_id", "strategy_name")
    symbol: Extractor = ("symbol", "instrument", "ticker")
    portfolio: Extractor = ("portfolio", "namespace", "book")
    payload: Extractor = ("payload", "data")
    headers: Extractor = "headers"
    time_unit: TimeUnit = "auto"
    kinds: Mapping[str, str] = field(default_factory=dict, hash=False)
    names: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for part in PARTS:
            given = getattr(self, part)
            is_names = isinstance(given, tuple) and all(isinstance(each, str) for each in given)
            if not (given is None or isinstance(given, str) or is_names or callable(given)):
                raise UsageError(
                    f"EventFields({part}={given!r}): a part is found by a name, a tuple of names, "
                    "or a function of the event.",
                    next_command=f"EventFields({part}=lambda event: …)",
                )
        if self.time_unit not in TIME_UNITS:
            raise UsageError(
                f"EventFields(time_unit={self.time_unit!r}): it must be one of "
                f"{', '.join(TIME_UNITS)}."
            )


_OTHERS: Final = {"time_unit", "kinds", "names"}
PARTS: Final = tuple(each.name for each in fields(EventFields) if each.name not in _OTHERS)
"""Names of the parts that are looked for in an event."""


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
    other_ids: tuple[str, ...] = ()
    """What else a cause may call it."""


# Times that only `TracedEvent` has, and that the span has already.
_OF_A_TRACED_EVENT: Final = {"created", "emitted", "received", "processed", "sequence", "source"}


class EventReader:
    """Finds the parts of a host's events. Nothing that an event does or holds makes it raise.

    Args:
        where: Where the host keeps what.
    """

    def __init__(self, where: EventFields) -> None:
        self._where = where
        self._makes = Makes({part: getattr(where, part) for part in PARTS}, self._complain)
        self._kinds = {kind_of(word): kind_of(kind) for word, kind in where.kinds.items()}
        self._key_of = lru_cache(4096)(self._keys_of)
        self._complained: set[str] = set()
        self.unit = where.time_unit
        self.make_of = self._makes.make_of
        self.looks_up_only = not self._makes.functions
        """Whether no part is found by a function of the host's."""
        self._flat: dict[Make, FlatMake | None] = {}

    def _complain(self, part: str, event: Any, error: Exception) -> None:
        if part not in self._complained:
            self._complained.add(part)
            _log.warning(
                "fillpath leaves out what EventFields.%s cannot find; it raised %r of a %s",
                part,
                error,
                type(event).__name__,
            )

    def kind(self, found: str) -> str:
        """A kind of event in the host's words, in those that it gave for them."""
        return self._kinds.get(found, found)

    def keys(self, kind: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Keys of the fields of an event of this kind."""
        return (
            self._key_of(kind, names)
            if len(names) <= MAX_KNOWN_NAMES
            else self._keys_of(kind, names)
        )

    def read(self, event: Any, topic: str | None = None) -> HostEvent:
        """Take an event apart; what its envelope lacks may be in its payload."""
        if self.looks_up_only:
            found = self._makes.make_of(event)
            if found is not None:
                make, fields = found
                if make not in self._flat:
                    self._flat[make] = flat_make(make, fields, event)
                flat = self._flat[make]
                read = None if flat is None else self._read_flat(flat, fields, event, topic)
                if read is not None:
                    return read
        return self._read_any(event, topic)

    def _read_flat(
        self, flat: FlatMake, fields: Mapping[Any, Any], event: Any, topic: str | None
    ) -> HostEvent | None:
        """Take an event apart that holds nothing but values; None if one of them is unusual."""
        word = None if flat.event_type is None else fields[flat.event_type]
        event_time = None
        if flat.event_time is not None and (time := fields[flat.event_time]) is not None:
            event_time = nanoseconds(time, self.unit)
            if event_time is None:
                return None
        names = flat.names_in(fields)
        if names is None:
            return None
        event_id, correlation_id, causation_id, strategy, symbol, portfolio = names
        kind = self.kind(kind_word(word, event, topic))
        attributes = flat.rest_of(fields, self.keys, kind)
        if attributes is None:
            return None
        causation_ids = () if causation_id is None else (causation_id,)
        return self._host_event(
            kind, event_id, correlation_id, causation_ids, event_time, strategy, symbol, portfolio,
            attributes,
        )  # fmt: skip

    def _host_event(
        self,
        kind: str,
        event_id: str | None,
        correlation_id: str | None,
        causation_ids: tuple[str, ...],
        event_time: int | None,
        strategy: str | None,
        symbol: str | None,
        portfolio: str | None,
        attributes: dict[str, Any],
        remote: SpanContext | None = None,
        other_ids: tuple[str, ...] = (),
    ) -> HostEvent:
        if semconv.Order.SIDE in attributes:
            attributes[semconv.Order.SIDE] = side(attributes[semconv.Order.SIDE])
        if causation_ids:
            attributes[semconv.Event.CAUSATION_ID] = ",".join(causation_ids)
        venue = text_of(attributes.pop(semconv.Trading.VENUE, None))
        return HostEvent(
            kind, event_id, correlation_id, causation_ids, event_time, strategy, symbol, venue,
            portfolio, attributes, remote, other_ids,
        )  # fmt: skip

    def _read_any(self, event: Any, topic: str | None) -> HostEvent:
        outer = self._makes.part(event)
        payload = outer.find("payload")
        inner = None if payload is None else self._makes.part(payload, is_payload=True)
        kind = kind_word(outer.find("event_type"), event, topic)
        kind = self.kind(kind)
        source = None
        unit = self.unit
        if isinstance(event, TracedEvent):
            outer.used |= _OF_A_TRACED_EVENT
            source, unit = event.source, "ns"
        remote = outer.cause()
        event_id, *other_ids = outer.names("event_id") or (None,)
        correlation_id = outer.name("correlation_id")
        causation_ids = texts_of(outer.find("causation_id"))
        event_time = _time(outer, unit)
        strategy = outer.name("strategy")
        symbol = outer.name("symbol")
        portfolio = outer.name("portfolio")
        if inner is not None:
            remote = remote or inner.cause()
            symbol = symbol or inner.name("symbol")
            portfolio = portfolio or inner.name("portfolio")
            strategy = strategy or inner.name("strategy")
            if event_time is None:
                event_time = _time(inner, unit)
        names, values = outer.rest() if not isinstance(event, str) else ((), ())
        if inner is not None:
            more = inner.rest()
            names, values = (*names, *more[0]), (*values, *more[1])
        attributes = dict(zip(self.keys(kind, names), values, strict=True))
        return self._host_event(
            kind,
            event_id,
            correlation_id,
            causation_ids,
            event_time,
            strategy or source,
            symbol,
            portfolio,
            attributes,
            remote,
            tuple(other_ids),
        )

    def _keys_of(self, kind: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Keys of an event's fields, of which no two are the same."""
        words = self._where.names
        keys: dict[str, None] = {}
        names_both = "client_order_id" in names
        for name in names:
            word = words.get(name, name)
            key = key_of(kind, word)
            if word == "order_id" and names_both:
                key = semconv.Order.ID
            if key in keys:
                key = own_key(kind, name)
            while key in keys:
                key += "_"
            keys[key] = None
        return tuple(keys)

    def portfolio_of(self, event: Any) -> str | None:
        """Portfolio of an event, if it or its payload names one."""
        part = self._makes.part(event)
        name = part.name("portfolio")
        payload = part.find("payload") if name is None else None
        if payload is None:
            return name
        return self._makes.part(payload, is_payload=True).name("portfolio")

    def strategy_of(self, owner: Any) -> str | None:
        """The strategy that a handler's object says it is, by the same name as on events."""
        where = self._where.strategy
        if owner is None or where is None or callable(where):
            return None
        for name in (where,) if isinstance(where, str) else where:
            try:
                found = getattr(owner, name, None)
            except Exception:  # noqa: BLE001, S112 - a host's property may raise anything
                continue
            if type(found) is str:
                return text_of(found)
        return None

    def identity(self, event: Any) -> tuple[str | None, str | None]:
        """Portfolio and id of an event, if it has them."""
        part = self._makes.part(event)
        return part.name("portfolio"), part.name("event_id")


def _time(part: Part, unit: TimeUnit) -> int | None:
    found = part.find("event_time")
    if found is None:
        return None
    at = nanoseconds(found, unit)
    if at is None:
        part.forget("event_time")  # what is no time is not understood yet
    return at
