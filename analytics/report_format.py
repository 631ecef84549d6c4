"""Numbers, times and names as a report writes them. Exact: nothing passes through a float."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal

MINUS = "\N{MINUS SIGN}"
# DECIMAL(38) columns of a lake, summed over any number of rows, stay exact.
EXACT = Context(prec=96, rounding=ROUND_HALF_EVEN)
_DOUBLE = 15
"""Significant digits that a double surely has."""
_SURE = 12
"""Those that are left after some arithmetic."""
_ZEROS = 3
"""So many zeros in a row, after rounding, that they can hardly be chance."""

# ISO 4217 currencies without two decimal places, and the common ones outside ISO.
_USUAL_DIGITS: Mapping[str, int] = {
    **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("BTC", "ETH", "XBT"), 8),
}

# Lone surrogates cannot be written as UTF-8; control characters are no part of any page.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_TRACE_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Figure:
    """A number ready to be shown.

    Attributes:
        text: The digits, with sign and thousands separators.
        tone: ``negative``, ``positive`` or ``zero``.
    """

    text: str
    tone: str

    def __str__(self) -> str:
        """Return the digits."""
        return self.text


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum."""
    result = Decimal(0)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def currency_digits(currency: str, configured: Mapping[str, int]) -> int:
    """Return the decimal places that an amount in the currency is shown with."""
    return configured.get(currency, _USUAL_DIGITS.get(currency, 2))


def _tone(number: Decimal) -> str:
    if not number:
        return "zero"
    return "negative" if number < 0 else "positive"


def money(amount: Decimal, digits: int, *, signed: bool = False) -> Figure:
    """Return an amount with at least `digits` decimal places, and more if it has more.

    Args:
        amount: Any Decimal; one that is not finite is shown as ``?``.
        digits: The currency's decimal places.
        signed: Write a plus before a gain.
    """
    if not amount.is_finite():
        return Figure("?", "negative")
    size = amount.copy_abs()  # abs() would round to the context's precision
    fraction = f"{size:f}".partition(".")[2].rstrip("0")
    text = f"{size:,.{max(digits, len(fraction))}f}"
    tone = _tone(amount)
    sign = MINUS if tone == "negative" else "+" if signed and tone == "positive" else ""
    return Figure(sign + text, tone)


def readable(value: Decimal, digits: int = 0) -> Decimal:
    """Return the number that a reader takes a number for: 268.28 for 268.28000000000003.

    An engine that reckons in doubles knows about 15 digits; sums and products of them a few fewer.
    A number of 15 digits or more is the shortest one that is equal to it within 12 to 15 digits,
    and has 15 at most. What it has in the currency's own digits stays.

    For what people read in a terminal or in a tree of spans. Documents and exports keep all digits.

    Args:
        value: Any Decimal; one that is not finite is returned as it is.
        digits: Decimal places that mean something, such as a currency's.
    """
    if not value.is_finite() or value.adjusted() >= _DOUBLE:
        return value  # of the latter, a double knows no more than the digits before the point
    if len(EXACT.normalize(value).as_tuple().digits) < _DOUBLE:
        return value
    found = Context(prec=_DOUBLE).plus(value)
    for precision in range(_DOUBLE, _SURE - 1, -1):
        near = Context(prec=precision).plus(value).normalize()
        if len(near.as_tuple().digits) <= precision - _ZEROS:
            found = near
            break
    kept = Decimal(1).scaleb(-digits)
    is_same = EXACT.quantize(found, kept) == EXACT.quantize(value, kept)
    return found if is_same else value


def number(value: Decimal) -> str:
    """Return a price or a quantity with every digit it has and no padding zeros."""
    return money(value, 0).text


def readable_number(value: Decimal) -> str:
    """Return a price or a quantity without the digits that doubles leave; see `readable`."""
    return number(readable(value))


def readable_money(amount: Decimal, digits: int, *, signed: bool = False) -> Figure:
    """Return an amount as `money` does, without the digits that doubles leave."""
    return money(readable(amount, digits), digits, signed=signed)


def count(value: int) -> str:
    """Return a whole number with thousands separators."""
    return money(Decimal(value), 0).text


def ratio(part: int, whole: int) -> Decimal:
    """Return part / whole between 0 and 1, and 0 of nothing."""
    return Decimal(part) / Decimal(whole) if whole else Decimal(0)


def percent(value: Decimal) -> str:
    """Return a ratio as a percentage, rounded to two decimal places."""
    rounded = (value * 100).quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN)
    return f"{money(rounded, 2)}\N{NARROW NO-BREAK SPACE}%"


def duration(nanoseconds: int) -> str:
    """Return a duration with about three significant digits, in the unit that suits it."""
    sign = MINUS if nanoseconds < 0 else ""
    size = abs(nanoseconds)
    if size >= 120_000_000_000:
        minutes, seconds = divmod(size // 1_000_000_000, 60)
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}\N{NO-BREAK SPACE}h {minutes:02}\N{NO-BREAK SPACE}min"
        if not hours:
            text = f"{minutes}\N{NO-BREAK SPACE}min {seconds:02}\N{NO-BREAK SPACE}s"
        return sign + text
    scales = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))
    for scale, unit in scales:
        # What rounds up to 1000 of a unit is written as 1 of the next.
        if size * 2000 >= scale * 1999:
            value = Decimal(size) / scale
            places = 0 if value >= 100 else 1 if value >= 10 else 2
            return f"{sign}{value:,.{places}f}\N{NARROW NO-BREAK SPACE}{unit}"
    return f"{sign}{size}\N{NARROW NO-BREAK SPACE}ns"


def _split(nanoseconds: int) -> tuple[datetime, int]:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC), rest


def timestamp(nanoseconds: int) -> str:
    """Return a UTC time to the second, with the digits below it if there are any."""
    moment, rest = _split(nanoseconds)
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction}"


def iso_timestamp(nanoseconds: int) -> str:
    """Return the time for a machine: RFC 3339 with milliseconds."""
    moment, rest = _split(nanoseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03}Z"


def date(nanoseconds: int) -> str:
    """Return the UTC date."""
    return f"{_split(nanoseconds)[0]:%Y-%m-%d}"


def printable(text: str) -> str:
    """Return the text with every character that cannot stand in a page made visible."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def is_trace_id(text: str | None) -> bool:
    """Tell whether the text is a trace id as the lake writes them."""
    return text is not None and _TRACE_ID.fullmatch(text) is not None


def held(nanoseconds: int) -> str:
    """Return a time in the market in its two largest units, such as days and hours."""
    sign = MINUS if nanoseconds < 0 else ""
    seconds = abs(nanoseconds) // 1_000_000_000
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    for (name, size), below in zip(units, (*units[1:], None), strict=True):
        if seconds >= size:
            parts = [f"{seconds // size:,}\N{NO-BREAK SPACE}{name}"]
            if below is not None and seconds % size // below[1]:
                parts.append(f"{seconds % size // below[1]}\N{NO-BREAK SPACE}{below[0]}")
            return sign + " ".join(parts)
    return "under 1\N{NO-BREAK SPACE}s" if nanoseconds else "0\N{NO-BREAK SPACE}s"
