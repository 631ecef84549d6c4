"""Futures on real prices: rolled, turned, short, closed by the engine, open at the end; and shares.

The contracts follow the daily prices of IBM and MSFT from October 2004 to June 2005, with a basis
that runs out towards their end. Each is settled into the cash by the engine, day by day; the second
run does so in minutes, and looks at its portfolio in every one, so that there it is paid at once.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import zipline_market
from zipline import run_algorithm
from zipline.api import (
    future_symbol,
    order,
    order_target,
    order_target_percent,
    set_commission,
    set_slippage,
    symbol,
)
from zipline.data import bundles
from zipline.finance.commission import PerContract
from zipline.finance.slippage import FixedSlippage
from zipline.utils import paths
from zipline.utils.calendar_utils import get_calendar

BUNDLE = "fillpath-futures"
SHARE = "AAPL"
CONTRACTS = {
    # symbol: sid, underlying, multiplier, last session
    "IBZ04": (11, "IBM", 50.0, "2004-12-17"),
    "IBH05": (12, "IBM", 50.0, "2005-03-18"),
    "MSH05": (13, "MSFT", 1000.0, "2005-03-18"),
    "MSU05": (14, "MSFT", 0.1, "2005-06-30"),
}
MINUTE_DAYS = zipline_market.MINUTE_DAYS


def daily(name: str) -> pd.DataFrame:
    """Prices of one contract by session: those of its underlying, and a basis that runs out."""
    _, underlying, _, last = CONTRACTS[name]
    frame = zipline_market.daily("ODDS" if underlying == "IBM" else underlying)[:last]
    basis = 0.01 * np.arange(len(frame))[::-1]
    prices = ["open", "high", "low", "close"]
    frame[prices] = (frame[prices].add(basis, axis=0)).round(2)
    return frame


def minutes(frame: pd.DataFrame) -> pd.DataFrame:
    """A walk through each day's range, one price a minute, without some of the minutes."""
    calendar, parts = get_calendar("XNYS"), []
    for day in MINUTE_DAYS:
        bar, index = frame.loc[day], calendar.session_minutes(day)
        walk = Random(day.day)
        steps = np.linspace(bar.open, bar.close, len(index))
        close = np.round([x + walk.uniform(-0.05, 0.05) for x in steps], 2)
        part = pd.DataFrame(
            {"open": close, "high": close, "low": close, "close": close, "volume": 1000.0},
            index=index,
        )
        parts.append(part[[walk.random() < 0.9 for _ in index]])
    return pd.concat(parts)


def _ingest(
    environ: Any,
    asset_db_writer: Any,
    minute_bar_writer: Any,
    daily_bar_writer: Any,
    adjustment_writer: Any,
    *_: Any,
) -> None:
    frames = {sid: daily(name) for name, (sid, *_) in CONTRACTS.items()}
    frames[0] = zipline_market.daily(SHARE)
    ends = {sid: frame.index[-1] for sid, frame in frames.items()}
    futures = pd.DataFrame(
        [
            {
                "symbol": name,
                "root_symbol": name[:2],
                "asset_name": name,
                "start_date": frames[sid].index[0],
                "end_date": ends[sid],
                "first_traded": frames[sid].index[0],
                "notice_date": ends[sid],
                "expiration_date": ends[sid],
                "auto_close_date": ends[sid],
                "tick_size": 0.01,
                "multiplier": multiplier,
                "exchange": "CME",
            }
            for name, (sid, _, multiplier, _) in CONTRACTS.items()
        ],
        index=[sid for sid, *_ in CONTRACTS.values()],
    )
    equities = pd.DataFrame(
        [{"symbol": SHARE, "start_date": frames[0].index[0], "end_date": ends[0],
          "exchange": "CME"}], index=[0])  # fmt: skip
    roots = pd.DataFrame({"root_symbol": ["IB", "MS"], "root_symbol_id": [1, 2],
                          "exchange": ["CME", "CME"]})  # fmt: skip
    exchanges = pd.DataFrame(
        {"exchange": ["CME"], "canonical_name": ["CME"], "country_code": ["US"]}
    )
    asset_db_writer.write(
        equities=equities, futures=futures, root_symbols=roots, exchanges=exchanges
    )
    daily_bar_writer.write(iter(sorted(frames.items())))
    minute_bar_writer.write(iter([(sid, minutes(frames[sid])) for sid in (0, 12, 13)]))
    adjustment_writer.write(
        splits=pd.DataFrame(
            [{"sid": 0, "ratio": 0.5, "effective_date": pd.Timestamp("2005-02-28")}]
        )
    )


def use_bundle() -> None:
    """Register the bundle in this process, and make it if `ZIPLINE_ROOT` has none."""
    if BUNDLE not in bundles.bundles:
        first, last = zipline_market.FIRST, zipline_market.LAST
        bundles.register(BUNDLE, _ingest, calendar_name="XNYS", start_session=first,
                         end_session=last)  # fmt: skip
    if not Path(paths.data_path([BUNDLE])).exists():
        bundles.ingest(BUNDLE)


def initialize(context: Any) -> None:
    context.near, context.far, context.ms, context.last = map(future_symbol, CONTRACTS)
    context.share = symbol(SHARE)
    context.day = 0
    set_slippage(us_equities=FixedSlippage(spread=0.02), us_futures=FixedSlippage(spread=0.02))
    set_commission(us_futures=PerContract(cost=1.45, exchange_fee=0.3))


def trade(context: Any, data: Any) -> None:
    context.day += 1
    day = context.day
    if day == 2:
        order_target(context.near, 4)
        order(context.ms, -3)
        order_target_percent(context.share, 0.3)
    elif day == 12:
        order_target(context.near, 7)
        order(context.ms, 5)  # turns it
    elif day == 30:
        order_target(context.near, 5)
        order_target(context.ms, 0)
    elif day == 45:  # the roll
        order_target(context.near, 0)
        order_target(context.far, 5)
        order(context.ms, -2, limit_price=20.0)  # held until the engine closes it
    elif day == 80:
        order_target(context.share, 0)
        order(context.last, -70)
    elif day == 90:
        order_target(context.last, 30)
    elif day == 150:
        order(context.last, 11)  # and all of it stays open


def each_minute(context: Any, data: Any) -> None:
    context.day += 1
    context.worth = context.portfolio.portfolio_value  # has the engine settle
    if context.day % 120 == 1:
        order_target(context.far, 5 - context.day // 60)
    elif context.day % 100 == 7:
        order(context.ms, 2)
    elif context.day % 150 == 11:
        order(context.share, -25)


def run(frequency: str) -> pd.DataFrame:
    """Run it by days, over all of the time, or by minutes, over two days."""
    use_bundle()
    first, last = ("2004-10-04", "2005-06-29")
    if frequency == "minute":
        first, last = (str(day.date()) for day in MINUTE_DAYS)
    return run_algorithm(
        **zipline_market.days(first, last)
        | {
            "bundle": BUNDLE,
            "data_frequency": frequency,
            "initialize": initialize,
            "handle_data": trade if frequency == "daily" else each_minute,
        }
    )


def main() -> None:
    """Run both."""
    zipline_market.write({frequency: run(frequency) for frequency in ("daily", "minute")})


if __name__ == "__main__":
    main()
