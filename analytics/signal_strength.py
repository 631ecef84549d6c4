"""How strong signals were, and how often those of each strength were right: `docs/signals.md`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np

from fillpath.analytics.exact import ZERO
from fillpath.instrumentation.signal_meaning import FLAT, meaning_of

BUCKETS: Final = 5
"""Buckets of strength at most."""
CONFIDENCE: Final = 0.95
"""Of every interval."""

_DIRECTIONS: Final = {
    **dict.fromkeys(("buy", "long", "up", "bull", "bullish", "true", "enter_long"), 1.0),
    **dict.fromkeys(("sell", "short", "down", "bear", "bearish", "enter_short"), -1.0),
}


def strength_of(value: str | None, strength: str | None, side: str | None = None) -> float | None:
    """Give a signal's strength with its direction: positive expects a rise.

    Args:
        value: The signal's value as text.
        strength: Its strength as text. Where it has no sign of its own, a word such as ``SELL``,
            the side or a value of -1 tells the direction.
        side: ``BUY`` or ``SELL``, if the host told one.

    Returns:
        The strength, else the value as a number, else 1 or -1 for a direction without a size, 0 for
        flat; None if nothing of all this is told.
    """
    size, number = _number(strength), _number(value)
    direction = _DIRECTIONS.get((value or "").strip().casefold())
    if direction is None and side is not None:
        direction = _DIRECTIONS.get(side.strip().casefold())
    if size is not None:
        if direction is None and number == -1:
            direction = -1.0
        return size if direction is None or size < 0 else direction * size
    if number is not None:
        return number if direction is None or number < 0 else direction * number
    if direction is not None:
        return direction
    said = strength if value is None else value
    return 0.0 if said is not None and meaning_of(said) == FLAT else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, slots=True)
class Judged:
    """A signal, and what came of it.

    Attributes:
        strength: Signed.
        trace_id: Its trace.
        pnl: P&L of the lots that it entered, commission taken off, by currency.
        closed: The part of it that comes from lots which are closed by now.
    """

    strength: float
    trace_id: str
    pnl: Mapping[str, Decimal]
    closed: Mapping[str, Decimal]


def bucket_numbers(strengths: Sequence[float]) -> list[int]:
    """Put strengths into buckets of about as many each, numbered from 1, the weakest first.

    By size, without the sign. Equal sizes share a bucket; up to `BUCKETS` different sizes have one
    each.
    """
    sizes = np.abs(np.asarray(strengths, dtype=np.float64))
    different, places, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    if len(different) <= BUCKETS:
        return [int(place) + 1 for place in places]
    smaller = np.cumsum(counts) - counts
    _, numbers = np.unique(BUCKETS * smaller // len(sizes), return_inverse=True)
    return [int(numbers[place]) + 1 for place in places]


def strength_rows(signals: Sequence[Judged]) -> Iterator[tuple[Any, ...]]:
    """Judge the signals of one name, bucket by bucket and currency by currency.

    Needs scipy. Gives the columns of table ``signal_strength`` from ``bucket`` on.
    """
    numbers = bucket_numbers([one.strength for one in signals])
    for number in range(1, max(numbers, default=0) + 1):
        bucket = [one for one, its in zip(signals, numbers, strict=True) if its == number]
        sizes = [abs(one.strength) for one in bucket]
        # A bucket of which nothing was traded has one row, too.
        for currency in sorted({currency for one in bucket for currency in one.pnl}) or [""]:
            closed = [one.closed[currency] for one in bucket if currency in one.closed]
            amounts = [(one.pnl[currency], one) for one in bucket if currency in one.pnl]
            hits = sum(amount > 0 for amount in closed)
            largest = max(amounts, key=lambda it: abs(it[0]), default=(ZERO, bucket[0]))[1]
            yield (
                number,
                min(sizes),
                max(sizes),
                len(bucket),
                len(closed),
                hits,
                *hit_rate(hits, len(closed)),
                sum((amount for amount, _ in amounts), ZERO) if amounts else None,
                currency if amounts else None,
                largest.trace_id,
            )


def hit_rate(hits: int, of: int) -> tuple[float | None, float | None, float | None]:
    """Give a share with its Wilson interval (Wilson 1927), as scipy reckons it."""
    if not of:
        return None, None, None
    from scipy.stats import binomtest

    interval = binomtest(hits, of).proportion_ci(CONFIDENCE, method="wilson")
    return hits / of, float(interval.low), float(interval.high)


def added(amounts: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    """Add up amounts by currency."""
    sums: dict[str, Decimal] = {}
    for currency, amount in amounts:
        sums[currency] = sums.get(currency, ZERO) + amount
    return sums
