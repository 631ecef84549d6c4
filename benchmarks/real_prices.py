"""Real bars of five stocks and of EUR/USD, from files that ship in two packages of the demo."""

from __future__ import annotations

import csv
import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

EUR_USD: Final = "EUR/USD"


def real_bars() -> dict[str, tuple[float, Doubles, Doubles]]:
    """First price, returns of open, high, low, close on the last close, and volumes, by symbol."""
    rows: dict[str, list[tuple[float, ...]]] = {}
    stocks = _file_in_package("bokeh_sampledata", "_data", "stocks.csv.gz")
    with gzip.open(stocks, "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["Date"] >= "2005-03-01":  # no price jumps because of a split from here on
                rows.setdefault(row["Ticker"], []).append(_numbers(row))
    pair = _file_in_package("gym_anytrading", "datasets", "data", "FOREX_EURUSD_1H_ASK.csv")
    with pair.open(newline="") as file:
        rows[EUR_USD] = [_numbers(row) for row in csv.DictReader(file)]
    series = {}
    for symbol, listed in rows.items():
        bars = np.array(listed)
        minutes = 60 if symbol == EUR_USD else 390
        returns = np.log(bars[1:, :4] / bars[:-1, 3:4]) / np.sqrt(minutes)
        returns -= returns[:, 3].mean()  # no drift, or a long stream ends at absurd prices
        series[symbol] = (float(bars[0, 3]), returns, np.rint(bars[1:, 4] / minutes))
    return series


def _numbers(row: dict[str, str]) -> tuple[float, ...]:
    return tuple(float(row[column]) for column in ("Open", "High", "Low", "Close", "Volume"))


def _file_in_package(package: str, *parts: str) -> Path:
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (path := Path(folder).joinpath(*parts)).is_file():
            return path
    raise FileNotFoundError(f"{'/'.join((package, *parts))}: pip install fillpath[demo]")
