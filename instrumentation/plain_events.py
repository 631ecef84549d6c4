"""The quick way of events that are but a name, a time and some numbers: bars, ticks, quotes.

Most of what a bus carries is of that sort, and causes nothing. Where such an event keeps what is
looked up once for its make, and its numbers go into the record as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

from fillpath.instrumentation import semconv
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.host_fields import EventReader
from fillpath.instrumentation.host_parts import Make, kind_word, text_of
from fillpath.instrumentation.host_times import nanoseconds
from fillpath.instrumentation.open_event import OpenEvent, Place
from fillpath.instrumentation.plain_readers import Layout, Reader, known_by, make_reader
from fillpath.instrumentation.spool import MAX_EXACT, NO_TIME, SLOTS
from fillpath.instrumentation.traced_event import TracedEvent

_PARTS: Final = ("event_type", "event_time", "symbol", "strategy", "portfolio")
_NAMED: Final = ("symbol", "strategy", "portfolio")
_NOT_PLAIN: Final = frozenset(
    {semconv.Order.SIDE, semconv.Order.CLIENT_ID, semconv.Order.ID, semconv.Trading.VENUE}
)
_NONE: Final = type(None)
_WORDS: Final = {str, _NONE}
_MAX_KNOWN: Final = 8_192
_MAX_SHAPES: Final = 64
_MAX_READERS: Final = 1024
_MAX_SORTS: Final = 4
"""Sorts of events of one class that are read quickly: prices may be whole numbers at times."""
_NOTHING_LEFT: Final[dict[str, Any]] = {}
_said = lru_cache(4096)(text_of)


class _Shape(NamedTuple):
    """What plain events of one make have in common whose fields are of the same types.

    Attributes:
        converts: Whether a number is no float.
        padding: For the numbers that a record has room for beside these.
        found: Place and site by topic, word of the kind, and names; None for what does not fit.
    """

    converts: bool
    padding: tuple[float, ...]
    found: dict[tuple[Any, ...], tuple[Place | None, int]]


class _Plan:
    """Where events of one make keep what; None for what they have not.

    Attributes:
        event_time: Name of the time.
        numbers: Names of the numbers.
        names: Names of the fields that stand before the numbers: the kind and the names.
        words: How many those are.
        named: Which of `_NAMED` there are, and whether there is a kind.
        take: Function that gives those fields.
        shapes: Shapes by the types of those fields; None for what is not plain.
    """

    __slots__ = ("event_time", "has_kind", "named", "names", "numbers", "shapes", "take", "words")

    def __init__(
        self,
        event_type: str | None,
        event_time: str | None,
        named: dict[str, str],
        numbers: tuple[str, ...],
    ) -> None:
        self.event_time = event_time
        self.numbers = numbers
        self.has_kind = event_type is not None
        self.named = tuple(named)
        wanted = (*(() if event_type is None else (event_type,)), *named.values())
        self.names = wanted
        self.words = len(wanted)
        self.take = _taker((*wanted, *numbers))
        self.shapes: dict[tuple[type, ...], _Shape | None] = {}

    def shape(self, kinds: tuple[type, ...]) -> None:
        """Look up the shape of events with fields of these types."""
        first = 1 if self.has_kind else 0
        names, numbers = kinds[first : self.words], kinds[self.words :]
        is_plain = (
            all(kind is float or kind is int for kind in numbers)
            and all(kind is str or kind is _NONE for kind in names)
            and all(kind in _WORDS or issubclass(kind, Enum) for kind in kinds[:first])
        )
        padding = (0.0,) * (SLOTS - len(numbers))
        shape = _Shape(int in numbers, padding, {}) if is_plain else None
        if len(self.shapes) < _MAX_SHAPES:
            self.shapes[kinds] = shape


def _none(_: Any, __: str | None) -> None:
    """Read nothing."""


def _are_exact(numbers: tuple[Any, ...]) -> bool:
    """Tell whether a record can hold the whole numbers among these."""
    for number in numbers:
        if type(number) is int and not -MAX_EXACT <= number <= MAX_EXACT:
            return False
    return True


def _taker(names: tuple[str, ...]) -> Callable[[Mapping[Any, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda fields: tuple(fields[name] for name in names)


class PlainEvents:
    """Opens plain events. What is not plain is left to the reader.

    Args:
        reader: Knows where the host's events keep what.

    Attributes:
        readers: Those that are made already, by `plain_readers.known_by`.
        tracer: Whose places they know.
    """

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader
        self._plans: dict[Make, _Plan | None] = {}
        self.tracer: EventTracer | None = None
        self.readers: dict[Any, Reader] = {}
        self._made: dict[Any, set[tuple[Any, ...]]] = {}

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
        values = plan.take(fields)
        kinds = tuple(map(type, values))
        if tracer is not self.tracer:
            self._forget(tracer)
        if kinds not in plan.shapes:
            plan.shape(kinds)
        shape = plan.shapes.get(kinds)
        if shape is None:
            return None
        words = plan.words
        numbers = values[words:]
        if shape.converts and not _are_exact(numbers):
            return None
        key = (topic, *values[:words])
        place, site = shape.found.get(key) or self._place(tracer, plan, shape, key, event, numbers)
        if place is None:
            return None
        if shape.converts:
            numbers = tuple(map(float, numbers))
        time = None if plan.event_time is None else fields[plan.event_time]
        at: int | None
        if time is None:
            at = NO_TIME if cause is None else cause.event_time
        else:
            at = nanoseconds(time, self._reader.unit)
        if at is None:
            return None
        self._make_reader(event, plan, kinds, shape, type(time))
        return tracer.open_at(place, cause, at, (site, numbers + shape.padding, _NOTHING_LEFT))

    def _make_reader(
        self, event: Any, plan: _Plan, kinds: tuple[type, ...], shape: _Shape, time_kind: type
    ) -> None:
        """Make the function that reads events of this class from now on, for a few sorts of it."""
        by = known_by(event)
        made = self._made.get(by)
        if made is None:
            if len(self._made) >= _MAX_READERS:
                return
            made = self._made[by] = set()
        sort = (plan, kinds, time_kind)
        if sort in made or len(made) >= _MAX_SORTS:
            return
        made.add(sort)
        layout = Layout(plan.names, plan.numbers, plan.event_time, kinds, time_kind)
        other = self.readers.get(by, _none)
        reader = make_reader(event, layout, self._reader.unit, shape.found, other)
        if reader is not None:
            self.readers[by] = reader

    def _forget(self, tracer: EventTracer) -> None:
        self.tracer = tracer
        self.readers, self._made = {}, {}
        for plan in self._plans.values():
            if plan is not None:
                plan.shapes = {}

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
        named: dict[str, str] = {part: where[part] for part in _NAMED if part in where}
        return _Plan(where.get("event_type"), where.get("event_time"), named, numbers)

    def _place(
        self,
        tracer: EventTracer,
        plan: _Plan,
        shape: _Shape,
        key: tuple[Any, ...],
        event: Any,
        numbers: tuple[float, ...],
    ) -> tuple[Place | None, int]:
        """Place and site of events of these names; None if one says nothing, or a number has none.

        They are looked up once.
        """
        found = self._find(tracer, plan, key, event, numbers)
        if len(shape.found) < _MAX_KNOWN:
            shape.found[key] = found
        return found

    def _find(
        self,
        tracer: EventTracer,
        plan: _Plan,
        key: tuple[Any, ...],
        event: Any,
        numbers: tuple[float, ...],
    ) -> tuple[Place | None, int]:
        topic, *words = key
        word = words.pop(0) if plan.has_kind else None
        named = dict(zip(plan.named, words, strict=True))
        said = {part: _said(name) for part, name in named.items()}
        if any(said[part] is None and name is not None for part, name in named.items()):
            return None, 0
        kind = self._reader.kind(kind_word(word, event, topic))
        place = tracer.place(
            kind,
            portfolio=said.get("portfolio"),
            strategy=said.get("strategy"),
            symbol=said.get("symbol"),
        )
        keys = self._reader.keys(kind, plan.numbers)
        site, _, rest = tracer.placed(place, dict(zip(keys, numbers, strict=True)))
        if rest or not _NOT_PLAIN.isdisjoint(keys):
            return None, 0
        return place, site
