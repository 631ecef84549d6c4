"""Reads why NautilusTrader denied an order; all its versions print that alike."""

from __future__ import annotations

import re
from typing import Any, Final

from fillpath.instrumentation import semconv

_RULE: Final = re.compile(r"([A-Z][A-Z_]+[A-Z])(?::|$)")
_FIGURE: Final = re.compile(r"(\w+)=\s*([^,]*[^,\s])")
_LIMIT_WORDS: Final = ("max_", "min_", "free")


def risk_attributes(reason: str) -> dict[str, Any]:
    """Rule, limit and value of a denial such as ``NOTIONAL_EXCEEDS: max_notional=5, notional=9``.

    A reason that names no rule is one itself.
    """
    rule = _RULE.match(reason)
    attributes: dict[str, Any] = {semconv.Risk.RULE: rule.group(1) if rule else reason}
    for word, figure in _FIGURE.findall(reason):
        is_limit = word.startswith(_LIMIT_WORDS)
        attributes.setdefault(semconv.Risk.LIMIT if is_limit else semconv.Risk.VALUE, figure)
    return attributes
