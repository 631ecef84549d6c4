"""The quick way of events that are but a name, a time and some numbers: bars, ticks, quotes.

Most of what a bus carries is of that sort, and causes nothing. Where such an event keeps what is
looked up once for its make, and its numbers go into the record as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fillpath.instrumentation import semconv
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.host_fields import EventReader
from fillpath.instrumentation.host_parts import Make, kind_word, text_of
from fillpath.instrumentation.host_times import nanoseconds
from fillpath.instrumentation.open_event import OpenEvent, Place
from fillpath.instrumentation.spool import MAX_EXACT, NO_TIME, SLOTS
from fillpath.instrumentation.traced_event import TracedEvent

_PARTS: Final = ("event_type", "event_time", "symbol", "strategy", "portfolio")
_NAMED: Final = ("symbol", "strategy", "portfolio")
_NOT_PLAIN: Final = frozenset(
    {semconv.Order.SIDE, semconv.Order.CLIENT_ID, semconv.Order.ID, semconv.Trading.VENUE}
)
_PADDING: Final = tuple((0.0,) * (SLOTS - number) for number in range(SLOTS + 1))
_MAX_KNOWN: Final = 8_192
_said = lru_cache(4096)(text_of)


class _Plan(NamedTuple):
    """Where events of one make keep what; None for what they have not."""

    event_type: str | None
    event_time: str | None
    named: tuple[str | None, ...]
    numbers: tuple[str, ...]
    is_mapping: bool


def _are_numbers(kinds: tuple[type, ...], values: list[Any]) -> bool:
    for kind, value in zip(kinds, values, strict=True):
        if kind is not float and (kind is not int or not -MAX_EXACT <= value <= MAX_EXACT):
            return False
    return True


def _are_names(word: Any, names: list[Any]) -> bool:
    for name in names:
        if name is not None and type(name) is not str:
            return False
    return word is None or type(word) is str or isinstance(word, Enum)


class PlainEvents:
    """Opens plain events. What is not plain is left to the reader.

    Args:
        reader: Knows where the host's events keep what.
    """

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader
        self._plans: dict[Make, _Plan | None] = {}
        self._tracer: EventTracer | None = None
        self._places: dict[tuple[Any, ...], Place] = {}
        self._sites: dict[tuple[Any, ...], int] = {}

    def open(
        self, tracer: EventTracer, event: Any, topic: str | None, cause: OpenEvent | None
    ) -> OpenEvent | None:
        """Begin an event, if it is a plain one.

        Args:
            tracer: Who records it.
            event: The host's event.
            topic: What it is published on.
            cause: The event that is running.
        """
        found = self._reader.make_of(event)
        if found is None:
            return None
        make, fields = found
        try:
            plan = self._plans[make]
        except KeyError:
            plan = self._plans[make] = self._plan(make, fields, event)
        if plan is None:
            return None
        values = [fields[name] for name in plan.numbers]
        kinds = tuple(map(type, values))
        word = None if plan.event_type is None else fields[plan.event_type]
        names = [None if name is None else fields[name] for name in plan.named]
        if not (_are_numbers(kinds, values) and _are_names(word, names)):
            return None
        if tracer is not self._tracer:
            self._tracer, self._places, self._sites = tracer, {}, {}
        key = (word, topic, type(event), *names)
        place = self._places.get(key) or self._place(tracer, key, event)
        if place is None:
            return None
        shape = (place, make, kinds)
        site = self._sites.get(shape)
        if site is None:
            site = self._site(tracer, shape, plan.numbers, values)
        at = self._time(None if plan.event_time is None else fields[plan.event_time], cause)
        if not site or at is None:
            return None
        numbers = (*map(float, values), *_PADDING[len(values)])
        return tracer.open_at(place, cause, at, (site, numbers, {}))

    def _time(self, given: Any, cause: OpenEvent | None) -> int | None:
        if given is not None:
            return nanoseconds(given, self._reader.unit)
        return NO_TIME if cause is None else cause.event_time

    def _plan(self, make: Make, fields: Mapping[Any, Any], event: Any) -> _Plan | None:
        at = make.at
        if (
            isinstance(event, TracedEvent)
            or not self._reader.looks_up_only
            or any(part not in _PARTS or len(names) != 1 for part, names in at.items())
            or not all(type(name) is str for name in make.names)
        ):
            return None
        where = {part: names[0] for part, names in at.items()}
        numbers = tuple(name for name in make.names if name not in where.values())
        if len(numbers) > SLOTS or not all(name in fields for name in (*where.values(), *numbers)):
            return None
        return _Plan(
            where.get("event_type"),
            where.get("event_time"),
            tuple(where.get(part) for part in _NAMED),
            numbers,
            make.is_mapping,
        )

    def _place(self, tracer: EventTracer, key: tuple[Any, ...], event: Any) -> Place | None:
        """Place of events of these names; None if one of them says nothing."""
        word, topic, _, *names = key
        symbol, strategy, portfolio = map(_said, names)
        if any(name is not None and _said(name) is None for name in names):
            return None
        kind = self._reader.kind(kind_word(word, event, topic))
        place = tracer.place(kind, portfolio=portfolio, strategy=strategy, symbol=symbol)
        if len(self._places) < _MAX_KNOWN:
            self._places[key] = place
        return place

    def _site(
        self,
        tracer: EventTracer,
        shape: tuple[Place, Make, tuple[type, ...]],
        names: tuple[str, ...],
        values: list[Any],
    ) -> int:
        """Number of the site for numbers of these meanings; 0 if they do not all fit."""
        place = shape[0]
        keys = self._reader.keys(place.parts[1], names)
        site, _, rest = tracer.placed(place, dict(zip(keys, values, strict=True)))
        if rest or not _NOT_PLAIN.isdisjoint(keys):
            site = 0
        if len(self._sites) < _MAX_KNOWN:
            self._sites[shape] = site
        return site
