"""Minutes: orders in parts that the end of the day cancels, scheduled functions, and two emissions.

Both runs trade alike; the second also reports every minute.
"""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd
import zipline_market
from zipline.algorithm import TradingAlgorithm
from zipline.api import (
    order,
    order_target,
    schedule_function,
    set_cancel_policy,
    set_slippage,
    symbol,
)
from zipline.data import bundles
from zipline.data.data_portal import DataPortal
from zipline.finance.cancel_policy import EODCancel
from zipline.finance.slippage import VolumeShareSlippage
from zipline.finance.trading import SimulationParameters
from zipline.utils.calendar_utils import get_calendar
from zipline.utils.events import date_rules, time_rules

logging.getLogger("AlgoWarning").setLevel(logging.CRITICAL)


def initialize(context: Any) -> None:
    context.asset = symbol("AAPL")
    context.minute = 0
    set_cancel_policy(EODCancel(warn_on_cancel=True))
    set_slippage(us_equities=VolumeShareSlippage(volume_limit=0.01))
    schedule_function(enter, date_rules.every_day(), time_rules.market_open(minutes=5))
    schedule_function(leave, date_rules.every_day(), time_rules.market_close(minutes=30))


def handle_data(context: Any, data: Any) -> None:
    context.minute += 1
    if context.minute % 97 == 0:
        order(context.asset, -25 if context.minute % 2 else 25)


def enter(context: Any, data: Any) -> None:
    order(context.asset, 400)
    order(context.asset, 100, limit_price=1.0)  # never


def leave(context: Any, data: Any) -> None:
    order_target(context.asset, -2_000)  # the day is too short for it


def run(emission_rate: str) -> pd.DataFrame:
    """Run it, without `run_algorithm`."""
    zipline_market.use_bundle()
    data = bundles.load(zipline_market.BUNDLE)
    calendar = get_calendar("XNYS")
    days = zipline_market.MINUTE_DAYS
    portal = DataPortal(
        data.asset_finder,
        trading_calendar=calendar,
        first_trading_day=data.equity_minute_bar_reader.first_trading_day,
        equity_minute_reader=data.equity_minute_bar_reader,
        equity_daily_reader=data.equity_daily_bar_reader,
        adjustment_reader=data.adjustment_reader,
    )
    algorithm = TradingAlgorithm(
        sim_params=SimulationParameters(
            start_session=days[0],
            end_session=days[-1],
            trading_calendar=calendar,
            capital_base=50_000.0,
            data_frequency="minute",
            emission_rate=emission_rate,
        ),
        data_portal=portal,
        trading_calendar=calendar,
        initialize=initialize,
        handle_data=handle_data,
        benchmark_returns=pd.Series(0.0, index=days.tz_localize("UTC")),
    )
    return algorithm.run()


def main() -> None:
    """Run both."""
    zipline_market.write({rate: run(rate) for rate in ("daily", "minute")})


if __name__ == "__main__":
    main()
