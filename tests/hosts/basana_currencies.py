"""Several pairs and currencies, and several dispatchers in one process.

Shares serve as coins: AAPL/USD, MSFT/USD and AAPL/MSFT, so that MSFT is both bought and paid with.
The first exchange takes its fees in what is bought; the second one fills orders at once, at the
last close; the third and the fourth run at the same time, and one of them handles several events
at a time.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

import basana as bs
from basana.backtesting import fees, liquidity
from basana.backtesting.exchange import Exchange
from host_basana import Report, cross_bars, day_bars, numbered

AAPL, MSFT, CROSS = bs.Pair("AAPL", "USD"), bs.Pair("MSFT", "USD"), bs.Pair("AAPL", "MSFT")
DIGITS = {AAPL: (4, 2), MSFT: (4, 2), CROSS: (4, 6)}
BUY, SELL = bs.OrderOperation.BUY, bs.OrderOperation.SELL


class Rotating:
    """Buys a pair on one of its days, and sells a part later."""

    def __init__(self, exchange: Exchange, pair: bs.Pair, every: int, amount: str) -> None:
        self.exchange = exchange
        self.pair = pair
        self.every = every
        self.amount = Decimal(amount)
        self.bars = numbered()

    async def on_bar(self, event: bs.BarEvent) -> None:
        day = next(self.bars) % self.every
        if day == 1:
            await self.exchange.create_market_order(BUY, self.pair, self.amount)
        elif day == self.every // 2:
            await self.exchange.create_market_order(SELL, self.pair, self.amount * 2 / 5)


def exchange_of(
    dispatcher: bs.BacktestingDispatcher, fee: fees.FeeStrategy, at_once: bool
) -> Exchange:
    exchange = Exchange(
        dispatcher,
        {"USD": Decimal("50000.50"), "MSFT": Decimal("250.25")},
        liquidity_strategy_factory=liquidity.InfiniteLiquidity,
        fee_strategy=fee,
        immediate_order_processing=at_once,
    )
    for pair, digits in DIGITS.items():
        exchange.set_pair_info(pair, bs.PairInfo(*digits))
    for source in (
        day_bars("AAPL", 50),
        day_bars("MSFT", 50, seconds=1),
        cross_bars("AAPL", "MSFT", 50, seconds=2),
    ):
        exchange.add_bar_source(source)
    for pair, every, amount in ((AAPL, 10, "20"), (MSFT, 14, "33.3"), (CROSS, 12, "12.5")):
        rotating = Rotating(exchange, pair, every, amount)
        exchange.subscribe_to_bar_events(pair, rotating.on_bar)
    return exchange


async def main() -> None:
    report = Report()
    in_kind = fees.Percentage(Decimal("0.1"), fee_currency=fees.FeeCurrency.BASE)
    for fee, at_once in ((in_kind, False), (fees.Percentage(Decimal("0.1")), True)):
        dispatcher = bs.backtesting_dispatcher()
        exchange = exchange_of(dispatcher, fee, at_once)
        await dispatcher.run()
        await report.add(exchange, at_once=at_once)
    two = [bs.backtesting_dispatcher(), bs.backtesting_dispatcher(max_concurrent=4)]
    exchanges = [exchange_of(one, fees.NoFee(), at_once=False) for one in two]
    # Only one of them may hold the signals of the process.
    await asyncio.gather(*(one.run(stop_signals=[]) for one in two))
    for exchange in exchanges:
        await report.add(exchange, at_the_same_time=True)
    report.write()


if __name__ == "__main__":
    asyncio.run(main())
