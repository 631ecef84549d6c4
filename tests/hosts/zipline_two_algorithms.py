"""Two algorithms on one instrument in one process, each with an account of its own.

One is a class of its own that gets money and gives some back while it runs, on borrowed money; the
other a few functions. The first one's handler asks for the global random generator, and a function
of another program runs between them.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd
import zipline_market
from zipline.algorithm import TradingAlgorithm
from zipline.data import bundles
from zipline.data.data_portal import DataPortal
from zipline.finance.trading import SimulationParameters
from zipline.utils.calendar_utils import get_calendar

CHANGES = {
    pd.Timestamp("2004-10-20", tz="UTC"): {"type": "delta", "value": 25_000.0},
    pd.Timestamp("2004-11-10", tz="UTC"): {"type": "target", "value": 90_000.0},
}


class Leveraged(TradingAlgorithm):
    """Buys for twice what it has, and changes sides by lot."""

    def initialize(self, symbol: str) -> None:
        self.asset = self.symbol(symbol)
        self.set_max_leverage(10.0)

    def handle_data(self, data: Any) -> None:
        if random.random() < 0.2:
            side = 1 if np.random.random_sample() < 0.5 else -1  # noqa: NPY002 - the global one
            self.order_target_percent(self.asset, 2.0 * side)


def leveraged() -> pd.DataFrame:
    """Run the class."""
    zipline_market.use_bundle()
    data, calendar = bundles.load(zipline_market.BUNDLE), get_calendar("XNYS")
    portal = DataPortal(
        data.asset_finder,
        trading_calendar=calendar,
        first_trading_day=data.equity_daily_bar_reader.first_trading_day,
        equity_daily_reader=data.equity_daily_bar_reader,
        adjustment_reader=data.adjustment_reader,
    )
    parameters = SimulationParameters(
        start_session=pd.Timestamp("2004-10-04"),
        end_session=pd.Timestamp("2004-12-31"),
        trading_calendar=calendar,
        capital_base=100_000.0,
    )
    algorithm = Leveraged(
        sim_params=parameters,
        data_portal=portal,
        capital_changes=CHANGES,
        benchmark_returns=pd.Series(0.0, index=parameters.sessions.tz_localize("UTC")),
        symbol="AAPL",
    )
    return algorithm.run()


def buy_once(context: Any) -> None:
    context.bought = False


def hold(context: Any, data: Any) -> None:
    if not context.bought:
        context.order(context.symbol("AAPL"), 250)
        context.bought = True


def main() -> None:
    """Run both."""
    random.seed(20)
    np.random.seed(21)  # noqa: NPY002
    first = leveraged()
    drawn = [random.random(), float(np.random.random_sample())]  # noqa: NPY002
    second = zipline_market.run(
        **zipline_market.days(last="2004-12-31"), initialize=buy_once, handle_data=hold
    )
    zipline_market.write({"leveraged": first, "hold": second}, error=repr(drawn))


if __name__ == "__main__":
    main()
