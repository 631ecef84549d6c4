"""Events that hold nothing but values, each part in one field of its own: orders, fills, signals.

Where such a one keeps what is known from its make, so nothing has to be looked for. What is unusual
(a name that says nothing, an object) is left to `host_fields`, which looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from fillpath.instrumentation.host_parts import Make, text_of
from fillpath.instrumentation.traced_event import TracedEvent

_NAMED: Final = (
    "event_id", "correlation_id", "causation_id", "strategy", "symbol", "portfolio",
)  # fmt: skip
_OF_MANY: Final = frozenset({"strategy", "symbol", "portfolio"})
"""Names that come again and again; ids do not."""
_PARTS: Final = frozenset({*_NAMED, "event_type", "event_time"})
_VALUES: Final = frozenset({float, int, str, bool, Decimal})
_said_often: Final = lru_cache(4096)(text_of)


class FlatMake:
    """Where events of one make keep what.

    Attributes:
        event_type: Name of the kind; None if there is none.
        event_time: The same of the time.
    """

    __slots__ = ("_named", "_rest", "event_time", "event_type")

    def __init__(self, make: Make) -> None:
        where = {part: names[0] for part, names in make.at.items()}
        self.event_type = where.get("event_type")
        self.event_time = where.get("event_time")
        self._named = tuple((where.get(part), part in _OF_MANY) for part in _NAMED)
        taken = set(where.values())
        self._rest = tuple(name for name in make.names if name not in taken)

    def names_in(self, fields: Mapping[Any, Any]) -> list[str | None] | None:
        """Ids and names of an event; None if one of them is no plain text."""
        found: list[str | None] = []
        for name, comes_again in self._named:
            value = None if name is None else fields[name]
            if value is None:
                found.append(None)
                continue
            if type(value) is not str:
                return None
            text = _said_often(value) if comes_again else text_of(value)
            if text is None:
                return None
            found.append(text)
        return found

    def rest_of(
        self,
        fields: Mapping[Any, Any],
        keys: Callable[[str, tuple[str, ...]], tuple[str, ...]],
        kind: str,
    ) -> dict[str, Any] | None:
        """What else an event says, by key; None if that is more than plain values.

        Args:
            fields: The event's fields.
            keys: Gives the keys for names of an event of this kind.
            kind: Kind of the event.
        """
        names: tuple[str, ...] = self._rest
        values = [fields[name] for name in names]
        if not _VALUES.issuperset(map(type, values)):
            there = [name for name in names if fields[name] is not None]
            names, values = tuple(there), [fields[name] for name in there]
            if not _VALUES.issuperset(map(type, values)):
                return None
        return dict(zip(keys(kind, names), values, strict=True))


def flat_make(make: Make, fields: Mapping[Any, Any], event: Any) -> FlatMake | None:
    """Where events of a make keep what; None if that has to be looked for each time.

    Args:
        make: The make.
        fields: Fields of one event of it.
        event: The event.
    """
    if (
        not make.has_fields
        or isinstance(event, TracedEvent)
        or any(part not in _PARTS or len(names) != 1 for part, names in make.at.items())
        or not all(names[0] in fields for names in make.at.values())
        or not all(type(name) is str for name in make.names)
        or len({names[0] for names in make.at.values()}) < len(make.at)
    ):
        return None
    return FlatMake(make)
