"""Figures of a tearsheet as a reader sees them, in the unit of each."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from fillpath.analytics.figure_meaning import FigureDefinition
from fillpath.analytics.report_format import Figure, duration, money, percent

UNDEFINED = "\N{EN DASH}"
"""Stands for a figure that has no value."""

_HOUR = 3600
_SECOND = 1_000_000_000


def figure_text(definition: FigureDefinition, value: float | None, digits: int) -> Figure:
    """Write a figure.

    Args:
        definition: What it is.
        value: In the unit of its definition; None if it is undefined.
        digits: Decimal places of its currency.
    """
    if value is None:
        return Figure(UNDEFINED, "zero")
    number = Decimal(repr(float(value)))
    if definition.unit == "money":
        return money(_to_places(number, digits), digits)
    if definition.unit == "ratio":
        shown = percent(number)
        return Figure(shown, money(_to_places(number, 4), 4).tone)
    if definition.unit == "count":
        return money(_to_places(number, 0), 0)
    if definition.unit == "days":
        return Figure(_days(_to_places(number, 0)), "positive")
    if definition.unit == "duration":
        return Figure(_held(value), "positive")
    places = 2 if abs(number) >= 1 else 3
    return money(_to_places(number, places), places)


def hundredths(ratio: float) -> str:
    """Write a ratio in percent with two decimals, without the sign that says so."""
    places = _to_places(Decimal(repr(float(ratio))) * 100, 2)
    return money(places, 2).text


def _to_places(number: Decimal, places: int) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN) + 0


def _days(count: Decimal) -> str:
    return f"{money(count, 0)}\N{NO-BREAK SPACE}day{'' if count == 1 else 's'}"


def _held(seconds: float) -> str:
    if seconds >= 48 * _HOUR:
        return f"{seconds / (24 * _HOUR):,.1f}\N{NO-BREAK SPACE}days"
    return duration(round(seconds * _SECOND))
