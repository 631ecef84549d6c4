"""Writes attributes as JSON that loses nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

_PLAIN_EXPONENTS: Final = range(-60, 1)


def clean(text: str) -> str:
    """Write out halves of surrogate pairs, which UTF-8 has no place for."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def to_json(value: Any) -> str:
    """Write JSON that loses nothing.

    Decimal becomes a string with its digits, NaN and the infinities the strings `NaN`, `Infinity`
    and `-Infinity`, bytes a string of hex digits; integers keep all their digits.
    """
    try:
        text = json.dumps(
            value, default=_plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")
        )
        if not text.isascii():
            text.encode()
    except (ValueError, TypeError):  # NaN, half a surrogate pair, a key that is no text
        return json.dumps(_sanitised(value), ensure_ascii=False, separators=(",", ":"))
    return text


def digits(number: Decimal) -> str:
    """Print a decimal with all its digits, without an exponent unless that would be very long."""
    exponent = number.as_tuple().exponent
    return format(number, "f") if exponent in _PLAIN_EXPONENTS else str(number)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return digits(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    return clean(str(value))


def _sanitised(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {clean(str(key)): _sanitised(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sanitised(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _sanitised(_plain(value))
