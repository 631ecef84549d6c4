"""Figures of a window that moves through the days, thinned out for drawing."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LONGEST_WINDOW: Final = 63
"""A quarter of a year of five-day weeks."""
SHORTEST_WINDOW: Final = 10
MOST_POINTS: Final = 500


@dataclass(frozen=True, slots=True)
class RollingPoint:
    """One day.

    Attributes:
        day: The day.
        below: Distance of wealth from its highest value so far; zero or negative.
        sharpe: Sharpe ratio of the window that ends with it; ``None`` before the first whole one,
            and where all returns are the same.
        volatility: Volatility of a year in that window; ``None`` before the first whole one.
    """

    day: dt.date
    below: float
    sharpe: float | None
    volatility: float | None


def rolling_window(days: int) -> int | None:
    """Return how many days a window spans: 63, or a third of a shorter run.

    Returns:
        None if that is less than ten.
    """
    window = min(LONGEST_WINDOW, days // 3)
    return window if window >= SHORTEST_WINDOW else None


def rolling_points(
    days: Sequence[dt.date],
    returns: Sequence[float],
    below: Sequence[float],
    window: int | None,
    periods: float | None,
    most: int = MOST_POINTS,
) -> tuple[RollingPoint, ...]:
    """Reckon the rolling figures of days, and choose the days to draw.

    Args:
        days: In order.
        returns: One for each day.
        below: The drawdown on each day.
        window: Days that a figure spans; ``None`` leaves the figures out.
        periods: Days in a year; needed with a window.
        most: About how many days to choose. Of a longer run it is the first and the last day, and
            of every stretch the day deepest below water and the last day.
    """
    chosen = _chosen(below, most)
    if window is None or periods is None:
        return tuple(RollingPoint(days[place], below[place], None, None) for place in chosen)
    import numpy as np

    values = np.asarray(returns, dtype=float)
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    means, deviations = windows.mean(axis=1), windows.std(axis=1, ddof=1)
    spreads = np.ptp(windows, axis=1)
    year = math.sqrt(periods)
    points = []
    for place in chosen:
        at = place - window + 1
        sharpe = volatility = None
        if at >= 0:
            volatility = float(deviations[at]) * year
            if spreads[at] > 0 and deviations[at] > 0:
                sharpe = float(means[at] / deviations[at]) * year
        points.append(RollingPoint(days[place], below[place], sharpe, volatility))
    return tuple(points)


def _chosen(below: Sequence[float], most: int) -> list[int]:
    if len(below) <= most:
        return list(range(len(below)))
    stretches = max(1, (most - 1) // 2)
    chosen = {0, len(below) - 1}
    for stretch in range(stretches):
        start = stretch * len(below) // stretches
        stop = (stretch + 1) * len(below) // stretches
        chosen.add(min(range(start, stop), key=below.__getitem__))
        chosen.add(stop - 1)
    return sorted(chosen)
