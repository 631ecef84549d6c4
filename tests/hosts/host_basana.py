"""Real prices for basana's hosts, and what its exchanges know after a run, as JSON.

Daily bars of shares come from `bokeh_sampledata`, through a csv and basana's own reader. The report
names orders and loans by their number, because basana's ids are random, so two runs of a host write
the same bytes.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import hashlib
import importlib.util
import itertools
import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import basana as bs
from basana.backtesting.exchange import Exchange
from basana.core.event_sources.csv import EventSource as CsvSource
from basana.external.common.csv.bars import RowParser

DAY = dt.timedelta(days=1)
USD = bs.PairInfo(base_precision=0, quote_precision=2)


def stock_prices(ticker: str, first: str, count: int) -> list[dict[str, str]]:
    spec = importlib.util.find_spec("bokeh_sampledata")
    assert spec is not None
    assert spec.origin is not None
    packed = Path(spec.origin).with_name("_data") / "stocks.csv.gz"
    with gzip.open(packed, "rt", encoding="utf-8") as file:
        rows = (r for r in csv.DictReader(file) if r["Ticker"] == ticker and r["Date"] >= first)
        return list(itertools.islice(rows, count))


def day_bars(
    ticker: str, count: int = 120, *, first: str = "2004-01-02", seconds: int = 0
) -> CsvSource:
    """Daily bars of a share in dollars, by basana's csv reader.

    Args:
        ticker: `AAPL`, `MSFT`, `IBM` or `GOOG`.
        count: How many days.
        first: Where they begin.
        seconds: How much later than midnight they come. basana delivers what comes at the same
            time from several sources in the order of their addresses.
    """
    path = Path(sys.argv[1]).with_name(f"{ticker}-{first}-{count}-{seconds}.csv")
    with path.open("w", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["datetime", "open", "high", "low", "close", "volume"])
        time = str(dt.timedelta(seconds=seconds)).zfill(8)
        for row in stock_prices(ticker, first, count):
            prices = [row[name] for name in ("Open", "High", "Low", "Close", "Volume")]
            writer.writerow([f"{row['Date']} {time}", *prices])
    return CsvSource(str(path), RowParser(bs.Pair(ticker, "USD"), dt.UTC, DAY))


def cross_bars(
    base: str, quote: str, count: int = 120, *, first: str = "2004-01-02", seconds: int = 0
) -> bs.FifoQueueEventSource:
    """Daily bars of one share in another one, by the prices of both."""
    source = bs.FifoQueueEventSource()
    unit = Decimal("0.000001")
    for a, b in zip(
        stock_prices(base, first, count), stock_prices(quote, first, count), strict=True
    ):
        moments = ("Open", "High", "Low", "Close")
        ratios = [(Decimal(a[one]) / Decimal(b[one])).quantize(unit) for one in moments]
        begin = dt.datetime.fromisoformat(a["Date"]).replace(tzinfo=dt.UTC)
        begin += dt.timedelta(seconds=seconds)
        bar = bs.Bar(
            begin, bs.Pair(base, quote), ratios[0], max(ratios), min(ratios), ratios[3],
            Decimal(a["Volume"]), DAY,
        )  # fmt: skip
        source.push(bs.BarEvent(begin + DAY, bar))
    return source


def _plain(amounts: dict[str, Decimal]) -> dict[str, str]:
    return {symbol: str(amount) for symbol, amount in sorted(amounts.items()) if amount}


class Report:
    """What the exchanges of one host knew at the end of their runs."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def note(self, what: object) -> None:
        """Keep a sentence that must be the same in every run, such as a refusal's."""
        self.notes.append(str(what))

    async def add(self, exchange: Exchange, **about: object) -> None:
        """Append the state of an exchange at the end of a run."""
        loans = await exchange.get_loans()
        numbers = {loan.id: number for number, loan in enumerate(loans)}
        balances = await exchange.get_balances()
        kinds = [type(order).__name__ for order in exchange._get_all_orders()]
        states = [order.state.name for order in exchange._get_all_orders()]
        orders = await exchange.get_orders()
        self.runs.append(
            {
                **about,
                "orders": [
                    {
                        "pair": str(order.pair),
                        "side": order.operation.name,
                        "type": kind,
                        "state": state,
                        "amount": str(order.amount),
                        "filled": str(order.amount_filled),
                        "quote_filled": str(order.quote_amount_filled),
                        "limit": order.limit_price and str(order.limit_price),
                        "stop": order.stop_price and str(order.stop_price),
                        "fees": _plain(order.fees),
                        "loans": sorted(numbers[one] for one in order.loan_ids),
                        "fills": [
                            {
                                "when": one.when.isoformat(),
                                "price": str(one.price),
                                "balances": _plain(one.balance_updates),
                                "fees": _plain(one.fees),
                            }
                            for one in order.fills
                        ],
                    }
                    for order, kind, state in zip(orders, kinds, states, strict=True)
                ],
                "loans": [
                    {
                        "symbol": loan.borrowed_symbol,
                        "amount": str(loan.borrowed_amount),
                        "is_open": loan.is_open,
                        "paid": _plain(loan.paid_interest),
                        "outstanding": _plain(loan.outstanding_interest),
                    }
                    for loan in loans
                ],
                "balances": {
                    symbol: {
                        "available": str(balance.available),
                        "hold": str(balance.hold),
                        "borrowed": str(balance.borrowed),
                        "total": str(balance.total),
                    }
                    for symbol, balance in sorted(balances.items())
                },
                "prices": {
                    str(pair): str(bar.close)
                    for pair, bar in sorted(exchange._prices._last_bars.items(), key=str)
                },
            }
        )

    def write(self, path: str | None = None) -> None:
        """Write the runs and notes to ``path``, by default the script's first argument."""
        document: dict[str, Any] = {"runs": self.runs, "notes": self.notes}
        text = json.dumps(document, indent=1, sort_keys=True)
        document["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        text = json.dumps(document, indent=1, sort_keys=True)
        Path(path or sys.argv[1]).write_text(text + "\n", encoding="utf-8")


def numbered(start: int = 1) -> Iterator[int]:
    """Count bars."""
    return itertools.count(start)
