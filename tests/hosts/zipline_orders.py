"""Daily bars: every kind of order, and what happens to positions by themselves.

Market, limit, stop and stop-limit orders, targets, orders in parts over several bars, two fills of
one asset on one bar, cancellations, a short, a flip through zero, a control that only logs, splits
with and without fractions (one meets resting orders), dividends paid and owed, a delisting with an
open position and a resting order, scheduled functions, and open positions at the end.
"""

from __future__ import annotations

import logging
from typing import Any

import zipline_market
from zipline.api import (
    cancel_order,
    get_open_orders,
    order,
    order_target,
    order_target_percent,
    order_value,
    record,
    schedule_function,
    set_commission,
    set_max_order_size,
    set_slippage,
    symbol,
)
from zipline.finance import commission, slippage
from zipline.utils.events import date_rules, time_rules

logging.getLogger("TradingControl").setLevel(logging.CRITICAL)


def initialize(context: Any) -> None:
    context.day = 0
    context.aapl, context.goog = symbol("AAPL"), symbol("GOOG")
    context.ibm, context.msft, context.odds = symbol("IBM"), symbol("MSFT"), symbol("ODDS")
    set_slippage(us_equities=slippage.VolumeShareSlippage(volume_limit=0.00002, price_impact=0.1))
    set_commission(us_equities=commission.PerShare(cost=0.0075, min_trade_cost=1.0))
    set_max_order_size(asset=context.goog, max_shares=40, on_error="log")
    schedule_function(rebalance, date_rules.month_start(), time_rules.market_open())


def before_trading_start(context: Any, data: Any) -> None:
    context.day += 1


def rebalance(context: Any, data: Any) -> None:
    order_target_percent(context.msft, 0.2)


def handle_data(context: Any, data: Any) -> None:  # noqa: C901, PLR0912 - a calendar
    day = context.day
    record(apple=data.current(context.aapl, "price"), day=day)
    if day == 2:
        order(context.aapl, 1_001)  # comes in parts
        order(context.ibm, -300)  # owes a dividend
        order(context.odds, 101)
    elif day == 3:
        context.far = order(context.goog, 10, limit_price=1.0)
        order(context.goog, 30, limit_price=500.0)  # filled at once
        order(context.goog, 50)  # too large: a control logs it
        order(context.aapl, -100, stop_price=30.0)
    elif day == 6:
        cancel_order(context.far)
        cancel_order(context.far)  # again: nothing happens
    elif day == 12:
        order(context.goog, -200, limit_price=100.0, stop_price=300.0)  # turns the position
    elif day == 20:
        order_target(context.aapl, 600)
        order_value(context.msft, 2_000.0)
    elif day == 60:
        order(context.goog, 150)  # and back
    elif day == 100:
        context.resting = order(context.aapl, 51, limit_price=50.0)  # meets the split
        order(context.aapl, -21, stop_price=10.0)
    elif day == 110:
        order_target(context.aapl, 333)
    elif day == 115:
        order(context.ibm, 400)  # turns it
        order(context.odds, -51)
    elif day == 120:
        order(context.ibm, 10, limit_price=2.0)  # rests until there is no IBM
    elif day == 140:
        for one in get_open_orders(context.aapl):
            cancel_order(one)
    elif day == 150:
        order_target_percent(context.goog, -0.1)


def main() -> None:
    """Run it."""
    perf = zipline_market.run(
        initialize=initialize, before_trading_start=before_trading_start, handle_data=handle_data
    )
    zipline_market.write(perf)


if __name__ == "__main__":
    main()
