"""Takes a host's objects apart: events, their payloads, objects that own handlers.

What objects of one make have in common (a class and the names of its fields) is looked up once.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from opentelemetry.trace import SpanContext

from fillpath.instrumentation.host_words import kind_of
from fillpath.instrumentation.payload import MAX_NAME, printed
from fillpath.instrumentation.propagation import extract

SCALARS: Final = (str, bytes, bool, int, float, complex, Decimal, Enum, dt.date, dt.time, uuid.UUID)
"""Kinds of which two that are equal may be one object."""
_LENGTHS_OF_A_UUID: Final = (32, 36)
_NAMES_OF_OBJECTS: Final = ("id", "name", "symbol", "ticker", "value")
_DEFAULT_STR: Final[Any] = object.__str__
_DEFAULT_GETS: Final[tuple[Any, ...]] = (object.__getattribute__, tuple.__getattribute__)
_HEADERS: Final = frozenset({"traceparent", "tracestate"})
_MAX_MAKES: Final = 4096
MAX_KNOWN_NAMES: Final = 64
"""Fields of an object of a make that is remembered."""
_CERTAIN: Final = frozenset({float, int, str, bool, Decimal, dict, list, tuple})
"""Kinds of values that are neither None nor something that can be called."""


class Unreadable:
    """Stands for a field that raised when it was read; recorded as `<Unreadable>`."""


UNREADABLE: Final = Unreadable()


class Make:
    """What objects of one class with fields of the same names have in common.

    Attributes:
        has_fields: Whether it is more than a plain value.
        is_mapping: Whether its fields are items.
        names: Names of its fields, without private ones.
        at: For each part that is looked for by name, the names under which it may be.
    """

    __slots__ = ("at", "has_fields", "is_mapping", "names")

    def __init__(
        self,
        has_fields: bool,
        is_mapping: bool,
        names: tuple[str, ...],
        at: dict[str, tuple[str, ...]],
    ) -> None:
        self.has_fields = has_fields
        self.is_mapping = is_mapping
        self.names = names
        self.at = at


class Makes:
    """Knows the makes of a host's objects.

    Args:
        extractors: For each part, how it is found: a name, several, a function, or None.
        complain: Told of a part, an event, and what a function raised of it.
    """

    def __init__(
        self, extractors: Mapping[str, Any], complain: Callable[[str, Any, Exception], None]
    ) -> None:
        self._names: dict[str, tuple[str, ...]] = {}
        self.functions: dict[str, Callable[[Any], Any]] = {}
        for part, extractor in extractors.items():
            if callable(extractor):
                self.functions[part] = extractor
            elif extractor:
                self._names[part] = (extractor,) if isinstance(extractor, str) else extractor
        self.complain = complain
        self._known: dict[Any, Make] = {}
        self._plain = Make(False, False, (), {})

    def make_of(self, value: Any) -> tuple[Make, Mapping[Any, Any]] | None:
        """The make of an object, if there may be more of it, and its fields; None for a value."""
        fields: Mapping[Any, Any]
        key: tuple[Any, ...]
        if type(value) is dict:
            fields, key = value, tuple(value)
        elif value is None or is_plain(value):
            return None
        else:
            fields = fields_of(value)
            key = (type(value), *fields)
        make = self._known.get(key)
        if make is None:
            make = self._new(value, fields)
            if len(key) > MAX_KNOWN_NAMES or len(self._known) >= _MAX_MAKES:
                return None  # a book by price, say: no two are alike
            self._known[key] = make
        return make, fields

    def part(self, value: Any, *, is_payload: bool = False) -> Part:
        """Take an object apart.

        Args:
            value: The object.
            is_payload: Whether it is an event's payload; functions are asked of the event alone.
        """
        found = self.make_of(value)
        if found is not None:
            return Part(self, value, *found, is_payload)
        if value is None or is_plain(value):
            return Part(self, value, self._plain, {}, is_payload)
        fields = fields_of(value)
        return Part(self, value, self._new(value, fields), fields, is_payload)

    def _new(self, value: Any, fields: Mapping[Any, Any]) -> Make:
        kind = type(value)
        is_mapping = isinstance(value, Mapping)
        # A class that answers for any name has to be asked each time.
        answers_any = hasattr(kind, "__getattr__") or kind.__getattribute__ not in _DEFAULT_GETS

        def is_there(name: str) -> bool:
            if name in fields:
                return True
            first, *more = name.split(".")
            if more and is_there(first):
                return True
            return not is_mapping and (answers_any or hasattr(kind, first))

        at = {
            part: tuple(name for name in names if is_there(name))
            for part, names in self._names.items()
        }
        names = tuple(
            name
            for name in fields
            if is_mapping or not (isinstance(name, str) and name.startswith("_"))
        )
        return Make(True, is_mapping, names, {part: there for part, there in at.items() if there})


class Part:
    """An event or its payload, and which of its fields have been understood.

    Attributes:
        used: Names of those.
    """

    __slots__ = ("_fields", "_make", "_makes", "_value", "is_payload", "used")

    def __init__(
        self, makes: Makes, value: Any, make: Make, fields: Mapping[Any, Any], is_payload: bool
    ) -> None:
        self._makes = makes
        self._value = value
        self._make = make
        self._fields = fields
        self.is_payload = is_payload
        self.used: set[str] = set()

    def find(self, part: str) -> Any:
        """The first of several fields that is there."""
        names = self._make.at.get(part)
        if names is not None:
            for name in names:
                value = self._at(name)
                if type(value) in _CERTAIN or (value is not None and not callable(value)):
                    self.used.add(name)
                    return value
            return None
        function = self._makes.functions.get(part)
        if function is None or self.is_payload:
            return None
        try:
            return function(self._value)
        except Exception as error:  # noqa: BLE001 - the host's function may raise anything
            self._makes.complain(part, self._value, error)
            return None

    def _at(self, name: str) -> Any:
        fields = self._fields
        if name in fields:
            return fields[name]
        if "." not in name:
            return None if self._make.is_mapping else _get(self._value, name, None)
        found = self._value
        for step in name.split("."):
            found = _step(found, step)
            if found is None:
                return None
        return found

    def name(self, part: str) -> str | None:
        """A field that is a name, or an object that has one."""
        found = self.find(part)
        if found is None:
            return None
        name = text_of(found)
        if name is None:
            self.forget(part)  # what is no name is not understood yet
        return name

    def names(self, part: str) -> tuple[str, ...]:
        """All fields that are such a name; the first counts as understood."""
        first = self.find(part)
        if first is None:
            return ()
        found = texts_of(first)
        if not found:
            self.forget(part)
        there = self._make.at.get(part, ())
        if len(there) > 1:
            others = (self._at(name) for name in there if name not in self.used)
            found += tuple(text for each in others for text in texts_of(each))
        return tuple(dict.fromkeys(found))

    def forget(self, part: str) -> None:
        """Count the fields of a part as not understood after all."""
        self.used.difference_update(self._make.at.get(part, ()))

    def cause(self) -> SpanContext | None:
        """The address in a field with headers; other headers count as fields of the event."""
        carrier = self.find("headers")
        if carrier is None:
            return None
        cause = None if isinstance(carrier, SCALARS) else extract(carrier)
        if cause is None or (isinstance(carrier, Mapping) and not _HEADERS.issuperset(carrier)):
            self.forget("headers")
        if cause is not None:
            self.used |= _HEADERS
        return cause

    def rest(self) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Names and values of the fields that nobody asked for and that say something."""
        make, value = self._make, self._value
        if not make.has_fields:
            return ((), ()) if value is None or isinstance(value, Enum) else (("value",), (value,))
        fields, used, is_mapping = self._fields, self.used, make.is_mapping
        names: list[str] = []
        values: list[Any] = []
        for name in make.names:
            if name not in used:
                value = fields[name]
                if type(value) in _CERTAIN or (
                    value is not None and (is_mapping or not callable(value))
                ):
                    names.append(name if type(name) is str else printed(name, MAX_NAME))
                    values.append(value)
        return tuple(names), tuple(values)


def _step(value: Any, name: str) -> Any:
    try:
        if isinstance(value, Mapping):
            return value.get(name)
        if isinstance(value, list | tuple) and name.isdecimal():
            return value[int(name)]
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - a host's property may raise anything
        return None


def _get(event: Any, name: str, instead: Any = UNREADABLE) -> Any:
    try:
        return getattr(event, name, None)
    except Exception:  # noqa: BLE001 - a host's property may raise anything
        return instead


def is_plain(value: Any) -> bool:
    """Tell whether a value has no fields of its own."""
    return _is_plain(type(value))  # type: ignore[arg-type]  # a class has a hash


def is_scalar(value: Any) -> bool:
    """Tell whether a value is one of which two that are equal may be one object."""
    return _is_scalar(type(value))  # type: ignore[arg-type]  # a class has a hash


@lru_cache(_MAX_MAKES)
def _is_scalar(kind: type) -> bool:
    return issubclass(kind, SCALARS)


@lru_cache(_MAX_MAKES)
def _is_plain(kind: type) -> bool:
    return issubclass(kind, SCALARS) or (
        issubclass(kind, list | tuple | set | frozenset | bytearray)
        and not hasattr(kind, "_asdict")
    )


def fields_of(value: Any) -> Mapping[Any, Any]:
    """The fields of a mapping, a dataclass, a named tuple, or any other object."""
    kind = type(value)
    declared = _declared(kind)  # type: ignore[arg-type]  # a class has a hash
    try:
        if declared is None:
            return dict(value.items()) if isinstance(value, Mapping) else dict(value._asdict())
        its_own = value.__dict__ if kind.__dictoffset__ else None
    except Exception:  # noqa: BLE001 - a host's object may raise anything
        if declared is None:
            return {"fields": UNREADABLE}
        its_own = None
    if type(its_own) is dict:
        if not declared:
            return its_own
        if its_own.keys() == declared.keys():
            return its_own
    names = dict.fromkeys(its_own if isinstance(its_own, dict) else ())
    if declared:
        names = {**dict.fromkeys(declared), **names} if its_own is None else names | declared
    return {name: _get(value, name) for name in names}


@lru_cache(_MAX_MAKES)
def _declared(kind: type) -> dict[str, None] | None:
    """Names of the fields that a class declares; None if it has items instead."""
    if issubclass(kind, Mapping) or (issubclass(kind, tuple) and hasattr(kind, "_asdict")):
        return None
    names: dict[str, None] = {}
    for each in reversed(kind.__mro__):
        slots = each.__dict__.get("__slots__", ())
        names.update(dict.fromkeys((slots,) if isinstance(slots, str) else slots))
    found = getattr(kind, "__dataclass_fields__", {})
    names.update(dict.fromkeys(found if isinstance(found, dict) else ()))
    names.pop("__dict__", None)
    names.pop("__weakref__", None)
    return names


def kind_word(given: Any, event: Any, topic: str | None) -> str:
    """Kind of an event by its own word, else its topic, else its class."""
    if given is None and isinstance(event, str | Enum):
        given = event
    if isinstance(given, Enum):
        given = given.value if isinstance(given.value, str) else given.name
    word = "" if given is None else printed(given, MAX_NAME).strip()
    if not word and topic is not None and (isinstance(event, Mapping) or is_plain(event)):
        word = topic
    return kind_of(word or _without_event(type(event).__name__))


@lru_cache(_MAX_MAKES)  # a host has few classes of events
def _without_event(class_name: str) -> str:
    return re.sub(r"(?<=.)Event$", "", class_name)


def text_of(value: Any) -> str | None:
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


def texts_of(value: Any) -> tuple[str, ...]:
    """The names in a value that may be one or several."""
    if value is None:
        return ()
    several = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    return tuple(text for each in several if (text := text_of(each)) is not None)
