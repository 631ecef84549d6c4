"""What a backtest of backtesting.py trades: its prices bar by bar, its name, its units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from fillpath.instrumentation.engine_run import Instrument
from fillpath.instrumentation.payload import name_of

_COLUMNS: Final = ("Open", "High", "Low", "Close", "Volume")
_READ_AT_ONCE: Final = 2048
_NAMES: Final = ("symbol", "ticker", "name")
_NAMELESS: Final = "ASSET"
"""What an instrument is called that nobody names: without any name, no price would be its own."""
_CURRENCY: Final = "currency"
_OWN_CURRENCY: Final = "USD"
"""The engine's own statement is in dollars, whatever the prices are."""


def symbol_of(backtest: Any) -> str | None:
    """What the host calls the instrument: `data.attrs["symbol"]`, ``ticker`` or ``name``."""
    attrs = getattr(backtest._data, "attrs", None)
    found = (name_of(attrs.get(key)) for key in _NAMES) if isinstance(attrs, Mapping) else ()
    return next((name for name in found if name), None)


class Market:
    """The bars of one backtest.

    A `FractionalBacktest` reckons in small units of the instrument. Sizes and prices are recorded
    as its own statement has them: per whole one.

    Args:
        backtest: The engine's.
        symbol: What the instrument is called, if the data do not say it.

    Attributes:
        instrument: Symbol, ``ASSET`` if nobody names one; the engine knows no venues.
        currency: By `data.attrs["currency"]`, else USD.
        unit: Size of one unit of the engine.
    """

    def __init__(self, backtest: Any, symbol: str | None = None) -> None:
        self.instrument = Instrument(symbol_of(backtest) or symbol or _NAMELESS)
        attrs = getattr(backtest._data, "attrs", None) or {}
        self.currency = name_of(attrs.get(_CURRENCY)) or _OWN_CURRENCY
        self.unit = float(getattr(backtest, "_fractional_unit", 1.0))
        self._times = _times_of(backtest._data.index)
        self._rows: list[tuple[Any, ...]] = []
        self._first = 0

    def time(self, index: int) -> int | None:
        """When the bar at an index is, in nanoseconds since the epoch; None without times."""
        return None if self._times is None else int(self._times[index])

    def bar(self, data: Any, index: int) -> tuple[Any, ...]:
        """Time, open, high, low, close and volume of a bar, as the broker sees them."""
        place = index - self._first
        if not 0 <= place < len(self._rows):
            self._read(data, index)
            place = 0
        return self._rows[place]

    def _read(self, data: Any, index: int) -> None:
        """Read some bars at once: one by one, they would cost more than to record them."""
        part = slice(index, index + _READ_AT_ONCE)
        arrays = vars(data)["_Data__arrays"]
        columns = [arrays[name][part].astype(float) for name in _COLUMNS]
        if self.unit != 1.0:
            columns = [*(prices / self.unit for prices in columns[:4]), columns[4] * self.unit]
        plain: list[list[float | None]] = [column.tolist() for column in columns]
        plain[-1] = [None if math.isnan(volume) else volume for volume in columns[-1].tolist()]
        times = [None] * len(plain[0]) if self._times is None else self._times[part].tolist()
        self._rows = list(zip(times, *plain, strict=True))
        self._first = index

    def price(self, price: Any) -> float | None:
        """A price of the engine for one whole of the instrument."""
        if price is None:
            return None
        return float(price) if self.unit == 1.0 else float(price) / self.unit

    def quantity(self, size: Any) -> float:
        """A size of the engine in wholes of the instrument, without its sign."""
        if self.unit != 1.0:
            return abs(float(size)) * self.unit
        return abs(int(size)) if size == int(size) else abs(float(size))


def _times_of(index: Any) -> Any:
    """Nanoseconds of an index of times, as an array, read as UTC if it has no zone; else None."""
    if not hasattr(index, "as_unit") or not hasattr(index, "tz"):
        return None
    return index.as_unit("ns").asi8
