"""How far the market went for and against each trade while it was held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

import pyarrow as pa

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


class _Moment(NamedTuple):
    fill: FillEvent
    change: Decimal


def excursions(
    prices: MarketPrices,
    trips: Sequence[RoundTrip],
    began: Began,
) -> list[Excursion | None]:
    """Find the extremes of trades; between two fills what is held stays the same.

    Args:
        prices: Prices of the market.
        trips: The trades.
        began: Where the order of a fill began: it is known to have waited if market data came in
            between.

    Returns:
        One for each trade, ``None`` where the market told no price of its instrument.
    """
    moments = [list(_moments(trip)) for trip in trips]
    extremes = _extremes(prices, moments, began)
    found: list[Excursion | None] = []
    number = 0
    for trip, ordered in zip(trips, moments, strict=True):
        between = [extremes.get(number + place) for place in range(len(ordered))]
        number += len(ordered)
        is_priced = _instrument(trip.opened_by) in prices.instruments
        can_tell = is_priced and not _spans_a_split(ordered)
        found.append(_excursion(ordered, between) if can_tell else None)
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
) -> dict[int, tuple[Decimal, Decimal]]:
    """The highest and the lowest price after each fill of each trade, by the fill's number."""
    rows = []
    number = 0
    for ordered in trades:
        held = ZERO
        for place, one in enumerate(ordered):
            held += one.change
            after = ordered[place + 1].fill if place + 1 < len(ordered) else None
            if held:
                end = (after.ref.sequence, after.ref.event_time, began(after)) if after else ()
                begin = (one.fill.ref.sequence, one.fill.ref.event_time, began(one.fill))
                rows.append((number, *_instrument(one.fill), *begin, *(end or (None,) * 3)))
            number += 1
    if not rows:
        return {}
    connection = prices.connection
    connection.register("holdings", pa.table(list(zip(*rows, strict=True)), schema=_HOLDINGS))
    try:
        found = connection.execute(read_sql("holding_extremes"), {"endless": _ENDLESS}).fetchall()
    finally:
        connection.unregister("holdings")
    factors = dict(_factors(trades))
    return {
        place: (halved(highest) * factors[place], halved(lowest) * factors[place])
        for place, highest, lowest in found
    }


def _factors(trades: Iterable[Sequence[_Moment]]) -> Iterator[tuple[int, Decimal]]:
    """What the market's prices after each fill are to be multiplied by, for later splits."""
    fills = (one.fill for ordered in trades for one in ordered)
    return enumerate(fill.price_factor for fill in fills)


def _spans_a_split(ordered: Sequence[_Moment]) -> bool:
    """Tell whether a trade was held over a split: the market's prices are then not alike."""
    factors = {one.fill.price_factor for one in ordered}
    is_open = sum((one.change for one in ordered), ZERO) != 0
    return len(factors) > 1 or (is_open and factors != {Decimal(1)})


def _excursion(
    ordered: Sequence[_Moment], between: Sequence[tuple[Decimal, Decimal] | None]
) -> Excursion:
    worth = PriceWorth.of(ordered[0].fill)
    is_long = ordered[0].change > 0
    came_in, held = ZERO, ZERO
    seen: list[Decimal] = []
    profits = [ZERO]
    for one, extremes in zip(ordered, between, strict=True):
        came_in -= one.change * worth.of_price(one.fill.price)
        held += one.change
        for price in (one.fill.price, *(extremes or ())):
            seen.append(price)
            profits.append(came_in + held * worth.of_price(price))
    best, worst = (max(seen), min(seen)) if is_long else (min(seen), max(seen))
    return Excursion(
        trimmed(best, 0), trimmed(worst, 0), trimmed(max(profits), 0), trimmed(min(profits), 0)
    )
