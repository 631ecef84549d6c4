"""Puts the numbers of a span into columns of doubles so that each comes back exactly as it was.

A double carries up to 15 digits of a decimal. What a number was (an integer, a decimal with three
digits after the point) stands in the row's layout, which many rows share; the digits of a number
that a double does not carry stand beside it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fillpath.exporters.exact_json import digits
from fillpath.exporters.schema import (
    DECIMAL_DIGITS,
    DECIMAL_SCALE,
    NUMBER_COLUMNS,
    OWN_NUMBER_COLUMNS,
    VALUE_COLUMNS,
)
from fillpath.instrumentation.spool import MAX_EXACT, Field, FieldKind

TEXT: Final = "text"
"""Kind of a number that the host wrote as text; its text is among the exact numbers."""
COMMON_SCALE: Final = 9
"""Digits after the point that hardly any price, quantity or commission exceeds."""
MONEY: Final = frozenset({"quantity", "price", "commission"})
"""Columns that the view shows as decimals."""
SMALLEST_OF_18_DIGITS: Final = 0.01
"""From here on, the shortest decimal that is a double has at most 18 digits after the point."""
LARGEST_SHOWN: Final = 1e20
"""Below this, a double fits a decimal with 18 digits after the point."""
_EXACT: Final = Context(prec=2 * DECIMAL_DIGITS)
_NUMERAL: Final = re.compile(r"[+-]?[0-9]{1,99}(\.[0-9]{0,99})?([eE][+-]?[0-9]{1,6})?")
_MOST: Final = Decimal(10) ** (DECIMAL_DIGITS - DECIMAL_SCALE)
_MOST_BITS: Final = 126
_SCALES: Final = range(61)

Placed = tuple[str, str, str, int]
"""A number of a layout: key of the attribute, column, kind, digits after the point."""


class Number(NamedTuple):
    """A number as a column holds it."""

    value: float
    kind: str
    scale: int = 0
    exact: str | None = None
    """Its digits, when the column does not carry them."""


class Numbers(NamedTuple):
    """The numbers of a span: by column, what they are, and their digits where those are needed."""

    columns: dict[str, float]
    layout: tuple[Placed, ...]
    exact: dict[str, str]
    decimal_scale: int | None


def number_of(value: Any) -> Number | None:
    """Turn a value into a number of a column; None when it is not one, or far too long."""
    kind = type(value)
    if kind is float:
        return Number(value, FieldKind.DOUBLE)
    if kind is bool:
        return Number(float(value), FieldKind.BOOLEAN)
    if kind is int:
        if -MAX_EXACT <= value <= MAX_EXACT:
            return Number(float(value), FieldKind.INTEGER)
        if value.bit_length() > _MOST_BITS:
            return None
        return Number(float(value), FieldKind.INTEGER, 0, str(value))
    if kind is Decimal:
        return _decimal(value)
    return None


def _decimal(value: Decimal) -> Number | None:
    sign, figures, exponent = value.as_tuple()
    if not isinstance(exponent, int) or len(figures) > DECIMAL_DIGITS or -exponent not in _SCALES:
        if not value.is_finite() or not -60 <= value.adjusted() <= 60 or len(figures) > 99:
            return None
        return Number(float(value), FieldKind.DECIMAL, 0, digits(value))
    plain = len(figures) <= 15 and -exponent <= DECIMAL_SCALE and not (sign and not value)
    return Number(float(value), FieldKind.DECIMAL, -exponent, None if plain else digits(value))


def place_numbers(attributes: dict[str, Any], event_type: str) -> Numbers:
    """Move the numbers among the attributes to their columns.

    What is no number, or has too many digits for its column, stays where it is.
    """
    money = _money_keys(event_type, attributes)
    free = iter(VALUE_COLUMNS)
    columns: dict[str, float] = {}
    layout: list[Placed] = []
    exact: dict[str, str] = {}
    scale = None
    for key, value in list(attributes.items()):
        number = number_of(value)
        column = money.get(key)
        if column is not None:
            needed = _scale_needed(value)
            if needed is None:
                continue
            scale = needed if scale is None else max(scale, needed)
            if number is None:
                number = Number(float(value), TEXT, 0, str(value))
        elif number is None or not _is_plain(key):
            continue
        else:
            column = OWN_NUMBER_COLUMNS.get(key) or next(free, None)
            if column is None:
                continue
        columns[column] = number.value
        layout.append((key, column, number.kind, number.scale))
        if number.exact is not None:
            exact[column] = number.exact
        del attributes[key]
    return Numbers(columns, tuple(layout), exact, scale)


def _money_keys(event_type: str, attributes: Mapping[str, Any]) -> dict[str, str]:
    """Keys of the attributes that are quantity, price and commission of this event."""
    keys = {}
    for column, several in NUMBER_COLUMNS.get(event_type, {}).items():
        key = next((key for key in several if key in attributes), None)
        if key is not None:
            keys[key] = column
    return keys


def _is_plain(key: Any) -> bool:
    if not isinstance(key, str):
        return False
    if key.isascii():
        return True
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scale_needed(value: Any) -> int | None:
    """Digits after the point that a decimal column needs; None when the value does not fit one."""
    if type(value) is float:
        return scale_of_double(value)
    if type(value) is int and -MAX_EXACT <= value <= MAX_EXACT:
        return 0
    if type(value) is Decimal:
        exponent = value.as_tuple().exponent
        if isinstance(exponent, int) and -DECIMAL_SCALE <= exponent <= 0 and abs(value) < _MOST:
            return -exponent
    fitted = fit_number(value)
    return None if fitted is None else fitted[1]


def scale_of_double(value: float) -> int | None:
    """Digits after the point to show a double with, not the fewest: 9 or 18; None: it needs more.

    A double counts as the shortest decimal that is that double.
    """
    if not abs(value) < LARGEST_SHOWN:
        return None
    # Of what nine digits after the point can tell apart, this is true and no more; it is the same
    # sum that the writer does by column.
    if round(value * 1e9) / 1e9 == value:
        return COMMON_SCALE
    if abs(value) >= SMALLEST_OF_18_DIGITS or fit_number(value) is not None:
        return DECIMAL_SCALE
    return None


def fit_number(value: Any) -> tuple[Decimal, int] | None:
    """Turn a value into a decimal with room for 18 digits after the point, and count those it has.

    A float counts as the shortest decimal that is that float. Returns None for what is no finite
    number or has too many digits.
    """
    if isinstance(value, float):
        value = repr(value)
    if isinstance(value, str):
        if _NUMERAL.fullmatch(value) is None:
            return None
    elif isinstance(value, bool) or not isinstance(value, Decimal | int):
        return None
    number = Decimal(value)
    if not number.is_finite() or len(number.as_tuple().digits) > _EXACT.prec:
        return None
    number = number.normalize(_EXACT)
    _, figures, exponent = number.as_tuple()
    assert isinstance(exponent, int)  # it is finite  # noqa: S101
    scale = max(0, -exponent)
    if scale > DECIMAL_SCALE or len(figures) + exponent > DECIMAL_DIGITS - DECIMAL_SCALE:
        return None
    return number, scale


@lru_cache(4096)
def layout_json(layout: tuple[Placed, ...]) -> str | None:
    """Write a layout as the column has it; None when there are no numbers."""
    return json.dumps(layout, ensure_ascii=False, separators=(",", ":")) if layout else None


class NumberField(NamedTuple):
    """A numeric attribute of a row and the column that holds it, as its `layout` tells."""

    field: Field
    column: str


@lru_cache(4096)
def read_layout(layout: str | None) -> tuple[NumberField, ...]:
    """Read the column `layout`: a JSON list of key, column, kind and scale."""
    if layout is None:
        return ()
    return tuple(
        NumberField(Field(key, kind, scale or 0), column)
        for key, column, kind, scale in json.loads(layout)
    )


def decimal_text(number: float, scale: int) -> str:
    """Digits of a decimal whose nearest double and digits after the point are known."""
    if not math.isfinite(number):
        return str(Decimal(number))
    text = format(Decimal(repr(float(number))), f".{scale}f")
    return text if text.strip("-0.") else text.lstrip("-")
