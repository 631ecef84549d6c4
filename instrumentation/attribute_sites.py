"""Sorts an event's attributes: numbers into its record, recurring words into its site.

What is left goes to a side record. An event whose attributes all find a place needs none, which
makes it several times cheaper to record, to store and to read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from fillpath.instrumentation.event_columns import KNOWN_PARTS
from fillpath.instrumentation.open_event import Parts
from fillpath.instrumentation.semconv import (
    Account,
    Bar,
    Command,
    Fill,
    Order,
    Position,
    Risk,
    Signal,
    System,
)
from fillpath.instrumentation.spool import MAX_EXACT, SLOTS, Field, FieldKind

RECURRING_TEXTS: Final = frozenset(
    {
        Account.BASE_CURRENCY,
        Account.ID,
        Account.TYPE,
        Bar.TYPE,
        Command.NAME,
        Fill.BASE_CURRENCY,
        Fill.COMMISSION_CURRENCY,
        Fill.CURRENCY,
        Fill.LIQUIDITY,
        Fill.SETTLEMENT_CURRENCY,
        Fill.VALUATION_METHOD,
        Order.SIDE,
        Order.STATUS,
        Order.TIME_IN_FORCE,
        Order.TYPE,
        Position.CURRENCY,
        Position.SIDE,
        Risk.RULE,
        Signal.NAME,
        System.COMPONENT,
        System.STATE,
    }
)
"""Attributes that take few different values."""
MAX_TEXT: Final = 64
"""Characters of a text that a site keeps."""
MAX_SITES: Final = 8_192
"""Sites that are made for attributes' sake, in a run."""
MAX_SITES_OF_ONE: Final = 256
"""The same for events that have everything but their attributes in common."""

_DOUBLE: Final = -1
_INTEGER: Final = -2
_BOOLEAN: Final = -3
_KINDS: Final = {
    _DOUBLE: FieldKind.DOUBLE,
    _INTEGER: FieldKind.INTEGER,
    _BOOLEAN: FieldKind.BOOLEAN,
}
NO_NUMBERS: Final[tuple[float, ...]] = (0.0,) * SLOTS
_PADDING: Final = tuple((0.0,) * (SLOTS - number) for number in range(SLOTS + 1))


class AttributeSites:
    """Finds the site for an event's attributes.

    Args:
        site: Gives a number to a site: `Recorder.site`.
    """

    def __init__(self, site: Callable[..., int]) -> None:
        self._site = site
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._made_for: dict[int, int] = {}
        self._lock = threading.RLock()

    def place(
        self, base: int, parts: Parts, attributes: dict[str, Any]
    ) -> tuple[int, tuple[float, ...], dict[str, Any]]:
        """Place attributes that `payload.snapshot` has prepared.

        Args:
            base: Number of the site of such events without attributes.
            parts: Its parts.
            attributes: The attributes.

        Returns:
            Number of the site, the record's numbers, and the attributes that are left.
        """
        shape: list[Any] = [base]
        numbers: list[float] = []
        rest: dict[str, Any] = {}
        for key, value in attributes.items():
            kind = type(value)
            if kind is Decimal:
                if len(numbers) < SLOTS and (found := KNOWN_PARTS[str(value)]) is not None:
                    number, scale = found
                    numbers.append(number)
                    shape.append(key)
                    shape.append(scale)
                    continue
            elif kind is str:
                if key in RECURRING_TEXTS and len(value) <= MAX_TEXT:
                    shape.append(key)
                    shape.append(value)
                    continue
            elif len(numbers) < SLOTS:
                if kind is float:
                    numbers.append(value)
                    shape.append(key)
                    shape.append(_DOUBLE)
                    continue
                if (found := _whole_number(kind, value)) is not None:
                    numbers.append(found[0])
                    shape.append(key)
                    shape.append(found[1])
                    continue
            rest[key] = value
        if len(shape) == 1:
            return base, NO_NUMBERS, rest
        key_of_site = tuple(shape)
        site = self._numbers.get(key_of_site) or self._new(key_of_site, parts)
        if not site:
            return base, NO_NUMBERS, attributes
        numbers += _PADDING[len(numbers)]
        return site, tuple(numbers), rest

    def _new(self, shape: tuple[Any, ...], parts: Parts) -> int:
        """Number of a new site for these attributes; 0 when there are too many already."""
        with self._lock:
            base = shape[0]
            made = self._made_for.get(base, 0)
            if made >= MAX_SITES_OF_ONE or len(self._numbers) >= MAX_SITES:
                return 0
            fields: list[Field] = []
            texts: list[tuple[str, Any]] = []
            for key, what in zip(shape[1::2], shape[2::2], strict=True):
                if isinstance(what, str):
                    texts.append((key, what))
                elif what >= 0:
                    fields.append(Field(key, FieldKind.DECIMAL, what))
                else:
                    fields.append(Field(key, _KINDS[what]))
            number = self._site(*parts, fields=tuple(fields), texts=tuple(texts))
            if shape not in self._numbers:
                self._numbers[shape] = number
                self._made_for[base] = made + 1
            return number


def _whole_number(kind: type, value: Any) -> tuple[float, int] | None:
    """What a number column holds for an integer or a boolean, and which of the two it is."""
    if kind is int:
        return (float(value), _INTEGER) if -MAX_EXACT <= value <= MAX_EXACT else None
    return (float(value), _BOOLEAN) if kind is bool else None
