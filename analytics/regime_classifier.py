"""Tells the character of a market from its own past prices: volatility and trend.

Every figure at an event is made of this event and of earlier ones only, each by the same additions
in the same order wherever in the run it stands. So nothing that comes later, and nothing that is
left away behind it, can change it, not even in the last bit. `docs/regimes.md` has the definitions.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fillpath.analytics.price_feeds import Floats, Integers

WINDOW: Final = 20
"""Returns that volatility and trend are made of."""
PAST: Final = 20
"""Earlier volatilities that a market must have before one of it is called calm or turbulent."""
TRENDING: Final = 0.3
"""Efficiency from which on a market goes up or down; a random walk gets there by 28 of 100."""
PERIODS: Final = (60_000_000_000, 3_600_000_000_000, 86_400_000_000_000)
"""Minute, hour and day, in nanoseconds of UTC."""

_EVENTS_IN_A_PERIOD: Final = 2
_NOISE: Final = 1e-9
"""Relative difference of figures that are the same but for binary rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """What each price event makes of the market; equally long arrays.

    Attributes:
        names: Such as ``calm, up``; ``None`` before there is past enough.
        volatilities: Root of the mean square of the last returns.
        trends: Signed efficiency of the last returns, from -1 to 1.
    """

    names: npt.NDArray[np.object_]
    volatilities: Floats
    trends: Floats


def classify(prices: Floats, times: Integers | None, *, is_tick: bool = False) -> Classified:
    """Classify a market at each of its prices.

    Args:
        prices: In the order of events. Where they are not positive there is no regime.
        times: Simulated time of each, nanoseconds; ``None`` if unknown.
        is_tick: Whether they are single ticks, which are never classified one by one.
    """
    count = len(prices)
    volatilities, medians, trends = (np.full(count, np.nan) for _ in range(3))
    # Closes of the longest periods count as soon as they can: shorter ones only until then.
    until = count
    if times is not None and count:
        latest = np.maximum.accumulate(times)
        for length in reversed(PERIODS):
            periods = latest[:until] // length
            begins = np.flatnonzero(periods[1:] != periods[:-1]) + 1
            over = np.searchsorted(begins, np.arange(until), side="right")
            is_coarser = np.arange(1, until + 1) >= _EVENTS_IN_A_PERIOD * (over + 1)
            usable = np.flatnonzero(is_coarser & (over > WINDOW + PAST))
            if len(usable):
                # A period's close is known, and taken, when the first price of another one comes.
                used = slice(int(usable[0]), until)
                of_periods = _figures(prices[begins - 1])
                for whole, part in zip((volatilities, medians, trends), of_periods, strict=True):
                    whole[used] = part[over[used] - 1]
                until = int(usable[0])
    if times is None or not is_tick:
        figures = _figures(prices[:until])
        for whole, part in zip((volatilities, medians, trends), figures, strict=True):
            whole[:until] = part
    return Classified(_names(volatilities, medians, trends), volatilities, trends)


def _figures(closes: Floats) -> tuple[Floats, Floats, Floats]:
    """Give volatility, the median of the earlier volatilities, and trend at each close."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(np.where(closes > 0, closes, np.nan))
        returns = np.diff(logarithms, prepend=np.nan)
        volatilities = np.sqrt(_sums(returns * returns) / WINDOW)
        lengths = _sums(np.abs(returns))
        trends = np.where(lengths > 0, _sums(returns) / lengths, lengths)
    medians = np.fromiter(_earlier_medians(volatilities), dtype=np.float64, count=len(closes))
    return volatilities, medians, trends


def _sums(values: Floats) -> Floats:
    """Add up the last `WINDOW` values at each place, each sum by itself."""
    sums = np.full(len(values), np.nan)
    if len(values) >= WINDOW:
        total = values[WINDOW - 1 :].copy()
        for back in range(1, WINDOW):
            total += values[WINDOW - 1 - back : len(values) - back]
        sums[WINDOW - 1 :] = total
    return sums


def _earlier_medians(values: Floats) -> Iterator[float]:
    """Give the median of all values before each, and NaN before there are `PAST`."""
    low: list[float] = []  # the smaller half, negated: its largest at the front
    high: list[float] = []
    for value in values.tolist():
        if len(low) + len(high) < PAST:
            yield np.nan
        else:
            yield -low[0] if len(low) > len(high) else (high[0] - low[0]) / 2
        if value != value:  # noqa: PLR0124 - NaN is not itself
            continue
        if not low or value <= -low[0]:
            heapq.heappush(low, -value)
            if len(low) > len(high) + 1:
                heapq.heappush(high, -heapq.heappop(low))
        else:
            heapq.heappush(high, value)
            if len(high) > len(low):
                heapq.heappush(low, -heapq.heappop(high))


def _names(volatilities: Floats, medians: Floats, trends: Floats) -> npt.NDArray[np.object_]:
    directions = np.where(
        trends >= TRENDING + _NOISE, 2, np.where(trends <= -TRENDING - _NOISE, 1, 0)
    )
    is_turbulent = volatilities > medians * (1 + _NOISE)
    known = ~np.isnan(volatilities) & ~np.isnan(medians) & ~np.isnan(trends)
    words = np.array(
        [
            f"{volatility}, {direction}"
            for volatility in ("calm", "turbulent")
            for direction in ("sideways", "down", "up")
        ]
        + [None],
        dtype=object,
    )
    return words[np.where(known, is_turbulent * 3 + directions, len(words) - 1)]
