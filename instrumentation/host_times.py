"""Understands the times that a host puts on its events, whatever they are made of."""

from __future__ import annotations

import datetime as dt
import operator
from decimal import Decimal
from typing import Any, Final, Literal

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
TIME_UNITS: Final = ("auto", "s", "ms", "us", "ns")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NANOSECONDS: Final = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
_LEAST_SECONDS: Final = 10**8
"""A smaller whole number is no time of day in 1973 or later: it counts something, from zero."""
_LEAST: Final = ((10**17, "ns"), (10**14, "us"), (10**11, "ms"))
_DIGITS_OF_A_DATE: Final = 8  # 20240102
_DIGITS_OF_A_SECOND: Final = 14  # 20240102153000; as milliseconds, that would be in 2611
_NOT_A_TIME: Final = -(2**63)


def nanoseconds(value: Any, unit: TimeUnit = "auto") -> int | None:
    """A market time as nanoseconds since the epoch; None when it is none.

    Nor is it one where a record cannot hold it: before 1678, or after 2262.

    Args:
        value: A date or datetime (of the standard library, pandas or numpy; a naive one is UTC), a
            text that is one in ISO 8601 or a number, or a number.
        unit: What a number counts. ``auto`` tells by its size: of all times from 1973 to 5138 the
            seconds have fewer digits than the milliseconds, and so on. A whole number below 10⁸
            counts nanoseconds, one with a fraction below 10¹¹ seconds.
    """
    try:
        at = _nanoseconds(value, unit)
    except (TypeError, ValueError, OverflowError, ArithmeticError, AttributeError):
        return None
    return at if at is not None and _NOT_A_TIME < at < -_NOT_A_TIME else None


def _nanoseconds(value: Any, unit: TimeUnit) -> int | None:
    if type(value) is int:
        return value * _NANOSECONDS[_unit_of(value, unit)]
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = _read(value.strip())
    if isinstance(value, dt.datetime):
        since = (value if value.tzinfo else value.replace(tzinfo=dt.UTC)) - _EPOCH
        whole = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
        return operator.index(whole + getattr(value, "nanosecond", 0))  # pandas has those
    if isinstance(value, dt.date):
        return (value - _EPOCH.date()).days * 86_400 * 10**9
    if isinstance(value, Decimal | float):
        found = _unit_of(value, unit, "s")
        if isinstance(value, Decimal):
            return int(value * _NANOSECONDS[found])
        if found == "ns":
            return int(value)
        return round(value * (_NANOSECONDS[found] // 1000)) * 1000  # a float knows no more digits
    if getattr(getattr(value, "dtype", None), "kind", "") == "M":
        found_at = int(value.astype("datetime64[ns]").astype("int64"))
        return None if found_at == _NOT_A_TIME else found_at
    whole = operator.index(value)
    return whole * _NANOSECONDS[_unit_of(whole, unit)]


def _read(text: str) -> dt.datetime | int | Decimal:
    if text.lstrip("+-").isdecimal() and len(text) != _DIGITS_OF_A_DATE:
        if len(text) == _DIGITS_OF_A_SECOND and text[:2] in {"19", "20"}:
            return dt.datetime.fromisoformat(f"{text[:8]}T{text[8:]}")
        return int(text)
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return Decimal(text)


def _unit_of(value: Any, unit: str, of_a_small_one: str = "ns") -> str:
    if unit != "auto":
        return unit
    size = abs(value)
    for least, found in _LEAST:
        if size >= least:
            return found
    return "s" if size >= _LEAST_SECONDS else of_a_small_one
