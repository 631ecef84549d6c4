"""How well signals foretold returns, and for how long. See `docs/signals.md`.

The information coefficient is Spearman's rank correlation of a signal's strength with the return
that followed. Its interval is Fisher's z with the standard error of Bonett and Wright (2000), for
as many signals as are independent: returns over several prices overlap, and signals often repeat
themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fillpath.analytics.price_feeds import Floats, Integers, PriceFeed
from fillpath.analytics.signal_strength import CONFIDENCE

HORIZONS: Final = (1, 2, 5, 10, 20, 50)
"""Price events after the signal."""
FEWEST_SIGNALS: Final = 10
"""Signals with strength and return that a coefficient takes."""
FEWEST_WINDOWS: Final = 5
"""Stretches of prices that do not overlap, which an interval takes."""

_FEWEST_INDEPENDENT: Final = 4
_ONE: Final = 1 - 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """Signals of one name about one instrument.

    Attributes:
        strengths: Signed; NaN where none was told.
        places: Index of the last price at or before each signal, ascending; -1 before the first.
        prices: All prices of the instrument.
    """

    strengths: Floats
    places: Integers
    prices: Floats


@dataclass(frozen=True, slots=True)
class Decay:
    """A row of table ``signal_decay``, whose columns have the definitions."""

    horizon: int
    signals: int
    information_coefficient: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    hit_rate: float | None = None
    mean_return: float | None = None


def places_in(feed: PriceFeed, sequences: Sequence[int]) -> Integers:
    """Give the index of the price in force at each of some events; -1 before the first price."""
    found = np.searchsorted(feed.sequences, np.asarray(sequences, dtype=np.int64), side="right")
    return np.asarray(found - 1, dtype=np.int64)


def forward_returns(prices: Floats, places: Integers, horizon: int) -> Floats:
    """Give the return from each price to the one `horizon` price events later.

    NaN where there is no such price, or where one of the two is not positive.
    """
    returns = np.full(len(places), np.nan)
    known = (places >= 0) & (places + horizon < len(prices))
    begin, end = prices[places[known]], prices[places[known] + horizon]
    with np.errstate(divide="ignore", invalid="ignore"):
        returns[known] = np.where((begin > 0) & (end > 0), end / begin - 1, np.nan)
    return returns


def decay_rows(forecasts: Sequence[Forecasts]) -> Iterator[Decay]:
    """Measure the signals of one name at every horizon. Needs scipy."""
    for horizon in HORIZONS:
        yield _decay(forecasts, horizon)


def _decay(forecasts: Sequence[Forecasts], horizon: int) -> Decay:
    strengths, returns, places = _known(forecasts, horizon)
    count = len(strengths)
    directed = strengths != 0
    signs = np.sign(strengths[directed])
    hit_rate = float(np.mean(signs == np.sign(returns[directed]))) if len(signs) else None
    mean_return = float(np.mean(signs * returns[directed])) if len(signs) else None
    if (
        count < FEWEST_SIGNALS
        or strengths.min() == strengths.max()
        or returns.min() == returns.max()
    ):
        return Decay(horizon, count, hit_rate=hit_rate, mean_return=mean_return)
    from scipy.stats import norm, rankdata, spearmanr

    coefficient = float(spearmanr(strengths, returns).statistic)
    low = high = p_value = None
    independent = independent_signals(rankdata(strengths), places, horizon)
    if _windows(places, horizon) >= FEWEST_WINDOWS and independent >= _FEWEST_INDEPENDENT:
        z = np.arctanh(np.clip(coefficient, -_ONE, _ONE))
        spread = 1 / np.sqrt(independent - 3)
        reach = norm.isf((1 - CONFIDENCE) / 2) * spread * np.sqrt(1 + coefficient**2 / 2)
        low, high = float(np.tanh(z - reach)), float(np.tanh(z + reach))
        p_value = float(2 * norm.sf(abs(z) / spread))
    return Decay(horizon, count, coefficient, low, high, p_value, hit_rate, mean_return)


def independent_signals(ranks: Floats, places: Sequence[Integers], horizon: int) -> float:
    """Tell how many independent signals would make the coefficient as certain as these do.

    Two returns over `horizon` prices that begin `k` prices apart share ``1 - k / horizon`` of their
    prices. If strengths do not foretell returns, the coefficient's variance is the sum over all
    pairs of signals of one instrument of ``u_i * u_j * share``, over ``n**2``, where ``u`` are the
    standardised ranks of the strengths. That sum is taken as what it equals: over all stretches of
    `horizon` prices, the square of the sum of the ``u`` in each, over `horizon`.

    Args:
        ranks: Of the strengths, one instrument's after another's.
        places: The price that each stands at, by instrument, ascending.
        horizon: Price events.

    Returns:
        At most the number of signals.
    """
    standardised = (ranks - ranks.mean()) / ranks.std()
    shared, start = 0.0, 0
    for of_instrument in places:
        part = standardised[start : start + len(of_instrument)]
        start += len(of_instrument)
        if not len(part):
            continue
        offsets = of_instrument - of_instrument[0]
        sums = np.bincount(offsets, weights=part, minlength=int(offsets[-1]) + horizon)
        totals = np.cumsum(sums)
        stretches = totals.copy()
        stretches[horizon:] -= totals[:-horizon]
        shared += float(np.sum(stretches**2)) / horizon
    return float(len(ranks) / max(1.0, shared / len(ranks)))


def _known(forecasts: Sequence[Forecasts], horizon: int) -> tuple[Floats, Floats, list[Integers]]:
    """Give strengths and returns of the signals that have both, and their places by instrument."""
    strengths, returns, places = [np.empty(0)], [np.empty(0)], []
    for one in forecasts:
        its_returns = forward_returns(one.prices, one.places, horizon)
        is_known = ~np.isnan(one.strengths) & ~np.isnan(its_returns)
        strengths.append(one.strengths[is_known])
        returns.append(its_returns[is_known])
        places.append(one.places[is_known])
    return np.concatenate(strengths), np.concatenate(returns), places


def _windows(places: Sequence[Integers], horizon: int) -> int:
    """Count the stretches of `horizon` prices that the signals span, side by side."""
    return sum(int(one[-1] - one[0]) // horizon + 1 for one in places if len(one))
