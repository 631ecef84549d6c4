"""Orders by what they cost: each against the market's price when it was decided on.

The implementation shortfall of an order (Perold, "The implementation shortfall: paper versus
reality", Journal of Portfolio Management, 1988) is what the portfolio on paper, which trades all of
the order at the price of the decision and pays nothing, has over the real one:

    shortfall = delay + impact + commission + opportunity
    delay       = (arrival - decision) * filled
    impact      = (average - arrival) * filled
    opportunity = (last - decision) * not filled

each signed so that a cost is positive, in the currency that the instrument settles in.

An order that waits for a price of its own was decided at that price: a stop at its trigger, a limit
order that only closes at its limit. Set against the market's price when it was placed, it would
count as a cost, or a gain, what the trade earned in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import duckdb

from fillpath.analytics.corporate_actions import CorporateActions
from fillpath.analytics.exact import ZERO, trimmed
from fillpath.analytics.market_prices import MarketPrices
from fillpath.analytics.marks import Moment
from fillpath.analytics.order_reasons import is_conditional
from fillpath.analytics.price_worth import PriceWorth
from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.semconv import Order

END_OF_RUN: Final = 2**62
"""A sequence after every event."""
SIGNS: Final = {"BUY": 1, "SELL": -1}
_ENDED: Final = frozenset({"FILLED", "CANCELED", "CANCELLED", "EXPIRED", "REJECTED", "DENIED"})
_PATHS: Final = {
    "decision_price": Order.DECISION_PRICE,
    "reduce_only": Order.REDUCE_ONLY,
    "parent_id": Order.PARENT_ID,
    "trigger_price": Order.TRIGGER_PRICE,
}
_BASIS_POINTS: Final = 10_000

OrderKey = tuple[str, str]
"""Portfolio and client order id."""


@dataclass(frozen=True, slots=True)
class OrderExecution:
    """An order, its prices and its costs; see the comments on table ``executions``.

    Attributes:
        order: Its row of table ``orders``, by column.
        facts: When it was decided on, arrived and was filled, by column of ``executions.sql``.
        reason: Why it was sent.
        sign: 1 for a purchase, -1 for a sale.
        worth: What its prices are worth.
        decision_price: ``None`` if nobody knows it.
        arrival_price: The same.
        last_price: The same.
        delay_cost: ``None`` if a price of it is unknown, like the other costs.
        impact_cost: Cost of filling at other prices than on arrival.
        commission: What was charged in the currency of the other costs.
        opportunity_cost: Cost of what was not filled.
        shortfall: All four; delay and impact in one where only the arrival price is unknown.
        price_factor: What its prices are to be multiplied by, for the splits that came after it;
            ``None`` where they are in the units of its only fill.
    """

    order: Mapping[str, Any]
    facts: Mapping[str, Any]
    reason: str | None
    sign: int
    worth: PriceWorth
    decision_price: Decimal | None
    arrival_price: Decimal | None
    last_price: Decimal | None
    delay_cost: Decimal | None
    impact_cost: Decimal | None
    commission: Decimal
    opportunity_cost: Decimal | None
    shortfall: Decimal | None
    price_factor: Decimal | None = None

    @property
    def slippage(self) -> float | None:
        """Average price against the arrival price in basis points; a cost is positive."""
        average: Decimal | None = self.order["average_price"]
        if average is None or not self.arrival_price:
            return None
        change = (average - self.arrival_price) / abs(self.arrival_price)
        return float(self.sign * change * _BASIS_POINTS)


@dataclass(frozen=True, slots=True)
class FilledPart:
    """A fill as costs need it.

    Attributes:
        quantity: Positive.
        price: Price of one unit.
        commission: Positive is a cost.
        commission_currency: Its currency.
    """

    quantity: Decimal
    price: Decimal
    commission: Decimal = ZERO
    commission_currency: str | None = None


def order_executions(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    prices: MarketPrices,
    *,
    orders: Iterable[Mapping[str, Any]],
    fills: Mapping[OrderKey, list[FilledPart]],
    worths: Mapping[OrderKey, PriceWorth],
    reasons: Mapping[OrderKey, str],
    actions: CorporateActions,
    last_fills: Mapping[OrderKey, int],
) -> list[OrderExecution]:
    """Reckon what the orders of a run cost.

    Args:
        connection: Has the view ``spans`` and the table ``order_causes``.
        run_id: The run.
        prices: Prices of the market.
        orders: Rows of table ``orders``, by column; those without a side are left out.
        fills: The fills of each order, in the units of the last one.
        worths: What prices are worth, by order.
        reasons: Why each was sent.
        actions: The splits of the run: an order's prices are brought to the units of its last fill.
        last_fills: The sequence of the last fill, by order.
    """
    facts = _facts(connection, run_id)
    known = [order for order in orders if order["side"] in SIGNS and _key(order) in facts]
    moments = {_key(one): list(moments_of(one, facts[_key(one)])) for one in known}
    found = prices.at(moment for triple in moments.values() for moment in triple)
    executions = []
    for order in known:
        key = _key(order)
        units = last_fills.get(key, moments[key][-1][-1])
        execution = execution_at(
            order,
            _in_units(actions, order, facts[key], units),
            reasons.get(key),
            worths.get(key, PriceWorth()),
            fills.get(key, []),
            [_price_at(actions, moment, found.get(moment), units) for moment in moments[key]],
        )
        factor = actions.of_price(*moments[key][0][:2], units, Decimal(1))
        executions.append(replace(execution, price_factor=factor))
    return executions


def _price_at(
    actions: CorporateActions, moment: Moment, price: Decimal | None, units: int
) -> Decimal | None:
    portfolio, symbol, _, sequence = moment
    if price is None:
        return None
    return actions.of_price(portfolio, symbol, sequence, price, units_of=units)


def _in_units(
    actions: CorporateActions, order: Mapping[str, Any], facts: dict[str, Any], units: int
) -> dict[str, Any]:
    """Bring the price that a host says it decided at to the units of the order's fills."""
    told = told_price(facts["told_decision_price"])
    if told is None:
        return facts
    place = order["portfolio"], order["symbol"] or "", facts["decision_sequence"]
    return {**facts, "told_decision_price": str(actions.of_price(*place, told, units_of=units))}


def _facts(connection: duckdb.DuckDBPyConnection, run_id: str) -> dict[OrderKey, dict[str, Any]]:
    parameters = {name: json_path(path) for name, path in _PATHS.items()} | {"run_id": run_id}
    cursor = connection.execute(read_sql("executions"), parameters)
    names = [column[0] for column in cursor.description or ()]
    rows = (dict(zip(names, row, strict=True)) for row in cursor.fetchall())
    return {_key(row): row for row in rows}


def _key(row: Mapping[str, Any]) -> OrderKey:
    return row["portfolio"], row["client_order_id"]


def _unfilled(order: Mapping[str, Any]) -> Decimal:
    quantity, filled = order["quantity"], order["filled_quantity"]
    return max(ZERO, quantity - filled) if quantity is not None else ZERO


def moments_of(order: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Moment]:
    """When its prices are looked up: decision, arrival, and when it was done with."""
    is_done = not _unfilled(order) or (order["status"] or "").upper() in _ENDED
    last = facts["last_word"] if is_done else None
    decision, arrival = facts["decision_sequence"], facts["arrival_sequence"]
    if is_conditional(order["order_type"]) and facts["triggered"] is not None:
        decision = arrival = facts["triggered"]
    for sequence in (decision, arrival, last):
        place = order["portfolio"], order["symbol"] or "", order["venue"] or ""
        yield *place, END_OF_RUN if sequence is None else sequence


def _own_price(order: Mapping[str, Any], facts: Mapping[str, Any]) -> Decimal | None:
    """The price that an order waits for: a stop's trigger, the limit of one that only closes."""
    limit: Decimal | None = facts["limit_price"]
    limit = None if limit is None else trimmed(limit, 0)
    if is_conditional(order["order_type"]):
        trigger = told_price(facts["trigger_price"])
        return limit if trigger is None else trigger
    is_limit = "LIMIT" in (order["order_type"] or "").upper()
    return limit if is_limit and facts["only_closes"] else None


def _missed(order: Mapping[str, Any], facts: Mapping[str, Any]) -> Decimal:
    """How much an order left undone that was to be done.

    A stop whose trigger never came was not to be filled. What an order that only closes has left,
    another order has closed, or it is still held: the profit and loss shows it.
    """
    waits = is_conditional(order["order_type"]) and facts["triggered"] is None
    return ZERO if waits or facts["only_closes"] else _unfilled(order)


def execution_at(
    order: Mapping[str, Any],
    facts: Mapping[str, Any],
    reason: str | None,
    worth: PriceWorth,
    fills: Sequence[FilledPart],
    found: Sequence[Decimal | None],
) -> OrderExecution:
    """Reckon what one order cost.

    Args:
        order: Its row of table ``orders``, by column.
        facts: Its row of ``executions.sql``.
        reason: Why it was sent.
        worth: What its prices are worth.
        fills: Its fills.
        found: Prices of the market at its moments, see `moments_of`.
    """
    decision, arrival, last = found
    own = _own_price(order, facts)
    if own is not None:
        decision = arrival = own
    told = told_price(facts["told_decision_price"])
    decision = decision if told is None else told
    sign = SIGNS[order["side"]]
    missed = _missed(order, facts)

    def paid_over(wanted: Decimal) -> Decimal:
        return sum((worth.cost(sign, one.quantity, wanted, one.price) for one in fills), ZERO)

    delay = impact = opportunity = shortfall = None
    commission = sum(
        (one.commission for one in fills if one.commission_currency == worth.currency), ZERO
    )
    if arrival is not None:
        impact = paid_over(arrival)
        if decision is not None:
            delay = worth.cost(sign, sum((f.quantity for f in fills), ZERO), decision, arrival)
    if decision is not None:
        if not missed:
            opportunity = ZERO
        elif last is not None:
            opportunity = worth.cost(sign, missed, decision, last)
        if opportunity is not None:
            shortfall = paid_over(decision) + commission + opportunity
    return OrderExecution(
        order=order,
        facts=facts,
        reason=reason,
        sign=sign,
        worth=worth,
        decision_price=decision,
        arrival_price=arrival,
        last_price=last,
        delay_cost=_trimmed(delay),
        impact_cost=_trimmed(impact),
        commission=trimmed(commission, 0),
        opportunity_cost=_trimmed(opportunity),
        shortfall=_trimmed(shortfall),
    )


def _trimmed(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else trimmed(amount, 0)


def told_price(text: str | None) -> Decimal | None:
    """Read a price that a host wrote; ``None`` if it is none."""
    try:
        price = Decimal(text or "")
    except InvalidOperation:
        return None
    return trimmed(price, 0) if price.is_finite() else None
