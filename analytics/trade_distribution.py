"""How many trades came to how much."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from fillpath.analytics.market_time import DAY, date_of

MOST_BINS_A_SIDE: Final = 15
_STEPS: Final = (Decimal(1), Decimal(2), Decimal(5), Decimal(10))


@dataclass(frozen=True, slots=True)
class ResultOfTrade:
    """What a closed trade came to.

    Attributes:
        net: P&L less commission.
        exit_time: Simulated time of its last fill, ns; ``None`` if unknown.
        trace_id: The trace of its exit.
    """

    net: Decimal
    exit_time: int | None
    trace_id: str | None

    @property
    def exit_day(self) -> dt.date | None:
        """The day of its last fill, UTC."""
        return None if self.exit_time is None else date_of(self.exit_time // DAY)


@dataclass(frozen=True, slots=True)
class Bin:
    """Trades that came to about the same.

    Attributes:
        low: The lowest net P&L that belongs to it; the outermost bin has all that is lower, too.
        high: What is below the next bin; the outermost has all that is higher, too.
        count: How many trades.
        is_open: Whether it is an outermost bin with trades beyond its edge.
        trace_id: The trace of the trade in it that gained or lost most.
    """

    low: Decimal
    high: Decimal
    count: int
    is_open: bool
    trace_id: str | None


def distribution(trades: Sequence[ResultOfTrade]) -> tuple[Bin, ...]:
    """Put trades into bins of one width, 1, 2 or 5 times a power of ten, with an edge at zero.

    The width follows Freedman and Diaconis (On the histogram as a density estimator, 1981): twice
    the interquartile range / the cube root of the number of trades, or wider. Empty bins between
    others are there, too.
    """
    if not trades:
        return ()
    width = _width(sorted(trade.net for trade in trades))
    inside: dict[int, list[ResultOfTrade]] = {}
    beyond: set[int] = set()
    for trade in trades:
        number = math.floor(trade.net / width)
        place = max(-MOST_BINS_A_SIDE, min(MOST_BINS_A_SIDE - 1, number))
        inside.setdefault(place, []).append(trade)
        if place != number:
            beyond.add(place)
    return tuple(
        _bin(place, width, inside.get(place, ()), place in beyond) for place in _span(inside)
    )


def _span(inside: dict[int, list[ResultOfTrade]]) -> range:
    return range(min(inside), max(inside) + 1)


def _bin(place: int, width: Decimal, trades: Sequence[ResultOfTrade], is_open: bool) -> Bin:
    largest = max(trades, key=lambda trade: abs(trade.net), default=None)
    return Bin(
        low=place * width,
        high=(place + 1) * width,
        count=len(trades),
        is_open=is_open,
        trace_id=largest.trace_id if largest else None,
    )


def _width(ordered: Sequence[Decimal]) -> Decimal:
    count = len(ordered)
    quartiles = ordered[count // 4], ordered[(3 * count) // 4]
    wanted = 2 * float(quartiles[1] - quartiles[0]) / count ** (1 / 3)
    # All the same, or nearly: the size of the largest has to do.
    wanted = wanted or float(max(abs(ordered[0]), abs(ordered[-1]))) / 10 or 1.0
    power = Decimal(1).scaleb(math.floor(math.log10(wanted)))
    return next(step * power for step in _STEPS if float(step * power) >= wanted * 0.999999)
