"""The days on which the markets of a run had prices, and how many of them make a year."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Final

import duckdb

from fillpath.analytics.sql_files import read_sql

DAY: Final = 86_400_000_000_000
"""A day in nanoseconds. Days are counted from 1970-01-01, UTC."""

_FIRST: Final = dt.date(1970, 1, 1)
_DAYS_A_YEAR: Final = {5: 252, 6: 312, 7: 365}
_LONGER_PERIODS: Final = ((3, None), (10, 52), (45, 12), (135, 4))
_PERIODS_OF_YEARS: Final = 1


@dataclass(frozen=True, slots=True)
class MarketTime:
    """When the markets of a run had events.

    Attributes:
        days: By portfolio, in order.
        extents: First and last moment by portfolio, simulated time in nanoseconds.
    """

    days: Mapping[str, Sequence[int]] = field(default_factory=dict)
    extents: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def days_of(self, portfolio: str) -> Iterable[int]:
        """The days of a portfolio's market; of all markets, if it has none of its own."""
        return self.days.get(portfolio) or self.all_days

    @property
    def all_days(self) -> set[int]:
        """The days of any market."""
        return {day for days in self.days.values() for day in days}

    def extent_of(self, portfolio: str | None) -> tuple[int, int] | None:
        """First and last moment of a portfolio's market, or of all (`None`)."""
        own = self.extents.get(portfolio) if portfolio is not None else None
        if own is not None or not self.extents:
            return own
        firsts, lasts = zip(*self.extents.values(), strict=True)
        return min(firsts), max(lasts)


def read_market_time(connection: duckdb.DuckDBPyConnection, run_id: str) -> MarketTime:
    """Read when the markets of a run had events.

    Args:
        connection: Has the view ``spans``.
        run_id: The run.
    """
    days: dict[str, list[int]] = {}
    extents: dict[str, tuple[int, int]] = {}
    rows = connection.execute(read_sql("market_days"), {"run_id": run_id}).fetchall()
    for portfolio, day, first, last in rows:
        days.setdefault(portfolio, []).append(day)
        extents[portfolio] = (extents.get(portfolio, (first, last))[0], last)
    return MarketTime(days, extents)


def date_of(day: int) -> dt.date:
    """The date of a day."""
    return _FIRST + dt.timedelta(days=day)


def periods_per_year(days: Sequence[dt.date]) -> int | None:
    """Tell how many such days a year has; see `return_figures`.

    Args:
        days: In order.

    Returns:
        None if there are fewer than two.
    """
    if len(days) < 2:
        return None
    gap = median((after - before).days for before, after in pairwise(days))
    for longest, periods in _LONGER_PERIODS:
        if gap <= longest:
            return periods or _DAYS_A_YEAR[_days_a_week(days)]
    return _PERIODS_OF_YEARS


def _days_a_week(days: Sequence[dt.date]) -> int:
    """Of a week of five, six or seven days, the one whose share of weekend days is nearest."""
    share = sum(day.weekday() >= 5 for day in days) / len(days)
    return min(_DAYS_A_YEAR, key=lambda length: abs((length - 5) / length - share))
