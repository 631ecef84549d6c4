"""How far the market went for and against each trade while it was held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

import pyarrow as pa

from fillpath.analytics.corporate_actions import CorporateActions
from fillpath.analytics.exact import ZERO, trimmed
from fillpath.analytics.ledger_events import FillEvent
from fillpath.analytics.market_prices import MarketPrices, halved
from fillpath.analytics.price_worth import PriceWorth
from fillpath.analytics.round_trips import RoundTrip
from fillpath.analytics.sql_files import read_sql

Began = Callable[[FillEvent], int | None]
"""The sequence of the first event of a fill's order; ``None`` if it is not known."""
_ENDLESS: Final = 2**62
_HOLDINGS: Final = pa.schema(
    [
        ("number", pa.int64()),
        ("portfolio", pa.string()),
        ("symbol", pa.string()),
        ("venue", pa.string()),
        ("begin_sequence", pa.int64()),
        ("begin_time", pa.int64()),
        ("begin_order", pa.int64()),
        ("end_sequence", pa.int64()),
        ("end_time", pa.int64()),
        ("end_order", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Excursion:
    """The extremes of a trade.

    Attributes:
        best_price: The market's best price while it was held, its own fills among them.
        worst_price: The market's worst price.
        favourable: Highest profit of the trade so far, closed and open, before commission, in the
            settlement currency; never negative.
        adverse: The lowest; never positive.
    """

    best_price: Decimal
    worst_price: Decimal
    favourable: Decimal
    adverse: Decimal


_Boundary = tuple[int, int | None, int | None]
"""A sequence, a time, and the sequence of an order's first event."""


class _Moment(NamedTuple):
    fill: FillEvent
    change: Decimal


def excursions(
    prices: MarketPrices,
    trips: Sequence[RoundTrip],
    began: Began,
    actions: CorporateActions,
) -> list[Excursion | None]:
    """Find the extremes of trades; between two fills what is held stays the same.

    Args:
        prices: Prices of the market.
        trips: The trades.
        began: Where the order of a fill began: it is known to have waited if market data came in
            between.
        actions: Splits, over which a trade's prices are told in the units of the run's end.

    Returns:
        One for each trade, ``None`` where the market told no price of its instrument.
    """
    moments = [list(_moments(trip)) for trip in trips]
    extremes = _extremes(prices, moments, began, actions)
    found: list[Excursion | None] = []
    number = 0
    for trip, ordered in zip(trips, moments, strict=True):
        between = [extremes.get(number + place) for place in range(len(ordered))]
        number += len(ordered)
        is_priced = _instrument(trip.opened_by) in prices.instruments
        found.append(_excursion(ordered, between) if is_priced else None)
    return found


def _moments(trip: RoundTrip) -> Iterator[_Moment]:
    sign = 1 if trip.direction == "LONG" else -1
    moments = [_Moment(fill, sign * quantity) for fill, quantity in trip.entries]
    moments += [_Moment(fill, -sign * quantity) for fill, quantity in trip.exits]
    yield from sorted(moments, key=lambda one: one.fill.ref.sequence)


def _instrument(fill: FillEvent) -> tuple[str, str, str]:
    return fill.ref.portfolio, fill.symbol, fill.venue


def _extremes(
    prices: MarketPrices,
    trades: Iterable[Sequence[_Moment]],
    began: Began,
    actions: CorporateActions,
) -> dict[int, tuple[Decimal, Decimal]]:
    """The highest and the lowest price after each fill of each trade, by the fill's number."""
    rows: list[tuple[Any, ...]] = []
    stretches: list[tuple[int, FillEvent, int]] = []
    number = 0
    for ordered in trades:
        held = ZERO
        for place, one in enumerate(ordered):
            held += one.change
            after = ordered[place + 1].fill if place + 1 < len(ordered) else None
            if held:
                instrument, first = _instrument(one.fill), one.fill.ref.sequence
                last = after.ref.sequence if after else None
                begin = _place_of(one.fill, began)
                for split in actions.between(*instrument[:2], first, last):
                    rows.append((len(rows), *instrument, *begin, *_until(split)))
                    stretches.append((number, one.fill, begin[0]))
                    begin = _from(split)
                end = _place_of(after, began, ends=True) if after else (None, None, None)
                rows.append((len(rows), *instrument, *begin, *end))
                stretches.append((number, one.fill, begin[0]))
            number += 1
    if not rows:
        return {}
    connection = prices.connection
    connection.register("holdings", pa.table(list(zip(*rows, strict=True)), schema=_HOLDINGS))
    try:
        found = connection.execute(read_sql("holding_extremes"), {"endless": _ENDLESS}).fetchall()
    finally:
        connection.unregister("holdings")
    seen: dict[int, tuple[Decimal, Decimal]] = {}
    for row, *both in found:
        place, fill, first = stretches[row]
        told = [
            actions.of_price(fill.ref.portfolio, fill.symbol, first, halved(price))
            for price in both
        ]
        told += seen.get(place, ())
        seen[place] = max(told), min(told)
    return seen


def _place_of(fill: FillEvent, began: Began, *, ends: bool = False) -> _Boundary:
    """Where a stretch begins or ends with a fill, which may have been within a bar."""
    if not fill.is_traded:  # a corporate action lies between two bars
        return _until(fill.ref.sequence) if ends else _from(fill.ref.sequence)
    return fill.ref.sequence, fill.ref.event_time, began(fill)


def _from(sequence: int) -> _Boundary:
    """Begin between two bars, of which all of the later one counts."""
    return sequence, -_ENDLESS, sequence


def _until(sequence: int) -> _Boundary:
    """End between two bars, of which all of the earlier one counts."""
    return sequence, _ENDLESS, None


def _excursion(
    ordered: Sequence[_Moment], between: Sequence[tuple[Decimal, Decimal] | None]
) -> Excursion | None:
    worth = PriceWorth.of(ordered[0].fill)
    is_long = ordered[0].change > 0
    came_in, held = ZERO, ZERO
    seen: list[Decimal] = []
    profits = [ZERO]
    for one, extremes in zip(ordered, between, strict=True):
        came_in -= one.change * worth.of_price(one.fill.price)
        held += one.change
        traded_at = (one.fill.price,) if one.fill.is_traded else ()
        for price in (*traded_at, *(extremes or ())):
            seen.append(price)
            profits.append(came_in + held * worth.of_price(price))
    if not seen:  # shares that came for nothing, after the last price
        return None
    best, worst = (max(seen), min(seen)) if is_long else (min(seen), max(seen))
    return Excursion(
        trimmed(best, 0), trimmed(worst, 0), trimmed(max(profits), 0), trimmed(min(profits), 0)
    )
