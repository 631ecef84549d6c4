"""Drawdowns: how far wealth fell below its highest value so far, and how long it stayed below."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from fillpath.analytics.exact import ZERO

_NOISE: Final = 1e-12
"""Products of doubles that should come back to a peak miss it by less."""


@dataclass(frozen=True, slots=True)
class Drawdown:
    """A fall below the highest value so far, from there to the recovery.

    Attributes:
        depth: Lowest value of (wealth / highest so far - 1); negative.
        peak: The day of the highest value; for a fall from the very start, the first day.
        trough: The day of the lowest.
        recovered: The day on which wealth was as high again; ``None`` if it never was.
        last: The day of the recovery, or the last day.
    """

    depth: float
    peak: dt.date
    trough: dt.date
    recovered: dt.date | None
    last: dt.date

    @property
    def days(self) -> int:
        """Days of the calendar from the peak to the recovery, or to the last day."""
        return (self.last - self.peak).days

    @property
    def recovery_days(self) -> int | None:
        """Days of the calendar from the trough to the recovery."""
        return None if self.recovered is None else (self.recovered - self.trough).days


def wealth(returns: Iterable[float]) -> list[float]:
    """Return what 1 grows to, after each return."""
    value, values = 1.0, []
    for one in returns:
        value *= 1 + one
        values.append(value)
    return values


def underwater(returns: Iterable[float]) -> list[float]:
    """Return wealth / highest wealth so far - 1 after each return; the start counts as 1."""
    highest, below = 1.0, []
    for value in wealth(returns):
        highest = max(highest, value)
        depth = value / highest - 1
        below.append(depth if depth < -_NOISE else 0.0)
    return below


def drawdowns(days: Sequence[dt.date], returns: Sequence[float]) -> list[Drawdown]:
    """Return every drawdown, the deepest first.

    Args:
        days: In order.
        returns: One for each day.
    """
    found: list[Drawdown] = []
    below = underwater(returns)
    begin: int | None = None
    for place, depth in enumerate([*below, 0.0]):
        if depth < 0:
            begin = place if begin is None else begin
        elif begin is not None:
            found.append(_drawdown(days, below, begin, place))
            begin = None
    return sorted(found, key=lambda one: (one.depth, one.peak))


def _drawdown(days: Sequence[dt.date], below: Sequence[float], begin: int, end: int) -> Drawdown:
    """A drawdown from the first place below the peak to the first that is not; or to the end."""
    lowest = min(range(begin, end), key=below.__getitem__)
    recovered = days[end] if end < len(days) else None
    return Drawdown(
        depth=below[lowest],
        peak=days[max(0, begin - 1)],
        trough=days[lowest],
        recovered=recovered,
        last=recovered or days[-1],
    )


def deepest_fall(amounts: Iterable[Decimal]) -> Decimal:
    """Return the lowest value of (sum so far - highest sum so far); both start at zero."""
    total = highest = deepest = ZERO
    for amount in amounts:
        total += amount
        highest = max(highest, total)
        deepest = min(deepest, total - highest)
    return deepest
