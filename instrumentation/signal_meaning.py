"""What a signal says, so that one that repeats it can be told from one that changes something."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Any, Final

from fillpath.instrumentation.critical_when import number_of
from fillpath.instrumentation.semconv import Signal

FLAT: Final = 0
"""Meaning: no position, no opinion."""
UNTOLD: Final = -1
"""Meaning: neither a value nor a strength was given, so nobody can tell whether it is a new one."""
_FLAT_WORDS: Final = frozenset({"", "flat", "none", "null", "nan", "neutral", "hold"})
_NO_NUMBER: Final = 0x7FF8 << 48
"""The bits of doubles that are not numbers begin so: no number has the meaning of a text."""


def signal_meaning(attributes: Mapping[str, Any]) -> int:
    """Meaning of a signal's attributes as a number: equal where the value, else the strength, is.

    Numbers are equal by value whatever their type. None, 0, False, NaN and words such as `flat`
    mean `FLAT`.
    """
    for key in (Signal.VALUE, Signal.STRENGTH):
        if key in attributes:
            return meaning_of(attributes[key])
    return UNTOLD


def meaning_of(value: Any) -> int:
    """Meaning of a signal's value."""
    if value is None or value is False:
        return FLAT
    if isinstance(value, float):
        return meaning_of_number(value)
    number = number_of(int(value) if value is True else value)
    if number is not None:
        return meaning_of_number(float(number))
    text = str(value).strip().casefold()
    if text in _FLAT_WORDS:
        return FLAT
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return _NO_NUMBER | int.from_bytes(digest, "big") >> 13


def meaning_of_number(value: float) -> int:
    """Meaning of a number: the bits of the double, 0 for 0 and for what is no number."""
    if value != value or value == 0.0:  # noqa: PLR0124 - NaN is not itself
        return FLAT
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    return int(bits)
