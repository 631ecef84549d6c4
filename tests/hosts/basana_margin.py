"""Shorts, flips through zero and loans with interest, on a margin account.

One strategy goes from long to short and back with single orders that borrow and repay by
themselves; another takes a loan by hand and pays it back. A last short stays open, with its loan.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal

import basana as bs
from basana.backtesting import fees, lending, liquidity
from basana.backtesting.exchange import Exchange
from host_basana import USD, Report, day_bars, numbered

PAIR = bs.Pair("MSFT", "USD")
BUY, SELL = bs.OrderOperation.BUY, bs.OrderOperation.SELL


class Flipping:
    """Is long, short, long, short: every eight days the other way, through zero."""

    def __init__(self, exchange: Exchange, size: int) -> None:
        self.exchange = exchange
        self.size = size
        self.bars = numbered()
        self.side = BUY

    async def on_bar(self, event: bs.BarEvent) -> None:
        count = next(self.bars)
        if count % 8 == 2:
            amount = Decimal(self.size if count < 8 else 2 * self.size)
            await self.exchange.create_market_order(
                self.side, PAIR, amount, auto_borrow=True, auto_repay=True
            )
            self.side = SELL if self.side is BUY else BUY


class Borrowing:
    """Takes dollars for some days, then pays them back."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.bars = numbered()
        self.loan = ""

    async def on_bar(self, event: bs.BarEvent) -> None:
        match next(self.bars):
            case 12:
                self.loan = (await self.exchange.create_loan("USD", Decimal(3000))).id
            case 17:
                await self.exchange.repay_loan(self.loan)


async def main() -> None:
    report = Report()
    dispatcher = bs.backtesting_dispatcher()
    loans = lending.MarginLoans(
        "USD",
        Decimal("0.5"),
        lending.MarginLoanConditions(
            "USD", Decimal("7.5"), dt.timedelta(days=365), Decimal("0.05")
        ),
    )
    exchange = Exchange(
        dispatcher,
        {"USD": Decimal(20_000)},
        liquidity_strategy_factory=liquidity.InfiniteLiquidity,
        fee_strategy=fees.Percentage(Decimal("0.05")),
        default_pair_info=USD,
        lending_strategy=loans,
    )
    for symbol, digits in (("USD", 2), ("MSFT", 0)):
        exchange.set_symbol_precision(symbol, digits)
    exchange.add_bar_source(day_bars("MSFT", 110))
    exchange.subscribe_to_bar_events(PAIR, Flipping(exchange, 500).on_bar)
    exchange.subscribe_to_bar_events(PAIR, Borrowing(exchange).on_bar)
    await dispatcher.run()
    await report.add(exchange)
    report.write()


if __name__ == "__main__":
    asyncio.run(main())
