"""A bundle of real prices for the zipline hosts, with splits, dividends and a delisting.

Daily prices of AAPL, GOOG, IBM and MSFT from October 2004 to June 2005, as they were then: Apple
split two for one on 2005-02-28, Microsoft paid three dollars a share on 2004-12-02. IBM ends in
March, so that an engine closes what is held of it. ODDS is IBM with a split of three for two that
leaves fractions. The first two days of January 2005 also have minutes of AAPL, walked from open
to close by a generator of their own.

`ZIPLINE_ROOT` names where the bundle is; the first host that finds none there makes it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
from bokeh_sampledata import stocks
from exchange_calendars import get_calendar
from zipline import run_algorithm
from zipline.data import bundles
from zipline.utils import paths

BUNDLE = "fillpath-hosts"
FIRST, LAST = pd.Timestamp("2004-10-01"), pd.Timestamp("2005-06-30")
DELISTED = pd.Timestamp("2005-03-24")
MINUTE_DAYS = pd.DatetimeIndex(["2005-01-03", "2005-01-04"])
SIDS = {"AAPL": 0, "GOOG": 1, "IBM": 2, "MSFT": 3, "ODDS": 4}
SPLITS = [("AAPL", 0.5, "2005-02-28"), ("ODDS", 1 / 1.5, "2005-01-18")]
DIVIDENDS = [
    ("MSFT", 3.08, "2004-11-15", "2004-12-02"),
    ("MSFT", 0.08, "2005-02-15", "2005-03-10"),
    ("IBM", 0.18, "2004-11-08", "2004-12-10"),
]


def daily(symbol: str) -> pd.DataFrame:
    """Prices of one symbol by session."""
    table = getattr(stocks, "IBM" if symbol == "ODDS" else symbol)
    columns = ("open", "high", "low", "close", "volume")
    frame = pd.DataFrame({c: table[c] for c in columns}, index=pd.to_datetime(table["date"]))
    frame = frame[FIRST : DELISTED if symbol == "IBM" else LAST].astype(float)
    if symbol == "ODDS":  # prices fall with the split
        frame.loc["2005-01-18":, ["open", "high", "low", "close"]] /= 1.5
    return frame


def minutes(symbol: str) -> pd.DataFrame:
    """A walk through each day's range, one price a minute."""
    calendar, frames = get_calendar("XNYS", start="2000-01-03"), []
    for day in MINUTE_DAYS:
        bar = daily(symbol).loc[day]
        index = calendar.session_minutes(day)
        steps = np.linspace(bar.open, bar.close, len(index))
        walk = Random(day.day)
        close = np.round([x + walk.uniform(-0.05, 0.05) for x in steps], 2)
        frames.append(
            pd.DataFrame(
                {
                    "open": np.round(steps, 2),
                    "high": np.maximum(np.round(steps, 2), close),
                    "low": np.minimum(np.round(steps, 2), close),
                    "close": close,
                    "volume": [float(walk.randrange(500, 5000)) for _ in index],
                },
                index=index,
            )
        )
    return pd.concat(frames)


def _ingest(
    environ: Any,
    asset_db_writer: Any,
    minute_bar_writer: Any,
    daily_bar_writer: Any,
    adjustment_writer: Any,
    *_: Any,
) -> None:
    frames = {SIDS[symbol]: daily(symbol) for symbol in SIDS}
    equities = pd.DataFrame(
        [
            {
                "symbol": symbol,
                "start_date": frames[sid].index[0],
                "end_date": frames[sid].index[-1],
                "auto_close_date": frames[sid].index[-1] + pd.Timedelta(days=1),
                "exchange": "NYSE",
            }
            for symbol, sid in SIDS.items()
        ],
        index=list(SIDS.values()),
    )
    exchanges = pd.DataFrame(
        {"exchange": ["NYSE"], "canonical_name": ["NYSE"], "country_code": ["US"]}
    )
    asset_db_writer.write(equities=equities, exchanges=exchanges)
    daily_bar_writer.write(iter(frames.items()))
    minute_bar_writer.write(iter([(SIDS["AAPL"], minutes("AAPL"))]))
    splits = pd.DataFrame(
        [
            {"sid": SIDS[s], "ratio": ratio, "effective_date": pd.Timestamp(day)}
            for s, ratio, day in SPLITS
        ]
    )
    dividends = pd.DataFrame(
        [
            {
                "sid": SIDS[s],
                "amount": amount,
                "ex_date": pd.Timestamp(ex),
                "pay_date": pd.Timestamp(pay),
                "record_date": pd.Timestamp(ex),
                "declared_date": pd.Timestamp(ex),
            }
            for s, amount, ex, pay in DIVIDENDS
        ]
    )
    adjustment_writer.write(splits=splits, dividends=dividends)


def use_bundle() -> None:
    """Register the bundle in this process, and make it if `ZIPLINE_ROOT` has none."""
    if BUNDLE not in bundles.bundles:
        bundles.register(
            BUNDLE, _ingest, calendar_name="XNYS", start_session=FIRST, end_session=LAST
        )
    if not Path(paths.data_path([BUNDLE])).exists():
        bundles.ingest(BUNDLE)


def days(first: str = "2004-10-04", last: str = "2005-06-30") -> dict[str, Any]:
    """What every run of a host says to `run_algorithm`."""
    start, end = pd.Timestamp(first), pd.Timestamp(last)
    sessions = get_calendar("XNYS", start="2000-01-03").sessions_in_range(start, end)
    returns = pd.Series(0.0, index=sessions.tz_localize("UTC"))
    return {
        "start": start,
        "end": end,
        "capital_base": 100_000.0,
        "bundle": BUNDLE,
        "benchmark_returns": returns,
        "default_extension": False,
    }


def run(**settings: Any) -> pd.DataFrame:
    """Run one algorithm on the bundle; gives the engine's daily frame."""
    use_bundle()
    return run_algorithm(**{**days(), **settings})


def truth(perf: pd.DataFrame) -> dict[str, Any]:
    """What the engine says about a run, without its random ids and wall-clock times."""
    number: dict[str, int] = {}
    orders: dict[str, Any] = {}
    for day in perf["orders"]:
        for order in day:
            known = number.setdefault(order["id"], len(number))
            orders[str(known)] = _order(order)
    return {
        "transactions": [_transaction(one, number) for day in perf["transactions"] for one in day],
        "orders": orders,
        "positions": [
            {
                "symbol": p["sid"].symbol,
                "amount": float(p["amount"]),
                "cost_basis": repr(float(p["cost_basis"])),
                "last_sale_price": repr(float(p["last_sale_price"])),
            }
            for p in perf["positions"].iloc[-1]
        ],
        "days": [
            {
                "day": str(day),
                "value": repr(float(row.portfolio_value)),
                "cash": repr(float(row.ending_cash)),
                "pnl": repr(float(row.pnl)),
            }
            for day, row in perf.iterrows()
        ],
    }


def _order(order: dict[str, Any]) -> dict[str, Any]:
    return {
        "symbol": order["sid"].symbol,
        "amount": float(order["amount"]),
        "filled": float(order["filled"]),
        "commission": repr(float(order["commission"])),
        "status": int(order["status"]),
        "limit": order["limit"],
        "stop": order["stop"],
        "created": str(order["created"]),
        "dt": str(order["dt"]),
        "reason": order["reason"],
    }


def _transaction(one: dict[str, Any], number: dict[str, int]) -> dict[str, Any]:
    return {
        "order": number.get(one["order_id"]),
        "symbol": one["sid"].symbol,
        "amount": float(one["amount"]),
        "price": repr(float(one["price"])),
        "dt": str(one["dt"]),
    }


def write(perfs: pd.DataFrame | dict[str, pd.DataFrame], error: str | None = None) -> None:
    """Write the truth of one run or several to the script's first argument."""
    by_name = perfs if isinstance(perfs, dict) else {"run": perfs}
    document = {name: truth(perf) for name, perf in by_name.items()}
    text = json.dumps({"runs": document, "error": error}, indent=1, sort_keys=True)
    Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")
