"""Prices of the market as they stood at moments of a run; nothing later is ever looked at."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import duckdb
import pyarrow as pa

from fillpath.analytics.exact import exact_arithmetic, trimmed
from fillpath.analytics.marks import Instrument, Moment
from fillpath.analytics.sql_files import read_sql
from fillpath.exporters.further_views import create_further_views

_HALF: Final = Decimal("0.5")
_MOMENTS: Final = pa.schema(
    [
        ("portfolio", pa.string()),
        ("symbol", pa.string()),
        ("venue", pa.string()),
        ("sequence", pa.int64()),
    ]
)
_VIEWS: Final = "SELECT view_name FROM duckdb_views() WHERE view_name IN ('bars', 'ticks')"


class MarketPrices:
    """The prices of every instrument of a run that has orders.

    A price is the close of a bar, the price of a trade or the middle of a quote, whichever came
    last. An instrument is priced by the market data of its own portfolio and venue, else of its
    portfolio where either names no venue, else of another portfolio of the run.

    Args:
        connection: Has the views of the lake; the tables ``market_instruments`` and
            ``market_prices`` are made in it.
        run_id: The run.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
        self.connection = connection
        there = {name for (name,) in connection.execute(_VIEWS).fetchall()}
        create_further_views(connection, sorted({"bars", "ticks"} - there))
        for name in ("market_instruments", "market_prices"):
            connection.execute(read_sql(name), {"run_id": run_id})
        priced = connection.execute(
            "SELECT DISTINCT portfolio, symbol, venue FROM market_instruments "
            "WHERE feed IN (SELECT feed FROM market_prices)"
        )
        self.instruments: frozenset[Instrument] = frozenset(
            (portfolio, symbol, venue) for portfolio, symbol, venue in priced.fetchall()
        )
        """What has any price at all."""

    def at(self, moments: Iterable[Moment]) -> dict[Moment, Decimal]:
        """Read the last price at or before each moment, by sequence; those without are left out."""
        columns = list(zip(*set(moments), strict=True))
        if not columns:
            return {}
        self.connection.register("moments", pa.table(columns, schema=_MOMENTS))
        try:
            rows = self.connection.execute(read_sql("prices_at")).fetchall()
        finally:
            self.connection.unregister("moments")
        with exact_arithmetic():
            return {tuple(moment): halved(twice) for *moment, twice in rows}


def halved(twice: Decimal) -> Decimal:
    """Turn a price as the tables have it, doubled, into the price."""
    return trimmed(twice * _HALF, 0)
