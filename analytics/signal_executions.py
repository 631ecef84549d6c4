"""What came of signals: the orders that they led to, and their fills by instrument and side."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from fillpath.analytics.exact import ZERO, exact_arithmetic, quotient
from fillpath.analytics.order_causes import make_order_causes
from fillpath.analytics.sql_files import read_sql
from fillpath.instrumentation.semconv import Fill

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class FilledSide(NamedTuple):
    """Fills that are added up: of one instrument, on one side, in one currency."""

    symbol: str
    side: str
    currency: str


@dataclass(slots=True)
class Filled:
    """What a signal bought or sold.

    Attributes:
        quantity: How much, never negative.
        value: Price times quantity times multiplier of all fills; of an inverse contract, quantity
            times multiplier divided by price.
        priced: Price times quantity of all fills.
        is_inverse: Whether the contract is quoted in the other currency than it settles in.
    """

    quantity: Decimal = ZERO
    value: Decimal = ZERO
    priced: Decimal = ZERO
    is_inverse: bool = False

    @property
    def average_price(self) -> Decimal | None:
        """Mean price, weighted by quantity; None without a fill."""
        return quotient(self.priced, self.quantity) if self.quantity else None


@dataclass(slots=True)
class Executed:
    """What came of one signal.

    Attributes:
        orders: The engine's ids of the orders, in the order of sequence.
        filled: Fills, added up.
        commissions: Commission by currency; a cost is positive.
    """

    orders: dict[str, None] = field(default_factory=dict)
    filled: dict[FilledSide, Filled] = field(default_factory=dict)
    commissions: dict[str, Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))


@dataclass(frozen=True, slots=True)
class FillDifference:
    """How two signals that belong together were filled differently.

    Attributes:
        symbol: The instrument.
        side: BUY or SELL.
        currency: Currency of the effect.
        live_quantity: What the live run filled.
        backtest_quantity: What the backtest filled.
        live_price: Mean price of that; None without a fill.
        backtest_price: Mean price of that; None without a fill.
        effect: What the other price came to for the quantity that both filled; a loss of the live
            run is negative.
    """

    symbol: str
    side: str
    currency: str
    live_quantity: Decimal
    backtest_quantity: Decimal
    live_price: Decimal | None
    backtest_price: Decimal | None
    effect: Decimal


def read_executions(connection: DuckDBPyConnection, run_id: str) -> dict[str, Executed]:
    """Read what came of the signals of a run, by the signals' span ids.

    An order belongs to the nearest signal above it.

    Args:
        connection: A connection with the views `spans` and `trace_divisions`.
        run_id: The run.
    """
    make_order_causes(connection, run_id)
    found: dict[str, Executed] = defaultdict(Executed)
    with exact_arithmetic():
        rows = connection.execute(read_sql("signal_fills"), {"run_id": run_id}).fetchall()
        for span_id, order, *fill in rows:
            executed = found[span_id]
            executed.orders[order] = None
            if fill[2] is not None and fill[3] is not None:
                _add(executed, *fill)
    return dict(found)


def _add(
    executed: Executed,
    symbol: str | None,
    side: str | None,
    quantity: Decimal,
    price: Decimal,
    commission: Decimal | None,
    currency: str | None,
    attributes: str | Mapping[str, Any] | None,
) -> None:
    told = json.loads(attributes) if isinstance(attributes, str) else attributes or {}
    multiplier = Decimal(str(told.get(Fill.MULTIPLIER) or 1))
    is_inverse = told.get(Fill.IS_INVERSE) is True
    settled = told.get(Fill.SETTLEMENT_CURRENCY)
    if settled is None and is_inverse:
        settled = told.get(Fill.BASE_CURRENCY)
    key = FilledSide(symbol or "", side or "", str(settled or currency or ""))
    filled = executed.filled.setdefault(key, Filled(is_inverse=is_inverse))
    filled.quantity += abs(quantity)
    filled.priced += abs(quantity) * price
    if is_inverse:
        filled.value += quotient(abs(quantity) * multiplier, price) if price else ZERO
    else:
        filled.value += abs(quantity) * price * multiplier
    if commission:
        executed.commissions[str(told.get(Fill.COMMISSION_CURRENCY) or currency or "")] += (
            commission
        )


def fill_differences(live: Executed, backtest: Executed) -> list[FillDifference]:
    """Compare what came of a signal in a live run and in its backtest; gives what differs."""
    found = []
    with exact_arithmetic():
        for key in sorted({*live.filled, *backtest.filled}):
            ours = live.filled.get(key, Filled())
            theirs = backtest.filled.get(key, Filled())
            if ours.quantity == theirs.quantity and ours.priced == theirs.priced:
                continue
            found.append(
                FillDifference(
                    *key,
                    ours.quantity,
                    theirs.quantity,
                    ours.average_price,
                    theirs.average_price,
                    _effect(key.side, ours, theirs),
                )
            )
    return found


def _effect(side: str, live: Filled, backtest: Filled) -> Decimal:
    """Tell what the other price came to, for what both filled."""
    if not live.quantity or not backtest.quantity:
        return ZERO
    if live.quantity == backtest.quantity:
        dearer = live.value - backtest.value
    else:
        common = min(live.quantity, backtest.quantity)
        dearer = quotient(live.value * common, live.quantity) - quotient(
            backtest.value * common, backtest.quantity
        )
    # Of an inverse contract a higher price is a smaller value.
    return dearer if (side == "SELL") != live.is_inverse else -dearer


def commission_effects(live: Executed, backtest: Executed) -> dict[str, Decimal]:
    """What the live run paid less in commissions, by currency; negative if it paid more."""
    with exact_arithmetic():
        return {
            currency: difference
            for currency in sorted({*live.commissions, *backtest.commissions})
            if (
                difference := backtest.commissions.get(currency, ZERO)
                - live.commissions.get(currency, ZERO)
            )
        }
