"""Makes the function that reads plain events of one class, as `namedtuple` makes its classes.

Where such an event keeps what is known, so nothing has to be looked for: the function fetches the
fields, sees that they are of the same types as before, and gives them. It is made again for each
session, of a text that is compiled once.
"""

from __future__ import annotations

import datetime as dt
from collections import namedtuple
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fillpath.instrumentation.host_times import TimeUnit, nanoseconds
from fillpath.instrumentation.open_event import Place
from fillpath.instrumentation.spool import MAX_EXACT, NO_TIME, SLOTS

Read = tuple[Place, int, tuple[float, ...], int]
"""Place, site, numbers and time of an event."""
Reader = Callable[[Any, str | None], Read | None]
"""Reads an event that was published on a topic; None where it is not of the sort it knows."""

_EXAMPLE: Final[Any] = namedtuple("_EXAMPLE", "field")  # noqa: PYI024 - a class like the host's
_AS_DICT: Final = _EXAMPLE._asdict.__code__
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NANOSECONDS: Final = 10**17
_NEVER: Final = 2**63  # what a record cannot hold
_HEAD: Final = "def make(found, other, nanoseconds, unit, utc, naive, aware, kinds):"
_MICROSECONDS: Final = (
    "((since.days * 86400 + since.seconds) * 1000000 + since.microseconds) * 1000"
)


class Layout(NamedTuple):
    """Where events of one class keep their fields.

    Attributes:
        words: Names of the kind and of the names, as far as they have them.
        numbers: Names of the numbers.
        event_time: Name of the time.
        kinds: Types of the words and the numbers.
        time_kind: Type of the time.
    """

    words: tuple[str, ...]
    numbers: tuple[str, ...]
    event_time: str | None
    kinds: tuple[type, ...]
    time_kind: type


def known_by(event: Any) -> Any:
    """What says where an event keeps what: its class, or a dictionary's keys."""
    kind = type(event)
    return tuple(event) if kind is dict else kind


def make_reader(
    event: Any,
    layout: Layout,
    unit: TimeUnit,
    found: dict[tuple[Any, ...], tuple[Place | None, int]],
    other: Reader,
) -> Reader | None:
    """Make the reader of events that are like this one.

    Args:
        event: One of them.
        layout: Where it keeps what.
        unit: What a time that is a number counts.
        found: Place and site by topic and words, as far as they are known.
        other: Reads those that are different.

    Returns:
        The reader; None if the class keeps its fields in a way that has to be looked up each time.
    """
    names = (*layout.words, *layout.numbers)
    names = names if layout.event_time is None else (*names, layout.event_time)
    fetched = _fetching(event, names)
    if fetched is None:
        return None
    variables = {name: f"v{number}" for number, name in enumerate(names)}
    checks: list[str] = []
    kinds: list[type] = []
    for name, kind in zip(names, (*layout.kinds, layout.time_kind), strict=False):
        checks.append(f"type({variables[name]}) is k{len(kinds)}")
        kinds.append(kind)
    numbers = []
    for name, kind in zip(layout.numbers, layout.kinds[len(layout.words) :], strict=True):
        variable = variables[name]
        if kind is int:
            checks.append(f"{-MAX_EXACT} <= {variable} <= {MAX_EXACT}")
            variable = f"float({variable})"
        numbers.append(variable)
    numbers += ["0.0"] * (SLOTS - len(numbers))
    time_variable = None if layout.event_time is None else variables[layout.event_time]
    lines = [
        *fetched(variables),
        f"if not ({' and '.join(checks) or 'True'}):",
        "    return other(event, topic)",
        *_timing(time_variable, layout.time_kind, unit),
        f"place = found((topic, {''.join(variables[name] + ', ' for name in layout.words)}))",
        "if place is None or place[0] is None:",
        "    return None",
        f"return *place, ({', '.join(numbers)}), at",
    ]
    make = _compiled(
        "\n".join(
            [
                _HEAD,
                *(f"    k{number} = kinds[{number}]" for number in range(len(kinds))),
                "    def read(event, topic):",
                "        try:",
                *(f"            {line}" for line in lines),
                "        except Exception:",  # an object of the host's may raise anything
                "            return other(event, topic)",
                "    return read",
            ]
        )
    )
    naive = _EPOCH.replace(tzinfo=None)
    reader: Reader = make(found.get, other, nanoseconds, unit, dt.UTC, naive, _EPOCH, kinds)
    return reader


@lru_cache(1024)
def _compiled(source: str) -> Callable[..., Reader]:
    made: dict[str, Any] = {}
    exec(compile(source, __file__, "exec"), made)  # noqa: S102 - names stand in it as literals only
    make: Callable[..., Reader] = made["make"]
    return make


def _timing(variable: str | None, kind: type, unit: TimeUnit) -> list[str]:
    """Lines that find the time, by which events are put in order."""
    if variable is None or kind is type(None):
        return [f"at = {NO_TIME}"]
    asked = [
        f"at = nanoseconds({variable}, unit)",
        "if at is None:",
        "    return other(event, topic)",
    ]
    if kind is int and unit in {"auto", "ns"}:
        return [
            f"at = {variable}",
            f"if not {_NANOSECONDS} <= at < {_NEVER}:",
            *(f"    {line}" for line in asked),
        ]
    if kind is dt.datetime:
        return [
            f"zone = {variable}.tzinfo",
            "if zone is None or zone is utc:",
            f"    since = {variable} - (naive if zone is None else aware)",
            f"    at = {_MICROSECONDS}",
            "else:",
            f"    at = {_NEVER}",
            f"if not {-_NEVER} < at < {_NEVER}:",
            *(f"    {line}" for line in asked),
        ]
    if kind.__name__ == "Timestamp" and kind.__module__.startswith("pandas."):
        return [f"at = {variable}.value"]  # nanoseconds, whatever it counts itself
    return asked


def _fetching(event: Any, names: tuple[str, ...]) -> Callable[[dict[str, str]], list[str]] | None:
    """What gives the lines that fetch fields; None if that takes more."""
    kind = type(event)
    if kind is dict:  # of these very keys
        return lambda to: [f"{variable} = event[{name!r}]" for name, variable in to.items()]
    if issubclass(kind, tuple):
        fields = getattr(kind, "_fields", None)
        as_dict = getattr(getattr(kind, "_asdict", None), "__code__", None)
        if type(fields) is not tuple or as_dict is not _AS_DICT or set(fields) != set(names):
            return None
        if kind.__iter__ is not tuple.__iter__ or len(fields) != len(event):
            return None
        return lambda to: [f"{', '.join(to[name] for name in fields)}, = event"]
    if kind.__dictoffset__:
        own = event.__dict__
        if type(own) is not dict or not own.keys() >= set(names):
            return None
        return lambda to: [
            "fields = event.__dict__",
            f"if len(fields) != {len(own)}:",
            "    return other(event, topic)",
            *(f"{variable} = fields[{name!r}]" for name, variable in to.items()),
        ]
    if not all(name.isidentifier() for name in names):
        return None
    return lambda to: [f"{variable} = event.{name}" for name, variable in to.items()]
