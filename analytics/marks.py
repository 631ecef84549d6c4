"""What an open position is worth: the last price that the run itself has seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final

import duckdb
import pyarrow as pa

from fillpath.analytics.ledger_events import SpanRef
from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.semconv import Tick

_PATHS: Final = {"trade_price": Tick.PRICE, "bid": Tick.BID, "ask": Tick.ASK}
_MOMENTS: Final = pa.schema(
    [
        ("number", pa.int64()),
        ("portfolio", pa.string()),
        ("symbol", pa.string()),
        ("venue", pa.string()),
        ("sequence", pa.int64()),
    ]
)

Instrument = tuple[str, str, str]
"""Portfolio, symbol and venue (empty if unknown)."""
Moment = tuple[str, str, str, int]
"""Portfolio, symbol, venue and sequence."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A price of the market.

    Attributes:
        bid: What buyers pay; the price itself for bars and trades.
        ask: What sellers want; the same.
    """

    bid: Decimal
    ask: Decimal

    @property
    def middle(self) -> Decimal:
        """Half way between both."""
        return (self.bid + self.ask) * Decimal("0.5")


@dataclass(frozen=True, slots=True)
class Mark:
    """A price to value a position at.

    Attributes:
        ref: The span that says it.
        price: Close of a bar, price of a trade, or the middle of a quote.
    """

    ref: SpanRef
    price: Decimal


class QuotedInstruments:
    """Finds whose prices value an instrument.

    Args:
        instruments: Everything that is quoted in the run.
    """

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._known = set(instruments)
        self._by_symbol: dict[str, list[Instrument]] = {}
        for instrument in sorted(self._known):
            self._by_symbol.setdefault(instrument[1], []).append(instrument)

    def nearest(self, instrument: Instrument) -> Instrument | None:
        """Find the prices of an instrument: the portfolio's own, or else anyone's.

        Prices of another venue say nothing. Where the host names the venue of a price or of a fill
        only, the symbol alone decides, if it is quoted at one venue.
        """
        if instrument in self._known:
            return instrument
        portfolio, symbol, venue = instrument
        alike = self._by_symbol.get(symbol, [])
        candidates = [one for one in alike if one[2] == venue]
        if not candidates and venue:
            candidates = [one for one in alike if not one[2]]
        elif not candidates and len({one[2] for one in alike}) == 1:
            candidates = alike
        own = [one for one in candidates if one[0] == portfolio]
        return next(iter(own or candidates), None)


def last_marks(connection: duckdb.DuckDBPyConnection, run_id: str) -> dict[Instrument, Mark]:
    """Read the last price of every instrument of a run."""
    rows = query_prices(connection, "last_marks", run_id).fetchall()
    marks = {}
    for portfolio, symbol, venue, quote in rows:
        ref = SpanRef(
            portfolio,
            quote["sequence"],
            quote["event_time"],
            quote["trace_id"],
            quote["span_id"],
        )
        price = read_quote(quote["price"], quote["bid"], quote["ask"]).middle
        marks[portfolio, symbol, venue] = Mark(ref, price)
    return marks


def quotes_at(
    connection: duckdb.DuckDBPyConnection, run_id: str, moments: Iterable[Moment]
) -> dict[Moment, Quote]:
    """Read prices as they stood at moments of a run.

    Args:
        connection: Has the view ``spans``.
        run_id: The run.
        moments: Where and when.

    Returns:
        The quote for each moment that has one.
    """
    asked = sorted(set(moments))
    if not asked:
        return {}
    columns = [range(len(asked)), *zip(*asked, strict=True)]
    connection.register("moments", pa.table(columns, schema=_MOMENTS))
    try:
        rows = query_prices(connection, "quotes_at", run_id).fetchall()
    finally:
        connection.unregister("moments")
    return {asked[number]: read_quote(price, bid, ask) for number, price, bid, ask in rows}


def query_prices(
    connection: duckdb.DuckDBPyConnection, name: str, run_id: str
) -> duckdb.DuckDBPyConnection:
    """Run a query for the prices of a run; its rows are fetched from what this gives.

    Args:
        connection: Has the view ``spans``.
        name: Of the query, which reads from `quoted_prices`.
        run_id: The run.
    """
    connection.execute(read_sql("quoted_prices"))
    paths = {parameter: json_path(key) for parameter, key in _PATHS.items()}
    return connection.execute(read_sql(name), {**paths, "run_id": run_id})


@lru_cache(maxsize=65_536)
def read_quote(price: str | None, bid: str | None, ask: str | None) -> Quote:
    """Make a quote of what a query for prices gives."""
    if price is not None:
        return Quote(Decimal(price), Decimal(price))
    return Quote(Decimal(bid or 0), Decimal(ask or 0))
