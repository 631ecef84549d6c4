"""Reads and writes ages and sizes as people do: `90d`, `10GB`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from fillpath.instrumentation.errors import UsageError

_SECOND: Final = 10**9
_AGES: Final = {
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
    "d": 86_400 * _SECOND,
    "w": 7 * 86_400 * _SECOND,
    "y": 365 * 86_400 * _SECOND,
}
_SIZES: Final = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1000**n for n, letter in enumerate("KMGT", start=1)},
    **{f"{letter}IB": 1024**n for n, letter in enumerate("KMGT", start=1)},
}
_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_age(text: str, option: str) -> int:
    """Read an age such as `90d`, in ns.

    Raises:
        UsageError: When it is none.
    """
    found = _AMOUNT.fullmatch(text)
    if found is None or found[2].lower() not in _AGES:
        raise UsageError(
            f"{option} is '{text}'; it takes a number and s, m, h, d, w or y.",
            next_command=f"{option} 90d",
        )
    return int(Decimal(found[1]) * _AGES[found[2].lower()])


def parse_size(text: str, option: str) -> int:
    """Read a size such as `10GB` (10**10) or `10GiB` (10 * 2**30), in bytes.

    Raises:
        UsageError: When it is none.
    """
    found = _AMOUNT.fullmatch(text)
    if found is None or found[2].upper() not in _SIZES:
        raise UsageError(
            f"{option} is '{text}'; it takes a number and B, kB, MB, GB, TB, or KiB, MiB, GiB.",
            next_command=f"{option} 10GB",
        )
    return int(Decimal(found[1]) * _SIZES[found[2].upper()])


def size_words(number: int) -> str:
    """Write a size with three digits, in the unit that suits it."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
