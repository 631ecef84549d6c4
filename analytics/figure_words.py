"""Figures and parameters of runs as a terminal shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from fillpath.analytics import report_format
from fillpath.analytics.figure_definitions import FIGURES
from fillpath.analytics.figure_text import UNDEFINED, figure_text
from fillpath.analytics.output import LONGEST_NAME, inert

_DEFINITIONS: Final = {one.name: one for one in FIGURES}


def figure_label(name: str) -> str:
    """Give the name of a figure for a reader."""
    return _DEFINITIONS[name].label if name in _DEFINITIONS else name


def figure_words(name: str, value: float | None, currency: str | None) -> str:
    """Write a figure in the unit of its definition; one that is not ours in plain digits."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    if name in _DEFINITIONS:
        digits = report_format.currency_digits(currency or "", {})
        return figure_text(_DEFINITIONS[name], value, digits).text
    places = 2 if abs(value) >= 10 or value == int(value) else 4
    rounded = Decimal(f"{value:.{places}f}")
    if not rounded and value:
        return f"{value:.3g}".replace("-", report_format.MINUS)
    return report_format.money(rounded, 2).text


def amount_words(amount: Decimal | None, currency: str | None, *, signed: bool = False) -> str:
    """Write an amount with all digits that mean something."""
    if amount is None:
        return UNDEFINED
    digits = report_format.currency_digits(currency or "", {})
    return report_format.readable_money(amount, digits, signed=signed).text


def value_words(value: Any) -> str:
    """Write the value of a parameter."""
    if value is None:
        return UNDEFINED
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return inert(text, LONGEST_NAME)


def parameter_words(parameters: Mapping[str, Any], longest: int = LONGEST_NAME) -> str:
    """Write parameters on one line."""
    return inert(
        ", ".join(f"{name}={value_words(value)}" for name, value in parameters.items()), longest
    )
