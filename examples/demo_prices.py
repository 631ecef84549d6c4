"""Instruments and price bars for the demo backtest.

The prices are real and ship inside two packages: daily bars of five American stocks in
``bokeh_sampledata``, hourly EUR/USD in ``gym-anytrading``. Both are read as plain
files; neither package is imported. All five stocks trade on Nasdaq, IBM too, though it
is listed in New York.

The stock prices are as traded, not adjusted. None of the five split its shares after
February 2005, so the demo starts in 2008 and no price jumps without a reason.
Dividends are not paid out.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from zoneinfo import ZoneInfo

from nautilus_trader.model.currencies import EUR, USD
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import CurrencyPair, Equity, Instrument
from nautilus_trader.model.objects import Price, Quantity

XNAS = Venue("XNAS")
SIM = Venue("SIM")

STOCK_SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
FIRST_STOCK_DAY = date(2008, 1, 2)

_NEW_YORK = ZoneInfo("America/New_York")
_CLOSING_TIME = time(16, 0)


class PricesMissing(Exception):
    """A package whose price file the demo reads is not installed."""


def stock(symbol: str) -> Instrument:
    """A stock in whole shares, quoted in cents; five basis points to take, two to make."""
    return Equity(
        instrument_id=InstrumentId(Symbol(symbol), XNAS),
        raw_symbol=Symbol(symbol),
        currency=USD,
        price_precision=2,
        price_increment=Price.from_str("0.01"),
        lot_size=Quantity.from_int(1),
        maker_fee=Decimal("0.0002"),
        taker_fee=Decimal("0.0005"),
        ts_event=0,
        ts_init=0,
    )


def eur_usd() -> Instrument:
    """EUR/USD in tenths of a pip; no order above half a million euros."""
    return CurrencyPair(
        instrument_id=InstrumentId(Symbol("EUR/USD"), SIM),
        raw_symbol=Symbol("EUR/USD"),
        base_currency=EUR,
        quote_currency=USD,
        price_precision=5,
        size_precision=0,
        price_increment=Price.from_str("0.00001"),
        size_increment=Quantity.from_int(1),
        lot_size=Quantity.from_int(1000),
        max_quantity=Quantity.from_int(500_000),
        min_quantity=Quantity.from_int(1000),
        margin_init=Decimal("0.03"),
        margin_maint=Decimal("0.03"),
        maker_fee=Decimal("0.00002"),
        taker_fee=Decimal("0.00002"),
        ts_event=0,
        ts_init=0,
    )


def daily_bars(instruments: Iterable[Instrument]) -> list[Bar]:
    """The daily bars of some stocks, each stamped with that day's close in New York."""
    listed = {one.id.symbol.value: (one, daily_bar_type(one.id)) for one in instruments}
    path = _file_in_package("bokeh_sampledata", "_data", "stocks.csv.gz")
    bars = []
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            day = date.fromisoformat(row["Date"])
            if row["Ticker"] in listed and day >= FIRST_STOCK_DAY:
                instrument, bar_type = listed[row["Ticker"]]
                closed_at = datetime.combine(day, _CLOSING_TIME, tzinfo=_NEW_YORK)
                bars.append(_bar(instrument, bar_type, row, closed_at))
    return bars


def hourly_bars(instrument: Instrument) -> list[Bar]:
    """The hourly EUR/USD bars of 2017, each stamped with the end of its hour.

    The file holds ask candles; the demo trades them as if they were the mid price.
    """
    bar_type = hourly_bar_type(instrument.id)
    path = _file_in_package("gym_anytrading", "datasets", "data", "FOREX_EURUSD_1H_ASK.csv")
    with path.open(newline="") as file:
        return [
            _bar(instrument, bar_type, row, _end_of_hour(row["Time"]))
            for row in csv.DictReader(file)
        ]


def daily_bar_type(instrument_id: InstrumentId) -> BarType:
    """The name of an instrument's daily bars."""
    return BarType.from_str(f"{instrument_id}-1-DAY-LAST-EXTERNAL")


def hourly_bar_type(instrument_id: InstrumentId) -> BarType:
    """The name of an instrument's hourly bars."""
    return BarType.from_str(f"{instrument_id}-1-HOUR-MID-EXTERNAL")


def _bar(
    instrument: Instrument,
    bar_type: BarType,
    row: dict[str, str],
    closed_at: datetime,
) -> Bar:
    # Seconds are whole here, so the product is exact; a float of nanoseconds is not.
    timestamp_ns = int(closed_at.timestamp()) * 1_000_000_000
    open_, high, low, close = (
        instrument.make_price(Decimal(row[column])) for column in ("Open", "High", "Low", "Close")
    )
    return Bar(
        bar_type=bar_type,
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=instrument.make_qty(Decimal(row["Volume"])),
        ts_event=timestamp_ns,
        ts_init=timestamp_ns,
    )


def _end_of_hour(opened_at: str) -> datetime:
    start = datetime.strptime(opened_at, "%d.%m.%Y %H:%M:%S.%f").replace(tzinfo=UTC)
    return start + timedelta(hours=1)


def _file_in_package(package: str, *parts: str) -> Path:
    for folder in _folders_of(package):
        path = folder.joinpath(*parts)
        if path.is_file():
            return path
    distribution = package.replace("_", "-")
    message = f"{'/'.join((package, *parts))} not found: run `pip install {distribution}`"
    raise PricesMissing(message)


def _folders_of(package: str) -> Iterator[Path]:
    spec = find_spec(package)
    if spec is not None:
        yield from map(Path, spec.submodule_search_locations or ())
