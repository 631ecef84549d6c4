"""What the entries and exits of a trade cost, each against the price its order was decided at.

An order's delay and impact are linear in what was filled, so those of a fill are shared between the
trades that it touches by quantity: what an order cost is what its trades say together. The
opportunity of what was not filled belongs to no trade.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from fillpath.analytics.exact import ZERO, average, trimmed
from fillpath.analytics.executions import OrderExecution
from fillpath.analytics.ledger_events import FillEvent
from fillpath.analytics.price_worth import PriceWorth
from fillpath.analytics.round_trips import RoundTrip

Parts = Sequence[tuple[FillEvent, Decimal]]
"""Fills, and how much of each belongs to the trade."""
OrderOf = Callable[[FillEvent], OrderExecution | None]
"""Finds the order of a fill."""


@dataclass(frozen=True, slots=True)
class LegCosts:
    """The entries of a trade, or its exits; what is not known of one of them is ``None``.

    Attributes:
        decision_price: Price when they were decided on, averaged by quantity.
        arrival_price: Price when their orders reached the venue, averaged by quantity.
        delay: Cost of the market's moves between the two.
        impact: Cost of filling at other prices than on arrival.
        from_decision: Both together, known also where only the arrival price is not.
    """

    decision_price: Decimal | None = None
    arrival_price: Decimal | None = None
    delay: Decimal | None = None
    impact: Decimal | None = None
    from_decision: Decimal | None = None


@dataclass(frozen=True, slots=True)
class TradeCosts:
    """What a trade cost, in the currency that its instrument settles in.

    Attributes:
        entry: Its entries.
        exit: Its exits so far.
        currency: Of all amounts; empty if nobody names it.
        delay: Of entries and exits.
        impact: Of entries and exits.
        commission: As far as it was charged in this currency.
        shortfall: All three.
    """

    entry: LegCosts
    exit: LegCosts
    currency: str
    delay: Decimal | None
    impact: Decimal | None
    commission: Decimal
    shortfall: Decimal | None


def trade_costs(trip: RoundTrip, order_of: OrderOf) -> TradeCosts:
    """Reckon what a trade cost.

    Args:
        trip: The trade.
        order_of: Finds the order of a fill.
    """
    worth = PriceWorth.of(trip.opened_by)
    entry = _leg(trip.entries, order_of, worth)
    leave = _leg(trip.exits, order_of, worth)
    commission = trip.commissions_by_currency.get(worth.currency, ZERO)
    # What a corporate action came to was not ordered by anybody, and cost nothing.
    told = [(entry, trip.entries), (leave, trip.exits)]
    legs = [leg for leg, parts in told if any(fill.is_traded for fill, _ in parts)]
    from_decision = _sum([leg.from_decision for leg in legs]) if legs else None
    return TradeCosts(
        entry=entry,
        exit=leave,
        currency=worth.currency,
        delay=_sum([leg.delay for leg in legs]) if legs else None,
        impact=_sum([leg.impact for leg in legs]) if legs else None,
        commission=commission,
        shortfall=None if from_decision is None else trimmed(from_decision + commission, 0),
    )


def _leg(parts: Parts, order_of: OrderOf, worth: PriceWorth) -> LegCosts:
    parts = [(fill, quantity) for fill, quantity in parts if fill.is_traded]
    if not parts:
        return LegCosts()
    decided: list[Decimal | None] = []
    arrived: list[Decimal | None] = []
    delays: list[Decimal | None] = []
    impacts: list[Decimal | None] = []
    totals: list[Decimal | None] = []
    for fill, quantity in parts:
        order = order_of(fill)
        decision = _restated(order.decision_price if order else None, fill, order)
        arrival = _restated(order.arrival_price if order else None, fill, order)
        decided.append(decision)
        arrived.append(arrival)
        delays.append(_cost(worth, fill.sign, quantity, decision, arrival))
        impacts.append(_cost(worth, fill.sign, quantity, arrival, fill.price))
        totals.append(_cost(worth, fill.sign, quantity, decision, fill.price))
    quantities = [quantity for _, quantity in parts]
    return LegCosts(
        decision_price=_mean(decided, quantities),
        arrival_price=_mean(arrived, quantities),
        delay=_sum(delays),
        impact=_sum(impacts),
        from_decision=_sum(totals),
    )


def _restated(
    price: Decimal | None, fill: FillEvent, order: OrderExecution | None
) -> Decimal | None:
    """Bring a price of an order to the units that its fill is told in."""
    factor = fill.price_factor
    if order is not None and order.price_factor is not None:
        factor = order.price_factor
    return price if price is None or factor == 1 else price * factor


def _cost(
    worth: PriceWorth, sign: int, quantity: Decimal, wanted: Decimal | None, got: Decimal | None
) -> Decimal | None:
    return None if wanted is None or got is None else worth.cost(sign, quantity, wanted, got)


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """Add up; the sum is not known if one of them is not."""
    known = [amount for amount in amounts if amount is not None]
    return trimmed(sum(known, ZERO), 0) if len(known) == len(amounts) else None


def _mean(prices: Sequence[Decimal | None], quantities: Sequence[Decimal]) -> Decimal | None:
    known = [price for price in prices if price is not None]
    if len(known) < len(prices):
        return None
    if len(set(known)) == 1:
        return known[0]
    total = sum((price * q for price, q in zip(known, quantities, strict=True)), ZERO)
    return average(total, sum(quantities, ZERO), known[0])
